"""Rows of tokens and tags, or of texts and spans, in one form: words in a text, a tag for each.

The own form has the columns `text`, `words` (JSON: first character and the one after the last, of
each) and `tags` (JSON: IOB2 where they are entities), the last one only where there are targets;
`widened`, the number of spans that begin or end within a word, where there are any; and `mended`,
where tags do not follow their scheme (JSON: how many, the scheme, the first one).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from warmstart.data.ledger import place
from warmstart.errors import DataError, RowError, shown
from warmstart.formatting import counted
from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.base import Drop, parse_cell
from warmstart.tasks.tagging.schemes import NAMELESS, broken, strange, tags_of

if TYPE_CHECKING:
    import pyarrow as pa


Place = tuple[int, int]
"""First character and the one after the last."""

ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces
Marked = tuple[int, int, str]
"""First character, the one after the last, type."""
TYPE_KEYS = ("label", "type", "tag", "entity_group", "entity")
KEPT = ("_file", "_line", "_group")


def read_text(cell: Any, *, tagged: bool) -> tuple[str, list[Place] | None]:
    """A text, and the places of its tokens where it came as tokens.

    A plain text that has tags is a text of tokens with spaces between. Raises `RowError`.
    """
    tokens = _listed(cell)
    if tokens is not None:
        placed = _placed(tokens)
        return placed or joined([_token(token) for token in tokens])
    text = "" if cell is None else str(cell)
    if not tagged:
        return text, None
    places: list[Place] = []
    for word in text.split():
        start = text.index(word, places[-1][1] if places else 0)
        places.append((start, start + len(word)))
    return text, places


def read_tags(cell: Any, names: Sequence[str]) -> list[str]:
    """The tags of one text; `names` are those of tags that are given as numbers.

    Raises `RowError`.
    """
    tags = _listed(cell)
    if tags is None:
        tags = str(cell or "").split()
    return [_tag(tag, names) for tag in tags]


def read_spans(cell: Any, text: str) -> list[Marked]:
    """The entities of one text in order, whitespace at their ends left out.

    Raises `RowError` for one that is no span, lies outside the text, is not what it says, or
    overlaps another.
    """
    value = parse_cell(cell)
    if isinstance(value, Mapping) and "entities" in value:
        value = value["entities"]
    if value is None or value == "":
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowError(f"spans '{shown(value, 30)}' are no list of {{start, end, label}}")
    spans = sorted({_span(entry, text) for entry in value})
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise RowError("overlapping spans")
    return spans


def _listed(cell: Any) -> Sequence[Any] | None:
    """The items of a list, or of a string that is written as one; None for anything else."""
    if cell is None or isinstance(cell, str):
        value = parse_cell(cell)
        cell = None if isinstance(value, str | Mapping) else value
    if not isinstance(cell, Sequence):
        return None
    simple = all(isinstance(item, str | int | Mapping) for item in cell)
    return cell if simple or None in cell else None


def _placed(tokens: Sequence[Any]) -> tuple[str, list[Place]] | None:
    """Tokens that say where they stand, {text, start}, as a text; None for all others."""
    if not tokens or not all(isinstance(t, Mapping) and _whole(t.get("start")) for t in tokens):
        return None
    text, places = "", list[Place]()
    for token in tokens:
        text = text.ljust(int(token["start"]))
        if len(text) > int(token["start"]):
            raise RowError("overlapping tokens")
        places.append((len(text), len(text) + len(_token(token))))
        text += _token(token)
    return text, places


def _token(token: Any) -> str:
    if isinstance(token, Mapping):
        token = token.get("text")
    if token is None:
        raise RowError("a token is missing")
    return str(token)


def _tag(tag: Any, names: Sequence[str]) -> str:
    if tag is None:
        raise RowError("a tag is missing")
    number = tag if isinstance(tag, int) else None
    if number is None and names and str(tag).isdecimal():
        number = int(tag)
    if number is None or not names:
        return str(tag)
    if not 0 <= number < len(names):
        raise RowError(f"tag {number} has no name: task.names has {len(names)}")
    return names[number]


def _span(entry: Any, text: str) -> Marked:
    start, end, kind, own_text = _span_parts(entry)
    if not 0 <= start < end <= len(text):
        raise RowError("a span lies outside its text")
    if own_text is not None and text[start:end] != own_text:
        raise RowError("a span's text is not what stands at its offsets")
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    if start >= end:
        raise RowError("a span holds nothing but whitespace")
    return start, end, kind


def _span_parts(entry: Any) -> tuple[int, int, str, str | None]:
    """Start, end, type and, where it is there, text."""
    text = None
    if isinstance(entry, Mapping):
        text = entry.get("text")
        kind = next((entry[key] for key in TYPE_KEYS if entry.get(key)), None)
        entry = (entry.get("start"), entry.get("end"), kind)
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
        raise RowError("a span is no {start, end, label}")
    start, end, kind = entry
    if not (_whole(start) and _whole(end)) or kind in (None, ""):
        raise RowError("a span is no {start, end, label}")
    return int(start), int(end), str(kind), text if isinstance(text, str) else None


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-").isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)


@dataclass
class Reader:
    """How the rows of one table are read.

    Args:
        names: of tags that are given as numbers.
        whole_words: a plain text is tagged by words as `words_of` finds them, else by their parts.
        plain: tags are labels of single words, whatever they look like.
    """

    names: Sequence[str]
    whole_words: bool
    plain: bool
    widened: Counter[int] = field(default_factory=Counter[int])
    """Row → its spans that begin or end within a word."""
    mended: dict[int, str] = field(default_factory=dict[int, str])
    """Row that is kept → its tags that do not follow their scheme, in JSON."""

    def own_form(self, table: pa.Table, drop: Drop) -> pa.Table:
        """The table in the task's own form. Raises `DataError` for tags that no scheme has."""
        import pyarrow as pa

        columns = {name: table[name].to_pylist() for name in table.column_names
                   if name not in KEPT}  # fmt: skip
        rows: list[tuple[str, list[Place], list[str] | None]] = []
        kept: list[int] = []
        for number in range(len(table)):
            cells = {name: values[number] for name, values in columns.items()}
            try:
                rows.append(self._row(cells, number))
                kept.append(number)
            except RowError as error:
                drop(number, str(error))
        others = [name for name in KEPT if name in table.column_names]
        rest = table.select(others).take(pa.array(kept, pa.int64()))
        made = {"text": [row[0] for row in rows], "words": [json.dumps(row[1]) for row in rows]}
        if "tags" in columns or "spans" in columns:
            made["tags"] = self._tags(rest, [row[2] or [] for row in rows])
        if any(self.widened[row] for row in kept):
            made["widened"] = [str(self.widened[row] or "") for row in kept]
        if self.mended:
            made["mended"] = [self.mended.get(row, "") for row in range(len(kept))]
        arrays = {name: pa.chunked_array([pa.array(v, pa.string())]) for name, v in made.items()}
        return pa.table({**arrays, **{name: rest[name] for name in others}})

    def _row(self, cells: dict[str, Any], number: int) -> tuple[str, list[Place], list[str] | None]:
        tags = None
        if cells.get("tags") is not None:
            tags = read_tags(cells["tags"], self.names)
            if cells.get("tokens") is not None:
                cells["text"] = cells["tokens"]
        text, words = read_text(cells["text"], tagged=tags is not None)
        if words is None:
            words = words_of(text) if self.whole_words else parts_of(text, (0, len(text)))
        if tags is not None:
            if len(tags) != len(words):
                raise RowError(f"{counted(len(words), 'token')} and {counted(len(tags), 'tag')}")
            return text, words, tags
        if "spans" in cells and cells["spans"] is not None:
            return text, words, self._tags_of_spans(read_spans(cells["spans"], text), words, number)
        if "tags" in cells or "spans" in cells:
            raise RowError("no tags")
        return text, words, None

    def _tags_of_spans(self, spans: list[Marked], words: list[Place], number: int) -> list[str]:
        placed: list[tuple[int, int, str]] = []
        for start, end, kind in spans:
            first = next(i for i, word in enumerate(words) if word[1] > start)
            last = next(i for i in range(len(words) - 1, -1, -1) if words[i][0] < end)
            if words[first][0] != start or words[last][1] != end:
                self.widened[number] += 1
            if placed and placed[-1][1] > first:
                raise RowError("two spans in one word")
            placed.append((first, last + 1, kind))
        return tags_of(placed, len(words), "iob2")

    def _tags(self, rows: pa.Table, tags: list[list[str]]) -> list[str]:
        """JSON of each row's tags: those of entities in IOB2, whatever the scheme was."""
        every = {tag for row in tags for tag in row}
        if every and not self.names and all(tag.isdecimal() for tag in every):
            raise DataError(
                f"{rows['_file'][0].as_py()}: the tags are numbers; give their names in order, "
                "--task.names O,B-PER,I-PER"
            )
        if self.plain or not any(tag[:2] in ("B-", "I-") or tag in ("B", "I") for tag in every):
            return [json.dumps(row, ensure_ascii=False) for row in tags]
        if odd := strange(every):
            number = next(i for i, row in enumerate(tags) if odd[0] in row)
            raise DataError(
                f"{place(rows, number)}: tag '{shown(odd[0], 30)}' is neither O nor marked as B- "
                "or I- like the others; mend it, or, if these are labels of single words, give "
                "--task.entities no"
            )
        scheme, wrong = broken(tags)
        for row, breaks in wrong.items():
            self.mended[row] = json.dumps([len(breaks), scheme, breaks[0]], ensure_ascii=False)
        return [json.dumps(self._iob2(row), ensure_ascii=False) for row in tags]

    def _iob2(self, tags: list[str]) -> list[str]:
        spans = [(a, b, kind or NAMELESS) for a, b, kind in spans_of_tags(tags)]
        return tags_of(spans, len(tags), "iob2")


