"""A model made smaller, as a plain one of its own class: fewer layers, feed-forward units,
attention heads, or weights that are not zero.

What is left has its old values; the config says the new sizes, so that transformers builds it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from warmstart.errors import RecipeError
from warmstart.models.architectures import ATTENTION, body_of, family_of, layers_of
from warmstart.models.custom_head import HEAD
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import one_line, quiet, seeded
from warmstart.models.modules import adapter_targets, match_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYERS = (
    ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers"),
    ("num_decoder_layers", "decoder_layers"),
)
"""What configs call the number of layers: of the only stack or the encoder, and of the decoder."""
UNITS = ("intermediate_size", "hidden_dim", "d_ff", "n_inner", "ffn_dim", "encoder_ffn_dim",
         "decoder_ffn_dim", "d_inner")  # fmt: skip
"""What configs call the width of the feed-forward part."""
MULTIPLE = 8
"""Units are kept in multiples of it, which matrices are computed in."""


def spread_evenly(kept: int, layers: int) -> list[int]:
    """Which of so many layers are kept, evenly taken, the first and the last among them: of twelve
    six are 0, 2, 4, 7, 9 and 11, as DistilBERT begins."""
    return [round(number * (layers - 1) / max(1, kept - 1)) for number in range(kept)]


def stack_sizes(model: PreTrainedModel) -> list[int]:
    """How many layers there are; of an encoder-decoder in each of the two."""
    family, body = family_of(model.config), body_of(model)
    paths = [path for path in (family.layers, family.decoder_layers) if path]
    return [len(list(body.get_submodule(path).children())) for path in paths]


def keep_layers(model: PreTrainedModel, kept: Sequence[Sequence[int]]) -> PreTrainedModel:
    """The model with these layers alone, by number from 0: of its only stack, or of the encoder and
    of the decoder.

    Raises `RecipeError` where the architecture shares its layers or counts them in another way.
    """
    family, values = family_of(model.config), model.config.to_dict()
    names = {id(module): name for name, module in model.named_modules()}
    stacks = [path for path in (family.layers, family.decoder_layers) if path]
    chosen, changes = dict[str, Sequence[int]](), dict[str, Any]()
    for path, keys, left in zip(stacks, LAYERS, kept, strict=False):
        stack = body_of(model).get_submodule(path)
        count = len(list(stack.children()))
        own = [key for key in keys if values.get(key) == count]
        if not own or left[-1] >= count:
            raise RecipeError(
                f"layers cannot be taken out of a '{family.name}': its config does not count them "
                "one by one; prune its feed_forward or its weights, or quantize it"
            )
        chosen[f"{names[id(stack)]}."] = left
        if len(left) == count:
            continue
        changes |= dict.fromkeys(own, len(left))
        for key, value in values.items():  # such as `layer_types`
            if isinstance(value, list | tuple) and "layer" in key and len(value) == count:
                changes[key] = [value[number] for number in left]
    state = dict[str, Tensor]()
    for name, weights in model.state_dict().items():
        prefix = next((prefix for prefix in chosen if name.startswith(prefix)), None)
        if prefix is None:
            state[name] = weights
            continue
        number, _, rest = name.removeprefix(prefix).partition(".")
        if int(number) in chosen[prefix]:
            state[f"{prefix}{chosen[prefix].index(int(number))}.{rest}"] = weights
    smaller: Any = _rebuilt(model, changes, state)
    if smaller.can_generate() and family.decoder_layers:
        known = smaller.config.get_text_config(decoder=True).num_hidden_layers
        if known < len([*chosen.values()][-1]):  # it makes room for so many layers' keys
            raise RecipeError(
                f"transformers cannot write with a '{family.name}' whose encoder has fewer layers "
                f"({known}) than its decoder; leave the encoder as many, or take more of both"
            )
    return smaller


def keep_units(model: PreTrainedModel, share: float) -> PreTrainedModel:
    """The model without a share of the inner units of each feed-forward part, those of the least
    norm: ‖weights in‖ · ‖weights out‖ (Li et al. 2017, "Pruning filters").

    Raises `RecipeError` where the config cannot say how many are left.
    """
    family, values = family_of(model.config), model.config.to_dict()
    state, widths, done = dict(model.state_dict()), set[tuple[int, int]](), set[str]()
    refusal = RecipeError(
        f"the feed-forward part of a '{family.name}' cannot be made narrower: its config does "
        "not say how wide it is, or its layers are of a kind of their own; prune its layers or its "
        "weights, or quantize it"
    )
    names = {id(module): name for name, module in model.named_modules()}
    outs = set(match_modules(model, family.feed_forward_out))
    for block in layers_of(model):
        linear = {names[id(m)]: m for m in block.modules() if _is_linear(m)}
        for name in outs & linear.keys():
            down = _matrix(linear[name])  # [out, units]
            width = down.shape[1]
            ups = [up for up, module in linear.items() if up != name
                   and not ATTENTION.search(up.removeprefix(names[id(block)]))
                   and _matrix(module).shape[0] in (width, 2 * width)]  # fmt: skip
            if not ups or done & {name, *ups}:
                raise refusal
            done |= {name, *ups}
            norm = down.norm(dim=0)
            for up in ups:  # of a gated part both halves
                norm = norm * _matrix(linear[up]).norm(dim=1).view(-1, width).prod(0)
            left = max(1, round(width * (1 - share)))
            left = left if left < MULTIPLE else left // MULTIPLE * MULTIPLE
            keep = norm.topk(left).indices.sort().values
            _slice(state, name, linear[name], keep, inputs=True)
            for up in ups:
                halves = range(0, len(_matrix(linear[up])), width)
                rows = torch.cat([keep + begin for begin in halves])
                _slice(state, up, linear[up], rows, inputs=False)
            widths.add((width, left))
    own = [key for key in UNITS if key in values and len(widths) == 1
           and values[key] in (None, *(width for width, _ in widths))]  # fmt: skip
    if not own:
        raise refusal
    return _rebuilt(model, dict.fromkeys(own, next(iter(widths))[1]), state)


def keep_heads(model: PreTrainedModel, share: float) -> PreTrainedModel:
    """The model without a share of the attention heads of each layer, those of the least norm; of
    heads that share keys and values (GQA) whole groups, or of a single group its queries.

    Raises `RecipeError` where the config ties the number of heads to the width, as BERT's does.
    """
    config, family = model.config, family_of(model.config)
    heads, groups = (getattr(config, f"num_{which}_heads", 0) for which in
                     ("attention", "key_value"))  # fmt: skip
    if not (heads and groups and "self_attn.o_proj" in family.attention_out):
        raise RecipeError(
            f"heads cannot be taken out of a '{family.name}': its class in transformers computes "
            "their width from their number; prune feed_forward or layers"
        )
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    state = dict(model.state_dict())
    names = {id(module): name for name, module in model.named_modules()}
    each = heads // groups
    units, wide = (groups, each) if groups > 1 else (heads, 1)
    left = max(1, round(units * (1 - share)))
    for block in layers_of(model):
        parts: dict[str, Any] = {
            part: block.get_submodule(f"self_attn.{part}_proj") for part in "qkvo"
        }
        out = _matrix(parts["o"]).view(-1, units, wide * size).norm(dim=(0, 2))
        own = _matrix(parts["v"] if groups > 1 else parts["q"])
        norm = out * own.view(units, -1).norm(dim=1)
        keep = norm.topk(left).indices.sort().values
        queries = _expanded(keep, wide * size)
        for part, rows in (("q", queries), ("o", queries),
                           *((p, _expanded(keep, size)) for p in "kv" if groups > 1)):  # fmt: skip
            _slice(state, names[id(parts[part])], parts[part], rows, inputs=part == "o")
    changes = {"num_attention_heads": left * wide, "head_dim": size}
    changes["num_key_value_heads"] = left if groups > 1 else groups
    return _rebuilt(model, changes, state)


@torch.no_grad()
def zero_weights(model: PreTrainedModel, share: float) -> PreTrainedModel:
    """The same model with a share of the weights of each matrix inside the layers set to zero, the
    smallest ones (magnitude pruning, Han et al. 2015)."""
    for name in adapter_targets(model, "all"):
        weights: Any = model.get_submodule(name).weight
        count = round(share * weights.numel())
        if count:
            smallest = weights.abs().flatten().topk(count, largest=False).indices
            weights.view(-1)[smallest] = 0.0
    return model


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _matrix(module: Any) -> Tensor:
    """The weights [outputs, inputs]."""
    return module.weight.detach() if isinstance(module, nn.Linear) else module.weight.detach().T


def _slice(
    state: dict[str, Tensor], name: str, module: nn.Module, keep: Tensor, *, inputs: bool
) -> None:
    """Keep some inputs or outputs of a linear layer."""
    along = int(inputs) if isinstance(module, nn.Linear) else int(not inputs)
    state[f"{name}.weight"] = state[f"{name}.weight"].index_select(along, keep)
    if not inputs and f"{name}.bias" in state:
        state[f"{name}.bias"] = state[f"{name}.bias"][keep]


def _expanded(numbers: Tensor, size: int) -> Tensor:
    """The rows of blocks of so many."""
    return (numbers[:, None] * size + torch.arange(size)).flatten()


def _rebuilt(
    model: PreTrainedModel, changes: Mapping[str, Any], state: Mapping[str, Tensor]
) -> PreTrainedModel:
    """A model of the same class with these values of the config, and these weights."""
    inner: Any = unwrap(model)
    if hasattr(inner, HEAD):
        raise RecipeError(
            "a model under a head of your own cannot be built anew with fewer parts; zero its "
            "weights, trim its vocabulary or quantize it"
        )
    config = copy.deepcopy(inner.config)
    for key, value in changes.items():
        setattr(config, key, value)
    with one_line(f"a smaller '{config.model_type}' cannot be built"), quiet(), seeded(0):
        smaller: Any = type(inner)(config)
        missing, left = smaller.load_state_dict(state, strict=False)
        if missing or left:
            raise RecipeError(f"a smaller '{config.model_type}' would lack {[*missing, *left][0]}")
        smaller.tie_weights()
    if inner.can_generate():
        smaller.generation_config = copy.deepcopy(inner.generation_config)
    return smaller.float().eval()
