"""Adapters made one with their base, or several made one: merged, added, averaged.

Adding: Ilharco et al. 2023, "Editing models with task arithmetic"; averaging: Wortsman et al. 2022,
"Model soups", and Chronopoulou et al. 2023, "AdapterSoup".
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

from warmstart.errors import BaseModelError, ProofError, RunError, shown
from warmstart.files import read_json, write_json
from warmstart.models.adapters.files import (
    CONFIG,
    MERGED,
    STEM,
    WEIGHTS,
    AdapterFile,
    base_of,
    read,
    tensors_of,
)
from warmstart.models.adapters.open import TOLERANCE, opened, outputs, prove_equal
from warmstart.models.base import last_part
from warmstart.models.checks import fingerprint, note_of
from warmstart.models.gguf import cache_folder, exclusive
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_headed
from warmstart.models.peft import wrap
from warmstart.models.saved import load_saved
from warmstart.models.saving import copy_modules, whole_folder, write_note

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.base import Base

Combination = Literal["cat", "linear", "svd"]
WHY_NOT = {
    "adapter": "a bottleneck adapter is a layer of its own, no change of a weight",
    **dict.fromkeys(
        ("prompt_tuning", "prefix_tuning", "p_tuning"),
        "virtual tokens stand before the text and change no weight",
    ),
}
APART = 0.5
"""Heads that differ by a larger share of their size disagree."""
ROUGH = 0.05
"""A sum or mean that is off by a larger share gets a note."""
MAY_DIFFER = (
    "base_model_name_or_path", "inference_mode", "peft_version", "revision", "auto_mapping",
    "lora_dropout", "dropout", "modules_to_save", "task_type", "init_lora_weights",
)  # fmt: skip


def merge(file: AdapterFile, out: Path, base: str | None = None) -> dict[str, Any]:
    """Write the base with the adapter in its weights as a whole Hugging Face folder.

    The folder is put in place when its outputs, loaded afresh, are those of base and adapter
    (within 1e-5 of the largest). Raises `RunError` where the adapter cannot be merged, and
    `ProofError`.
    """
    _check_changes_weights(file, "merged")
    with opened(file, base) as folder:
        model, tokenizer = load_saved(folder)
        note = note_of(folder)
    expected = outputs(model, tokenizer)
    whole = wrap.merged(model)
    source = {
        "adapter": last_part(file.folder),
        "adapter_sha256": file.sha256,
        "method": file.method,
    }
    with whole_folder(out, "the merged model") as fresh:
        with quiet():
            whole.save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
        write_note(fresh, {**note, "merged": source, "tokenizer_sha256": fingerprint(fresh)})
        copy_modules(file.folder, fresh)
        proof = prove_equal(expected, outputs(fresh), f"{file.folder} merged is not the same model")
    parameters = sum(p.numel() for p in whole.parameters())
    return {"parameters": parameters, "labels": file.labels, "proof": proof, "notes": []}


def as_base(name: str) -> str:
    """A base to begin from, as `models.base.resolve` takes it: the word itself, or, of an adapter
    or its run, the folder of adapter and base merged, which is made once and kept in the cache.

    Raises as `merge` does.
    """
    folder = Path(name).expanduser()
    places = [place for place in (folder, folder / "model") if (place / CONFIG).exists()]
    if not places or (places[0] / "config.json").exists():
        return name
    file, place = read(places[0]), cache_folder() / "merged"
    sums = f"{file.sha256} {file.note.get('base_sha256')}"
    key = hashlib.sha256(sums.encode()).hexdigest()[:20]
    with exclusive(place, key):
        if not (place / key / "config.json").is_file():
            merge(file, place / key)
    return str(place / key)


def add(
    files: Sequence[AdapterFile],
    weights: Sequence[float],
    out: Path,
    combination: Combination = "cat",
    rank: int | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Write the adapter whose change is the weighted sum of the others' changes.

    lora by PEFT's `add_weighted_adapter`: `cat` is exact and its rank is the sum of the ranks,
    `svd` the nearest of rank `rank`, `linear` quick and rough. ia3 and layernorm add their factors
    or norms. Heads are averaged by the same weights. Raises `RunError`, `BaseModelError`.
    """
    shared = _shared_base(files, base)
    _check_alike(files)
    for file in files:
        _check_changes_weights(file, "added")
        if "DoRA" in file.variants:
            raise RunError(
                f"{file.folder} is an adapter of DoRA, whose change is no sum; average takes it "
                "where all have the same shape"
            )
    model = load_headed(shared, files[0].head, files[0].labels_on(shared), seed=0)
    if files[0].method == "layernorm":
        tensors, config, share = _add_norms(model, files, weights), {}, 0.0
    else:
        tensors, config, share = _add_by_peft(model, files, weights, combination, rank)
    heads, notes = _mean_heads(files, weights)
    if share > ROUGH:
        notes.append(f"{combination} misses the sum by {share:.0%} of its size; cat is exact")
    _write(files[0], base, out, {**tensors, **heads}, config)
    return {"rank": config.get("r"), "error": share, "notes": notes, "labels": files[0].labels}


