"""One body under several heads: shared modules, so that every head trains the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from warmstart.errors import RecipeError
from warmstart.models.architectures import body_of, family_of, word_embedding_of
from warmstart.models.forward import Compute, FastCompute, compute_for
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import LOAD, one_line, quiet, seeded
from warmstart.models.modules import head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.base import Base
    from warmstart.models.fast.mixed_precision import MixedPrecision


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


class SharedFast(FastCompute):
    """The fast encoder without the 16-bit twins, whose place in memory cannot be shared."""

    def _make_shadow(self, dtype: torch.dtype) -> MixedPrecision | None:
        return None


def computes_for(models: Sequence[PreTrainedModel], *, fast: bool) -> list[Compute]:
    """How models that share a body are computed: all of them by the fast encoder, or none."""
    if fast and all(compute_for(model).is_fast for model in models):
        return [SharedFast(model) for model in models]
    return [Compute(model) for model in models]


def load_masked(base: Base, seed: int) -> PreTrainedModel:
    """The base with its masked-language head, in float32 and eval mode.

    Where the checkpoint brings no head, its inner layer begins with fresh weights that depend on
    `seed` alone, and its outputs are tied to the word embeddings. Raises `RecipeError`.
    """
    import transformers

    with one_line(f"the config of {base.name} cannot be read"), quiet():
        config: Any = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
    family = family_of(config)
    known: Any = transformers.MODEL_FOR_MASKED_LM_MAPPING
    if family.kind != "encoder" or type(config) not in known:
        raise RecipeError(
            f"mlm needs an encoder that guesses masked words, and '{family.name}' is none; leave "
            "that task out, or take a base such as bert, roberta or minilm"
        )
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        model: Any = known[type(config)].from_pretrained(
            base.path, config=config, dtype=torch.float32, use_safetensors=True, **LOAD
        )
    return model.eval()


class MaskedCompute(Compute):
    """A masked-language model that computes the vocabulary for the chosen tokens alone."""

    def chosen_logits(
        self,
        ids: Tensor,
        lengths: Tensor,
        chosen: Tensor,
        *,
        training: bool,
        types: Tensor | None = None,
    ) -> Tensor:
        """Logits [1, M, V] in float32 of the M tokens where `chosen` [B, L] is true."""
        self._train(training)
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        named = {} if types is None else {"token_type_ids": types}
        inner: Any = self.model
        with torch.autocast(ids.device.type, self.dtype, enabled=self.dtype != torch.float32):
            found = body_of(inner)(input_ids=ids, attention_mask=mask, **named)
            with _body_gives(inner, found.last_hidden_state[chosen][None]):
                return inner(input_ids=ids[:1, :1]).logits.float()


class _Given(nn.Module):
    """Stands for a body whose hidden states are known already."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.states)  # pyright: ignore[reportArgumentType]


@contextmanager
def _body_gives(inner: Any, states: Tensor) -> Iterator[None]:
    """Inside, the model's head reads these states."""
    body = body_of(inner)
    name = next(name for name, child in inner.named_children() if child is body)
    setattr(inner, name, _Given(states))
    try:
        yield
    finally:
        setattr(inner, name, body)
