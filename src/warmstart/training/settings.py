"""Settings of the training loop. `None` means: chosen from the data and the method, then written
into the run's recipe."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        default="linear",
        description="course of the learning rate after warm-up; wsd: constant, then down to 0 over "
        "the last part (decay)",
    )
    decay: float = Field(
        default=0.2, gt=0, le=1, description="share of the steps over which wsd goes down"
    )
    min_rate: float = Field(
        default=0.0, ge=0, lt=1, description="share of the peak at which the schedule ends"
    )
    warmup: float = Field(default=0.06, ge=0, lt=1, description="share of the steps that warm up")
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon moves the hidden matrices, adamw the rest"
    )
    adam_beta2: float = Field(
        default=0.999, gt=0, lt=1, description="of AdamW: memory of the squared gradients"
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="not applied to norms, biases and embeddings"
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="gradients are clipped to it; 0: never"
    )
    guard: bool = Field(
        default=False,
        description="leave out steps whose loss or gradient is far out of line or no number, and "
        "after 8 in a row go back to the last checkpoint; else the run stops at such a loss",
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
    validate_every: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="validate after so many steps too; unset: at the end of each epoch",
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

    def decay_steps(self, total: int) -> int:
        """The last steps of so many, over which wsd goes down."""
        return max(1, round(self.decay * total))

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


Architecture = Literal[
    "bert", "roberta", "distilbert", "albert", "electra", "gpt2", "llama", "t5", "bart", "pegasus",
    "xlnet",
]  # fmt: skip


OF_OTHERS = {
    "positions": "task.max_length",
    "seed": "seed",
    "feed_forward": "its name in transformers, such as intermediate_size",
}
"""What a new base is made with besides its config → the setting that says it."""


class Scratch(Part):
    """A base that is made and not taken: `[scratch]`. Unset, the recipe's base is taken."""

    architecture: Architecture | None = Field(
        default=None,
        description="begin with random weights of this architecture, in the place of base",
    )
    size: Literal["nano", "tiny", "mini", "small", "base"] = Field(
        default="tiny",
        description="layers x width: nano 4 x 128, tiny 4 x 256, mini 6 x 384, small 8 x 512, base "
        "12 x 768",
    )
    layers: int | None = Field(default=None, ge=1, le=200, description="unset: as size says")
    hidden_size: int | None = Field(
        default=None, ge=8, le=65_536, description="width of the layers; unset: as size says"
    )
    heads: int | None = Field(
        default=None, ge=1, le=1_024, description="attention heads; unset: as size says"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="of all dropouts; unset: as the architecture has it"
    )
    tokenizer: str = Field(
        default="own",
        description="own: trained on the corpus as the architecture has it; char: one token a "
        "character; else a base or a folder whose tokenizer is taken",
    )
    vocabulary_size: int = Field(
        default=8_000, ge=16, le=1_000_000, description="tokens of a tokenizer that is trained"
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="more values of the config by their names in transformers, as in "
        "{rope_theta = 10000}",
    )

    @field_validator("config")
    @classmethod
    def _has_no_setting_of_its_own(cls, value: Any) -> Any:
        for name in value:
            if name in ("family", "out"):
                raise ValueError(f"no config has a value '{name}'; leave it out")
            own = OF_OTHERS.get(name)
            own = own or (f"scratch.{name}" if name in cls.model_fields else None)
            if own is not None:
                raise ValueError(f"'{name}' has a setting of its own: {own}; give that")
        return value


class Forgetting(Part):
    """What holds the model to what its base knew: `[forgetting]`. Unset, it changes nothing."""

    text: str | None = Field(
        default=None,
        description="a file or folder of general text, such as the base was made from: for "
        "rehearsal, for ewc, and for the forgetting figure",
    )
    rehearsal: float = Field(
        default=0.0,
        ge=0,
        le=0.9,
        description="share of each step's rows that are general text, learned along",
    )
    penalty: Literal["none", "l2_sp", "ewc"] = Field(
        default="none",
        description="pulls the weights back to the base's: l2_sp all alike, ewc those most that "
        "matter for general text",
    )
    strength: float = Field(
        default=0.01,
        gt=0,
        description="of the penalty: strength / 2 * the sum of (weight - the base's) squared",
    )

    @property
    def acts(self) -> bool:
        """Whether training is changed at all."""
        return self.rehearsal > 0 or self.penalty != "none"

    def check(self, method: Any) -> None:
        """Raise `ValueError` where the method has nothing to hold back."""
        name = method.part_name()
        if self.acts and method.changes == "nothing":
            raise ValueError(
                "forgetting.rehearsal and forgetting.penalty hold the base's weights, and method "
                f"{name} does not change them: nothing can be forgotten; leave forgetting.* out"
            )
        if self.penalty != "none" and method.changes == "beside":
            raise ValueError(
                f"forgetting.penalty {self.penalty} pulls the base's weights back, and method "
                f"{name} leaves them where they are; for what it adds beside them that would be "
                "train.weight_decay. Take that, forgetting.rehearsal, or method full"
            )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.text is None and self.rehearsal:
            raise ValueError(
                "rehearsal learns general text along; name a file or folder of it: "
                "--forgetting.text"
            )
        if self.text is None and self.penalty == "ewc":
            raise ValueError(
                "penalty ewc weighs the weights by general text; name a file or folder of it with "
                "--forgetting.text, or take l2_sp, which needs none"
            )
        return self
