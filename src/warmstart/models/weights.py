"""What stands in a model's folder, read without loading a weight."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, shown
from warmstart.models.families import FAMILIES

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
CONVERT = (
    "Convert it once where you trust it: "
    "AutoModel.from_pretrained(...).save_pretrained(folder) writes safetensors"
)
MAX_HEADER = 100_000_000  # as in the safetensors library
WORD_EMBEDDINGS = tuple(
    dict.fromkeys(
        [family.embeddings for family in FAMILIES.values()]
        + ["word_embeddings", "embed_in", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"]
    )
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `BaseModelError` when it is missing or is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaseModelError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"{path} cannot be read: {shown(error, 120)}; fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} is not a JSON object")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model, by name.

    Raises `BaseModelError` where there are none, or a shard that the index names is missing.
    """
    if (folder / INDEX).exists():
        shards = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise BaseModelError(f"{folder} has no {shown(shard)}, which its {INDEX} names")
        if shards:
            return [folder / shard for shard in shards]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / "adapter_config.json").exists():
        raise BaseModelError(f"{folder} holds an adapter, not a base model: merge it first")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BaseModelError(f"{folder} has only pickled weights, which are never read. {CONVERT}")
    raise BaseModelError(f"{folder} has no {WEIGHTS}")


def header(path: Path) -> dict[str, Any]:
    """Name → dtype, shape and place of every tensor in a safetensors file.

    Raises `BaseModelError` when the header does not parse or the file has another length than
    the header says, with both numbers.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, size, MAX_HEADER))
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {shown(error, 120)}") from error
    if size < 8 or len(text) < length <= MAX_HEADER:
        raise BaseModelError(
            f"{path} is cut off: its {size} bytes do not even hold its header; copy or download it "
            "again"
        )
    try:
        tensors = json.loads(text)
        tensors.pop("__metadata__", None)
        data = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise BaseModelError(f"{path} is not a safetensors file") from error
    expected = 8 + length + data
    if size != expected:
        what = "is cut off" if size < expected else "has bytes after its end"
        raise BaseModelError(
            f"{path} {what}: expected {expected} bytes, found {size}; copy or download it again"
        )
    return tensors


def parameters(tensors: Mapping[str, Any]) -> int:
    """The number of weights, without integer buffers."""
    entries = (t for t in tensors.values() if str(t["dtype"]).startswith(("F", "BF")))
    return sum(math.prod(entry["shape"]) for entry in entries)


def embedding_rows(tensors: Mapping[str, Any], folder: Path) -> int:
    """How many rows the word embedding has, whatever the family calls it."""
    for name in WORD_EMBEDDINGS:
        for key, entry in tensors.items():
            if key == f"{name}.weight" or key.endswith(f".{name}.weight"):
                return int(entry["shape"][0])
    raise BaseModelError(f"{folder} has no word embedding in its weights")


def file_sha256(path: Path) -> str:
    """The sha256 of a file. Raises `BaseModelError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {shown(error, 120)}") from error


def weights_sha256(files: Mapping[Path, str]) -> str:
    """One sha256 for all weight files: of the only one, or of the list of names and sums."""
    if len(files) == 1:
        return next(iter(files.values()))
    listing = "".join(f"{files[path]}  {path.name}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def license_of(folder: Path) -> str | None:
    """The licence in the model card's front matter."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    found = front and re.search(r"^license:\s*[\"']?([^\s\"'#]+)", front[1], re.MULTILINE)
    return found[1] if found else None
