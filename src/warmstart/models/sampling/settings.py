"""How a text is written: the one place of all settings, the same in a recipe, on the command line
and in Python."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from warmstart.errors import RecipeError
from warmstart.formatting import counted

NEW_TOKENS = 128


class Sampling(BaseModel):
    """Settings of generation, frozen; unknown keys are refused.

    A token is drawn from softmax(logits / temperature) after `top_k`, then `top_p` (nucleus,
    Holtzman et al. 2020), then `min_p` (Nguyen et al. 2024) have taken away what is unlikely; the
    order and the meaning of each are those of transformers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    max_new_tokens: int = Field(
        default=NEW_TOKENS, ge=1, description="tokens that are written at most"
    )
    max_length: int | None = Field(
        default=None,
        ge=1,
        description="tokens of prompt and answer together, instead of max_new_tokens: a long "
        "prompt leaves little of it; unset: no such limit",
    )
    temperature: float = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description="logits are divided by it: under 1 likely tokens become likelier still; "
        "0: always the likeliest token (greedy)",
    )
    top_k: int = Field(default=0, ge=0, description="draw among the k likeliest tokens; 0: all")
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="draw among the fewest tokens whose probabilities sum to p; 1: all",
    )
    min_p: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="draw among the tokens that are at least p times as likely as the likeliest",
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        description="makes every token of prompt and answer less likely to come again (CTRL): "
        "over 1; 1: none",
    )
    num_beams: int = Field(
        default=1, ge=1, le=64, description="answers followed at once (beam search); 1: none"
    )
    num_return_sequences: int = Field(
        default=1, ge=1, le=10_000, description="texts written for each prompt"
    )
    stop: tuple[str, ...] = Field(
        default=(), description="texts at which the answer ends; they are no part of it"
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="of the draws: the same seed, the same texts"
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_length is not None and "max_new_tokens" in self.model_fields_set:
            raise ValueError(
                "max_new_tokens and max_length are both given: max_new_tokens counts what is "
                "written, max_length the prompt as well; leave one out"
            )
        if "" in self.stop:
            raise ValueError("stop holds an empty text, at which every answer would end")
        several = self.num_return_sequences
        if self.num_beams == 1:
            if several > 1 and self.temperature == 0:
                raise ValueError(
                    f"num_return_sequences {several} with temperature 0: the likeliest text is "
                    "the same each time; raise temperature, or leave num_return_sequences out"
                )
            return self
        if several > self.num_beams:
            raise ValueError(
                f"num_return_sequences {several} is more than the {self.num_beams} beams"
            )
        if self.top_k or self.top_p < 1 or self.min_p or "temperature" in self.model_fields_set:
            raise ValueError(
                "num_beams searches the likeliest text and draws nothing, so temperature, top_k, "
                "top_p and min_p have no meaning beside it; leave them out, or num_beams"
            )
        return self

    def room(self, prompt: int, positions: int, number: int = 0) -> int:
        """The most tokens that may be written behind a prompt of so many tokens, where the model
        has so many positions. Raises `RecipeError` where there is no room for any.

        Args:
            prompt: its tokens; 0 where an encoder reads them.
            positions: of the model, see `positions_of`.
            number: of the prompt, for messages; counts from 0.
        """
        name = f"prompt {number + 1}"
        if prompt >= positions:
            raise RecipeError(
                f"{name} has {counted(prompt, 'token')}, and the model reads at most "
                f"{positions:,} with what it writes: shorten it"
            )
        room = min(self.max_new_tokens, positions - prompt)
        if self.max_length is None:
            return room
        if prompt >= self.max_length:
            raise RecipeError(
                f"max_length {self.max_length} counts the prompt too, and {name} alone has "
                f"{counted(prompt, 'token')}, so that nothing can be written; give max_new_tokens "
                "instead, which counts only what is written"
            )
        return min(self.max_length, positions) - prompt
