"""Adapter folders, ours and PEFT's: what they hold, read without loading a model."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from warmstart.errors import BaseModelError, RunError, nearest, shown
from warmstart.files import read_text
from warmstart.models.architectures import family_of
from warmstart.models.base import PACKAGED, Base, listing, remembered, resolve
from warmstart.models.checks import (
    ADAPTER,
    check_files,
    check_fingerprint,
    check_sum,
    config_file,
    file_sha256,
    header,
    labels_of,
    note_of,
    read_json,
    whole_number,
)
from warmstart.models.heads import HEADS, VARIANTS, VECTOR, Head, head_of

if TYPE_CHECKING:
    from torch import Tensor


CONFIG, WEIGHTS, PICKLED = ADAPTER, "adapter_model.safetensors", "adapter_model.bin"
STEM = "base_model.model."
METHODS = {"LN_TUNING": "layernorm", "BOTTLENECK": "adapter"}
SIZES = ("r", "size", "num_virtual_tokens")
MERGED = ("lora", "ia3", "layernorm")
"""The methods that change weights, so that the change can become part of them."""
PARTS = ("lora_", "ia3_", "ln_tuning_layers", "bottleneck_", "prompt_embeddings")
OUTPUTS = ("classifier.out_proj", "classification_head.out_proj", "classifier", "score")

PEFT_TYPES = {
    "LORA",
    "IA3",
    "LN_TUNING",
    "BOTTLENECK",
    "PROMPT_TUNING",
    "PREFIX_TUNING",
    "P_TUNING",
}
"""The adapters that are read; others of PEFT's may name files of this machine."""
NESTED = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]|([*+].*){5}")
"""A repetition in a repeated group, or many: such a pattern may take for ever on a short name."""
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save",
            "rank_pattern", "alpha_pattern", "target_parameters")  # fmt: skip
LONGEST = 500  # characters of a pattern
ROUNDS = re.compile(r"pissa_niter_(\d+)")
MOST_ROUNDS = 128
LARGEST_ALPHA = 1e6


@dataclass(frozen=True)
class AdapterFile:
    """An adapter folder: the two files of PEFT, and what we keep beside them where it is ours."""

    folder: Path
    config: dict[str, Any]
    note: dict[str, Any]

    @property
    def method(self) -> str:
        """As in a recipe: lora, adapter, ia3, prompt_tuning, …"""
        kind = str(self.config.get("peft_type", "unknown"))
        return METHODS.get(kind, kind.lower())

    @property
    def rank(self) -> int | None:
        """The rank, the width of the bottleneck, or the number of virtual tokens."""
        return next((int(self.config[key]) for key in SIZES if self.config.get(key)), None)

    @property
    def variants(self) -> list[str]:
        """What makes a LoRA more than a plain one."""
        named = {"use_dora": "DoRA", "use_rslora": "rsLoRA"}
        return [name for key, name in named.items() if self.config.get(key)]

    @property
    def base(self) -> str | None:
        """The base that the folder names."""
        return self.note.get("base") or self.config.get("base_model_name_or_path")

    @property
    def bits(self) -> int:
        """Bits of the base's weights where they were rounded in training, else 0."""
        return int(self.note.get("base_bits", 0))

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """The shape of every tensor. Raises `BaseModelError` where the file is damaged."""
        return {name: list(entry["shape"]) for name, entry in header(self.weights).items()}

    @property
    def weights(self) -> Path:
        """The file with the tensors."""
        return self.folder / WEIGHTS

    @cached_property
    def sha256(self) -> str:
        """Of the file with the tensors."""
        return file_sha256(self.weights)

    @property
    def parameters(self) -> int:
        """The weights in the file: those of the method, and those of the head."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def head(self) -> Head:
        """What the adapted model answers with."""
        if "head" in self.note:
            return HEADS[self.note["head"]]
        if known := head_of(self._model_config):
            return known
        kind = self.config.get("task_type")
        return HEADS[next((h.name for h in VARIANTS if h.peft_task == kind), VECTOR.name)]

    @cached_property
    def labels(self) -> list[str]:
        """In the order of the outputs; PEFT keeps none, so they may be those of `labels_on`."""
        if not self.head.labelled:
            return []
        return labels_of(self._model_config, self.folder)

    def labels_on(self, base: Base) -> list[str]:
        """The labels; where the folder has none, the base's, or LABEL_0, LABEL_1, …"""
        if self.labels or not self.head.labelled:
            return self.labels
        count = self._outputs(base)
        theirs = labels_of(read_json(base.path / "config.json"), base.path)
        return theirs if len(theirs) == count else [f"LABEL_{i}" for i in range(count)]

    def is_part(self, name: str) -> bool:
        """Whether a tensor belongs to the method itself."""
        return any(part in name for part in PARTS)

    def is_head(self, name: str) -> bool:
        """Whether a tensor belongs to a module that is saved whole, such as the head."""
        saved = self.config.get("modules_to_save") or []
        return not self.is_part(name) and any(f".{module}." in f".{name}" for module in saved)

    @cached_property
    def _model_config(self) -> dict[str, Any]:
        path = config_file(self.folder)
        return read_json(path) if path.exists() else {}

    def _outputs(self, base: Base) -> int:
        """How many outputs the head has."""
        config = read_json(base.path / "config.json")
        for name in (family_of(config).output, *OUTPUTS):
            shape = self.shapes.get(f"{STEM}{name}.weight")
            if shape and len(shape) == 2:
                return shape[0]
        if head_of(config) == self.head:
            return len(labels_of(config, base.path)) or 2
        raise RunError(
            f"{self.folder} holds no head, and its base '{base.name}' has none either: PEFT did "
            "not save it; train again with modules_to_save, or with warmstart"
        )


