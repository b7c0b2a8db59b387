"""A tokenizer by name: one that comes with us, a folder, a hub id, or a kind trained now."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import BaseModelError, RecipeError, UnknownNameError, shown
from warmstart.tokenizer.settings import KINDS, Choice, Training

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.tokenizer.corpus import Corpus

DEFAULT = "minilm"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A tokenizer that neither cuts nor pads, read from its `tokenizer.json`."""

    name: str
    kind: str
    """In words: `WordPiece`, `BPE on bytes`."""
    backend: Tokenizer
    unknown: int | None
    """The id that stands for what cannot be written."""
    specials: frozenset[int]

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.backend.get_vocab_size(with_added_tokens=True)


def open_all(choice: Choice, corpus: Corpus | None) -> list[Opened]:
    """The tokenizers of a choice. Raises `RecipeError` for a kind without a corpus to train on."""
    names = choice.tokenizers or [DEFAULT, *(KINDS if corpus else ())]
    fresh = [name for name in names if name in KINDS and not os.path.isdir(name)]
    if fresh and corpus is None:
        raise RecipeError(
            f"'{fresh[0]}' is a kind of tokenizer and has to be trained first: give --corpus FILE"
        )
    return [
        train_now(name, choice, corpus) if name in fresh and corpus else open_one(name)
        for name in names
    ]


def open_one(name: str | Path) -> Opened:
    """The tokenizer of an embedded model, a folder or a hub id. Raises `WarmstartError`."""
    from tokenizers import Tokenizer

    file = _file(str(name))
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more precise
        raise BaseModelError(f"{file} cannot be read: {shown(error, 120)}") from error
    return opened(str(name), backend)


def train_now(kind: str, choice: Choice, corpus: Corpus) -> Opened:
    """A tokenizer of this kind on the corpus, with plain settings, kept in memory."""
    from warmstart.tokenizer.build import train

    size = None if kind == "char" else choice.vocab_size
    asked = Training.model_validate({"kind": kind, "vocab_size": size})
    told = corpus.progress
    if told is not None:
        corpus = replace(corpus, progress=lambda what, done, of: told(f"{kind}: {what}", done, of))
    return opened(kind, train(asked, corpus)[0])


def opened(name: str, backend: Tokenizer) -> Opened:
    """A tokenizer in memory, under a name."""
    backend.no_truncation()
    backend.no_padding()
    description: dict[str, Any] = json.loads(backend.to_str())
    added = description.get("added_tokens") or []
    specials = frozenset(int(token["id"]) for token in added if token.get("special"))
    model = description["model"]
    unknown = model.get("unk_id")
    if unknown is None and model.get("unk_token") is not None:
        unknown = backend.token_to_id(model["unk_token"])
    return Opened(name, _kind(description), backend, unknown, specials)


def _kind(description: dict[str, Any]) -> str:
    model = description["model"]
    names = {"WordLevel": "words", None: "unknown kind"}
    kind = names.get(model.get("type"), model.get("type"))
    if model.get("type") == "BPE" and not model.get("merges"):
        kind = "characters"
    if '"ByteLevel"' in json.dumps(description.get("pre_tokenizer")):
        return f"{kind} on bytes"
    return f"{kind} with bytes for rare characters" if model.get("byte_fallback") else str(kind)


def _file(name: str) -> Path:
    """Where the `tokenizer.json` is."""
    from warmstart.models.catalog import HUB_ID, resolve
    from warmstart.models.embedded import EMBEDDED, folder_of

    if name in EMBEDDED:
        return folder_of(name) / "tokenizer.json"
    path = Path(name).expanduser()
    if os.path.exists(path):
        for file in (path, path / "tokenizer.json", path / "model" / "tokenizer.json"):
            if file.is_file():
                return file
        raise BaseModelError(f"'{path}' holds no tokenizer.json")
    if "/" not in name:
        raise UnknownNameError("tokenizer", shown(name), _known(EMBEDDED))
    if name.startswith((".", "/", "~")) or path.parent.is_dir() or not HUB_ID.fullmatch(name):
        raise BaseModelError(f"there is no folder '{shown(name)}'")
    return resolve(name).path / "tokenizer.json"


def _known(embedded: Any) -> Sequence[str]:
    here = [entry.name for entry in Path().iterdir() if (entry / "tokenizer.json").is_file()]
    return [*embedded, *KINDS, *here[:20]]
