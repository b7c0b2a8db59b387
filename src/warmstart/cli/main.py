"""The command line: warmstart VERB INPUT --any.recipe.key value."""

from __future__ import annotations

import errno
import importlib
import os
import re
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
    shown,
)

UNWRITTEN, USAGE_ERROR, INTERRUPTED = 1, 2, 130
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
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
        print(f"warmstart: {escaped(' '.join(str(error).split()))}", file=sys.stderr)
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
        reason = error.strerror or shown(error, 120)
        if error.filename is not None:
            file = f"'{shown(error.filename, 100)}'"
            mend = "give another name, or mend what stands there"
            print(f"warmstart: {file}: {reason}; {mend}", file=sys.stderr)
            return USAGE_ERROR
        print(f"warmstart: cannot write the output: {reason}", file=sys.stderr)
        _hush()
        return UNWRITTEN


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A key in an old spelling and texts that leave get a note; other warnings look as always."""
    text = f"note: {message}\n"
    if not issubclass(category, RenamedKeyWarning | SendsTextsWarning):
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


CONTROL = re.compile(r"\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
"""Control characters of a text, but for line ends, tabs and colours."""


class Terminal:
    """A stream in which a text from the data cannot move the cursor, or name the window: its
    control characters are shown as \\u001b."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and return how many characters of `text`."""
        self._stream.write(escaped(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def escaped(text: str) -> str:
    """The text with its control characters as numbers."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
