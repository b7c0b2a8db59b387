"""The one table of architecture names: where each family keeps its layers, embeddings and head.

Keyed by the `model_type` of a `config.json`. Whoever needs the name of a module of somebody
else's model (to freeze, adapt, fuse, cache or prune it) takes it from here and from nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from warmstart.errors import BaseModelError, nearest
from warmstart.models.hf_calls import one_line, quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


Kind = Literal["encoder", "decoder", "encoder-decoder"]


@dataclass(frozen=True, slots=True)
class Family:
    """What one architecture calls its parts.

    Paths are dotted. `body`, `head_modules` and `output` start at the model with the
    classification head; `layers` and `decoder_layers` start at the body, so that they hold for the
    bare backbone too.
    """

    name: str
    """The `model_type`."""
    kind: Kind
    body: str
    """The attribute that holds the backbone."""
    layers: str
    """The list of blocks; of an encoder-decoder those of the encoder."""
    head_modules: tuple[str, ...]
    """Trained even where the body is frozen, and saved whole by PEFT's `modules_to_save`."""
    output: str
    """The last linear layer of the head, whose rows are the labels."""
    attention_modules: tuple[str, ...]
    """Name endings of the linear layers that LoRA adapts by default."""
    dropouts: tuple[str, ...]
    """The dropout probabilities in the config."""
    decoder_layers: str | None = None
    post_norm_block: Mapping[str, str] = field(default_factory=dict[str, str])
    """The eight modules of a standard post-norm block, by path from the block; else empty."""
    position_offset: int = 0
    """The position id of the first token (RoBERTa counts from `pad_token_id + 1`)."""
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
    """How the parts were recognised, where the architecture does not stand in the table."""


# An architecture that does not stand in the table, by its modules.
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

_analyses: dict[str, Family] = {}


def analyse(values: Mapping[str, Any]) -> Family:
    """The family that a config's modules make up. Raises `BaseModelError`."""
    from transformers import CONFIG_MAPPING

    name = str(values.get("model_type", ""))
    if name not in CONFIG_MAPPING:
        raise BaseModelError(
            f"the architecture '{name}' is not supported.{nearest(name, FAMILIES)}"
        )
    key = json.dumps(dict(values), sort_keys=True, default=str)
    if key not in _analyses:
        with one_line(f"the modules of the architecture '{name}' cannot be told apart"):
            _analyses[key] = _family(name, skeleton(values), values)
    return _analyses[key]


def skeleton(config: Any, *, writes: bool = False) -> PreTrainedModel:
    """The model of a config (the object, or `config.json` as a dict) without any memory.

    With a classification head where transformers has one for it, else the body alone; or, of one
    that `writes`, with a language-model head.
    """
    import torch
    import transformers

    values = dict(_values(config))
    built: Any = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    built.num_labels = LABELS
    name = "AutoModel"
    if writes:
        name = "AutoModelForSeq2SeqLM" if built.is_encoder_decoder else "AutoModelForCausalLM"
    elif type(built) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        name = "AutoModelForSequenceClassification"
    with quiet(), torch.device("meta"):
        return getattr(transformers, name).from_config(built)


def _family(name: str, model: Any, values: Mapping[str, Any]) -> Family:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_MASKED_LM_MAPPING as MASKED

    # what the class says, or the largest child; empty for a bare body
    body_path = str(getattr(model, "base_model_prefix", ""))
    if not (body_path and hasattr(model, body_path)):
        classifies = type(model).__name__.endswith("ForSequenceClassification")
        sizes = {path: _size(child) for path, child in model.named_children()}
        body_path = max(sizes, key=sizes.__getitem__) if classifies else ""
    body: nn.Module = model.get_submodule(body_path) if body_path else model
    kind: Kind = "encoder"
    usual = type(model.config)()  # MT5's class for tokens says in its config that it has no decoder
    if getattr(model.config, "is_encoder_decoder", False) or usual.is_encoder_decoder:
        kind = "encoder-decoder"
    elif type(model.config) in CAUSAL and type(model.config) not in MASKED:
        kind = "decoder"
    lists = _layer_lists(body, kind)
    blocks = [body.get_submodule(path)[0] for path in lists]  # pyright: ignore[reportIndexIssue]
    heads, output = _head(model, body, body_path)
    linear = [entry for block in blocks for entry in _linear(block)]
    attention = [path for path, _ in linear if ATTENTION.search(path)]
    inner = [(path, sizes) for path, sizes in linear if not ATTENTION.search(path)]
    projections = [path for path in attention if _last(path) not in QUERY + KEY + VALUE]
    narrowing = [path for path, (before, after) in inner if before > after]
    inputs = _unique(_last(path) for path in attention if _last(path) in QUERY + VALUE)
    inputs = inputs or _unique(map(_last, attention))
    return Family(
        name=name,
        kind=kind,
        body=body_path,
        layers=lists[0],
        head_modules=heads,
        output=output,
        attention_modules=inputs or _unique(_last(path) for path, _ in linear),
        dropouts=tuple(k for k, v in values.items() if "drop" in k and isinstance(v, float)),
        decoder_layers=lists[1] if len(lists) > 1 else None,
        keys_values=_unique(path for path in attention if _last(path) in KEY + VALUE),
        attention_out=_unique(projections or attention[-1:]),
        feed_forward_out=_unique(narrowing or [path for path, _ in inner[-1:]]),
        note=f"'{name}' stands in no table of ours: its parts were found by looking at its modules "
        f"(layers: {lists[0]}; attention: {', '.join(inputs)}; head: {', '.join(heads)})",
    )


