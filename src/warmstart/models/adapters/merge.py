"""An adapter made part of its base's weights, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, ProofError, RunError, typed
from warmstart.models.adapters.files import (
    MERGED,
    STEM,
    AdapterFile,
    base_of,
    base_state,
    tensors_of,
    with_parts,
)
from warmstart.models.adapters.open import TOLERANCE, opened, outputs, prove_equal
from warmstart.models.checks import fingerprint, note_of
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_saved
from warmstart.models.saving import whole_folder, write_note
from warmstart.models.sentence_folder import copy_modules

WHY_NOT = {
    "adapter": "a bottleneck adapter is a layer of its own, no change of a weight",
    **dict.fromkeys(
        ("prompt_tuning", "prefix_tuning", "p_tuning"),
        "virtual tokens stand before the text and change no weight",
    ),
}


def merge(file: AdapterFile, out: Path, base: str | None = None) -> dict[str, Any]:
    """Write the base with the adapter in its weights as a whole Hugging Face folder.

    The folder is put in place when its outputs, loaded afresh, are those of base and adapter
    (within 1e-5 of the largest). Raises `RunError` where the adapter cannot be merged, and
    `ProofError`.
    """
    from warmstart.models.peft.wrap import merged

    refuse(file, "merged")
    with opened(file, base) as folder:
        model, tokenizer = load_saved(folder)
        note = note_of(folder)
    expected = outputs(model, tokenizer)
    whole = merged(model)
    made = {"adapter": str(file.folder), "adapter_sha256": file.sha256, "method": file.method}
    with whole_folder(out, "the merged model") as fresh:
        _save(whole, tokenizer, fresh, {**note, "merged": made})
        copy_modules(file.folder, fresh)
        proof = prove_equal(expected, outputs(fresh), f"{file.folder} merged is not the same model")
    parameters = sum(p.numel() for p in whole.parameters())
    return {"parameters": parameters, "labels": file.labels, "proof": proof, "notes": []}


def unmerge(folder: Path, file: AdapterFile, out: Path, base: str | None = None) -> dict[str, Any]:
    """Take an adapter's change out of a merged model; its head stays.

    Where the base is at hand, what comes out is compared with it: within 1e-5 of the largest
    weight, or `ProofError`. Raises `RunError` where the adapter is not the one in there, or its
    change is not in its file.
    """
    refuse(file, "taken out")
    if file.method == "layernorm" or "DoRA" in file.variants:
        what = "DoRA" if file.variants else "layernorm"
        raise RunError(
            f"{file.folder} is an adapter of {what}, whose file does not hold the change but needs "
            f"the base to know it: take the base itself, {file.base}"
        )
    model, tokenizer = load_saved(_whole(folder, file))
    _is_in_there(model, folder, file)
    with quiet():
        plain = _without(model, file)
    note = {k: v for k, v in note_of(_whole(folder, file)).items() if k != "merged"}
    notes: list[str] = []
    proof = _compared(plain, file, base)
    if proof is None:
        notes.append(f"the base {file.base} is not at hand: the weights were compared with nothing")
    if file.labels:
        notes.append(f"the head is still the adapter's: {', '.join(file.labels)}")
    with whole_folder(out, "the model") as fresh:
        made = {"adapter": str(file.folder), "adapter_sha256": file.sha256}
        _save(plain, tokenizer, fresh, {**note, "unmerged": made})
        outputs(fresh)
    return {"labels": file.labels, "proof": proof, "notes": notes}


def refuse(file: AdapterFile, done: str) -> None:
    """Raise `RunError` unless the adapter is a change of full weights."""
    if file.bits:
        raise RunError(
            f"{file.folder} was trained on a base rounded to {file.bits} bits, and cannot be "
            f"{done}: in other weights it means something else. Keep it as an adapter, or train "
            "with method.base_bits 32"
        )
    if file.method not in MERGED:
        why = WHY_NOT.get(file.method, f"warmstart does not know how for {file.method}")
        raise RunError(
            f"{file.folder} cannot be {done}: {why}. Keep it beside its base (predict, evaluate "
            f"and warmstart.adapters read it), or train with one of {', '.join(MERGED)}"
        )
    strange = [name for name in file.shapes if not (file.is_part(name) or file.is_head(name))]
    if strange:
        raise RunError(
            f"{file.folder} holds more than a {file.method} and a head ({strange[0]}), and cannot "
            f"be {done}"
        )


def _whole(folder: Path, file: AdapterFile) -> Path:
    """The folder of a merged model."""
    found = folder / "model" if (folder / "model" / "config.json").exists() else folder
    if not (found / "config.json").exists() or (found / "adapter_config.json").exists():
        raise RunError(
            f"{folder} holds no merged model; make one: "
            f"warmstart adapters merge {typed(file.folder)} --out FOLDER"
        )
    return found


def _is_in_there(model: Any, folder: Path, file: AdapterFile) -> None:
    """Raises `RunError` where the model was not merged from this adapter."""
    said: Mapping[str, Any] = note_of(_whole(folder, file)).get("merged") or {}
    if said and said["adapter_sha256"] != file.sha256:
        raise RunError(f"in {folder} another adapter was merged: {said['adapter']}")
    weights = model.state_dict()
    for name, value in tensors_of(file).items():
        if not file.is_head(name):
            continue
        now = weights.get(name.removeprefix(STEM))
        if now is None or now.shape != value.shape or float((now - value).abs().max()) > TOLERANCE:
            raise RunError(f"{file.folder} was not merged into {folder}: its head is not there")


def _without(model: Any, file: AdapterFile) -> Any:
    """The model with the adapter's change taken out of its weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = with_parts(model, {"taken": file})
    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merged_adapters = ["taken"]
            layer.unmerge()
    return adapted.unload()


def _compared(plain: Any, file: AdapterFile, base: str | None) -> dict[str, Any] | None:
    """The largest difference from the base's own weights, heads apart; None without a base."""
    from warmstart.models.loading import load_headed
    from warmstart.models.modules import head_names

    if base is None and base_state(file) not in ("present", "unknown"):
        return None
    try:
        found = base_of(file, base)
    except BaseModelError:
        if base is not None:
            raise
        return None
    labels = file.labels_on(found)
    theirs = load_headed(found, file.head, labels, seed=0).state_dict()
    heads = tuple(f"{name}." for name in head_names(plain))
    ours = {k: v for k, v in plain.state_dict().items() if not k.startswith(heads or ("\0",))}
    gap = max(float((ours[name].float() - theirs[name]).abs().max()) for name in ours)
    scale = max(1.0, *(float(theirs[name].abs().max()) for name in ours))
    if not gap <= TOLERANCE * scale:
        raise ProofError(
            f"without {file.folder} the weights are not those of its base '{found.name}': they "
            f"differ by up to {gap:.2g}. Was this adapter merged into it?"
        )
    return {"weights": sum(v.numel() for v in ours.values()), "max_difference": gap,
            "tolerance": TOLERANCE * scale}  # fmt: skip


def _save(model: Any, tokenizer: Any, folder: Path, note: Mapping[str, Any]) -> None:
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_note(folder, {**note, "tokenizer_sha256": fingerprint(folder)})
