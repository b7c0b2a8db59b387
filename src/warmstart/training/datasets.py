"""Rows that a model reads, each kind with its own way of making a batch and of collecting answers.

Token ids, texts with texts to be written after them, several texts a row, and what parts of a model
that stand still gave for them (`training.cached_states`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import micro, ordered, pad, pad_rows, plan, width
from warmstart.data.tokens.dataset import IGNORE_INDEX, TokenizedDataset, joined
from warmstart.models.fast.loss import Unprojected, score_targets
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.models.generation import GenerationOutput, Language, TokenScores
from warmstart.training.memory import trim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmstart.models.heads import Head
    from warmstart.objectives.language import LanguageObjective

INFERENCE_TOKENS = 4096
CACHED_TOKENS = 1024
"""On a CPU: what passes through a layer stays in its cache."""
GENERATED_TOKENS = 16384
"""Tokens of texts and answers, beams not counted, that are generated at once."""
PART_TOKENS = 2048
"""On a CPU, of texts under one loss: short ones do not pay for the padding of long ones."""
EVALUATION = 16
"""Tells random numbers of validation from those of training."""
GROUP = 4
"""Texts of one class that are put into a batch together."""


class Rows:
    """Rows of one split; what the kinds share.

    `sizes` [n] are the tokens that are computed for each row.
    """

    endless = False
    """Whether there is no last row: rows are then read once, in their order."""
    undivided = False
    """Whether a step is computed at once, and always has `batch_size` rows."""
    cacheable = True
    """Whether states of its tokens can be kept row by row."""
    nothing: tuple[int, ...] = (0, 0)
    """The shape of the outputs where there are no rows."""

    def __init__(self, sizes: np.ndarray, device: torch.device) -> None:
        self.sizes, self.device = sizes, device

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def unit_count(self) -> int:
        """How many independent answers a validation score is a mean of."""
        return len(self)

    def collate(self, rows: np.ndarray) -> Batch:
        """The rows of these numbers as a batch that weighs as much as it has rows."""
        raise NotImplementedError

    def plan(
        self, rows: np.ndarray, batch_size: int, batch_tokens: int | None, rng_key: tuple[int, int]
    ) -> list[np.ndarray]:
        """The rows of every step of one pass; `rng_key` is the seed and the number of the pass."""
        batches = plan(self.sizes[rows], batch_size, *rng_key, batch_tokens=batch_tokens)
        return [rows[batch] for batch in batches]

    def steps_of(self, rows: int, batch_size: int, batch_tokens: int | None) -> int | None:
        """How many steps a pass over so many rows has; None where every pass has another number."""
        return None if batch_tokens and not self.undivided else -(-rows // batch_size)

    def micro(self, rows: np.ndarray, max_tokens: int) -> list[np.ndarray]:
        """The rows of one step in parts that are computed at once."""
        return [rows] if self.undivided else micro(rows, self.sizes, max_tokens)

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        """All rows once, in the batches that validation computes."""
        on_cpu = self.device.type == "cpu"
        return ordered(self.sizes, min(CACHED_TOKENS, INFERENCE_TOKENS) if on_cpu else
                       INFERENCE_TOKENS)  # fmt: skip

    def gather(self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]) -> Any:
        """The outputs of batches as those of all rows [n, ...], in the order of the rows."""
        trim()  # what training left free has other sizes than answers need
        outputs = np.empty(self.nothing, np.float32)
        for batch, answer in answers:
            assert isinstance(answer, Tensor)
            size, places, values = self.places(batch.rows, answer.float().cpu().numpy())
            if not outputs.size:
                outputs = np.empty((size, *values.shape[1:]), np.float32)
            outputs[places] = values
        return outputs

    def places(self, rows: np.ndarray, values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """How many outputs there are in all, where those of some rows belong, and these."""
        return len(self), rows, values

    def predict(self, forward: Forward) -> Any:
        """The outputs of a trained model for all rows."""
        with forward.evaluating():
            batches = map(self.collate, self.ordered(1))
            return self.gather(forward, ((batch, forward.forward(batch)) for batch in batches))

    def _send(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def _count(self, rows: int) -> Tensor:
        return torch.tensor(float(rows), device=self.device)


class TokenRows(Rows):
    """Token ids, padded on the right; targets are one a row, or one a token."""

    def __init__(self, dataset: TokenizedDataset, pad_id: int, device: torch.device) -> None:
        super().__init__(dataset.lengths, device)
        self.dataset, self.pad_id = dataset, pad_id
        self.longest = int(self.sizes.max(initial=1))
        self._taught = np.zeros(len(dataset), bool)
        if len(dataset):
            self._taught[dataset.taught] = True

    def collate(self, rows: np.ndarray) -> Batch:
        dataset, columns = self.dataset, width(int(self.sizes[rows].max()), self.longest)
        ids, lengths = pad(dataset, rows, self.pad_id, columns)
        inputs = {"ids": self._send(ids), "lengths": self._send(lengths)}
        if dataset.types is not None:
            inputs["types"] = self._send(dataset.padded(dataset.types, rows, columns, 0))
        targets, by_token = dataset.targets, dataset.by_token
        own = dataset.padded(targets, rows, columns, IGNORE_INDEX) if by_token else targets[rows]
        return Batch(
            inputs, self._send(own), self._count(self._taught[rows].sum()), rows, int(lengths.sum())
        )

    def places(self, rows: np.ndarray, values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Outputs [n, K]; [tokens, K] of a head that reads every token, parallel to the ids."""
        if values.ndim == 2:
            return super().places(rows, values)
        columns = np.arange(values.shape[1])
        real = columns < self.sizes[rows, None]
        return (
            len(self.dataset.ids),
            (self.dataset.offsets[rows, None] + columns)[real],
            values[real],
        )


