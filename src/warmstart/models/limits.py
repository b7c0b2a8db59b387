"""What a model folder may ask of this machine, looked at before a module is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from warmstart.errors import BaseModelError, shown

COUNTS = re.compile(r"(num_hidden_layers|n_layers?|num_(decoder_)?layers|(en|de)coder_layers|"
                    r"num_attention_heads|num_key_value_heads|n_heads?|(en|de)coder_attention_heads|"
                    r"num_hidden_groups|inner_group_num)")  # fmt: skip
"""Names in a config that say how many parts of a kind there are."""
MOST_PARTS, MOST_LABELS = 1_000, 100_000
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


def check_files(folder: Path) -> None:
    """Refuse a folder with links that lead out of it, or with what is no file: a pipe, a device.

    The hub's cache keeps a model as links into its own `blobs`. Raises `BaseModelError`.
    """
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parents[1] / "blobs")
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(place) for place in inside):
            raise BaseModelError(
                f"{path} is a link to {shown(target, 100)}, out of the model's folder; put the "
                "file itself there"
            )
        if not (target.is_file() or target.is_dir()):
            raise BaseModelError(f"{path} is no plain file; take it out of the model's folder")


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse numbers of layers, heads or labels that no model has, and code that a config asks for.

    Raises `BaseModelError`.
    """
    for key, value in config.items():
        is_count = isinstance(value, int) and COUNTS.fullmatch(key)
        if is_count and not 1 <= value <= MOST_PARTS:
            raise BaseModelError(
                f"{folder / 'config.json'} says {key} = {shown(value)}; a model has 1 to "
                f"{MOST_PARTS:,}"
            )
        if key.endswith("attn_implementation") and "/" in str(value):
            raise BaseModelError(
                f"{folder / 'config.json'} asks for code from the hub ({key} = {shown(value)}), "
                "which is never run; take the key out"
            )
    names: Any = config.get("id2label")
    labels = max(len(names) if isinstance(names, dict) else 0, _whole(config.get("num_labels")))
    if labels > MOST_LABELS:
        raise BaseModelError(
            f"{folder / 'config.json'} says that there are {labels:,} labels; at most "
            f"{MOST_LABELS:,} are read"
        )


def check_adapter(config: Mapping[str, Any], shapes: Mapping[str, Any], folder: Path) -> None:
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
        if _whole(rank) > widest:
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


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _values(table: Any) -> Iterator[Any]:
    yield from cast("dict[str, Any]", table).values() if isinstance(table, dict) else ()


def _strings(value: Any) -> Iterator[str]:
    """A pattern, several, or the keys of a table of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        entries = cast("Iterable[Any]", value)
        yield from (entry for entry in entries if isinstance(entry, str))