def average(files: Sequence[AdapterFile], out: Path, base: str | None = None) -> dict[str, Any]:
    """Write the adapter whose every weight is the mean of the others', heads included.

    Raises `RunError` where they are not of one method and shape, `BaseModelError`.
    """
    _shared_base(files, base)
    _check_alike(files)
    _check_same_shape(files)
    loaded = [tensors_of(file) for file in files]
    mean: dict[str, Any] = {
        name: sum(tensors[name] for tensors in loaded) / len(files) for name in loaded[0]
    }
    _, notes = _mean_heads(files, [1.0] * len(files))
    factors = [
        (name, name.replace(".lora_A.", ".lora_B."))
        for name, value in mean.items()
        if ".lora_A." in name and value.ndim == 2
    ]
    share = _relative_error(
        (mean[up] @ mean[down], sum(t[up] @ t[down] for t in loaded) / len(loaded))
        for down, up in factors
    )
    if share > ROUGH:
        notes.append(
            f"the product of the mean factors is not the mean change: it differs by {share:.0%} of "
            "its size; `add` with equal weights that sum to 1 is exact"
        )
    if files[0].method.endswith("tuning"):
        notes.append("virtual tokens of different runs rarely mean the same in the same place")
    _write(files[0], base, out, mean, {})
    return {"rank": files[0].rank, "error": share, "notes": notes, "labels": files[0].labels}


# Whether adapters can be merged or combined.


def _check_changes_weights(file: AdapterFile, done: str) -> None:
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


def _shared_base(files: Sequence[AdapterFile], base: str | None) -> Base:
    """The base that all of them have. Raises `BaseModelError`."""
    if len(files) < 2:
        raise RunError("give at least two adapters")
    first, *others = [base_of(file, base) for file in files]
    for file, other in zip(files[1:], others, strict=True):
        if other.sha256 != first.sha256:
            raise BaseModelError(
                f"{files[0].folder} and {file.folder} have different bases: '{first.name}' "
                f"(sha256 {first.sha256[:12]}…) and '{other.name}' ({other.sha256[:12]}…); only "
                "adapters of one base can become one"
            )
    return first


def _check_alike(files: Sequence[AdapterFile]) -> None:
    """Raise `RunError` unless method, head, labels and bits of the base are the same."""
    first = files[0]
    for file in files[1:]:
        both = f"{first.folder} and {file.folder}"
        if file.method != first.method:
            raise RunError(f"{both} are of different methods: {first.method} and {file.method}")
        if file.bits != first.bits:
            raise RunError(f"the bases of {both} have weights of different bits")
        if file.head != first.head:
            raise RunError(
                f"{both} answer with different things: {first.head.name} and {file.head.name}"
            )
        if file.labels != first.labels:
            raise RunError(
                f"{both} have different labels ({_some(first.labels)}; {_some(file.labels)}): "
                "their heads cannot become one. Keep both in memory: warmstart.adapters.Adapters"
            )


def _check_same_shape(files: Sequence[AdapterFile]) -> None:
    first = files[0]
    for file in files[1:]:
        for key in sorted((first.config.keys() | file.config.keys()) - set(MAY_DIFFER)):
            ours, theirs = (
                sorted({str(entry) for entry in value}) if isinstance(value, list) else value
                for value in (first.config.get(key), file.config.get(key))
            )
            if ours != theirs:
                way = "; `add` takes different ranks" if first.method == "lora" else ""
                raise RunError(
                    f"{first.folder} and {file.folder} have different settings: {key} is "
                    f"{shown(ours)} and {shown(theirs)}{way}"
                )
        for name in {**first.shapes, **file.shapes}:
            if first.shapes.get(name) != file.shapes.get(name):
                raise RunError(
                    f"{first.folder} and {file.folder} have different tensors: {name} is "
                    f"{first.shapes.get(name, 'absent')} and {file.shapes.get(name, 'absent')}"
                )


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return shown(", ".join(labels[:4]) or "none") + more


# The tensors of a sum or mean.


def _mean_heads(
    files: Sequence[AdapterFile], weights: Sequence[float]
) -> tuple[dict[str, Tensor], list[str]]:
    """The weighted mean of the heads, and notes on how well they agree."""
    heads = [
        {name: value for name, value in tensors_of(file).items() if file.is_head(name)}
        for file in files
    ]
    if not heads[0]:
        return {}, []
    for file, head in zip(files[1:], heads[1:], strict=True):
        if {n: v.shape for n, v in head.items()} != {n: v.shape for n, v in heads[0].items()}:
            raise RunError(f"the heads of {files[0].folder} and {file.folder} have other shapes")
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        return heads[0], [
            f"with such weights heads have no mean: that of {files[0].folder} is kept"
        ]
    mean: dict[str, Any] = {
        name: sum(w * head[name] for w, head in zip(weights, heads, strict=True)) / total
        for name in heads[0]
    }
    size = sum(float(v.square().sum()) for head in heads for v in head.values()) / len(files)
    gap = max(
        sum(float((head[name] - heads[0][name]).square().sum()) for name in mean)
        for head in heads[1:]
    )
    share = (gap / size) ** 0.5 if size else 0.0
    note = f"the heads differ by {share:.0%} of their size, and were averaged"
    if share > APART:
        note += ": they disagree, so evaluate the result before you rely on it"
    return mean, [note]


