"""A guard over long runs: a step whose loss or gradient is out of line is not made."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

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

    def fault(self, loss: float, norm: float) -> str:
        """Why a step is not made; empty for one that is, whose figures are then remembered."""
        fault = self._fault(loss, norm)
        if fault:
            self.in_a_row += 1
        else:
            self.in_a_row = 0
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
        self.in_a_row = int(saved["in_a_row"])
