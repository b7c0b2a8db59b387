"""What every task answers: its columns, its examples, its head, its answers, its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from warmstart.parts import Part

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from warmstart.models.catalog import Base
    from warmstart.types import Prediction


class Task(Part):
    """What is predicted."""

    kind: ClassVar[str] = "task"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Role of a column → names under which it is recognised, in order."""
    main_score: ClassVar[str] = ""
    """The metric that chooses the best epoch; higher is better."""
    max_length: int

    def head(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        """The base's body under this task's head."""
        raise NotImplementedError

    def decode(
        self, logits: np.ndarray, labels: Sequence[str], ids: Sequence[str]
    ) -> list[Prediction]:
        """Model outputs [n, K] as answers."""
        raise NotImplementedError

    def score(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Quick figures for one pass over a split."""
        raise NotImplementedError