def read(folder: str | Path) -> AdapterFile:
    """An adapter folder, or the run that it stands in. Raises `RunError`, `BaseModelError`."""
    folder = Path(folder)
    if not folder.is_dir():
        beside = [p.name for p in folder.parent.glob("*") if p.is_dir() and p.name[0] != "."]
        raise RunError(f"there is no folder {folder}.{nearest(folder.name, beside)}")
    if not (folder / CONFIG).exists() and (folder / "model" / CONFIG).exists():
        folder = folder / "model"
    if not (folder / CONFIG).exists():
        whole = any((f / "config.json").exists() for f in (folder, folder / "model"))
        what = "a whole model, not an adapter" if whole else f"no adapter: it has no {CONFIG}"
        raise RunError(f"{folder} is {what}; give the folder or the run of an adapter")
    if not (folder / WEIGHTS).exists():
        pickled = "only pickled weights, which are never read; save them as safetensors with PEFT"
        raise RunError(
            f"{folder} has {pickled if (folder / PICKLED).exists() else f'no {WEIGHTS}'}"
        )
    check_files(folder)
    check_sum(folder)
    if (folder / "tokenizer.json").exists():
        check_fingerprint(folder)
    file = AdapterFile(folder, read_json(folder / CONFIG), note_of(folder))
    _check_adapter(file.config, file.shapes, folder)
    return file


def _check_adapter(config: Mapping[str, Any], shapes: Mapping[str, Any], folder: Path) -> None:
    """Refuse an adapter of a kind that is not known, with more than its weights hold, or whose
    patterns may take for ever. `shapes` are those of its tensors. Raises `BaseModelError`."""

    def refuse(what: str) -> BaseModelError:
        return BaseModelError(f"{folder / 'adapter_config.json'} {what}")

    kind = config.get("peft_type")
    if kind not in PEFT_TYPES:
        raise refuse(f"is of the kind {shown(kind)}; known are {', '.join(sorted(PEFT_TYPES))}")
    if config.get("layer_replication"):
        raise refuse("repeats layers (layer_replication), which is not supported")
    widest = max((size for shape in shapes.values() for size in shape), default=0)
    ranks = [config.get("r"), *_values(config.get("rank_pattern"))]
    for rank in ranks:
        if whole_number(rank) > widest:
            raise refuse(f"says rank {shown(rank)}, and no tensor of it is wider than {widest}")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, int | float) and not abs(alpha) <= LARGEST_ALPHA:
        raise refuse(f"is damaged: lora_alpha is {alpha}")
    for key in PATTERNS:
        for pattern in _strings(config.get(key)):
            if len(pattern) > LONGEST or NESTED.search(pattern):
                raise refuse(f"{key} has the pattern {shown(pattern)}; write the modules' names")
    rounds = ROUNDS.fullmatch(str(config.get("init_lora_weights")))
    if rounds and int(rounds[1]) > MOST_ROUNDS:
        raise refuse(f"asks for {shown(rounds[1])} rounds to begin; at most {MOST_ROUNDS} are done")


