"""Everything that can go wrong for a user, as a tree that reads like documentation.

Each error is one sentence that says what, where and what to do. The command line prints it as a
single line and exits with 2; from Python it is an ordinary exception.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable

from warmstart.formatting import harmless

ENDLESS = re.compile(r"\S{1000,}")
"""What is no word and no path, such as a name in a damaged file."""


NO_MEMORY = re.compile(
    "an.?t allocate memory|annot allocate memory|failed to map segment|bad_alloc|"
    "can't start new thread|CUDA out of memory"
)
"""What Python, the loader of libraries and torch say where memory is lacking."""


class WarmstartError(Exception):
    """Base of every error that a user can cause or mend. A word without end is told cut short,
    and control characters as numbers."""

    def __str__(self) -> str:
        return harmless(ENDLESS.sub(lambda word: _short(word[0], 100), super().__str__()))


class RecipeError(WarmstartError):
    """The request itself is wrong: an unknown key, an impossible value, parts that do not fit."""


class UnknownNameError(RecipeError):
    """A name that does not exist, answered with the nearest one that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        place = f" in {where}" if where else ""
        super().__init__(f"no {kind} '{name}'{place}.{nearest(name, self.known)}")


class DataError(WarmstartError):
    """The data cannot be used as they are; names the file and the row."""


class RowError(DataError):
    """One row cannot become an example. Caught by the ledger, which keeps the reason."""


class BaseModelError(WarmstartError):
    """A base model is missing, damaged, or not what it says it is."""


class HubError(BaseModelError):
    """The hub did not give what was asked: not found, not allowed, or broken off."""


class RunError(WarmstartError):
    """A run folder cannot be written, read or resumed."""


class ProofError(RunError):
    """The saved model does not answer as the trained one did."""


class SendsTextsWarning(UserWarning):
    """Texts leave this machine: which, and where they go."""


class RenamedKeyWarning(FutureWarning):
    """A key of the recipe in a spelling that only this version still takes."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(
            f"'{old}' of the recipe is called '{new}' now; rename it, for the next version does "
            f"not know '{old}'"
        )


def lacks_memory(error: BaseException) -> bool:
    """Whether the machine, or a limit on this process, had no more memory to give."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def nearest(name: str, known: Iterable[str]) -> str:
    """The closing words of an unknown-name message: the nearest known name and all there are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    listing = f" There are: {', '.join(known)}." if known and len(known) <= 30 else ""
    return guess + listing


def typed(path: object) -> str:
    """A path as it may be typed in a command: in quotes where the shell would take it apart, and
    never as a flag."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def shown(value: object, width: int = 60) -> str:
    """A value as it may stand in a one-line message: printable and short, in its own letters."""
    return _short("".join(map(_visible, str(value))), width)


def escaped(value: object, width: int = 60) -> str:
    """As `shown`, in ASCII, so that texts which look alike can be told apart."""
    return _short(str(value).encode("unicode_escape", "replace").decode("ascii"), width)


def _visible(letter: str) -> str:
    """A letter of any script as it is; what cannot be seen, or moves the text, as an escape."""
    return letter if letter.isprintable() and letter != "\\" else escaped(letter)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
