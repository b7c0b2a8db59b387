"""Two answers in front of a person: in the terminal, or on a page of this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmstart.pipelines.writing.prefer import Pair

KEYS = {"1": "1", "2": "2", "s": "skip", "skip": "skip", "": "skip", "q": "end", "quit": "end",
        "end": "end", "exit": "end"}  # fmt: skip
BROKEN_OFF = "end"


@contextmanager
def judging(*, page: bool, port: int = 0) -> Iterator[Callable[[Pair], str]]:
    """A context that gives the function which shows a pair and says what was chosen."""
    if not page:
        yield in_terminal
        return
    from warmstart.pipelines.writing.page import Page

    with Page(port) as shown:
        print(f"open in the browser of this machine: {shown.address}", file=sys.stderr)
        print("Ctrl-C ends; what was judged is kept", file=sys.stderr, flush=True)

        def choose(pair: Pair) -> str:
            try:
                return shown.choose(pair)
            except KeyboardInterrupt:
                return BROKEN_OFF

        yield choose
        shown.finish()


def in_terminal(pair: Pair) -> str:
    """Print a pair, and read 1, 2, s (skip) or q (end) from stdin."""
    print(f"\n=== prompt {pair.number + 1} of {pair.of}")
    print(pair.prompt)
    for number, text in enumerate(pair.answers, 1):
        print(f"\n--- answer {number}")
        print(text)
    while True:
        print("\nWhich is better? 1, 2, s (skip) or q (end): ", end="", flush=True)
        try:
            typed = sys.stdin.readline()
        except KeyboardInterrupt:
            typed = ""
        if not typed:
            print()
            return BROKEN_OFF
        choice = KEYS.get(typed.strip().lower())
        if choice is not None and typed.strip():
            return choice
        print("type 1, 2, s or q")
