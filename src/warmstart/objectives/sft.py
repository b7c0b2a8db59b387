"""Supervised fine-tuning: the answers of conversations, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Loss, Objective, Setting
from warmstart.objectives.language import Predictions, summed_nll

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward

PACK = 1024
"""Tokens of a row of several conversations; one that is longer stands alone."""
CLOSE = 1e-3


class SFT(Objective):
    """Supervised fine-tuning (Ouyang et al. 2022): the cross-entropy in nats of the tokens that the
    assistant writes, each after the true ones; their mean over all of a step's rows."""

    heads: ClassVar[frozenset[str]] = frozenset({"text"})

    packing: bool = Field(
        default=False,
        description="compute several conversations in one row, so that nothing is padded; none "
        "sees another, none is cut, and the loss is the same",
    )

    _pad: int = PrivateAttr(default=0)

    def setup(self, session: Setting) -> None:
        """Learn what pads; make sure that packed texts do not see each other, where they are to be
        packed. Raises `RecipeError`."""
        self._pad = int(session.tokenizer.pad_token_id)
        if self.packing:
            _check_apart(session.forward)

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = super().collate(dataset, rows, rng)
        return self._packed(batch) if self.packing else batch

    def weigh(self, batch: Batch) -> Tensor:
        """The tokens that are learned."""
        return (batch.targets != IGNORE_INDEX).sum().float()

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The summed cross-entropy of the tokens that are learned. Where they are packed, `fill` is
        the share of computed tokens that were no padding."""
        outputs: Any = model.forward(batch)
        real = batch.targets != IGNORE_INDEX
        at = outputs.at(real) if hasattr(outputs, "at") else outputs[real]
        total = summed_nll(Predictions(at, batch.targets[real], real.nonzero()[:, 0]))
        if not self.packing:
            return Loss(total, batch.weight)
        fill = (batch.inputs["pieces"] >= 0).float().mean()
        return Loss(total, batch.weight, {"fill": fill * batch.weight})

    def _packed(self, batch: Batch) -> Batch:
        """The rows of a batch behind one another in as few rows as hold them, each whole."""
        import torch

        mask = batch.inputs["mask"].bool()
        lengths = mask.sum(1).tolist()
        bins = packs(lengths, max(PACK, *lengths))
        width = max(sum(lengths[row] for row in pack) for pack in bins)
        shape = len(bins), width
        ids = batch.inputs["ids"].new_full(shape, self._pad)
        targets = batch.targets.new_full(shape, IGNORE_INDEX)
        pieces = torch.full(shape, -1, device=ids.device)
        for place, pack in enumerate(bins):
            begin = 0
            for row in pack:
                end = begin + lengths[row]
                ids[place, begin:end] = batch.inputs["ids"][row, : lengths[row]]
                targets[place, begin:end] = batch.targets[row, : lengths[row]]
                pieces[place, begin:end] = row
                begin = end
        inputs = {"ids": ids, "mask": (pieces >= 0).long(), "pieces": pieces}
        return replace(batch, inputs=inputs, targets=targets)


def packs(lengths: list[int], room: int) -> list[list[int]]:
    """The numbers of rows of these lengths in as few packs of so many tokens as the longest first,
    each where it leaves least (best fit), makes; nothing is cut."""
    bins, left = list[list[int]](), list[int]()
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        fits = [number for number, free in enumerate(left) if free >= lengths[row]]
        best = min(fits, key=left.__getitem__, default=None)
        if best is None:
            bins.append([row])
            left.append(room - lengths[row])
        else:
            bins[best].append(row)
            left[best] -= lengths[row]
    return bins


def _check_apart(forward: Forward) -> None:
    """Raise `RecipeError` unless a text has the same outputs behind another one as alone."""
    import torch

    language = forward.language
    wrong = ""
    if not language.decodes or language.pads_badly:
        wrong = "it is an encoder-decoder, or reads virtual tokens"
    else:
        ids = torch.tensor([[3, 4, 5, 6, 7, 8]], device=forward.device)
        pieces = torch.tensor([[0, 0, 0, 1, 1, 1]], device=forward.device)
        dtype, forward.dtype = forward.dtype, torch.float32
        try:
            with torch.no_grad():
                alone = language.forward(ids[:, 3:], torch.ones_like(ids[:, 3:]), training=False)
                beside = language.forward(ids, torch.ones_like(ids), pieces=pieces, training=False)
                outputs = (alone, beside)
                first, other = (x if isinstance(x, torch.Tensor) else x.logits() for x in outputs)
            gap, largest = (first - other[:, 3:]).abs().max(), first.abs().max()
            wrong = "" if gap <= CLOSE * largest else "they see each other"
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            wrong = str(error).splitlines()[0][:80]
        finally:
            forward.dtype = dtype
    if wrong:
        raise RecipeError(
            f"objective.packing: this base cannot compute several conversations in one row apart "
            f"({wrong}); leave it out"
        )