def _add_by_peft(
    model: Any, files: Sequence[AdapterFile], weights: Sequence[float], how: str, rank: int | None
) -> tuple[dict[str, Tensor], dict[str, Any], float]:
    """The tensors of the sum, what changes in the config, and the relative error.

    Raises `ProofError` where `cat` has one.
    """
    names = [f"a{i}" for i in range(len(files))]
    with quiet():
        adapted = _with_parts(model, dict(zip(names, files, strict=True)))
        if files[0].method == "ia3":
            adapted.base_model.add_weighted_adapter(names, list(weights), "sum")
        else:
            for config in adapted.peft_config.values():
                config.use_rslora = False  # the scale of each is in the sum already
            more = {"svd_rank": rank} if rank else {}
            adapted.base_model.add_weighted_adapter(names, list(weights), "sum", how, **more)
        tensors = get_peft_model_state_dict(adapted, adapter_name="sum")
    config = adapted.peft_config["sum"]
    changes = {"target_modules": sorted(config.target_modules)}
    if files[0].method == "ia3":
        changes["feedforward_modules"] = sorted(config.feedforward_modules)
        return tensors, changes, 0.0
    changes |= {"r": config.r, "lora_alpha": config.r, "use_rslora": False, "rank_pattern": {},
                "alpha_pattern": {}}  # fmt: skip
    layers = [m for m in adapted.modules() if isinstance(m, LoraLayer) and "sum" in m.lora_A]
    deltas: list[Any] = [layer.get_delta_weight for layer in layers]  # pyright: ignore[reportAttributeAccessIssue]
    share = _relative_error(
        (
            delta("sum"),
            sum(w * delta(n) for n, w in zip(names, weights, strict=True) if n in layer.lora_A),
        )
        for layer, delta in zip(layers, deltas, strict=True)
    )
    if how == "cat" and share > TOLERANCE * 10:
        raise ProofError(f"the sum differs from its parts by {share:.2g} of its size")
    return tensors, changes, share


def _with_parts(model: Any, files: Mapping[str, AdapterFile]) -> Any:
    """PEFT's model with several adapters. PEFT's `load_adapter` would load their heads as well,
    which may not be added."""
    adapted: Any = None
    for name, file in files.items():
        config: Any = PeftConfig.from_pretrained(str(file.folder))
        config.modules_to_save = config.task_type = None
        config.inference_mode = True
        if adapted is None:
            adapted = get_peft_model(model, config, adapter_name=name)
        else:
            adapted.add_adapter(name, config)
        parts = {key: value for key, value in tensors_of(file).items() if file.is_part(key)}
        set_peft_model_state_dict(adapted, parts, adapter_name=name)
    return adapted


def _add_norms(
    model: Any, files: Sequence[AdapterFile], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Base + sum of weight x (tuned - base), for every norm; PEFT adds none."""
    plain = model.state_dict()
    loaded = [tensors_of(file) for file in files]
    total: dict[str, Tensor] = {}
    for name in filter(files[0].is_part, loaded[0]):
        start = plain[name.removeprefix(STEM).replace(".ln_tuning_layers", "")].float()
        changes = [w * (tuned[name] - start) for w, tuned in zip(weights, loaded, strict=True)]
        total[name] = start + sum(changes)
    return total


def _relative_error(pairs: Iterable[tuple[Any, Any]]) -> float:
    """How far tensors are from those that they should be, relative to their size."""
    gap = size = 0.0
    for tensor, expected in pairs:
        gap += float((tensor - expected).square().sum())
        size += float(expected.square().sum())
    return (gap / size) ** 0.5 if size else 0.0


def _write(
    first: AdapterFile,
    base: str | None,
    out: Path,
    tensors: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Write an adapter folder like the first one, with other tensors; it loads before it is in
    place."""
    with opened(first, base) as folder, whole_folder(out, "the adapter") as fresh:
        for path in folder.iterdir():
            if path.is_file() and path.name not in (WEIGHTS, "README.md"):
                shutil.copyfile(path, fresh / path.name)
        write_json(fresh / CONFIG, {**read_json(fresh / CONFIG), **config})
        whole = {name: value.contiguous() for name, value in tensors.items()}
        save_file(whole, fresh / WEIGHTS, {"format": "pt"})
        write_note(fresh, note_of(fresh))
        if not all(bool(answer.isfinite().all()) for answer in outputs(fresh)):
            raise ProofError("the new adapter gives outputs that are no numbers")
