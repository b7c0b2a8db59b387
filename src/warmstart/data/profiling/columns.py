"""What the data are, before anything is trained: files, splits, columns, classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.columns import OURS, assign, columns_in, map_roles
from warmstart.data.corrections import correct
from warmstart.data.ledger import Ledger
from warmstart.data.profiling.pii import mask
from warmstart.data.readers.files import format_of
from warmstart.data.readers.read import Files, read_splits
from warmstart.data.settings import DELIMITER_NAMES, Data
from warmstart.data.tables import is_blank, pc
from warmstart.errors import DataError
from warmstart.formatting import counted

TYPES = {
    "text": (pa.types.is_string, pa.types.is_large_string),
    "true or false": (pa.types.is_boolean,),
    "whole numbers": (pa.types.is_integer,),
    "numbers": (pa.types.is_floating, pa.types.is_decimal),
}
BRIEF = 200  # characters of a text in a listing
GROUP_NAMES = {
    *("author", "author_id", "user", "user_id", "username", "speaker", "speaker_id", "customer"),
    *("customer_id", "patient", "patient_id", "thread", "thread_id", "conversation"),
    *("conversation_id", "dialogue_id", "document", "document_id", "doc_id", "doc", "article_id"),
    *("session", "session_id", "group", "group_id", "template", "topic_id", "video_id", "book"),
}


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that was read.

    `whole`: split → all columns with `_file` and `_line`. `parts`: split → the role columns, row
    for row the same. `origins`: split → the path or object. `roles`: role → its column.
    """

    whole: dict[str, pa.Table]
    parts: dict[str, pa.Table]
    origins: dict[str, Any]
    roles: dict[str, str]
    ledger: Ledger

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: len(table) for split, table in self.parts.items()}

    @property
    def has_labels(self) -> bool:
        """Whether there is a label column."""
        return "label" in self.roles

    @cached_property
    def table(self) -> pa.Table:
        """All rows of all splits, in the order of the splits: split, _file, _line, text, label."""
        names = ["_file", "_line", "text", *(["label"] if self.has_labels else [])]
        return pa.concat_tables(
            table.select(names)
            .set_column(0, "_file", pc.cast(table["_file"], pa.string()))
            .append_column("split", pa.array([split] * len(table), pa.string()))
            for split, table in self.parts.items()
        )

    @cached_property
    def texts(self) -> pa.ChunkedArray:
        """The texts of all rows, "" where there is none."""
        return pc.fill_null(self.table["text"], "")

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all rows without outer spaces, "" where there is none."""
        if not self.has_labels:
            return [""] * len(self.table)
        return [(value or "").strip() for value in self.table["label"].to_pylist()]

    @cached_property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Label → split → rows, the largest class first; rows without a label are not counted."""
        total = Counter(label for label in self.labels if label)
        by_split = Counter(zip(self.labels, self.table["split"].to_pylist(), strict=True))
        return {
            label: {split: by_split[label, split] for split in self.parts}
            for label in sorted(total, key=lambda label: (-total[label], label))
        }

    def listing(self, rows: Sequence[int] | np.ndarray, **columns: Sequence[Any]) -> pa.Table:
        """split, file, line, label, text (personal data hidden, cut to BRIEF) of some rows, and
        more columns."""
        part = self.table.take(pa.array(np.asarray(rows, np.int64)))
        texts = [mask(text or "") for text in part["text"].to_pylist()]
        return pa.table(
            {
                "split": part["split"],
                "file": part["_file"],
                "line": part["_line"],
                "label": part["label"] if self.has_labels else pa.nulls(len(part), pa.string()),
                "text": [t if len(t) <= BRIEF else t[: BRIEF - 1] + "…" for t in texts],
                **{name: list(values) for name, values in columns.items()},
            }
        )


def read_all(
    settings: Data,
    roles: Mapping[str, Sequence[str]],
    required: Collection[str],
    ledger: Ledger,
    source: Any = None,
    nested: AbstractSet[str] = frozenset(),
) -> Source:
    """Read every split with all of its columns; nothing is dropped. Raises `DataError`.

    A role that is not in `required` may be absent; a label, then, from every split. See
    `map_roles` for `nested`.
    """
    whole: dict[str, pa.Table] = {}
    parts: dict[str, pa.Table] = {}
    origins: dict[str, Any] = {}
    for name, origin, table in read_splits(settings, source, ledger):
        origins[name], whole[name] = origin, table
        parts[name] = map_roles(table, roles, settings.columns, required, nested, ledger)
    names = [set(table.column_names) & {"text", "label"} for table in parts.values()]
    for role in sorted(set.union(*names) - set.intersection(*names)):
        lacking = next(name for name, table in parts.items() if role not in table.column_names)
        raise DataError(
            f"{lacking} has no {role} column and another split has one; name it in all of them "
            f"alike, or with --data.columns.{role} NAME"
        )
    columns = [name for name in whole["train"].column_names if name not in OURS]
    return Source(whole, parts, origins, assign("", columns, roles, settings.columns), ledger)


