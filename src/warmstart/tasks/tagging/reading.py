"""Rows of tokens and tags, or of texts and spans, in one form: words in a text, a tag for each.

The own form has the columns `text`, `words` (JSON: first character and the one after the last, of
each) and `tags` (JSON: IOB2 where they are entities), the last one only where there are targets;
`widened`, the number of spans that begin or end within a word, where there are any; and `mended`,
where tags do not follow their scheme (JSON: how many, the scheme, the first one).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.cells import parse_cell
from warmstart.data.ledger import place
from warmstart.errors import DataError, RowError, shown
from warmstart.formatting import counted
from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.base import Drop
from warmstart.tasks.results import column
from warmstart.tasks.tagging.schemes import NAMELESS, broken, strange, tags_of
from warmstart.tasks.tagging.words import (
    Cut,
    Place,
    characters_of,
    joined,
    parts_of,
    recut,
    unlike,
    words_of,
)

if TYPE_CHECKING:
    import pyarrow as pa


WIDENED, FEW = 0.05, 3
"""Share of the spans that may be widened to whole words, and a number that always may."""
ONE_WORD = 10  # rows of a single word each that are no texts
Marked = tuple[int, int, str]
"""First character, the one after the last, type."""
TYPE_KEYS = ("label", "type", "tag", "entity_group", "entity", "labels")
STARTS, ENDS = ("start", "start_offset", "start_char"), ("end", "end_offset", "end_char")
KEPT = ("_file", "_line", "_group")


def read_text(cell: Any, *, tagged: bool, close: bool = False) -> tuple[str, list[Place] | None]:
    """A text, and the places of its tokens where it came as tokens; `close` as in `joined`.

    A plain text that has tags is a text of tokens with spaces between. Raises `RowError`.
    """
    tokens = _listed(cell)
    if tokens is not None:
        placed = _placed(tokens)
        return placed or joined([_token(token) for token in tokens], close=close)
    text = "" if cell is None else str(cell)
    if not tagged:
        return text, None
    return text, [match.span() for match in re.finditer(r"\S+", text)]


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
    """One entity, {start, end, label} or a list of these three."""
    own_text = None
    if isinstance(entry, Mapping):
        own_text = entry.get("text")
        kind, start, end = (
            next((entry[key] for key in keys if entry.get(key) is not None), None)
            for keys in (TYPE_KEYS, STARTS, ENDS)
        )
        if isinstance(kind, list):  # as Label Studio has it
            if len(kind) != 1:
                raise RowError("a span with several labels, or none")
            kind = kind[0]
        entry = (start, end, kind)
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
        raise RowError("a span is no {start, end, label}")
    start, end, kind = entry
    if not (_whole(start) and _whole(end)) or kind in (None, ""):
        raise RowError("a span is no {start, end, label}")
    start, end = int(start), int(end)
    if not 0 <= start < end <= len(text):
        raise RowError("a span lies outside its text")
    if isinstance(own_text, str) and text[start:end] != own_text:
        raise RowError("a span's text is not what stands at its offsets")
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    if start >= end:
        raise RowError("a span holds nothing but whitespace")
    return start, end, str(kind)


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-").isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)


Row = tuple[str, list[Place], list[str] | None, int]
"""Text, words, their tags where there are some, and the spans that were widened to whole words."""


def own_form(
    table: pa.Table, drop: Drop, *, names: Sequence[str], pieces: str, plain: bool
) -> pa.Table:
    """The table in the task's own form. Raises `DataError` for tags that no scheme has, for texts
    of a word each, and where more than a few spans begin or end within a word.

    Args:
        names: of tags that are given as numbers.
        pieces: how a plain text is cut: "first" into words as `words_of` finds them, "characters",
            else into their parts.
        plain: tags are labels of single words, whatever they look like.
    """
    import pyarrow as pa

    cut = {"first": words_of, "characters": characters_of}.get(pieces, parts_of)
    cells = table.drop_columns([name for name in KEPT if name in table.column_names])
    if "tags" in cells.column_names and are_spans(cells["tags"].to_pylist()):
        others = [name for name in cells.column_names if name not in ("tags", "spans")]
        cells = cells.select(others).append_column("spans", cells["tags"])
    close = not plain and ("tags" not in cells.column_names or _marked(cells, names))
    rows: dict[int, Row] = {}
    for number, row in enumerate(cells.to_pylist()):
        try:
            rows[number] = _row(row, names, cut, close)
        except RowError as error:
            drop(number, str(error))
    others = [name for name in KEPT if name in table.column_names]
    rest = table.select(others).take(np.array(list(rows), np.int64))
    texts, words, tags, widened = zip(*rows.values(), strict=True) if rows else ((), (), (), ())
    tagged = bool({"tags", "spans"} & set(cells.column_names))
    unified, mended = [["O"] * len(row) for row in words], dict[int, str]()
    if tagged:
        _check_words(rest, words, [row or [] for row in tags], "tags" in cells.column_names)
        unified, mended = _unified(rest, [row or [] for row in tags], names, plain)
        if any(widened):
            _check_widened(rest, widened, unified)
    if close and not strange({tag for row in unified for tag in row}):
        pairs = zip(texts, words, unified, strict=True)
        words, unified = (
            zip(*(recut(*row, cut) for row in pairs), strict=True) if rows else ((), ())
        )
    columns = {"text": texts, "words": [json.dumps(row) for row in words]}
    if tagged:
        columns["tags"] = [json.dumps(row, ensure_ascii=False) for row in unified]
        if any(widened):
            columns["widened"] = [str(count or "") for count in widened]
        if mended:
            columns["mended"] = [mended.get(row, "") for row in range(len(rows))]
    arrays = {name: column(values, "string") for name, values in columns.items()}
    return pa.table({**arrays, **{name: rest[name] for name in others}})


def are_spans(cells: Sequence[Any]) -> bool:
    """Whether the first list in a column of tags that is not empty is one of spans, as doccano and
    Label Studio write them under `label` and `labels`."""
    for cell in cells:
        value = parse_cell(cell)
        if isinstance(value, list) and value:
            span = value[0]
            if isinstance(span, Mapping):
                return any(key in span for key in STARTS)
            return isinstance(span, list) and len(span) == 3 and _whole(span[0]) and _whole(span[1])
    return False


def _marked(cells: pa.Table, names: Sequence[str]) -> bool:
    """Whether tags are marked as those of entities are."""
    tags = (str(cell) for cell in cells["tags"].to_pylist())
    return any("B-" in cell or "I-" in cell for cell in (*names, *tags))


def _check_words(
    rows: pa.Table, words: Sequence[Sequence[Place]], tags: Sequence[Sequence[str]], own: bool
) -> None:
    """Raise `DataError` where every row is a single word with its tag."""
    if own and len(words) >= ONE_WORD and all(len(row) == 1 for row in tags):
        raise DataError(
            f"{rows['_file'][0].as_py()}: every row holds a single word, so that no sentence could "
            "be learned; say which words belong together: a column sentence_id, the same number in "
            "all words of a sentence, beside words and labels"
        )


def _check_widened(rows: pa.Table, widened: Sequence[int], tags: Sequence[Sequence[str]]) -> None:
    """Raise `DataError` where more than a few spans would be learned, and judged, wider than they
    are."""
    wide, spans = sum(widened), sum(len(spans_of_tags(row)) for row in tags)
    if wide <= max(FEW, WIDENED * spans):
        return
    first = next(number for number, count in enumerate(widened) if count)
    raise DataError(
        f"{rows['_file'][0].as_py()}: {wide:,} of {counted(spans, 'span')} ({wide / spans:.0%}) "
        f"begin or end within a word (first: {place(rows, first)}), and would be learned and "
        "judged as whole words; learn them as they are with --task.pieces characters, or mend "
        "their ends"
    )


def _row(cells: dict[str, Any], names: Sequence[str], cut: Cut, close: bool) -> Row:
    tags = None
    if cells.get("tags") is not None:
        tags = read_tags(cells["tags"], names)
        if cells.get("tokens") is not None:
            cells["text"] = cells["tokens"]
    text, words = read_text(cells["text"], tagged=tags is not None, close=close)
    if words is None:
        words = cut(text)
    if tags is not None:
        if len(tags) != len(words):
            raise RowError(f"{counted(len(words), 'token')} and {counted(len(tags), 'tag')}")
        return text, words, tags, 0
    if cells.get("spans") is None:
        if "tags" in cells or "spans" in cells:
            raise RowError("no tags")
        return text, words, None, 0
    placed, widened = list[tuple[int, int, str]](), 0
    for start, end, kind in read_spans(cells["spans"], text):
        first = next(i for i, word in enumerate(words) if word[1] > start)
        last = next(i for i in range(len(words) - 1, -1, -1) if words[i][0] < end)
        widened += words[first][0] != start or words[last][1] != end
        if placed and placed[-1][1] > first:
            raise RowError("two spans in one word")
        placed.append((first, last + 1, kind))
    return text, words, tags_of(placed, len(words), "iob2"), widened


def _unified(
    rows: pa.Table, tags: list[list[str]], names: Sequence[str], plain: bool
) -> tuple[list[list[str]], dict[int, str]]:
    """Each row's tags, those of entities in IOB2, whatever the scheme was; and of the rows whose
    tags do not follow it, how many, the scheme and the first one, in JSON."""
    every = {tag for row in tags for tag in row}
    if every and not names and all(tag.isdecimal() for tag in every):
        raise DataError(
            f"{rows['_file'][0].as_py()}: the tags are numbers; give their names in order, "
            "--task.names O,B-PER,I-PER"
        )
    if plain or not any(tag[:2] in ("B-", "I-") or tag in ("B", "I") for tag in every):
        return tags, {}
    if odd := strange(every):
        number = next(i for i, row in enumerate(tags) if odd[0] in row)
        raise DataError(
            f"{place(rows, number)}: tag '{shown(odd[0], 30)}' is neither O nor marked as B- "
            "or I- like the others; mend it, or, if these are labels of single words, give "
            "--task.entities no"
        )
    scheme, wrong = broken(tags)
    mended = {
        row: json.dumps([len(breaks), scheme, breaks[0]], ensure_ascii=False)
        for row, breaks in wrong.items()
    }
    spans = [[(a, b, kind or NAMELESS) for a, b, kind in spans_of_tags(row)] for row in tags]
    return [tags_of(own, len(row), "iob2") for own, row in zip(spans, tags, strict=True)], mended


def data_notes(train: pa.Table, *, entities: bool) -> list[str]:
    """What to say of spans that were widened to whole words, of tags that do not follow their
    scheme, and of words that a plain text would not be cut into."""
    marked: dict[str, dict[int, str]] = {}
    for name in ("widened", "mended"):
        cells = train[name].to_pylist() if name in train.column_names else []
        marked[name] = {row: cell for row, cell in enumerate(cells) if cell}
    notes: list[str] = []
    if spans := marked["widened"]:
        wide, every = (
            sum(map(int, spans.values())),
            sum(len(spans_of_tags(r)) for r in tags_in(train)),
        )
        notes.append(
            f"{counted(wide, 'span')} of train ({wide / every:.1%}) with an end within a word, "
            f"widened to whole words (first: {place(train, min(spans))}); where that is too wide, "
            "try --task.pieces parts, or characters"
        )
    if not entities and (others := unlike(train["text"].to_pylist(), words_in(train))):
        notes.append(
            f"words such as '{others[0]}' are labelled whole, and a plain text is cut into their "
            "characters; give texts as lists of words to predict, too"
        )
    if tags := [(row, *json.loads(cell)) for row, cell in marked["mended"].items()]:
        row, _, scheme, first = tags[0]
        notes.append(
            f"{sum(entry[1] for entry in tags):,} tags of train do not follow their scheme, "
            f"{scheme} (first: {place(train, row)}, {first}); what cannot go on begins an entity "
            "of its own, and what is not closed ends with its tags"
        )
    return notes


def words_in(table: pa.Table) -> list[list[Place]]:
    """The words of each row."""
    return [[(a, b) for a, b in json.loads(row)] for row in table["words"].to_pylist()]


def tags_in(table: pa.Table) -> list[list[str]]:
    """The tags of each row."""
    return [json.loads(row) for row in table["tags"].to_pylist()]


def distinct_tags(table: pa.Table) -> set[str]:
    """The tags that the rows have."""
    return {tag for row in tags_in(table) for tag in row}
