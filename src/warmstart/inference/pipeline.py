"""The task names, arguments and output shapes that people know from `transformers.pipeline`, those
included that its version 5 has taken away, over our own predictor and writer.

    classify = warmstart.pipeline("sentiment-analysis", "runs/tweets")
    classify("what a day")  # [{"label": "joy", "score": 0.97}]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, nearest, shown
from warmstart.inference.engine import Engine
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.inference.writer import Writer, open_writer
from warmstart.models.base import model_folder
from warmstart.models.sampling import Sampling
from warmstart.models.sampling.settings import NEW_TOKENS
from warmstart.types import Prediction

ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification",
           "feature-extraction": "sentence-embedding"}  # fmt: skip
"""Other names of transformers → the one here."""
TRANSLATION = re.compile(r"translation(_[a-z]{2,3}_to_[a-z]{2,3})?")
PREDICTS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("classification", "multilabel", "pairs", "few_shot", "regression",
                            "custom", "reward"),
    "token-classification": ("tagging",),
    "question-answering": ("extractive_qa",),
    "sentence-embedding": ("embedding",),
}  # fmt: skip
"""Pipeline → the tasks of ours that answer so."""
WRITES: Mapping[str, str] = {
    "summarization": "summary_text", "translation": "translation_text",
    "text2text-generation": "generated_text", "text-generation": "generated_text",
}  # fmt: skip
"""Pipeline → the key of its texts."""
DELEGATED = ("fill-mask",)
"""What transformers itself answers, with the model and the tokenizer that we have checked."""
NAMES = (*PREDICTS, *WRITES, *DELEGATED, *ALIASES)
SETTINGS = {"max_length", "do_sample", "return_full_text", *Sampling.model_fields}


def pipeline(task: str, model: str | Path, engine: Engine | None = None) -> Callable[..., Any]:
    """A function that answers as `transformers.pipeline(task, model)` does.

    Args:
        task: text-classification (sentiment-analysis), token-classification (ner),
            question-answering, summarization, translation or translation_xx_to_yy,
            text2text-generation, text-generation, fill-mask, feature-extraction (a vector a text).
        model: a run, a model folder, a base by its name, or a hub id.
        engine: by which it computes; torch unless given.

    Raises `RecipeError` for a task that is not known, or that the model was not trained for.
    """
    name = ALIASES.get(task, task)
    name = "translation" if TRANSLATION.fullmatch(name) else name
    if name in WRITES:
        return TextPipeline(task, name, open_writer(model, engine))
    if name in DELEGATED:
        return _by_transformers(name, model_folder(model))
    if name not in PREDICTS:
        raise RecipeError(f"no pipeline '{shown(task)}'.{nearest(task, NAMES)}")
    predictor = open_predictor(model_folder(model), engine)
    trained = predictor.task.part_name()
    if trained not in PREDICTS[name]:
        fitting = next((other for other, tasks in PREDICTS.items() if trained in tasks), None)
        instead = f"; take pipeline '{fitting}'" if fitting else ""
        raise RecipeError(
            f"{shown(model)} was trained for task {trained}, which is no {task}{instead}"
        )
    return {
        "text-classification": ClassificationPipeline, "token-classification": TokenPipeline,
        "question-answering": AnswerPipeline, "sentence-embedding": VectorPipeline,
    }[name](predictor)  # fmt: skip


def _by_transformers(task: str, folder: Path) -> Callable[..., Any]:
    import transformers

    from warmstart.models.saved import load_saved

    model, tokenizer = load_saved(folder)
    if not type(model).__name__.endswith("ForMaskedLM"):
        raise RecipeError(
            f"{folder} ({type(model).__name__}) is no masked language model, which {task} needs"
        )
    make: Any = transformers.pipeline
    return make(task, model=model, tokenizer=tokenizer)


@dataclass(eq=False)
class ClassificationPipeline:
    """Labels of texts, or of pairs given as {"text", "text_pair"}."""

    predictor: Predictor

    def __call__(self, inputs: Any, *, top_k: int | None = 1, **unused: Any) -> list[Any]:
        """The best label of each text as {"label", "score"}; with `top_k` (None: all) the best
        labels of each text as a list of such. A single text gives what a list of it would, without
        the outer list where several labels were asked for."""
        _refuse(unused, ("top_k",))
        single = isinstance(inputs, str | Mapping)
        rows = [_pair(row) for row in ([inputs] if single else inputs)]
        answers = [_labels(answer) for answer in self.predictor.predict(rows)]
        if top_k == 1:
            return [row[0] for row in answers]
        best = [row[:top_k] for row in answers]
        return best[0] if single else best


@dataclass(eq=False)
class TokenPipeline:
    """Entities of texts, their tokens put together."""

    predictor: Predictor

    def __call__(
        self, inputs: Any, *, aggregation_strategy: str = "simple", **unused: Any
    ) -> list[Any]:
        """The entities of a text, or of each of several, as {"entity_group", "score", "word",
        "start", "end"}. Raises `RecipeError` for aggregation_strategy "none"."""
        _refuse(unused, ("aggregation_strategy",))
        if aggregation_strategy == "none":
            raise RecipeError(
                "aggregation_strategy 'none' gives the pieces of words; here entities are whole: "
                "leave it out, or take 'simple'"
            )
        single = isinstance(inputs, str)
        answers = self.predictor.predict([inputs] if single else list(inputs))
        spans = [[_entity(span) for span in answer.value] for answer in answers]
        return spans[0] if single else spans


@dataclass(eq=False)
class AnswerPipeline:
    """Answers to questions, from passages."""

    predictor: Predictor

    def __call__(
        self, inputs: Any = None, *, question: Any = None, context: Any = None, **unused: Any
    ) -> Any:
        """{"score", "start", "end", "answer"} of a question on a context, or a list of such for
        lists of both, or for dicts with both."""
        _refuse(unused, ("question", "context"))
        if inputs is not None:
            single = isinstance(inputs, Mapping)
            rows = [inputs] if single else list(inputs)
            pairs = [(row["question"], row["context"]) for row in rows]
        else:
            single = isinstance(question, str)
            questions = [question] if single else list(question or [])
            contexts = [context] * len(questions) if isinstance(context, str) else list(context)
            pairs = list(zip(questions, contexts, strict=True))
        if not pairs:
            raise RecipeError("question-answering needs question=… and context=…")
        roles = self.predictor.task.inputs
        texts = [{"question": q, "context": c} for q, c in pairs]
        answers = self.predictor.predict([{role: row[role] for role in roles} for row in texts])
        rows = [_answer(answer) for answer in answers]
        return rows[0] if single else rows


@dataclass(eq=False)
class VectorPipeline:
    """A vector of each text: transformers gives one of each token, which is rarely meant."""

    predictor: Predictor

    def __call__(self, inputs: Any, **unused: Any) -> list[Any]:
        """The vector of a text, a list of floats, or those of several."""
        _refuse(unused, ())
        single = isinstance(inputs, str)
        answers = self.predictor.predict([inputs] if single else list(inputs))
        vectors = [answer.value for answer in answers]
        return vectors[0] if single else vectors


@dataclass(eq=False)
class TextPipeline:
    """Texts behind prompts, or for sources."""

    task: str
    name: str
    writer: Writer

    def __call__(self, inputs: Any, **settings: Any) -> list[Any]:
        """{"generated_text"} (or "summary_text", "translation_text") for each text; a list of such
        for each text of a list, and where `num_return_sequences` asks for several.

        `text-generation` gives the prompt too, unless `return_full_text` is False; of a
        conversation (a list of messages) the conversation with the answer at its end.

        Args:
            settings: those of `Sampling`, and `do_sample`: unless it is True, or something else
                says how to draw (temperature, top_k, top_p), the likeliest text is written.
        """
        full = settings.pop("return_full_text", self.name == "text-generation")
        chats = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], Mapping)
        single = isinstance(inputs, str) or chats
        prompts: Sequence[Any] = [inputs] if single else list(inputs)
        sampling = _sampling(settings)
        raw = self.name == "text-generation" and not chats
        ids = [self.writer.encode(prompt, raw=raw) for prompt in prompts]
        texts = self.writer.write(ids, sampling, ends=self.writer.ends(raw=raw))
        rows: list[list[dict[str, Any]]] = [[] for _ in prompts]
        for text in texts:
            prompt, written = prompts[text.prompt], text.text
            if isinstance(prompt, str):
                keeps = self.name == "text-generation"
                value: Any = prompt + written if full else written if keeps else written.strip()
            else:
                answer = {"role": "assistant", "content": written}
                value = [*prompt, answer] if full else written
            rows[text.prompt].append({WRITES[self.name]: value})
        if single:
            return rows[0]
        return rows if self.name == "text-generation" else [row for group in rows for row in group]


def _sampling(settings: dict[str, Any]) -> Sampling:
    """The settings of transformers as ours: greedy unless something says how to draw."""
    _refuse({k: v for k, v in settings.items() if k not in SETTINGS}, sorted(SETTINGS))
    draws = settings.pop("do_sample", None)
    if draws is None:
        draws = any(name in settings for name in ("temperature", "top_k", "top_p", "min_p"))
    if not draws and settings.get("num_beams", 1) == 1:
        settings = {**settings, "temperature": 0.0}
    if "max_length" not in settings:
        settings.setdefault("max_new_tokens", NEW_TOKENS)
    try:
        return Sampling.model_validate(settings)
    except ValueError as error:
        raise RecipeError(shown(error, 200)) from None


def _refuse(unused: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise `RecipeError` for an argument that would be ignored."""
    if unused:
        name = next(iter(unused))
        raise RecipeError(f"this pipeline has no argument '{shown(name)}'.{nearest(name, known)}")


def _pair(row: Any) -> Any:
    """A text; of a dict its two texts."""
    if isinstance(row, Mapping):
        return (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]
    return row


def _labels(answer: Prediction) -> list[dict[str, Any]]:
    """The labels of an answer, the likeliest first; of a number the number itself."""
    if not answer.scores:
        return [{"label": "LABEL_0", "score": float(answer.value)}]
    order = sorted(answer.scores.items(), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in order]


def _entity(span: Mapping[str, Any]) -> dict[str, Any]:
    return {"entity_group": span.get("type", span.get("tag")), "score": span["score"],
            "word": span["text"], "start": span["start"], "end": span["end"]}  # fmt: skip


def _answer(answer: Any) -> dict[str, Any]:
    return {"score": answer.confidence, "start": answer.start or 0, "end": answer.end or 0,
            "answer": answer.value if answer.start is not None else ""}  # fmt: skip
