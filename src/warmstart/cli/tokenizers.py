"""`warmstart tokenizer train | show | compare | extend`: the words of each, and what it calls."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from warmstart.cli.parser import Request, Verb
from warmstart.config.validation import kinds, wanted
from warmstart.tokenization.settings import Choice, Comparison, Extension, Settings, Training

OUT = {"out FOLDER": "where it goes; unset: the next free folder in tokenizers/"}


def options_of(settings: type[Settings]) -> dict[str, str]:
    """Each setting as an option of the command line; what is true or false needs no value."""
    options: dict[str, str] = {}
    for name, info in settings.model_fields.items():
        switch = kinds(info) == {bool}
        options[name if switch else f"{name} VALUE"] = _meaning(info, switch)
    return options


def _meaning(info: FieldInfo, switch: bool) -> str:
    """The description of a setting, its choices and its default."""
    text = info.description or ""
    plain = not (switch or "unset" in text)
    if Literal in kinds(info) and plain:
        text += f": {wanted(info).removeprefix('one of ')}"
    has_default = plain and info.default not in (None, PydanticUndefined)
    return f"{text}; unset: {info.default}" if has_default else text


VERB = Verb(
    "train, show, compare and extend tokenizers",
    verbs={
        "train": Verb("train a tokenizer on a corpus",
                      {"CORPUS": "text file, table, or folder; several with commas"},
                      OUT | options_of(Training)),
        "show": Verb("split a text with several tokenizers, side by side",
                     {"TEXT": "the text, in quotes"}, options_of(Choice)),
        "compare": Verb("measure several tokenizers on the same texts",
                        {"DATA": "text file, table, or folder; several with commas"},
                        options_of(Comparison)),
        "extend": Verb("give a base model the words of a domain as tokens",
                       {"BASE": "minilm, smollm2, model folder, GGUF file, or hub id"},
                       OUT | options_of(Extension)),
    },
)  # fmt: skip


def train(request: Request) -> None:
    """`warmstart tokenizer train CORPUS`."""
    _run(request, "train", _paths(request, "CORPUS"), "trained")


def show(request: Request) -> None:
    """`warmstart tokenizer show TEXT`."""
    _run(request, "show", request.words["TEXT"] or "", "side_by_side")


def compare(request: Request) -> None:
    """`warmstart tokenizer compare DATA`."""
    _run(request, "compare", _paths(request, "DATA"), "compared")


def extend(request: Request) -> None:
    """`warmstart tokenizer extend BASE`."""
    _run(request, "extend", request.words["BASE"] or "", "extended")


def _run(request: Request, action: str, word: str | list[str], printed: str) -> None:
    """Call the function `action` with the word and the keys; print its result by `printed`."""
    from warmstart.cli.output import tokenizers as show
    from warmstart.cli.output.tables import print_json
    from warmstart.cli.progress import Stages
    from warmstart.pipelines import tokenizers as tokenizer

    with Stages() as progress:
        result = getattr(tokenizer, action)(word, progress=progress, **_keys(request))
    (print_json if request.options["json"] else getattr(show, printed))(result)


def _keys(request: Request) -> dict[str, Any]:
    """Options that are set, and keys that nobody knows, for the settings to check."""
    options = request.options.items()
    return {k: v for k, v in options if v is not None and k != "json"} | request.keys


def _paths(request: Request, word: str) -> str | list[str]:
    """A file or folder, or several with commas between them."""
    paths = request.words[word] or ""
    return paths if os.path.exists(paths) or "," not in paths else paths.split(",")
