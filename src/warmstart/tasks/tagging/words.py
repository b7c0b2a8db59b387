"""Where words begin and end: how a plain text is cut, and given words brought to the same cuts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

from warmstart.tasks.tagging.schemes import renewed

Place = tuple[int, int]
"""First character and the one after the last."""
Cut = Callable[..., list[Place]]
"""(text, place in it or the whole) → words."""
ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Kana, Han, Thai, Lao, Burmese and Khmer: written without spaces, so each character is a word."""


def words_of(text: str, place: Place | None = None) -> list[Place]:
    """Runs of letters and digits, and every other visible character by itself.

    One hyphen, apostrophe or the like between letters belongs to the word, as in `don't`, `x-ray`
    and `U.S`; characters of scripts without spaces (Han, kana, Thai) are words by themselves.
    """
    return [match.span() for match in _words().finditer(text, *place or (0, len(text)))]


def parts_of(text: str, place: Place | None = None) -> list[Place]:
    """The runs of letters and digits in one word, and its other characters: `x-ray` has three."""
    return [match.span() for match in _parts().finditer(text, *place or (0, len(text)))]


def characters_of(text: str, place: Place | None = None) -> list[Place]:
    """Every visible character, with the marks that combine with it."""
    return [match.span() for match in _characters().finditer(text, *place or (0, len(text)))]


def joined(tokens: Sequence[str], *, close: bool = False) -> tuple[str, list[Place]]:
    """Given tokens as one text, and their places in it: with a space between, or, where they are
    to be `close`, with none between characters of scripts without spaces."""
    places, pieces, at = list[Place](), list[str](), 0
    for before, token in pairwise(["", *tokens]):
        near = close and _alone().match(before[-1:]) and _alone().match(token)
        if places and not near:
            pieces.append(" ")
            at += 1
        places.append((at, at + len(token)))
        pieces.append(token)
        at += len(token)
    return "".join(pieces), places


def recut(
    text: str, words: Sequence[Place], tags: Sequence[str], cut: Cut
) -> tuple[list[Place], list[str]]:
    """Words and tags of entities with each word cut as a plain text will be, where it is of a
    script without spaces or cut into characters: 北京 is tagged as 北 and 京."""
    again: list[tuple[Place, str]] = []
    for own, tag in zip(words, tags, strict=True):
        within = text[slice(*own)]
        parts = cut(text, own) if cut is characters_of or _alone().search(within) else [own]
        again += [(part, renewed(tag) if n else tag) for n, part in enumerate(parts or [own])]
    return [part for part, _ in again], [tag for _, tag in again]


def unlike(texts: Sequence[str], words: Sequence[Sequence[Place]]) -> list[str]:
    """Words of scripts without spaces that are longer than what a plain text is cut into."""
    every = (text[a:b] for text, row in zip(texts, words, strict=True) for a, b in row)
    return [word for word in every if _alone().search(word) and len(words_of(word)) > 1]


@cache
def _alone() -> re.Pattern[str]:
    return re.compile(rf"[{ALONE}]")


@cache
def _characters() -> re.Pattern[str]:
    return re.compile(rf"\S[{_marks()}]*")


@cache
def _words() -> re.Pattern[str]:
    letter, marks = rf"[^\W_{ALONE}]", rf"[{_marks()}]"
    between = rf"(?:['’.&_@-]|(?<=\d)[,:/](?=\d))(?={letter})"
    word = rf"{letter}(?:{letter}|{marks}|{between})*"
    alone = rf"[{ALONE}]{marks}*"
    return re.compile(rf"https?://\S*{letter}|{alone}|{word}|\S", re.IGNORECASE)


@cache
def _parts() -> re.Pattern[str]:
    letter = rf"[^\W_{ALONE}]"
    return re.compile(rf"[{ALONE}][{_marks()}]*|{letter}(?:{letter}|[{_marks()}])*|\S")


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
