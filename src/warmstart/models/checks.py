"""Is this folder the model that it says it is? Looked at before a single weight is loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from warmstart import files
from warmstart.data.tokens.tokenizer_steps import check_steps
from warmstart.errors import BaseModelError, shown
from warmstart.models.architectures import FAMILIES

ADAPTER = "adapter_config.json"
"""What an adapter has in its folder, and no other model."""
NOTE = "warmstart.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
ADAPTED = "model_config.json"
"""The config of the model that an adapter makes of its base: its head, its labels."""
CONVERT = (
    "Convert it once where you trust it: "
    "AutoModel.from_pretrained(...).save_pretrained(folder) writes safetensors"
)
MAX_CARD = 100_000  # characters in which a card names its licence
MAX_HEADER = 10_000_000  # bytes: about 100,000 tensors in one file; a model has some hundred
WORD_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "word_embedding", "wte", "embed_tokens",
                   "shared", "embed_in", "lm_head")  # fmt: skip
# A vocabulary is often padded to a round number, so an embedding may have some rows too many.
SPARE_ROWS, SPARE_SHARE = 512, 0.01
FINGERPRINTED = ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")

COUNTS = re.compile(r"(num_hidden_layers|n_layers?|num_(decoder_)?layers|(en|de)coder_layers|"
                    r"num_attention_heads|num_key_value_heads|n_heads?|(en|de)coder_attention_heads|"
                    r"num_hidden_groups|inner_group_num)")  # fmt: skip
"""Names in a config that say how many parts of a kind there are."""
MOST_PARTS, MOST_LABELS = 1_000, 100_000


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `BaseModelError` when it is missing or is none."""
    try:
        value = files.read_json(path)
    except FileNotFoundError:
        raise BaseModelError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"{path} cannot be read: {shown(error, 120)}; fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} is not a JSON object")
    return value


def of_run(folder: Path) -> Path:
    """The model's folder in that of a run; any other folder as it is, also one whose name is too
    long."""
    return folder / "model" if os.path.isdir(folder / "model") else folder


def config_file(folder: Path) -> Path:
    """The `config.json` of a model; of an adapter `model_config.json`, since transformers takes a
    folder with a `config.json` for a whole model, and looks for its weights."""
    adapted = folder / ADAPTED
    return adapted if adapted.exists() else folder / "config.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model, by name.

    Raises `BaseModelError` where there are none, or a shard that the index names is missing.
    """
    if (folder / INDEX).exists():
        shards = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise BaseModelError(f"{folder} has no {shown(shard)}, which its {INDEX} names")
            if not shard.endswith(".safetensors"):
                raise BaseModelError(
                    f"{INDEX} in {folder} names {shown(shard)}, and only safetensors are read. "
                    f"{CONVERT}"
                )
        if shards:
            return [folder / shard for shard in shards]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if is_adapter(folder):
        raise BaseModelError(f"{folder} holds an adapter, not a base model: merge it first")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BaseModelError(f"{folder} has only pickled weights, which are never read. {CONVERT}")
    raise BaseModelError(f"{folder} has no {WEIGHTS}")


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter."""
    return (folder / ADAPTER).exists()


def header(path: Path) -> dict[str, Any]:
    """Name → dtype, shape and place of every tensor in a safetensors file.

    Raises `BaseModelError` when the header does not parse or the file has another length than
    the header says, with both numbers.
    """
    try:
        files.check_plain(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, size, MAX_HEADER))
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {shown(error, 120)}") from error
    if length > MAX_HEADER and 8 + length <= size:
        raise BaseModelError(
            f"{path} has a header of {length:,} bytes; at most {MAX_HEADER:,} are read"
        )
    if size < 8 or len(text) < length <= MAX_HEADER:
        raise BaseModelError(
            f"{path} is cut off: its {size} bytes do not even hold its header; copy or download it "
            "again"
        )
    try:
        tensors = json.loads(text)
        tensors.pop("__metadata__", None)
        data = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        shapes = [entry["shape"] for entry in tensors.values() if isinstance(entry["dtype"], str)]
        if len(shapes) < len(tensors) or not all(size >= 0 for shape in shapes for size in shape):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise BaseModelError(f"{path} is not a safetensors file") from error
    expected = 8 + length + data
    if size != expected:
        what = "is cut off" if size < expected else "has bytes after its end"
        raise BaseModelError(
            f"{path} {what}: expected {expected} bytes, found {size}; copy or download it again"
        )
    return tensors


