"""Settings of the training loop. `None` means: chosen from the data and the method, then written
into the run's recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from warmstart.parts import Part


class Train(Part):
    """How the weights are moved."""

    epochs: int | None = Field(
        None,
        ge=1,
        description="passes over the training rows; unset: enough for about 300 steps, 4 to 12",
    )
    batch_size: int | None = Field(
        None, ge=1, description="rows in one step of the optimizer; unset: 16, frozen 32"
    )
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens in one step, padding counted; replaces batch_size"
    )
    micro_batch_tokens: int = Field(
        16384,
        ge=16,
        description="tokens computed at once; a larger step is accumulated, exactly",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="peak of the schedule; unset: by method and size of the model"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="course of the learning rate after warm-up"
    )
    warmup: float = Field(0.06, ge=0, lt=1, description="share of the steps that warm up")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon moves the hidden matrices, adamw the rest"
    )
    weight_decay: float = Field(
        0.01, ge=0, description="not applied to norms, biases and embeddings"
    )
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to it; 0: never")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where a short measurement finds it faster"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )
    active_vocabulary: bool = Field(
        True, description="train only the embedding rows that occur in the data; same result"
    )
    patience: int | None = Field(
        3, ge=1, description="stop after so many epochs without a better validation score"
    )
    checkpoint_seconds: float = Field(
        60, ge=0, description="a checkpoint at the first step after so many seconds"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if there is one")
