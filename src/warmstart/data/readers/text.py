"""Plain text files: a text on each line."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.readers.csv import CANDIDATES, even_share
from warmstart.data.readers.files import detect, is_conll, lines, open_bytes, suffix
from warmstart.data.tables import MAX_CELL, with_file
from warmstart.errors import DataError, RecipeError

PLAIN = (".txt", ".md")
NAME = re.compile(r"""["']?[\w.-]+["']?""")
MOST, NEARLY_ALL = 0.5, 0.9


def is_plain(path: Path) -> bool:
    """Whether the file is plain text by its name, and not of words with tags."""
    if suffix(path) not in PLAIN or not path.is_file():
        return False
    with open_bytes(path) as stream:
        return not is_conll(stream.read(8192))


def lines_of(
    path: Path, named: str | None = None, limit: int | None = None, *, every: bool = False
) -> pa.Table:
    """The lines that hold something, without space at their ends, as `text`, `_file` and `_line`.

    Args:
        named: the encoding, where it is known.
        every: each line as it stands, blank ones too, so that answers line up with the file.

    Raises `DataError` for what is no text.
    """
    texts = [
        line.rstrip("\r\n") if every else line.strip() for line in lines(path, detect(path, named))
    ]
    if not any(text.strip() for text in texts):
        raise DataError(f"{path} has no lines of text")
    numbers = [number for number, text in enumerate(texts, 1) if every or text][:limit]
    columns = {"text": [texts[number - 1] for number in numbers], "_line": numbers}
    return with_file(pa.table(columns), str(path))


def has_header(path: Path, names: Collection[str], named: str | None = None) -> bool:
    """Whether the first line names one of these columns, so that the file is a table.

    A sentence may begin with such a word and a comma, so the lines below must bear it out: most of
    them where the first line has nothing but names, as `id,text`, else nearly all.
    """
    encoding = detect(path, named)
    first = next(iter(lines(path, encoding)), "").rstrip("\r\n")
    return any(_is_header(path, first, mark, names, encoding) for mark in CANDIDATES)


def _is_header(path: Path, first: str, mark: str, names: Collection[str], encoding: str) -> bool:
    cells = first.split(mark)
    if not {cell.strip(" \"'").lower() for cell in cells} & {name.lower() for name in names}:
        return False
    if len(cells) == 1:
        return True
    bare = all(NAME.fullmatch(cell) for cell in cells)
    share = even_share(path, encoding, mark)
    return bare if share is None else share >= (MOST if bare else NEARLY_ALL)


LABEL = "__label__"


def is_fasttext(path: Path, encoding: str) -> bool:
    """Whether the first line that holds something begins as fastText writes labels."""
    return next(filter(str.strip, lines(path, encoding, lenient=True)), "").startswith(LABEL)


def read_fasttext(path: Path, encoding: str, limit: int | None) -> pa.Table:
    """Lines such as `__label__food __label__hot the text` (Joulin et al. 2016) as `text` and
    `label`, or as `labels`, a list, where a line has several or none."""
    numbers: list[int] = []
    texts: list[str] = []
    labels: list[list[str]] = []
    for number, line in enumerate(lines(path, encoding), 1):
        words = line.split()
        if not words:
            continue
        n = next((i for i, word in enumerate(words) if not word.startswith(LABEL)), len(words))
        numbers.append(number)
        labels.append([word.removeprefix(LABEL) for word in words[:n]])
        texts.append(" ".join(words[n:]))
        if limit is not None and len(texts) == limit:
            break
    single = all(len(own) == 1 for own in labels)
    answers = pa.array([own[0] for own in labels]) if single else pa.array(labels)
    return pa.table({"text": texts, "label" if single else "labels": answers, "_line": numbers})


def stdin_lines() -> Iterator[str]:
    """The lines of stdin as UTF-8, without their ends. Raises `RecipeError` where it is closed,
    and `DataError` at the first line that is not text."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise RecipeError("there is no stdin to read texts from; give a text or a file")
    return _lines()


def stdin_documents() -> Iterator[Any]:
    """The lines of stdin, each a document or a JSON object with one."""
    for line in stdin_lines():
        if line.lstrip().startswith("{"):
            with contextlib.suppress(ValueError):
                yield json.loads(line)
                continue
        yield line


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        print("reading texts, one a line; Ctrl-D ends", file=sys.stderr)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportAttributeAccessIssue]
    for number, line in enumerate(iter(lambda: sys.stdin.readline(MAX_CELL + 1), ""), 1):
        place = f"stdin:{number}"
        if len(line) > MAX_CELL:
            raise DataError(
                f"{place}: a line of more than {MAX_CELL:,} characters; shorten the text, or write "
                "texts that hold line breaks to a file (CSV, JSONL) and give that"
            )
        if "\0" in line:
            raise DataError(f"{place}: NUL byte, so this is not text; delete it (tr -d '\\000')")
        if re.search("[\ud800-\udfff]", line):  # what no UTF-8 was
            raise DataError(
                f"{place}: bytes that are not UTF-8; turn the lines into UTF-8 first, as by "
                "iconv -f cp1252 -t utf-8, or write them to a file and give that"
            )
        yield (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\r\n")
