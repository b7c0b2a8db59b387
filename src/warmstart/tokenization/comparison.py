"""Tokenizers side by side: one text in pieces, and how many tokens a corpus becomes.

Fertility is the number of tokens a word, special ones left out (Rust et al. 2021). A word is what
stands between white space, so a text without spaces, as in Chinese, has no fertility: characters a
token can be compared there.
"""

from __future__ import annotations

import json
import os
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import BaseModelError, RecipeError, UnknownNameError, shown
from warmstart.models.base import HUB_ID, PACKAGED, packaged_folder, resolve
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import KINDS, Choice, Training
from warmstart.tokenization.training import train

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT = "minilm"
LONGEST_MEAN_WORD = 15  # characters; what is longer on average is not written with spaces
ALL = "all"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A tokenizer that neither cuts nor pads, read from its `tokenizer.json`."""

    name: str
    kind: str
    """In words: `WordPiece`, `BPE on bytes`."""
    backend: Tokenizer
    unknown: int | None
    """The id that stands for what cannot be written."""
    specials: frozenset[int]

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.backend.get_vocab_size(with_added_tokens=True)


def open_all(choice: Choice, corpus: Corpus | None) -> list[Opened]:
    """The tokenizers of a choice. Raises `RecipeError` for a kind without a corpus to train on."""
    names = choice.tokenizers or [DEFAULT, *(KINDS if corpus else ())]
    return [
        _train_kind(name, choice, corpus)
        if name in KINDS and not os.path.isdir(name)
        else open_one(name)
        for name in names
    ]


def _train_kind(kind: str, choice: Choice, corpus: Corpus | None) -> Opened:
    """A tokenizer of this kind on the corpus, with plain settings, kept in memory."""
    if corpus is None:
        raise RecipeError(
            f"'{kind}' is a kind of tokenizer and has to be trained first: give --corpus FILE"
        )
    size = None if kind == "char" else choice.vocab_size
    settings = Training.model_validate({"kind": kind, "vocab_size": size})
    if (report := corpus.progress) is not None:
        corpus = replace(corpus, progress=lambda what, *at: report(f"{kind}: {what}", *at))
    return opened(kind, train(settings, corpus)[0])


def open_one(name: str | Path) -> Opened:
    """The tokenizer of a packaged model, a folder or a hub id. Raises `WarmstartError`."""
    from tokenizers import Tokenizer

    file = _file(str(name))
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more precise
        raise BaseModelError(f"{file} cannot be read: {shown(error, 120)}") from error
    return opened(str(name), backend)


def opened(name: str, backend: Tokenizer) -> Opened:
    """A tokenizer in memory, under a name."""
    backend.no_truncation()
    backend.no_padding()
    description: dict[str, Any] = json.loads(backend.to_str())
    added = description.get("added_tokens") or []
    specials = frozenset(int(token["id"]) for token in added if token.get("special"))
    model = description["model"]
    unknown = model.get("unk_id")
    if unknown is None and model.get("unk_token") is not None:
        unknown = backend.token_to_id(model["unk_token"])
    return Opened(name, _kind(description), backend, unknown, specials)


def _kind(description: dict[str, Any]) -> str:
    model = description["model"]
    names = {"WordLevel": "words", None: "unknown kind"}
    kind = names.get(model.get("type"), model.get("type"))
    if model.get("type") == "BPE" and not model.get("merges"):
        kind = "characters"
    if '"ByteLevel"' in json.dumps(description.get("pre_tokenizer")):
        return f"{kind} on bytes"
    return f"{kind} with bytes for rare characters" if model.get("byte_fallback") else str(kind)


def _file(name: str) -> Path:
    """Where the `tokenizer.json` is."""
    if name in PACKAGED:
        return packaged_folder(name) / "tokenizer.json"
    path = Path(name).expanduser()
    if os.path.exists(path):
        for file in (path, path / "tokenizer.json", path / "model" / "tokenizer.json"):
            if file.is_file():
                return file
        raise BaseModelError(f"'{path}' holds no tokenizer.json")
    if "/" not in name:
        here = [entry.name for entry in Path().iterdir() if (entry / "tokenizer.json").is_file()]
        raise UnknownNameError("tokenizer", shown(name), [*PACKAGED, *KINDS, *here[:20]])
    if name.startswith((".", "/", "~")) or path.parent.is_dir() or not HUB_ID.fullmatch(name):
        raise BaseModelError(f"there is no folder '{shown(name)}'")
    return resolve(name).path / "tokenizer.json"


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
        token = tokenizer.backend.id_to_token(number)
        spelled = text[start:end] == token and number in tokenizer.specials
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


@dataclass(slots=True)
class Measure:
    """What one tokenizer makes of the texts of one group."""

    tokenizer: str
    group: str
    vocabulary: int
    texts: int = 0
    words: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    cut_texts: int = 0
    """Texts that are longer than the limit, special tokens counted."""
    lost_tokens: int = 0
    """Tokens that would be cut away."""
    seconds: float = 0.0
    used: set[int] = field(default_factory=set[int])

    @property
    def fertility(self) -> float | None:
        """Tokens a word; None where words are not set apart by spaces."""
        spaced = self.words > 0 and self.characters / self.words <= LONGEST_MEAN_WORD
        return self.tokens / self.words if spaced else None

    @property
    def characters_per_token(self) -> float | None:
        return self.characters / self.tokens if self.tokens else None

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def cut_rate(self) -> float:
        """Share of the texts."""
        return self.cut_texts / self.texts if self.texts else 0.0

    @property
    def cut_tokens(self) -> float:
        """Share of the tokens."""
        return self.lost_tokens / self.tokens if self.tokens else 0.0

    @property
    def vocabulary_used(self) -> float:
        """Share of the vocabulary that occurs."""
        return len(self.used) / self.vocabulary if self.vocabulary else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def add_texts(self, tokenizer: Opened, texts: list[str], max_length: int) -> None:
        around = tokenizer.backend.num_special_tokens_to_add(False)
        begun = time.perf_counter()
        encodings = tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
        self.seconds += time.perf_counter() - begun
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        over = np.maximum(lengths + around - max_length, 0)
        self.texts += len(texts)
        self.words += sum(len(text.split()) for text in texts)
        self.characters += sum(map(len, texts))
        self.tokens += int(lengths.sum())
        if tokenizer.unknown is not None:
            self.unknown += sum(row.count(tokenizer.unknown) for row in rows)
        self.cut_texts += int((over > 0).sum())
        self.lost_tokens += int(np.minimum(over, lengths).sum())
        self.used.update(*rows)

    def add(self, other: Measure) -> None:
        for name in ("texts", "words", "characters", "tokens", "unknown", "cut_texts",
                     "lost_tokens", "seconds"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.used |= other.used

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = (
            "tokenizer", "group", "texts", "words", "characters", "tokens", "fertility",
            "characters_per_token", "unknown_rate", "cut_rate", "cut_tokens", "vocabulary",
            "vocabulary_used", "tokens_per_second",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def measure(tokenizers: Sequence[Opened], corpus: Corpus, max_length: int) -> list[Measure]:
    """One row for each group and tokenizer, groups in the order of the corpus, then all together.

    White space around a text is left out. Speed is that of one pass, in batches, with as many
    threads as `tokenizers` takes.
    """

    def empty(group: str) -> list[Measure]:
        return [Measure(tokenizer.name, group, tokenizer.size) for tokenizer in tokenizers]

    for tokenizer in tokenizers:
        tokenizer.backend.encode_batch_fast(["warm"])  # threads are started at the first call
    groups: dict[str, list[Measure]] = {}
    for batch in corpus.batches():
        by_group: dict[str, list[str]] = {}
        for text, group in zip(batch.texts, batch.groups, strict=True):
            if text := text.strip():
                by_group.setdefault(group, []).append(text)
        for group, texts in by_group.items():
            rows = groups.setdefault(group, empty(group))
            for row, tokenizer in zip(rows, tokenizers, strict=True):
                row.add_texts(tokenizer, texts, max_length)
    totals = empty(ALL) if len(groups) > 1 else []
    for rows in groups.values():
        for total, row in zip(totals, rows, strict=False):
            total.add(row)
    return [row for rows in groups.values() for row in rows] + totals