def _layer_lists(body: nn.Module, kind: Kind) -> list[str]:
    """The largest list of equal blocks; of an encoder-decoder the encoder's and the decoder's."""
    from torch import nn

    sizes = {
        path: _size(module)
        for path, module in body.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(block) for block in module}) == 1
        and _size(module)
    }
    if not sizes:
        raise BaseModelError("it has no list of equal blocks")
    sides = ("encoder", "decoder") if kind == "encoder-decoder" else ("",)
    return [max((path for path in sizes if side in path), key=sizes.__getitem__) for side in sides]


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

    layers: list[tuple[str, tuple[int, int]]] = []
    for path, module in block.named_modules():
        if isinstance(module, nn.Linear):
            layers.append((path, (module.in_features, module.out_features)))
        elif type(module).__name__ == "Conv1D":
            weight: Any = module.weight
            layers.append((path, (weight.shape[0], weight.shape[1])))
    return layers


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


# The table.

BLOCK_PARTS = (
    "query", "key", "value", "attention_out", "attention_norm", "up", "down", "output_norm",
)  # fmt: skip
BERT_BLOCK = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
    "output.LayerNorm",
)  # fmt: skip
DISTILBERT_BLOCK = (
    "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
    "ffn.lin1", "ffn.lin2", "output_layer_norm",
)  # fmt: skip
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


def _bert(name: str, body: str, head: tuple[str, ...], output: str) -> Family:
    return Family(
        name, "encoder", body, "encoder.layer", head, output, ("query", "value"), BERT_DROPOUTS,
        post_norm_block=dict(zip(BLOCK_PARTS, BERT_BLOCK, strict=True)),
        keys_values=("attention.self.key", "attention.self.value"),
        attention_out=("attention.output.dense",), feed_forward_out=("output.dense",),
    )  # fmt: skip


def _llama(name: str) -> Family:
    return Family(
        name, "decoder", "model", "layers", ("score",), "score", ("q_proj", "v_proj"),
        ("attention_dropout",),
        keys_values=("self_attn.k_proj", "self_attn.v_proj"),
        attention_out=("self_attn.o_proj",), feed_forward_out=("mlp.down_proj",),
    )  # fmt: skip


def _bart(name: str) -> Family:
    return Family(
        name, "encoder-decoder", "model", "encoder.layers",
        ("classification_head",), "classification_head.out_proj", ("q_proj", "v_proj"),
        ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout"),
        decoder_layers="decoder.layers",
        keys_values=("*attn.k_proj", "*attn.v_proj"), attention_out=("*attn.out_proj",),
        feed_forward_out=("fc2",),
    )  # fmt: skip


