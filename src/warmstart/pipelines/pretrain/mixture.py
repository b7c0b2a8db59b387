"""A corpus with others beside it: learned along with a share of the tokens, and read before and
after training, so that what was gained of the one and lost of the others stands side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.ledger import Ledger
from warmstart.data.sampling import mixed
from warmstart.data.settings import Corpus
from warmstart.data.splitting import Splits
from warmstart.data.tokens.dataset import TokenizedDataset, offsets_of
from warmstart.errors import RecipeError
from warmstart.evaluation.forgetting import of_corpora
from warmstart.formatting import counted
from warmstart.metrics.base import Floats
from warmstart.models.architectures import family_of
from warmstart.models.base import Base
from warmstart.models.head_layers import unwrap
from warmstart.objectives.base import Objective, PlannedStep, Position
from warmstart.objectives.language import objective_of
from warmstart.pipelines.pretrain.scratch import windows_of
from warmstart.tasks.base import Examples
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import Rows, rows_for
from warmstart.training.precision import device_named
from warmstart.training.settings import Train

GENERAL = "general"
"""What the text of `forgetting.text` is called among the corpora."""


def corpora_of(recipe: Recipe) -> dict[str, Corpus]:
    """The corpora that are learned along: those of `data.mixture`, and the general text that is
    rehearsed. Raises `RecipeError` where the task reads no raw text, or both have one name."""
    task: Any = recipe.task
    corpora, keeping, late = recipe.data.corpora, recipe.forgetting, recipe.data.decay_mixture
    if not task.reads_documents:
        if corpora:
            raise RecipeError(
                "data.mixture mixes corpora of raw text, which pretrain reads; for task "
                f"{task.part_name()} there is forgetting.text with forgetting.rehearsal"
            )
        return {}
    if keeping.text is not None:
        if GENERAL in corpora:
            raise RecipeError(
                "data.mixture.general and forgetting.text are two general texts; give one of them"
            )
        corpora[GENERAL] = Corpus(keeping.text, keeping.rehearsal)
    if late and recipe.train.schedule != "wsd":
        raise RecipeError(
            "data.decay_mixture is what the last steps of schedule wsd learn from, and schedule "
            f"{recipe.train.schedule} has no such steps; take --train.schedule wsd"
        )
    rehearsed = keeping.rehearsal if keeping.text is not None else 0.0
    whole = max(sum(corpus.share for corpus in corpora.values()),
                sum(table["share"] for table in late.values()) + rehearsed)  # fmt: skip
    if whole >= 1:
        raise RecipeError(
            "the shares of data.mixture and forgetting.rehearsal come to 1 or more, and the data "
            "themselves get the rest; lower them"
        )
    return corpora


class Mixture(NamedTuple):
    """What is trained on: the documents and windows of all corpora, the rows of one pass, and those
    of a pass in the decay where these are others.

    `held` are the held-out documents of the other corpora.
    """

    train: Examples
    rows: np.ndarray
    late: np.ndarray | None
    held: Mapping[str, Examples]


def mix(
    recipe: Recipe, splits: Splits, base: Base, train: Examples, ledger: Ledger, cut: Any
) -> Mixture:
    """Put the other corpora behind the one that is trained on. `cut(table)` makes what hears of
    documents that are too long."""
    task: Any = recipe.task
    corpora, tokenizer, main = corpora_of(recipe), train.tokenizer, train
    parts, held = [main], dict[str, Examples]()
    for name, own in splits.corpora.items():
        for split in ("train", "test"):
            table, heard = getattr(own, split), cut(getattr(own, split))
            store = windows_of(task, split, table, tokenizer, base, own.fingerprint, heard)
            examples = Examples(table, store, [], tokenizer)
            ledger.tokens(split, int(store.offsets[-1]) + heard.tokens, heard.tokens)
            if split == "train":
                parts.append(examples)
            else:
                held[name] = examples
    lengths = [part.store.lengths for part in parts]
    rows = mixed(lengths, [corpora[name].share for name in splits.corpora], recipe.seed)
    for name, part, own in zip(splits.corpora, parts[1:], rows[1:], strict=True):
        late_share = recipe.data.decay_mixture.get(name, {}).get("share", 0.0)
        _note(name, corpora[name], late_share, part, own, held[name], ledger)
    starts = np.cumsum([0, *(len(part.store) for part in parts[:-1])])
    used = np.concatenate([own + start for own, start in zip(rows, starts, strict=True)])
    late = None
    if recipe.data.decay_mixture:
        shares = {name: recipe.data.decay_mixture.get(name, {"share": 0.0})["share"]
                  for name in splits.corpora}  # fmt: skip
        if GENERAL in shares and recipe.forgetting.text is not None:
            shares[GENERAL] = recipe.forgetting.rehearsal
        drawn = mixed(lengths, [*shares.values()], recipe.seed)
        late = np.concatenate([own + start for own, start in zip(drawn, starts, strict=True)])
        _note_decay(recipe, shares, ledger)
    columns = main.table.column_names
    table = pa.concat_tables([part.table.select(columns) for part in parts])
    stacked = replace(main, table=table.unify_dictionaries(), store=behind_one_another(parts))
    return Mixture(stacked, used, late, held)


def behind_one_another(parts: Sequence[Examples]) -> TokenizedDataset:
    """The windows of several corpora as those of one."""
    stores = [part.store for part in parts]
    starts = np.cumsum([0, *(len(part.table) for part in parts[:-1])])
    owners = [np.asarray(store.of_row) + start for store, start in zip(stores, starts, strict=True)]
    return TokenizedDataset(
        np.concatenate([store.ids for store in stores]),
        offsets_of(np.concatenate([store.lengths for store in stores])),
        np.concatenate([store.targets for store in stores]),
        of_row=np.concatenate(owners),
    )


def _note(
    name: str, corpus: Corpus, late: float, part: Examples, rows: np.ndarray, held: Examples,
    ledger: Ledger,
) -> None:  # fmt: skip
    """What is read of a corpus, of which the decay has the share `late`."""
    tokens, whole = int(part.store.lengths[rows].sum()), int(part.store.offsets[-1])
    use = f"{counted(tokens, 'token')} of it in each pass ({corpus.share:.0%} of all)"
    if not corpus.share:
        use = "none of it is learned, it is only measured"
        if late:
            use = f"learned in the last steps alone ({late:.0%} of their tokens)"
    elif tokens > whole:
        use += f": each of its documents is read {tokens / whole:.1f} times in a pass"
    ledger.note(
        "mixture",
        f"corpus {name}: {counted(len(part.table), 'document')} of {corpus.path} with "
        f"{counted(whole, 'token')}; {use}; {counted(len(held.table), 'document')} held out",
        loud=tokens > whole, documents=len(part.table), tokens=whole, used=tokens,
        times=round(tokens / max(whole, 1), 3), share=corpus.share,
    )  # fmt: skip


def _note_decay(recipe: Recipe, shares: Mapping[str, float], ledger: Ledger) -> None:
    own = ", ".join(f"{share:.0%} {name}" for name, share in shares.items() if share)
    ledger.note(
        "mixture",
        f"the last {recipe.train.decay:.0%} of the steps, in which the learning rate goes down, "
        f"have a mixture of their own: {own or 'none of the other corpora'}, and "
        f"{1 - sum(shares.values()):.0%} of the data themselves",
        shares=dict(shares),
    )  # fmt: skip


class PhasedSource(BatchSource):
    """Rows, of which the last steps, over which the learning rate of schedule wsd goes down, are
    drawn from others.

    How long the run is, where its epochs end and what is validated is as without them. Which rows a
    step has depends on its number alone, so that a run goes on in the midst of either phase.

    Args:
        rows: as of `BatchSource`.
        late: the rows of a pass in the last steps; None: the same.
    """

    def __init__(
        self, dataset: Rows, objective: Objective, settings: Train, seed: int = 0,
        rows: np.ndarray | None = None, late: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        super().__init__(dataset, objective, settings, seed, rows=rows)
        self.late = late

    def steps(self, done: Position) -> Iterator[PlannedStep]:
        if self.late is None:
            yield from super().steps(done)
            return
        total = self.length().steps
        begin, rows = total - self.settings.decay_steps(total), None
        for planned in super().steps(done):
            number = planned.after.step - 1 - begin
            if number >= 0:
                rows = rows or self._late_from(number)
                own = next(rows)
                planned = replace(planned, batches=partial(self.batches, own), rows=len(own))
            yield planned

    def _late_from(self, number: int) -> Iterator[np.ndarray]:
        """The rows of the steps of the decay, from one on, pass after pass."""
        source = BatchSource(self.dataset, self.objective, self.settings, self.seed, rows=self.late)
        for epoch in count():
            size = source.steps_in(epoch)
            if number < size:
                yield from source.plan(epoch)[number:]
            number = max(0, number - size)


class HeldOut:
    """How a model reads the held-out documents of each corpus, that of the test first; always in
    float32, by the objective under the same random numbers."""

    def __init__(self, task: Any, examples: Mapping[str, Examples], device: str) -> None:
        self.task, self.device = task, device_named(device)
        self.examples = {name: own for name, own in examples.items() if len(own.store)}
        self.before: dict[str, Floats] = {}

    def read(self, model: Any) -> dict[str, Floats]:
        """Statistics of each document, or where they are few of each window, by corpus; see
        `TextFit`."""
        inner, forward = unwrap(model), self.task.forward(model)
        forward.prepare(forward.dtype, self.device, checkpointing=False)
        forward.full_precision()
        statistics: dict[str, Floats] = {}
        for name, own in self.examples.items():
            kind = family_of(inner.config).kind
            objective = objective_of(self.task, kind, inner, own.tokenizer)
            pad = int(own.tokenizer.pad_token_id)
            rows = rows_for(self.task.head, own.store, forward, pad, objective=objective)
            windows = self.task.window_statistics(rows.predict(forward), own)
            statistics[name] = self.task.units_of(windows, own)
        return statistics

    def figure(self, model: Any, recipe: Recipe) -> dict[str, Any]:
        """What was gained and lost; see `evaluation.forgetting.of_corpora`."""
        return of_corpora(
            self.task.measure, self.before, self.read(model), recipe.evaluate, recipe.seed,
            kept=recipe.forgetting.acts or any(c.share for c in corpora_of(recipe).values()),
        )  # fmt: skip
