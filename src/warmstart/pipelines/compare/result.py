"""What came of several runs: collected from their folders, judged, and written down."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from warmstart.data.splitting import row_units
from warmstart.errors import RunError
from warmstart.evaluation.comparison import Answers, Trial, better_buy, standings
from warmstart.files import write_json, write_text
from warmstart.pipelines.compare.request import Wanted
from warmstart.run import Run, folder_named, read_json
from warmstart.types import Metrics

if TYPE_CHECKING:
    from warmstart.pipelines.prepare import Prepared
    from warmstart.pipelines.resources import Meter


def is_comparison(path: str | Path | None) -> bool:
    """Whether a folder is of several runs."""
    return path is not None and (Path(path) / "comparison.json").is_file()


class Comparison:
    """Several methods or seeds on the same rows: a folder with a whole run for each."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(folder_named(path))
        if not (self.path / "comparison.json").is_file():
            raise RunError(f"{self.path} is no comparison: it has no comparison.json")

    @property
    def summary(self) -> dict[str, Any]:
        """`comparison.json`: methods, differences, costs, verdict."""
        return read_json(self.path / "comparison.json")

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "comparison.html"

    @property
    def runs(self) -> dict[str, Run]:
        """The runs that are done, by their names."""
        done = [run["name"] for run in self.summary["runs"] if run["status"] == "done"]
        return {name: Run(self.path / name) for name in done}

    @property
    def chosen(self) -> Run:
        """A run of the method that `summary["advice"]` names: of its seeds the one with the best
        validation score."""
        return Run(self.path / self.summary["chosen"])

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Comparison('{self.path}', {len(self.summary['asked'])} runs)"


def finish_comparison(
    out: Path, wanted: Sequence[Wanted], prepared: Prepared, failed: Mapping[str, str], meter: Meter
) -> Comparison:
    """Judge the runs below `out`, and write `comparison.json` and `comparison.html`.

    Raises `RunError` where none of them came to an end.
    """
    from warmstart.pipelines.finish import next_steps
    from warmstart.reporting import comparison as words

    done = {one.name: Run(out / one.name) for one in wanted if one.name not in failed}
    if not done:
        raise RunError(f"no run came to an end; the first: {next(iter(failed.values()))}")
    recipe, task, tested = prepared.recipe, prepared.task, len(prepared.examples["test"])
    level, main = recipe.evaluate.confidence_level, task.main_score
    trials = [trial_of(one, done[one.name], main) for one in wanted if one.name in done]
    tables = {name: pq.read_table(run.path / "predictions.parquet") for name, run in done.items()}
    groups = row_units(prepared.examples["test"].table)
    answers = Answers.of(tables, next(iter(done.values())).labels, main, groups)
    table = standings(
        trials, answers, main,
        draws=recipe.evaluate.bootstrap, level=level, seed=wanted[0].recipe.seed,
    )  # fmt: skip
    buy = better_buy(table, level)
    # of the method's runs the one with the best validation score: the test rows choose no seed
    candidates = [trial for trial in trials if trial.name in buy.runs]
    chosen = max(candidates, key=lambda trial: trial.validation_score or 0.0).name
    rows_of = {trial.name: {"status": "done", **asdict(trial)} for trial in trials}
    title = task.metric_titles.get(main) or main.replace("_", " ")
    failures = [f"{name} failed and is left out: {reason}" for name, reason in failed.items()]
    summary = {
        **read_json(out / "comparison.json"),
        "status": "done",
        **_common(prepared, wanted),
        "main_score": main,
        "title": title,
        "confidence_level": level,
        "methods": [asdict(standing) for standing in table],
        "verdict": words.verdict(table, title, tested, level),
        "advice": words.advice(table, buy, level),
        "notes": words.notes(table, answers is not None) + failures,
        "chosen": chosen,
        "runs": [
            rows_of.get(one.name)
            or {
                "name": one.name,
                "method": one.method,
                "seed": one.recipe.seed,
                "status": "failed",
                "reason": failed[one.name],
            }
            for one in wanted
        ],
        "measured": [meter.memory_note, meter.energy.note],
        "next": next_steps(task, out / chosen),
    }
    summary.pop("reason", None)
    write_json(out / "comparison.json", summary)
    write_text(out / "comparison.html", words.render_comparison(summary))
    return Comparison(out)


def trial_of(one: Wanted, run: Run, main: str) -> Trial:
    """What a run that is done counts for, by the figure `main`."""
    facts, metrics = run.facts, Metrics.from_json(run.metrics)
    speed, meter = facts["speed"], facts.get("meter") or {}
    kept = [row for row in facts["history"] if row["epoch"] == facts["kept_epoch"]]
    return Trial(
        name=one.name,
        method=one.method,
        seed=one.recipe.seed,
        score=metrics.scores[main].to_json(),
        trainable=facts["size"]["trainable"],
        file_bytes=sum(file.stat().st_size for file in run.model.rglob("*") if file.is_file()),
        seconds=speed["seconds"] + speed["feature_seconds"],
        peak_memory_mb=meter.get("peak_memory_mb"),
        energy_joules=meter.get("energy_joules") if meter.get("whole") else None,
        validation_score=kept[0].get("validation_score") if kept else None,
        kept_epoch=facts["kept_epoch"],
    )


def _common(prepared: Prepared, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """What the runs have in common; `facts` are for the page."""
    recipe, rows = prepared.recipe, prepared.facts()["rows"]
    split_seed = recipe.seed if recipe.data.split_seed is None else recipe.data.split_seed
    seeds = sorted({one.recipe.seed for one in wanted})
    facts = {
        "task": recipe.task.part_name(),
        "base": prepared.base.name,
        **{f"rows in {name}": count for name, count in rows.items()},
        "seed of the splits": split_seed,
        "seeds of the runs": seeds,
        "what a seed changes": "the head, the order of the rows, the dropout",
        "resamples": recipe.evaluate.bootstrap,
        "device": recipe.train.device,
        "precision": recipe.train.precision,
        "fingerprint of the data": prepared.splits.fingerprint[:16],
    }
    data = Path(recipe.data.path or recipe.data.train or "data from Python").name
    base = prepared.base.name
    return {"data": data, "base": base, "rows": rows, "seeds": seeds, "facts": facts}
