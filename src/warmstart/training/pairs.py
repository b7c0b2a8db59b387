"""Two answers to one prompt as a row: under a language model, or under a head that rates each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import ordered
from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.models.fast.loss import divergences
from warmstart.models.fast.pairs import (
    answer_log_probs,
    answer_states,
    pair_inputs,
    shares_prompts,
)
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.models.generation import TokenScores
from warmstart.training.datasets import (
    CACHED_TOKENS,
    INFERENCE_TOKENS,
    Rows,
    TokenRows,
    behind,
    row_sizes,
)

if TYPE_CHECKING:
    from warmstart.models.heads import Head


class PairRows(Rows):
    """A prompt with answers a row, of which a decoder says how likely each is; the prompt is
    computed once for all of them where the model can do that.

    Outputs are summed log-probabilities [n, K]; batches have them with their gradient.

    Args:
        dataset: the prompts; `answers` are the first answers, whose `answers` are the second ones.
            Its targets are what the objective keeps of each row, such as the reference's
            log-probabilities [n, K].
        whole_steps: whether a step is one batch, because the loss of a row needs all others.
    """

    def __init__(
        self,
        dataset: TokenizedDataset,
        forward: Forward,
        pad_id: int,
        *,
        whole_steps: bool = False,
    ) -> None:
        super().__init__(row_sizes(dataset), forward.device)
        self.dataset, self.pad_id, self.undivided = dataset, pad_id, whole_steps
        self.shared = shares_prompts(forward, int(self.sizes.max(initial=1)))

    def collate(self, rows: np.ndarray) -> Batch:
        inputs, targets = self.inputs(self.dataset, rows), self._send(self.dataset.targets[rows])
        tokens = int(inputs["lengths"].sum())
        inputs["by"] = answer_log_probs
        return Batch(inputs, targets, self._count(len(rows)), rows, tokens)

    def inputs(self, dataset: TokenizedDataset, rows: np.ndarray) -> dict[str, Any]:
        """Rows of this dataset, or of one with other answers, as `answer_log_probs` reads them."""
        texts = (dataset, *behind(dataset))
        pairs = [[text.row(row).astype(np.int64) for text in texts] for row in rows.tolist()]
        return pair_inputs(pairs, self.pad_id, self.device, shared=self.shared)

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        """As training has them, where the loss of a row depends on the others."""
        if self.undivided and batch_size > 1 and len(self):
            return self.plan(np.arange(len(self)), batch_size, None, (0, 0))
        most = CACHED_TOKENS if self.device.type == "cpu" else INFERENCE_TOKENS
        return ordered(self.sizes, most)

    def gather(self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]) -> TokenScores:
        """Minus the log-probabilities [n, K] as `nll`, beside the tokens [n, K]; what else there is
        in `TokenScores` is left at 0."""
        counts = np.stack([text.lengths for text in behind(self.dataset)], 1)
        nll = np.zeros(counts.shape)
        for batch, outputs in answers:
            assert isinstance(outputs, Tensor)
            nll[batch.rows] = -outputs[:, : counts.shape[1]].double().cpu().numpy()
        nothing = np.zeros(counts.shape)
        return TokenScores(nll, nothing, nothing, counts)

    def beside(self, forward: Forward, other: Forward) -> dict[str, Any]:
        """What a model before training says of the rows (`untuned`), and how far the trained one
        has gone from it on each answer's tokens: the summed KL(trained ‖ other) in nats [n, K]."""
        counts = np.stack([text.lengths for text in behind(self.dataset)], 1)
        drift, nll = np.zeros(counts.shape), np.zeros(counts.shape)
        with torch.no_grad(), forward.evaluating(), other.evaluating():
            for rows in self.ordered(1):
                inputs = self.inputs(self.dataset, rows)
                states = answer_states(forward, inputs), answer_states(other, inputs)
                of_tokens = divergences(states[0], states[1], inputs["token"])
                for sums, values in zip((drift, nll), of_tokens, strict=True):
                    flat = values.new_zeros(inputs["sizes"].numel())
                    flat.index_add_(0, inputs["owner"], values)
                    sums[rows] = flat.view(len(rows), -1).double().cpu().numpy()
        nothing = np.zeros(counts.shape)
        return {"untuned": TokenScores(nll, nothing, nothing, counts), "drift": drift}


class RatedPairs(Rows):
    """Two texts a row, each of which a head gives a number. Outputs are [n, 2, 1].

    Args:
        dataset: the first texts, each a prompt with its answer; `answers` are the second ones.
    """

    nothing = (0, 2, 1)
    cacheable = False

    def __init__(self, dataset: TokenizedDataset, pad_id: int, device: torch.device) -> None:
        super().__init__(row_sizes(dataset), device)
        self.targets = dataset.targets
        self.flat = TokenRows(joined([dataset, *behind(dataset)]), pad_id, device)

    def collate(self, rows: np.ndarray) -> Batch:
        """All first texts [B] and, behind them, all second ones."""
        batch = self.flat.collate(np.concatenate([rows, rows + len(self)]))
        targets = self._send(self.targets[rows])
        return replace(batch, targets=targets, weight=self._count(len(rows)), rows=rows)

    def places(self, rows: np.ndarray, values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        return len(self), rows, values.reshape(2, len(rows), -1).swapaxes(0, 1)

    def predict(self, forward: Forward) -> np.ndarray:
        """Outputs [n, 2, 1], computed text by text."""
        flat = self.flat.predict(forward)
        return flat.reshape(2, len(self), -1).swapaxes(0, 1)


def pairs_for(
    head: Head, dataset: TokenizedDataset, forward: Forward, pad_id: int, objective: Any
) -> Rows | None:
    """The rows of a dataset whose texts have several answers each, for a head that says how likely
    these are, or rates them; None where it has none, or is read in another way."""
    if not behind(dataset) or head.generates or head.gives_vectors:
        return None
    if head.predicts_itself:
        return PairRows(dataset, forward, pad_id, whole_steps=objective.whole_steps)
    return RatedPairs(dataset, pad_id, forward.device)
