"""The likeliest tags of a text that obey the rules of their scheme (Viterbi 1967)."""

from __future__ import annotations

import numpy as np

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
    found = np.zeros(len(scores), np.int64)
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        _solve(scores, offsets[rows], lengths[rows], (begin, between, end), found)
    return found


def _solve(
    scores: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    rules: tuple[np.ndarray, ...],
    found: np.ndarray,
) -> None:
    """Texts of falling length; writes the labels into `found`."""
    begin, between, end = rules
    best = scores[starts] + begin
    back: list[np.ndarray] = []
    for place in range(1, int(lengths[0])):
        active = int((lengths > place).sum())
        ways = best[:active, :, None] + between
        back.append(ways.argmax(1))
        best[:active] = ways.max(1) + scores[starts[:active] + place]
    label = (best + end).argmax(1)
    for place in range(int(lengths[0]) - 1, -1, -1):
        active = int((lengths > place).sum())
        found[starts[:active] + place] = label[:active]
        if place:
            label[:active] = back[place - 1][np.arange(active), label[:active]]
