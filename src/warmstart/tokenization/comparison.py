"""Tokenizers measured on the same texts: how many tokens, how many unknown, how many cut, how fast.

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
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import KINDS, Choice, Training

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.tokenization.corpus import Corpus


# A tokenizer by name: one that comes with us, a folder, a hub id, or a kind trained now.

DEFAULT = "minilm"


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
    fresh = [name for name in names if name in KINDS and not os.path.isdir(name)]
    if fresh and corpus is None:
        raise RecipeError(
            f"'{fresh[0]}' is a kind of tokenizer and has to be trained first: give --corpus FILE"
        )
    return [
        train_now(name, choice, corpus) if name in fresh and corpus else open_one(name)
        for name in names
    ]


def open_one(name: str | Path) -> Opened:
    """The tokenizer of an embedded model, a folder or a hub id. Raises `WarmstartError`."""
    from tokenizers import Tokenizer

    file = _file(str(name))
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more precise
        raise BaseModelError(f"{file} cannot be read: {shown(error, 120)}") from error
    return opened(str(name), backend)


def train_now(kind: str, choice: Choice, corpus: Corpus) -> Opened:
    """A tokenizer of this kind on the corpus, with plain settings, kept in memory."""
    from warmstart.tokenization.training import train

    size = None if kind == "char" else choice.vocab_size
    asked = Training.model_validate({"kind": kind, "vocab_size": size})
    told = corpus.progress
    if told is not None:
        corpus = replace(corpus, progress=lambda what, done, of: told(f"{kind}: {what}", done, of))
    return opened(kind, train(asked, corpus)[0])


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
    from warmstart.models.base import EMBEDDED, HUB_ID, folder_of, resolve

    if name in EMBEDDED:
        return folder_of(name) / "tokenizer.json"
    path = Path(name).expanduser()
    if os.path.exists(path):
        for file in (path, path / "tokenizer.json", path / "model" / "tokenizer.json"):
            if file.is_file():
                return file
        raise BaseModelError(f"'{path}' holds no tokenizer.json")
    if "/" not in name:
        raise UnknownNameError("tokenizer", shown(name), _known(EMBEDDED))
    if name.startswith((".", "/", "~")) or path.parent.is_dir() or not HUB_ID.fullmatch(name):
        raise BaseModelError(f"there is no folder '{shown(name)}'")
    return resolve(name).path / "tokenizer.json"


def _known(embedded: Any) -> Sequence[str]:
    here = [entry.name for entry in Path().iterdir() if (entry / "tokenizer.json").is_file()]
    return [*embedded, *KINDS, *here[:20]]


# One text under a tokenizer: its pieces, their ids, and the place in the text they stand for.


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


LONGEST_MEAN_WORD = 15  # characters; what is longer on average is not written with spaces
ALL = "all"


@dataclass(slots=True)
class Count:
    """What one tokenizer did to the texts of one group."""

    texts: int = 0
    words: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    cut_texts: int = 0
    cut_tokens: int = 0
    seconds: float = 0.0
    used: set[int] = field(default_factory=set[int])

    def add(self, other: Count) -> None:
        """Count another group in."""
        for name in ("texts", "words", "characters", "tokens", "unknown", "cut_texts",
                     "cut_tokens", "seconds"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.used |= other.used


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one tokenizer on one group of texts."""

    tokenizer: str
    group: str
    texts: int
    words: int
    characters: int
    tokens: int
    fertility: float | None
    """Tokens a word; None where words are not set apart by spaces."""
    characters_per_token: float | None
    unknown_rate: float
    """Share of the tokens."""
    cut_rate: float
    """Share of the texts that are longer than `max_length`, special tokens counted."""
    cut_tokens: float
    """Share of the tokens that would be cut away."""
    vocabulary: int
    vocabulary_used: float
    """Share of the vocabulary that occurs."""
    tokens_per_second: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(
    tokenizers: Sequence[Opened], corpus: Corpus, max_length: int
) -> tuple[list[Measured], list[str]]:
    """One row for each group and tokenizer, groups in the order of the corpus, then all together.

    Also the names of the groups. White space around a text is left out. Speed is that of one pass,
    in batches, with as many threads as `tokenizers` takes.
    """
    for one in tokenizers:
        one.backend.encode_batch_fast(["warm"])  # threads are started at the first call
    counts: dict[str, list[Count]] = {}
    for batch in corpus.batches():
        by_group: dict[str, list[str]] = {}
        for text, group in zip(batch.texts, batch.groups, strict=True):
            if text := text.strip():
                by_group.setdefault(group, []).append(text)
        for group, texts in by_group.items():
            rows = counts.setdefault(group, [Count() for _ in tokenizers])
            for count, one in zip(rows, tokenizers, strict=True):
                _count(count, one, texts, max_length)
    groups = list(counts)
    if len(groups) > 1:
        counts[ALL] = [Count() for _ in tokenizers]
        for rows in (counts[group] for group in groups):
            for total, row in zip(counts[ALL], rows, strict=True):
                total.add(row)
    found = [
        _measured(one, group, count)
        for group, rows in counts.items()
        for one, count in zip(tokenizers, rows, strict=True)
    ]
    return found, groups


def _count(count: Count, one: Opened, texts: list[str], max_length: int) -> None:
    around = one.backend.num_special_tokens_to_add(False)
    begun = time.perf_counter()
    encodings = one.backend.encode_batch_fast(texts, add_special_tokens=False)
    count.seconds += time.perf_counter() - begun
    rows = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    over = np.maximum(lengths + around - max_length, 0)
    count.texts += len(texts)
    count.words += sum(len(text.split()) for text in texts)
    count.characters += sum(map(len, texts))
    count.tokens += int(lengths.sum())
    count.unknown += sum(row.count(one.unknown) for row in rows) if one.unknown is not None else 0
    count.cut_texts += int((over > 0).sum())
    count.cut_tokens += int(np.minimum(over, lengths).sum())
    count.used.update(*rows)


def _measured(one: Opened, group: str, count: Count) -> Measured:
    tokens, words = count.tokens, count.words
    spaced = words > 0 and count.characters / words <= LONGEST_MEAN_WORD
    return Measured(
        tokenizer=one.name,
        group=group,
        texts=count.texts,
        words=words,
        characters=count.characters,
        tokens=tokens,
        fertility=tokens / words if spaced else None,
        characters_per_token=count.characters / tokens if tokens else None,
        unknown_rate=count.unknown / tokens if tokens else 0.0,
        cut_rate=count.cut_texts / count.texts if count.texts else 0.0,
        cut_tokens=count.cut_tokens / tokens if tokens else 0.0,
        vocabulary=one.size,
        vocabulary_used=len(count.used) / one.size if one.size else 0.0,
        tokens_per_second=tokens / count.seconds if count.seconds else 0.0,
    )
