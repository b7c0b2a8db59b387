"""What the command line prints: tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.run import Run
    from warmstart.types import Prediction

SCORES = {
    "f1_macro": "macro-F1",
    "accuracy": "accuracy",
    "f1_weighted": "weighted F1",
    "matthews_correlation": "Matthews correlation",
}


def run(run: Run, *, as_json: bool) -> None:
    """The result of a run, its report, and what to type next."""
    from warmstart.verbs.conclude import next_commands

    if as_json:
        paths = {"run": str(run.path), "model": str(run.model), "report": str(run.report)}
        _json({**paths, "metrics": run.metrics, "proof": run.proof})
        return
    scores(run.metrics)
    speed, proof = run.facts["speed"], run.proof
    print(f"trained    {speed['rows']:,} rows in {speed['seconds']:.1f} s "
          f"({speed['rows_per_second']:.0f} rows/s, {speed['precision']} on {speed['device']})")  # fmt: skip
    print(f"proof      the saved folder answers as the trained model did on {proof['rows']} rows "
          f"(largest difference {proof['max_probability_difference']:.1e})")  # fmt: skip
    print(f"model      {run.model}")
    print(f"report     {run.report}")
    print("\nNext:")
    for command, what in next_commands(run):
        print(f"  {command:<60} {what}")


def metrics(found: Mapping[str, Any], *, as_json: bool) -> None:
    """The scores of an evaluation."""
    if as_json:
        _json(dict(found))
    else:
        scores(found)


def scores(found: Mapping[str, Any]) -> None:
    """A table: the model beside the baselines, with intervals; and the verdict in words."""
    from rich.console import Console
    from rich.table import Table

    level = f"{found['confidence_level']:.0%} interval"
    table = Table(title=f"{found['rows']:,} test rows", title_justify="left")
    table.add_column("")
    baselines = found.get("baselines") or []
    for title in ("this model", level, *(str(b["title"]) for b in baselines)):
        table.add_column(title, justify="right")
    for key, title in SCORES.items():
        entry = found[key]
        row = [title, f"{entry['value']:.3f}", f"{entry['low']:.3f} to {entry['high']:.3f}"]
        row += [f"{b[key]['value']:.3f}" for b in baselines]
        table.add_row(*row)
    Console(highlight=False).print(table)
    print(found["verdict"])


def predictions(
    answers: Sequence[Prediction],
    texts: Sequence[str] | None,
    out: Any,
    *,
    as_json: bool,
) -> None:
    """One line an answer: label, confidence, text. With `out`, where they went."""
    if as_json:
        for answer in answers:
            scores = {label: round(score, 6) for label, score in answer.scores.items()}
            row = {"id": answer.id, "label": answer.value, "confidence": answer.confidence}
            print(json.dumps({**row, "scores": scores}, ensure_ascii=False))
        return
    if out is not None:
        print(f"{len(answers):,} rows labelled: {out}")
        return
    for number, answer in enumerate(answers):
        text = texts[number] if texts else f"row {int(answer.id) + 1}"
        print(f"{answer.value}\t{answer.confidence:.3f}\t{text}")


def models(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The base models at hand."""
    if as_json:
        _json(list(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("name", "source", "family", "parameters", "licence", "good for"):
        table.add_column(title)
    for row in rows:
        millions = f"{row['parameters'] / 1e6:.1f} M" if row.get("parameters") else ""
        cells = (row["name"], row["source"], row["family"], millions, row["license"], row["use"])
        table.add_row(*(str(cell or "") for cell in cells))
    Console(highlight=False).print(table)
    print("Any folder with a Hugging Face model works too, and any hub id: --base owner/name")


def plan(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What `tune` would do."""
    recipe = found["recipe"]
    if as_json:
        _json({**found, "recipe": recipe.model_dump(mode="json")})
        return
    print(f"# {found['rows']['train']:,} rows to train on, {found['rows']['validation']:,} to "
          f"validate, {found['rows']['test']:,} to test; {found['tokens']['train']:,} tokens")  # fmt: skip
    print(f"# labels: {', '.join(found['labels'][:12])}"
          f"{' …' if len(found['labels']) > 12 else ''}")  # fmt: skip
    for note in found["ledger"]["notes"]:
        print(f"# note: {note['message']}")
    print(recipe.commented())


def _json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
