"""ALBERT's second objective beside masked tokens: which of two neighbours comes first?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from warmstart.objectives.nsp import NSP, split_place

if TYPE_CHECKING:
    import numpy as np

    from warmstart.objectives.language import Vocabulary


class SOP(NSP):
    """Sentence-order prediction beside masked tokens (Lan et al. 2020): in half of the rows the two
    parts are swapped, and the model tells which."""

    architectures: ClassVar[frozenset[str]] = frozenset({"albert", "bert"})

    def pair(
        self, body: np.ndarray, other: np.ndarray, swap: bool, words: Vocabulary
    ) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of a row, in their order or swapped."""
        at = split_place(words.sentence_ends(body), len(body))
        return (body[at:], body[:at]) if swap else (body[:at], body[at:])
