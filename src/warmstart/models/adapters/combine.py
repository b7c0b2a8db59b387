"""Several adapters of one base as one: their changes added, or their weights averaged.

Adding: Ilharco et al. 2023, "Editing models with task arithmetic"; averaging: Wortsman et al. 2022,
"Model soups", and Chronopoulou et al. 2023, "AdapterSoup".
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from warmstart.errors import BaseModelError, ProofError, RunError, shown
from warmstart.files import read_json, write_json
from warmstart.models.adapters.files import (
    CONFIG,
    STEM,
    WEIGHTS,
    AdapterFile,
    base_of,
    tensors_of,
    with_parts,
)
from warmstart.models.adapters.merge import refuse
from warmstart.models.adapters.open import TOLERANCE, opened, outputs
from warmstart.models.hf_calls import quiet
from warmstart.models.saving import whole_folder

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.base import Base


# Whether several adapters can become one, and what becomes of their heads.

APART = 0.5
MAY_DIFFER = (
    "base_model_name_or_path", "inference_mode", "peft_version", "revision", "auto_mapping",
    "lora_dropout", "dropout", "modules_to_save", "task_type", "init_lora_weights",
)  # fmt: skip


def one_base(files: Sequence[AdapterFile], base: str | None) -> Base:
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


def alike(files: Sequence[AdapterFile]) -> None:
    """Raises `RunError` unless method, head, labels and bits of the base are the same."""
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


def same_shape(files: Sequence[AdapterFile]) -> None:
    first = files[0]
    for file in files[1:]:
        for key in sorted((first.config.keys() | file.config.keys()) - set(MAY_DIFFER)):
            one, other = (_plain(f.config.get(key)) for f in (first, file))
            if one != other:
                way = "; `add` takes different ranks" if first.method == "lora" else ""
                raise RunError(
                    f"{first.folder} and {file.folder} have different settings: {key} is "
                    f"{shown(one)} and {shown(other)}{way}"
                )
        if file.shapes != first.shapes:
            name = next(n for n in {**first.shapes, **file.shapes}
                        if first.shapes.get(n) != file.shapes.get(n))  # fmt: skip
            raise RunError(
                f"{first.folder} and {file.folder} have different tensors: {name} is "
                f"{first.shapes.get(name, 'absent')} and {file.shapes.get(name, 'absent')}"
            )


def _plain(value: Any) -> Any:
    return sorted({str(entry) for entry in value}) if isinstance(value, list) else value


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 4} more" if len(labels) > 4 else ""
    return shown(", ".join(labels[:4]) or "none") + more


def heads_of(
    files: Sequence[AdapterFile], weights: Sequence[float]
) -> tuple[dict[str, Tensor], list[str]]:
    """The weighted mean of the heads, and what there is to say of it."""
    loaded = [
        {name: value for name, value in tensors_of(file).items() if file.is_head(name)}
        for file in files
    ]
    if not loaded[0]:
        return {}, []
    for file, one in zip(files[1:], loaded[1:], strict=True):
        if {n: v.shape for n, v in one.items()} != {n: v.shape for n, v in loaded[0].items()}:
            raise RunError(f"the heads of {files[0].folder} and {file.folder} have other shapes")
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        return loaded[0], [
            f"with such weights heads have no mean: that of {files[0].folder} is kept"
        ]
    mean: dict[str, Any] = {
        name: sum(w * one[name] for w, one in zip(weights, loaded, strict=True)) / total
        for name in loaded[0]
    }
    size = sum(float(v.square().sum()) for one in loaded for v in one.values()) / len(files)
    off = max(
        sum(float((one[name] - loaded[0][name]).square().sum()) for name in mean)
        for one in loaded[1:]
    )
    share = (off / size) ** 0.5 if size else 0.0
    told = f"the heads differ by {share:.0%} of their size, and were averaged"
    if share > APART:
        told += ": they disagree, so evaluate the result before you rely on it"
    return mean, [told]


Combination = Literal["cat", "linear", "svd"]
ROUGH = 0.05


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
    from warmstart.models.loading import load_headed

    found = one_base(files, base)
    alike(files)
    for file in files:
        refuse(file, "added")
        if "DoRA" in file.variants:
            raise RunError(
                f"{file.folder} is an adapter of DoRA, whose change is no sum; average takes it "
                "where all have the same shape"
            )
    model = load_headed(found, files[0].head, files[0].labels_on(found), seed=0)
    made, config, share = _added(model, files, weights, combination, rank)
    heads, notes = heads_of(files, weights)
    if share > ROUGH:
        notes.append(f"{combination} misses the sum by {share:.0%} of its size; cat is exact")
    _write(files[0], base, out, {**made, **heads}, config)
    return {"rank": config.get("r"), "error": share, "notes": notes, "labels": files[0].labels}


def average(files: Sequence[AdapterFile], out: Path, base: str | None = None) -> dict[str, Any]:
    """Write the adapter whose every weight is the mean of the others', heads included.

    Raises `RunError` where they are not of one method and shape, `BaseModelError`.
    """
    one_base(files, base)
    alike(files)
    same_shape(files)
    loaded = [tensors_of(file) for file in files]
    mean = {name: sum(one[name] for one in loaded) / len(files) for name in loaded[0]}
    _, notes = heads_of(files, [1.0] * len(files))
    share = _rough(loaded, mean) if files[0].method == "lora" else 0.0
    if share > ROUGH:
        notes.append(
            f"the product of the mean factors is not the mean change: it differs by {share:.0%} of "
            "its size; `add` with equal weights that sum to 1 is exact"
        )
    if files[0].method.endswith(("tuning", "_tuning")):
        notes.append("virtual tokens of different runs rarely mean the same in the same place")
    _write(files[0], base, out, mean, {})
    return {"rank": files[0].rank, "error": share, "notes": notes, "labels": files[0].labels}


def _added(
    model: Any, files: Sequence[AdapterFile], weights: Sequence[float], how: str, rank: int | None
) -> tuple[dict[str, Tensor], dict[str, Any], float]:
    """The tensors of the sum, what changes in the config, and the relative error."""
    from peft import get_peft_model_state_dict

    if files[0].method == "layernorm":
        return _added_norms(model, files, weights), {}, 0.0
    names = [f"a{i}" for i in range(len(files))]
    with quiet():
        adapted = with_parts(model, dict(zip(names, files, strict=True)))
        if files[0].method == "ia3":
            adapted.base_model.add_weighted_adapter(names, list(weights), "sum")
        else:
            for config in adapted.peft_config.values():
                config.use_rslora = False  # the scale of each is in the sum already
            more = {"svd_rank": rank} if rank else {}
            adapted.base_model.add_weighted_adapter(names, list(weights), "sum", how, **more)
        made = get_peft_model_state_dict(adapted, adapter_name="sum")
    config = adapted.peft_config["sum"]
    said = {"target_modules": sorted(config.target_modules)}
    if files[0].method == "ia3":
        return made, {**said, "feedforward_modules": sorted(config.feedforward_modules)}, 0.0
    said |= {"r": config.r, "lora_alpha": config.r, "use_rslora": False, "rank_pattern": {},
             "alpha_pattern": {}}  # fmt: skip
    return made, said, _error(adapted, names, weights, how)


def _added_norms(
    model: Any, files: Sequence[AdapterFile], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Base + sum of weight x (tuned - base), for every norm."""
    plain = model.state_dict()
    loaded = [tensors_of(file) for file in files]
    made: dict[str, Tensor] = {}
    for name in filter(files[0].is_part, loaded[0]):
        start = plain[name.removeprefix(STEM).replace(".ln_tuning_layers", "")].float()
        changes = [w * (one[name] - start) for w, one in zip(weights, loaded, strict=True)]
        made[name] = start + sum(changes)
    return made


