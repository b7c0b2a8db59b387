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

from warmstart.data.readers.files import lines, suffix
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


def read_conll(path: Path, encoding: str, limit: int | None) -> pa.Table:
    """One row a sentence: the lists `tokens`, one for each other column, and `_line`, the line of
    the first word. The last column is `tags`, the others `column_2` and so on; in CoNLL-U they
    have their own names, and `upos` stands for the tags. Raises `DataError` with file and line.
    """
    numbered = enumerate(lines(path, encoding), 1)
    first = list(islice(numbered, 1))
    header = NAMES.match(first[0][1]) if first else None
    names = header.group(1).lower().split() if header else None
    if names is None and suffix(path) in (".conllu", ".conllup"):
        names = UNIVERSAL
    sentences = _sentences(path, chain(first, numbered), universal=names is not None)
    return objects_to_table(str(path), _rows(path, islice(sentences, limit), names))


def _sentences(
    path: Path, numbered: Iterator[tuple[int, str]], *, universal: bool
) -> Iterator[Sentence]:
    """Each line must have as many fields as the first."""
    first, rows, width, tabbed = 0, list[list[str]](), 0, False
    for number, line in chain(numbered, [(0, "")]):
        line = line.rstrip("\r\n")
        if len(line) > MAX_CELL:
            raise DataError(
                f"{path}:{number}: a line of more than {MAX_CELL:,} characters; write one word and "
                "its tags on each line"
            )
        if not line.strip() or line.startswith(BREAK):
            if rows:
                yield first, rows
            first, rows = 0, []
            continue
        tabbed = tabbed or (not width and "\t" in line)
        fields = line.split("\t") if tabbed else SPACES.split(line.strip())
        if line.startswith("#") and (universal or _is_comment(line, fields, bool(rows), width)):
            continue
        if len(fields) < 2:
            raise DataError(
                f"{path}:{number}: '{shown(line, 40)}' has no tag; write word and tag with a tab "
                "or a space between, and a blank line after each sentence"
            )
        if width and len(fields) != width:
            raise DataError(
                f"{path}:{number}: {counted(len(fields), 'column')}, and the first line has "
                f"{width}; mend or delete this line"
            )
        width = len(fields)
        first = first or number
        if not (universal and PART.fullmatch(fields[0])):
            rows.append(fields)


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
