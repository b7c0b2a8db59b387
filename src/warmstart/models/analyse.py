"""An architecture that nobody has listed: its parts found by looking at its modules.

The model is built without memory (on torch's meta device) from its config. The largest list of
equal blocks are the layers; linear layers inside them are attention's or the feed-forward part's
by their names; the head is what stands beside the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from warmstart.errors import BaseModelError, nearest
from warmstart.models.family import Family, Kind
from warmstart.models.quiet import one_line, quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LABELS = 7  # no other width of a model is likely to be this
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
JOINT = ("query_key_value", "qkv", "qkv_proj", "Wqkv", "c_attn", "in_proj")
QUERY = ("q", "query", "q_proj", "query_proj", "q_lin", *JOINT)
KEY = ("k", "key", "k_proj", "key_proj", "k_lin", *JOINT)
VALUE = ("v", "value", "v_proj", "value_proj", "v_lin", *JOINT)

_found: dict[str, Family] = {}


def analysed(values: Mapping[str, Any], known: Iterable[str]) -> Family:
    """The family that a config's modules make up. Raises `BaseModelError`."""
    from transformers import CONFIG_MAPPING

    name = str(values.get("model_type", ""))
    if name not in CONFIG_MAPPING:
        raise BaseModelError(f"the architecture '{name}' is not supported.{nearest(name, known)}")
    key = json.dumps(dict(values), sort_keys=True, default=str)
    if key not in _found:
        with one_line(f"the modules of the architecture '{name}' cannot be told apart"):
            _found[key] = _family(name, skeleton(values), values)
    return _found[key]


def skeleton(config: Any, *, writes: bool = False) -> PreTrainedModel:
    """The model of a config (the object, or `config.json` as a dict) without any memory.

    With a classification head where transformers has one for it, else the body alone; or, of one
    that `writes`, with a language-model head.
    """
    import torch
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSES
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    made = AutoConfig.for_model(values.pop("model_type"), **values)
    made.num_labels = LABELS
    kind: Any = AutoModelForSequenceClassification if type(made) in CLASSES else AutoModel
    if writes:
        kind = AutoModelForSeq2SeqLM if made.is_encoder_decoder else AutoModelForCausalLM
    with quiet(), torch.device("meta"):
        return kind.from_config(made)


def _family(name: str, model: Any, values: Mapping[str, Any]) -> Family:
    body_path = _body_path(model)
    body: nn.Module = model.get_submodule(body_path) if body_path else model
    kind = _kind(model.config)
    lists = _layer_lists(body, kind)
    blocks = [body.get_submodule(path)[0] for path in lists]  # pyright: ignore[reportIndexIssue]
    heads, output = _head(model, body, body_path)
    width = model.get_input_embeddings()
    linear = [found for block in blocks for found in _linear(block)]
    attention = [path for path, _ in linear if ATTENTION.search(path)]
    other = [(path, sizes) for path, sizes in linear if not ATTENTION.search(path)]
    inputs = _named(attention, QUERY + VALUE) or _unique(map(_last, attention))
    keys = [path for path in attention if _last(path) in KEY + VALUE]
    return Family(
        name=name,
        kind=kind,
        body=body_path,
        layers=lists[0],
        embeddings=_path_of(body, width),
        head_modules=heads,
        output=output,
        attention_modules=inputs or _unique(_last(path) for path, _ in linear),
        pooling="last" if kind != "encoder" else "first",
        dropouts=tuple(k for k, v in values.items() if "drop" in k and isinstance(v, float)),
        decoder_layers=lists[1] if len(lists) > 1 else None,
        classifies=bool(heads),
        keys_values=_unique(keys),
        attention_out=_unique(_attention_out(attention)),
        feed_forward_out=_unique(_narrowing(other)),
        note=f"'{name}' stands in no table of ours: its parts were found by looking at its modules "
        f"(layers: {lists[0]}; attention: {', '.join(inputs)}; head: {', '.join(heads)})",
    )


def _body_path(model: Any) -> str:
    """Where the body is: what the class says, or the largest child; empty for a bare body."""
    path = str(getattr(model, "base_model_prefix", ""))
    if path and hasattr(model, path):
        return path
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return ""
    return max(model.named_children(), key=lambda child: _size(child[1]))[0]


def _kind(config: Any) -> Kind:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_MASKED_LM_MAPPING as MASKED

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "decoder" if type(config) in CAUSAL and type(config) not in MASKED else "encoder"


def _layer_lists(body: nn.Module, kind: Kind) -> list[str]:
    """The largest list of equal blocks; of an encoder-decoder the encoder's and the decoder's."""
    from torch import nn

    found = [
        (path, _size(module))
        for path, module in body.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(block) for block in module}) == 1
        and _size(module)
    ]
    if not found:
        raise BaseModelError("it has no list of equal blocks")
    if kind != "encoder-decoder":
        return [max(found, key=lambda entry: entry[1])[0]]
    sides = [[entry for entry in found if side in entry[0]] for side in ("encoder", "decoder")]
    return [max(side, key=lambda entry: entry[1])[0] for side in sides]


def _head(model: Any, body: nn.Module, body_path: str) -> tuple[tuple[str, ...], str]:
    """The modules beside the body (and a pooler inside it), and the layer that gives the labels."""
    from torch import nn

    if not body_path:
        return (), ""
    names = [name for name, child in model.named_children() if name != body_path and _size(child)]
    if isinstance(getattr(body, "pooler", None), nn.Module) and _size(body.get_submodule("pooler")):
        names.insert(0, f"{body_path}.pooler")
    outputs = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == LABELS
    ]
    return tuple(names), outputs[-1]


def _linear(block: nn.Module) -> list[tuple[str, tuple[int, int]]]:
    """Path, and width before and after, of each linear layer."""
    from torch import nn

    found: list[tuple[str, tuple[int, int]]] = []
    for path, module in block.named_modules():
        if isinstance(module, nn.Linear):
            found.append((path, (module.in_features, module.out_features)))
        elif type(module).__name__ == "Conv1D":
            weight: Any = module.weight
            found.append((path, (weight.shape[0], weight.shape[1])))
    return found


def _attention_out(attention: list[str]) -> list[str]:
    """Attention's layers that are no query, key or value; else the last one."""
    outs = [path for path in attention if _last(path) not in QUERY + KEY + VALUE]
    return outs or attention[-1:]


def _narrowing(linear: list[tuple[str, tuple[int, int]]]) -> list[str]:
    """The feed-forward layers that lead from a larger width to a smaller one; else the last."""
    found = [path for path, (before, after) in linear if before > after]
    return found or [path for path, _ in linear[-1:]]


def _named(paths: Iterable[str], names: tuple[str, ...]) -> tuple[str, ...]:
    return _unique(_last(path) for path in paths if _last(path) in names)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _path_of(body: nn.Module, module: nn.Module) -> str:
    return next(path for path, child in body.named_modules() if child is module)


def _size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