def _values(table: Any) -> Iterator[Any]:
    yield from cast("dict[str, Any]", table).values() if isinstance(table, dict) else ()


def _strings(value: Any) -> Iterator[str]:
    """A pattern, several, or the keys of a table of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        entries = cast("Iterable[Any]", value)
        yield from (entry for entry in entries if isinstance(entry, str))


MOVED = "in base_model_name_or_path of its adapter_config.json, or `warmstart adapters` with --base"


def base_of(file: AdapterFile, base: str | None = None) -> Base:
    """The base model of an adapter, at the place that it names or at `base`.

    Raises `BaseModelError` where it is not there or is another one.
    """
    places = [base] if base else _places(file)
    if not places and not file.base:
        raise BaseModelError(f"{file.folder} names no base model; say which: --base NAME")
    if not places:
        raise BaseModelError(
            f"the base of {file.folder}, the folder '{shown(file.base)}', is not to be found; say "
            f"where it is now {MOVED}"
        )
    expected, other = file.note.get("base_sha256"), None
    for place in places:
        if place != base and place not in PACKAGED and not os.path.exists(place):
            line = f"{file.folder} names '{shown(place, 100)}' as its base: the hub is asked for it"
            print(f"warmstart: {line}", file=sys.stderr)
        try:
            model = resolve(place)
        except BaseModelError as error:
            if place != places[-1] or other:
                continue
            more = "" if base else f" It is the base of {file.folder}; say where it is now {MOVED}"
            raise BaseModelError(f"{str(error).rstrip('.')}.{more}") from error
        if not expected or expected == model.sha256:
            return model
        other = other or model
    assert other is not None
    raise BaseModelError(
        f"'{other.name}' is not the base that {file.folder} was trained on "
        f"(sha256 {other.sha256[:12]}… instead of {str(expected)[:12]}…)"
    )


def _places(file: AdapterFile) -> list[str]:
    """Where the base may be, the likeliest first: by the names that the folder has for it, and
    where one with its sum was last used. What was a folder is never asked for at a hub."""
    named = [file.note.get("base"), file.config.get("base_model_name_or_path")]
    names = [str(name) for name in dict.fromkeys(named) if name]
    here = [name for name in names if name in PACKAGED or os.path.exists(name)]
    last = remembered(str(file.note.get("base_sha256"))) or _base_of_run(file.folder.parent)
    at_hub = file.note.get("base_source", "hub") == "hub"
    places = [*here, *([last] if last else []), *(names if at_hub else [])]
    return list(dict.fromkeys(places))


def _base_of_run(run: Path) -> str | None:
    """The base in the recipe of the run that an adapter stands in, where it is a folder or file."""
    with contextlib.suppress(OSError, ValueError):
        base = tomllib.loads(read_text(run / "recipe.toml")).get("base")
        return base if isinstance(base, str) and os.path.exists(base) else None
    return None


def base_state(file: AdapterFile) -> str:
    """Whether the base is on this machine: present, another, unknown (no sum kept) or absent."""
    sha256, expected = _sum_here(file), file.note.get("base_sha256")
    if sha256 is None:
        return "absent"
    return "unknown" if not expected else "present" if expected == sha256 else "another"


def sum_of_base(file: AdapterFile) -> str | None:
    """The sha256 of the base's weights: the one that was kept, else of what stands there now."""
    return file.note.get("base_sha256") or _sum_here(file)


def _sum_here(file: AdapterFile) -> str | None:
    """The sha256 of the base that stands where the adapter says; no hub is asked."""
    cached = {row["name"]: row["path"] for row in listing() if row["source"] == "hub"}
    expected, sums = file.note.get("base_sha256"), list[str]()
    for place in _places(file):
        here = place in PACKAGED or os.path.exists(place)
        with contextlib.suppress(BaseModelError):
            if here or place in cached:
                sums.append(resolve(place if here else cached[place]).sha256)
    return expected if expected in sums else next(iter(sums), None)


def tensors_of(file: AdapterFile) -> dict[str, Tensor]:
    """All tensors of an adapter, in float32."""
    from safetensors.torch import load_file

    return {name: value.float() for name, value in load_file(file.weights).items()}
