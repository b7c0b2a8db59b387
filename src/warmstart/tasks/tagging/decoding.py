"""Words and tokens: the labels of tokens, and from what the model gives for each of them to tags
of words, entities and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.metrics.base import softmax
from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.tagging.reading import words_in
from warmstart.tasks.tagging.schemes import renewed, rules, tags_of
from warmstart.tasks.tagging.words import Place, parts_of
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Examples


# Words and tokens beside each other, for a whole split at once.


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


# The likeliest tags of a text that obey the rules of their scheme (Viterbi 1967).

AT_ONCE = 512  # texts


def best_paths(
    scores: np.ndarray,
    offsets: np.ndarray,
    rules: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """The label of each word, so that the sum of the scores of a text is the largest allowed.

    Args:
        scores: log-probabilities [words, K].
        offsets: the words of text i are offsets[i] to offsets[i + 1].
        rules: which label may begin [K], follow another [K, K], end [K] a text.
    """
    begin, between, end = (np.where(allowed, 0.0, -np.inf) for allowed in rules)
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    paths = np.zeros(len(scores), np.int64)
    for at in range(0, len(order), AT_ONCE):  # texts of falling length
        starts, sizes = offsets[order[at : at + AT_ONCE]], lengths[order[at : at + AT_ONCE]]
        best = scores[starts] + begin
        back: list[np.ndarray] = []
        for place in range(1, int(sizes[0])):
            active = int((sizes > place).sum())
            ways = best[:active, :, None] + between
            back.append(ways.argmax(1))
            best[:active] = ways.max(1) + scores[starts[:active] + place]
        label = (best + end).argmax(1)
        for place in range(int(sizes[0]) - 1, -1, -1):
            active = int((sizes > place).sum())
            paths[starts[:active] + place] = label[:active]
            if place:
                label[:active] = back[place - 1][np.arange(active), label[:active]]
    return paths


SMALLEST = 1e-12  # a probability that still has a logarithm


@dataclass(frozen=True, slots=True, eq=False)
class Tagged:
    """The tags of one text's words, those of entities in IOB2, and the probability of each."""

    tags: list[str]
    sure: np.ndarray


def tagged(
    outputs: np.ndarray, examples: Examples, *, entities: bool, scheme: str | None
) -> list[Tagged]:
    """The answer for every word, from its first token in the window where that has most context.

    A word that the tokenizer makes nothing of is O, or, in labels of single words, the first label.
    Words of one token, as characters are, have one answer: all of them belong to its entity.

    Args:
        scheme: whose rules the tags of entities have to obey; None: none.
    """
    texts: list[str] = examples.table["text"].to_pylist()
    places = flat(words_in(examples.table), texts)
    tokens = first_tokens(examples.store, texts, places)
    leads = np.ones(len(tokens), bool)
    if entities:
        leads[1:] = (tokens[1:] != tokens[:-1]) | (tokens[1:] < 0)
    heads, tokens = np.flatnonzero(leads), tokens[leads]
    offsets = np.concatenate([[0], np.cumsum(leads)])[places.offsets]
    labels = list(examples.labels)
    probabilities = softmax(outputs[np.maximum(tokens, 0)])
    lost = labels.index("O") if "O" in labels else 0
    probabilities[tokens < 0] = np.eye(len(labels))[lost]
    if entities and scheme is not None:
        allowed = rules(labels, scheme)
        best = best_paths(np.log(np.maximum(probabilities, SMALLEST)), offsets, allowed)
    else:
        best = probabilities.argmax(-1)
    sure = probabilities[np.arange(len(best)), best][np.cumsum(leads) - 1]
    rows: list[Tagged] = []
    for (a, b), (first, last) in zip(pairwise(offsets), pairwise(places.offsets), strict=True):
        tags = [labels[i] for i in best[a:b]]
        if entities:
            begins = [*(heads[a:b] - first).tolist(), int(last - first)]
            spans = [(begins[x], begins[y], kind) for x, y, kind in spans_of_tags(tags)]
            tags = tags_of(spans, int(last - first), "iob2")
        rows.append(Tagged(tags, sure[first:last]))
    return rows


def predictions(answers: Sequence[Tagged], table: pa.Table, *, entities: bool) -> list[Prediction]:
    """Each text's entities, or words with their tags; sure as the mean of its words."""
    decoded: list[Prediction] = []
    rows = zip(answers, table["text"].to_pylist(), words_in(table), strict=True)
    for number, (answer, text, words) in enumerate(rows):
        if entities:
            spans = spans_of_tags(answer.tags)
        else:
            spans = [(i, i + 1, tag) for i, tag in enumerate(answer.tags)]
        name = "type" if entities else "tag"
        value: list[dict[str, Any]] = []
        for first, last, kind in spans:
            start, end = words[first][0], words[last - 1][1]
            score = float(answer.sure[first:last].mean())
            value.append({name: kind, "text": text[start:end], "start": start, "end": end,
                          "score": round(score, 6)})  # fmt: skip
        sure = float(answer.sure.mean()) if len(answer.sure) else 1.0
        decoded.append(Prediction(str(number), value, sure))
    return decoded
