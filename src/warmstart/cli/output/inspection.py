"""An inspection on the terminal: findings first, then the figures, then what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from warmstart.cli.output.tables import plain, put
from warmstart.errors import typed
from warmstart.evaluation.inspection.findings import command
from warmstart.formatting import counted
from warmstart.reporting.inspection import verdict

if TYPE_CHECKING:
    from warmstart.pipelines.inspect import Inspection

STYLES = {"severe": "bold red", "worth fixing": "yellow", "note": "dim"}
MOST_CLASSES, MOST_NOTES = 12, 8


def told(found: Inspection) -> None:
    """Print everything."""
    summary = found.summary
    console = Console(highlight=False)
    console.print(escape(verdict(summary)), soft_wrap=True)
    if summary["findings"]:
        put(_findings(summary))
    else:
        print("Nothing that would need mending was found.")
    for table in (_classes(summary), _lengths(summary)):
        if table is not None:
            print()
            put(table)
    print()
    _facts(console, summary)
    _written(console, summary)
    console.print(f"report     {found.report}", soft_wrap=True, markup=False)
    if not summary["written"]:
        console.print("\nNext:", markup=False)
        fix = command(summary, "--fix", summary["clean_name"])
        for line, what in (
            (fix, "a clean copy, and every removed row with its reason beside it"),
            (
                f"warmstart tune {typed(summary['data'])} --dry-run",
                "what training would do with the data",
            ),
        ):
            console.print(f"  {line}\n      {what}", soft_wrap=True, markup=False)


def _findings(summary: Mapping[str, Any]) -> Table:
    """Severity, finding, remedy; notes beyond the first few are counted."""
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    notes = 0
    for one in summary["findings"]:
        notes += one["severity"] == "note"
        if notes > MOST_NOTES:
            continue
        style = STYLES[one["severity"]]
        text = f"{escape(one['message'])}\n[dim]→ {escape(one['remedy'])}[/dim]"
        table.add_row(f"[{style}]{one['severity']}[/{style}]", text)
    if notes > MOST_NOTES:
        table.add_row("", f"and {counted(notes - MOST_NOTES, 'more note')} in the report")
    return table


def _classes(summary: Mapping[str, Any]) -> Table | None:
    found = summary["classes"]
    if not found:
        return None
    splits = list(summary["splits"])
    table = plain("Classes")
    table.add_column("label", overflow="fold")
    for split in splits:
        table.add_column(split, justify="right")
    rows = list(found["counts"].items())
    shown = rows if len(rows) <= MOST_CLASSES else [*rows[:6], *rows[-5:]]
    for number, (label, own) in enumerate(shown):
        if len(shown) < len(rows) and number == 6:
            table.add_row(f"… {len(rows) - len(shown)} more", *[""] * len(splits))
        table.add_row(escape(label), *(f"{own.get(split, 0):,}" for split in splits))
    return table


def _lengths(summary: Mapping[str, Any]) -> Table:
    lengths = summary["lengths"]
    table = plain("Lengths")
    for name in ("", "median", "95 %", "99 %", "longest"):
        table.add_column(name, justify="left" if not name else "right")
    for unit in ("characters", "words", "tokens"):
        one = lengths[unit]
        table.add_row(unit, *(f"{one[k]:,}" for k in ("median", "p95", "p99", "max")))
    return table


def _facts(console: Console, summary: Mapping[str, Any]) -> None:
    """One line each: cuts, copies, labels, languages."""
    lengths, noise = summary["lengths"], summary["noise"]
    cuts = ", ".join(f"{c['max_length']}: {c['row_share']:.1%}" for c in lengths["cuts"])
    lines = [("cut", f"share of the rows by max_length {cuts}")]
    copies = summary["duplicates"]
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in copies["by_kind"].items())
    lines.append(("copies", f"{counted(copies['pairs'], 'pair')}{f' ({kinds})' if kinds else ''}"))
    if "skipped" in noise:
        lines.append(("labels", f"not judged: {noise['skipped']}"))
    else:
        part = "" if noise["checked"] == noise["of"] else f", a sample of {noise['of']:,}"
        said = f"{noise['suspicious']:,} of {counted(noise['checked'])} suspicious{part}"
        lines.append(("labels", said))
    languages = summary["languages"]
    if languages["majority"]:
        first = list(languages["shares"].items())[:4]
        shares = ", ".join(f"{name} {part:.1%}" for name, part in first)
        lines.append(
            ("languages", f"{shares} ({counted(languages['unsure'], 'text')} too short to tell)")
        )
    for name, text in lines:
        console.print(f"{name:<10} {text}", soft_wrap=True, markup=False)


def _written(console: Console, summary: Mapping[str, Any]) -> None:
    for name, one in summary["written"].items():
        rows = ", ".join(f"{n:,} {split}" for split, n in one["rows"].items())
        what = "clean copy" if name == "fix" else "split"
        console.print(f"{what:<10} {one['out']} ({rows} rows)", soft_wrap=True, markup=False)
        if one["removed_rows"]:
            text = f"{one['removed']} ({counted(one['removed_rows'])}, each with its reason)"
            console.print(f"{'removed':<10} {text}", soft_wrap=True, markup=False)
            for reason, n in one.get("reasons", {}).items():
                console.print(f"{'':<10} {n:,} × {reason}", soft_wrap=True, markup=False)
