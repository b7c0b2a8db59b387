"""The answer to a question, found in a passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from warmstart.errors import DataError
from warmstart.metrics.squad import Answers
from warmstart.models.heads import SPAN, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.extractive_qa import decoding
from warmstart.tasks.extractive_qa.answers import data_notes, own_form, read, texts_of
from warmstart.tasks.extractive_qa.encoding import encode, layout_of
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.metrics.base import Floats

UNANSWERABLE = "no answer"
AROUND = 300  # characters of the context shown on each side
NOTHING = "(no answer)"
LONGEST = 30  # tokens of an answer, where the training rows have not said
SHARE = 99.0  # percent of the training answers that are no longer than the longest allowed


class ExtractiveQA(Task):
    """Extractive question answering: the answer is a part of the context, or there is none.

    Question and context stand in one row of tokens, a long context in several that overlap; the
    head scores each token as the first and as the last of the answer (Devlin et al. 2018, sections
    4.2 and 4.3).
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "question": ("question", "query", "q"),
        "context": ("context", "passage", "paragraph", "document", "article", "text"),
        "answers": ("answers",),
        "answer_text": ("answer_text", "answer_texts", "answer"),
        "answer_start": ("answer_start", "answer_starts", "answer_offset"),
        "is_impossible": ("is_impossible", "unanswerable"),
        "id": ("id", "qid", "question_id"),
    }
    required: ClassVar[frozenset[str] | None] = frozenset({"question", "context"})
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    nested: ClassVar[frozenset[str]] = frozenset({"answers", "answer_text", "answer_start"})
    texts: ClassVar[tuple[str, ...]] = ("question", "context")
    together: ClassVar[str | None] = "context"
    head: ClassVar[Head] = SPAN
    main_score: ClassVar[str] = "f1"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "f1": "F1",
        "exact_match": "exact match",
        "has_answer_f1": "F1, answerable",
        "no_answer_f1": "right, unanswerable",
    }

    max_length: int = Field(
        default=384,
        ge=16,
        description="tokens of question and context; a longer context is read in windows",
    )
    stride: int = Field(
        default=128, ge=0, description="tokens that two windows of a long context share"
    )
    outside: Literal["no_answer", "drop"] = Field(
        default="no_answer",
        description="windows that do not hold the answer: trained to say so, or left out",
    )
    max_answer_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens of the longest answer; unset: as 99 % of the training answers have",
    )
    n_best: int = Field(default=5, ge=1, description="answers in the scores of a prediction")
    no_answer_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="probability of no answer above which there is none; unset: chosen on "
        "validation where training questions lack an answer, else every question has one",
    )

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        return own_form(table, drop)

    def resolve_for_data(self, table: pa.Table) -> Self:
        """As it is. Raises `DataError` without answers."""
        _answers(table)
        return self

    def data_notes(self, train: pa.Table) -> list[str]:
        return data_notes(train["answers"])

    def fit_labels(self, train: pa.Table) -> list[str]:
        """Whether there are questions without answer. Raises `DataError` without answers."""
        references = read(_answers(train))
        if not any(references):
            file = train["_file"][0].as_py()
            raise DataError(f"{file}: no question has an answer: nothing to learn from")
        return [] if all(references) else [UNANSWERABLE]

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        known = "answers" in table.column_names
        return encode(
            _texts(table, "question"),
            _texts(table, "context"),
            read(table["answers"]) if known else [None] * len(table),
            tokenizer,
            longest,
            stride=self.stride,
            drop=self.outside == "drop",
            on_cut=on_cut,
        )

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        contexts, spans = _texts(examples.table, "context"), self.spans(outputs, examples)
        untuned = self.no_answer_threshold is None and UNANSWERABLE in examples.labels
        threshold = decoding.UNTUNED if untuned else self.no_answer_threshold
        return decoding.answers_of(spans, contexts, threshold)

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        columns = super().columns(answers)
        starts = column([getattr(answer, "start", None) for answer in answers], "int64")
        return {"prediction": columns.pop("prediction"), "start": starts, **columns}

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        """As `fit_thresholds` would settle it on these rows: an epoch is scored by what it can."""
        sized = self._sized(examples.store)
        spans = sized.spans(outputs, examples)
        threshold = sized._chosen(spans, examples)
        answers = decoding.answers_of(spans, _texts(examples.table, "context"), threshold)
        return Answers()([answer.value for answer in answers], texts_of(examples.table["answers"]))

    def fit_thresholds(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> Self:
        """The longest answer as train has it, and the threshold that is best on validation."""
        train, validation = examples["train"], examples["validation"]
        sized = self._sized(train.store)
        if self.no_answer_threshold is not None or UNANSWERABLE not in train.labels:
            return sized
        chosen = sized._chosen(sized.spans(outputs["validation"], validation), validation)
        return sized.model_copy(update={"no_answer_threshold": chosen})

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        """Questions on one passage belong together."""
        test, train = examples["test"], examples.get("train")
        answers = self.decode(outputs["test"], test)
        facts: dict[str, Any] = {"max_answer_tokens": self.max_answer_tokens or LONGEST}
        if self.no_answer_threshold is not None:
            facts["no_answer_threshold"] = self.no_answer_threshold
        references = texts_of(test.table["answers"])
        measure = Answers(unanswerable=not all(references) and any(references))
        statistics = measure.rows([answer.value for answer in answers], references)
        contexts = test.table["context"].to_pylist()
        numbers = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
        table = prediction_table(
            test.table,
            {
                **{name: test.table[name] for name in ("question", "context", "answers")},
                "prediction": column([answer.value for answer in answers], "string"),
                "start": column([getattr(answer, "start", None) for answer in answers], "int64"),
                "confidence": column([answer.confidence for answer in answers], "float64"),
                "exact_match": statistics[:, 1],
                "f1": statistics[:, 2],
            },
        )
        if "id" in test.table.column_names:
            table = table.set_column(0, "id", test.table["id"])
        known = texts_of(train.table["answers"]) if train is not None else []
        baselines = ("question_sentence", "question_window")
        if not all(references) or not all(known):
            baselines = ("no_answer", *baselines)
        return TaskResult(
            measure=measure,
            statistics=statistics,
            score=lambda texts: measure.rows(texts, references),
            table=table,
            mistakes=_mistakes(table, answers, test.table, statistics),
            baselines=baselines,
            groups=np.array([numbers[context] for context in contexts], np.int64),
            facts=facts,
        )

    def spans(self, outputs: np.ndarray, examples: Examples) -> list[decoding.SpanScores]:
        """The best spans of each question."""
        longest, place = self.max_answer_tokens or LONGEST, layout_of(examples.tokenizer).nothing
        store, rows = examples.store, len(examples.table)
        return decoding.find_spans(outputs, store, rows, longest, self.n_best, place)

    def _sized(self, store: TokenizedDataset) -> Self:
        """With the longest answer as these rows have it, unless it is set."""
        if self.max_answer_tokens is not None:
            return self
        return self.model_copy(update={"max_answer_tokens": decoding.longest_answer(store, SHARE)})

    def _chosen(self, spans: Sequence[decoding.SpanScores], examples: Examples) -> float | None:
        """The threshold that is best on these rows, unless it is set; None: none is needed."""
        if self.no_answer_threshold is not None or UNANSWERABLE not in examples.labels:
            return self.no_answer_threshold
        return decoding.best_threshold(spans, examples)


def _texts(table: pa.Table, name: str) -> list[str]:
    return [value or "" for value in table[name].to_pylist()]


def _answers(table: pa.Table) -> pa.ChunkedArray:
    """The column of answers. Raises `DataError`."""
    if "answers" in table.column_names:
        return table["answers"]
    file = table["_file"][0].as_py()
    raise DataError(
        f"{file} has no answers; give a column answers (text and answer_start), or answer_text and "
        "answer_start, or name yours with --data.columns.answers NAME"
    )


def _mistakes(
    predictions: pa.Table, answers: Sequence[Prediction], table: pa.Table, statistics: Floats
) -> list[dict[str, Any]]:
    """Answers that are not exact, those first that were surest and farthest off; each with its
    passage, the true answer and the predicted one marked."""
    sure = np.array([answer.confidence for answer in answers])
    wrong = np.flatnonzero(statistics[:, 1] < 1)
    order = wrong[np.argsort(-(sure * (1 - statistics[:, 2]))[wrong], kind="stable")]

    def describe(row: int) -> dict[str, Any]:
        answer, (spans,) = answers[row], read(table["answers"].slice(row, 1))
        return {
            "text": table["question"][row].as_py(),
            "label": " / ".join(dict.fromkeys(span["text"] for span in spans)) or NOTHING,
            "prediction": answer.value or NOTHING,
            "confidence": answer.confidence,
            "note": f"F1 {statistics[row, 2]:.2f}",
            "context": marked(table["context"][row].as_py(), spans, answer),
        }

    return list_mistakes(predictions, order, describe)


def marked(context: str, spans: Sequence[Mapping[str, Any]], answer: Any) -> str:
    """The part of the context about both answers: [true: …] and [said: …]."""
    places = [("true", s["start"], s["start"] + len(s["text"])) for s in spans[:1]]
    if getattr(answer, "start", None) is not None:
        places.append(("said", answer.start, answer.end))
    if not places:
        return context[: 2 * AROUND] + ("…" if len(context) > 2 * AROUND else "")
    inserts = [(at, 1, f"[{name}: ", -end) for name, at, end in places]
    inserts += [(end, 0, "]", -at) for _, at, end in places]
    low, high = min(place[1] for place in places), max(place[2] for place in places)
    begin, end = max(0, low - AROUND), min(len(context), high + AROUND)
    parts, done = ["…" if begin else ""], begin
    for at, _, mark, _ in sorted(inserts, key=lambda mark: (mark[0], mark[1], mark[3])):
        parts += [context[done:at], mark]
        done = at
    return "".join([*parts, context[done:end], "…" if end < len(context) else ""])
