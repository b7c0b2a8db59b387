"""The texts that are being written, whatever computes their next tokens: the room of each, the seed
of its draws, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from warmstart.errors import DataError, RecipeError
from warmstart.models.architectures import family_of, positions_of
from warmstart.models.sampling.completion import Completion, Finish, Text, Token
from warmstart.models.sampling.settings import Sampling

Tell = Callable[[Token], None]


@dataclass(eq=False)
class Row:
    """A text that is being written.

    Args:
        number, prompt: its own number, and that of its prompt.
        room: the most tokens that it may have.
        seed: of its draws; see `random`.
    """

    number: int
    prompt: int
    room: int
    sampling: Sampling
    seed: np.random.SeedSequence
    text: Text | None
    ids: list[int] = field(default_factory=list[int])
    log_probs: list[float] = field(default_factory=list[float])
    finish: Finish | None = None

    def __post_init__(self) -> None:
        self.random = np.random.Generator(np.random.Philox(self.seed))

    def take(self, token: int, log_prob: float, ends: Collection[int], tell: Tell) -> None:
        """Put a token behind the text, and see whether it was the last."""
        self.ids.append(token)
        self.log_probs.append(log_prob)
        text = self.text
        part = "" if text is None else text.add(token)
        if token in ends or (text is not None and text.stopped):
            self.finish = "stop"
        elif len(self.ids) >= self.room:
            self.finish = "length"
        if self.finish is not None and text is not None:
            part += text.end()
            self.finish = "stop" if text.stopped else self.finish
        tell(Token(self.number, token, log_prob, part, self.finish))

    def cancel(self, tell: Tell) -> None:
        """End the text where it stands."""
        self.finish = "cancelled"
        part = "" if self.text is None else self.text.end()
        tell(Token(self.number, None, 0.0, part, self.finish))

    def completion(self) -> Completion:
        """The text, which has ended."""
        assert self.finish is not None
        text = "" if self.text is None else self.text.text
        log_probs = np.asarray(self.log_probs, np.float32)
        return Completion(self.prompt, self.ids, log_probs, self.finish, text)


def rows_of(
    config: Any, prompts: Sequence[Sequence[int]], settings: Sequence[Sampling], tokenizer: Any,
    *, alone: bool,
) -> list[Row]:  # fmt: skip
    """A row for each text that is to be written behind prompts, `num_return_sequences` for each.

    Raises as `generate` does, by the config of the model alone. `alone`: the draws of a prompt do
    not depend on its number.
    """
    reads = family_of(config).kind == "encoder-decoder"
    positions = positions_of(config)
    rows: list[Row] = []
    for number, (prompt, own) in enumerate(zip(prompts, settings, strict=True)):
        if not len(prompt):
            raise DataError(f"prompt {number + 1} is empty; give at least one token")
        if own.stop and tokenizer is None:
            raise ValueError("stop needs the tokenizer, which makes the text that is searched")
        if reads and len(prompt) > positions:
            raise RecipeError(
                f"prompt {number + 1} has {len(prompt):,} tokens, and the model reads at most "
                f"{positions:,}: shorten it"
            )
        room = own.room(0 if reads else len(prompt), positions, number)
        for copy in range(own.num_return_sequences):
            seed = np.random.SeedSequence((own.seed, 0 if alone else number, copy))
            text = None if tokenizer is None else Text(tokenizer, [] if reads else prompt, own.stop)
            rows.append(Row(len(rows), number, room, own, seed, text))
    return rows


def ends_of(config: Any, generation: Any, tokenizer: Any, more: Collection[int]) -> set[int]:
    """The tokens at which a text ends: of the model's generation config, else of its config, of the
    tokenizer, and `more`."""
    own = generation.eos_token_id
    own = getattr(config, "eos_token_id", None) if own is None else own
    named = [*(own if isinstance(own, list | tuple) else [own]), *more]
    return {*named, getattr(tokenizer, "eos_token_id", None)} - {None}
