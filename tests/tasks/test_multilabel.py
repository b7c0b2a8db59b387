"""Any number of labels a text: how they are read, learned, cut, answered and judged."""

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
from sklearn.metrics import f1_score, log_loss

import warmstart
from learning import loss_of, supervised
from tiny import tiny
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError, RecipeError
from warmstart.metrics.base import sigmoid
from warmstart.models.heads import LABELS
from warmstart.run import Run
from warmstart.tasks.base import Examples
from warmstart.tasks.multilabel.labels import guess_separator, parsed, separator_for
from warmstart.tasks.multilabel.task import Multilabel

WORDS = ("red", "blue", "good")
FILLERS = "the a is was not very it this that again money back late early".split()


def table_of(rows: Any, **settings: Any) -> pa.Table:
    task = Multilabel(**settings)
    raw = read(rows, ledger=Ledger(), name="a.csv")
    found = map_roles(raw, task.roles, {}, set(task.roles), task.nested)
    return task.rows(found, lambda row, reason: pytest.fail(reason))


def sets_of(rows: Any, **settings: Any) -> list[list[str]]:
    return [json.loads(cell) for cell in table_of(rows, **settings)["labels"].to_pylist()]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([["joy", "love"], [], None], [["joy", "love"], [], []]),
        ([[3, 4], [3], [3]], [["3", "4"], ["3"], ["3"]]),
        (['["joy", "a,b"]', "[]", ""], [["joy", "a,b"], [], []]),
        (["['joy', 'love']", "['joy']", None], [["joy", "love"], ["joy"], []]),
        (["joy, love", "joy,joy", " "], [["joy", "love"], ["joy"], []]),
        (["joy|love", "joy", "|"], [["joy", "love"], ["joy"], []]),
        (["food, drink;travel", "travel", "food, drink"],
         [["food, drink", "travel"], ["travel"], ["food, drink"]]),
        (["joy", "love", "joy"], [["joy"], ["love"], ["joy"]]),
        ([1, 2, 1], [["1"], ["2"], ["1"]]),
    ],
)  # fmt: skip
def test_cells(cells: list[Any], expected: list[list[str]]) -> None:
    table = pa.table({"text": ["a", "b", "c"], "labels": pa.array(cells)})
    assert sets_of(table) == expected


def test_a_separator_that_is_named_is_taken() -> None:
    table = pa.table({"text": ["a", "b"], "labels": ["x;y,z", "q"]})
    assert sets_of(table, separator=";") == [["x", "y,z"], ["q"]]
    assert sets_of(table, separator="") == [["x;y,z"], ["q"]]


def test_what_stands_between_labels_is_found() -> None:
    assert guess_separator(["a,b", "b", "a,c"]) == ","
    assert guess_separator(["a, b|c", "c", "a, b"]) == "|"
    assert guess_separator(["a", "b"]) == "" == guess_separator([])
    assert separator_for(["a,b", "c"]) == ";"
    classes = ["Food, Drink & Tobacco", "Home, Garden", "Toys", "Health"]
    assert guess_separator(classes * 5) == "", "names of classes, not lists of labels"
    assert guess_separator([f"{name};Toys" for name in classes] + classes * 5) == ";"


