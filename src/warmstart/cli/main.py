"""The command line: warmstart VERB INPUT --any.recipe.key value."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from warmstart.cli.commands import VERBS
from warmstart.cli.parser import explained, overview, parse
from warmstart.errors import (
    RecipeError,
    RenamedKeyWarning,
    SendsTextsWarning,
    WarmstartError,
    lacks_memory,
    shown,
)
from warmstart.formatting import harmless

UNWRITTEN, USAGE_ERROR, INTERRUPTED = 1, 2, 130
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
UNPRINTED = "cannot write the output"
ABOUT = "Fine-tune a pretrained transformer and know how far to trust it."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a user's error, 3 for a smaller model that
    lost too much, 130 for Ctrl-C, 1 where what was asked is done and cannot be printed."""
    words = list(sys.argv[1:] if argv is None else argv)
    heard = sys.stdout is not None  # pyright: ignore[reportUnnecessaryComparison]
    _printable()
    try:
        _check_words(words)
        with warnings.catch_warnings():
            warnings.simplefilter("default", RenamedKeyWarning)
            warnings.simplefilter("always", SendsTextsWarning)
            warnings.showwarning = _show_warning
            code = _run(words)
        sys.stdout.flush()
        return code if heard else UNWRITTEN
    except WarmstartError as error:
        print(f"warmstart: {harmless(' '.join(str(error).split()))}", file=sys.stderr)
        return INTERRUPTED if type(error).__name__ == "Interrupted" else USAGE_ERROR
    except KeyboardInterrupt:
        print("warmstart: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _hush()
        return 0
    except Exception as error:
        line = _of_the_machine(error)
        if line is None:
            raise
        print(f"warmstart: {line}", file=sys.stderr)
        if lacks_memory(error):  # nor has Python any as it ends
            sys.unraisablehook = lambda unraisable: None
        if line.startswith(UNPRINTED):
            _hush()
            return UNWRITTEN
        return USAGE_ERROR


def _of_the_machine(error: Exception) -> str | None:
    """What is wrong with the machine or its files, and what to do; None where that is not it."""
    if lacks_memory(error):
        return ("there is not enough memory for this; end other programs, raise the limit "
                "(ulimit -v), or take a smaller model or batch")  # fmt: skip
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or shown(error, 120)
    if "temporary directory" in reason:  # which the import of a library asks for
        return "no folder for temporary files can be written: export TMPDIR=FOLDER first"
    if error.filename is not None:
        file = f"'{shown(error.filename, 100)}'"
        return f"{file}: {reason}; give another name, or mend what stands there"
    return f"{UNPRINTED}: {reason}" if error.errno in UNPRINTABLE else None


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A key in an old spelling and texts that leave get a note; other warnings look as always."""
    text = harmless(f"note: {message}\n")
    if not issubclass(category, RenamedKeyWarning | SendsTextsWarning):
        text = warnings.formatwarning(message, category, *place[:2])
    sys.stderr.write(text)


def _check_words(words: list[str]) -> None:
    """Raise `RecipeError` for a word that is no text, as a file name in another encoding."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            if _readable(word):
                raise RecipeError(
                    f"the locale of this terminal is not UTF-8, and '{_readable(word)}' cannot be "
                    "read: export PYTHONUTF8=1 first"
                ) from None
            raise RecipeError(
                f"'{shown(word)}' holds bytes that are not UTF-8; write the text in UTF-8, or give "
                "the file a name that is"
            ) from None


def _readable(word: str) -> str:
    """A word of the command line whose bytes are UTF-8; empty where they are not."""
    try:
        return shown(os.fsencode(word).decode("utf-8"))
    except UnicodeError:
        return ""


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
        verbs = importlib.import_module("warmstart.cli.verbs")
        return getattr(verbs, request.verb.partition(" ")[0])(request) or 0
    return 0


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
    if sys.stdout.isatty():
        sys.stdout = Terminal(sys.stdout)


class Terminal:
    """A stream in which a text from the data cannot move the cursor, or name the window: its
    control characters are shown as \\u001b."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and return how many characters of `text`."""
        self._stream.write(harmless(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
