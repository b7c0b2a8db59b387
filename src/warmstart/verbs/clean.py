"""Which rows a clean copy leaves out, and why: `inspect --fix`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from warmstart.data.profile import blank

PRIORITY = ("test", "validation", "train")
CLEAR = 2 / 3  # share of the rows of a text that one label must have to be believed
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Removal:
    """A row to leave out: why, and the (split, row) of its twin that stays, if there is one."""

    split: str
    row: int
    reason: str
    kept: Place | None = None


def removals(
    parts: Mapping[str, pa.Table], groups: Mapping[str, np.ndarray], keys: Mapping[str, np.ndarray]
) -> list[Removal]:
    """Every row that a clean copy leaves out, in the order of the splits and rows.

    Empty texts and labels; copies, of which the first stays (in test rather than validation rather
    than train); equal texts with different labels, unless two thirds of them agree. A near-copy
    with another label stays, if it is in the same split: that is for a person to decide.

    `groups`: split → one number a row, equal for the same text, also nearly; -1 for rows that were
    not compared. `keys`: split → one number a row, equal for texts equal but for case, punctuation
    and spacing.
    """
    found: list[Removal] = []
    members: dict[int, list[Place]] = defaultdict(list)
    for split in PRIORITY:
        if split not in parts:
            continue
        empty = _empty(parts[split])
        found += [Removal(split, row, reason) for row, reason in empty.items()]
        for row, group in enumerate(groups[split].tolist()):
            if group >= 0 and row not in empty:
                members[group].append((split, row))
    texts = {name: table["text"] for name, table in parts.items()}
    labels = {name: _labels(table) for name, table in parts.items()}
    for places in members.values():
        if len(places) > 1:
            found += _of_group(places, keys, labels, texts)
    order = {name: i for i, name in enumerate(parts)}
    return sorted(found, key=lambda one: (order[one.split], one.row))


def _of_group(
    places: list[Place],
    keys: Mapping[str, np.ndarray],
    labels: Mapping[str, list[str]],
    texts: Mapping[str, pa.ChunkedArray],
) -> list[Removal]:
    """What to remove of rows that hold the same text, exactly or nearly."""
    found: list[Removal] = []
    kept: list[Place] = []
    for split in PRIORITY:
        equal: dict[int, list[Place]] = defaultdict(list)
        for place in places:
            if place[0] == split:
                equal[int(keys[split][place[1]])].append(place)
        earlier = list(kept)
        for key, rows in equal.items():
            if earlier:
                twin = next((p for p in earlier if keys[p[0]][p[1]] == key), earlier[0])
                reason = f"copy of a row of {twin[0]}"
                found += [Removal(split, row, reason, twin) for _, row in rows]
                continue
            stays, dropped = _of_equal(rows, labels[split], texts[split])
            found += dropped
            if stays is None:
                continue
            twin = next((p for p in kept if labels[p[0]][p[1]] == labels[split][stays[1]]), None)
            if twin is None:
                kept.append(stays)
            else:
                found.append(Removal(split, stays[1], "near-copy", twin))
    return found


def _of_equal(
    rows: list[Place], labels: Sequence[str], texts: pa.ChunkedArray
) -> tuple[Place | None, list[Removal]]:
    """Of rows of one split with equal text: the one that stays, and the others."""
    split = rows[0][0]
    counts = Counter(labels[row] for _, row in rows).most_common()
    best, most = counts[0]
    if len(counts) > 1 and most < CLEAR * len(rows):
        said = ", ".join(f"{n} × {name}" for name, n in counts[:5])
        reason = f"equal texts with different labels, none with a clear majority: {said}"
        return None, [Removal(split, row, reason) for _, row in rows]
    stays = next(place for place in rows if labels[place[1]] == best)
    found: list[Removal] = []
    text = texts[stays[1]].as_py()
    for _, row in rows:
        if row == stays[1]:
            continue
        same = texts[row].as_py() == text
        reason = "exact copy" if same else "copy but for case, punctuation or spacing"
        if labels[row] != best:
            reason = f"equal text with another label than {most} of {len(rows)}"
        found.append(Removal(split, row, reason, stays))
    return stays, found


def _empty(table: pa.Table) -> dict[int, str]:
    """Row → what is empty in it."""
    found: dict[int, str] = {}
    for role in ("label", "text"):
        if role in table.column_names:
            found |= {int(row): f"empty {role}" for row in np.flatnonzero(blank(table[role]))}
    return found


def _labels(table: pa.Table) -> list[str]:
    if "label" not in table.column_names:
        return [""] * len(table)
    return [(value or "").strip() for value in table["label"].to_pylist()]