def corrected(source: Source, path: str) -> Source:
    """The source with the labels that a person corrected, without the rows that are to go. Raises
    `DataError`; what was changed stands in the ledger."""
    numbered = {
        name: table.append_column("_row", pa.array(np.arange(len(table))))
        for name, table in source.parts.items()
    }
    parts = correct(numbered, "label", path, source.ledger)
    column = source.roles["label"]
    whole: dict[str, pa.Table] = {}
    for name, table in parts.items():
        rows = source.whole[name].take(table["_row"].combine_chunks())
        position = rows.column_names.index(column)
        whole[name] = rows.set_column(position, column, table["label"])
    parts = {name: table.drop_columns(["_row"]) for name, table in parts.items()}
    return replace(source, whole=whole, parts=parts)


def file_facts(source: Source, settings: Data) -> list[dict[str, Any]]:
    """Of each split: file, rows, bytes, format, encoding, delimiter (None where not known)."""
    rows: list[dict[str, Any]] = []
    for split, origin in source.origins.items():
        table = source.whole[split]
        size, kind = None, "object"
        path = Path(origin).expanduser() if isinstance(origin, str | os.PathLike) else None
        if path is not None and path.is_file():
            size, kind = path.stat().st_size, format_of(path, settings.encoding)
        elif path is not None:
            kind = "datasets folder"
        elif isinstance(origin, Files):
            size, kind = sum(part.stat().st_size for part in origin), counted(len(origin), "file")
        how = source.ledger.reading.get(table["_file"][0].as_py(), {})
        encoding, mark = how.get("encoding"), how.get("delimiter")
        delimiter = DELIMITER_NAMES.get(mark, mark) if mark else None
        rows.append({"split": split, "file": table["_file"][0].as_py(), "rows": len(table),
                     "bytes": size, "format": kind, "encoding": encoding,
                     "delimiter": delimiter})  # fmt: skip
    return rows


def column_facts(source: Source) -> list[dict[str, Any]]:
    """Of each column: type, role, distinct values, share that is empty, what is odd about it."""
    names = source.whole["train"].column_names
    by_column = {n: role for role, c in source.roles.items() for n in columns_in(c, names)}
    facts: list[dict[str, Any]] = []
    tables = list(source.whole.values())
    for name in dict.fromkeys(n for table in tables for n in table.column_names if n not in OURS):
        columns = [table[name] for table in tables if name in table.column_names]
        rows = sum(len(column) for column in columns)
        empty = sum(int(is_blank(column).sum()) for column in columns)
        distinct, kind = _count_distinct(columns), columns[0].type
        verdicts = {
            "empty": empty == rows,
            "constant": distinct == 1,
            "not text": pa.types.is_nested(kind) or pa.types.is_binary(kind),
            "every value is different": distinct == rows - empty and rows > 1,
        }
        verdict = next((words for words, holds in verdicts.items() if holds), "")
        facts.append({"column": name, "type": _type_words(kind), "role": by_column.get(name),
                      "rows": rows, "distinct": distinct, "empty": empty / max(rows, 1),
                      "verdict": verdict})  # fmt: skip
    return facts


def looks_like_group(column: Mapping[str, Any]) -> bool:
    """Whether a column, by its facts, says which rows belong together: named so, and repeated."""
    name = str(column["column"]).strip().lower()
    repeated = 1 < column["distinct"] <= 0.7 * column["rows"]
    return column["role"] is None and name in GROUP_NAMES and repeated


def _count_distinct(columns: list[pa.ChunkedArray]) -> int:
    """Distinct values without null; `pc.count_distinct` knows neither null nor dictionary types."""
    if any(pa.types.is_nested(column.type) for column in columns):
        return len({str(value) for column in columns for value in column.to_pylist()})
    values = [pc.unique(pc.drop_null(column)) for column in columns]
    if len(values) == 1:
        return len(values[0])
    return len({value for split in values for value in split.to_pylist()})


def _type_words(kind: pa.DataType) -> str:
    """The type as a person would call it."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    known = next((words for words, tests in TYPES.items() if any(t(kind) for t in tests)), None)
    return known or (str(kind) if len(str(kind)) <= 30 else str(kind)[:29] + "…")
