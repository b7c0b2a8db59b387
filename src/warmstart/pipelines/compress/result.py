"""What came of a compression: a folder of products, each beside the model that it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from warmstart.errors import RunError, typed
from warmstart.evaluation.sentences import percent
from warmstart.files import write_json, write_text
from warmstart.formatting import counted
from warmstart.pipelines.compress.request import Wanted
from warmstart.pipelines.measuring.trials import LEVEL, Measured
from warmstart.reporting.compression import render_compression
from warmstart.run import Run, folder_named, read_json

SUMMARY, PAGE = "compression.json", "compression.html"
NOT_WORSE, UNCLEAR, WORSE, FAILED = "not worse", "unclear", "worse", "failed"


class Compressed:
    """Smaller models of one model: a folder with a run for each product that is one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(folder_named(path))
        if not (self.path / SUMMARY).is_file():
            raise RunError(f"{self.path} holds no compression: it has no {SUMMARY}")

    @property
    def summary(self) -> Mapping[str, Any]:
        """`compression.json`: the source, the products, what was measured of each."""
        return read_json(self.path / SUMMARY)

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / PAGE

    @property
    def runs(self) -> dict[str, Run]:
        """The products that are runs of their own, by name, also those that lost too much."""
        rows = self.summary["products"]
        return {row["name"]: Run(self.path / row["name"]) for row in rows if row["is_run"]}

    @property
    def lost(self) -> list[str]:
        """Products that are not done: they lost more than is allowed, or failed."""
        return [row["name"] for row in self.summary["products"] if not row["done"]]

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Compressed('{self.path}', {len(self.summary['products'])} products)"


def outcome(measured: Measured, allowed: float, *, keeps: bool = False) -> str:
    """How a product stands against its source, `allowed` points of the main score may be lost.

    "not worse": the same answers, or an interval that ends above the allowed loss; "worse": it lost
    more; "unclear": it lost no more on these rows, which are too few to be sure of it. `keeps`: see
    `Compression.keeps_answers`.
    """
    if measured.failure or measured.difference is None:
        return FAILED
    if measured.is_as_good(allowed / 100) or (keeps and measured.agrees):
        return NOT_WORSE
    return WORSE if 100 * measured.difference["lost"] > allowed else UNCLEAR


def sentence(
    name: str, measured: Measured, allowed: float, rows: int, *, keeps: bool = False
) -> str:
    """The verdict on a product in words."""
    kind = outcome(measured, allowed, keeps=keeps)
    if kind == FAILED or measured.difference is None:
        return f"{name} failed: {measured.failure}"
    if measured.is_same or (keeps and measured.agrees):
        return f"{name} gives the same answers on {counted(rows)}."
    apart, worst = measured.difference, 100 * measured.difference["worst"]
    lost = 100 * apart["lost"]
    unit = apart.get("unit", "points")
    change = f"loses {lost:.1f} {unit}" if lost > 0.05 else f"gains {-lost:.1f} {unit}"
    change = "is as good" if abs(lost) <= 0.05 else change
    text = f"{name} {change} on {counted(rows)} ({percent(LEVEL)}: at worst {-worst:.1f} lost)"
    ends = {
        NOT_WORSE: f"it is not worse by more than the {allowed:g} that are allowed",
        UNCLEAR: f"within the {allowed:g} that are allowed, of which so few rows cannot be sure",
        WORSE: f"more than the {allowed:g} that are allowed, so it is not done",
    }
    return f"{text}: {ends[kind]}."


def finish_compression(
    out: Path,
    facts: Mapping[str, Any],
    made: Sequence[tuple[Wanted, Mapping[str, Any]]],
    measured: Sequence[Measured],
) -> Compressed:
    """Judge the products and write `compression.json` and `compression.html`.

    Args:
        facts: of the source, with "rows", "title" and "main".
        made: the products with what is known of each.
        measured: the source first, then each product.
    """
    rows = list[dict[str, Any]]()
    for (product, own), seen in zip(made, measured[1:], strict=True):
        allowed = product.part.allowed_loss
        keeps = product.part.keeps_answers and seen.tokens_per_second is not None
        kind = outcome(seen, allowed, keeps=keeps)
        rows.append({
            **asdict(seen), **own, "name": product.name, "method": product.method,
            "settings": dict(product.settings), "allowed_loss": allowed, "outcome": kind,
            "done": kind in (NOT_WORSE, UNCLEAR),
            "sentence": sentence(product.name, seen, allowed, facts["rows"], keeps=keeps),
        })  # fmt: skip
    summary = {
        **facts, "name": out.name, "level": LEVEL, "source": {**asdict(measured[0]),
        **facts["source"]}, "products": rows, "next": next_steps(out, rows),
    }  # fmt: skip
    write_json(out / SUMMARY, summary)
    write_text(out / PAGE, render_compression(summary))
    return Compressed(out)


def next_steps(out: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What to type next: the smallest product that is not worse, or else that is done, is asked."""
    sure = [row for row in rows if row["outcome"] == NOT_WORSE]
    done = sure or [row for row in rows if row["done"]]
    if not done:
        return []
    best = min(done, key=lambda row: row["size_mb"])
    model, extra = typed(Path(best["folder"])), ""
    if best["engine"] != "torch" or best["precision"] != "fp32":
        extra = f" --engine {best['engine']} --engine.precision {best['precision']}"
    steps = [(f'warmstart predict {model} "a text"{extra}', f"asks {best['name']}")]
    if best["is_run"]:
        steps.append((f"warmstart build {model} --engine auto", "looks for the fastest engine"))
    return steps
