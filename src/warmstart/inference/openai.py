"""A model that answers elsewhere, behind an address that speaks OpenAI's form: `openai:MODEL`.

The address is that of OpenAI, or the one in `OPENAI_BASE_URL`: a vLLM server, `warmstart serve`, or
any other host. The key is the one in `OPENAI_API_KEY`; it stands in no recipe and in no message.
`inference.host` asks it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from warmstart.errors import RecipeError, shown
from warmstart.inference.engine import Engine, Runner

if TYPE_CHECKING:
    from warmstart.tasks.base import Task

PREFIX = "openai:"
HOSTED = ("classification", "pairs", "text2text", "summarization", "translation")
"""Tasks in which a hosted model is asked."""


def is_hosted(model: object) -> bool:
    """Whether this is the name of a hosted model."""
    return str(model).startswith(PREFIX)


class OpenAI(Engine):
    """Asks a hosted model, named `openai:MODEL`, through the official client."""

    examples: str | None = Field(
        default=None, description="file of labelled rows, of which some are shown to the model"
    )
    shots: int = Field(
        default=4, ge=0, le=64,
        description="rows that are shown: of each label, or, of texts to be written, altogether",
    )  # fmt: skip
    labels: tuple[str, ...] = Field(
        default=(), description="the labels, where no examples give them; with commas"
    )
    instruction: str | None = Field(
        default=None, description="what the model is told to do; unset: by the task"
    )
    constrained: bool = Field(
        default=True, description="have the host hold answers to the labels (by a JSON schema)"
    )
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="of labels and of texts of a task; 0: the likeliest"
    )
    max_new_tokens: int = Field(
        default=256, ge=1, description="tokens of an answer at most, where the task names none"
    )
    seed: int = Field(default=0, ge=0, description="chooses the examples; sent to the host too")
    concurrency: int = Field(default=4, ge=1, le=256, description="requests at the same time")
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="no more than so many; unset: as the host allows"
    )
    timeout: float = Field(default=60, gt=0, description="seconds that an answer may take")
    retries: int = Field(
        default=4, ge=0, le=20,
        description="times that a request is repeated after 429, 5xx, a time-out or broken JSON, "
        "after the time that the host names (Retry-After)",
    )  # fmt: skip
    price_input: float | None = Field(
        default=None, ge=0, description="price of a million tokens that are read"
    )
    price_output: float | None = Field(
        default=None, ge=0, description="price of a million tokens that are written"
    )
    max_cost: float | None = Field(
        default=None, gt=0,
        description="stop before more than this is spent, in the currency of the prices",
    )  # fmt: skip
    keep: str | None = Field(
        default=None, description="file of answers (.jsonl): what stands there is not asked again"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _parted(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",")]
        return tuple(dict.fromkeys(word for word in value if word))

    def open(self, folder: Path, task: Task, pad_id: int) -> Runner:
        raise RecipeError(
            f"engine openai asks a hosted model and opens no folder; name the model in the place "
            f"of {shown(folder)}: openai:MODEL"
        )