_DISTILBERT = Family(
    "distilbert", "encoder", "distilbert", "transformer.layer",
    ("pre_classifier", "classifier"), "classifier", ("q_lin", "v_lin"),
    ("dropout", "attention_dropout", "seq_classif_dropout"),
    post_norm_block=dict(zip(BLOCK_PARTS, DISTILBERT_BLOCK, strict=True)),
    keys_values=("attention.k_lin", "attention.v_lin"), attention_out=("attention.out_lin",),
    feed_forward_out=("ffn.lin2",),
)  # fmt: skip
_MODERNBERT = Family(
    "modernbert", "encoder", "model", "layers", ("head", "classifier"), "classifier", ("Wqkv",),
    ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    keys_values=("attn.Wqkv",), attention_out=("attn.Wo",), feed_forward_out=("mlp.Wo",),
)  # fmt: skip
# XLNet's attention weights are bare parameters, which LoRA and IA3 cannot reach: they adapt the
# linear layers of the feed-forward part instead, and an adapter follows attention's norm.
_XLNET = Family(
    "xlnet", "encoder", "transformer", "layer",
    ("sequence_summary", "logits_proj"), "logits_proj", ("layer_1", "layer_2"),
    ("dropout", "summary_last_dropout"), padding_side="left",
    attention_out=("rel_attn.layer_norm",), feed_forward_out=("ff.layer_2",),
)  # fmt: skip
_GPT2 = Family(
    "gpt2", "decoder", "transformer", "h", ("score",), "score", ("c_attn",),
    ("resid_pdrop", "embd_pdrop", "attn_pdrop"), keys_values=("attn.c_attn",),
    attention_out=("attn.c_proj",), feed_forward_out=("mlp.c_proj",),
)  # fmt: skip
_T5 = Family(
    "t5", "encoder-decoder", "transformer", "encoder.block",
    ("classification_head",), "classification_head.out_proj", ("q", "v"),
    ("dropout_rate", "classifier_dropout"), decoder_layers="decoder.block",
    keys_values=("layer.*.*Attention.k", "layer.*.*Attention.v"),
    attention_out=("layer.*.*Attention.o",), feed_forward_out=("layer.*.DenseReluDense.wo",),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        _bert("bert", "bert", ("bert.pooler", "classifier"), "classifier"),
        _bert("roberta", "roberta", ("classifier",), "classifier.out_proj"),
        _bert("xlm-roberta", "roberta", ("classifier",), "classifier.out_proj"),
        _bert("electra", "electra", ("classifier",), "classifier.out_proj"),
        _DISTILBERT, _MODERNBERT, _XLNET, _GPT2,
        _llama("llama"), _llama("mistral"), _llama("qwen2"), _llama("qwen3"),
        _T5, _bart("bart"), _bart("mbart"), _bart("pegasus"),
    )
}  # fmt: skip

MOST_POSITIONS = 1 << 16
OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
"""Families whose first position comes after that of padding."""
FLOAT32_ONLY = ("deberta", "xmod")
"""Families that transformers cannot compute in bfloat16."""
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
"""What the families' configs call the width of their layers."""


def family_of(config: Any) -> Family:
    """The family of a model's config (the object, or `config.json` as a dict).

    Where RoBERTa's positions begin, which a single model's config decides, is filled in. An
    architecture that is not in the table is analysed from its modules; `note` then says so.
    Raises `BaseModelError` where transformers does not know it either.
    """
    values = _values(config)
    name = str(values.get("model_type", ""))
    family = FAMILIES[name] if name in FAMILIES else analyse(values)
    if name in OFFSET:
        pad = values.get("pad_token_id")
        family = replace(family, position_offset=(1 if pad is None else int(pad)) + 1)
    return family


def width_of(config: Any) -> int:
    """How many numbers stand for a token between the layers (the config, or `config.json` as a
    dict); 0 where it does not say."""
    values = _values(config)
    return next((int(values[name]) for name in WIDTHS if values.get(name)), 0)


def positions_of(config: Any) -> int:
    """The most tokens that the model's position embeddings allow (the config, or `config.json` as
    a dict); 65,536 where positions are relative."""
    values = _values(config)
    known = values.get("max_position_embeddings") or values.get("n_positions") or 0
    if known <= 0 or "relative_attention_num_buckets" in values:
        return MOST_POSITIONS
    return min(MOST_POSITIONS, int(known) - family_of(config).position_offset)


def _values(config: Any) -> Mapping[str, Any]:
    return config if isinstance(config, Mapping) else config.to_dict()


def body_of(model: nn.Module) -> nn.Module:
    """The backbone of a model with a head; the model itself where it is its own backbone.

    A class may have a name of its own for it, as LlamaForQuestionAnswering.
    """
    prefix = str(getattr(model, "base_model_prefix", ""))
    for path in (family_of(model.config).body, prefix):
        if path and hasattr(model, path):
            return model.get_submodule(path)
    return model


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of the model from first to last; an encoder-decoder's encoder comes first, and
    stands alone in T5's class for tokens."""
    family, body = family_of(model.config), body_of(model)
    paths, decoder = [family.layers], family.decoder_layers
    if decoder and hasattr(body, decoder.partition(".")[0]):
        paths.append(decoder)
    return [block for path in paths for block in body.get_submodule(path).children()]
