"""What the bodies of requests and answers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class StreamOptions(Body):
    """What a stream has besides."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {"include_obfuscation": (False,)}
    include_usage: bool | None = None


FinishReason = Literal["stop", "length"]
Tokens = Annotated[list[int], Field(min_length=1)]
Stop = str | Annotated[list[str], Field(max_length=16)] | None


def models_of(request: Any) -> Models:
    """The models of the server that a request reached."""
    return request.app.state.models
