"""The account of every row and every token: read, kept, dropped and cut, with reason and line."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import DataError
from warmstart.files import write_atomically, write_json
from warmstart.formatting import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


BadRow = tuple[int, str, str]
"""Line, reason and detail of a row that cannot be read."""


def place(table: pa.Table, row: int) -> str:
    """Where a row comes from: file:line."""
    return f"{table['_file'][row].as_py()}:{table['_line'][row].as_py()}"


class Ledger:
    """Accounts for rows and tokens; some 30 bytes an event, whatever the size of the data."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._refused = 0
        self._dropped: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._tokens: dict[str, dict[str, int]] = {}
        self._notes: list[dict[str, Any]] = []
        self.reading: dict[str, dict[str, Any]] = {}
        """File → how it was read: encoding, delimiter, quoting, columns, columns left unused."""
        self.bad_rows: list[tuple[str, int, str, str]] = []
        """File, line, reason and detail of rows that could not be read."""
        self._names: dict[str, int] = {}  # files, events and reasons, each once, and its number
        self._file, self._event, self._reason = array("I"), array("I"), array("I")
        self._line, self._cut = array("q"), array("q")
        self._detail: list[str] = []

    def read(self, file: str, n: int) -> None:
        """Count `n` rows as read from `file`."""
        self._read[file] += n

    def describe(self, file: str, **facts: Any) -> None:
        """Remember how a file was read, json-able."""
        self.reading.setdefault(file, {}).update(facts)

    def put_aside(self, file: str, n: int) -> None:
        """Count `n` rows of `file` as not read after all; a note says why."""
        self._read[file] -= n

    def bad(self, file: str, rows: Iterable[BadRow]) -> None:
        """Rows of a file that could not be read, and are left out."""
        for line, reason, detail in rows:
            self.bad_rows.append((file, line, reason, detail))
            self._read[file] += 1
            self.drop(file, line, reason, detail)

    def keep(self, split: str, n: int) -> None:
        """Count `n` rows as kept in `split`."""
        self._kept[split] += n

    def drop(
        self, file: str, line: int, reason: str, detail: str = "", split: str | None = None
    ) -> None:
        """One row is lost. With `split` it had been counted as kept there and is taken back."""
        self._dropped[reason] += 1
        self._first.setdefault(reason, f"{file}:{line}")
        if split is not None:
            self._kept[split] -= 1
        self._add(file, line, "drop", reason, 0, detail)

    def refuse(self, file: str, line: int, reason: str) -> None:
        """One row is left out because a person said so; `check` does not count it as lost."""
        self._refused += 1
        self.drop(file, line, reason)

    def drop_rows(
        self, table: pa.Table, rows: np.ndarray, reason: str, split: str | None = None
    ) -> None:
        """The rows that are marked [n] are lost; `split` as in `drop`."""
        lost = table.select(["_file", "_line"]).filter(rows)
        for file, line in zip(lost["_file"].to_pylist(), lost["_line"].to_pylist(), strict=True):
            self.drop(file, line, reason, split=split)

    def cut(self, file: str, line: int, tokens: int) -> None:
        """One row lost `tokens` tokens to the length limit."""
        self._add(file, line, "cut", "too long", tokens, "")

    def tokens(self, split: str, total: int, cut: int) -> None:
        """Count the tokens of a split: `total` before cutting, `cut` of them taken away."""
        before = self._tokens.get(split, {"total": 0, "cut": 0, "kept": 0})
        total, cut = before["total"] + total, before["cut"] + cut
        self._tokens[split] = {"total": total, "cut": cut, "kept": total - cut}

    def note(self, kind: str, message: str, *, loud: bool = False, **facts: Any) -> None:
        """Remember something worth telling, with json-able facts; `loud`: on the screen at once."""
        self._notes.append({"kind": kind, "message": message, **facts})
        if loud:
            self._notes[-1]["loud"] = True

    @property
    def dropped(self) -> int:
        """How many rows are lost so far."""
        return self._dropped.total()

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What was noted so far, in order."""
        return list(self._notes)

    @property
    def warnings(self) -> list[str]:
        """What belongs on the screen: loud notes, and rows that were left out."""
        lost = [
            f"{counted(count, 'row is', 'rows are')} left out: {reason} (first: "
            f"{self._first[reason]})"
            for reason, count in self._dropped.most_common()
        ]
        return [*self.loud, *lost]

    @property
    def loud(self) -> list[str]:
        """The loud notes."""
        return [note["message"] for note in self._notes if note.get("loud")]

    @property
    def first_remarks(self) -> list[str]:
        """What a person should know before training: how the data were read, and loud notes."""
        columns = self.columns
        return [*columns, *(text for text in self.loud if text not in columns)]

    @property
    def columns(self) -> list[str]:
        """How each file was read, and which of its columns."""
        return [note["message"] for note in self._notes if note["kind"] == "columns"]

    def check(self, max_dropped: float) -> None:
        """Stop when a larger share of the rows than `max_dropped` is lost; raises DataError."""
        refused = self._refused
        read, dropped = self._read.total() - refused, self._dropped.total() - refused
        if dropped <= max_dropped * read:
            return
        reason, count = self._dropped.most_common(1)[0]
        needed = -(-dropped * 100 // max(read, 1)) / 100
        raise DataError(
            f"{dropped:,} of {counted(read)} would be lost ({dropped / max(read, 1):.1%}, allowed "
            f"are {max_dropped:.1%}); main reason: {reason} ({counted(count)}, first "
            f"{self._first[reason]}). Mend these rows, or allow it with "
            f"--data.max_dropped {needed:g}"
        )

    def nothing_left(self, file: str) -> DataError:
        """What to say of a file all of whose rows are dropped: the reasons, the commonest first."""
        lines_of: dict[str, list[int]] = {}
        words = list(self._names)
        for name, reason, line in zip(self._file, self._reason, self._line, strict=True):
            if words[name] == file:
                lines_of.setdefault(words[reason], []).append(line)
        reasons = [
            f"{reason} ({counted(len(lines))}, first {file}:{lines[0]})"
            for reason, lines in sorted(lines_of.items(), key=lambda item: -len(item[1]))
        ]
        count = sum(map(len, lines_of.values()))
        return DataError(
            f"{file}: {'its only row was' if count == 1 else f'all {count:,} rows were'} left out: "
            f"{'; '.join(reasons)}. Mend these rows, or "
            "name other columns with --data.columns.ROLE NAME"
        )

    def summary(self) -> dict[str, Any]:
        """Everything but the single events, json-able. Raises RuntimeError if it does not add up:
        every row read must be kept or dropped (so call it once the splits are made)."""
        read, kept, dropped = self._read.total(), self._kept.total(), self._dropped.total()
        if read != kept + dropped:
            raise RuntimeError(f"ledger: {read} rows read, {kept} kept and {dropped} dropped")
        return {
            "rows": {"read": read, "kept": kept, "dropped": dropped},
            "files": dict(self._read),
            "reading": dict(self.reading),
            "splits": dict(self._kept),
            "dropped": {
                reason: {"rows": count, "first": self._first[reason]}
                for reason, count in self._dropped.most_common()
            },
            "tokens": {split: dict(counts) for split, counts in self._tokens.items()},
            "notes": self.notes,
        }

    def write(self, folder: Path) -> None:
        """Write `ledger.json` and `ledger.parquet` (one row per drop or cut), each atomically."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        summary = self.summary()
        words = pa.array(list(self._names), pa.string())

        def coded(codes: array[int]) -> Any:
            return words.take(pa.array(codes, pa.uint32())).dictionary_encode()

        table = pa.table(
            {
                "file": coded(self._file),
                "line": pa.array(self._line, pa.int64()),
                "event": coded(self._event),
                "reason": coded(self._reason),
                "tokens": pa.array(self._cut, pa.int64()),
                "detail": pa.array(self._detail, pa.string()),
            }
        )
        folder = Path(folder)
        with write_atomically(folder / "ledger.parquet") as path:
            pq.write_table(table, path)
        write_json(folder / "ledger.json", summary)

    def _add(self, file: str, line: int, event: str, reason: str, cut: int, detail: str) -> None:
        for codes, name in ((self._file, file), (self._event, event), (self._reason, reason)):
            codes.append(self._names.setdefault(name, len(self._names)))
        self._line.append(line)
        self._cut.append(cut)
        self._detail.append(detail)
