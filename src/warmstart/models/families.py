"""The one table of architecture names: where each family keeps its layers, embeddings and head.

Keyed by the `model_type` of a `config.json`. Whoever needs the name of a module of somebody
else's model (to freeze, adapt, fuse, cache or prune it) takes it from here and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from warmstart.errors import BaseModelError, nearest

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Pooling = Literal["first", "last", "mean"]

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


def _bert(name: str, body: str, head: tuple[str, ...], output: str) -> Family:
    return Family(
        name, "encoder", body, "encoder.layer", "embeddings.word_embeddings", head, output,
        ("query", "value"), "first", BERT_DROPOUTS, post_norm_block=BERT_BLOCK,
    )  # fmt: skip


def _llama(name: str) -> Family:
    return Family(
        name, "decoder", "model", "layers", "embed_tokens", ("score",), "score",
        ("q_proj", "v_proj"), "last", ("attention_dropout",),
    )  # fmt: skip


def _bart(name: str, classifies: bool = True) -> Family:
    return Family(
        name, "encoder-decoder", "model", "encoder.layers", "shared",
        ("classification_head",), "classification_head.out_proj", ("q_proj", "v_proj"), "last",
        ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout"),
        decoder_layers="decoder.layers", classifies=classifies,
    )  # fmt: skip


_DISTILBERT = Family(
    "distilbert", "encoder", "distilbert", "transformer.layer", "embeddings.word_embeddings",
    ("pre_classifier", "classifier"), "classifier", ("q_lin", "v_lin"), "first",
    ("dropout", "attention_dropout", "seq_classif_dropout"), post_norm_block=DISTILBERT_BLOCK,
)  # fmt: skip
_MODERNBERT = Family(
    "modernbert", "encoder", "model", "layers", "embeddings.tok_embeddings",
    ("head", "classifier"), "classifier", ("Wqkv",), "first",
    ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
)  # fmt: skip
# XLNet's attention weights are bare parameters, which LoRA cannot reach: it adapts the two
# linear layers of the feed-forward part instead.
_XLNET = Family(
    "xlnet", "encoder", "transformer", "layer", "word_embedding",
    ("sequence_summary", "logits_proj"), "logits_proj", ("layer_1", "layer_2"), "last",
    ("dropout", "summary_last_dropout"), padding_side="left",
)  # fmt: skip
_GPT2 = Family(
    "gpt2", "decoder", "transformer", "h", "wte", ("score",), "score", ("c_attn",), "last",
    ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
)  # fmt: skip
_T5 = Family(
    "t5", "encoder-decoder", "transformer", "encoder.block", "shared",
    ("classification_head",), "classification_head.out_proj", ("q", "v"), "last",
    ("dropout_rate", "classifier_dropout"), decoder_layers="decoder.block",
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


def family_of(config: Any) -> Family:
    """The family of a model's config (the object, or `config.json` as a dict).

    What a single model's config decides (ModernBERT's pooling, RoBERTa's first position) is
    filled in. Raises `BaseModelError` for an architecture that is not in the table.
    """
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    name = str(values.get("model_type", ""))
    if name not in FAMILIES:
        raise BaseModelError(
            f"the architecture '{name}' is not supported.{nearest(name, FAMILIES)}"
        )
    family = FAMILIES[name]
    if name in ("roberta", "xlm-roberta"):
        pad = values.get("pad_token_id")
        family = replace(family, position_offset=(1 if pad is None else int(pad)) + 1)
    if name == "modernbert" and values.get("classifier_pooling", "cls") == "mean":
        family = replace(family, pooling="mean")
    return family


def body_of(model: nn.Module) -> nn.Module:
    """The backbone of a model with a classification head."""
    return model.get_submodule(family_of(model.config).body)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of the model from first to last; an encoder-decoder's encoder comes first."""
    family, body = family_of(model.config), body_of(model)
    paths = [family.layers] + ([family.decoder_layers] if family.decoder_layers else [])
    return [block for path in paths for block in body.get_submodule(path).children()]


def word_embedding_of(model: nn.Module) -> nn.Module:
    """The word embedding of the model."""
    return body_of(model).get_submodule(family_of(model.config).embeddings)
