"""The layers of a head: what they read and compute, where they begin, in which unit they answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from warmstart.models.architectures import body_of, family_of, layers_of
from warmstart.models.heads import carried_by
from warmstart.models.hf_calls import seeded
from warmstart.models.modules import head_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Pooling = Literal["mean", "first", "last"]


@dataclass(frozen=True, slots=True)
class Readout:
    """What stands for a row of tokens.

    Args:
        source: the head's own outputs; "features", what its last layer reads [B, H]; "below_head",
            the state that the head reads (of the fast encoder; elsewhere the features); "body", the
            last hidden states, pooled [B, H].
        pooling: of the body's states.
        normalise: whether pooled states are made to length 1.
    """

    source: Literal["head", "features", "below_head", "body"] = "head"
    pooling: Pooling = "mean"
    normalise: bool = False

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, H] in float32 of hidden states [B, L, H]; `mask` [B, L] is 1 where a token
        is. A row without tokens is zeros."""
        if not hidden.shape[1]:
            return hidden.new_zeros(len(hidden), hidden.shape[-1], dtype=torch.float32)
        real = mask.bool()
        states = hidden.float().masked_fill(~real[:, :, None], 0.0)
        if self.pooling == "mean":
            vectors = states.sum(1) / real.sum(1).clamp(min=1)[:, None]
        else:
            places = real.float()
            last = places.shape[1] - 1 - places.flip(1).argmax(1)
            at = places.argmax(1) if self.pooling == "first" else last
            vectors = states[torch.arange(len(states), device=states.device), at]
        return normalize(vectors, dim=-1) if self.normalise else vectors


HEAD = Readout()
FEATURES = Readout("features")
BELOW_HEAD = Readout("below_head")


def unwrap(model: Any) -> PreTrainedModel:
    """The transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def reads_tokens(model: Any) -> bool:
    """Whether the head answers for every token."""
    head = carried_by(type(unwrap(model)).__name__)
    return head is not None and head.per_token


def head_logits(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits as transformers computes them: [B, K] from the first token's hidden state [B, H], or
    [B, L, K] from every token's [B, L, H]."""
    inner: Any = unwrap(model)
    if reads_tokens(inner):
        hidden = inner.dropout(states) if hasattr(inner, "dropout") else states
        return (inner.qa_outputs if hasattr(inner, "qa_outputs") else inner.classifier)(hidden)
    name = family_of(inner.config).name
    if name == "bert":
        return inner.classifier(inner.dropout(inner.bert.pooler(states[:, None])))
    if name == "distilbert":
        return inner.classifier(inner.dropout(torch.relu(inner.pre_classifier(states))))
    return inner.classifier(states[:, None])


@contextmanager
def given_states(inner: Any, states: Tensor) -> Iterator[None]:
    """Inside, the model's head reads these states [B, L, H], and its body is not computed; a head
    beside it that reads a pooled state is given the first."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    class Given(nn.Module):
        def forward(self, *_: Any, **__: Any) -> Any:
            first = states[:, :1].sum(1)  # of none, where a batch happens to ask for no token
            return BaseModelOutputWithPooling(states, first)  # pyright: ignore[reportArgumentType]

    body = body_of(inner)
    name = next(name for name, child in inner.named_children() if child is body)
    setattr(inner, name, Given())
    try:
        yield
    finally:
        setattr(inner, name, body)


def reset_head(model: PreTrainedModel, seed: int) -> None:
    """Fresh weights for the whole head, its inner layers included."""
    with seeded(seed):
        begin_anew(head_modules(model))


@torch.no_grad()
def begin_anew(modules: Iterable[nn.Module], std: float = 0.02) -> None:
    """Fresh weights: normal(0, std), and no bias."""
    for module in modules:
        for weights in module.parameters():
            weights.normal_(0.0, std) if weights.ndim > 1 else weights.zero_()


def set_head_dropout(model: PreTrainedModel, p: float) -> None:
    """The dropout probability in the head, in the config and in the modules."""
    family, config = family_of(model.config), model.config
    for name in ("classifier_dropout", "seq_classif_dropout"):
        if name in family.dropouts:
            setattr(config, name, p)
    own: Any = getattr(model, "dropout", None)
    for module in [*head_modules(model), *([] if own is None else [own])]:
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = p


# Mean pooling as one more layer, so that a plain model folder can hold it.
#
# A post-norm block whose queries and keys are zero attends to all tokens alike, so its context is
# the mean of the values; with the identity as value and output matrix, scaled by `WEIGHT` against
# the residual, the norm that follows gives LN(mean) up to 1 / WEIGHT. A feed-forward part of zeros
# changes nothing more.

WEIGHT = 100.0


def drop_nothing(model: nn.Module) -> None:
    """Take all dropout out of a model, wherever it keeps the rate."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in [*vars(module).items()]:  # kept as a number by BART, T5, ...
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def can_append(model: PreTrainedModel) -> bool:
    """Whether the model is made of standard post-norm blocks."""
    return bool(family_of(model.config).post_norm_block)


