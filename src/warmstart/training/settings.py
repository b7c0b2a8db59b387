"""Settings of the training loop. `None` means: chosen from the data and the method, then written
into the run's recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from warmstart.formatting import counted
from warmstart.part import Part


class Train(Part):
    """How the weights are moved."""

    epochs: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="passes over the training rows; unset: enough for about 300 steps, 4 to 12 "
        "(frozen: 1,200 steps, 12 to 100)",
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="steps of the optimizer, in the place of epochs",
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**53,
        description="tokens to train on, padding not counted, in the place of epochs",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="rows in one step of the optimizer; unset: 16, frozen 32",
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=16,
        le=2**31 - 1,
        description="tokens in one step, padding counted; replaces batch_size",
    )
    micro_batch_tokens: int = Field(
        default=16384,
        ge=16,
        le=2**31 - 1,
        description="tokens computed at once; a larger step is accumulated, exactly",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak of the schedule; unset: by method and size of the model",
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="course of the learning rate after warm-up"
    )
    warmup: float = Field(default=0.06, ge=0, lt=1, description="share of the steps that warm up")
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon moves the hidden matrices, adamw the rest"
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="not applied to norms, biases and embeddings"
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="gradients are clipped to it; 0: never"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="auto: bf16 where a short measurement finds it faster"
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="recompute activations in the backward pass: less memory, more time",
    )
    active_vocabulary: bool = Field(
        default=True,
        description="train only the embedding rows that occur in the data; same result",
    )
    patience: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="stop after so many epochs without a better validation score; 0: never; "
        "unset: a quarter of the epochs, at least 3",
    )
    keep: Literal["one_se", "best", "last"] = Field(
        default="one_se",
        description="which epoch's weights are kept: the latest within one standard error of the "
        "best validation score, the best, or the last",
    )
    checkpoint_seconds: float = Field(
        default=60, ge=0, description="a checkpoint at the first step after so many seconds"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: cuda if there is one"
    )

    @property
    def duration(self) -> str:
        """How long it trains, for people."""
        if self.max_steps is not None:
            return counted(self.max_steps, "step")
        if self.tokens is not None:
            return counted(self.tokens, "token")
        return counted(self.epochs or 0, "epoch")

    @model_validator(mode="after")
    def _says_once_how_long(self) -> Self:
        keys = [f"train.{key}" for key in ("epochs", "max_steps", "tokens")
                if getattr(self, key) is not None]  # fmt: skip
        if len(keys) > 1:
            raise ValueError(
                f"{keys[0]} and {keys[1]} both say how long to train; give one of them"
            )
        return self
