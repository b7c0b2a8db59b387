"""Whether several adapters can become one, and what becomes of their heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from warmstart.errors import BaseModelError, RunError, shown
from warmstart.models.adapter_base import base_of
from warmstart.models.adapter_files import AdapterFile
from warmstart.models.adapter_parts import tensors_of

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.catalog import Base

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
            raise RunError(f"{both} answer with different things: {first.head} and {file.head}")
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
