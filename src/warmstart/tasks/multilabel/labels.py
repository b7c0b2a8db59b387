"""Sets of labels as targets, answers and quick figures."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from warmstart.data.ledger import place
from warmstart.errors import DataError, RecipeError, nearest, shown
from warmstart.formatting import counted
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.tasks.base import Examples


# Any number of labels in a cell: a list, JSON, a text with a separator, or columns of 0 and 1.

SEPARATORS = (",", ";", "|")
COLUMN = "label: "
"""Before the name of a column of 0 and 1, so that it can be called as anything."""
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


def labels_of(table: pa.Table, columns: Sequence[str], separator: str | None) -> list[str] | None:
    """The labels of each row as a JSON list of strings, or None where the table has no labels.

    Args:
        columns: those of 0 and 1, in the table under `COLUMN` and their name.
        separator: between the labels of a text; None: found, "" if there is none.

    Raises `DataError` with file and line.
    """
    if columns:
        if COLUMN + columns[0] not in table.column_names:
            return None
        return _from_flags(table, columns)
    if "labels" not in table.column_names:
        return None
    cells = table["labels"].to_pylist()
    if separator is None:
        separator = found_separator(cell for cell in cells if isinstance(cell, str))
    found: list[str] = []
    for row, cell in enumerate(cells):
        try:
            labels = parsed(cell, separator)
        except ValueError as error:
            raise DataError(f"{place(table, row)}: {error}") from None
        found.append(json.dumps(labels, ensure_ascii=False))
    return found


def parsed(cell: Any, separator: str) -> list[str]:
    """The labels of one cell, each once, in order. Raises `ValueError`."""
    if cell is None:
        return []
    if isinstance(cell, str):
        text = cell.strip()
        listed = _list(text) if text[:1] == "[" else None
        pieces = text.split(separator) if separator else [text]
        values: Iterable[Any] = pieces if listed is None else listed
    elif isinstance(cell, Mapping):
        raise ValueError(f"labels {shown(cell, 60)} is an object; give a list of labels")
    else:
        values = cell if isinstance(cell, list) else [cell]
    names: dict[str, None] = {}
    for value in values:
        if isinstance(value, list | Mapping):
            raise ValueError(f"the label {shown(value, 60)} is no name; give a list of names")
        name = "" if value is None else str(value).strip()
        if name:
            names[name] = None
    return list(names)


def found_separator(cells: Iterable[str]) -> str:
    """What stands between the labels of texts: of those that occur the one that leaves the fewest
    different labels, for a wrong one leaves labels glued together; "" where none occurs."""
    texts = {cell.strip() for cell in cells if cell.strip()[:1] != "["}
    best: tuple[int, int, str] | None = None
    for mark in SEPARATORS:
        used = sum(mark in text for text in texts)
        if used:
            distinct = {piece.strip() for text in texts for piece in text.split(mark)} - {""}
            best = min(best or (len(distinct), -used, mark), (len(distinct), -used, mark))
    return "" if best is None else best[2]


def separator_for(labels: Sequence[str]) -> str:
    """What can stand between these labels so that they can be told apart again."""
    free = [mark for mark in SEPARATORS if not any(mark in label for label in labels)]
    return free[0] if free else "\t"


def _list(text: str) -> list[Any]:
    """A list as JSON or as Python prints it."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    raise ValueError(f"the labels {shown(text, 60)} begin as a list and are none; mend the row")


def _from_flags(table: pa.Table, columns: Sequence[str]) -> list[str]:
    rows: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        for row, value in enumerate(table[COLUMN + column].to_pylist()):
            word = ("" if value is None else str(value)).strip().lower()
            if word in YES:
                rows[row].append(column)
            elif word not in NO:
                raise DataError(
                    f"{place(table, row)}: column '{shown(column)}' holds '{shown(value)}', and a "
                    "label that is a column is 0 or 1 in each row; mend it, or leave the column "
                    "out of task.label_columns"
                )
    return [json.dumps(row, ensure_ascii=False) for row in rows]


NAMED = 5  # labels that are named in a message


def sets_in(table: pa.Table) -> list[list[str]]:
    """The labels of each row."""
    return [json.loads(cell) for cell in table["labels"].to_pylist()]


def learnt(train: pa.Table, thresholds: Mapping[str, float] | None) -> list[str]:
    """The labels of the training rows, sorted. Raises `DataError`, `RecipeError`."""
    first: dict[str, int] = {}
    for row, labels in enumerate(sets_in(train)):
        for label in labels:
            first.setdefault(label, row)
    if not first:
        raise DataError(
            f"{train['_file'][0].as_py()}: no row of train has a label, so there is nothing to "
            "learn; name another column with --data.columns.labels NAME"
        )
    spellings: dict[str, str] = {}
    for label in sorted(first):
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                f"labels that differ only in case: '{shown(other)}', first at "
                f"{place(train, first[other])}, and '{shown(label)}', first at "
                f"{place(train, first[label])}; mend them"
            )
    for name in thresholds or {}:
        if name not in first:
            raise RecipeError(f"task.thresholds: no label '{name}'.{nearest(name, first)}")
    return sorted(first)


