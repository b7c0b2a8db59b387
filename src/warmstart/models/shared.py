"""A shared encoder: one body under several heads, so that every head trains the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from warmstart.errors import RecipeError
from warmstart.models.architectures import body_of, family_of, word_embedding_of
from warmstart.models.fast.forward import FastForward, is_fast
from warmstart.models.forward import Forward
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import FLOAT32, LOAD, one_line, quiet, seeded
from warmstart.models.modules import head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.base import Base


def share_body(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """Give all models one body, and return the one whose body it is.

    What a family counts as part of the head (BERT's pooler) stays each model's own. Output
    embeddings that were tied to the word embeddings are tied to the shared ones. Models with
    adapters are given with their adapters, which are then shared too. Raises `RecipeError` where
    a body lacks a part that another one has.
    """
    owner = max(models, key=lambda model: len(_shared(model)))
    parts = _shared(owner)
    for model in models:
        if model is owner:
            continue
        inner: Any = unwrap(model)
        tied = _is_tied(inner)
        for name in _shared(model):
            if name not in parts:
                kinds = f"{type(unwrap(owner)).__name__} and {type(inner).__name__}"
                raise RecipeError(f"the bodies of {kinds} differ in '{name}' and cannot be shared")
            setattr(body_of(inner), name, parts[name])
        if tied:
            inner.get_output_embeddings().weight = word_embedding_of(inner).weight
    return owner


def _shared(model: PreTrainedModel) -> dict[str, nn.Module | nn.Parameter]:
    """What makes up the body, by name, without what belongs to the head."""
    inner = unwrap(model)
    body = body_of(inner)
    heads = {id(inner.get_submodule(name)) for name in head_names(inner)}
    found: dict[str, nn.Module | nn.Parameter] = {
        name: child for name, child in body.named_children() if id(child) not in heads
    }
    return found | dict(body.named_parameters(recurse=False))


def _is_tied(inner: Any) -> bool:
    output = inner.get_output_embeddings()
    embedding: Any = word_embedding_of(inner)
    return output is not None and getattr(output, "weight", None) is embedding.weight


def forwards_for(models: Sequence[PreTrainedModel], *, fast: bool) -> list[Forward]:
    """How models that share a body are computed: all of them by the fast encoder, or none."""
    if fast and all(is_fast(model) for model in models):
        return [FastForward(model, copies=False) for model in models]
    return [Forward(model) for model in models]


def masked_class(config: Any) -> Any:
    """The class of transformers that guesses masked tokens for this config; None where the model
    is no encoder, or has none."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    known: Any = MODEL_FOR_MASKED_LM_MAPPING
    return known.get(type(config), None) if family_of(config).kind == "encoder" else None


def load_masked(base: Base, seed: int, fresh: set[str] | None = None) -> PreTrainedModel:
    """The base, an encoder, with its masked-language head, in float32 and eval mode.

    Where the checkpoint brings no head, its inner layer begins with fresh weights that depend on
    `seed` alone, and its outputs are tied to the word embeddings. `fresh` takes the names of the
    weights that the checkpoint did not give.
    """
    from transformers import AutoConfig

    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        config: Any = AutoConfig.from_pretrained(base.path, **LOAD)
        model, info = masked_class(config).from_pretrained(
            base.path, config=config, output_loading_info=True, **FLOAT32
        )
    if fresh is not None:
        fresh.update(info["missing_keys"], (key for key, *_ in info["mismatched_keys"]))
    return model.eval()
