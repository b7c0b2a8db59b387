"""A golden run as it is written down, and what differs from it.

A run is four sections, each of which is compared and made anew apart: `weights` (every tensor of
the saved folder), `predictions`, `metrics` (`metrics.json`) and `proof` (`proof.json`). What is
hashed is compared only on a machine like the one that it was made on: elsewhere sums round
otherwise, and the numbers beside the hashes are compared with a tolerance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from safetensors.torch import load_file

SECTIONS = ("weights", "predictions", "metrics", "proof")
RELATIVE, ABSOLUTE = 2e-3, 5e-4
"""How far a number may be off on another machine."""
SHOWN = 8
"""Differences of a section that are told; of the rest the number."""
VARYING = re.compile(r"(^|_)(seconds|second|memory_mb|versions?|created|date|speed|energy)($|_)")
VERSION = re.compile(r"\b(transformers|peft|torch|tokenizers) \d[\w.+]*")
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
UNMOVED = re.compile(r"(\.self\.key|\.k_proj|\.k_lin|qa_outputs|own_head\.query)\.bias$")
"""Biases that a softmax does not see: their gradient is what rounding leaves, and Adam makes steps
of it, so that they are compared on a like machine only."""
MISSING = object()


def machine() -> str:
    """What the last bit of a sum depends on."""
    mkldnn = torch.backends.mkldnn.is_available()
    bf16 = mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    parts = [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    parts += [torch.backends.cpu.get_cpu_capability(), f"bf16 {'yes' if bf16 else 'no'}"]
    return ", ".join([*parts, _processor()])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def recorded(run: Any, answers: Sequence[Any], folder: Path) -> dict[str, Any]:
    """The four sections of a run that is done. `folder` is cut off every path."""
    return {
        "weights": _weights(run.model),
        "predictions": {
            **({"asked": _hashed([_plain(one) for one in answers], 3)} if answers else {}),
            **{_name(path, run.path): _kept(path, folder)
               for path in sorted(run.path.rglob("predictions.parquet"))},
        },
        "metrics": _steady(run.metrics, folder),
        "proof": _steady(run.proof, folder),
    }  # fmt: skip


def _weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensors, whole = load_file(path), hashlib.sha256()
        entry: dict[str, Any] = {}
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            what = f"{str(tensor.dtype).removeprefix('torch.')} {[*tensor.shape]}"
            raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            for part in (name.encode(), what.encode(), raw):
                whole.update(part)
            sha = hashlib.sha256(what.encode() + raw).hexdigest()[:12]
            norm = float(tensor.double().norm())
            entry[name] = {"is": what, "norm": float(f"{norm:.5g}"), "sha": sha}
        found[_name(path, folder)] = {"sha": whole.hexdigest(), "tensors": entry}
    return found


def _kept(path: Path, folder: Path) -> dict[str, Any]:
    table = pq.read_table(path)
    rows = [_without(_plain(row), folder) for row in table.to_pylist()]
    return {"columns": table.column_names, "rows": len(rows), **_hashed(rows, 2)}


def _hashed(rows: Sequence[Any], shown: int) -> dict[str, Any]:
    text = json.dumps(rows, ensure_ascii=False)
    first = [_rounded(_short(row), 4) for row in rows[:shown]]
    return {"sha": hashlib.sha256(text.encode()).hexdigest(), "first": first}


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [one.name for one in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _short(value: Any) -> Any:
    """Without all but the first numbers of a vector."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value[:6]]
    return value


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one, digits) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one, digits) for one in value]
    if isinstance(value, float) and math.isfinite(value):
        return round(value, digits) + 0.0  # no -0.0
    return value


def _steady(value: Any, folder: Path) -> Any:
    """A report without what differs from run to run: times, memory, versions and paths."""
    return _rounded(_without(_plain(value), folder), 6)


def _without(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not VARYING.search(key)}
        return {key: _without(one, folder) for key, one in kept.items()}
    if isinstance(value, list):
        return [_without(one, folder) for one in value]
    if isinstance(value, str):
        return VERSION.sub(r"\1", value.replace(str(folder), "FOLDER"))
    return value


def differences(wanted: Any, found: Any, *, same_machine: bool, coarse: bool = False) -> list[str]:
    """A line for every key whose value is another one, is gone or is new; hashes last.

    `coarse` is for runs in bfloat16, which another machine may compute in other steps.
    """
    slack = 50.0 if coarse else 1.0
    before, after = dict(_leaves(wanted)), dict(_leaves(found))
    lines: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key, MISSING), after.get(key, MISSING)
        if one is MISSING:
            lines.append(f"{' > '.join(key)}: new, {_told(other)}")
        elif other is MISSING:
            lines.append(f"{' > '.join(key)}: gone, was {_told(one)}")
        elif not same_machine and (key[-1] == "sha" or _is_noise(key)):
            continue
        elif one != other and (same_machine or not _near(one, other, slack)):
            lines.append(f"{' > '.join(key)}: {_told(one)} -> {_told(other)}")
    lines.sort(key=lambda line: " > sha: " in line)
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} more"] if more > 0 else lines


def _is_noise(key: tuple[str, ...]) -> bool:
    return key[-1] == "norm" and bool(UNMOVED.search(key[-2]))


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from _leaves(one, (*key, name))
    elif isinstance(value, list) and value:
        for place, one in enumerate(value):
            yield from _leaves(one, (*key, str(place)))
    elif key:
        yield key, value


def _near(one: Any, other: Any, slack: float) -> bool:
    """Whether two values are one but for rounding; of sentences, the numbers in them."""
    if isinstance(one, str) and isinstance(other, str):
        if NUMBER.sub("#", one) != NUMBER.sub("#", other):
            return False
        pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
        floats = ((float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)
        return all(_close(a, b, 0.11, slack) for a, b in floats)
    numbers = (int, float)
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    if not (isinstance(one, numbers) and isinstance(other, numbers)):
        return False
    return _close(one, other, ABSOLUTE, slack)


def _close(one: float, other: float, absolute: float, slack: float) -> bool:
    return math.isclose(one, other, rel_tol=RELATIVE * slack, abs_tol=absolute * slack)


def _told(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}..."


def load(path: Path) -> dict[str, Any]:
    """The runs of a task by their names; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def save(path: Path, runs: Mapping[str, Any]) -> None:
    """A line for each entry, so that a change is a change of few lines."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(_lines(dict(runs), 0) + "\n", encoding="utf-8")


def _lines(value: Any, depth: int) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(short) + depth <= 100:
        return short
    pad = " " * (depth + 1)
    if isinstance(value, list):
        inside = [f"{pad}{_lines(one, depth + 1)}" for one in value]
        return "[\n" + ",\n".join(inside) + f"\n{pad[1:]}]"
    inside = [
        f"{pad}{json.dumps(key, ensure_ascii=False)}: {_lines(one, depth + 1)}"
        for key, one in value.items()
    ]
    return "{\n" + ",\n".join(inside) + f"\n{pad[1:]}}}"