class GroupRows(Rows):
    """One or several texts a row (pairs, triplets), every step under one loss over all vectors, for
    every vector may be a negative of every other. Outputs are vectors [n, K, H].

    Args:
        dataset: the first texts; `answers` the second ones, whose `answers` are the third ones. Of
            single texts `targets` are their classes.
        part_tokens: tokens that are computed at once, on a CPU at most 2,048.
    """

    undivided = True

    def __init__(
        self,
        dataset: TokenizedDataset,
        pad_id: int,
        device: torch.device,
        part_tokens: int = PART_TOKENS,
    ) -> None:
        texts = [dataset, *behind(dataset)]
        super().__init__(row_sizes(dataset), device)
        self.targets, self.texts = dataset.targets, len(texts)
        self.nothing = 0, self.texts, 0
        self.flat = TokenRows(joined(texts), pad_id, device)
        self.part_tokens = min(part_tokens, PART_TOKENS) if device.type == "cpu" else part_tokens

    def collate(self, rows: np.ndarray) -> Batch:
        numbers = np.concatenate([rows + kind * len(self) for kind in range(self.texts)])
        parts = self.flat.micro(numbers, self.part_tokens)
        batches = [self.flat.collate(part) for part in parts]
        order = np.empty(len(numbers), np.int64)  # the parts are sorted by length
        order[np.argsort(self.flat.sizes[numbers], kind="stable")] = np.arange(len(numbers))
        inputs = {
            "parts": [batch.inputs for batch in batches],
            "order": self._send(order),
            "texts": self.texts,
        }
        tokens = sum(batch.tokens for batch in batches)
        return Batch(inputs, self._send(self.targets[rows]), self._count(len(rows)), rows, tokens)

    def plan(
        self, rows: np.ndarray, batch_size: int, batch_tokens: int | None, rng_key: tuple[int, int]
    ) -> list[np.ndarray]:
        """At random, so that negatives are; texts of a class in small groups, so that there are
        positives."""
        rng = np.random.default_rng(rng_key)
        order = rng.permutation(rows)
        if self.texts == 1:
            order = grouped(order, self.targets, GROUP, rng)
        return np.array_split(order, -(-len(order) // batch_size))

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        """As many rows as a training step has, always the same: the loss depends on them."""
        return self.plan(np.arange(len(self)), batch_size, None, (0, 0)) if len(self) else []

    def predict(self, forward: Forward) -> np.ndarray:
        """Vectors [n, K, H], computed text by text."""
        flat = self.flat.predict(forward)
        if not len(self):
            return flat.reshape(0, self.texts, 0)
        return flat.reshape(self.texts, len(self), -1).transpose(1, 0, 2)


class WrittenRows(Rows):
    """Texts with the texts that are to be written after them.

    An encoder-decoder reads the text and, shifted by one, the answer; a decoder reads both in one
    row, and what it says of the text counts nothing but where the dataset's targets, by token, name
    one (earlier answers of a conversation). Targets [B, T] are -100 where nothing counts.

    Args:
        writes: how many rows are answered by generation, from the first; None: all.
    """

    def __init__(
        self,
        dataset: TokenizedDataset,
        language: Language,
        pad_id: int,
        device: torch.device,
        *,
        writes: int | None = None,
    ) -> None:
        super().__init__(row_sizes(dataset), device)
        self.dataset, self.language, self.pad_id = dataset, language, pad_id
        self.writes = len(dataset) if writes is None else min(writes, len(dataset))

    @property
    def unit_count(self) -> int:
        """The rows for which answers are written, or else whose targets are scored."""
        return self.writes or len(self)

    def collate(self, rows: np.ndarray, answers: Sequence[np.ndarray] | None = None) -> Batch:
        """The rows beside their own answers, or others."""
        texts = [self.dataset.row(int(row)).astype(np.int64) for row in rows]
        before = [np.full(len(text) - 1, IGNORE_INDEX) for text in texts]
        if answers is None:
            own = self.dataset.answers
            assert own is not None
            answers = [own.row(int(row)).astype(np.int64) for row in rows]
            before = [self.dataset.learned(int(row))[1:] for row in rows]
        tokens = sum(map(len, texts)) + sum(map(len, answers))
        inputs: dict[str, Any] = {}
        if self.language.decodes:
            read = [np.concatenate([t, a[:-1]]) for t, a in zip(texts, answers, strict=True)]
            wanted = [np.concatenate([b, a]) for b, a in zip(before, answers, strict=True)]
        else:
            read, wanted = texts, answers
            start = np.array([self.language.start])
            shifted = [np.concatenate([start, answer])[:-1] for answer in answers]
            inputs["decoder_ids"] = self._send(pad_rows(shifted, self.pad_id)[0])
        ids, mask = pad_rows(read, self.pad_id)
        inputs |= {"ids": self._send(ids), "mask": self._send(mask)}
        targets = self._send(pad_rows(wanted, IGNORE_INDEX)[0])
        return Batch(inputs, targets, self._count(len(rows)), rows, tokens)

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        known = self.dataset.answers is not None
        return ordered(self.sizes, INFERENCE_TOKENS) if known else []

    def gather(
        self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]
    ) -> GenerationOutput:
        """What the model says of the targets, where there are some, and what it writes itself."""
        found = GenerationOutput.nothing(len(self))
        for batch, outputs in answers:
            _put(found, batch.rows, _scores_of(outputs, batch))
        self._write(forward, found)
        return found

    def _write(self, forward: Forward, found: GenerationOutput) -> None:
        """Answers for the first rows, with the confidence in each."""
        new = int(self.language.generation.max_new_tokens or 0)
        lengths = self.dataset.lengths[: self.writes]
        batches = ordered(lengths + new, GENERATED_TOKENS)
        if self.language.pads_badly:  # behind virtual tokens padding would be read: equal lengths
            batches = [rows[lengths[rows] == length] for rows in batches
                       for length in np.unique(lengths[rows])]  # fmt: skip
        for rows in batches:
            texts = [self.dataset.row(int(row)) for row in rows]
            ids, mask = pad_rows(texts, self.pad_id, left=self.language.decodes)
            written = forward.generate(self._send(ids), self._send(mask))
            batch = self.collate(rows, [np.asarray(row, np.int64) for row in written])
            scores = _scores_of(forward.forward(batch), batch)
            found.confidence[rows] = scores.sure / np.maximum(scores.tokens, 1)
            for row, text in zip(rows.tolist(), written, strict=True):
                found.ids[row] = text


class LanguageRows(TokenRows):
    """Windows of documents, whose own tokens are what is predicted. Outputs are what the model says
    of each window under the same random numbers, whenever it is asked.

    Args:
        objective: makes the batches.
    """

    def __init__(
        self,
        dataset: TokenizedDataset,
        pad_id: int,
        device: torch.device,
        objective: LanguageObjective,
    ) -> None:
        super().__init__(dataset, pad_id, device)
        self.objective = objective

    def gather(self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]) -> TokenScores:
        scores = TokenScores.nothing(len(self))
        for batch, outputs in answers:
            at = self.objective.final_predictions(outputs, batch)
            _put(scores, batch.rows, _token_scores(at.outputs, at.targets, at.rows, batch.rows))
        return scores

    def predict(self, forward: Forward) -> TokenScores:
        """What the model says of all windows."""
        with forward.evaluating():
            return self.gather(forward, self.answered(forward))

    def answered(self, forward: Forward) -> Iterator[tuple[Batch, Outputs]]:
        """All windows under the random numbers of every evaluation, and what is said of each."""
        for rows in self.ordered(1):
            batch = self.objective.collate(self, rows, np.random.default_rng(EVALUATION))
            yield batch, forward.forward(batch)


