"""What `warmstart adapters` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from warmstart.cli.output.tables import notes, plain, print_next, put
from warmstart.errors import typed
from warmstart.formatting import counted

STATES = {
    "present": "",
    "another": "another base stands there",
    "unknown": "no sum kept",
    "absent": "not here",
}
MOST_LABELS = 3


def listed(rows: Sequence[Mapping[str, Any]]) -> None:
    """One row an adapter or model."""
    table = plain()
    for title in ("folder", "method"):
        table.add_column(title, overflow="fold")
    for title in ("rank", "weights", "file"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("base", overflow="fold")
    table.add_column("labels", overflow="fold")
    for row in rows:
        if "error" not in row:
            table.add_row(*map(escape, _cells(row)))
    if table.row_count:
        put(table)
    notes([str(row["error"]) for row in rows if "error" in row])


def written(action: str, result: Mapping[str, Any]) -> None:
    """The folder of a merge, sum or mean, its proof, and what to type next."""
    if action == "merge":
        proof = result["proof"]
        print(f"weights    {result['parameters']:,}, a whole model")
        print(
            f"proof      loaded afresh it answers as base and adapter did on "
            f"{counted(proof['texts'], 'text')} (largest difference {proof['max_difference']:.1e})"
        )
    else:
        rank = f"rank {result['rank']}, " if result["rank"] else ""
        what = "the weighted sum" if action == "add" else "the mean"
        print(f"made       {rank}{result['error']:.1%} off {what} of the changes")
    print(f"written    {result['out']}")
    notes(result["notes"])
    print_next([(f"warmstart evaluate {typed(result['out'])} DATA", "scores it on labelled data")])


def _cells(row: Mapping[str, Any]) -> list[str]:
    variants = row.get("variants") or []
    labels = row["labels"]
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    bits = f", {row['base_bits']} bits" if row.get("base_bits") else ""
    state = STATES.get(row.get("base_state") or "present", "")
    base = row.get("base") or ""
    if base.count("/") > 2:  # a long path by its end; `--json` has it whole
        base = "…/" + "/".join(base.split("/")[-2:])
    return [
        row["folder"],
        " ".join([row["method"], *variants]),
        str(row.get("rank") or ""),
        f"{row['parameters']:,}",
        f"{row['bytes'] / 1e6:.1f} MB",
        f"{base}{bits}" + (f" ({state})" if state else ""),
        ", ".join(labels[:MOST_LABELS]) + more,
    ]
