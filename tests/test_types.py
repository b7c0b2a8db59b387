"""What a run found is written and read without loss, whatever the task and the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmstart.errors import RunError
from warmstart.run import read_json
from warmstart.types import Metrics, RunFolder, RunReport, Score, TaskName

RUNS = sorted((Path(__file__).parent / "golden" / "runs").glob("*.json"))


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """The metrics of each method; of several tasks those of each task."""
    found = [
        run["metrics"]["found"] for run in json.loads(path.read_text(encoding="utf-8")).values()
    ]
    return [metrics for metrics in found if "tasks" not in metrics]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_metrics_of_every_task_come_back_as_they_were(path: Path):
    for table in metrics_of(path):
        metrics = Metrics.from_json(table)
        assert metrics.to_json() == table
        assert Metrics.from_json(metrics.to_json()) == metrics
        assert metrics.main_score == Score(**table[table["main"]])
        assert all(baseline.scores[metrics.main] for baseline in metrics.baselines)


def test_a_report_comes_back_as_it_was():
    (table, *_) = next(metrics for path in RUNS if (metrics := metrics_of(path)))
    report = RunReport(
        title="tickets",
        run=RunFolder("tickets", "/runs/tickets"),
        task=TaskName("tagging", "tokens"),
        labels=["a", "b"],
        metrics=Metrics.from_json(table),
        next=[["warmstart predict", "answers"]],
        more={"later": {"version": 2}},
    )
    text = json.dumps(report.to_json())
    assert RunReport.from_json(json.loads(text)) == report


def test_what_older_versions_did_not_write_is_empty(tmp_path: Path):
    (table, *_) = next(metrics for path in RUNS if (metrics := metrics_of(path)))
    newer = ("scale", "wrong", "per_class", "lower_is_better", "curves", "notes")
    old = {key: value for key, value in table.items() if key not in newer}
    metrics = Metrics.from_json(old)
    assert metrics.scale == 1.0 and metrics.wrong is None and metrics.curves is None
    (tmp_path / "metrics.json").write_text(json.dumps({"main": "f1"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics.json is damaged: it has no 'titles'"):
        Metrics.from_json(read_json(tmp_path / "metrics.json"))