def widened_note(train: pa.Table) -> list[str]:
    """What to say of spans that were widened to whole words."""
    if "widened" not in train.column_names:
        return []
    rows = [row for row, count in enumerate(train["widened"].to_pylist()) if count]
    if not rows:
        return []
    spans = sum(int(train["widened"][row].as_py()) for row in rows)
    return [
        f"{counted(spans, 'span')} of train with an end within a word, widened to whole words "
        f"(first: {place(train, rows[0])}); where that is too wide, try --task.pieces parts"
    ]


def mended_note(train: pa.Table) -> list[str]:
    """What to say of tags that do not follow their scheme."""
    if "mended" not in train.column_names:
        return []
    cells = train["mended"].to_pylist()
    rows = [row for row, cell in enumerate(cells) if cell]
    if not rows:
        return []
    count = sum(json.loads(cells[row])[0] for row in rows)
    _, scheme, first = json.loads(cells[rows[0]])
    return [
        f"{count:,} tags of train do not follow their scheme, {scheme} (first: "
        f"{place(train, rows[0])}, {first}); what cannot go on begins an entity of its own, and "
        "what is not closed ends with its tags"
    ]


def words_in(table: pa.Table) -> list[list[Place]]:
    """The words of each row."""
    return [[(a, b) for a, b in json.loads(row)] for row in table["words"].to_pylist()]


