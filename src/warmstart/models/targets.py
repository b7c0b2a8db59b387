"""Which modules of a model a method changes, by their full names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from warmstart.models.architectures import body_of, family_of, layers_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LANGUAGE_MODELS = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM")


def matching(model: PreTrainedModel, patterns: Iterable[str]) -> list[str]:
    """Full names of the modules inside the blocks whose path from their block fits a pattern."""
    patterns = tuple(patterns)
    names = {id(module): name for name, module in model.named_modules()}
    return [
        names[id(module)]
        for block in layers_of(model)
        for path, module in block.named_modules()
        if any(fnmatchcase(path, pattern) for pattern in patterns)
    ]


def norms(model: PreTrainedModel) -> list[str]:
    """Full names of the normalisation layers of the body."""
    inside = {id(module) for module in body_of(model).modules()}
    heads = {id(m) for name in head_names(model) for m in model.get_submodule(name).modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside - heads
        and "norm" in type(module).__name__.lower()
        and any(True for _ in module.parameters(recurse=False))
    ]


def head_names(model: PreTrainedModel) -> list[str]:
    """The modules that every method trains and saves; none of a language model."""
    kind, family = type(model).__name__, family_of(model.config)
    if kind.endswith("ForSequenceClassification"):
        return list(family.head_modules)
    body = body_of(model)
    if kind.endswith(LANGUAGE_MODELS) or body is model:
        return []
    return [
        name
        for name, child in model.named_children()
        if child is not body and any(True for _ in child.parameters())
    ]


def after_the_layers(model: PreTrainedModel) -> list[nn.Parameter]:
    """The weights of the body behind its last block, such as a final norm; no head."""
    body, heads = body_of(model), set[int]()
    for name in head_names(model):
        heads |= {id(p) for p in model.get_submodule(name).parameters()}
    last = {id(p) for p in layers_of(model)[-1].parameters()}
    named: list[tuple[str, Any]] = list(body.named_parameters())
    end = max(index for index, (_, p) in enumerate(named) if id(p) in last)
    return [p for name, p in named[end + 1 :] if id(p) not in heads and "emb" not in name.lower()]
