"""`warmstart adapters list | merge | add | average`: words, and what they call."""

from __future__ import annotations

from typing import Any

from warmstart.cli.parser import Request, Verb
from warmstart.errors import RecipeError

OUT = {"out FOLDER": "where it goes; must not exist"}
BASE = {"base NAME": "where the base model stands, if not where the adapter says"}
ADAPTER, ADAPTERS = "folder or run of an adapter", "folders or runs of adapters, two or more"

VERB = Verb(
    "list, merge, add and average adapters",
    verbs={
        "list": Verb("say what adapters are in folders, and whether their base is here",
                     {"[FOLDER...]": "runs, adapters, or folders of such; unset: runs"}),
        "merge": Verb("make an adapter part of its base: a whole model folder",
                      {"ADAPTER": ADAPTER}, OUT | BASE),
        "add": Verb("make one adapter whose change is the weighted sum of several",
                    {"ADAPTER...": ADAPTERS},
                    OUT | BASE | {
                        "weights W,W": "one number each, such as 0.7,0.3; unset: all alike, sum 1",
                        "combination HOW": "of lora: cat (exact), svd (nearest of --rank) or "
                                           "linear (rough); unset: cat",
                        "rank N": "of svd; unset: the largest rank"}),
        "average": Verb("make one adapter whose weights are the mean of several of one shape",
                        {"ADAPTER...": ADAPTERS}, OUT | BASE),
    },
)  # fmt: skip


def list(request: Request) -> None:
    """`warmstart adapters list FOLDER...`."""
    from warmstart.cli.output import adapters as show
    from warmstart.pipelines import adapters

    _no_keys(request)
    show.listed(adapters.listing(request.several or "runs"), as_json=bool(request.options["json"]))


def merge(request: Request) -> None:
    """`warmstart adapters merge ADAPTER --out FOLDER`."""
    _run(request, "merge", request.words["ADAPTER"])


def add(request: Request) -> None:
    """`warmstart adapters add ADAPTER... --weights 0.7,0.3 --out FOLDER`."""
    _run(request, "add", request.several)


def average(request: Request) -> None:
    """`warmstart adapters average ADAPTER... --out FOLDER`."""
    _run(request, "average", request.several)


def _run(request: Request, action: str, words: Any) -> None:
    """Call the function `action`, and print its result."""
    from warmstart.cli.output import adapters as show
    from warmstart.pipelines import adapters

    _no_keys(request)
    if request.options["out"] is None:
        raise RecipeError(f"adapters {action} needs --out FOLDER, where it goes")
    options = {k: v for k, v in request.options.items() if v is not None and k != "json"}
    result = getattr(adapters, action)(words, **options)
    show.written(action, result, as_json=bool(request.options["json"]))


def _no_keys(request: Request) -> None:
    if request.keys:
        known = ", ".join(f"--{name.partition(' ')[0]}" for name in request.spec.options)
        raise RecipeError(
            f"no option '--{next(iter(request.keys))}' of {request.verb}. "
            f"There are: {known or 'none'}"
        )
