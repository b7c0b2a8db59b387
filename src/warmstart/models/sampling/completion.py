"""What was written, and its text as it comes: whole characters only, nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Finish = Literal["stop", "length", "cancelled"]
BROKEN = "\ufffd"
CONTEXT = 8
"""Tokens of the prompt that are decoded with the first of the answer, for the space between."""


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """A text that was written.

    Args:
        prompt: the number of its prompt.
        ids: the tokens, with the one that ended it.
        log_probs: [n] log-probability of each under the model at this temperature (at 1 where the
            likeliest was taken), before anything was cut off or penalised; float32.
        finish_reason: "stop" at an end token or a stop text, "length" where there was no more
            room, "cancelled".
        text: what comes behind the prompt, without special tokens and before the stop text; ""
            where no tokenizer was at hand.
    """

    prompt: int
    ids: list[int]
    log_probs: np.ndarray
    finish_reason: Finish
    text: str = ""

    @property
    def mean_log_prob(self) -> float:
        """Mean log-probability of a token in nats; 0 where nothing was written."""
        return float(self.log_probs.mean()) if len(self.log_probs) else 0.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is written.

    Args:
        row: the number of the completion.
        id: the token; None where a text ends without another (it was cancelled).
        log_prob: see `Completion`.
        text: what can be shown now; all such texts together are the completion's text.
        finish_reason: why it was the last, or None.
    """

    row: int
    id: int | None
    log_prob: float
    text: str
    finish_reason: Finish | None


class Text:
    """The text of tokens that come one after the other.

    A part is given out when its characters are whole and it can be no beginning of a stop text.
    Only a window is decoded at each token: from a token before which everything was given out.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = tokenizer.decode, stop
        self._ids = [*prompt[-CONTEXT:]]
        self._start, self._read = 0, len(self._ids)
        self._held = ""
        self.text, self.stopped = "", False

    def add(self, token: int) -> str:
        """What can be given out now that this token has come."""
        self._ids.append(token)
        before, whole = self._window(self._read), self._window(len(self._ids))
        if whole.endswith(BROKEN) or len(whole) <= len(before):
            return ""  # a character of several tokens, or a special token
        self._start, self._read = self._read, len(self._ids)
        return self._give(whole[len(before) :], last=False)

    def end(self) -> str:
        """The rest, when no token comes any more."""
        before, whole = self._window(self._read), self._window(len(self._ids))
        self._start = self._read = len(self._ids)
        return self._give(whole[len(before) :], last=True)

    def _window(self, end: int) -> str:
        ids = self._ids[self._start : end]
        return self._decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _give(self, more: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + more
        places = [place for text in self._stop if (place := held.find(text)) >= 0]
        if places:
            self.stopped, held, keep = True, held[: min(places)], 0
        else:
            keep = 0 if last else self._beginning(held)
        part, self._held = held[: len(held) - keep], held[len(held) - keep :]
        self.text += part
        return part

    def _beginning(self, text: str) -> int:
        """Characters at its end with which a stop text may begin."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next(
            (n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._stop)), 0
        )