@torch.no_grad()
def append_mean_layer(model: PreTrainedModel) -> None:
    """Add the layer at the end and count it in the config."""
    family = family_of(model.config)
    layers: Any = body_of(model).get_submodule(family.layers)
    layer = copy.deepcopy(layers[-1])
    for weights in layer.parameters():
        weights.zero_()
    part: dict[str, Any] = {
        name: layer.get_submodule(path) for name, path in family.post_norm_block.items()
    }
    nn.init.eye_(part["value"].weight)
    part["attention_out"].weight.copy_(WEIGHT * torch.eye(part["value"].weight.shape[0]))
    part["attention_norm"].weight.fill_(1.0)
    part["output_norm"].weight.fill_(1.0)
    layer.gives_mean = True
    layers.append(layer.requires_grad_(False))
    name = "n_layers" if hasattr(model.config, "n_layers") else "num_hidden_layers"
    setattr(model.config, name, len(layers))


# The last layer of a head: where its answers begin, and in which unit they are.

KEPT = ".modules_to_save.default"
"""What PEFT puts into the name of a head that is trained whole."""


@torch.no_grad()
def rescale(model: PreTrainedModel, mean: float, scale: float) -> float:
    """Make the model answer mean + scale * what it answered, by its last layer alone.

    Returns what of the mean could not be put there: all of it where the layer has no bias (GPT-2,
    Llama), else 0.
    """
    weight, bias = last_layer(model)
    weight.mul_(scale)
    if bias is None:
        return mean
    bias.mul_(scale).add_(mean)
    return 0.0


@torch.no_grad()
def begin_at(model: PreTrainedModel, probabilities: Sequence[float]) -> None:
    """Let a fresh head of labels begin with these probabilities, one a label.

    A head that has been trained, or whose last layer has no bias, stays as it is.
    """
    _, bias = last_layer(model)
    if bias is not None and not bias.any():
        bias.copy_(torch.logit(torch.tensor(probabilities, dtype=torch.float64)))


def last_layer(model: PreTrainedModel) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weight and bias of the layer whose outputs are the model's, as it is trained."""
    inner = unwrap(model)
    output = family_of(inner.config).output
    weights = {name.replace(KEPT, ""): p for name, p in inner.named_parameters()}
    return weights[f"{output}.weight"], weights.get(f"{output}.bias")


# A head through which the body is trained before its last layer is fitted.

STRAIGHT, RAISED = 0.5, 4.0
"""A tanh of half its input, or a ReLU or GELU raised so far, is nearly a straight line."""
CUT_BELOW = ("distilbert", "electra", "modernbert")
"""Families whose heads have a ReLU or a GELU in them."""


@torch.no_grad()
def straighten(model: PreTrainedModel) -> None:
    """Make the head's inner layers pass on what they read, and, where the family has it, let them
    read the mean over the tokens (see `append_mean_layer`)."""
    if can_append(model):
        append_mean_layer(model)
    family = family_of(model.config)
    output, raised = model.get_submodule(family.output), family.name in CUT_BELOW
    for module in head_modules(model):
        for layer in module.modules():
            if isinstance(layer, nn.Linear) and layer is not output:
                layer.weight.copy_(STRAIGHT * torch.eye(*layer.weight.shape))
                if layer.bias is not None:
                    layer.bias.fill_(RAISED if raised else 0.0)


def freeze_head(model: PreTrainedModel) -> None:
    """Let the head, and the layer that makes the mean, stand still."""
    mean = [block for block in layers_of(model) if hasattr(block, "gives_mean")]
    for module in [*head_modules(model), *mean]:
        module.requires_grad_(False)
