"""The lines of stdin, as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from warmstart.errors import DataError, RecipeError


def stdin_lines() -> Iterator[str]:
    """The lines of stdin as UTF-8, without their ends. Raises `RecipeError` where it is closed,
    and `DataError` at the first line that is not text."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise RecipeError("there is no stdin to read texts from; give a text or a file")
    return _lines()


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        print("reading texts, one a line; Ctrl-D ends", file=sys.stderr)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportAttributeAccessIssue]
    for number, line in enumerate(sys.stdin, 1):
        _check(line, number)
        yield (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\r\n")


def _check(line: str, number: int) -> None:
    """Raise `DataError` unless the line is text."""
    if "\0" in line:
        raise DataError(f"stdin:{number}: NUL byte, so this is not text; delete it (tr -d '\\000')")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"stdin:{number}: bytes that are not UTF-8; turn the lines into UTF-8 first, as by "
            "iconv -f cp1252 -t utf-8, or write them to a file and give that"
        ) from None
