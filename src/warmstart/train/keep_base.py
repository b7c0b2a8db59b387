"""Which language-model head a base brings along, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from warmstart.errors import BaseModelError
from warmstart.models.families import family_of
from warmstart.models.heads import unwrap
from warmstart.models.quiet import LOAD, one_line, quiet, seeded
from warmstart.models.weights import read_json
from warmstart.train.keep_readers import LanguageReader, Reader

if TYPE_CHECKING:
    from warmstart.models.catalog import Base

MASKING = ("ForMaskedLM", "ForPreTraining")


def reader_for(base: Base, model: Any, tokenizer: Any, *, writes: bool) -> Reader:
    """The model's body under its base's own language-model head, or by its states alone.

    `writes`: the model itself is a language model. Raises `BaseModelError`.
    """
    lm = unwrap(model) if writes else language_model(base)
    if lm is None or (family_of(lm.config).kind == "encoder" and tokenizer.mask_token_id is None):
        return Reader(model, tokenizer)
    return LanguageReader(model, tokenizer, lm)


def language_model(base: Base) -> Any:
    """The whole language model that the checkpoint of `base` holds; None where it holds none."""
    from warmstart.models.backbone import load_headed

    config = read_json(base.path / "config.json")
    if family_of(config).kind == "encoder":
        return _masked(base, config)
    try:
        return load_headed(base, "text", [], seed=0)
    except BaseModelError:  # a body without output matrix
        return None


def _masked(base: Base, config: dict[str, Any]) -> Any:
    """An encoder under its masked-language-model head, all of which the checkpoint gives."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    names = [str(name) for name in config.get("architectures") or []]
    if not any(name.endswith(MASKING) for name in names):
        return None
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(0):
        known: Any = AutoConfig.from_pretrained(base.path, **LOAD)
        kind: Any = MODEL_FOR_MASKED_LM_MAPPING.get(type(known), None)
        if kind is None:
            return None
        lm, info = kind.from_pretrained(
            base.path, config=known, dtype=torch.float32, use_safetensors=True,
            output_loading_info=True, **LOAD,
        )  # fmt: skip
    return None if info["missing_keys"] or info["mismatched_keys"] else lm
