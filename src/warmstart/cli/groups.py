"""The verbs with verbs below them, `warmstart tokenizer` and `warmstart adapters`: their words, and
what they call. Each function has the name of its sub-verb."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from warmstart.cli.parser import Request, Verb
from warmstart.config.validation import kinds, wanted
from warmstart.errors import RecipeError
from warmstart.part import OWN_HEAD, allow_named
from warmstart.tokenization.settings import Choice, Comparison, Extension, Settings, Training

FREE_OUT = {"out FOLDER": "where it goes; unset: the next free folder in tokenizers/"}


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


TOKENIZER = Verb(
    "train, show, compare and extend tokenizers",
    verbs={
        "train": Verb("train a tokenizer on a corpus",
                      {"CORPUS": "text file, table, or folder; several with commas"},
                      FREE_OUT | options_of(Training)),
        "show": Verb("split a text with several tokenizers, side by side",
                     {"TEXT": "the text, in quotes"}, options_of(Choice)),
        "compare": Verb("measure several tokenizers on the same texts",
                        {"DATA": "text file, table, or folder; several with commas"},
                        options_of(Comparison)),
        "extend": Verb("give a base model the words of a domain as tokens",
                       {"BASE": "minilm, smollm2, model folder, GGUF file, or hub id"},
                       FREE_OUT | options_of(Extension)),
    },
)  # fmt: skip


def train(request: Request) -> None:
    """`warmstart tokenizer train CORPUS`."""
    _run_tokenizer(request, "train", _paths(request, "CORPUS"), "trained")


def show(request: Request) -> None:
    """`warmstart tokenizer show TEXT`."""
    _run_tokenizer(request, "show", request.words["TEXT"] or "", "side_by_side")


def compare(request: Request) -> None:
    """`warmstart tokenizer compare DATA`."""
    _run_tokenizer(request, "compare", _paths(request, "DATA"), "compared")


def extend(request: Request) -> None:
    """`warmstart tokenizer extend BASE`."""
    _run_tokenizer(request, "extend", request.words["BASE"] or "", "extended")


def _run_tokenizer(request: Request, action: str, word: str | Sequence[str], printed: str) -> None:
    """Call the function `action` with the word and the keys; print its result by `printed`."""
    from warmstart.cli.output import tokenizers as output
    from warmstart.cli.output.tables import print_json
    from warmstart.cli.progress import Stages
    from warmstart.pipelines import tokenizers

    with Stages() as progress:
        result = getattr(tokenizers, action)(word, progress=progress, **_keys(request))
    (print_json if request.options["json"] else getattr(output, printed))(result)


def _keys(request: Request) -> dict[str, Any]:
    """Options that are set, and keys that nobody knows, for the settings to check."""
    options = request.options.items()
    return {k: v for k, v in options if v is not None and k != "json"} | request.keys


def _paths(request: Request, word: str) -> str | Sequence[str]:
    """A file or folder, or several with commas between them."""
    paths = request.words[word] or ""
    return paths if os.path.exists(paths) or "," not in paths else paths.split(",")


OUT = {"out FOLDER": "where it goes; must not exist"}
BASE = {"base NAME": "where the base model stands, if not where the adapter says"}
ADAPTER, ADAPTER_LIST = "folder or run of an adapter", "folders or runs of adapters, two or more"

ADAPTERS = Verb(
    "list, merge, add and average adapters",
    verbs={
        "list": Verb("say what adapters are in folders, and whether their base is here",
                     {"[FOLDER...]": "runs, adapters, or folders of such; unset: runs"}),
        "merge": Verb("make an adapter part of its base: a whole model folder",
                      {"ADAPTER": ADAPTER}, OUT | BASE),
        "add": Verb("make one adapter whose change is the weighted sum of several",
                    {"ADAPTER...": ADAPTER_LIST},
                    OUT | BASE | {
                        "weights W,W": "one number each, such as 0.7,0.3; unset: all alike, sum 1",
                        "combination HOW": "of lora: cat (exact), svd (nearest of --rank) or "
                                           "linear (rough); unset: cat",
                        "rank N": "of svd; unset: the largest rank"}),
        "average": Verb("make one adapter whose weights are the mean of several of one shape",
                        {"ADAPTER...": ADAPTER_LIST}, OUT | BASE),
    },
)  # fmt: skip


def list(request: Request) -> None:
    """`warmstart adapters list FOLDER...`."""
    from warmstart.cli.output import adapters as output
    from warmstart.pipelines import adapters

    _check_keys(request)
    output.listed(
        adapters.listing(request.several or "runs"), as_json=bool(request.options["json"])
    )


def merge(request: Request) -> None:
    """`warmstart adapters merge ADAPTER --out FOLDER`."""
    _run_adapters(request, "merge", request.words["ADAPTER"])


def add(request: Request) -> None:
    """`warmstart adapters add ADAPTER... --weights 0.7,0.3 --out FOLDER`."""
    _run_adapters(request, "add", request.several)


def average(request: Request) -> None:
    """`warmstart adapters average ADAPTER... --out FOLDER`."""
    _run_adapters(request, "average", request.several)


def _run_adapters(request: Request, action: str, words: Any) -> None:
    """Call the function `action`, and print its result."""
    from warmstart.cli.output import adapters as output
    from warmstart.pipelines import adapters

    _check_keys(request)
    if request.options["out"] is None:
        raise RecipeError(f"adapters {action} needs --out FOLDER, where it goes")
    options = {k: v for k, v in request.options.items() if v is not None and k != "json"}
    result = getattr(adapters, action)(words, **options)
    output.written(action, result, as_json=bool(request.options["json"]))


def _check_keys(request: Request) -> None:
    """Take the name of code that may be run, and no other key. Raises `RecipeError`."""
    allow_named(request.keys)
    if strange := [key for key in request.keys if key != OWN_HEAD]:
        known = ", ".join(f"--{name.partition(' ')[0]}" for name in request.spec.options)
        raise RecipeError(
            f"no option '--{strange[0]}' of {request.verb}. There are: {known or 'none'}"
        )
