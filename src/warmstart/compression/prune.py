"""The least of a model's weights taken out: single ones, heads, units, whole layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from warmstart.compression.base import Compression, Source, Start
from warmstart.compression.distill import as_layers, layers_left
from warmstart.errors import RecipeError

USUAL = 0.5
"""Of the feed-forward units, where nothing is named."""


class Prune(Compression):
    """Pruning by magnitude (Han et al. 2015; of groups Li et al. 2017), after which the rest learns
    again from the model as it was."""

    feed_forward: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of the inner units of each feed-forward part; unset: 0.5 where nothing "
        "else is pruned",
    )
    heads: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the attention heads of each layer, where a config can say so (Llama, "
        "Qwen and their like)",
    )
    layers: str | None = Field(
        default=None,
        description="layers that are left; of an encoder-decoder that writes those of its decoder, "
        "or, as in 12-6, of both",
    )
    keep: Literal["even", "first"] = Field(
        default="even", description="which layers are left: evenly taken, or the first ones"
    )
    weights: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the weights of each matrix of the layers that become 0; the folder "
        "is as large as before, and packs smaller",
    )
    recovery: bool = Field(
        default=True, description="let what is left learn from the model as it was"
    )
    allowed_loss: float = Field(
        default=2.0,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    _as_layers = field_validator("layers", mode="before")(as_layers)

    @property
    def trains(self) -> bool:
        return self.recovery

    @property
    def objective(self) -> Mapping[str, Any]:
        return {"keep_head": True, "keep_zeros": self.weights > 0}

    @property
    def units(self) -> float:
        """The share of feed-forward units."""
        nothing = not (self.heads or self.layers or self.weights)
        return (USUAL if nothing else 0.0) if self.feed_forward is None else self.feed_forward

    def check(self, source: Source) -> None:
        if not (self.units or self.heads or self.layers or self.weights):
            raise RecipeError(
                "nothing would be pruned: give --compress.feed_forward, heads or weights a share "
                "above 0, or --compress.layers a number"
            )
        if self.layers is not None:
            layers_left(source, self.layers, self.keep)

    def begin(self, source: Source) -> Start:
        from warmstart.models.surgery import blocks

        model, notes = source.model, list[str]()
        if self.layers is not None:
            kept, words = layers_left(source, self.layers, self.keep)
            model = blocks.keep_layers(model, kept)
            notes.append(f"{words} are left")
        if self.heads:
            model = blocks.keep_heads(model, self.heads)
            notes.append(f"{model.config.num_attention_heads} attention heads are left")
        if self.units:
            model = blocks.keep_units(model, self.units)
            notes.append(f"{100 * self.units:g} % of the feed-forward units are gone")
        if self.weights:
            model = blocks.zero_weights(model, self.weights)
            notes.append(f"{100 * self.weights:g} % of the layers' weights are 0")
        return Start(model, source.tokenizer, notes)
