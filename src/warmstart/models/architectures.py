"""The one table of architecture names: where each family keeps its layers, embeddings and head.

Keyed by the `model_type` of a `config.json`. Whoever needs the name of a module of somebody
else's model (to freeze, adapt, fuse, cache or prune it) takes it from here and from nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from warmstart.errors import BaseModelError, nearest
from warmstart.models.quiet import one_line, quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


# What one architecture calls its parts, as a plain record.

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Pooling = Literal["first", "last", "mean"]


@dataclass(frozen=True, slots=True)
class Family:
    """What one architecture calls its parts.

    Paths are dotted. `body`, `head_modules` and `output` start at the model with the
    classification head; `layers`, `decoder_layers` and `embeddings` start at the body, so that
    they hold for the bare backbone too.
    """

    name: str
    """The `model_type`."""
    kind: Kind
    body: str
    """The attribute that holds the backbone."""
    layers: str
    """The list of blocks; of an encoder-decoder those of the encoder."""
    embeddings: str
    """The word embedding."""
    head_modules: tuple[str, ...]
    """Trained even where the body is frozen, and saved whole by PEFT's `modules_to_save`."""
    output: str
    """The last linear layer of the head, whose rows are the labels."""
    attention_modules: tuple[str, ...]
    """Name endings of the linear layers that LoRA adapts unless told otherwise."""
    pooling: Pooling
    """The token that the head reads: the first, the last one that is no padding, or the mean."""
    dropouts: tuple[str, ...]
    """The dropout probabilities in the config."""
    decoder_layers: str | None = None
    post_norm_block: Mapping[str, str] = field(default_factory=dict[str, str])
    """The eight modules of a standard post-norm block, by path from the block; else empty."""
    position_offset: int = 0
    """The position id of the first token (RoBERTa counts from `pad_token_id + 1`)."""
    classifies: bool = True
    """Whether transformers has a sequence-classification class for it."""
    padding_side: Literal["right", "left"] = "right"
    """Left where the head reads the last position, whatever stands there."""
    keys_values: tuple[str, ...] = ()
    """Linear layers whose outputs IA3 scales. This and the next two are patterns (`*`) of paths
    that start at a block."""
    attention_out: tuple[str, ...] = ()
    """Where a bottleneck adapter follows attention: the projection back to the hidden width."""
    feed_forward_out: tuple[str, ...] = ()
    """The last layer of the feed-forward part: an adapter follows it, IA3 scales its inputs."""
    note: str = ""
    """How the parts were found, where the architecture does not stand in the table."""


# An architecture that nobody has listed: its parts found by looking at its modules.
#
# The model is built without memory (on torch's meta device) from its config. The largest list of
# equal blocks are the layers; linear layers inside them are attention's or the feed-forward part's
# by their names; the head is what stands beside the body.

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


__all__ = ["FAMILIES", "Family", "Kind", "Pooling", "body_of", "family_of", "layers_of",
           "word_embedding_of"]  # fmt: skip

BERT_BLOCK = MappingProxyType(
    {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "output_norm": "output.LayerNorm",
    }
)
DISTILBERT_BLOCK = MappingProxyType(
    {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_out": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "output_norm": "output_layer_norm",
    }
)
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


def _bert(name: str, body: str, head: tuple[str, ...], output: str) -> Family:
    return Family(
        name, "encoder", body, "encoder.layer", "embeddings.word_embeddings", head, output,
        ("query", "value"), "first", BERT_DROPOUTS, post_norm_block=BERT_BLOCK,
        keys_values=("attention.self.key", "attention.self.value"),
        attention_out=("attention.output.dense",), feed_forward_out=("output.dense",),
    )  # fmt: skip


def _llama(name: str) -> Family:
    return Family(
        name, "decoder", "model", "layers", "embed_tokens", ("score",), "score",
        ("q_proj", "v_proj"), "last", ("attention_dropout",),
        keys_values=("self_attn.k_proj", "self_attn.v_proj"),
        attention_out=("self_attn.o_proj",), feed_forward_out=("mlp.down_proj",),
    )  # fmt: skip


def _bart(name: str, classifies: bool = True) -> Family:
    return Family(
        name, "encoder-decoder", "model", "encoder.layers", "shared",
        ("classification_head",), "classification_head.out_proj", ("q_proj", "v_proj"), "last",
        ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout"),
        decoder_layers="decoder.layers", classifies=classifies,
        keys_values=("*attn.k_proj", "*attn.v_proj"), attention_out=("*attn.out_proj",),
        feed_forward_out=("fc2",),
    )  # fmt: skip


