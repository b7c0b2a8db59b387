"""Splits that are cut off hold each kind of row in its share, where no single label says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warmstart.api import recipe_for
from warmstart.pipelines.prepare import load_splits

ROWS = 300


def cut(tmp_path: Path, task: str, rows: list[dict[str, Any]], seed: int) -> Any:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = {"task": task, "seed": seed, "data.similarity": 0}
    recipe: Any = recipe_for(str(path), None, keys)
    return load_splits(recipe)[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_label_is_on_every_side(seed: int, tmp_path: Path) -> None:
    """By chance, all ten of its rows would miss validation in a third of the cases."""
    rows = [
        {"text": f"note {i}", "labels": ["common"] + ["rare"] * (i % 30 == 0)} for i in range(ROWS)
    ]
    found = cut(tmp_path, "multilabel", rows, seed)
    for side, wanted in (("train", 7), ("validation", 1), ("test", 2)):
        count = sum(
            "rare" in json.loads(cell) for cell in getattr(found, side)["labels"].to_pylist()
        )
        assert count == wanted


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_type_of_entity_is_on_every_side(seed: int, tmp_path: Path) -> None:
    rows = [
        {
            "tokens": ["in", f"x{i}", "now"],
            "tags": ["O", "B-RARE" if i % 30 == 0 else "B-CITY", "O"],
        }
        for i in range(ROWS)
    ]
    found = cut(tmp_path, "tagging", rows, seed)
    for side, wanted in (("train", 7), ("validation", 1), ("test", 2)):
        assert sum("RARE" in cell for cell in getattr(found, side)["tags"].to_pylist()) == wanted


def test_numbers_are_alike_on_every_side(tmp_path: Path) -> None:
    values = np.random.default_rng(0).exponential(size=ROWS).round(3)
    rows = [{"text": f"note {i}", "score": value} for i, value in enumerate(values.tolist())]
    found = cut(tmp_path, "regression", rows, 0)
    edges = np.quantile(values, [0.1, 0.5, 0.9])
    for side in ("train", "validation", "test"):
        own = np.array([float(cell) for cell in getattr(found, side)["score"].to_pylist()])
        below = [(own < edge).mean() for edge in edges]
        np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.02)
