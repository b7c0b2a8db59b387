"""A number for a text, or for two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from warmstart.data.ledger import place
from warmstart.errors import DataError, shown
from warmstart.formatting import counted
from warmstart.metrics.base import Floats
from warmstart.metrics.correlation import Agreement
from warmstart.models.heads import VALUE, Head
from warmstart.tasks.base import Drop, Examples, Task, without
from warmstart.tasks.pairs import FIRST, SECOND, one_or_two
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

TITLES = {
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "r2": "R²",
    "mae": "mean absolute error",
    "mse": "mean squared error",
}
PARTS = 5  # of equal size, of the range of the true numbers in the report
ROUNDING = 1e-6


class Regression(Task):
    """A number for each text or pair of texts. The model learns it in a unit of its own (mean 0,
    spread 1); at the end its last layer takes in mean and spread, so that it answers in the
    data's unit, in transformers too."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "sentence1": FIRST,
        "sentence2": SECOND,
        "text": (
            "text", "sentence", "content", "message", "body", "review", "tweet", "comment",
            "description", "essay", "document", "excerpt", "title",
        ),
        "score": (
            "score", "target", "value", "rating", "stars", "similarity", "similarity_score",
            "price", "grade", "label", "labels", "y",
        ),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset({"score"})
    texts: ClassVar[tuple[str, ...]] = ("text",)
    head: ClassVar[Head] = VALUE

    max_length: int = Field(
        default=256,
        ge=5,
        description="tokens a text, or both texts together, may have; what is cut stands in the "
        "ledger",
    )
    pairs: bool | None = Field(
        default=None,
        description="two texts a row, read together; unset: if there are sentence1 and sentence2",
    )
    judged_by: Literal["spearman", "pearson", "r2"] = Field(
        default="spearman", description="the main score, by which the best epoch is chosen too"
    )
    mean: float | None = Field(
        default=None, description="of the numbers in train, taken away while learning; unset: found"
    )
    spread: float | None = Field(
        default=None, gt=0, description="their standard deviation, divided by; unset: found"
    )
    offset: float | None = Field(
        default=None,
        description="of a trained model: what to add to its answers, where its last layer has no "
        "bias (GPT-2, Llama); else 0",
    )

    @property
    def main_score(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.judged_by

    @property
    def score_span(self) -> tuple[float, float]:
        """Of a correlation; an R² may be lower still."""
        return -1.0, 1.0

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {self.judged_by: TITLES[self.judged_by], **TITLES}

    @property
    def inputs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("sentence1", "sentence2") if self.pairs else ("text",)

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        table = one_or_two(table, self.pairs)
        return with_numbers(table, drop) if "score" in table.column_names else table

    def strata(self, table: pa.Table) -> Sequence[str] | None:
        """Tenths of the rows by their number; equal numbers lie together."""
        if "score" not in table.column_names:
            return None
        values = numbers(table)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 11)[1:-1]))
        return [str(place) for place in np.searchsorted(edges, values, side="right")]

    def resolve_for_data(self, table: pa.Table) -> Task:
        """With one text or two, and the unit of the numbers; a trained model has none. Raises
        `DataError` where all numbers are the same."""
        settings: dict[str, Any] = {"pairs": "sentence1" in table.column_names}
        if self.offset is None and self.mean is None and self.spread is None:
            values = numbers(table)
            if values.max() == values.min():
                raise DataError(
                    f"{table['_file'][0].as_py()}: every row has the score {values[0]:g}, so there "
                    "is nothing to learn; name another column with --data.columns.score NAME"
                )
            settings |= {"mean": float(values.mean()), "spread": float(values.std())}
        return self.model_copy(update=settings)

    def fit_labels(self, train: pa.Table) -> list[str]:
        return ["score"]

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        """The numbers in the unit that is learned. Raises `DataError` unless the rows have one text
        or two, as `pairs` says."""
        two = "sentence1" in table.column_names
        if self.pairs is not None and two != self.pairs:
            texts = (
                "two texts a row, and the training rows have one"
                if two
                else "one text a row, and the training rows have two: sentence1 and sentence2"
            )
            file = table["_file"][0].as_py() if len(table) else "the data"
            raise DataError(f"{file} has {texts}")
        if "score" not in table.column_names:
            return None
        values = (numbers(table) - (self.mean or 0.0)) / (self.spread or 1.0)
        return values.astype("float32")

    def references(self, examples: Examples) -> Floats:
        """The numbers [n] of the rows, in the data's unit."""
        return numbers(examples.table)

    def values(self, outputs: np.ndarray) -> Floats:
        """What the trained model's outputs [n, 1] say [n], in the data's unit."""
        return outputs.reshape(-1).astype("float64") + (self.offset or 0.0)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        """Numbers of seven digits, all that float32 holds; nothing is known of how sure a single
        one is, so all are 1."""
        values = enumerate(self.values(outputs))
        return [Prediction(str(i), float(f"{value:.7g}"), 1.0) for i, value in values]

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The number alone: nothing is known of how sure a single one is."""
        return {"prediction": column([answer.value for answer in answers], "float64")}

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        """The figures of one pass, in the unit that is learned."""
        values, truth = outputs.reshape(-1), examples.store.targets
        if not len(truth):
            return dict.fromkeys(("spearman", "pearson", "r2", "mae", "mse"), 0.0)
        return Agreement()(values, truth)

    def fold_into_weights(self, model: PreTrainedModel) -> Self:
        """With the unit in the model's last layer."""
        from warmstart.models.head_layers import rescale

        if self.mean is None or self.spread is None:
            return self
        offset = rescale(model, self.mean, self.spread)
        return self.model_copy(update={"mean": None, "spread": None, "offset": offset})

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, measure = examples["test"], Agreement()
        values, truth = self.values(outputs["test"]), self.references(test)
        texts = [name for name in ("sentence1", "sentence2") if name in test.table.column_names]
        columns = {name: test.table[name] for name in texts or ["text"]}
        table = prediction_table(test.table, {**columns, "label": truth, "prediction": values})
        off, joined = np.abs(values - truth), test.table["text"]
        order = np.argsort(-off, kind="stable")
        least = ROUNDING * max(1.0, float(np.abs(truth).max(initial=0.0)))
        mistakes = list_mistakes(
            table,
            order[off[order] > least],
            lambda row: {
                "text": shortened(joined[row].as_py()),
                "label": f"{truth[row]:.4g}",
                "prediction": f"{values[row]:.4g}",
                "note": f"off by {off[row]:.4g}",
            },
        )
        lead = f"The {counted(len(mistakes), 'test row')} farthest off, the farthest first."
        notes: list[str] = []
        if self.offset:
            notes.append(
                "The last layer of this architecture has no bias, so transformers alone gives "
                f"every number less {self.offset:.6g}; warmstart adds it."
            )
        return TaskResult(
            measure=measure,
            statistics=measure.rows(values, truth),
            score=lambda others: measure.rows(others, truth),
            table=table,
            mistakes=mistakes,
            baselines=("mean_number", "tfidf_numbers", *(["tfidf_cosine"] if texts else [])),
            facts={"sections": [_errors_by_size(values, truth)], "mistakes_lead": lead},
            notes=notes,
        )


