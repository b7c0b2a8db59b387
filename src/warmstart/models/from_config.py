"""A base that is only a configuration: an architecture of our own size, with random weights.

    new_base("t5", "tokenizers/my-words", "bases/small-t5", hidden_size=256, layers=4)

The folder is a plain Hugging Face one, which `--base bases/small-t5` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, nearest, shown
from warmstart.models.architectures import FAMILIES, family_of
from warmstart.models.quiet import LOAD, one_line, quiet, seeded
from warmstart.models.saving import save_model


def new_base(
    family: str,
    tokenizer: str | Path,
    out: str | Path,
    *,
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    feed_forward: int | None = None,
    positions: int = 512,
    dropout: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Write a model of random weights and return its folder.

    Args:
        family: a `model_type`: t5, bart, pegasus, gpt2, llama …
        tokenizer: the folder of a tokenizer, as `warmstart tokenizer train` writes it.
        out: a folder that does not exist yet.
        layers: blocks; of an encoder-decoder so many in each of the two.
        feed_forward: width inside the blocks; unset: four times `hidden_size`.
        positions: tokens that a text may have, where the family counts positions.
        dropout: of all of the family's dropouts; unset: the family's own.
        settings: more values of the config, by their names in transformers.

    An encoder-decoder or decoder has its language-model head, tied to the embeddings unless
    `tie_word_embeddings` says otherwise; an encoder is the body alone. Raises `BaseModelError`.
    """
    from transformers import AutoConfig, AutoTokenizer

    if Path(out).exists():
        raise BaseModelError(f"{out} exists already; choose another folder")
    if family not in FAMILIES:
        raise BaseModelError(f"there is no family '{shown(family)}'.{nearest(family, FAMILIES)}")
    if not (Path(tokenizer) / "tokenizer.json").is_file():
        raise BaseModelError(
            f"{tokenizer} holds no tokenizer.json; make one with `warmstart tokenizer train`"
        )
    with quiet(), one_line(f"no '{family}' of these sizes can be made"):
        words: Any = AutoTokenizer.from_pretrained(tokenizer, **LOAD)
        sizes = _SIZES.get(family, _usual)(
            hidden_size, layers, heads, feed_forward or 4 * hidden_size, positions
        )
        config = AutoConfig.for_model(family, **{**sizes, **_tokens(words, family), **settings})
        if offset := family_of(config).position_offset:  # places before the first token's
            config.max_position_embeddings += offset
        if dropout is not None:
            for name in family_of(config).dropouts:
                if name not in settings:
                    setattr(config, name, dropout)
        with seeded(seed):
            model = _model_for(family_of(config).kind).from_config(config)
    return save_model(model, words, out)


def _model_for(kind: str) -> Any:
    import transformers

    name = {"encoder-decoder": "AutoModelForSeq2SeqLM", "decoder": "AutoModelForCausalLM"}
    return getattr(transformers, name.get(kind, "AutoModel"))


def _tokens(words: Any, family: str) -> dict[str, Any]:
    """The size of the vocabulary and the special tokens, by their roles.

    BART's decoder begins with the end token, all others with padding.
    """
    pad = words.eos_token_id if words.pad_token_id is None else words.pad_token_id
    start = words.eos_token_id if family in ("bart", "mbart") else pad
    forced = words.eos_token_id if family in ("bart", "mbart", "pegasus") else None
    found: Mapping[str, int | None] = {
        "forced_eos_token_id": forced,
        "pad_token_id": pad,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "decoder_start_token_id": start,
        "cls_token_id": words.cls_token_id,
        "sep_token_id": words.sep_token_id,
    }
    known = {name: value for name, value in found.items() if value is not None}
    return {"vocab_size": len(words), "tie_word_embeddings": True, **known}


def _usual(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": wide,
        "max_position_embeddings": positions,
    }


def _llama(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {**_usual(width, layers, heads, wide, positions), "num_key_value_heads": heads}


def _gpt2(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {
        "n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": wide,
        "n_positions": positions,
    }  # fmt: skip


def _t5(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {
        "d_model": width, "d_kv": width // heads, "d_ff": wide, "num_layers": layers,
        "num_decoder_layers": layers, "num_heads": heads,
    }  # fmt: skip


def _bart(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {
        "d_model": width, "encoder_layers": layers, "decoder_layers": layers,
        "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": wide, "decoder_ffn_dim": wide, "max_position_embeddings": positions,
        "scale_embedding": True,  # else the positions drown the words at first
    }  # fmt: skip


def _distilbert(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {
        "dim": width, "n_layers": layers, "n_heads": heads, "hidden_dim": wide,
        "max_position_embeddings": positions,
    }  # fmt: skip


def _xlnet(width: int, layers: int, heads: int, wide: int, positions: int) -> dict[str, Any]:
    return {"d_model": width, "n_layer": layers, "n_head": heads, "d_inner": wide}


_SIZES: Mapping[str, Callable[[int, int, int, int, int], dict[str, Any]]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama),
    **dict.fromkeys(("bart", "mbart", "pegasus"), _bart),
    "gpt2": _gpt2,
    "t5": _t5,
    "distilbert": _distilbert,
    "xlnet": _xlnet,
}