class HiddenTokens(TokenRows):
    """Rows in which tokens are hidden; the targets say, by token, which ones are guessed. Outputs
    are what a masked model says of each row's targets."""

    def collate(self, rows: np.ndarray) -> Batch:
        batch = super().collate(rows)
        chosen = batch.targets != IGNORE_INDEX
        return replace(batch, inputs={**batch.inputs, "chosen": chosen})

    def gather(self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]) -> TokenScores:
        scores = TokenScores.nothing(len(self))
        for batch, outputs in answers:
            assert isinstance(outputs, Tensor)
            chosen = batch.inputs["chosen"]
            owners, targets = chosen.nonzero()[:, 0], batch.targets[chosen]
            _put(scores, batch.rows, _token_scores(outputs[0], targets, owners, batch.rows))
        return scores


def rows_for(
    head: Head, dataset: TokenizedDataset, forward: Forward, pad_id: int, **more: Any
) -> Rows:
    """The rows of a dataset as a head needs them; `more` as the kind takes it."""
    if head.generates:
        return WrittenRows(dataset, forward.language, pad_id, forward.device, **more)
    if head.predicts_itself:
        return LanguageRows(dataset, pad_id, forward.device, **more)
    kind = GroupRows if head.gives_vectors else TokenRows
    return kind(dataset, pad_id, forward.device, **more)


