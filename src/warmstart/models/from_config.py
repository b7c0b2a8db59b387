"""A base that is only a configuration: an architecture of our own size, with random weights.

    new_base("t5", "tokenizers/my-words", "bases/small-t5", hidden_size=256, layers=4)

The folder is a plain Hugging Face one, which `--base bases/small-t5` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from warmstart.errors import BaseModelError, nearest, shown
from warmstart.models.architectures import FAMILIES, family_of
from warmstart.models.checks import check_fingerprint
from warmstart.models.heads import TEXT, VECTOR
from warmstart.models.hf_calls import LOAD, one_line, quiet, seeded
from warmstart.models.saving import save_model


class Size(NamedTuple):
    """How large an architecture is made."""

    layers: int
    hidden_size: int
    heads: int


SIZES: Mapping[str, Size] = {
    "nano": Size(4, 128, 4),
    "tiny": Size(4, 256, 4),
    "mini": Size(6, 384, 6),
    "small": Size(8, 512, 8),
    "base": Size(12, 768, 12),
}


MADE = {
    "vocab_size": "it is the number of tokens of the tokenizer (scratch.vocabulary_size)",
    "model_type": "it is what scratch.architecture says",
    "architectures": "it is what scratch.architecture says",
    "is_encoder_decoder": "it is what scratch.architecture says",
    **dict.fromkeys(("dtype", "torch_dtype"), "weights begin in float32 (train.precision)"),
}
"""Values of a config that are settled by others → by what."""


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
    import transformers

    if Path(out).exists():
        raise BaseModelError(f"{out} exists already; choose another folder")
    if family not in transformers.CONFIG_MAPPING:
        raise BaseModelError(f"there is no family '{shown(family)}'.{nearest(family, FAMILIES)}")
    if not (Path(tokenizer) / "tokenizer.json").is_file():
        raise BaseModelError(
            f"{tokenizer} holds no tokenizer.json; make one with `warmstart tokenizer train`"
        )
    check_fingerprint(Path(tokenizer))
    with quiet(), one_line(f"no '{family}' of these sizes can be made"):
        words: Any = transformers.AutoTokenizer.from_pretrained(tokenizer, **LOAD)
        sizes = _sizes(family, hidden_size, layers, heads, feed_forward, positions)
        values = {**sizes, **_tokens(words, family), **settings}
        _check_known(family, settings)
        config = transformers.AutoConfig.for_model(family, **values)
        names = family_of(config)
        if names.position_offset:  # places before the first token's
            config.max_position_embeddings += names.position_offset
        for name in names.dropouts if dropout is not None else ():
            if name not in settings:
                setattr(config, name, dropout)
        with seeded(seed):
            auto = (VECTOR if names.kind == "encoder" else TEXT).auto_for(names.kind)
            model = getattr(transformers, auto).from_config(config)
        _try_it(model.eval())
    return save_model(model, words, out)


def _check_known(family: str, settings: Mapping[str, Any]) -> None:
    """Raise `BaseModelError` for what the family's config does not have."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(family)
    known = {*config.to_dict(), *config.attribute_map}
    known |= {"rope_theta"} if "rope_parameters" in known else set[str]()
    for name in settings:
        if name in MADE:
            raise BaseModelError(
                f"'{name}' in the config is not free: {MADE[name]}; leave it out of scratch.config"
            )
        if name not in known:
            raise BaseModelError(
                f"the config of {family} has no '{shown(name)}'.{nearest(name, sorted(known))}"
            )


def _try_it(model: Any) -> None:
    """Read two tokens, which shows whether the sizes fit each other."""
    import torch

    ids = torch.zeros(1, 2, dtype=torch.long)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(input_ids=ids, **more)


def _sizes(
    family: str, width: int, layers: int, heads: int, feed_forward: int | None, positions: int
) -> dict[str, Any]:
    """The sizes by the names that the family's config has for them."""
    from transformers import AutoConfig

    inner = feed_forward or 4 * width
    default = AutoConfig.for_model(family)
    known = default.to_dict()
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    sizes = {default.attribute_map.get(name, name): size for name, size in sizes.items()}
    others = {
        **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "d_inner", "hidden_dim"), inner),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), inner),
        **dict.fromkeys(("decoder_layers", "num_decoder_layers"), layers),
        **dict.fromkeys(("decoder_attention_heads", "num_key_value_heads"), heads),
        **dict.fromkeys(("max_position_embeddings", "n_positions"), positions),
        "d_kv": width // heads,
        "scale_embedding": True,  # of BART: else the positions drown the words at first
        "activation_function": {"gelu_new": "gelu_pytorch_tanh"}.get(  # the same, in one piece
            known.get("activation_function", ""), known.get("activation_function")
        ),
    }
    return sizes | {name: size for name, size in others.items() if name in known}


def _tokens(words: Any, family: str) -> dict[str, Any]:
    """The size of the vocabulary and the special tokens, by their roles.

    BART's decoder begins with the end token, all others with padding.
    """
    pad = words.eos_token_id if words.pad_token_id is None else words.pad_token_id
    ids: Mapping[str, int | None] = {
        "forced_eos_token_id": (
            words.eos_token_id if family in ("bart", "mbart", "pegasus") else None
        ),
        "pad_token_id": pad,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "decoder_start_token_id": words.eos_token_id if family in ("bart", "mbart") else pad,
        "cls_token_id": words.cls_token_id,
        "sep_token_id": words.sep_token_id,
    }
    known = {role: token for role, token in ids.items() if token is not None}
    return {"vocab_size": len(words), "tie_word_embeddings": True, **known}
