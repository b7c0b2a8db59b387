"""Guards over a run: a model that answers otherwise beside longer texts is not trained, and a step
whose loss or gradient is out of line is not made."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from warmstart.errors import BaseModelError, RunError, shown
from warmstart.models.fast.loss import Unprojected
from warmstart.models.forward import Forward
from warmstart.models.head_layers import unwrap
from warmstart.models.heads import Head
from warmstart.models.hf_calls import seeded
from warmstart.training.datasets import Rows

WINDOW = 64
"""Steps whose losses and gradients say what is usual."""
LEAST = 16
"""Steps before anything can be unusual."""
DEVIATIONS, TIMES = 6.0, 20.0
"""Standard deviations above the mean from which a loss is a spike, and how many times the median a
gradient may be. A loss must besides be a tenth above the mean: losses that hardly move have hardly
a deviation."""
PATIENCE = 8
"""Steps that may be left out side by side; then the run goes back to its last checkpoint."""
TRIED, CLOSE = 1000, 1e-4
"""Rows among which the shortest and the longest are tried, and how close their outputs have to be.
"""


class Guard:
    """What is usual for the loss and the norm of the gradient, and what is not.

    A step that is left out costs its batch and nothing else: the weights, and the optimizer's
    memory, stay as they are.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self.in_a_row = 0
        """Steps left out since the last one that was made."""
        self.safe = False
        """Whether there is a checkpoint to go back to."""
        self._returned = False
        """Whether the run has gone back, and made no step since."""

    @property
    def wants_checkpoint(self) -> bool:
        """From the first step on that can be unusual there has to be one."""
        return not self.safe and len(self._losses) >= LEAST

    def go_back(self, fault: str, learning_rate: float) -> None:
        """Be told that the run goes back to its last checkpoint. Raises `RunError` where there is
        none, or where it has just gone there and made no step with those weights."""
        if not self.safe or self._returned:
            why = ("the weights of the last checkpoint do no better" if self.safe
                   else "there is no checkpoint to go back to")  # fmt: skip
            raise RunError(
                f"{PATIENCE} steps in a row were left out, the last one because {fault}, and "
                f"{why}; lower train.learning_rate (it is {learning_rate})"
            )
        self.in_a_row, self._returned = 0, True

    def fault(self, loss: float, norm: float) -> str:
        """Why a step is not made; empty for one that is, whose figures are then remembered."""
        fault = self._fault(loss, norm)
        if fault:
            self.in_a_row += 1
        else:
            self.in_a_row, self._returned = 0, False
            self._losses.append(loss)
            self._norms.append(norm)
        return fault

    def _fault(self, loss: float, norm: float) -> str:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if len(self._losses) < LEAST:
            return ""
        mean = sum(self._losses) / len(self._losses)
        spread = math.sqrt(sum((x - mean) ** 2 for x in self._losses) / len(self._losses))
        if loss > mean + max(DEVIATIONS * spread, 0.1 * abs(mean)):
            return f"the loss is {loss:.3f}, and was {mean:.3f} ± {spread:.3f} before"
        median = sorted(self._norms)[len(self._norms) // 2]
        if norm > TIMES * median > 0:
            return f"the gradient's norm is {norm:.3g}, and was {median:.3g} before"
        return ""

    def state(self) -> dict[str, Any]:
        """What it remembers, json-able."""
        return {"losses": [*self._losses], "norms": [*self._norms], "in_a_row": self.in_a_row}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self._losses.extend(saved["losses"])
        self._norms.extend(saved["norms"])
        self.in_a_row, self.safe = int(saved["in_a_row"]), True


def check_computes(
    forward: Forward, rows: Rows, lengths: np.ndarray, head: Head, task: str
) -> None:
    """Try an architecture that is in no table of ours: a row answers alone as it does beside a
    longer one, in float32, and can be computed in the type of the run.

    `lengths` [n] are those of the rows. Raises `BaseModelError`.
    """
    kind, dtype, tried = unwrap(forward.model).config.model_type, forward.dtype, lengths[:TRIED]
    both = np.array([tried.argmin(), tried.argmax()])
    try:
        with forward.evaluating(), seeded(0):
            forward.forward(rows.collate(both))
            forward.dtype = torch.float32
            pairs = [forward.forward(rows.collate(some)) for some in (both[:1], both)]
    except Exception as error:  # whatever transformers raises
        more = "" if dtype == torch.float32 else "; with --train.precision fp32 it may"
        raise BaseModelError(
            f"'{kind}' cannot compute the rows of task {task}{more}: {shown(error, 120)}"
        ) from error
    finally:
        forward.dtype = dtype
    alone, beside = (
        (outputs.logits() if isinstance(outputs, Unprojected) else outputs)[0].detach()
        for outputs in pairs
        if not isinstance(outputs, Mapping)
    )
    if alone.ndim > 1 and not head.gives_vectors:  # one for each token
        beside = beside[: len(alone)]
    gap = float((alone - beside).abs().max())
    if not gap <= CLOSE * max(1.0, float(alone.abs().max())):
        raise BaseModelError(
            f"'{kind}' answers otherwise where a text stands beside longer ones (its outputs "
            f"differ by {gap:.2g}): its layers read the padding, and no answer could be "
            "repeated; take another --base"
        )