def behind(dataset: TokenizedDataset) -> list[TokenizedDataset]:
    """The second and the third texts of each row, where there are some."""
    next_texts = dataset.answers
    return [] if next_texts is None else [next_texts, *behind(next_texts)]


def row_sizes(dataset: TokenizedDataset) -> np.ndarray:
    """Tokens that are computed for each row [n], of all its texts."""
    return np.sum([text.lengths for text in (dataset, *behind(dataset))], axis=0)


def grouped(
    order: np.ndarray, classes: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """The same rows, with up to `size` of one class side by side; the groups at random."""
    by_class = order[np.argsort(classes[order], kind="stable")]
    _, starts = np.unique(classes[by_class], return_index=True)
    groups: list[np.ndarray] = []
    for rows in np.split(by_class, starts[1:]):
        groups += np.array_split(rows, max(1, round(len(rows) / size)))
    return np.concatenate([groups[i] for i in rng.permutation(len(groups))])


def narrow(
    forward: Forward, datasets: Mapping[str, TokenizedDataset], pad_id: int
) -> tuple[dict[str, TokenizedDataset], int]:
    """The same rows under the ids of the tokens that occur in them, and the padding token's new id:
    only these rows of the embedding are trained.

    A batch touches a few hundred of 30,522 rows, yet a dense optimizer steps them all. Rows whose
    token never occurs have no gradient and no weight decay, so leaving them out changes nothing;
    they are put back when training ends.
    """
    used = {int(pad_id)}
    for dataset in datasets.values():
        for part in (dataset, *behind(dataset)):
            used.update(np.unique(part.ids).tolist())
    table = forward.narrow_vocabulary(np.array(sorted(used)))
    if table is None:
        return dict(datasets), pad_id

    def renumber(dataset: TokenizedDataset) -> TokenizedDataset:
        answers = None if dataset.answers is None else renumber(dataset.answers)
        ids = table.astype(dataset.ids.dtype)[dataset.ids]
        return replace(dataset, ids=ids, answers=answers)

    return {name: renumber(dataset) for name, dataset in datasets.items()}, int(table[pad_id])


def _scores_of(outputs: Outputs, batch: Batch) -> TokenScores:
    """What a model that writes says of each row's target."""
    real = batch.targets != IGNORE_INDEX
    assert not isinstance(outputs, Mapping)
    at = outputs[real] if isinstance(outputs, Tensor) else outputs.at(real)
    return _token_scores(at, batch.targets[real], real.nonzero()[:, 0], batch.rows)


def _token_scores(
    outputs: Tensor | Unprojected, targets: Tensor, owners: Tensor, rows: np.ndarray
) -> TokenScores:
    """What a model says of the targets [T] of each of some rows; `owners` [T] says whose they
    are."""
    tokens = score_targets(outputs, targets)
    owner, nll = owners.cpu().numpy(), tokens.nll.double().numpy()

    def summed(values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(owner, values, minlength=len(rows))

    return TokenScores(summed(nll), summed(np.exp(-nll)), summed(tokens.is_top.numpy()), summed())


def _put(scores: TokenScores, rows: np.ndarray, some: TokenScores) -> None:
    """Put the scores of some rows in their places."""
    scores.nll[rows], scores.sure[rows] = some.nll, some.sure
    scores.hits[rows], scores.tokens[rows] = some.hits, some.tokens