def tags_in(table: pa.Table) -> list[list[str]]:
    """The tags of each row."""
    return [json.loads(row) for row in table["tags"].to_pylist()]


def words_of(text: str) -> list[Place]:
    """Runs of letters and digits, and every other visible character by itself.

    One hyphen, apostrophe or the like between letters belongs to the word, as in `don't`, `x-ray`
    and `U.S`; Han characters and kana are words by themselves.
    """
    return [match.span() for match in _words().finditer(text)]


def parts_of(text: str, place: Place) -> list[Place]:
    """The runs of letters and digits in one word, and its other characters: `x-ray` has three."""
    return [match.span() for match in _parts().finditer(text, *place)]


def joined(tokens: Sequence[str]) -> tuple[str, list[Place]]:
    """Given tokens as one text, a space between them, and their places in it."""
    places: list[Place] = []
    at = 0
    for token in tokens:
        places.append((at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), places


@cache
def _words() -> re.Pattern[str]:
    letter, marks = rf"[^\W_{ALONE}]", rf"[{_marks()}]"
    between = rf"(?:['’.&_@-]|(?<=\d)[,:/](?=\d))(?={letter})"
    word = rf"{letter}(?:{letter}|{marks}|{between})*"
    return re.compile(rf"https?://\S*{letter}|[{ALONE}]|{word}|\S", re.IGNORECASE)


@cache
def _parts() -> re.Pattern[str]:
    letter = rf"[^\W_{ALONE}]"
    return re.compile(rf"[{ALONE}]|{letter}(?:{letter}|[{_marks()}])*|\S")


@cache
def _marks() -> str:
    """Combining marks, which `re` does not count among the letters, as ranges of a class."""
    codes = [code for code in range(0x300, 0x11000) if unicodedata.category(chr(code))[0] == "M"]
    codes += [0x200C, 0x200D]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
