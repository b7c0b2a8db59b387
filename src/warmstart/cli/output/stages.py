"""What `run` prints of several stages."""

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
    where = f"the stages would stand in {plan['out']}; nothing has been written"
    console.print(where, soft_wrap=True, markup=False)


def _sizes(stage: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rows, tokens and steps to train on."""
    if stage.get("done"):
        return "done", "", ""
    if stage["verb"] == EXTEND:
        return "", counted(len(stage["words"]), "new word"), ""
    runs = f"{len(stage['runs'])} runs" if "runs" in stage else f"{stage['steps']:,}"
    return f"{stage['rows']['train']:,}", f"{stage['tokens']['train']:,}", runs