@pytest.mark.parametrize(
    ("cell", "words"),
    [("[joy", "begin as a list and are none"), ({"joy": 1}, "is an object"), ([["a"]], "no name")],
)
def test_cells_that_cannot_be_read(cell: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(cell, ",")
    rows = [{"text": "a", "labels": [["joy"]]}] if isinstance(cell, list) else None
    table = rows or pa.table({"text": ["a", "b"], "labels": pa.array([None, cell])})
    with pytest.raises(DataError, match=r"a\.csv:[12]: "):
        table_of(table)


def test_columns_of_0_and_1() -> None:
    rows = {"text": ["a", "b", "c"], "Toxic": [1, 0, 0], "rude, or so": ["yes", "2", ""]}
    names = ("Toxic", "rude, or so")
    table = pa.table({**rows, "rude, or so": ["yes", "1.0", ""]})
    assert sets_of(table, label_columns=names) == [list(names), ["rude, or so"], []]
    with pytest.raises(DataError, match=r"a\.csv:2: column 'rude, or so' holds '2', and"):
        table_of(pa.table(rows), label_columns=names)
    said = r"no column 'toxicc'; .* Did you mean 'Toxic'\? .* or mend --task.label_columns"
    with pytest.raises(DataError, match=said):
        table_of(table, label_columns=("toxicc",))
    flags = pa.table({"text": ["a", "b"], "x": [True, False], "y": [0.0, 1.0]})
    assert sets_of(flags, label_columns=("x", "y")) == [["x"], ["y"]]


def test_what_train_may_not_be() -> None:
    task = Multilabel()
    with pytest.raises(DataError, match="no row of train has a label"):
        task.fit_labels(table_of(pa.table({"text": ["a"], "labels": [""]})))
    torn = table_of(pa.table({"text": ["a", "b"], "labels": ["Joy,x", "joy"]}))
    with pytest.raises(DataError, match=r"'Joy', first at a.csv:1, and 'joy', first at a.csv:2"):
        task.fit_labels(torn)
    known = table_of(pa.table({"text": ["a"], "labels": ["joy"]}))
    with pytest.raises(RecipeError, match="no label 'jo'. Did you mean 'joy'"):
        Multilabel(thresholds={"jo": 0.5}).fit_labels(known)


def examples_of(labels: list[str], sets: list[list[str]]) -> Examples:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.multilabel.labels import label_targets

    table = table_of([{"text": f"t{i}", "labels": names} for i, names in enumerate(sets)])
    found: Any = label_targets(table, labels)
    ids = np.zeros(len(sets), np.uint16)
    return Examples(table, TokenizedDataset(ids, np.arange(len(sets) + 1), found), labels, None)


def test_answers_and_columns() -> None:
    task = Multilabel(thresholds={"blue": 0.2, "good": 0.9})
    examples = examples_of(["blue", "good", "red"], [["red"], ["red"], ["red"]])
    odds = np.array([[-1.0, 2.0, 3.0], [-3.0, 2.0, -1.0], [-1.0, 5.0, 0.1]], np.float32)
    answers = task.decode(odds, examples)
    assert [answer.value for answer in answers] == [["red", "blue"], [], ["good", "red", "blue"]]
    p = 1 / (1 + np.exp(-odds.astype(float)))
    assert answers[0].confidence == pytest.approx(p[0, 0])
    assert answers[1].confidence == pytest.approx(1 - p[1, 1])
    assert list(answers[0].scores.values()) == pytest.approx(p[0])
    columns = {name: column.to_pylist() for name, column in task.columns(answers).items()}
    assert columns["prediction"] == ["red,blue", "", "good,red,blue"]
    assert json.loads(columns["probabilities"][0]) == {
        "red": round(p[0, 2], 6),
        "blue": round(p[0, 0], 6),
    }
    again = pa.table({"text": ["a"] * 3, "labels": columns["prediction"]})
    assert [set(names) for names in sets_of(again)] == [set(a.value) for a in answers]
    assert task.columns([])["prediction"].to_pylist() == []


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((80, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.int64)
    odds = (rng.normal(size=(80, 4)) + 2 * targets - 1).astype(np.float32)
    labels = ["a", "b", "c", "d"]
    sets = [[label for label, has in zip(labels, row, strict=True) if has] for row in targets]
    task, examples = Multilabel(threshold=0.4), examples_of(labels, sets)
    assert np.array_equal(examples.store.targets, targets)
    found = task.score(odds, examples)
    given = sigmoid(odds) >= 0.4
    assert found["f1_macro"] == pytest.approx(f1_score(targets, given, average="macro"))
    assert found["f1_micro"] == pytest.approx(f1_score(targets, given, average="micro"))
    nll = [log_loss(targets[:, i], sigmoid(odds)[:, i], labels=[0, 1]) for i in range(4)]
    total, weight = loss_of(supervised(LABELS), torch.from_numpy(odds), torch.from_numpy(targets))
    assert float(total / weight) == pytest.approx(np.mean(nll))
    tuned = Multilabel().fit_thresholds({"validation": odds}, {"validation": examples})
    assert list(tuned.thresholds or {}) == labels
    assert Multilabel().score(odds, examples)["f1_macro"] >= found["f1_macro"] - 0.02
    assert task.fit_thresholds({"validation": odds}, {"validation": examples}) is task
    assert Multilabel().fit_thresholds({}, {}).thresholds is None


def test_labels_that_train_never_had() -> None:
    labels = ["a", "b"]
    examples = examples_of(labels, [["a", "zzz"], ["b"], []])
    assert examples.store.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    odds = np.array([[9.0, -9], [-9, 9], [-9, -9]], np.float32)
    result = Multilabel(threshold=0.5).evaluate({"test": odds}, {"test": examples})
    assert result.measure.total(result.statistics)["f1_macro"] == 1.0
    assert any("without any row in train" in note and "zzz" in note for note in result.notes)
    assert any("1 of 3 test rows without a label" in note for note in result.notes)
    assert [one["note"] for one in result.mistakes] == ["missed: zzz"]
    with pytest.raises(DataError, match=r"\[data\]|:1: the model does not know the label 'zz'"):
        examples_of(labels, [["zz"], ["q"]])


def rows_of(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng, found = random.Random(seed), list[Any]()
    for _ in range(n):
        words = rng.choices([*FILLERS, *WORDS], k=rng.randint(5, 14))
        found.append({"text": " ".join(words), "labels": [w for w in WORDS if w in words]})
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("multilabel")
    return warmstart.tune(
        rows_of(160),
        base=str(tiny("bert", folder / "base")),
        out=str(folder / "run"),
        task="multilabel",
        **{"train.epochs": 30, "train.learning_rate": 3e-3, "evaluate.bootstrap": 100},
    )


def test_a_run(run: Run) -> None:
    metrics, note = run.metrics, json.loads((run.model / "warmstart.json").read_text())
    assert metrics["main"] == "f1_macro" and metrics["f1_macro"]["value"] > 0.6
    assert {one["name"] for one in metrics["baselines"]} == {"frequent", "tfidf"}
    assert {one["label"] for one in metrics["per_class"]} == set(WORDS)
    assert note["task"]["thresholds"] == metrics["thresholds"]
    assert set(metrics["thresholds"]) == set(WORDS)
    assert "labels a row in train" in (run.path / "ledger.json").read_text()
    assert run.proof["passed"] and "Thresholds" in run.report.read_text()
    assert "thresholds" not in (run.path / "recipe.toml").read_text()


def test_answers_are_those_of_transformers(run: Run) -> None:
    """The pipeline gives the same probabilities, and predict gives those beyond the thresholds."""
    from transformers import pipeline

    texts = [row["text"] for row in rows_of(6, seed=9)]
    pipe: Any = pipeline("text-classification", str(run.model), top_k=None, device="cpu")
    cuts = run.metrics["thresholds"]
    for answer, found in zip(run.predict(texts), pipe(texts), strict=True):
        theirs = {one["label"]: one["score"] for one in found}
        assert answer.scores == pytest.approx(theirs, abs=1e-5)
        assert set(answer.value) == {label for label, p in theirs.items() if p >= cuts[label]}


def test_evaluate_gives_the_same_again(run: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(run.path / "predictions.parquet")
    rows = [{"text": r["text"], "labels": r["label"]} for r in table.to_pylist()]
    found = warmstart.evaluate(run.path, rows)
    assert found["f1_macro"]["value"] == pytest.approx(run.metrics["f1_macro"]["value"])
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": r["text"]}) for r in rows))
    warmstart.predict(run.path, tmp_path / "a.jsonl", out=tmp_path / "b.csv")
    head = (tmp_path / "b.csv").read_text().splitlines()[0]
    assert head == "text,prediction,confidence,probabilities"


Folder = Callable[[str], Path]


def test_the_head_begins_with_the_shares_of_train(tiny_of: Folder) -> None:
    import torch

    from learning import base_of

    table = table_of([{"text": f"t{i}", "labels": ["a"] if i else ["a", "b"]} for i in range(8)])
    task = Multilabel().resolve_for_data(table)
    model: Any = task.build_model(base_of(tiny_of("bert")), ["a", "b"], 0)
    expected = torch.tensor([9 / 10, 2 / 10])
    torch.testing.assert_close(torch.sigmoid(model.classifier.bias.detach()), expected)
    assert task.to_metadata() == Multilabel().to_metadata()


def test_an_adapter_and_no_validation(tiny_of: Folder, tmp_path: Path) -> None:
    run = warmstart.tune(
        rows_of(60), base=str(tiny_of("roberta")), out=str(tmp_path / "run"), task="multilabel",
        method="lora", **{"train.epochs": 1, "evaluate.bootstrap": 100,
                          "data.validation_fraction": 0.0},
    )  # fmt: skip
    assert set(run.metrics["thresholds"].values()) == {0.5}
    assert any("no validation rows" in note for note in run.metrics["notes"])
    assert run.predict(["red"])[0].scores.keys() == set(WORDS)


def test_it_takes_more_passes_than_single_labels(tmp_path: Path) -> None:
    import warmstart

    path = tmp_path / "notes.jsonl"
    words = "parcel late rude kind wrong box gone paid".split()
    rows = [{"text": f"note {i} {words[i % 8]} {words[i // 8 % 8]}", "labels": [words[i % 8]]}
            for i in range(900)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = {"data.similarity": 0, "data.max_dropped": 1.0}
    plan = warmstart.plan(str(path), task="multilabel", **keys)
    assert plan["recipe"].train.epochs == 8


VECTORS: list[tuple[Any, ...]] = [
    ("[0, 1, 0]", "[1, 1, 0]"),
    ("[0 1 0]", "[1 1 0]"),
    ("0,1,0", "1,1,0"),
    ([0, 1, 0], [1, 1, 0]),
    ([0.0, 1.0, 0.0], [1.0, 1.0, 0.0]),
    ([False, True, False], [True, True, False]),
    ("[0, 1, 0]", "[1, 1]"),
    ([0, 1], [1, 0]),
]


@pytest.mark.parametrize("cells", VECTORS)
def test_vectors_of_0_and_1_have_no_names(cells: tuple[Any, ...]) -> None:
    rows = [{"text": f"a text {i}", "labels": cell} for i, cell in enumerate(cells)]
    with pytest.raises(DataError, match=r"vectors of 0 and 1.*name them in order: --task\.names"):
        table_of(rows)


@pytest.mark.parametrize("cells", VECTORS[:6])
def test_vectors_are_taken_with_names(cells: tuple[Any, ...]) -> None:
    rows = [{"text": f"a text {i}", "labels": cell} for i, cell in enumerate(cells)]
    names = ("red", "blue", "good")
    assert sets_of(rows, names=names) == [["blue"], ["red", "blue"]]
    with pytest.raises(DataError, match="vector of 3 labels, and task.names has 2"):
        sets_of(rows, names=names[:2])


def test_labels_called_0_and_1_are_no_vectors() -> None:
    rows = [{"text": f"a text {i}", "labels": labels} for i, labels in enumerate("1 0 0,1".split())]
    assert sets_of(rows) == [["1"], ["0"], ["0", "1"]]


@pytest.mark.parametrize(
    "cell", ["{'red', 'blue'}", "('red', 'blue')", "['red' 'blue']", "['red', 'blue']",
             "array(['red', 'blue'], dtype=object)", "red,blue"],
)  # fmt: skip
def test_labels_as_python_and_numpy_print_them(cell: str) -> None:
    rows = [{"text": "a text", "labels": cell}, {"text": "another", "labels": "red"}]
    assert sets_of(rows) == [["red", "blue"], ["red"]]


def test_a_name_in_brackets_is_a_name() -> None:
    rows = [{"text": f"a text {i}", "labels": cell} for i, cell in enumerate(["(other)", "red"])]
    assert sets_of(rows) == [["(other)"], ["red"]]
