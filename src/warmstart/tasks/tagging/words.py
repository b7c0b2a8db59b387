"""The words of a text: the units that are tagged where a text was not given in tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

Place = tuple[int, int]
"""First character and the one after the last."""

ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces


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
    one, marks = rf"[^\W_{ALONE}]", rf"[{_marks()}]"
    between = rf"(?:['’.&_@-]|(?<=\d)[,:/](?=\d))(?={one})"
    return re.compile(
        rf"https?://\S*{one}|[{ALONE}]|{one}(?:{one}|{marks}|{between})*|\S", re.IGNORECASE
    )


@cache
def _parts() -> re.Pattern[str]:
    one = rf"[^\W_{ALONE}]"
    return re.compile(rf"[{ALONE}]|{one}(?:{one}|[{_marks()}])*|\S")


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
