"""An inspection on the terminal: findings first, then the figures, then what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from warmstart.cli.output.tables import plain, print_json, print_next, put
from warmstart.formatting import counted
from warmstart.reporting.inspection import verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.pipelines.inspect import Inspection

STYLES = {"severe": "bold red", "worth fixing": "yellow", "note": "dim"}
TABLES = {"classes": "Classes", "kinds": "Kinds", "lengths": "Lengths"}
HEADINGS = {"unit": "", "p95": "95 %", "p99": "99 %", "max": "longest"}
MOST_ROWS, MOST_NOTES = 12, 8


def print_inspection(inspection: Inspection, *, as_json: bool) -> None:
    """Print findings, tables, a line for each figure, and what was written."""
    summary, tables, lines = inspection.summary, inspection.arrow_tables, inspection.lines
    if as_json:
        print_json({**summary, "report": str(inspection.report)})
        return
    print(verdict(summary))
    if summary["findings"]:
        put(_findings(summary["findings"]))
    else:
        print("Nothing that would need mending was found.")
    for name, title in TABLES.items():
        if len(tables[name]):
            print()
            put(_table(title, tables[name]))
    print()
    figures = [(name, lines[name]) for name in dict.fromkeys(["cut", *lines])]  # next to lengths
    for name, copy in summary["written"].items():
        rows = ", ".join(f"{n:,} {split}" for split, n in copy["rows"].items())
        figures.append(("clean copy" if name == "fix" else "split", f"{copy['out']} ({rows} rows)"))
        if copy["removed_rows"]:
            removed = counted(copy["removed_rows"])
            figures.append(("removed", f"{copy['removed']} ({removed}, each with its reason)"))
            figures += [("", f"{n:,} × {reason}") for reason, n in copy.get("reasons", {}).items()]
    for name, text in [*figures, ("report", str(inspection.report))]:
        print(f"{name:<10} {text}")
    if inspection.next and not summary["written"]:
        print_next(inspection.next)


def _findings(findings: list[Mapping[str, Any]]) -> Table:
    """Severity, finding, remedy; notes beyond the first few are counted."""
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    notes = [finding for finding in findings if finding["severity"] == "note"]
    for finding in findings[: len(findings) - len(notes[MOST_NOTES:])]:
        style = STYLES[finding["severity"]]
        text = f"{escape(finding['message'])}\n[dim]→ {escape(finding['remedy'])}[/dim]"
        table.add_row(f"[{style}]{finding['severity']}[/{style}]", text)
    if more := notes[MOST_NOTES:]:
        table.add_row("", f"and {counted(len(more), 'more note')} in the report")
    return table


def _table(title: str, rows: pa.Table) -> Table:
    """Of more than MOST_ROWS rows the first and the last."""
    table = plain(title)
    for field in rows.schema:
        name, is_text = str(field.name), str(field.type) == "string"
        justify = "left" if is_text else "right"
        table.add_column(HEADINGS.get(name, name), justify=justify, overflow="fold")
    cells = [[escape(value) if isinstance(value, str) else f"{value:,}" for value in row.values()]
             for row in rows.to_pylist()]  # fmt: skip
    if len(cells) > MOST_ROWS:
        more = [f"… {len(cells) - 11} more", *[""] * (len(rows.column_names) - 1)]
        cells = [*cells[:6], more, *cells[-5:]]
    for row in cells:
        table.add_row(*row)
    return table
