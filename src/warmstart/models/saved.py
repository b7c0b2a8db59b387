"""A saved folder back in memory: a whole model, or an adapter on its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import BaseModelError
from warmstart.models.auto import head_of, kind_of
from warmstart.models.catalog import resolve
from warmstart.models.check import note_of
from warmstart.models.families import family_of
from warmstart.models.quiet import LOAD, one_line, quiet
from warmstart.models.weights import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def load_saved(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (eval mode, float32) and tokenizer of a folder. Raises `BaseModelError`."""
    from transformers import AutoTokenizer

    with one_line(f"the model in {folder} cannot be loaded"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOAD)
        is_adapter = (folder / "adapter_config.json").exists()
        model = _adapter(folder) if is_adapter else _whole(folder)
    return model.eval(), tokenizer


def _whole(folder: Path) -> Any:
    import torch
    import transformers

    if own := note_of(folder).get("task", {}).get("module"):
        from warmstart.models.own_head import saved_own

        return saved_own(folder, own, note_of(folder)["task"]["module_settings"])
    config = read_json(folder / "config.json")
    kind = kind_of(head_of(config) or "vector", family_of(config).kind)
    auto: Any = getattr(transformers, kind.auto)
    return auto.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **LOAD)


def _adapter(folder: Path) -> Any:
    from transformers import AutoConfig, GenerationConfig

    from warmstart.models.backbone import load_headed

    note = note_of(folder)
    base = resolve(note["base"])
    if base.sha256 != note["base_sha256"]:
        raise BaseModelError(f"the base '{base.name}' is not the one that {folder} was trained on")
    config: Any = AutoConfig.from_pretrained(folder, **LOAD)
    labels = [config.id2label[i] for i in range(config.num_labels)]
    if own := note.get("task", {}).get("module"):
        from warmstart.models.own_head import load_own

        return with_adapter(
            load_own(base, own, note["task"]["module_settings"], labels, seed=0), folder
        )
    model = load_headed(base, note.get("head", "classes"), labels, seed=0)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder, **LOAD)
    return with_adapter(model, folder)


def with_adapter(model: PreTrainedModel, folder: Path) -> Any:
    """The base with the adapter of a folder, ours or PEFT's; the base may be rounded in place."""
    from peft import PeftModel

    from warmstart.models.bottleneck import register
    from warmstart.models.quantised import quantise

    register()
    if bits := base_bits(folder):
        quantise(model, bits)
    return PeftModel.from_pretrained(model, folder)


def base_bits(folder: Path) -> int:
    """The bits of the base's weights that an adapter was trained on, where they were rounded."""
    return int(note_of(folder).get("base_bits", 0))
