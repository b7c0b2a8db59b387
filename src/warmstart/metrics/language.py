"""How well a language model predicts a text (nats a token, perplexity, bits per byte), and how
often it finds the right one of several texts the likeliest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

TITLES = {
    "loss": "loss in nats a token",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "token_accuracy": "share of the tokens that were likeliest",
}
DETECTION = {
    "loss": "loss of the detection in nats a token",
    "token_accuracy": "share of the tokens told original or replaced rightly",
}
NLL, TOKENS, HITS, BYTES = range(4)


class TextFit(Measure):
    """Figures of documents whose tokens were predicted.

    Statistics of a document: summed negative log-likelihood in nats, tokens predicted, tokens than
    which none was likelier, UTF-8 bytes of its text. The loss is nats a token, perplexity its
    exponential, and bits per byte nll / (ln 2 * bytes), which does not depend on the tokenizer (Gao
    et al. 2020, "The Pile").

    Args:
        covers_text: whether every token of a text is predicted exactly once; without it there are
            no bits per byte.
    """

    lower_is_better = frozenset({"loss", "perplexity", "bits_per_byte"})

    def __init__(self, *, covers_text: bool) -> None:
        self.covers_text = covers_text

    def score(self, sums: Floats) -> Scores:
        loss = ratio(sums[..., NLL], sums[..., TOKENS])
        scores = {"loss": loss, "perplexity": np.exp(np.minimum(loss, 700.0))}
        if self.covers_text:
            scores["bits_per_byte"] = ratio(sums[..., NLL], sums[..., BYTES]) / np.log(2.0)
        return scores | {"token_accuracy": ratio(sums[..., HITS], sums[..., TOKENS])}

    def highest(self, name: str) -> float | None:
        return 1.0 if name == "token_accuracy" else None


class AnswerFit(Measure):
    """How likely a model finds the answers that people gave, and whether its own come to an end.

    Statistics of a row: nats of the trained tokens, their number, those than which none was
    likelier, whether the model wrote an answer, and whether it ended that by itself.
    """

    lower_is_better = frozenset({"loss", "perplexity"})
    titles: ClassVar[Mapping[str, str]] = {
        "loss": "loss in nats a token of the answers",
        "perplexity": "perplexity of the answers",
        "token_accuracy": "share of the answers' tokens that were likeliest",
        "ended": "share of its own answers that it ended itself",
    }

    def score(self, sums: Floats) -> Scores:
        nll, tokens, hits, written, ended = np.moveaxis(sums, -1, 0)
        loss = ratio(nll, tokens)
        return {"loss": loss, "perplexity": np.exp(np.minimum(loss, 700.0)),
                "token_accuracy": ratio(hits, tokens), "ended": ratio(ended, written)}  # fmt: skip

    def highest(self, name: str) -> float | None:
        return 1.0 if name in ("token_accuracy", "ended") else None


CHOICE_TITLES = {
    "accuracy": "accuracy",
    "accuracy_sum": "accuracy by the sum (acc)",
    "accuracy_token": "accuracy by the mean of a token",
    "accuracy_byte": "accuracy by the mean of a byte (acc_norm)",
    "ties": "share of ties",
    "perplexity": "perplexity of a token",
    "response_perplexity": "perplexity of a response",
}
SAME = 1e-6
"""Relative difference below which two log-probabilities in float32 are the same."""


def credit(scores: Floats, right: int) -> tuple[float, bool]:
    """Of candidates' scores [K] what the choice is worth, 1 where the right one has the highest,
    and whether there is a tie: the highest m share it, so that a constant model gets 1 / K."""
    best = float(scores.max())
    top = best - scores <= SAME * max(abs(best), 1e-30)
    return float(top[right]) / float(top.sum()), bool(top.sum() > 1)


class Likeliest(Measure):
    """How often the right one of several texts is the likeliest.

    Statistics of a row: what each way of counting gives (1, a share of a tie, or 0), and whether
    there is a tie by the first of them.

    Args:
        names: the figures, one a way of counting.
    """

    lower_is_better = frozenset({"ties"})

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def score(self, sums: Floats) -> Scores:
        count = sums[..., -1]
        figures = {name: ratio(sums[..., i], count) for i, name in enumerate(self.names)}
        return figures | {"ties": ratio(sums[..., -2], count)}

    def correct(self, rows: Floats) -> NDArray[np.bool_]:
        return rows[:, 0] == 1.0


class Cloze(Measure):
    """How well the missing end of a text is guessed.

    Statistics of a row: whether each token of the response was the likeliest (greedy decoding would
    write it), its nats, its tokens, 1. The perplexity is that of a token; that of a response, as
    lm-evaluation-harness has it for LAMBADA, is the exponential of the mean nats of a whole one.
    """

    lower_is_better = frozenset({"perplexity", "response_perplexity"})

    def score(self, sums: Floats) -> Scores:
        hits, nll, tokens, count = np.moveaxis(sums, -1, 0)
        return {
            "accuracy": ratio(hits, count),
            "perplexity": np.exp(np.minimum(ratio(nll, tokens), 700.0)),
            "response_perplexity": np.exp(np.minimum(ratio(nll, count), 700.0)),
        }

    def highest(self, name: str) -> float | None:
        return 1.0 if name == "accuracy" else None

    def correct(self, rows: Floats) -> NDArray[np.bool_]:
        return rows[:, 0] == 1.0
