"""CoNLL files: a word a line with its tags in columns, a blank line between sentences.

CoNLL-2003 and its like (Tjong Kim Sang and De Meulder 2003), CoNLL-U and CoNLL-U Plus
(universaldependencies.org/format), `.bio`, `.iob`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import BadRow, Ledger
from warmstart.data.readers.files import NOT_TEXT, lines, suffix
from warmstart.data.settings import Reading
from warmstart.data.tables import MAX_CELL, objects_to_table
from warmstart.errors import DataError, shown
from warmstart.formatting import counted

UNIVERSAL = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
BREAK = "-DOCSTART-"
NAMES = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
SPACES = re.compile(r"[ \t]+")
PART = re.compile(r"\d+[-.]\d+")
"""The number of a token that CoNLL-U splits, or of one that is not in the text."""


Sentence = tuple[int, list[list[str]]]
"""Its first line, and the fields of its words."""


def read_conll(path: Path, encoding: str, how: Reading, ledger: Ledger) -> pa.Table:
    """One row a sentence: the lists `tokens`, one for each other column, and `_line`, the line of
    the first word. The last column is `tags`, the others `column_2` and so on; in CoNLL-U they have
    their own names, and `upos` stands for the tags.

    Raises `DataError` with file and line; where `how.bad_rows` is "skip", a sentence with such a
    line goes to the ledger.
    """
    bad: list[BadRow] | None = [] if how.bad_rows == "skip" else None
    numbered = enumerate(lines(path, encoding, lenient=bad is not None), 1)
    first = list(islice(numbered, 1))
    header = NAMES.match(first[0][1]) if first else None
    names = header.group(1).lower().split() if header else None
    if names is None and suffix(path) in (".conllu", ".conllup"):
        names = UNIVERSAL
    sentences = _sentences(path, chain(first, numbered), bad, universal=names is not None)
    table = objects_to_table(str(path), _rows(path, islice(sentences, how.limit), names))
    ledger.bad(str(path), bad or ())
    return table


def _sentences(
    path: Path, numbered: Iterator[tuple[int, str]], bad: list[BadRow] | None, *, universal: bool
) -> Iterator[Sentence]:
    """Each line must have as many fields as the first; with `bad`, sentences that hold another are
    put there."""
    first, rows, width, tabbed = 0, list[list[str]](), 0, False
    broken: BadRow | None = None
    for number, line in chain(numbered, [(0, "")]):
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith(BREAK):
            if broken is not None and bad is not None:
                bad.append(broken)
            elif rows:
                yield first, rows
            first, rows, broken = 0, [], None
            continue
        tabbed = tabbed or (not width and "\t" in line)
        long = len(line) > MAX_CELL  # and is left whole
        fields = [line] if long else line.split("\t") if tabbed else SPACES.split(line.strip())
        if line.startswith("#") and (universal or _is_comment(line, fields, bool(rows), width)):
            continue
        if why := _fault(line, fields, width):
            if bad is None:
                raise DataError(f"{path}:{number}: {why}")
            broken = broken or (number, "a line that is no word and its tags", shown(line, 40))
            continue
        width = len(fields)
        first = first or number
        if not (universal and PART.fullmatch(fields[0])):
            rows.append(fields)


def _fault(line: str, fields: list[str], width: int) -> str:
    """What is wrong with the line of a word, and what to do; empty where nothing is."""
    if len(line) > MAX_CELL:
        return (
            f"a line of more than {MAX_CELL:,} characters; write one word and its tags on each line"
        )
    if len(fields) < 2:
        return (
            f"'{shown(line, 40)}' has no tag; write word and tag with a tab or a space between, "
            "and a blank line after each sentence"
        )
    if width and len(fields) != width:
        return (
            f"{counted(len(fields), 'column')}, and the first line has {width}; mend or delete "
            "this line, or leave such sentences out with --data.bad_rows skip"
        )
    return "bytes that are no text" if NOT_TEXT.search(line) else ""


def _is_comment(line: str, fields: list[str], inside: bool, width: int) -> bool:
    """`# text = …`, `# id 7` or `#begin document` before a sentence, and not the word #."""
    if line.startswith(("#begin document", "#end document")):
        return True
    if inside or line[1:2] not in (" ", "\t", "#"):
        return False
    return len(fields) != width or "=" in line


def _rows(
    path: Path, sentences: Iterator[Sentence], names: list[str] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, rows in sentences:
        columns = [list(column) for column in zip(*rows, strict=True)]
        if names is None:
            names = ["tokens", *(f"column_{i}" for i in range(2, len(columns))), "tags"]
        if len(names) != len(columns):
            raise DataError(
                f"{path}:{line}: {counted(len(columns), 'column')}, and their names are "
                f"{' '.join(names)}; write every column, with tabs between"
            )
        row = dict(zip(names, columns, strict=True))
        row.pop("id", None)
        yield line, {"tokens" if name == "form" else name: row[name] for name in row}