def _error(adapted: Any, names: Sequence[str], weights: Sequence[float], how: str) -> float:
    """How far the change is from the sum, relative to it. Raises `ProofError` for `cat`."""
    from peft.tuners.lora import LoraLayer

    off = size = 0.0
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and "sum" in layer.lora_A:
            delta: Any = layer.get_delta_weight  # pyright: ignore[reportAttributeAccessIssue]
            pairs = zip(names, weights, strict=True)
            wanted: Any = sum(w * delta(name) for name, w in pairs if name in layer.lora_A)
            off += float((delta("sum") - wanted).square().sum())
            size += float(wanted.square().sum())
    share = (off / size) ** 0.5 if size else 0.0
    if how == "cat" and share > TOLERANCE * 10:
        raise ProofError(f"the sum differs from its parts by {share:.2g} of its size")
    return share


def _rough(loaded: Sequence[Mapping[str, Tensor]], mean: Mapping[str, Any]) -> float:
    """How far the product of the mean factors is from the mean product, relative to it."""
    off = size = 0.0
    for name, value in mean.items():
        if ".lora_A." in name and value.ndim == 2:
            partner = name.replace(".lora_A.", ".lora_B.")
            wanted: Any = sum(one[partner] @ one[name] for one in loaded) / len(loaded)
            off += float((mean[partner] @ value - wanted).square().sum())
            size += float(wanted.square().sum())
    return (off / size) ** 0.5 if size else 0.0


def _write(
    first: AdapterFile,
    base: str | None,
    out: Path,
    tensors: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """An adapter folder like the first one, with other tensors; it loads before it is in place."""
    from safetensors.torch import save_file

    with opened(first, base) as folder, whole_folder(out, "the adapter") as fresh:
        for path in folder.iterdir():
            if path.is_file() and path.name not in (WEIGHTS, "README.md"):
                shutil.copyfile(path, fresh / path.name)
        write_json(fresh / CONFIG, {**read_json(fresh / CONFIG), **config})
        whole = {name: value.contiguous() for name, value in tensors.items()}
        save_file(whole, fresh / WEIGHTS, {"format": "pt"})
        if not all(bool(one.isfinite().all()) for one in outputs(fresh)):
            raise ProofError("the new adapter gives outputs that are no numbers")
