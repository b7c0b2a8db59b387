"""Several tasks in one run, on the terminal: a line each, what sharing did, what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from warmstart.cli.output.tables import plain, put
from warmstart.evaluation.sentences import figure
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.run import Run


def told(run: Run) -> None:
    """Print the result of a run of several tasks."""
    from warmstart.pipelines.multitask.tune import next_commands

    metrics, console = run.metrics, Console(highlight=False)
    tasks = metrics["tasks"]
    compared = any("alone" in one for one in tasks.values())
    table = plain()
    for title in ("task", "figure", "value", "interval"):
        table.add_column(title)
    if compared:
        table.add_column("alone")
        table.add_column("sharing")
    for name, one in tasks.items():
        found = one[one["main"]]
        value, low, high = (figure(found[part]) for part in ("value", "low", "high"))
        cells = [name, one["titles"].get(one["main"], one["main"]), value, f"{low} to {high}"]
        if compared:
            cells += [figure(one["alone"]["alone"]), one["alone"]["outcome"]]
        table.add_row(*cells)
    put(table)
    console.print(metrics["verdict"], markup=False)
    speed, proof = metrics["speed"], run.proof
    rate = f"{speed['rows_per_second']:,.0f} rows/s, {speed['precision']} on {speed['device']}"
    console.print(f"trained    {counted(speed['rows'])} in {speed['seconds']:.1f} s ({rate})")
    same = f"{proof['shared']['tensors']} tensors of the body are the same in all"
    console.print(f"proof      every saved folder answers as the trained model did; {same}")
    for title, path in (("models", run.model), ("report", run.report)):
        console.print(f"{title:<10} {path}", soft_wrap=True, markup=False)
    console.print("\nNext:", markup=False)
    for command, what in next_commands(run):
        console.print(f"  {command}\n      {what}", soft_wrap=True, markup=False)