def headers(folder: Path) -> dict[str, Any]:
    """As `header`, of all weight files of a folder."""
    return {name: entry for file in weight_files(folder) for name, entry in header(file).items()}


def weights_size(folder: Path) -> int:
    """The bytes of all weight files of a folder."""
    return sum(file.stat().st_size for file in weight_files(folder))


def parameters(tensors: Mapping[str, Any]) -> int:
    """The number of weights, without integer buffers."""
    entries = (t for t in tensors.values() if str(t["dtype"]).startswith(("F", "BF")))
    return sum(math.prod(entry["shape"]) for entry in entries)


def file_sha256(path: Path) -> str:
    """The sha256 of a file. Raises `BaseModelError` when it cannot be read."""
    try:
        files.check_plain(path)
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
    path = folder / "README.md"
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            card = file.read(MAX_CARD)
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    line = front and re.search(r"^license:\s*[\"']?([^\s\"'#]+)", front[1], re.MULTILINE)
    return line[1] if line else None


def check_code(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse an architecture that only the model's own code knows; that code is never run."""
    name = config.get("model_type")
    if not name:
        raise BaseModelError(f"{folder / 'config.json'} names no model_type")
    if "auto_map" not in config or name in FAMILIES:
        return
    from transformers import CONFIG_MAPPING

    if name not in CONFIG_MAPPING:
        raise BaseModelError(
            f"{folder} needs remote code (model_type '{shown(name)}'), which is never run"
        )


def check_files(folder: Path) -> None:
    """Refuse a folder with links that lead out of it, or with what is no file: a pipe, a device.

    The hub's cache keeps a model as links into its own `blobs`. Raises `BaseModelError`.
    """
    inside = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        inside.append(folder.resolve().parents[1] / "blobs")
    for path in sorted(folder.iterdir()):
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # a link that leads back to itself
            target = path
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
    names: Any = config.get("architectures")
    names = [] if names is None else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BaseModelError(
            f"{folder / 'config.json'} is damaged: architectures = {shown(names, 40)}; fetch the "
            "model again"
        )
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
    labels = max(len(labels_of(config, folder)), whole_number(config.get("num_labels")))
    if labels > MOST_LABELS:
        raise BaseModelError(
            f"{folder / 'config.json'} says num_labels = {labels:,}; at most "
            f"{MOST_LABELS:,} are read"
        )


def labels_of(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The labels that a config names, in the order of the outputs; empty where it names none.

    Raises `BaseModelError`.
    """
    names: Any = config.get("id2label")
    try:
        return [str(names[key]) for key in sorted(names or {}, key=int)]
    except (TypeError, ValueError, KeyError):
        raise BaseModelError(
            f"the config of {folder} is damaged: id2label = {shown(names, 40)}; fetch the model "
            "again"
        ) from None


def whole_number(value: Any) -> int:
    """The value, or 0 where it is no whole number."""
    return value if isinstance(value, int) else 0


def check_tokenizer(folder: Path) -> str:
    """Refuse weights that are not whole, and a tokenizer that does not go with them.

    Returns the tokenizer's fingerprint. Raises `BaseModelError`, also where the config asks for
    code of its own.
    """
    check_files(folder)
    config = read_json(folder / "config.json")
    check_code(config, folder)
    check_config(config, folder)
    tensors = headers(folder)
    if not tensors:
        raise BaseModelError(f"{folder} has no tensors in its weights")
    endings = [f".{name}.weight" for name in WORD_EMBEDDINGS]
    name = next((n for end in endings for n in tensors if f".{n}".endswith(end)), None)
    if name is None or len(tensors[name]["shape"]) != 2:
        raise BaseModelError(f"{folder} has no word embedding in its weights")
    rows = int(tensors[name]["shape"][0])
    vocabulary = config.get("vocab_size")
    if vocabulary is not None and vocabulary != rows:
        raise BaseModelError(
            f"{folder} disagrees with itself: config.json says vocab_size {vocabulary}, "
            f"the embedding has {rows} rows"
        )
    ids = token_ids(read_json(folder / "tokenizer.json"), folder)
    if not max(ids) < rows <= len(ids) + max(SPARE_ROWS, SPARE_SHARE * rows):
        raise BaseModelError(
            f"the tokenizer in {folder} disagrees with the model in {folder}: "
            f"{len(ids)} tokens up to id {max(ids)}, but {rows} rows in the embedding; "
            "put the tokenizer there that it was trained with"
        )
    return check_fingerprint(folder)


def check_fingerprint(folder: Path) -> str:
    """Refuse a tokenizer that may take for ever, or is not the one that was saved with the weights;
    its fingerprint."""
    content = read_json(folder / "tokenizer.json")
    check_steps(content, folder / "tokenizer.json")
    try:
        saved, own = note_of(folder).get("tokenizer_sha256"), fingerprint_of(content)
    except (TypeError, ValueError, AttributeError) as error:
        raise BaseModelError(f"{folder / 'tokenizer.json'} holds no vocabulary") from error
    if saved and saved != own:
        raise BaseModelError(
            f"{folder / 'tokenizer.json'} is not the tokenizer that this model was trained with "
            f"(its fingerprint in {NOTE} differs): put the original back"
        )
    return own


def token_ids(tokenizer: Mapping[str, Any], folder: Path) -> set[int]:
    """Every id that the tokenizer of a `tokenizer.json` can give."""
    try:
        vocabulary = tokenizer["model"]["vocab"]
        ids = {int(token["id"]) for token in tokenizer.get("added_tokens") or []}
        is_dict = isinstance(vocabulary, dict)
        ids.update(map(int, vocabulary.values()) if is_dict else range(len(vocabulary)))
    except (KeyError, TypeError, ValueError) as error:
        raise BaseModelError(f"{folder / 'tokenizer.json'} holds no vocabulary") from error
    if not ids:
        raise BaseModelError(f"{folder / 'tokenizer.json'} has an empty vocabulary")
    return ids


def fingerprint(folder: Path) -> str:
    """The sha256 of what `tokenizer.json` does to a text; cutting and padding do not count."""
    return fingerprint_of(read_json(folder / "tokenizer.json"))


def fingerprint_of(tokenizer: Mapping[str, Any]) -> str:
    """As `fingerprint`, of a `tokenizer.json` that has been read."""
    model = dict(tokenizer.get("model") or {})
    merges = model.get("merges") or []
    model["merges"] = [m.split(" ", 1) if isinstance(m, str) else list(m) for m in merges]
    parts = {"model": model} | {name: tokenizer.get(name) for name in FINGERPRINTED}
    text = json.dumps(_plain(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Without the entries that say nothing, which come and go with the writer's version."""
    if isinstance(value, dict):
        kept = {key: _plain(entry) for key, entry in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v is not False and v != []}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def check_whole(folder: Path, lost: Iterable[str]) -> None:
    """Refuse a model of which transformers or PEFT would make up a part."""
    names = sorted(lost)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise BaseModelError(
            f"{folder} is not whole: missing or of another shape are "
            f"{', '.join(shown(name) for name in names[:3])}{more}; copy the folder again"
        )


def check_sum(folder: Path) -> None:
    """Refuse a folder of ours whose weights are not those that were saved, be it by one bit."""
    saved = note_of(folder).get("weights_sha256")
    if saved is None:
        return
    sums = {path: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    if not sums or weights_sha256(sums) != saved:
        raise BaseModelError(
            f"the weights in {folder} are not those that were saved (their sum in {NOTE} differs); "
            "copy the folder again, or, if you changed them yourself, take weights_sha256 out"
        )


def note_of(folder: Path) -> dict[str, Any]:
    """What we keep beside a model; empty where it is not ours. Raises `BaseModelError`."""
    note = read_json(folder / NOTE) if (folder / NOTE).exists() else {}
    if not isinstance(note.get("task", {}), dict):
        raise BaseModelError(f"{folder / NOTE} is damaged: task = {shown(note['task'])}")
    return note
