"""The command line: warmstart VERB INPUT --any.recipe.key value. Calls `api`; no logic of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from warmstart import __version__, show
from warmstart.errors import RecipeError, WarmstartError
from warmstart.recipe import Recipe, value_of

USAGE_ERROR, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if not arguments.verb:
        parser.print_help()
        return 0
    try:
        keys = _keys(rest, arguments)
        return VERBS[arguments.verb](arguments, keys) or 0
    except WarmstartError as error:
        code = INTERRUPTED if type(error).__name__ == "Interrupted" else USAGE_ERROR
        print(f"warmstart: {_one_line(error)}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("warmstart: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _tune(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from warmstart import api

    if arguments.dry_run:
        plan = api.plan(arguments.data, recipe=arguments.recipe, **keys)
        show.plan(plan, as_json=arguments.json)
        return
    from warmstart.train.progress import ProgressBar

    bar = ProgressBar("macro-F1")
    try:
        run = api.tune(
            arguments.data,
            recipe=arguments.recipe,
            resume=arguments.resume,
            listeners=[bar],
            **keys,
        )
    finally:
        bar.close()
    show.run(run, as_json=arguments.json)


def _demo(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from warmstart import api
    from warmstart.train.progress import ProgressBar

    bar = ProgressBar("macro-F1")
    try:
        run = api.demo(listeners=[bar], **keys)
    finally:
        bar.close()
    show.run(run, as_json=arguments.json)


def _predict(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from pathlib import Path

    from warmstart import api

    data: Any = arguments.data
    if not data or data == "-":
        data = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    elif not Path(data).exists():
        if Path(data).suffix in (".csv", ".tsv", ".jsonl", ".parquet", ".arrow"):
            raise RecipeError(f"there is no file {data}")
        data = [data]
    out = keys.pop("out", None)
    answers = api.predict(arguments.model, data, out=out, **keys)
    texts = data if isinstance(data, list) else None
    show.predictions(answers, texts, out, as_json=arguments.json)


def _evaluate(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from warmstart import api

    out = keys.pop("out", None)
    metrics = api.evaluate(arguments.model, arguments.data, out=out, **keys)
    show.metrics(metrics, as_json=arguments.json)


def _models(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from warmstart import api

    show.models(api.models(), as_json=arguments.json)


def _recipe(arguments: argparse.Namespace, keys: dict[str, Any]) -> None:
    from warmstart.recipe import read_file

    layers = [read_file(arguments.recipe)] if arguments.recipe else []
    recipe = Recipe.of(*layers, keys)
    print(json.dumps(recipe.model_dump(mode="json")) if arguments.json else recipe.commented())


VERBS = {
    "demo": _demo,
    "tune": _tune,
    "evaluate": _evaluate,
    "predict": _predict,
    "models": _models,
    "recipe": _recipe,
}

EPILOG = """\
Any key of the recipe is a flag: --base minilm --method lora --method.rank 16 --train.epochs 3
--data.columns.text body --out runs/mine. `warmstart recipe` prints all keys with their meaning.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmstart",
        description="Fine-tune a pretrained transformer and know how far to trust it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"warmstart {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        found = verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        found.add_argument("--json", action="store_true", help="print JSON for machines")
        return found

    verb("demo", "the main job on the sample data that comes with warmstart")
    tune = verb("tune", "fine-tune on labelled data: a model, a report, a proof")
    tune.add_argument("data", nargs="?", help="file, folder, or hub dataset id")
    tune.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    tune.add_argument("--dry-run", action="store_true", help="check everything, print, do nothing")
    evaluate = verb("evaluate", "score a model on other labelled data")
    evaluate.add_argument("model", help="run or model folder")
    evaluate.add_argument("data", help="file, or folder with test.*")
    predict = verb("predict", "label a text, the lines of stdin, or every row of a file")
    predict.add_argument("model", help="run or model folder")
    predict.add_argument("data", nargs="?", help="text, file, or - for stdin")
    verb("models", "list the base models at hand")
    recipe = verb("recipe", "print the complete recipe with a comment on every key")
    for each in (tune, recipe):
        each.add_argument("--recipe", metavar="FILE", help="a recipe in TOML; flags win over it")
    return parser


def _keys(rest: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """`--a.b value`, `--a.b=value` and `a.b=value` as recipe keys."""
    keys: dict[str, Any] = {}
    queue = list(rest)
    while queue:
        word = queue.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") and not equals:
            raise RecipeError(f"what is '{word}'? Keys are given as --key value")
        if not equals:
            if not queue or queue[0].startswith("--"):
                text = "true"
            else:
                text = queue.pop(0)
        key = name.replace("-", "_")
        if key in ("resume", "dry_run", "recipe"):
            raise RecipeError(f"--{name} does not belong to `{arguments.verb}`")
        keys[key] = value_of(text)
    return keys


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
