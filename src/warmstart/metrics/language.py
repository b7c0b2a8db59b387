"""How well a language model predicts a text: nats a token, perplexity, bits per byte."""

from __future__ import annotations

import numpy as np

from warmstart.metrics.base import Floats, Measure, Scores, ratio

TITLES = {
    "loss": "loss in nats a token",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "token_accuracy": "share of the tokens that were likeliest",
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
