"""Tokenizers measured on the same texts: how many tokens, how many unknown, how many cut, how fast.

Fertility is the number of tokens a word, special ones left out (Rust et al. 2021). A word is what
stands between white space, so a text without spaces, as in Chinese, has no fertility: characters a
token can be compared there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from warmstart.tokenizer.corpus import Corpus
from warmstart.tokenizer.opening import Opened

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
