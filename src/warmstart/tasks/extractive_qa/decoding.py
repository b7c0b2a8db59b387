"""From logits of first and last tokens to the best span of each question, over all its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from warmstart.metrics.squad import Answers, best_no_answer_threshold
from warmstart.tasks.extractive_qa.answers import texts_of
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Examples

UNTUNED = 0.5
"""The probability of no answer above which there is none, until that is chosen."""
NOTHING = ""
"""The answer of a question without one, as SQuAD 2 writes it."""


def longest_answer(store: TokenizedDataset, percent: float) -> int:
    """The tokens that so many percent of the training answers do not exceed."""
    assert store.spans is not None
    known = np.flatnonzero((store.targets >= 0).all(1))
    first = store.offsets[known] + store.targets[known, 0]
    inside = known[store.spans[first, 0] >= 0]
    if not len(inside):
        return 1
    sizes = store.targets[inside, 1] - store.targets[inside, 0] + 1
    return int(np.ceil(np.percentile(sizes, percent)))


def best_threshold(candidates: Sequence[SpanScores], validation: Examples) -> float:
    """The probability of "no answer" above which F1 on validation is best (Rajpurkar et al. 2018).

    It lies midway to the next probability that occurs. 0.5 where validation has no rows, or not
    both kinds of questions.
    """
    if not len(validation):
        return UNTUNED
    references = texts_of(validation.table["answers"])
    has_answer = np.array([bool(texts) for texts in references])
    if has_answer.all() or not has_answer.any():
        return UNTUNED
    contexts = validation.table["context"].to_pylist()
    texts = [answer.value for answer in answers_of(candidates, contexts, None)]
    probabilities = np.array([row.no_answer for row in candidates])
    empty = np.array([not text for text in texts])
    f1 = Answers().rows(texts, references)[:, 2]
    lowest, _ = best_no_answer_threshold(f1, probabilities, has_answer, empty)
    above = probabilities[probabilities > lowest]
    return float(lowest + above.min()) / 2 if len(above) else lowest


@dataclass(frozen=True, slots=True)
class SpanPrediction(Prediction):
    """An answer and where it stands: the first character in the context and the one after the
    last; None where there is no answer."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class SpanScores:
    """The best spans of one question, the best first: [(start, end, score)] in characters.

    `nothing` is the score of "no answer", the smallest over the windows (Devlin et al. 2018);
    `total` the log of the sum of the exponents of all spans' scores.
    """

    spans: Sequence[tuple[int, int, float]]
    nothing: float
    total: float

    @property
    def no_answer(self) -> float:
        """The probability of "no answer" against the best span."""
        best = self.spans[0][2] if self.spans else -np.inf
        return float(1.0 / (1.0 + np.exp(np.clip(best - self.nothing, -500, 500))))


def find_spans(
    outputs: np.ndarray, store: TokenizedDataset, rows: int, longest: int, many: int, nothing: int
) -> list[SpanScores]:
    """The best spans of `rows` questions.

    Args:
        outputs: logits of the first and the last token [tokens, 2], parallel to `store.ids`.
        longest: the most tokens of an answer.
        many: how many spans are kept of a question.
        nothing: the place in a window that says "no answer", see `Layout.nothing`.
    """
    assert store.spans is not None and store.of_row is not None
    best: list[dict[tuple[int, int], float]] = [{} for _ in range(rows)]
    empty, total = np.full(rows, np.inf), np.full(rows, -np.inf)
    for number, row in enumerate(store.of_row.tolist()):
        here = slice(int(store.offsets[number]), int(store.offsets[number + 1]))
        logits, spans = outputs[here].astype(np.float64), store.spans[here]
        empty[row] = min(empty[row], float(logits[nothing].sum()))
        inside = np.flatnonzero(spans[:, 0] >= 0)
        if not len(inside):
            continue
        # [n, longest]: the spans that begin at token i and have 1, 2, … tokens; -inf past the end
        wide = min(longest, len(inside))
        beyond = np.concatenate([logits[inside, 1], np.full(wide - 1, -np.inf)])
        ends = np.lib.stride_tricks.sliding_window_view(beyond, wide)
        scores = logits[inside, :1] + ends
        peak, flat = float(scores.max()), scores.ravel()
        total[row] = np.logaddexp(total[row], peak + float(np.log(np.exp(scores - peak).sum())))
        top = np.argpartition(-flat, many - 1)[:many] if many < len(flat) else np.arange(len(flat))
        for index in top[np.isfinite(flat[top])]:
            first, more = divmod(int(index), scores.shape[1])
            place = int(spans[inside[first], 0]), int(spans[inside[first + more], 1])
            score = float(flat[index])
            best[row][place] = max(score, best[row].get(place, score))
    ranked = [sorted(spans.items(), key=lambda entry: (-entry[1], entry[0])) for spans in best]
    return [
        SpanScores([(*place, score) for place, score in spans[:many]], float(empty[row]),
                   float(total[row]))
        for row, spans in enumerate(ranked)
    ]  # fmt: skip


def answers_of(
    candidates: Sequence[SpanScores], contexts: Sequence[str], threshold: float | None
) -> list[Prediction]:
    """The best span of each question, or no answer where the probability of that is above the
    threshold; None: there always is one.

    Confidence and scores are shares among all spans (and "no answer") by the exponents of their
    scores.
    """
    answers: list[Prediction] = []
    for number, (row, context) in enumerate(zip(candidates, contexts, strict=True)):
        whole = row.total if threshold is None else float(np.logaddexp(row.total, row.nothing))
        scores: dict[str, float] = {}
        kept = [(*trimmed(context, start, end), score) for start, end, score in row.spans]
        for start, end, score in kept:
            text = context[start:end]
            scores[text] = scores.get(text, 0.0) + float(np.exp(score - whole))
        if threshold is not None:
            scores[NOTHING] = float(np.exp(row.nothing - whole))
        if not kept or (threshold is not None and row.no_answer > threshold):
            answers.append(SpanPrediction(str(number), NOTHING, scores.get(NOTHING, 1.0), scores))
            continue
        start, end, score = kept[0]
        sure = float(np.exp(score - whole))
        answers.append(SpanPrediction(str(number), context[start:end], sure, scores, start, end))
    return answers


def trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """The same characters without white space at both ends; tokens of some models begin with it."""
    text = context[start:end]
    begin = start + len(text) - len(text.lstrip())
    return begin, begin + len(text.strip())
