"""Engines and smaller models on the terminal: what would be made, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.cli.output.tables import plain, print_next, put
from warmstart.errors import typed
from warmstart.formatting import counted
from warmstart.reporting.comparison import millions
from warmstart.reporting.compression import change, rate, speed_of, unit_of, verdict


def plan(planned: Mapping[str, Any]) -> None:
    """A row for each product that would be made."""
    source = planned["source"]
    table = plain(
        f"{source['folder']}: {planned['task']}, {millions(source['parameters'])} weights",
        "product", "weights", "steps", "may lose", "what is done",
    )  # fmt: skip
    for row in planned["products"]:
        size = "–" if row["parameters"] is None else millions(row["parameters"])
        what = "; ".join(row["notes"]) or ", ".join(f"{k} {v}" for k, v in row["settings"].items())
        allowed = f"{row['allowed_loss']:g} points"
        table.add_row(row["name"], size, f"{row['steps']:,}", allowed, what)
    put(table)
    print(
        f"\nThey would be proven on {counted(planned['rows'], 'labelled row')} and written to "
        f"{planned['out']}; nothing has been done."
    )


def made(summary: Mapping[str, Any], report: Path) -> None:
    """A row for the source and each product, a sentence for each, and what to type next."""
    source, main = summary["source"], summary["title"]
    table = plain(
        f"{counted(summary['rows'], 'labelled row')}, beside {source['folder']}",
        "model", main, "points (95 %)" if unit_of(summary) == "points" else "% (95 %)",
        "agreement", "MB", "tokens/s" if source.get("tokens_per_second") else "rows/s",
        "ms for one", "memory MB", "so",
    )  # fmt: skip
    for row in ({**source, "name": "the source"}, *summary["products"]):
        if row["failure"]:  # a sentence below says why
            table.add_row(row["name"], "failed")
            continue
        product = "outcome" in row
        table.add_row(
            row["name"], f"{row['score']:.3f}", change(row) if product else "–",
            f"{row['same']:.3f}" if product else "–", f"{row['size_mb']:,.1f}",
            rate(speed_of(row)), f"{row['milliseconds']:.1f}",
            f"{row['memory_mb']:,.0f}", row["outcome"] if product else "",
        )  # fmt: skip
    put(table)
    print()
    for row in summary["products"]:
        print(row["sentence"])
    print(f"{verdict(summary)}\n\nReport: {report}")
    if summary["next"]:
        print_next(summary["next"])


def engines(made: Mapping[str, Any]) -> None:
    """A row for each engine that was tried, and which was chosen."""
    table = plain(f"{counted(made['rows'])} compared with torch in fp32", "engine", "precision",
                  made["main"], "same answers", "largest change", "beside others", "rows/s",
                  "ms for one", "memory MB", "size MB")  # fmt: skip
    for row in made["engines"]:
        if row["failure"]:
            table.add_row(row["engine"], row["precision"], row["failure"])
            continue
        table.add_row(
            row["engine"], row["precision"], f"{row['score']:.3f}", f"{row['same']:.3f}",
            f"{row['gap']:.2g}", f"{row['beside']:.2g}", f"{row['rows_per_second']:,.0f}",
            f"{row['milliseconds']:.1f}", f"{row['memory_mb']:,.0f}", f"{row['size_mb']:,.1f}",
        )  # fmt: skip
    put(table)
    best = made["chosen"]
    if best is not None:
        print(f"\nchosen: {best['reason']}")
    name = "auto" if best is not None else made["engines"][-1]["engine"]
    precision = made["engines"][-1]["precision"]
    extra = "" if name == "auto" or precision == "fp32" else f" --engine.precision {precision}"
    print(f'\nNext:\n  warmstart predict {typed(made["model"])} "a text" --engine {name}{extra}')