def with_numbers(table: pa.Table, drop: Drop) -> pa.Table:
    """The rows that have a score. Raises `DataError` at the first that is no number."""
    from warmstart.data.tables import is_blank

    blank = is_blank(table["score"])
    strange = np.flatnonzero(~blank & ~np.isfinite(numbers(table))).tolist()
    if strange:
        row = strange[0]
        value, more = shown(table["score"][row].as_py()), ""
        if len(strange) > 1:
            more = f" ({counted(len(strange), 'row has', 'rows have')} no number there)"
        hint = "write 3.5, not 3,5; " if "," in value else ""
        raise DataError(
            f"{place(table, row)}: the score '{value}' is no number{more}; {hint}mend it, or name "
            "another column with --data.columns.score NAME"
        )
    return without(table, blank, drop, "empty score")


def numbers(table: pa.Table) -> Floats:
    """The scores of the rows [n], float64; nan where a cell is no number."""
    values = np.full(len(table), np.nan)
    for row, cell in enumerate(table["score"].to_pylist()):
        with suppress(ValueError):
            values[row] = float((cell or "").replace("_", "?"))
    return values


def _errors_by_size(values: Floats, truth: Floats) -> dict[str, Any]:
    """A table for the report: how far off the answers are, from low to high true numbers."""
    order = np.argsort(truth, kind="stable")
    rows: list[list[Any]] = []
    for part in np.array_split(order, min(PARTS, len(order))):
        size = f"{truth[part].min():.4g} to {truth[part].max():.4g}"
        off = values[part] - truth[part]
        rows.append([size, len(part), float(np.abs(off).mean()), float(off.mean())])
    return {
        "title": "Errors by size",
        "lead": "The test rows in parts of equal size, from low to high true numbers. A mean above "
        "0 says that the model answers too high there.",
        "columns": ["True number", "Rows", "Mean distance", "Mean difference"],
        "rows": rows,
    }
