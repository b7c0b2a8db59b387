"""Which modules and weights of a model a method changes, and which stand still."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from warmstart.models.architectures import body_of, family_of, layers_of
from warmstart.models.heads import carried_by

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LANGUAGE_MODELS = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM")


class ParamGroup(NamedTuple):
    """A share of the learning rate for some parameters, after so many epochs, or steps, of standing
    still."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    wait: int = 0
    wait_steps: int = 0


def parameters_of(model: nn.Module) -> dict[str, int]:
    """Parameters of the whole model, and those that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained = sum(count for count, moves in sizes if moves)
    return {"parameters": sum(count for count, _ in sizes), "trainable": trained}


def head_names(model: PreTrainedModel) -> list[str]:
    """The modules that every method trains and saves; none of a language model."""
    kind, family = type(model).__name__, family_of(model.config)
    if kind.endswith("ForSequenceClassification"):
        return list(family.head_modules)
    body = body_of(model)
    if kind.endswith(LANGUAGE_MODELS):
        return []
    inside: list[Any] = [body]
    if body is model:
        head = carried_by(kind)
        if head is None or not head.gives_logits:
            return []
        # T5's class for questions has its stacks and its head side by side
        stacks = {path.partition(".")[0] for path in (family.layers, family.decoder_layers) if path}
        inside = [model.get_input_embeddings(), *(getattr(model, name) for name in stacks)]
    return [
        name
        for name, child in model.named_children()
        if all(child is not part for part in inside) and any(True for _ in child.parameters())
    ]


def head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that make up the head."""
    return [model.get_submodule(name) for name in head_names(model)]


def match_modules(model: PreTrainedModel, patterns: Iterable[str]) -> list[str]:
    """Full names of the modules inside the blocks whose path from their block fits a pattern."""
    patterns = tuple(patterns)
    names = {id(module): name for name, module in model.named_modules()}
    return [
        names[id(module)]
        for block in layers_of(model)
        for path, module in block.named_modules()
        if any(fnmatchcase(path, pattern) for pattern in patterns)
    ]


def norm_names(model: PreTrainedModel) -> list[str]:
    """Full names of the normalisation layers of the body."""
    inside = {id(module) for module in body_of(model).modules()}
    heads = {id(module) for head in head_modules(model) for module in head.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside - heads
        and "norm" in type(module).__name__.lower()
        and any(True for _ in module.parameters(recurse=False))
    ]


def adapter_targets(model: PreTrainedModel, which: str) -> list[str]:
    """Full names of the linear layers inside the blocks that LoRA adapts.

    Args:
        which: "all", or "attention": those of attention alone, where the family has any.
    """
    from torch import nn

    blocks = {id(module) for block in layers_of(model) for module in block.modules()}
    linear = [
        name
        for name, module in model.named_modules()
        if id(module) in blocks
        and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    ]
    if which == "all":
        return linear
    endings = family_of(model.config).attention_modules
    return [name for name in linear if name.rpartition(".")[2] in endings] or linear


def parameters_by_depth(model: PreTrainedModel) -> list[list[nn.Parameter]]:
    """The head with what stands behind the layers, each block from the last, the embeddings.

    Every parameter that requires a gradient appears once.
    """
    blocks = layers_of(model)
    inside = {id(p) for p in body_of(model).parameters()}
    top = {id(p) for p in [*_head_parameters(model), *_parameters_behind_layers(model)]}
    owner: dict[int, int] = {}
    for index, block in enumerate(blocks):
        for parameter in block.parameters():
            owner.setdefault(id(parameter), index)
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 2)]
    latest = -1
    for name, parameter in model.named_parameters():
        key = id(parameter)
        latest = owner.get(key, latest)
        if not parameter.requires_grad:
            continue
        if key in owner:
            depth = len(blocks) - owner[key]
        elif key in top or key not in inside:
            depth = 0
        else:  # an encoder's final norm goes with its last block
            depth = len(blocks) - latest if latest >= 0 and "emb" not in name else len(groups) - 1
        groups[depth].append(parameter)
    return groups


def train_top(model: PreTrainedModel, blocks: int) -> None:
    """Let the head, the last `blocks` blocks and what stands behind them move; nothing else.

    What stands still has no dropout either, whatever mode the model is put into.
    """
    layers = layers_of(model)
    first = len(layers) - blocks
    model.requires_grad_(False)
    for module in [*head_modules(model), *layers[first:]]:
        module.requires_grad_(True)
    for parameter in _parameters_behind_layers(model):
        parameter.requires_grad_(True)
    family = family_of(model.config)
    lists = {path.partition(".")[0] for path in (family.layers, family.decoder_layers) if path}
    moving = {id(module) for block in layers[first:] for module in block.modules()}
    embeddings = [
        module
        for name, module in body_of(model).named_children()
        if name not in lists
        and "emb" in name.lower()
        and not {id(part) for part in module.modules()} & moving
    ]
    for module in [*layers[:first], *embeddings]:
        stays: Any = MethodType(lambda module, mode=True: module, module)
        module.eval().train = stays


def _head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    return [p for module in head_modules(model) for p in module.parameters()]


def _parameters_behind_layers(model: PreTrainedModel) -> list[nn.Parameter]:
    """The weights of the body behind its last block, such as a final norm; no head."""
    heads = {id(p) for p in _head_parameters(model)}
    last = {id(p) for p in layers_of(model)[-1].parameters()}
    named: list[tuple[str, Any]] = list(body_of(model).named_parameters())
    end = max(index for index, (_, p) in enumerate(named) if id(p) in last)
    return [p for name, p in named[end + 1 :] if id(p) not in heads and "emb" not in name.lower()]
