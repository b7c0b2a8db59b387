"""Words and tokens beside each other, for a whole split at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.tasks.tagging.reading import Place, parts_of
from warmstart.tasks.tagging.schemes import renewed

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Words of all rows, one after the other, in one count of characters over all texts."""

    begin: np.ndarray
    end: np.ndarray
    offsets: np.ndarray
    """The words of row i are offsets[i] to offsets[i + 1]."""


def flat(words: Sequence[Sequence[Place]], texts: Sequence[str]) -> Places:
    """The words of each row of texts."""
    lengths = [len(row) for row in words]
    pairs = np.array([place for row in words for place in row], np.int64).reshape(-1, 2)
    shift = np.repeat(_shifts(texts), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Places(pairs[:, 0] + shift, pairs[:, 1] + shift, offsets)


def first_tokens(store: TokenizedDataset, texts: Sequence[str], places: Places) -> np.ndarray:
    """Of each word, its first token as a place in the flat ids of the store; -1 where the
    tokenizer made nothing of it."""
    tokens, begin, end = _tokens(store, texts)
    if not len(tokens):
        return np.full(len(places.begin), -1, np.int64)
    following = np.searchsorted(end, places.begin, side="right")
    inside = np.minimum(following, len(tokens) - 1)
    hit = (following < len(tokens)) & (begin[inside] < places.end)
    return np.where(hit, tokens[inside], -1)


def label_tokens(
    store: TokenizedDataset,
    texts: Sequence[str],
    words: Sequence[Sequence[Place]],
    tags: Sequence[Sequence[str]],
    number: dict[str, int],
    pieces: str,
) -> np.ndarray:
    """The label of each token, int64 parallel to the ids; -100 where there is none to be learnt.

    Args:
        tags: of the words, in the scheme of the labels; one without a number is not learnt.
        pieces: which tokens of a word are labelled: "first", the first of each of its "parts",
            or "all".
    """
    places = flat(words, texts)
    targets = np.full(len(store.ids), IGNORE_INDEX, np.int64)
    own = np.array([number.get(tag, IGNORE_INDEX) for row in tags for tag in row], np.int64)
    if pieces != "first":
        more = np.array(
            [number.get(renewed(tag), IGNORE_INDEX) for row in tags for tag in row], np.int64
        )
        if pieces == "parts":
            parts = [[parts_of(text, place) or [place] for place in row]
                     for text, row in zip(texts, words, strict=True)]  # fmt: skip
            inner = flat([[part for word in row for part in word] for row in parts], texts)
            tokens = first_tokens(store, texts, inner)
            of_word = np.repeat(np.arange(len(own)), [len(word) for row in parts for word in row])
        else:
            tokens, begin, _ = _tokens(store, texts)
            of_word = np.searchsorted(places.begin, begin, side="right") - 1
            keep = (of_word >= 0) & (begin < places.end[of_word])
            tokens, of_word = tokens[keep], of_word[keep]
        _put(targets, tokens, more[of_word])
    _put(targets, first_tokens(store, texts, places), own)
    return targets


def _put(targets: np.ndarray, tokens: np.ndarray, labels: np.ndarray) -> None:
    """A token that several words share has the label of the first of them."""
    real = np.flatnonzero(tokens >= 0)[::-1]
    targets[tokens[real]] = labels[real]


def _tokens(
    store: TokenizedDataset, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens that stand for characters, in order, and where each begins and ends."""
    assert store.spans is not None and store.of_row is not None
    tokens = np.flatnonzero(store.spans[:, 1] > store.spans[:, 0])
    shift = np.repeat(_shifts(texts)[store.of_row], store.lengths)[tokens]
    begin = store.spans[tokens, 0] + shift
    return tokens, begin, np.maximum.accumulate(store.spans[tokens, 1] + shift)


def _shifts(texts: Sequence[str]) -> np.ndarray:
    """Where each text begins when all stand one after the other."""
    lengths = np.array([len(text) for text in texts], np.int64)
    return np.cumsum(lengths) - lengths
