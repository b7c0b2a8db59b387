"""An adapter opened wherever it comes from: one of PEFT's gets what ours have beside them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoTokenizer

from warmstart.errors import ProofError, RunError
from warmstart.files import write_json
from warmstart.models.adapters.files import CONFIG, PARTS, WEIGHTS, AdapterFile, base_of
from warmstart.models.architectures import body_of, family_of
from warmstart.models.checks import ADAPTED, config_file, fingerprint, headers, read_json
from warmstart.models.head_layers import unwrap
from warmstart.models.heads import head_of
from warmstart.models.hf_calls import LOAD, quiet, set_labels
from warmstart.models.saved import load_saved
from warmstart.models.saving import note_of_base, write_note

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.base import Base


TOLERANCE = 1e-5
TEXTS = (
    "The film was not very good, but I liked the music.",
    "my parcel never came and i want my money back",
    "Yes!",
    "A long and winding text: it begins with one thing, goes on with another, comes back to the "
    "first, forgets it again, and ends, three commas later, where nobody expected it to end.",
    "Ärger mit Straße 12, déjà vu; 3.14159 @name #tag",
)
"""Inputs on which two models should answer the same."""


@contextmanager
def opened(file: AdapterFile, base: str | Base | None = None) -> Iterator[Path]:
    """A folder with the adapter that `load_saved` reads: its own, or a completed copy.

    `base` is where the base stands, if not where the adapter says. Raises `BaseModelError`, and
    `RunError` where neither the adapter nor the base has all of the head.
    """
    model = base_of(file, base) if base is None or isinstance(base, str) else base
    ours = "base_sha256" in file.note and config_file(file.folder).exists()
    if ours and not isinstance(base, str):
        yield file.folder
        return
    if not ours:
        _check_head(file, model)
    with tempfile.TemporaryDirectory(prefix="warmstart-") as place:
        _complete(file, model, Path(place))
        yield Path(place)


def _complete(file: AdapterFile, base: Base, folder: Path) -> None:
    """Copy an adapter into `folder`, with config, tokenizer and note as our own have them."""
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(file.folder / name, folder / name)
    settings = read_json(folder / CONFIG)
    settings["base_model_name_or_path"] = base.hub_id or base.shared_name
    write_json(folder / CONFIG, settings)
    own = (file.folder / "tokenizer.json").exists()
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(file.folder if own else base.path, **LOAD)
        tokenizer.save_pretrained(folder)
    if config_file(file.folder).exists():
        shutil.copyfile(config_file(file.folder), folder / ADAPTED)
    else:  # that of the base under the adapter's head
        with quiet():
            config: Any = AutoConfig.from_pretrained(base.path, **LOAD)
            config.architectures = [file.head.class_for(config, family_of(config)).__name__]
            config.problem_type = file.head.problem_type
            if labels := file.labels_on(base):
                set_labels(config, labels)
            config.save_pretrained(folder)
            (folder / "config.json").rename(folder / ADAPTED)
    note = {**file.note, **note_of_base(base), "head": file.head.name}
    write_note(folder, {**note, "tokenizer_sha256": fingerprint(folder)})


def outputs(folder_or_model: Any, tokenizer: Any = None) -> list[Tensor]:
    """What a model answers to `TEXTS`, each computed alone: logits, or the last hidden states."""
    model = folder_or_model
    if isinstance(model, Path):
        model, tokenizer = load_saved(model)
    config = model.config
    decodes = config.is_encoder_decoder and not type(model).__name__.endswith("Classification")
    answers: list[Tensor] = []
    with torch.no_grad(), quiet():
        for text in TEXTS:
            ids = torch.tensor([tokenizer(text)["input_ids"][:48]])
            more = {"decoder_input_ids": ids} if decodes else {}
            answer: Any = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
            names = ("logits", "start_logits", "end_logits")
            logits = [answer[name] for name in names if name in answer]
            answers += [rows.float() for rows in logits or [answer.last_hidden_state]]
    return answers


def prove_equal(ours: list[Tensor], theirs: list[Tensor], what: str) -> dict[str, Any]:
    """The largest difference, which may be 1e-5 of the largest output. Raises `ProofError`."""
    gap = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    scale = max(1.0, *(float(a.abs().max()) for a in ours))
    if not gap <= TOLERANCE * scale:
        raise ProofError(f"{what}: outputs differ by up to {gap:.2g}; nothing has been written")
    return {"texts": len(TEXTS), "max_difference": gap, "tolerance": TOLERANCE * scale}


def _check_head(file: AdapterFile, base: Base) -> None:
    """Raise `RunError` where a part of the head is in neither file: it would be random."""
    if file.head.reads != "pooled":
        return
    config = read_json(base.path / "config.json")
    theirs = headers(base.path)
    for module in family_of(config).head_modules:
        part = f".{module.rpartition('.')[2]}."
        in_base = head_of(config) == file.head or part == ".pooler."
        names = [*file.shapes, *(theirs if in_base else ())]
        if not any(part in f".{name}" for name in names):
            raise RunError(
                f"{file.folder} lacks a part of its head, {module}, and so does its base "
                f"'{base.name}': it was random in training and not saved; train again with it in "
                "modules_to_save"
            )


def share(model: Any, weights: dict[str, Tensor]) -> None:
    """Let the body of an adapted model use the tensors in `weights` that are equal to its own, so
    that the models of one base hold its frozen weights once; what is missing there is put there.
    """
    trained = (*PARTS, "modules_to_save", "original_module")
    for name, parameter in body_of(unwrap(model)).named_parameters():
        if any(part in name for part in trained):
            continue
        known = weights.setdefault(name.replace(".base_layer.", "."), parameter.data)
        if known.shape == parameter.shape and torch.equal(known, parameter.data):
            parameter.data = known
