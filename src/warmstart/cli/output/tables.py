"""What every verb prints with: tables without boxes, JSON, notes, and what to type next.

Tables read alike on a terminal, in a file and in a mail.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from warmstart.formatting import harmless

WIDE = 1_000  # columns where no terminal sets a limit: a row stays one line, for grep


def plain(title: str | None = None, *columns: str) -> Table:
    """An empty table: columns two spaces apart, nothing drawn around them."""
    return Table(
        *columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )


def put(table: Table) -> None:
    """Print it as wide as the terminal allows, without spaces at the ends of lines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def heading(title: str) -> str:
    """What a baseline is called at the head of a column: "always the mean" -> "mean"."""
    return title.removeprefix("always ").removeprefix("the ").split(" + ")[0]


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print JSON, in ASCII where the terminal has no Unicode."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    ascii_only = not encoding.startswith("utf")
    print(json.dumps(value, indent=indent, ensure_ascii=ascii_only, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON does not know: a recipe as a table, all else as text."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def notes(texts: Iterable[str]) -> None:
    """Print what is worth knowing on stderr."""
    for text in texts:
        tell(f"note: {text}")


def tell(text: str) -> None:
    """Print a line on stderr; a text of the data or a name in it cannot steer the terminal."""
    print(harmless(text), file=sys.stderr, flush=True)


def print_next(steps: Iterable[tuple[str, str]]) -> None:
    """Print commands to go on with, and what each does."""
    print("\nNext:")
    for command, effect in steps:
        print(f"  {command}\n      {effect}")
