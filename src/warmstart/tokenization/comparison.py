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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from warmstart.data.tokens.tokenizer_steps import check_steps
from warmstart.errors import BaseModelError, RecipeError, UnknownNameError, shown
from warmstart.models.base import HUB_ID, PACKAGED, packaged_folder, resolve
from warmstart.models.checks import read_json
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import KINDS, Choice, Training
from warmstart.tokenization.training import train

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
    size: int
    """Tokens in all."""


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
    file = _file(str(name))
    check_steps(read_json(file), file)
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
    kind = {"WordLevel": "words", None: "unknown kind"}.get(model.get("type"), model.get("type"))
    if kind == "BPE" and not model.get("merges"):
        kind = "characters"
    if '"ByteLevel"' in json.dumps(description.get("pre_tokenizer")):
        kind = f"{kind} on bytes"
    elif model.get("byte_fallback"):
        kind = f"{kind} with bytes for rare characters"
    return Opened(name, str(kind), backend, unknown, specials, backend.get_vocab_size())


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
    tokens: int
    """Pieces that are not special."""
    unknown: int
    """Pieces that say no more than that something was there."""


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
    tokens, unknown = sum(not p.special for p in pieces), sum(p.unknown for p in pieces)
    lost = _lost(text, covered)
    return Look(tokenizer.name, tokenizer.kind, tokenizer.size, pieces, lost, tokens, unknown)


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


@dataclass(frozen=True, slots=True)
class Measure:
    """What one tokenizer makes of the texts of one group. Rates are shares: of tokens unless said
    otherwise; None or 0 where there is nothing to count."""

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
    cut_rate: float
    """Share of the texts that are longer than the limit, special tokens counted."""
    cut_tokens: float
    """Share of the tokens that would be cut away."""
    vocabulary: int
    vocabulary_used: float
    """Share of the vocabulary that occurs."""
    tokens_per_second: float


def measure(tokenizers: Sequence[Opened], corpus: Corpus, max_length: int) -> list[Measure]:
    """One row for each group and tokenizer, groups in the order of the corpus, then all together.

    White space around a text is left out. Speed is that of one pass, in batches, with as many
    threads as `tokenizers` takes.
    """
    for tokenizer in tokenizers:
        tokenizer.backend.encode_batch_fast(["warm"])  # threads are started at the first call
    groups: dict[str, list[Counter[int | str]]] = {}
    for batch in corpus.batches():
        by_group: dict[str, list[str]] = {}
        for text, group in zip(batch.texts, batch.groups, strict=True):
            if text := text.strip():
                by_group.setdefault(group, []).append(text)
        for group, texts in by_group.items():
            sums = groups.setdefault(group, [Counter() for _ in tokenizers])
            for counts, tokenizer in zip(sums, tokenizers, strict=True):
                counts.update(_count(tokenizer, texts, max_length))
    rows = list(groups.items())
    if len(rows) > 1:
        rows.append((ALL, [sum(c, Counter()) for c in zip(*groups.values(), strict=True)]))
    return [
        _measure(tokenizer, group, counts)
        for group, sums in rows
        for counts, tokenizer in zip(sums, tokenizers, strict=True)
    ]


def _count(tokenizer: Opened, texts: list[str], max_length: int) -> Counter[int | str]:
    """How often each id occurs in the texts, and sums by their names."""
    around = tokenizer.backend.num_special_tokens_to_add(False)
    begun = time.perf_counter()
    encodings = tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
    seconds: Any = time.perf_counter() - begun
    rows = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    over = np.maximum(lengths + around - max_length, 0)
    counts: Counter[int | str] = Counter(chain.from_iterable(rows))
    counts.update(
        texts=len(texts),
        words=sum(len(text.split()) for text in texts),
        characters=sum(map(len, texts)),
        tokens=int(lengths.sum()),
        over=int((over > 0).sum()),
        lost=int(np.minimum(over, lengths).sum()),
        seconds=seconds,
    )
    return counts


def _measure(tokenizer: Opened, group: str, counts: Counter[int | str]) -> Measure:
    names = ("texts", "words", "characters", "tokens")
    texts, words, characters, tokens = (counts[name] for name in names)
    spaced = words > 0 and characters / words <= LONGEST_MEAN_WORD
    return Measure(
        tokenizer=tokenizer.name,
        group=group,
        texts=texts,
        words=words,
        characters=characters,
        tokens=tokens,
        fertility=tokens / words if spaced else None,
        characters_per_token=characters / tokens if tokens else None,
        unknown_rate=counts[-1 if tokenizer.unknown is None else tokenizer.unknown] / (tokens or 1),
        cut_rate=counts["over"] / (texts or 1),
        cut_tokens=counts["lost"] / (tokens or 1),
        vocabulary=tokenizer.size,
        vocabulary_used=sum(isinstance(key, int) for key in counts) / (tokenizer.size or 1),
        tokens_per_second=tokens / counts["seconds"] if counts["seconds"] else 0.0,
    )
