"""Pieces learned from a corpus: one function a kind, each with `tokenizers` doing the counting.

Byte-pair encoding: Sennrich et al. 2016; with bytes, Radford et al. 2019; WordPiece: Schuster and
Nakajima 2012, in the form of `tokenizers` (byte-pair merges, then longest match first); Unigram:
Kudo 2018. The same corpus gives the same pieces and ids. Unigram alone can differ: `tokenizers`
sums its scores in an order that changes from run to run, so that the last digits do as well, and
with them, now and then, a piece. Its pieces are put in alphabetical order, for ids that stay.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from warmstart.errors import RecipeError
from warmstart.tokenizer.settings import Training

INNER = 0x40000  # the first of 655,360 code points that Unicode gives to nothing
CONTINUED = "##"
LONGEST_WORD = 100  # WordPiece takes a longer word for unknown, as in BERT

Batches = Iterable[list[str]]


@dataclass(frozen=True, slots=True)
class Learned:
    """Pieces in the order of their ids, without special tokens."""

    pieces: list[str]
    merges: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    scores: list[float] = field(default_factory=list[float])


def learn(asked: Training, texts: Batches, normalizer: Any, splitter: Any, room: int) -> Learned:
    """At most `room` pieces of the kind that is asked for. Raises `RecipeError` for too little.

    `normalizer` and `splitter` are the tokenizer's own normaliser and pre-tokeniser, or None.
    """
    if asked.kind == "char":
        return _characters(asked, texts, normalizer, room)
    if asked.kind == "unigram":
        return _unigram(texts, normalizer, splitter, room)
    if asked.kind == "word":
        return _words(asked, texts, normalizer, splitter, room)
    if asked.kind == "wordpiece":
        found = _wordpiece(asked, texts, normalizer, splitter, room)
    else:
        level = asked.byte_mode == "level"
        found = _merged(asked, texts, normalizer, splitter, room, byte_level=level)
    if len(found.pieces) > room:
        raise too_small(len(found.pieces), room, asked.byte_mode == "level")
    return found


def too_small(alphabet: int, room: int, byte_level: bool = False) -> RecipeError:
    """For a vocabulary in which not even the alphabet has room."""
    instead = "" if byte_level else ", or write all text as bytes (--kind bpe)"
    return RecipeError(
        f"vocab_size leaves room for {room:,} pieces, and the alphabet of the corpus alone needs "
        f"{alphabet:,}: raise it by at least {alphabet - room:,}{instead}"
    )


def _characters(asked: Training, texts: Batches, normalizer: Any, room: int) -> Learned:
    counts: Counter[str] = Counter()
    for text in chain.from_iterable(texts):
        counts.update(normalizer.normalize_str(text) if normalizer else text)
    frequent = [(n, c) for c, n in counts.items() if n >= asked.frequency]
    frequent.sort(key=lambda entry: (-entry[0], entry[1]))
    return Learned([c for _, c in frequent[: max(room, 0)]])


def _words(asked: Training, texts: Batches, normalizer: Any, splitter: Any, room: int) -> Learned:
    from tokenizers import models, trainers

    trainer = trainers.WordLevelTrainer(
        vocab_size=room, min_frequency=asked.frequency, show_progress=False, special_tokens=[]
    )
    model = _trained(models.WordLevel(unk_token=""), trainer, texts, normalizer, splitter)
    return Learned(_in_order(model["vocab"]))


def _merged(
    asked: Training, texts: Batches, normalizer: Any, splitter: Any, room: int, byte_level: bool
) -> Learned:
    from tokenizers import models, pre_tokenizers, trainers

    limit: dict[str, Any] = {"limit_alphabet": asked.alphabet} if asked.alphabet else {}
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=asked.frequency,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else [],
        **limit,
    )
    model = _trained(models.BPE(), trainer, texts, normalizer, splitter)
    return Learned(_in_order(model["vocab"]), merges=[(a, b) for a, b in model["merges"]])


def _wordpiece(
    asked: Training, texts: Batches, normalizer: Any, splitter: Any, room: int
) -> Learned:
    """The pieces of `WordPieceTrainer`, but the same ones every time.

    That trainer merges pairs as BPE does and numbers the `##` letters in the order of a hash map,
    so that ties fall as they may. Here each letter inside a word is written as a letter of its
    own, plain BPE is trained, and what was inside gets its `##` back.
    """
    from tokenizers import pre_tokenizers

    inner: dict[str, str] = {}
    known: dict[str, str] = {}

    def written(word: str) -> str:
        if word not in known:
            rest = (inner.setdefault(c, chr(INNER + len(inner))) for c in word[1:])
            known[word] = word[0] + "".join(rest)
        return known[word]

    def rewritten() -> Iterator[list[str]]:
        for batch in texts:
            plain = (normalizer.normalize_str(text) if normalizer else text for text in batch)
            words = (splitter.pre_tokenize_str(text) for text in plain)
            yield [" ".join(written(w) for w, _ in row if len(w) <= LONGEST_WORD) for row in words]

    spaces = pre_tokenizers.WhitespaceSplit()
    found = _merged(asked, rewritten(), None, spaces, room, byte_level=False)
    outer = {mark: letter for letter, mark in inner.items()}
    return Learned([_continued(piece, outer) for piece in found.pieces])


def _continued(piece: str, outer: Mapping[str, str]) -> str:
    head = CONTINUED if piece[0] in outer else ""
    return head + "".join(outer.get(c, c) for c in piece)


def _unigram(texts: Batches, normalizer: Any, splitter: Any, room: int) -> Learned:
    from tokenizers import models, trainers

    seen: set[str] = set()

    def watched() -> Iterator[list[str]]:
        for batch in texts:
            seen.update(*batch)
            yield batch

    unknown = "<unk>"
    trainer = trainers.UnigramTrainer(
        vocab_size=room + 1, show_progress=False, special_tokens=[unknown], unk_token=unknown
    )
    try:
        model = _trained(models.Unigram(), trainer, watched(), normalizer, splitter)
    except Exception as error:  # tokenizers raises nothing more precise
        if "not large enough" in str(error):
            raise too_small(len(seen), room) from None
        raise RecipeError(
            f"no unigram tokenizer can be learned from this corpus ({error}): it is too small or "
            "too uniform; give more text, or another kind"
        ) from error
    kept = sorted((piece, score) for piece, score in model["vocab"] if piece != unknown)
    return Learned([piece for piece, _ in kept], scores=[score for _, score in kept])


def _trained(
    model: Any, trainer: Any, texts: Batches, normalizer: Any, splitter: Any
) -> dict[str, Any]:
    """The `model` of the tokenizer.json that training gives."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if splitter is not None:
        tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


def _in_order(vocabulary: Mapping[str, int]) -> list[str]:
    return sorted(vocabulary, key=lambda piece: vocabulary[piece])
