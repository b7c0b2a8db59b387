"""What the bodies of requests and answers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from warmstart.serving.models import Models


class Body(BaseModel):
    """The body of a request: what is not named here is refused, unless it asks for nothing.

    `idle` are fields of OpenAI's that are not honoured, each with the values that change nothing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_idle(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {
            key: value for key, value in body.items()
            if key in cls.model_fields or not (value is None or value in cls.idle.get(key, ()))
        }  # fmt: skip


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int

    @classmethod
    def of(cls, read: int, written: int = 0) -> Usage:
        """Their sum beside them."""
        return cls(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


FinishReason = Literal["stop", "length"]


def models_of(request: Any) -> Models:
    """The models of the server that a request reached."""
    return request.app.state.models
