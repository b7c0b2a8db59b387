"""Scaling on paper: a line through runs that were made, and where nothing can be said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warmstart
from warmstart.cli.main import main
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, RunError


def made(folder: Path, operations: float, value: float, **more: Any) -> str:
    """What a run of so many operations leaves behind."""
    folder.mkdir(parents=True)
    facts = {
        "status": "done", "fingerprint": "a", "size": {"parameters": 1000},
        "speed": {"tokens_trained": operations / 9000, "operations": operations,
                  "seconds": operations / 1e9},
    }  # fmt: skip
    metrics = {name: {"value": value} for name in ("loss", "perplexity", "bits_per_byte")}
    (folder / "run.json").write_text(json.dumps(facts | more))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "recipe.toml").write_text(Recipe.of({"task": "language_model"}).to_toml())
    return str(folder)


def line(tmp_path: Path, noise: float = 0.0, runs: int = 4, seed: int = 0) -> list[str]:
    """Runs on 40 · C^-0.1, off it by so much."""
    rng = np.random.default_rng(seed)
    return [made(tmp_path / f"{seed}-{n}", 10.0 ** (12 + n / 2),
                 40 * 10.0 ** (-0.1 * (12 + n / 2)) * np.exp(noise * rng.normal()))
            for n in range(runs)]  # fmt: skip


def test_a_power_law_is_found_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = line(tmp_path)
    fit = warmstart.scaling(runs, compute=3e14, rate=1e11, price=2.0)
    assert fit["fit"]["b"] == pytest.approx(0.1) and fit["fit"]["a"] == pytest.approx(40)
    (row,) = fit["predictions"]
    assert row["value"] == pytest.approx(40 * 3e14**-0.1)
    assert row["hours"] == pytest.approx(3e14 / 1e11 / 3600)
    assert row["cost"] == pytest.approx(2 * row["hours"])
    assert main(["scaling", *runs, "--parameters", "1e6", "--tokens", "2e7"]) == 0
    printed = capsys.readouterr().out
    assert "1.80e+14" in printed and "memory 20 MB" in printed and "FLOP^-0.100" in printed


def test_intervals_hold_as_often_as_they_say(tmp_path: Path) -> None:
    """Of new runs about 95 % lie in them, with three runs as with five."""
    for count in (3, 5):
        rng, inside = np.random.default_rng(count), 0
        for seed in range(60):
            runs = line(tmp_path / str(count), 0.02, count, seed)
            compute = 10.0 ** (13 + (count - 1) / 2)
            (row,) = warmstart.scaling(runs, compute=compute)["predictions"]
            new = 40 * compute**-0.1 * np.exp(0.02 * rng.normal())
            inside += row["low"] <= new <= row["high"]
        assert inside >= 52, count


@pytest.mark.parametrize(
    ("change", "keys", "reason"),
    [
        ({}, {"compute": 1e18}, "times those of the largest run .* make a run of 3.33e.16 first"),
        ({}, {"parameters": 1e6}, "give both"),
        ({}, {"compute": 1e9}, "less than the smallest run's"),
        ({}, {"compute": -1.0}, "compute -1: give a number above 0"),
        ({}, {"rate": float("nan")}, "rate nan: give a number above 0"),
        ({"fingerprint": "b"}, {}, "of other documents"),
        ({"status": "running"}, {}, "is not done"),
        ({"speed": {"seconds": 1.0}}, {}, "is no run of pretrain"),
        (None, {}, "2 runs: a line needs 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(
    tmp_path: Path, change: dict[str, Any] | None, keys: dict[str, float], reason: str
) -> None:
    runs = line(tmp_path, runs=3 if change else 2 if change is None else 4)
    if change:
        runs.append(made(tmp_path / "odd", 1e14, 1.0, **change))
    with pytest.raises((RecipeError, RunError), match=reason):
        warmstart.scaling(runs, **keys)


def test_what_the_runs_must_have_in_common(tmp_path: Path) -> None:
    """Documents to be judged on; and the tokenizer, where there are no bits per byte."""
    runs = line(tmp_path)
    for number, run in enumerate(runs):
        rows = {"file": ["a.txt"], "line": [1 if number else 2]}
        pq.write_table(pa.table(rows), Path(run) / "predictions.parquet")
        (Path(run) / "model").mkdir()
        (Path(run) / "model" / "tokenizer.json").write_text(str(number))
    with pytest.raises(RecipeError, match="other held-out documents"):
        warmstart.scaling(runs)
    for run in runs:
        (Path(run) / "predictions.parquet").unlink()
    assert warmstart.scaling(runs)["figure"] == "bits_per_byte"
    for run in runs:
        metrics = json.loads((Path(run) / "metrics.json").read_text())
        del metrics["bits_per_byte"]
        (Path(run) / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(RecipeError, match="different tokenizers"):
        warmstart.scaling(runs)
