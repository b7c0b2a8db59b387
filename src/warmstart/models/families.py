"""The one table of architecture names: where each family keeps its layers, embeddings and head.

Keyed by the `model_type` of a `config.json`. Whoever needs the name of a module of somebody
else's model (to freeze, adapt, fuse, cache or prune it) takes it from here and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from warmstart.models.analyse import analysed
from warmstart.models.family import Family, Kind, Pooling

if TYPE_CHECKING:
    from torch import nn

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
