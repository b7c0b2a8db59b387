"""A number for a text or for two: how it is read, learned in a unit of its own, and given back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import mean_squared_error, r2_score

import warmstart
from tiny import tiny
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError
from warmstart.run import Run
from warmstart.tasks.regression import Regression

Folder = Callable[[str], Path]
FILLERS = "the a is was not very it this that again money back late early".split()
QUICK: dict[str, Any] = {"evaluate.bootstrap": 100, "train.epochs": 1}


def table_of(rows: Any, lost: list[Any] | None = None, **settings: Any) -> pa.Table:
    task = Regression(**settings)
    raw = read(rows, ledger=Ledger(), name="a.csv")
    found = map_roles(raw, task.roles, {}, task.required or (), task.nested)
    return task.rows(found, lambda row, reason: (lost or []).append((row, reason)))


def test_scores_are_numbers() -> None:
    lost: list[Any] = [None]
    rows = {"text": ["a", "b", "c", "d"], "score": ["1", " 2.5 ", "", "-3e2"]}
    table = table_of(pa.table(rows), lost)
    assert lost == [None, (2, "empty score")]
    assert table["text"].to_pylist() == ["a", "b", "d"]
    table = table_of(pa.table({"text": ["a", "b"], "price": [3, 4.5]}))
    assert Regression().resolve_for_data(table) == Regression(pairs=False, mean=3.75, spread=0.75)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1", "3,5"], r"a.csv:2: the score '3,5' is no number; write 3.5, not 3,5; mend it"),
        (["high", "low"], r"a.csv:1: the score 'high' is no number \(2 rows have no number"),
        (["1", "inf"], "a.csv:2: the score 'inf'"),
        (["1_0", "2"], "a.csv:1: the score '1_0'"),
    ],
)
def test_scores_that_are_none(cells: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        table_of(pa.table({"text": ["a", "b"], "score": cells}))


def test_one_text_or_two() -> None:
    two = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": ["1", "2"]}
    table = table_of(pa.table({**two, "title": ["x", "y"]}))
    assert table["text"].to_pylist() == ["a | c", "b | d"]
    task = Regression().resolve_for_data(table)
    assert task.inputs == ("sentence1", "sentence2")
    assert Regression().resolve_for_data(
        table_of(pa.table({**two, "text": ["x", "y"]}), pairs=False)
    ) == (Regression(pairs=False, mean=1.5, spread=0.5))
    with pytest.raises(DataError, match=r"no column for sentence2; name it with --data\.columns"):
        table_of(pa.table({"sentence1": ["a"], "score": ["1"]}))
    with pytest.raises(DataError, match="no column for text, nor for sentence1 and sentence2"):
        table_of(pa.table({"words": ["a"], "score": ["1"]}))
    single = table_of(pa.table({"text": ["a"], "score": ["1"]}))
    with pytest.raises(DataError, match="has one text a row, and the training rows have two"):
        task.encode(single, ["score"], None, 64)


def test_nothing_to_learn() -> None:
    table = table_of(pa.table({"text": ["a", "b"], "score": ["2", "2.0"]}))
    with pytest.raises(DataError, match="every row has the score 2, so"):
        Regression().resolve_for_data(table)


def rows_of(n: int, seed: int = 0, pairs: bool = False) -> list[dict[str, Any]]:
    """How good a text is, from 100 up; or how many words of one are in the other."""
    rng, found = random.Random(seed), list[Any]()
    for _ in range(n):
        good = rng.randint(0, 4)
        words = rng.choices(FILLERS, k=rng.randint(3, 9)) + ["good"] * good
        rng.shuffle(words)
        row: dict[str, Any] = {"text": " ".join(words), "score": 100 + 5 * good}
        if pairs:
            row = {"sentence1": row["text"], "sentence2": rng.choice(FILLERS), **row}
            del row["text"]
        found.append(row)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("regression")
    keys: dict[str, Any] = {
        "train.epochs": 16,
        "train.learning_rate": 3e-3,
        "evaluate.bootstrap": 100,
    }
    base = str(tiny("bert", folder / "base"))
    return warmstart.tune(
        rows_of(160), base=base, out=str(folder / "run"), task="regression", **keys
    )


def test_a_run(run: Run) -> None:
    import pyarrow.parquet as pq

    metrics, table = run.metrics, pq.read_table(run.path / "predictions.parquet")
    correlation: Any = spearmanr
    truth, said = (np.array(table[name]) for name in ("label", "prediction"))
    assert truth.min() >= 100 and 100 < said.mean() < 120
    assert metrics["main"] == "spearman" and metrics["spearman"]["value"] > 0.8
    assert metrics["spearman"]["value"] == pytest.approx(correlation(said, truth).statistic)
    assert metrics["r2"]["value"] == pytest.approx(r2_score(truth, said))
    assert metrics["mse"]["value"] == pytest.approx(mean_squared_error(truth, said))
    assert {one["name"] for one in metrics["baselines"]} == {"mean", "tfidf"}
    mean = metrics["baselines"][0]
    assert mean["spearman"]["value"] == 0 and abs(mean["r2"]["value"]) < 0.2
    page = run.report.read_text()
    assert "Errors by size" in page and metrics["mistakes_lead"] in page
    assert "rows were wrong" not in page
    recipe = (run.path / "recipe.toml").read_text()
    assert "mean = 1" in recipe and "spread = " in recipe and "pairs = false" in recipe
    note = json.loads((run.model / "warmstart.json").read_text())["task"]
    assert note["mean"] is None and note["offset"] == 0.0


def test_a_number_is_shown_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from warmstart.cli.output.answers import predictions

    answers = run.predict(["the good film"])
    predictions([("the good film", answers[0])], as_json=False)
    assert capsys.readouterr().out == f"{answers[0].value}\tthe good film\n"


def test_transformers_answers_in_the_same_unit(run: Run) -> None:
    from transformers import pipeline

    texts = [row["text"] for row in rows_of(5, seed=7)]
    pipe: Any = pipeline("text-classification", str(run.model), device="cpu")
    theirs = [one["score"] for one in pipe(texts)]
    assert [answer.value for answer in run.predict(texts)] == pytest.approx(theirs, rel=1e-5)
    found = warmstart.evaluate(run.path, rows_of(40, seed=8))
    assert found["mae"]["value"] < 6


def test_pairs(tiny_of: Folder, tmp_path: Path) -> None:
    """Asked with tuples, dicts, JSON and files."""
    keys = {**QUICK, "base": str(tiny_of("electra")), "out": str(tmp_path / "run")}
    run = warmstart.tune(rows_of(80, pairs=True), task="regression", **keys)
    assert {one["name"] for one in run.metrics["baselines"]} == {"mean", "tfidf", "cosine"}
    one, two = "the good film", "very good"
    as_tuple = run.predict([(one, two)])[0].value
    as_dict = run.predict([{"sentence1": one, "sentence2": two}])[0].value
    words = json.dumps({"sentence1": one, "sentence2": two})
    as_json = warmstart.predict(run.path, [words])[0].value
    assert as_tuple == pytest.approx(as_dict) == pytest.approx(as_json)
    (tmp_path / "a.csv").write_text(f"sentence1,sentence2\n{one},{two}\n")
    warmstart.predict(run.path, tmp_path / "a.csv", out=tmp_path / "b.csv")
    lines = (tmp_path / "b.csv").read_text().splitlines()
    assert lines[0] == "sentence1,sentence2,prediction"
    assert float(lines[1].split(",")[2]) == pytest.approx(as_tuple, rel=1e-5)


@pytest.mark.parametrize(
    ("family", "method"), [("gpt2", "full"), ("roberta", "lora"), ("distilbert", "frozen")]
)
def test_units_in_other_heads(family: str, method: str, tiny_of: Folder, tmp_path: Path) -> None:
    """A head without a bias leaves the mean to us, and says so."""
    run = warmstart.tune(
        rows_of(80), base=str(tiny_of(family)), out=str(tmp_path / "run"), task="regression",
        method=method, **QUICK,
    )  # fmt: skip
    assert run.proof["passed"]
    assert 100 < np.mean([a.value for a in run.predict(["the good film", "it was late"])]) < 120
    said = [note for note in run.metrics["notes"] if "has no bias" in note]
    assert bool(said) == (family == "gpt2")
    assert warmstart.evaluate(run.path, rows_of(30, seed=5))["mae"]["value"] < 20
