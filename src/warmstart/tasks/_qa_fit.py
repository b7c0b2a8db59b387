"""What a trained model's outputs settle: the longest answer, and when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmstart.data.tokens import TokenStore
    from warmstart.tasks._spans import Found
    from warmstart.tasks.base import Examples

UNTUNED = 0.5


def longest_answer(store: TokenStore, percent: float) -> int:
    """The tokens that so many percent of the training answers do not exceed."""
    import numpy as np

    assert store.spans is not None
    known = np.flatnonzero((store.targets >= 0).all(1))
    first = store.offsets[known] + store.targets[known, 0]
    inside = known[store.spans[first, 0] >= 0]
    if not len(inside):
        return 1
    sizes = store.targets[inside, 1] - store.targets[inside, 0] + 1
    return int(np.ceil(np.percentile(sizes, percent)))


def best_threshold(found: Sequence[Found], validation: Examples) -> float:
    """The probability of "no answer" above which F1 on validation is best (Rajpurkar et al. 2018).

    It lies midway to the next probability that occurs. 0.5 where validation has no rows, or not
    both kinds of questions.
    """
    import numpy as np

    from warmstart.scores.squad import Answers, best_no_answer_threshold
    from warmstart.tasks._golds import texts_of
    from warmstart.tasks._spans import answers_of

    if not len(validation):
        return UNTUNED
    golds = texts_of(validation.table["answers"])
    has_answer = np.array([bool(gold) for gold in golds])
    if has_answer.all() or not has_answer.any():
        return UNTUNED
    contexts = validation.table["context"].to_pylist()
    given = [answer.value for answer in answers_of(found, contexts, None)]
    probabilities = np.array([one.no_answer for one in found])
    empty = np.array([not answer for answer in given])
    f1 = Answers().rows(given, golds)[:, 2]
    lowest = best_no_answer_threshold(f1, probabilities, has_answer, empty).threshold
    above = probabilities[probabilities > lowest]
    return float(lowest + above.min()) / 2 if len(above) else lowest
