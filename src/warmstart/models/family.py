"""What one architecture calls its parts, as a plain record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Pooling = Literal["first", "last", "mean"]


@dataclass(frozen=True, slots=True)
class Family:
    """What one architecture calls its parts.

    Paths are dotted. `body`, `head_modules` and `output` start at the model with the
    classification head; `layers`, `decoder_layers` and `embeddings` start at the body, so that
    they hold for the bare backbone too.
    """

    name: str
    """The `model_type`."""
    kind: Kind
    body: str
    """The attribute that holds the backbone."""
    layers: str
    """The list of blocks; of an encoder-decoder those of the encoder."""
    embeddings: str
    """The word embedding."""
    head_modules: tuple[str, ...]
    """Trained even where the body is frozen, and saved whole by PEFT's `modules_to_save`."""
    output: str
    """The last linear layer of the head, whose rows are the labels."""
    attention_modules: tuple[str, ...]
    """Name endings of the linear layers that LoRA adapts unless told otherwise."""
    pooling: Pooling
    """The token that the head reads: the first, the last one that is no padding, or the mean."""
    dropouts: tuple[str, ...]
    """The dropout probabilities in the config."""
    decoder_layers: str | None = None
    post_norm_block: Mapping[str, str] = field(default_factory=dict[str, str])
    """The eight modules of a standard post-norm block, by path from the block; else empty."""
    position_offset: int = 0
    """The position id of the first token (RoBERTa counts from `pad_token_id + 1`)."""
    classifies: bool = True
    """Whether transformers has a sequence-classification class for it."""
    padding_side: Literal["right", "left"] = "right"
    """Left where the head reads the last position, whatever stands there."""
    keys_values: tuple[str, ...] = ()
    """Linear layers whose outputs IA3 scales. This and the next two are patterns (`*`) of paths
    that start at a block."""
    attention_out: tuple[str, ...] = ()
    """Where a bottleneck adapter follows attention: the projection back to the hidden width."""
    feed_forward_out: tuple[str, ...] = ()
    """The last layer of the feed-forward part: an adapter follows it, IA3 scales its inputs."""
    note: str = ""
    """How the parts were found, where the architecture does not stand in the table."""
