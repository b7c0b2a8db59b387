"""A small evaluation, made once: three classes told apart by their words, some of them noisy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.evaluation.classification import Evaluation, evaluate
from warmstart.evaluation.predictions import Scored
from warmstart.evaluation.settings import Evaluate

LABELS = ["billing", "delivery", "praise"]
WORDS = {0: "invoice charge refund card", 1: "parcel courier late box", 2: "thanks great love nice"}
HISTORY = [
    {"epoch": 1, "step": 5, "train_loss": 1.0, "validation_loss": 0.9, "validation_score": 0.6},
    {"epoch": 2, "step": 10, "train_loss": 0.6, "validation_loss": 0.7, "validation_score": 0.8},
    {"epoch": 3, "step": 15, "train_loss": 0.5, "validation_loss": 0.7, "validation_score": 0.802},
]


def texts(y: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Four words a text, each of the right class with a probability of a half."""
    return [
        " ".join(
            rng.choice(WORDS[int(c) if rng.random() < 0.5 else int(rng.integers(3))].split())
            for _ in range(4)
        )
        for c in y
    ]


def scored(rows: int, rng: np.random.Generator, sharp: float = 3.0) -> Scored:
    """Answers that are mostly right and too sure."""
    y = rng.integers(0, 3, rows)
    logits = rng.normal(0, 1, (rows, 3)).astype(np.float32)
    logits[np.arange(rows), y] += 1.6
    return Scored(
        logits * np.float32(sharp),
        y,
        pa.chunked_array([texts(y, rng)]),
        ["tickets.csv"] * rows,
        list(range(2, rows + 2)),
    )


@pytest.fixture(scope="session")
def rows() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    train_y = rng.integers(0, 3, 300)
    return {
        "test": scored(400, rng),
        "validation": scored(200, rng),
        "train_texts": texts(train_y, rng),
        "train_y": train_y,
        "history": HISTORY,
    }


@pytest.fixture(scope="session")
def evaluation(rows: dict[str, Any]) -> Evaluation:
    return evaluate(Evaluate(bootstrap=200), LABELS, **rows, seed=1)


@pytest.fixture
def facts(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "title": "Tickets",
        "created": "2026-11-21",
        "verdict": evaluation.metrics["verdict"],
        "run": {"name": "runs/tickets", "path": "/tmp/runs/tickets"},
        "recipe_toml": '[train]\nepochs = 3  # "three"\n',
        "base": {"name": "minilm", "parameters": 22_713_216, "trainable": 1_155, "sha256": "ab12"},
        "data": {
            "rows": {"read": 910, "kept": 900, "dropped": 10},
            "splits": {"train": 300, "validation": 200, "test": 400},
            "dropped": {"text is empty": {"rows": 10, "first": "tickets.csv:7"}},
            "tokens": {"train": {"total": 5_000, "cut": 20, "kept": 4_980}},
            "notes": [{"kind": "leakage", "message": "2 test rows also stand in train."}],
        },
        "labels": LABELS,
        "metrics": evaluation.metrics,
        "history": HISTORY,
        "errors": evaluation.mistakes,
        "speed": {"rows_per_second": 231.4, "seconds": 57.2, "device": "cpu"},
        "proof": {"passed": True, "checks": [{"name": "transformers", "largest_difference": 1e-7}]},
        "next": [("warmstart predict runs/tickets 'hello'", "Ask it.")],
        "versions": {"torch": "2.13.0"},
    }
