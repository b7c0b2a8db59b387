"""A comparison of methods and seeds on the terminal: the table, the verdict, what to type next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from warmstart.cli.output.tables import plain, put
from warmstart.formatting import counted
from warmstart.pipelines.compare.run import RunListener
from warmstart.training.progress import ProgressBar

if TYPE_CHECKING:
    from warmstart.pipelines.compare.result import Comparison
    from warmstart.training.loop import Step

STYLES = {"best": "bold green", "noise": "dim", "worse": "red", "unknown": "yellow"}


class Bars(RunListener):
    """A progress bar for each run; of several, a line before each that says which it is."""

    def __init__(self, score_name: str) -> None:
        self._score_name = score_name
        self._bar = ProgressBar(score_name)

    def begin(self, name: str, number: int, of: int) -> None:
        self.close()
        self._bar = ProgressBar(self._score_name)
        Console(stderr=True, highlight=False).print(f"{escape(name)} ({number} of {of})")

    def step(self, step: Step, total: int) -> None:
        self._bar.step(step, total)

    def epoch(self, row: dict[str, Any]) -> None:
        self._bar.epoch(row)

    def note(self, text: str) -> None:
        self._bar.note(text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.close()


def told(found: Comparison) -> None:
    """Print the comparison."""
    summary, console = found.summary, Console(highlight=False)
    put(_scores(summary))
    print()
    put(_costs(summary))
    print()
    for text in (summary["verdict"], summary["advice"]):
        if text:
            console.print(text, markup=False)
    for note in [*summary["notes"], *summary["measured"]]:
        console.print(f"note: {note}", style="dim", markup=False)
    console.print(f"runs       {found.path}", soft_wrap=True, markup=False)
    console.print(f"report     {found.report}", soft_wrap=True, markup=False)
    console.print("\nNext:", markup=False)
    for command, what in summary["next"]:
        console.print(f"  {command}\n      {what}", soft_wrap=True, markup=False)


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
    for one in summary["methods"]:
        interval = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
        behind = points(one["against"]["difference"], sign=True) if one["against"] else ""
        style, score = STYLES[one["outcome"]], score_words(one["value"], one["spread"])
        outcome = f"[{style}]{outcome_words(one['outcome'], one['against'])}[/{style}]"
        table.add_row(escape(one["method"]), score, interval, behind, outcome)
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
    shown = {key: one for key, one in columns.items() if any(m[key] is not None for m in methods)}
    table = plain()
    table.add_column("", no_wrap=True)
    for title, _ in shown.values():
        table.add_column(title, justify="right", no_wrap=True)
    for one in methods:
        cells = ["" if one[key] is None else said(one[key]) for key, (_, said) in shown.items()]
        table.add_row(escape(one["method"]), *cells)
    return table


def planned(found: Mapping[str, Any]) -> None:
    """What a comparison would do: one line a run."""
    console, rows = Console(highlight=False), found["rows"]
    console.print(
        f"{counted(rows['train'])} to train on, {rows['validation']:,} to validate, "
        f"{rows['test']:,} to test; {counted(found['tokens']['train'], 'token')} to train on; "
        "the same for every run"
    )
    table = plain(f"{counted(len(found['runs']), 'run')}")
    for title in ("run", "epochs at most", "batch", "learning rate", "precision"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for run in found["runs"]:
        train = run["recipe"].train
        size = f"{train.batch_tokens} tokens" if train.batch_tokens else counted(train.batch_size)
        name = escape(run["name"]) + (" (done)" if run["done"] else "")
        table.add_row(name, str(train.epochs), size, f"{train.learning_rate:g}", train.precision)
    put(table)
    for note in found["ledger"]["notes"]:
        console.print(f"note: {' '.join(note['message'].split())}", markup=False)
    console.print(
        f"the runs would stand in {found['out']}; nothing has been written",
        soft_wrap=True, markup=False,
    )  # fmt: skip
