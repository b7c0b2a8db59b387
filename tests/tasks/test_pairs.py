"""One label for two texts: from a file to a model that transformers loads, and back."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import warmstart
from tiny import tiny
from warmstart.errors import RecipeError, WarmstartError
from warmstart.run import Run
from warmstart.tasks.pairs import Pairs

Folder = Callable[[str], Path]
WORDS = "film movie song book service food money film late early".split()


def rows_of(n: int, seed: int = 0) -> list[dict[str, str]]:
    """Whether the second text is praise."""
    rng = random.Random(seed)
    found: list[dict[str, str]] = []
    for i in range(n):
        label = ("yes", "no")[i % 2]
        second = rng.choice(["good", "great"] if label == "yes" else ["bad", "awful"])
        first = " ".join(rng.choices(WORDS, k=rng.randint(2, 9)))
        found.append({"premise": first, "hypothesis": f"{second} {i % 7}", "label": label})
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pairs")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["premise", "hypothesis", "label"])
        writer.writeheader()
        writer.writerows(rows_of(120))
    return warmstart.tune(
        folder / "pairs.csv", base=str(tiny("bert", folder / "base")), out=str(folder / "run"),
        task="pairs", **{"train.epochs": 10, "train.learning_rate": 2e-3, "task.max_length": 10,
                         "evaluate.bootstrap": 100},
    )  # fmt: skip


def test_a_run(run: Run) -> None:
    assert run.metrics["f1_macro"]["value"] > 0.9 and run.proof["passed"]
    table = pq.read_table(run.path / "predictions.parquet")
    assert all(" | " in text for text in table["text"].to_pylist())
    ledger = json.loads((run.path / "ledger.json").read_text())
    assert ledger["tokens"]["train"]["cut"] > 0
    assert Pairs().texts == ("sentence1", "sentence2")


def test_the_same_as_transformers(run: Run) -> None:
    """Two texts go to the pipeline as text and text_pair."""
    from transformers import pipeline

    pipe: Any = pipeline("text-classification", str(run.model), top_k=None, device="cpu")
    rows = [(row["premise"], row["hypothesis"]) for row in rows_of(6, seed=3)]
    for (one, two), answer in zip(rows, run.predict(rows), strict=True):
        found = pipe({"text": one, "text_pair": two}, truncation=True, max_length=10)
        theirs = {entry["label"]: entry["score"] for entry in found}
        assert answer.scores == pytest.approx(theirs, abs=1e-5)


def test_ways_to_ask(run: Run, tmp_path: Path) -> None:
    asked = {"sentence1": "the film", "sentence2": "bad"}
    answers = [run.predict([row])[0] for row in (asked, tuple(asked.values()))]
    answers += warmstart.predict(run.path, [json.dumps(asked)])
    assert {a.value for a in answers} == {"no"}
    assert len({round(a.confidence, 6) for a in answers}) == 1
    with pytest.raises(RecipeError, match="one text, and this model is asked with sentence1 and"):
        warmstart.predict(run.path, ["the film"])
    with pytest.raises(WarmstartError, match="row 1: this model is asked with sentence1 and"):
        run.predict(["the film"])
    with pytest.raises(WarmstartError, match="has no sentence2"):
        run.predict([{"sentence1": "the film"}])
    (tmp_path / "a.csv").write_text("premise,hypothesis,more\nthe film,bad,1\nthe food,great,2\n")
    warmstart.predict(run.path, tmp_path / "a.csv", out=tmp_path / "b.csv")
    with (tmp_path / "b.csv").open(encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["no", "yes"]


def test_evaluate_on_other_rows(run: Run) -> None:
    found = warmstart.evaluate(run.path, rows_of(30, seed=4))
    assert found["accuracy"]["value"] > 0.9
    with pytest.raises(WarmstartError, match="does not know the label 'maybe'"):
        warmstart.evaluate(run.path, [{**rows_of(1)[0], "label": "maybe"}])


@pytest.mark.parametrize(("family", "method"), [("gpt2", "full"), ("xlnet", "lora")])
def test_other_families(family: str, method: str, tiny_of: Folder, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train.epochs": 1, "evaluate.bootstrap": 100, "method": method}
    keys |= {"base": str(tiny_of(family)), "out": str(tmp_path / "run")}
    run = warmstart.tune(rows_of(60), task="pairs", **keys)
    assert run.proof["passed"]
    assert run.predict([("the film", "good")])[0].value in ("yes", "no")
