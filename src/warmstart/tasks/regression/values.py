"""Numbers of a column as targets, answers and quick figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from warmstart.data.ledger import place
from warmstart.errors import DataError, shown
from warmstart.formatting import counted
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Drop, OnCut


def checked(table: pa.Table, drop: Drop) -> pa.Table:
    """The rows that have a score. Raises `DataError` at the first that is no number."""
    import numpy as np
    import pyarrow as pa

    from warmstart.data.tables import is_blank

    blank = is_blank(table["score"])
    strange: list[int] = []
    for row, cell in enumerate(table["score"].to_pylist()):
        if not blank[row] and not math.isfinite(number(cell)):
            strange.append(row)
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
    for row in np.flatnonzero(blank):
        drop(int(row), "empty score")
    return table.filter(pa.array(~blank)) if blank.any() else table


def number(cell: str) -> float:
    """A cell as a number, nan where it is none."""
    try:
        return float(cell.replace("_", "?"))
    except ValueError:
        return math.nan


def numbers(table: pa.Table) -> np.ndarray:
    """The scores of the rows [n], float64."""
    import numpy as np

    return np.array([number(cell) for cell in table["score"].to_pylist()], np.float64)


def tenths(table: pa.Table) -> list[str]:
    """The tenth of the rows, by their scores, that each one lies in; equal scores lie together."""
    import numpy as np

    values = numbers(table)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 11)[1:-1]))
    return [str(place) for place in np.searchsorted(edges, values, side="right")]


def unit(train: pa.Table) -> tuple[float, float]:
    """Mean and standard deviation of the scores. Raises `DataError` where all are the same."""
    values = numbers(train)
    if values.max() == values.min():
        raise DataError(
            f"{train['_file'][0].as_py()}: every row has the score {values[0]:g}, so there is "
            "nothing to learn; name another column with --data.columns.score NAME"
        )
    return float(values.mean()), float(values.std())


def encoded(
    table: pa.Table, pairs: bool | None, tokenizer: Any, longest: int, on_cut: OnCut | None
) -> TokenizedDataset:
    """The texts of each row, one or two. Raises `DataError` unless they are what `pairs` says."""
    from warmstart.data.tokens.dataset import tokenise
    from warmstart.data.tokens.encoding import tokenise_pairs

    two = "sentence1" in table.column_names
    if pairs is not None and two != pairs:
        said = (
            "two texts a row, and the training rows have one"
            if two
            else ("one text a row, and the training rows have two: sentence1 and sentence2")
        )
        raise DataError(f"{table['_file'][0].as_py() if len(table) else 'the data'} has {said}")
    if not two:
        return tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut)
    first, second = (table[name].to_pylist() for name in ("sentence1", "sentence2"))
    return tokenise_pairs(first, second, tokenizer, longest, on_cut)


def answers(values: np.ndarray) -> list[Prediction]:
    """Numbers of seven digits, all that float32 holds, as answers; nothing is known of how sure a
    single one is, so all are 1."""
    return [Prediction(str(i), float(f"{value:.7g}"), 1.0) for i, value in enumerate(values)]


def scores(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures of one pass, and the mean squared error, in the unit that both have."""
    from warmstart.metrics.correlation import Agreement

    if not len(truth):
        return dict.fromkeys(("spearman", "pearson", "r2", "mae", "mse", "loss"), 0.0)
    measure = Agreement()
    figures = measure.total(measure.rows(values, truth))
    return {**figures, "loss": figures["mse"]}


def as_words(values: Sequence[float]) -> list[str]:
    """Numbers with four digits, as people read them."""
    return [f"{value:.4g}" for value in values]