def shares(table: pa.Table) -> dict[str, float]:
    """The share of the rows that have each label, one row with and one without it added."""
    if "labels" not in table.column_names:
        return {}
    counts = Counter(name for names in sets_in(table) for name in names)
    return {name: (count + 1) / (len(table) + 2) for name, count in counts.items()}


def rarest(sets: Sequence[Iterable[str]]) -> list[str]:
    """Of each row's labels the one that fewest rows have; nothing where there are none."""
    counts = Counter(name for names in sets for name in set(names))
    return [min(names, key=lambda name: (counts[name], name), default="") for names in sets]


def remarks(train: pa.Table) -> list[str]:
    """How many labels the rows have, and how many rows have none."""
    sets = sets_in(train)
    none, each = sum(not labels for labels in sets), sum(map(len, sets)) / max(len(sets), 1)
    found = [f"{each:.2f} labels a row in train; {none:,} of {counted(len(sets))} without any"]
    rare = sorted(name for name, n in Counter(n for s in sets for n in s).items() if n == 1)
    if rare:
        found.append(
            f"{counted(len(rare), 'label has', 'labels have')} one row in train: {_listed(rare)}"
        )
    return found


def label_targets(table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
    """1 where a row has a label, else 0 [n, K]; None where the table has no labels.

    Labels that are not among `labels` count for nothing here (`strangers` finds them). Raises
    `DataError` where none of them is known.
    """
    import numpy as np

    if "labels" not in table.column_names:
        return None
    number = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(table), len(labels)), np.int64)
    strange: dict[str, int] = {}
    for row, names in enumerate(sets_in(table)):
        for name in names:
            if name in number:
                targets[row, number[name]] = 1
            else:
                strange.setdefault(name, row)
    if strange and not targets.any():
        name, row = next(iter(strange.items()))
        raise DataError(
            f"{place(table, row)}: the model does not know the label '{shown(name)}', nor any "
            f"other label of these rows.{nearest(name, labels)} If a cell holds several labels, "
            "say what stands between them with --task.separator"
        )
    return targets


def strangers(table: pa.Table, labels: Sequence[str]) -> str:
    """A sentence about labels that the model never saw, or nothing."""
    known = set(labels)
    counts = Counter(name for names in sets_in(table) for name in names if name not in known)
    if not counts:
        return ""
    names = _listed([name for name, _ in counts.most_common()])
    return (
        f"{counted(len(counts), 'label')} of the test rows without any row in train: not scored, "
        f"though the model misses each: {names} ({counted(counts.total(), 'time')})."
    )


def answers(logits: np.ndarray, labels: Sequence[str], cuts: np.ndarray) -> list[Prediction]:
    """The labels that reach their cuts, the likeliest first, with the probability of every one.

    The confidence is that of the least sure label, or, where none is given, one minus the
    highest probability.
    """
    found: list[Prediction] = []
    for number, row in enumerate(sigmoid(logits)):
        by_label = {label: float(value) for label, value in zip(labels, row, strict=True)}
        order: list[int] = (-row).argsort(kind="stable").tolist()
        given: list[str] = [labels[i] for i in order if row[i] >= cuts[i]]
        sure = min((by_label[label] for label in given), default=1.0 - float(row.max(initial=0.0)))
        found.append(Prediction(str(number), given, sure, by_label))
    return found


def columns(answers: Sequence[Prediction]) -> dict[str, pa.Array]:
    """The labels given, as text that can be read again, and the probability of each of them."""
    import pyarrow as pa

    mark = separator_for(list(answers[0].scores) if answers else [])
    given = [
        json.dumps({label: round(a.scores[label], 6) for label in a.value}, ensure_ascii=False)
        for a in answers
    ]
    return {
        "prediction": pa.array([mark.join(answer.value) for answer in answers], pa.string()),
        "confidence": pa.array([round(answer.confidence, 6) for answer in answers], pa.float64()),
        "probabilities": pa.array(given, pa.string()),
    }


def scores(logits: np.ndarray, examples: Examples, cuts: np.ndarray) -> dict[str, float]:
    """The figures of one pass, and the mean binary cross-entropy in nats."""
    import numpy as np

    from warmstart.metrics.multilabel import Labels

    truth, odds = examples.store.targets, logits.astype(np.float64)
    if not len(truth):
        return {"f1_macro": 0.0, "f1_micro": 0.0, "loss": 0.0}
    measure = Labels(examples.labels, cuts)
    figures = measure.total(measure.rows(sigmoid(logits), truth))
    nll = np.logaddexp(0.0, odds) - truth * odds
    whole = {name: value for name, value in figures.items() if ":" not in name}
    return {**whole, "loss": float(nll.mean())}


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, in float64."""
    import numpy as np

    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown(name, 30) for name in names[:NAMED]) + more
