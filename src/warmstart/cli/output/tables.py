"""Tables of figures: no boxes, so that they read alike on a terminal, in a file and in a mail."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

WIDE = 1_000  # columns where no terminal sets a limit: a row stays one line, for grep


def plain(title: str | None = None) -> Table:
    """An empty table: columns two spaces apart, nothing drawn around them."""
    return Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def put(table: Table) -> None:
    """Print it as wide as the terminal allows, without spaces at the ends of lines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    with console.capture() as caught:
        console.print(table)
    for line in caught.get().splitlines():
        print(line.rstrip())


def heading(title: str) -> str:
    """What a baseline is called at the head of a column: "always the mean" -> "mean"."""
    return title.removeprefix("always ").removeprefix("the ").split(" + ")[0]
