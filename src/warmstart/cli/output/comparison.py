"""A comparison of methods and seeds on the terminal: the table, the verdict, what to type next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from warmstart.cli.output.tables import plain, print_next, put
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.pipelines.compare.result import Comparison

STYLES = {"best": "bold green", "noise": "dim", "worse": "red", "unknown": "yellow"}


def print_comparison(comparison: Comparison) -> None:
    """Print the comparison."""
    summary, console = comparison.summary, Console(highlight=False)
    put(_scores(summary))
    print()
    put(_costs(summary))
    print()
    for text in (summary["verdict"], summary["advice"]):
        if text:
            console.print(text, markup=False)
    for note in [*summary["notes"], *summary["measured"]]:
        console.print(f"note: {note}", style="dim", markup=False)
    console.print(f"runs       {comparison.path}", soft_wrap=True, markup=False)
    console.print(f"report     {comparison.report}", soft_wrap=True, markup=False)
    print_next(summary["next"])


def _scores(summary: Mapping[str, Any]) -> Table:
    """One row a method, the best first."""
    from warmstart.evaluation.sentences import percent, points
    from warmstart.reporting.comparison import outcome_words, score_words

    seeds = len(summary["seeds"])
    over = f", mean ± spread of {seeds} seeds" if seeds > 1 else ""
    table = plain(f"{counted(summary['rows']['test'], 'test row')}{over}")
    table.add_column("", no_wrap=True)
    level = f"{percent(summary['confidence_level'])} interval"
    for title in (summary["title"], level, "points", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for row in summary["methods"]:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        behind = points(row["against"]["difference"], sign=True) if row["against"] else ""
        style, score = STYLES[row["outcome"]], score_words(row["value"], row["spread"])
        outcome = f"[{style}]{outcome_words(row['outcome'], row['against'])}[/{style}]"
        table.add_row(escape(row["method"]), score, interval, behind, outcome)
    return table


def _costs(summary: Mapping[str, Any]) -> Table:
    """One row a method. What could not be measured has no column."""
    from warmstart.reporting import comparison as units

    methods = summary["methods"]
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        "trainable": ("trained", units.millions),
        "file_bytes": ("saved", units.megabytes),
        "seconds": ("time", units.duration),
        "peak_memory_mb": ("peak memory", units.mebibytes),
        "energy_joules": ("energy", units.joules),
    }
    columns = {
        key: column for key, column in columns.items() if any(m[key] is not None for m in methods)
    }
    table = plain()
    table.add_column("", no_wrap=True)
    for title, _ in columns.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in methods:
        cells = ["" if row[key] is None else words(row[key]) for key, (_, words) in columns.items()]
        table.add_row(escape(row["method"]), *cells)
    return table


def print_plan(plan: Mapping[str, Any]) -> None:
    """What a comparison would do: one line a run."""
    console, rows = Console(highlight=False), plan["rows"]
    console.print(
        f"{counted(rows['train'])} to train on, {rows['validation']:,} to validate, "
        f"{rows['test']:,} to test; {counted(plan['tokens']['train'], 'token')} to train on; "
        "the same for every run"
    )
    table = plain(f"{counted(len(plan['runs']), 'run')}")
    for title in ("run", "at most", "batch", "learning rate", "precision"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for run in plan["runs"]:
        train = run["recipe"].train
        size = f"{train.batch_tokens} tokens" if train.batch_tokens else counted(train.batch_size)
        name = escape(run["name"]) + (" (done)" if run["done"] else "")
        table.add_row(name, train.duration, size, f"{train.learning_rate:g}", train.precision)
    put(table)
    for note in plan["ledger"]["notes"]:
        console.print(f"note: {' '.join(note['message'].split())}", markup=False)
    console.print(
        f"the runs would stand in {plan['out']}; nothing has been written",
        soft_wrap=True, markup=False,
    )  # fmt: skip