_DISTILBERT = Family(
    "distilbert", "encoder", "distilbert", "transformer.layer", "embeddings.word_embeddings",
    ("pre_classifier", "classifier"), "classifier", ("q_lin", "v_lin"), "first",
    ("dropout", "attention_dropout", "seq_classif_dropout"), post_norm_block=DISTILBERT_BLOCK,
    keys_values=("attention.k_lin", "attention.v_lin"), attention_out=("attention.out_lin",),
    feed_forward_out=("ffn.lin2",),
)  # fmt: skip
_MODERNBERT = Family(
    "modernbert", "encoder", "model", "layers", "embeddings.tok_embeddings",
    ("head", "classifier"), "classifier", ("Wqkv",), "first",
    ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    keys_values=("attn.Wqkv",), attention_out=("attn.Wo",), feed_forward_out=("mlp.Wo",),
)  # fmt: skip
# XLNet's attention weights are bare parameters, which LoRA and IA3 cannot reach: they adapt the
# linear layers of the feed-forward part instead, and an adapter follows attention's norm.
_XLNET = Family(
    "xlnet", "encoder", "transformer", "layer", "word_embedding",
    ("sequence_summary", "logits_proj"), "logits_proj", ("layer_1", "layer_2"), "last",
    ("dropout", "summary_last_dropout"), padding_side="left",
    attention_out=("rel_attn.layer_norm",), feed_forward_out=("ff.layer_2",),
)  # fmt: skip
_GPT2 = Family(
    "gpt2", "decoder", "transformer", "h", "wte", ("score",), "score", ("c_attn",), "last",
    ("resid_pdrop", "embd_pdrop", "attn_pdrop"), keys_values=("attn.c_attn",),
    attention_out=("attn.c_proj",), feed_forward_out=("mlp.c_proj",),
)  # fmt: skip
_T5 = Family(
    "t5", "encoder-decoder", "transformer", "encoder.block", "shared",
    ("classification_head",), "classification_head.out_proj", ("q", "v"), "last",
    ("dropout_rate", "classifier_dropout"), decoder_layers="decoder.block",
    keys_values=("layer.*.*Attention.k", "layer.*.*Attention.v"),
    attention_out=("layer.*.*Attention.o",), feed_forward_out=("layer.*.DenseReluDense.wo",),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            _bert("bert", "bert", ("bert.pooler", "classifier"), "classifier"),
            _bert("roberta", "roberta", ("classifier",), "classifier.out_proj"),
            _bert("xlm-roberta", "roberta", ("classifier",), "classifier.out_proj"),
            _bert("electra", "electra", ("classifier",), "classifier.out_proj"),
            _DISTILBERT, _MODERNBERT, _XLNET, _GPT2,
            _llama("llama"), _llama("mistral"), _llama("qwen2"), _llama("qwen3"),
            _T5, _bart("bart"), _bart("mbart"), _bart("pegasus", classifies=False),
        )
    }
)  # fmt: skip

MOST_POSITIONS = 1 << 16
OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
"""Families whose first position comes after that of padding."""
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
"""What the families' configs call the width of their layers."""


def family_of(config: Any) -> Family:
    """The family of a model's config (the object, or `config.json` as a dict).

    What a single model's config decides (ModernBERT's pooling, RoBERTa's first position) is
    filled in. An architecture that is not in the table is analysed from its modules; `note` then
    says so. Raises `BaseModelError` where transformers does not know it either.
    """
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    name = str(values.get("model_type", ""))
    family = FAMILIES[name] if name in FAMILIES else analysed(values, FAMILIES)
    if name in OFFSET:
        pad = values.get("pad_token_id")
        family = replace(family, position_offset=(1 if pad is None else int(pad)) + 1)
    if name == "modernbert" and values.get("classifier_pooling", "cls") == "mean":
        family = replace(family, pooling="mean")
    return family


def width_of(config: Any) -> int:
    """How many numbers stand for a token between the layers (the config, or `config.json` as a
    dict); 0 where it does not say."""
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    return next((int(values[name]) for name in WIDTHS if values.get(name)), 0)


def positions_of(config: Any) -> int:
    """The most tokens that the model's position embeddings allow (the config, or `config.json` as
    a dict); 65,536 where positions are relative."""
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    known = values.get("max_position_embeddings") or values.get("n_positions") or 0
    if known <= 0 or "relative_attention_num_buckets" in values:
        return MOST_POSITIONS
    return min(MOST_POSITIONS, int(known) - family_of(config).position_offset)


def body_of(model: nn.Module) -> nn.Module:
    """The backbone of a model with a head; the model itself where it is its own backbone.

    A class may have a name of its own for it, as LlamaForQuestionAnswering.
    """
    own = str(getattr(model, "base_model_prefix", ""))
    for path in (family_of(model.config).body, own):
        if path and hasattr(model, path):
            return model.get_submodule(path)
    return model


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of the model from first to last; an encoder-decoder's encoder comes first."""
    family, body = family_of(model.config), body_of(model)
    paths = [family.layers] + ([family.decoder_layers] if family.decoder_layers else [])
    return [block for path in paths for block in body.get_submodule(path).children()]


def word_embedding_of(model: nn.Module) -> nn.Module:
    """The word embedding of the model."""
    return body_of(model).get_submodule(family_of(model.config).embeddings)
