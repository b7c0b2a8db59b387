"""Is this folder the model that it says it is? Looked at before a single weight is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, shown
from warmstart.models.families import FAMILIES
from warmstart.models.weights import embedding_rows, header, read_json, weight_files

NOTE = "warmstart.json"
# A vocabulary is often padded to a round number, so an embedding may have some rows too many.
SPARE_ROWS, SPARE_SHARE = 512, 0.01
FINGERPRINTED = ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")


def check_weights(folder: Path) -> dict[str, Any]:
    """All tensors of the model's weight files, whose headers and lengths are checked.

    Raises `BaseModelError`, also where the config asks for code of its own.
    """
    check_code(read_json(folder / "config.json"), folder)
    tensors: dict[str, Any] = {}
    for path in weight_files(folder):
        tensors |= header(path)
    if not tensors:
        raise BaseModelError(f"{folder} has no tensors in its weights")
    return tensors


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


def check_tokenizer(folder: Path, tokenizer: Path | None = None) -> None:
    """Refuse a tokenizer that does not go with the weights.

    `tokenizer` is another folder that the caller asked for; its tokenizer must be the base's
    own. Raises `BaseModelError`.
    """
    vocabulary = read_json(folder / "config.json").get("vocab_size")
    rows = embedding_rows(check_weights(folder), folder)
    if vocabulary is not None and vocabulary != rows:
        raise BaseModelError(
            f"{folder} disagrees with itself: config.json says vocab_size {vocabulary}, "
            f"the embedding has {rows} rows"
        )
    for place in (folder, tokenizer or folder):
        ids = token_ids(read_json(place / "tokenizer.json"), place)
        fits = max(ids) < rows <= len(ids) + max(SPARE_ROWS, SPARE_SHARE * rows)
        if not fits:
            raise BaseModelError(
                f"the tokenizer in {place} disagrees with the model in {folder}: "
                f"{len(ids)} tokens up to id {max(ids)}, but {rows} rows in the embedding; "
                "put the tokenizer there that it was trained with"
            )
    check_fingerprint(folder)
    if tokenizer is not None and not same_tokenizer(folder, tokenizer):
        raise BaseModelError(
            f"the tokenizer in {tokenizer} is not the one that {folder} was trained with"
        )


def token_ids(tokenizer: Mapping[str, Any], folder: Path) -> set[int]:
    """Every id that the tokenizer of a `tokenizer.json` can give."""
    try:
        vocabulary = tokenizer["model"]["vocab"]
        known: Iterable[int] = (
            vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        )
        ids = set(known) | {int(token["id"]) for token in tokenizer.get("added_tokens") or []}
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


def same_tokenizer(one: Path, other: Path) -> bool:
    """Whether two folders' tokenizers are the same, also if written by different versions."""
    if fingerprint(one) == fingerprint(other):
        return True
    from tokenizers import Tokenizer

    try:
        both = [Tokenizer.from_file(str(path / "tokenizer.json")).to_str() for path in (one, other)]
    except Exception as error:  # tokenizers raises nothing more precise
        raise BaseModelError(f"a tokenizer.json cannot be read: {shown(error, 120)}") from error
    return fingerprint_of(json.loads(both[0])) == fingerprint_of(json.loads(both[1]))


def check_fingerprint(folder: Path) -> None:
    """Refuse a folder of ours whose tokenizer is not the one that was saved with the weights."""
    if not (folder / NOTE).exists():
        return
    said = read_json(folder / NOTE).get("tokenizer_sha256")
    if said and said != fingerprint(folder):
        raise BaseModelError(
            f"{folder / 'tokenizer.json'} is not the tokenizer that this model was trained with "
            f"(its fingerprint in {NOTE} differs): put the original back"
        )


def note_of(folder: Path) -> dict[str, Any]:
    """What we keep beside a model; empty where it is not ours."""
    return read_json(folder / NOTE) if (folder / NOTE).exists() else {}
