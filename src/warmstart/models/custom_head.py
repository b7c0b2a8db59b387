"""A body of transformers under a head that the user wrote: any `nn.Module`, by its dotted path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from warmstart import part as parts
from warmstart.errors import RecipeError, shown
from warmstart.models.architectures import family_of, width_of
from warmstart.models.checks import WEIGHTS, check_whole
from warmstart.models.hf_calls import FLOAT32, LOAD, one_line, quiet, seeded, set_labels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.base import Base

HEAD = "own_head"


def load_own(
    base: Base, path: str, settings: Mapping[str, Any], labels: Sequence[str], seed: int
) -> PreTrainedModel:
    """The base's body in float32 under the user's head, in eval mode.

    The head is made as `Head(hidden_size, num_labels, **settings)` with random numbers that depend
    on `seed` alone, and called as `head(hidden [B, L, H], mask [B, L])`; it returns logits [B, K].
    Raises `RecipeError` where it cannot.
    """
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        config: Any = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
        set_labels(config, labels)
        body = transformers.AutoModel.from_pretrained(base.path, config=config, **FLOAT32)
    with seeded(seed):
        head = _make(path, width_of(config), len(labels), settings)
    return _with_head(body, head).eval()


def load_saved_own(folder: Path, path: str, settings: Mapping[str, Any]) -> PreTrainedModel:
    """The saved body, as transformers loads it, under the user's head with its saved weights."""
    loaded: Any = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True, **FLOAT32
    )
    (body, info), prefix = loaded, f"{HEAD}."
    config = body.config
    head = _make(path, width_of(config), config.num_labels, settings)
    weights = load_file(folder / WEIGHTS)
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    check_whole(folder, [*info["missing_keys"], *(head.state_dict().keys() - own.keys())])
    head.load_state_dict(own)
    return _with_head(body, head).eval()


def _make(path: str, width: int, labels: int, settings: Mapping[str, Any]) -> nn.Module:
    """A head of the class at `package.module.Class`. Raises `RecipeError`, also where only a saved
    folder has named it."""
    remedy = "give the path of a class, as in my_package.heads.MyHead"
    kind = parts.own_class(path, "task.module", remedy)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise RecipeError(f"task.module: {shown(path)} is no torch.nn.Module class")
    try:
        return kind(width, labels, **settings)
    except Exception as error:  # the user's own code raises what it likes
        raise RecipeError(
            f"the head {path} cannot be made by {path.rpartition('.')[2]}({width}, {labels}, "
            f"**{dict(settings)}): {shown(error, 120)}"
        ) from error


def _with_head(body: Any, head: nn.Module) -> PreTrainedModel:
    """One model of both, which saves as a plain folder of its body's family."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    family = family_of(body.config)
    reads_types = "token_type_ids" in inspect.signature(type(body).forward).parameters

    class WithOwnHead(transformers.PreTrainedModel):
        config_class = type(body.config)
        base_model_prefix = family.body
        supports_gradient_checkpointing = body.supports_gradient_checkpointing
        _supports_sdpa = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, family.body, body)
            setattr(self, HEAD, head)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            """Nothing: both parts have their weights."""

        def forward(
            self,
            input_ids: Tensor | None = None,
            attention_mask: Tensor | None = None,
            token_type_ids: Tensor | None = None,
            inputs_embeds: Tensor | None = None,
            **named: Any,
        ) -> SequenceClassifierOutput:
            inputs = {"token_type_ids": token_type_ids} if reads_types else {}
            words = {"inputs_embeds": inputs_embeds}
            inputs |= {"input_ids": input_ids} if inputs_embeds is None else words
            # by their names: PEFT puts a copy of the head that it trains in the head's place
            own_body, own_head = getattr(self, family.body), getattr(self, HEAD)
            hidden = own_body(attention_mask=attention_mask, **inputs).last_hidden_state
            return SequenceClassifierOutput(logits=own_head(hidden, attention_mask))

    return WithOwnHead(body.config)


@torch.no_grad()
def try_head(base: Base, path: str, settings: Mapping[str, Any], labels: int) -> None:
    """Raise `RecipeError` for a head that cannot be imported, made or used on this base."""
    config: Any = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
    if family_of(config).kind == "encoder-decoder":
        raise RecipeError(
            f"an own head stands on an encoder or a decoder, and {base.name} is both; take another "
            "base"
        )
    width = width_of(config)
    with seeded(0):
        head = _make(path, width, labels, settings).eval()
        hidden, mask = torch.randn(2, 4, width), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    try:
        logits = head(hidden, mask)
    except Exception as error:  # the user's own code raises what it likes
        raise RecipeError(
            f"the head {path} fails when called with hidden states [2, 4, {width}] and a mask "
            f"[2, 4]: {shown(error, 120)}"
        ) from error
    if tuple(logits.shape) != (2, labels):
        raise RecipeError(
            f"the head {path} gives {list(logits.shape)} for 2 texts, and logits [2, {labels}] are "
            "wanted: one number for each label"
        )
