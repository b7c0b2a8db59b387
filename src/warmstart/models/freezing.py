"""The weights of a model from the top down, and what stands still below a layer."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from warmstart.models.architectures import body_of, family_of, layers_of
from warmstart.models.targets import after_the_layers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def from_the_top(model: PreTrainedModel) -> list[list[nn.Parameter]]:
    """The head with what stands behind the layers, each block from the last, the embeddings.

    Every parameter that requires a gradient appears once.
    """
    blocks = layers_of(model)
    inside = {id(p) for p in body_of(model).parameters()}
    behind = {id(p) for p in after_the_layers(model)}
    owner: dict[int, int] = {}
    for index, block in enumerate(blocks):
        for parameter in block.parameters():
            owner.setdefault(id(parameter), index)
    heads = {id(p) for p in _head_parameters(model)}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 2)]
    latest = -1
    for name, parameter in model.named_parameters():
        key = id(parameter)
        latest = owner.get(key, latest)
        if not parameter.requires_grad:
            continue
        if key in owner:
            depth = len(blocks) - owner[key]
        elif key in heads or key in behind or key not in inside:
            depth = 0
        else:  # an encoder's final norm goes with its last block
            depth = len(blocks) - latest if latest >= 0 and "emb" not in name else len(groups) - 1
        groups[depth].append(parameter)
    return groups


def train_the_top(model: PreTrainedModel, blocks: int) -> None:
    """Let the head, the last `blocks` blocks and what stands behind them move; nothing else."""
    top = layers_of(model)[-blocks:] if blocks else []
    model.requires_grad_(False)
    for parameter in [*_head_parameters(model), *(p for block in top for p in block.parameters())]:
        parameter.requires_grad_(True)
    for parameter in after_the_layers(model):
        parameter.requires_grad_(True)
    for module in still_modules(model, blocks):
        _keep_in_eval_mode(module)


def still_modules(model: PreTrainedModel, blocks: int) -> list[nn.Module]:
    """The parts of the body below the last `blocks` blocks, embeddings included."""
    family, body = family_of(model.config), body_of(model)
    chosen = layers_of(model)
    still = chosen[: len(chosen) - blocks]
    moving = {id(m) for block in chosen[len(chosen) - blocks :] for m in block.modules()}
    lists = {path.partition(".")[0] for path in (family.layers, family.decoder_layers) if path}
    beside = [
        module
        for name, module in body.named_children()
        if name not in lists and not {id(m) for m in module.modules()} & moving
        and "emb" in name.lower()
    ]  # fmt: skip
    return [*still, *beside]


def _head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    from warmstart.models.targets import head_names

    return [p for name in head_names(model) for p in model.get_submodule(name).parameters()]


def _keep_in_eval_mode(module: nn.Module) -> None:
    """No dropout in here, whatever mode the model is put into."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return self

    module.eval()
    module.train = MethodType(train, module)  # pyright: ignore[reportAttributeAccessIssue]


# How fast, and from when on, some of the weights move.


class ParamGroup(NamedTuple):
    """A share of the learning rate for some parameters, after so many epochs of standing still."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    wait: int = 0
