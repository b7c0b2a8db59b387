"""Several adapters of one base as one: their changes added, or their weights averaged.

Adding: Ilharco et al. 2023, "Editing models with task arithmetic"; averaging: Wortsman et al. 2022,
"Model soups", and Chronopoulou et al. 2023, "AdapterSoup".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from warmstart.errors import ProofError, RunError
from warmstart.models.adapter_alike import alike, heads_of, one_base, same_shape
from warmstart.models.adapter_files import CONFIG, STEM, WEIGHTS, AdapterFile
from warmstart.models.adapter_merge import refuse
from warmstart.models.adapter_open import TOLERANCE, opened, outputs
from warmstart.models.adapter_parts import tensors_of, with_parts
from warmstart.models.quiet import quiet
from warmstart.models.saving import whole_folder

if TYPE_CHECKING:
    from torch import Tensor

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
    from warmstart.models.backbone import load_headed

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
        told = json.loads((fresh / CONFIG).read_text(encoding="utf-8"))
        (fresh / CONFIG).write_text(json.dumps({**told, **config}, indent=2) + "\n", "utf-8")
        whole = {name: value.contiguous() for name, value in tensors.items()}
        save_file(whole, fresh / WEIGHTS, {"format": "pt"})
        if not all(bool(one.isfinite().all()) for one in outputs(fresh)):
            raise ProofError("the new adapter gives outputs that are no numbers")
