"""What `run` prints of several stages, and `scaling` of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from warmstart.cli.output.tables import plain, print_json, print_next, put
from warmstart.errors import typed
from warmstart.formatting import counted
from warmstart.pipelines.stages.recipe import EXTEND
from warmstart.pipelines.stages.result import COLUMNS, Row, Stages
from warmstart.reporting.comparison import megabytes, millions


def done(stages: Stages, *, as_json: bool) -> None:
    """The table of stages that are done, which differences are noise, and what was forgotten."""
    summary, console = stages.summary, Console(highlight=False)
    if as_json:
        print_json({"stages": str(stages.path), **summary})
        return
    rows = [Row(**row) for row in summary["rows"]]
    table = plain(None, *COLUMNS)
    for row in rows:
        table.add_row(*map(escape, row.cells))
    put(table)
    print()
    for text in summary["verdicts"]:
        console.print(text, markup=False)
    for row in rows:
        if row.forgotten:
            console.print(f"general text, {row.name}: {row.forgotten}", markup=False)
    console.print(f"stages     {stages.path}", soft_wrap=True, markup=False)
    console.print(f"summary    {stages.report}", soft_wrap=True, markup=False)
    last = next((row for row in reversed(rows) if row.verb != EXTEND), rows[-1])
    print_next([(f'warmstart predict {typed(last.path)} "your text"', "asks the last model")])


def plan(plan: Mapping[str, Any]) -> None:
    """What would be done: a line a stage, and the notes of each."""
    console = Console(highlight=False)
    table = plain(counted(len(plan["stages"]), "stage"))
    for title in ("stage", "verb", "begins with", "rows", "tokens", "steps"):
        table.add_column(title, justify="left" if title in ("stage", "verb", "begins with") else
                         "right")  # fmt: skip
    for stage in plan["stages"]:
        table.add_row(*map(escape, (stage["name"], stage["verb"], stage["begins_with"])),
                      *_sizes(stage))  # fmt: skip
    put(table)
    for stage in plan["stages"]:
        notes = stage.get("ledger", {}).get("notes", [])
        messages = [note["message"] for note in notes if note.get("loud")]
        for message in [*messages, *(note for note in stage.get("notes", []))]:
            console.print(f"note: {stage['name']}: {' '.join(message.split())}", markup=False)
    where = f"the stages would stand in {plan['out']}; nothing has been written there"
    console.print(where, soft_wrap=True, markup=False)


def _sizes(stage: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rows, tokens and steps to train on."""
    if stage.get("done"):
        return "done", "", ""
    if stage["verb"] == EXTEND:
        return "", counted(len(stage["words"]), "new word"), ""
    runs = f"{len(stage['runs'])} runs" if "runs" in stage else f"{stage['steps']:,}"
    return f"{stage['rows']['train']:,}", f"{stage['tokens']['train']:,}", runs


def scaled(fit: Mapping[str, Any]) -> None:
    """The runs, and what more compute would bring."""
    console, unit = Console(highlight=False), fit["unit"]
    table = plain(None, "run", "weights", "tokens", "FLOP", unit)
    for run in fit["runs"]:
        table.add_row(escape(run["run"]), millions(run["parameters"]), f"{run['tokens']:,}",
                      f"{run['operations']:.2e}", f"{run['value']:.3f}")  # fmt: skip
    put(table)
    law = fit["fit"]
    print(f"\n{unit} = {law['a']:.3g} x FLOP^{-law['b']:.3f}\n")
    costs = any(row["cost"] is not None for row in fit["predictions"])
    table = plain(None, "FLOP", "times the largest", unit, f"{law['confidence_level']:.0%} of new "
                  "runs", "hours", *(["cost"] if costs else []))  # fmt: skip
    for row in fit["predictions"]:
        cost = [f"{row['cost']:,.2f}"] if costs else []
        table.add_row(f"{row['operations']:.2e}", f"{row['times_the_largest']:.1f}",
                      f"{row['value']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}",
                      f"{row['hours']:,.2f}", *cost)  # fmt: skip
    put(table)
    rate = f"hours at {fit['rate']:.2e} FLOP a second ({fit['rate_of']})"
    if memory := fit["memory_bytes"]:
        parts = ", ".join(f"{name} {megabytes(size)}" for name, size in memory.items())
        rate += f"; memory {megabytes(sum(memory.values()))} ({parts}), activations aside"
    for text in (rate, *fit["notes"]):
        console.print(f"note: {text}", markup=False)
