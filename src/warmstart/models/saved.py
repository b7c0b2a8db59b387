"""A saved folder back in memory, a whole model or an adapter on its base; one that is not whole is
refused before it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from warmstart.errors import BaseModelError
from warmstart.models.adapters.files import WEIGHTS, base_of, read
from warmstart.models.architectures import family_of
from warmstart.models.checks import (
    check_config,
    check_files,
    check_fingerprint,
    check_sum,
    check_tokenizer,
    check_whole,
    config_file,
    header,
    is_adapter,
    note_of,
    read_json,
    token_ids,
    weight_files,
)
from warmstart.models.custom_head import load_own, load_saved_own
from warmstart.models.heads import HEADS, LANGUAGE, VECTOR, head_of
from warmstart.models.hf_calls import FLOAT32, LOAD, one_line, quiet
from warmstart.models.loading import check_layers, load_headed
from warmstart.models.peft.quantization import quantise

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARIES = ("vocab.txt", "vocab.json", "spiece.model", "tokenizer.model",
                "sentencepiece.bpe.model")  # fmt: skip
"""What older tokenizers are made of; where none is there, transformers makes one of nothing."""
LANGUAGE_MAPPINGS = ("PRETRAINING", "MASKED_LM", "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM")
"""Which of transformers' mappings have classes that predict the tokens of a row."""


def load_saved(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model (eval mode, float32) and tokenizer of a folder. Raises `BaseModelError`."""
    tokenizer = saved_tokenizer(folder)
    return saved_model(folder), tokenizer


def saved_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder, as it stands there.

    Raises `BaseModelError`, also where it is not the one that the model was trained with.
    """
    check_files(folder)
    if (folder / "tokenizer.json").is_file():
        adapts = is_adapter(folder)
        has_weights = any(folder.glob("*.safetensors"))  # an engine may have built another form
        (check_tokenizer if has_weights and not adapts else check_fingerprint)(folder)
    elif "tokenizer_sha256" in note_of(folder) or not any(
        (folder / name).is_file() for name in VOCABULARIES
    ):
        raise BaseModelError(
            f"{folder} has no tokenizer.json; put the one there that it was trained with"
        )
    with one_line(f"the model in {folder} cannot be loaded"), quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOAD)
    if (folder / "tokenizer.json").is_file():
        known = token_ids(read_json(folder / "tokenizer.json"), folder)
        if max(tokenizer.get_vocab().values()) > max(known):
            raise BaseModelError(
                f"{folder} is not whole: its tokenizer_config.json is missing or damaged, and asks "
                "for tokens that tokenizer.json does not hold; copy the folder again"
            )
    return tokenizer


def saved_config(folder: Path) -> Any:
    """The config of a folder, as transformers reads it. Raises `BaseModelError`."""
    check_config(read_json(config_file(folder)), folder)
    with one_line(f"the model in {folder} cannot be loaded"), quiet():
        return transformers.AutoConfig.from_pretrained(config_file(folder), **LOAD)


def saved_model(folder: Path) -> PreTrainedModel:
    """The model of a folder in eval mode and float32.

    Raises `BaseModelError`, also where it is not whole: weights that are missing, of another shape,
    left over, no numbers, or not those that were saved.
    """
    adapts = is_adapter(folder)
    if adapts:
        read(folder)  # checks it
    else:
        check_sum(folder)
        weight_files(folder)
    with one_line(f"the model in {folder} cannot be loaded"), quiet():
        model = (_adapter(folder) if adapts else _whole(folder)).eval()
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise BaseModelError(f"{folder} is damaged: '{name}' has values that are no numbers")
    return model


def _whole(folder: Path) -> Any:
    task = note_of(folder).get("task", {})
    if path := task.get("module"):
        return load_saved_own(folder, path, task["module_settings"])
    config = read_json(folder / "config.json")
    family, head = family_of(config), head_of(config) or VECTOR
    auto: Any = getattr(transformers, head.auto_for(family.kind))
    if task.get("name") == LANGUAGE.task or head.predicts_itself:  # its head is no Auto class's
        name = (config.get("architectures") or [""])[0]
        own = language_class(transformers.AutoConfig.from_pretrained(folder, **LOAD), name)
        auto = auto if own is None else own
    loaded: Any = auto.from_pretrained(
        folder, ignore_mismatched_sizes=True, output_loading_info=True, **FLOAT32
    )
    model, info = loaded
    lost = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if head == VECTOR:  # the pooler of a body is not read
        lost = {key for key in lost if "pooler" not in key}
    check_whole(folder, lost)
    check_layers(info["unexpected_keys"], model, str(folder))
    return model


def language_class(config: Any, name: str) -> Any:
    """The class of transformers called `name`, if it is a language model of this config (an object
    of transformers); else None."""
    import transformers

    for mapping in LANGUAGE_MAPPINGS:
        known = getattr(transformers, f"MODEL_FOR_{mapping}_MAPPING").get(type(config), None)
        for kind in known if isinstance(known, tuple) else (known,):
            if kind is not None and kind.__name__ == name:
                return kind
    return None


def _adapter(folder: Path) -> Any:
    note = note_of(folder)
    base = base_of(read(folder))
    config: Any = transformers.AutoConfig.from_pretrained(config_file(folder), **LOAD)
    labels = [config.id2label[i] for i in range(config.num_labels)]
    task = note.get("task", {})
    if path := task.get("module"):
        model = load_own(base, path, task["module_settings"], labels, seed=0)
    else:
        model = load_headed(base, HEADS[note.get("head", "classes")], labels, seed=0)
        if (folder / "generation_config.json").exists():
            model.generation_config = transformers.GenerationConfig.from_pretrained(
                folder,
                local_files_only=True,  # whatever else is named here it takes for its own
            )
    return with_adapter(model, folder)


def with_adapter(model: PreTrainedModel, folder: Path) -> Any:
    """The base with the adapter of a folder, ours or PEFT's; the base may be rounded in place.

    Raises `BaseModelError` where the file lacks some of the adapter's weights.
    """
    from peft import PeftModel, get_peft_model_state_dict

    from warmstart.models.peft.bottleneck import register

    register()
    if bits := base_bits(folder):
        quantise(model, bits)
    try:
        adapted = PeftModel.from_pretrained(model, folder)
    except KeyError as error:  # what PEFT says of a head that is not there
        check_whole(folder, [str(error.args[0])])
        raise
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    check_whole(folder, wanted.keys() - header(folder / WEIGHTS).keys())
    return adapted


def base_bits(folder: Path) -> int:
    """The bits of the base's weights that an adapter was trained on, where they were rounded."""
    return int(note_of(folder).get("base_bits", 0))
