"""A text for a text: what summarization, translation and text2text share."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.data.cells import parse_cell
from warmstart.data.tokens.dataset import TokenizedDataset, store_of, tokenise
from warmstart.errors import BaseModelError, DataError, RecipeError
from warmstart.formatting import counted
from warmstart.models.heads import TEXT, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task, without
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
from warmstart.tokenization.languages import set_first_token, writing
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.metrics.text import Joined
    from warmstart.models.base import Base
    from warmstart.models.generation import GenerationOutput


NEW_TOKENS = 128
SAMPLE, BRIEF, SEEN = 6, 400, 1000  # rows shown, characters, rows that tell how words count
REPEATS, EMPTY, SAME = 0.1, 0.02, 0.1
REFERENCES = ("references", "targets", "refs", "golds")
LIKELY = "token_probability"


class TextTask(Task):
    """A text is written for each text: by an encoder-decoder, or by a decoder behind a prompt.

    The source is `prefix` + text; a decoder reads `separator` after it and learns the answer alone.
    """

    required: ClassVar[frozenset[str] | None] = frozenset({"source"})
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    nested: ClassVar[frozenset[str]] = frozenset({"references"})
    texts: ClassVar[tuple[str, ...]] = ("source",)
    head: ClassVar[Head] = TEXT
    default_separator: ClassVar[str] = "\nAnswer:"
    row_figure: ClassVar[str] = "chrf"
    """The figure of a single row by which the worst are found."""
    baselines: ClassVar[tuple[str, ...]] = ()
    """Names of baselines, see `TaskResult`."""

    max_length: int = Field(
        default=512,
        ge=8,
        description="tokens a source may have, of a decoder source and answer; what is cut stands "
        "in the ledger",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=2,
        description="tokens an answer may have; unset: 128, or what the model has room for",
    )
    min_new_tokens: int = Field(default=0, ge=0, description="tokens an answer has at least")
    num_beams: int = Field(
        default=4, ge=1, le=64, description="answers followed at once (beam search); 1: greedy"
    )
    length_penalty: float = Field(
        default=1.0,
        description="a beam's log-probability is divided by its length to this power: over 0 "
        "longer answers, under 0 shorter ones",
    )
    no_repeat_ngram_size: int = Field(
        default=0, ge=0, description="no run of so many tokens occurs twice in an answer; 0: any"
    )
    prefix: str | None = Field(
        default=None,
        description="stands before every source; unset: T5's own word for the task, else nothing",
    )
    separator: str | None = Field(
        default=None,
        description="stands between source and answer of a decoder; unset: chosen by the task",
    )
    validation_texts: int = Field(
        default=0,
        ge=0,
        description="write answers for so many validation rows after each epoch and choose the "
        "epoch by them; 0: by the mean probability of the target's tokens",
    )

    @property
    def epoch_score(self) -> str:
        """The figure of `score` that chooses the best epoch."""
        return self.main_score if self.validation_texts else LIKELY

    @property
    def score_span(self) -> tuple[float, float]:
        return 0.0, 100.0 if self.epoch_score == "bleu" else 1.0

    def default_prefix(self) -> str:
        """What stands before a source for a model of T5's."""
        return ""

    def measure(self) -> Joined:
        """The figures, made anew."""
        raise NotImplementedError

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        from warmstart.data.tables import is_blank

        if "references" in table.column_names:
            place = table.column_names.index("references")
            lists = [listed(value) for value in table["references"].to_pylist()]
            written = column([json.dumps(texts) for texts in lists], "string")
            table = table.set_column(place, "references", written)
            if "target" not in table.column_names:
                first = column([texts[0] if texts else "" for texts in lists], "string")
                table = table.append_column("target", first)
        if "target" not in table.column_names:
            return table
        return without(table, is_blank(table["target"]), drop, "empty target")

    def resolve_for_data(self, table: pa.Table) -> TextTask:
        """As it is. Raises `DataError` where no text is wanted."""
        if "target" not in table.column_names:
            raise DataError(
                f"{table['_file'][0].as_py()} has no column for target; name it with "
                "--data.columns.target NAME"
            )
        return self

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> TextTask:
        """With lengths, prefix and separator for the base. Raises `RecipeError`."""
        from warmstart.models.architectures import positions_of

        kind, decodes = config.get("model_type"), not config.get("is_encoder_decoder")
        positions = positions_of(config)
        longest = min(self.max_length, room, positions)
        new = self.max_new_tokens or min(NEW_TOKENS, longest // 2 if decodes else positions)
        wrong = ""
        if self.separator is not None and not decodes:
            wrong = (
                "separator stands between source and answer of a decoder, and "
                f"'{kind}' reads the source with its encoder; leave it out"
            )
        elif decodes and new > longest - 2:
            wrong = (
                f"max_new_tokens {new} does not go with the {longest} tokens that source "
                "and answer may have together; lower it, or raise task.max_length"
            )
        elif new > positions:
            wrong = f"max_new_tokens {new} is more than the {positions} tokens of '{kind}'"
        elif self.min_new_tokens > new:
            wrong = f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens {new}"
        if wrong:
            raise RecipeError(f"task.{wrong}")
        default = self.default_prefix() if kind == "t5" else ""
        return self.model_copy(
            update={
                "max_length": longest,
                "max_new_tokens": new,
                "prefix": default if self.prefix is None else self.prefix,
                "separator": (self.separator or self.default_separator) if decodes else None,
            }
        )

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        sources = [f"{self.prefix or ''}{text or ''}" for text in table["source"].to_pylist()]
        known = "target" in table.column_names
        targets: list[str] | None = table["target"].to_pylist() if known else None
        new = self.max_new_tokens or NEW_TOKENS
        if self.separator is not None:
            return prompted(sources, targets, self.separator, tokenizer, longest, new, on_cut)
        language = self.set_languages(tokenizer)
        backend = tokenizer.backend_tokenizer
        store = tokenise(sources, backend, longest, on_cut)
        if targets is None:
            return store
        with writing(tokenizer, language):
            return replace(store, answers=tokenise(targets, backend, new, on_cut))

    def set_languages(self, tokenizer: Any) -> str | None:
        """Have the tokenizer mark the language of what is read, where the base wants that; the
        token of the language that is written. Raises `RecipeError`."""

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        from warmstart.models.generation import generation_config
        from warmstart.models.loading import load_headed, load_tokenizer

        model = load_headed(base, self.head, [], seed)
        tokenizer: Any = load_tokenizer(base)
        end = self.end_token(tokenizer)
        model.generation_config = generation_config(
            model,
            end,
            max_new_tokens=self.max_new_tokens,
            min_new_tokens=self.min_new_tokens,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
        )
        if model.config.is_encoder_decoder:
            set_first_token(model, tokenizer, self.set_languages(tokenizer))
        return model

    def end_token(self, tokenizer: Any) -> int | None:
        """The token that ends an answer beside those of the base."""
        return None if self.separator is None else tokenizer.eos_token_id

    def decode(self, outputs: GenerationOutput, examples: Examples) -> list[Prediction]:
        written = texts_of(outputs, examples.tokenizer)
        sure = outputs.confidence.tolist()
        return [Prediction(str(i), text, sure[i]) for i, text in enumerate(written)]

    def answered(self, table: pa.Table, answers: Sequence[Prediction]) -> pa.Table:
        """Rows with answers for what is right; without those whose answer is empty."""
        texts = [str(answer.value) for answer in answers]
        table = table.append_column("target", [column(texts, "string")])
        return table.filter(np.array([bool(text.strip()) for text in texts], bool))

    def score(self, outputs: GenerationOutput, examples: Examples) -> dict[str, float]:
        figures = {LIKELY: outputs.probability, "token_accuracy": outputs.accuracy}
        if done := sum(ids is not None for ids in outputs.ids):
            written = texts_of(outputs, examples.tokenizer)[:done]
            figures |= self.measure()(written, references(examples.table)[:done])
        return figures

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        answers, test = outputs["test"], examples["test"]
        targets, written = references(test.table), texts_of(answers, test.tokenizer)
        statistics = (measure := self.measure()).rows(written, targets)
        scores = np.asarray(measure.score(statistics)[self.row_figure], float)
        right = np.array([
            text.split() in [target.split() for target in row]
            for text, row in zip(written, targets, strict=True)
        ])  # fmt: skip
        columns = {
            "source": test.table["source"], "target": test.table["target"], "prediction": written,
            "confidence": answers.confidence.astype(np.float32),
            "score": scores.astype(np.float32),
        }  # fmt: skip
        table = prediction_table(test.table, columns)
        signatures = measure.signatures(targets)
        counting = {
            "title": "How it was counted",
            "lead": "Figures of these measures can be compared where their signatures are the "
            "same.",
            "columns": ["measure", "signature"],
            "rows": [[name, how] for name, how in signatures.items()],
        }
        facts: dict[str, Any] = {
            "wrong": int((~right).sum()),
            "signatures": signatures,
            "sections": [_some(table, targets), counting],
        }
        worst = _worst(table, targets, right, scores, self.metric_titles[self.row_figure])
        if self.main_score != "exact_match":  # another wording is no mistake
            facts["mistakes_lead"] = (
                f"The {len(worst):,} answers that are farthest from their references, the farthest "
                "first; all answers are in predictions.parquet."
            )
        if self.epoch_score != self.main_score:
            facts["epoch_score"] = "Mean probability of a token of the answer"
        if answers.tokens.sum():
            facts |= {"loss": answers.loss, "perplexity": math.exp(min(answers.loss, 700.0))}
            if not np.isnan(answers.accuracy):  # which not every engine says
                facts["token_accuracy"] = answers.accuracy
        best = measure([row[0] for row in targets[:SEEN]], targets[:SEEN])
        return TaskResult(
            measure=measure,
            statistics=statistics,
            ceiling=best[self.main_score],
            score=lambda texts: measure.rows(texts, targets),
            table=table,
            mistakes=worst,
            baselines=self.baselines,
            facts=facts,
            notes=_notes(measure.total(statistics)) + _same(written, [row[0] for row in targets]),
        )


def texts_of(outputs: GenerationOutput, tokenizer: Any) -> list[str]:
    """The generated texts, without special tokens and spaces at the ends; "" where there is
    none."""
    rows = [ids or [] for ids in outputs.ids]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def references(table: pa.Table) -> list[list[str]]:
    """The texts that would be right for each row: its references, else its target."""
    targets: list[str] = table["target"].to_pylist()
    if "references" not in table.column_names:
        return [[target] for target in targets]
    lists = [json.loads(value) for value in table["references"].to_pylist()]
    return [texts or [target] for texts, target in zip(lists, targets, strict=True)]


def seen(table: pa.Table) -> list[str]:
    """The references of the first rows, by which it is told how words are counted."""
    return [text for row in references(table.slice(0, SEEN)) for text in row]


def listed(value: Any) -> list[str]:
    """References in a list, in a list as JSON, or as one text."""
    parsed = parse_cell(value)
    values = parsed if isinstance(parsed, list) else [value]
    return [str(text) for text in values if text is not None and str(text).strip()]


def prompted(
    texts: Sequence[str],
    answers: Sequence[str] | None,
    separator: str,
    tokenizer: Any,
    longest: int,
    most_new: int,
    on_cut: OnCut | None = None,
) -> TokenizedDataset:
    """Prompts (text + separator) as `tokenizer` splits them, without an end token, and answers.

    A prompt has at most `longest` - `most_new` tokens: the text is cut, the separator stays. An
    answer begins after a space, ends with the end token, and has at most `most_new` tokens.
    Raises `BaseModelError` for a tokenizer without end token, `RecipeError` where nothing fits.
    """
    backend, end = tokenizer.backend_tokenizer, tokenizer.eos_token_id
    if end is None:
        raise BaseModelError("the tokenizer of this decoder has no end token (eos_token)")
    if not backend.encode(separator, add_special_tokens=False).ids:
        raise RecipeError(
            f"task.separator {separator!r} is no token of this tokenizer, so that the model could "
            "not see where the text ends; choose another"
        )
    wholes, rows = [f"{text}{separator}" for text in texts], list[list[int]]()
    for number, encoding in enumerate(backend.encode_batch(wholes)):
        ids = _open(encoding.ids, end)
        if (extra := len(ids) - (longest - most_new)) > 0:
            wholes[number], ids = _shorter(texts[number], separator, backend, end, extra)
            if on_cut is not None:
                on_cut(number, extra)
        rows.append(ids)
    store = store_of(rows, backend)
    if answers is None:
        return store
    targets: list[list[int]] = []
    full = backend.encode_batch([f"{a} {b}" for a, b in zip(wholes, answers, strict=True)])
    for number, (prompt, encoding) in enumerate(zip(rows, full, strict=True)):
        ids = _open(encoding.ids, end)
        own = ids[len(prompt) :]
        if ids[: len(prompt)] != prompt:  # the answer's beginning grew together with the prompt
            own = backend.encode(f" {answers[number]}", add_special_tokens=False).ids
        if (extra := len(own) + 1 - most_new) > 0 and on_cut is not None:
            on_cut(number, extra)
        targets.append([*own[: most_new - 1], end])
    return replace(store, answers=store_of(targets, backend))


def _open(ids: list[int], end: int) -> list[int]:
    """Without the end token that some tokenizers put behind every text."""
    return ids[:-1] if ids and ids[-1] == end else ids


def _shorter(
    text: str, separator: str, backend: Any, end: int, extra: int
) -> tuple[str, list[int]]:
    """The prompt of a text that lost its last `extra` tokens, or some more, and its ids."""
    ends = [last for _, last in backend.encode(text, add_special_tokens=False).offsets]
    most = len(_open(backend.encode(f"{text}{separator}").ids, end)) - extra
    while extra < len(ends):
        whole = f"{text[: ends[-1 - extra]]}{separator}"
        ids = _open(backend.encode(whole).ids, end)
        if len(ids) <= most:
            return whole, ids
        extra += len(ids) - most
    raise RecipeError(
        f"there is no room for a text: the separator and the answer fill the {most} tokens left; "
        "raise task.max_length or lower task.max_new_tokens"
    )


def _worst(
    table: pa.Table, targets: list[list[str]], right: np.ndarray, scores: np.ndarray, title: str
) -> list[dict[str, Any]]:
    """The answers that are not right, the lowest score first, beside source and reference."""
    order = np.argsort(scores, kind="stable")

    def describe(row: int) -> dict[str, Any]:
        columns = table.select(["source", "prediction", "confidence"]).slice(row, 1).to_pylist()[0]
        return {
            "text": shortened(columns["source"]),
            "label": shortened(" / ".join(targets[row])),
            "prediction": shortened(columns["prediction"]),
            "confidence": columns["confidence"],
            "note": f"{title} {scores[row]:.2f}",
            "written": True,
        }

    return list_mistakes(table, order[~right[order]], describe)


def _some(table: pa.Table, targets: list[list[str]]) -> dict[str, Any]:
    """A few answers from all over the test rows, good ones and bad ones."""
    places = np.unique(np.linspace(0, len(table) - 1, SAMPLE).round().astype(int)).tolist()
    chosen = [(place, table.slice(place, 1).to_pylist()[0]) for place in places]
    return {
        "title": "Some of its answers",
        "lead": f"{counted(len(places), 'test row')} at equal distances, neither best nor worst.",
        "columns": ["source", "reference", "what the model wrote"],
        "rows": [
            [shortened(row["source"], BRIEF), shortened(targets[place][0], BRIEF),
             row["prediction"]]
            for place, row in chosen
        ],
    }  # fmt: skip


def _same(written: list[str], targets: list[str]) -> list[str]:
    """A note where one text is written far more often than any is right."""
    (text, count), (_, right) = (Counter(t).most_common(1)[0] for t in (written, targets))
    if count < SAME * len(written) + 2 * right:
        return []
    return [
        f"{count:,} of {len(written):,} answers are the same, '{shortened(text, 80)}': the model "
        "says what is common and not yet what the source says. Train longer, or begin with a "
        "pretrained base."
    ]


def _notes(figures: Mapping[str, float]) -> list[str]:
    notes: list[str] = []
    if figures.get("repeated", 0.0) > REPEATS:
        share = f"{100 * figures['repeated']:.0f} %"
        notes.append(
            f"{share} of the word pairs in the answers repeat an earlier pair of the same answer: "
            "train longer, or set task.no_repeat_ngram_size 3."
        )
    if figures.get("empty", 0.0) > EMPTY:
        notes.append(f"{100 * figures['empty']:.0f} % of the answers are empty.")
    return notes
