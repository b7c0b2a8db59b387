"""A small evaluation, made once: three classes told apart by their words, some of them noisy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.evaluation.evaluate import Evaluation, evaluate
from warmstart.evaluation.settings import Evaluate
from warmstart.tasks.base import Examples
from warmstart.tasks.classification import Classification

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


def examples_of(y: np.ndarray, words: list[str]) -> Examples:
    """A split of these classes and texts."""
    table = pa.table(
        {
            "text": pa.chunked_array([words]),
            "label": [LABELS[c] for c in y],
            "_file": ["tickets.csv"] * len(y),
            "_line": list(range(2, len(y) + 2)),
        }
    )
    store = TokenizedDataset(np.zeros(len(y), np.uint16), np.arange(len(y) + 1), np.asarray(y))
    return Examples(table, store, LABELS, None)


def answered(rows: int, rng: np.random.Generator, sharp: float = 3.0) -> tuple[Any, Examples]:
    """Logits that are mostly right and too sure, and the rows."""
    y = rng.integers(0, 3, rows)
    logits = rng.normal(0, 1, (rows, 3)).astype(np.float32)
    logits[np.arange(rows), y] += 1.6
    return logits * np.float32(sharp), examples_of(y, texts(y, rng))


@pytest.fixture(scope="session")
def rows() -> dict[str, Any]:
    """What `evaluate` takes."""
    rng = np.random.default_rng(0)
    train_y = rng.integers(0, 3, 300)
    (test, test_rows), (validation, validation_rows) = answered(400, rng), answered(200, rng)
    train = examples_of(train_y, texts(train_y, rng))
    examples = {"train": train, "validation": validation_rows, "test": test_rows}
    outputs = {"validation": validation, "test": test}
    return {
        "task": Classification(), "outputs": outputs, "examples": examples, "history": HISTORY,
    }  # fmt: skip


@pytest.fixture(scope="session")
def evaluation(rows: dict[str, Any]) -> Evaluation:
    return evaluate(Evaluate(bootstrap=200), **rows, seed=1)


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
        "mistakes": evaluation.mistakes,
        "speed": {"rows_per_second": 231.4, "seconds": 57.2, "device": "cpu"},
        "proof": {"passed": True, "checks": [{"name": "transformers", "largest_difference": 1e-7}]},
        "next": [("warmstart predict runs/tickets 'hello'", "Ask it.")],
        "versions": {"torch": "2.13.0"},
    }
