"""One text under a tokenizer: its pieces, their ids, and the place in the text they stand for."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warmstart.tokenizer.opening import Opened


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a text. `text[start:end]` is what it stands for; special ones for nothing."""

    piece: str
    id: int
    start: int
    end: int
    text: str
    unknown: bool
    special: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A text under one tokenizer."""

    tokenizer: str
    kind: str
    vocabulary: int
    pieces: list[Piece]
    lost: list[str]
    """Characters that stand in no piece, but for white space and marks."""

    @property
    def unknown(self) -> int:
        """Pieces that say no more than that something was there."""
        return sum(piece.unknown for piece in self.pieces)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tokens = sum(not piece.special for piece in self.pieces)
        return asdict(self) | {"tokens": tokens, "unknown": self.unknown}


def look(text: str, tokenizer: Opened) -> Look:
    """The pieces of a text. A piece that is unknown because the text spells out the unknown token
    is marked as special, not as unknown."""
    encoding = tokenizer.backend.encode(text)
    covered = bytearray(len(text))
    pieces: list[Piece] = []
    for piece, number, (start, end) in zip(
        encoding.tokens, encoding.ids, encoding.offsets, strict=True
    ):
        covered[start:end] = b"\1" * (end - start)
        said = tokenizer.backend.id_to_token(number)
        spelled = text[start:end] == said and number in tokenizer.specials
        special = spelled or (number in tokenizer.specials and number != tokenizer.unknown)
        unknown = number == tokenizer.unknown and not spelled
        pieces.append(Piece(piece, number, start, end, text[start:end], unknown, special))
    return Look(tokenizer.name, tokenizer.kind, tokenizer.size, pieces, _lost(text, covered))


def _lost(text: str, covered: bytearray) -> list[str]:
    """What stands in no piece, but for spaces, marks, and what was composed with its left."""
    lost: list[str] = []
    start = 0
    for at, character in enumerate(text):
        if covered[at]:
            start = at
            continue
        composed = len(unicodedata.normalize("NFC", text[start : at + 1])) <= at - start
        if not (composed or character.isspace() or unicodedata.category(character)[0] == "M"):
            lost.append(character)
    return lost


def look_all(text: str, tokenizers: Sequence[Opened]) -> list[Look]:
    """The same text under several tokenizers."""
    return [look(text, tokenizer) for tokenizer in tokenizers]
