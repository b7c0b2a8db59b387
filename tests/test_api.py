"""warmstart from Python: the same as on the command line, and silent."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import warmstart
from tiny import tiny
from warmstart.api import answers
from warmstart.errors import DataError, RecipeError

ROWS = [
    {"text": f"the {word} {thing} {i}", "label": label}
    for i in range(8)
    for thing in ("film", "book")
    for word, label in (("good", "pos"), ("bad", "neg"))
]
QUICK: dict[str, Any] = {"train.epochs": 1, "train.precision": "fp32", "evaluate.bootstrap": 100}

FP32 = {"precision": "fp32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("bert", tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def csv(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def pandas_frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(ROWS)


def hugging_face() -> Any:
    import datasets

    return datasets.Dataset.from_list(ROWS)


def test_a_file_becomes_a_run(base: Path, here: Path, capfd: pytest.CaptureFixture[str]):
    run = warmstart.tune(csv(here / "tickets.csv"), base=base, **QUICK)
    assert capfd.readouterr() == ("", "")
    assert run.path == Path("runs/tickets-full")
    assert run.status == "done"
    assert run.report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    answers = run.predict(["a good film", ""])
    assert [a.id for a in answers] == ["0", "1"]
    assert {a.value for a in answers} <= {"neg", "pos"}
    assert sum(answers[0].scores.values()) == pytest.approx(1)
    assert run.predict("a good film")[0].value == answers[0].value
    assert run.predict([None])[0].scores == pytest.approx(answers[1].scores)
    for table in (pa.table({"text": ["good"]}), None):
        with pytest.raises(warmstart.RecipeError, match="warmstart.predict"):
            run.predict(table)
    with pytest.raises(warmstart.DataError, match="row 2: text is of type int"):
        run.predict(["good", 7])
    again = warmstart.Run(run.path)
    assert again.predict(["a good film", ""]) == answers
    assert again.recipe.base == str(base)
    assert again.metrics["rows"] == again.facts["rows"]["test"]
    assert warmstart.tune(resume=run.path).metrics == again.metrics, "a run that is done is done"


@pytest.mark.parametrize("make", [pandas_frame, hugging_face, lambda: ROWS])
def test_objects_are_data_too(make: Any, base: Path):
    run = warmstart.tune(make(), base=base, out="out", **QUICK)
    assert run.path == Path("out")
    assert run.ledger["rows"]["read"] == len(ROWS)


def test_every_way_to_say_it_is_the_same(base: Path, here: Path):
    data = csv(here / "d.csv")
    (here / "r.toml").write_text(
        f'base = "{base}"\n[method]\nname = "lora"\nrank = 2\n[train]\nprecision = "fp32"'
    )
    from warmstart.methods.lora import LoRA

    plans = [
        warmstart.plan(
            data, base=base, method="lora", **{"method.rank": 2, "train.precision": "fp32"}
        ),
        warmstart.plan(str(data), base=str(base), method={"name": "lora", "rank": 2}, train=FP32),
        warmstart.plan(data, base=base, method=LoRA(rank=2), train=FP32),
        warmstart.plan(data, recipe="r.toml"),
        warmstart.plan(data, recipe=warmstart.Recipe.from_toml((here / "r.toml").read_text())),
    ]
    assert all(plan == plans[0] for plan in plans)
    assert plans[0]["out"] == "runs/d-lora"


def test_a_plan_says_what_would_be_done_and_writes_nothing(base: Path, here: Path):
    data = csv(here / "d.csv")
    plan = warmstart.plan(data, base=base)
    train, rows = plan["recipe"].train, plan["rows"]
    assert sorted(p.name for p in here.iterdir()) == ["d.csv"]
    assert sum(rows.values()) == len(ROWS)
    assert {k: sum(c[k] for c in plan["counts"].values()) for k in rows} == rows
    assert plan["steps"] == train.epochs * -(-rows["train"] // train.batch_size)
    assert None not in (train.learning_rate, train.batch_size, train.epochs)
    assert train.precision in ("bf16", "fp32")


@pytest.mark.parametrize("batch_tokens", [None, 32])
def test_the_planned_steps_are_the_steps(base: Path, here: Path, batch_tokens: int | None):
    keys = {**QUICK, "base": base, "train.batch_size": 4, "train.batch_tokens": batch_tokens}
    plan = warmstart.plan(ROWS, **keys)
    run = warmstart.tune(ROWS, **keys)
    assert run.facts["history"][-1]["step"] == plan["steps"]


def test_predict_and_evaluate_as_functions(base: Path, here: Path):
    data = csv(here / "d.csv")
    run = warmstart.tune(data, base=base, method="lora", **QUICK)
    notes: list[str] = []
    found = warmstart.predict(run.path, ["good", " ", "good " * 100], notes=notes)
    assert len(found) == 3
    assert "1 text has no text" in notes[0] and "text 2" in notes[0]
    assert "more than 64 tokens" in notes[1] and "text 3" in notes[1]
    assert warmstart.predict(run.path, "good film")[0].id == "0"
    assert len(warmstart.predict(run.path, data)) == len(ROWS)
    assert warmstart.predict(run.path, ROWS, out="o.parquet") == len(ROWS)
    assert warmstart.predict(run.path, []) == []
    assert warmstart.predict(run, "good film") == warmstart.predict(run.path, "good film")
    assert [text for text, _ in answers(run, ["good"])] == ["good"]
    assert warmstart.tune(resume=run).path == run.path
    assert warmstart.plan(resume=run)["out"] == str(run.path)
    importlib.import_module("warmstart.models.heads")  # a folder of a function's name
    metrics = warmstart.evaluate(run, ROWS)
    assert metrics == warmstart.evaluate(str(run.model), ROWS)
    assert metrics["rows"] == len(ROWS)
    assert metrics["f1_macro"]["low"] <= metrics["f1_macro"]["value"]
    with pytest.raises(DataError, match="no file"):
        warmstart.predict(run.path, Path("missing.csv"))


@pytest.mark.parametrize(
    ("verb", "keys", "said"),
    [
        ("predict", {"data.similarity": 0.3}, "data.similarity has no meaning for predict"),
        ("predict", {"data.test": "d.csv"}, r"name the file without it: warmstart predict"),
        ("predict", {"seed": 3}, "'seed' does not apply here"),
        ("evaluate", {"data.sampling": "over"}, "data.sampling has no meaning for evaluate"),
        ("evaluate", {"evaluate": {"baselines": False}}, "evaluate.baselines has no meaning"),
        ("inspect", {"data.sampling": "over"}, "data.sampling has no meaning for inspect"),
        ("inspect", {"train.epochs": 3}, "'train.epochs' does not apply here"),
        ("index", {"data.group": "text"}, "data.group has no meaning for index"),
        ("index", {"data.limt": 3}, r"data\.limit"),
    ],
)
def test_a_key_that_means_nothing_is_refused(verb: str, keys: dict[str, Any], said: str):
    """Before the model and the data are looked at: there are none."""
    places: Any = {"inspect": ["d.csv"]}.get(verb, ["no/run", "d.csv"])
    more: Any = {"out": "x"} if verb == "index" else {}
    ask = warmstart.retrieval.index if verb == "index" else getattr(warmstart, verb)
    with pytest.raises(RecipeError, match=said):
        ask(*places, **more, **keys)


def test_data_are_named_once(base: Path, here: Path):
    path = csv(here / "a.csv")
    for given in (path, ROWS):
        with pytest.raises(RecipeError, match=r"two sources of data, .* and data\.path 'b\.csv'"):
            warmstart.plan(given, base=base, **{"data.path": "b.csv"})
    with pytest.raises(RecipeError, match=r"tickets\.csv' and data\.path 'b\.csv'"):
        warmstart.demo(**{"data.path": "b.csv"})
    assert warmstart.plan(path, base=base, **{"data.path": str(path)})["rows"]


def test_a_run_made_of_an_object_is_resumed_with_it(base: Path, here: Path):
    run = warmstart.tune(ROWS, base=base, out="x", **QUICK)
    run.update(status="stopped")
    with pytest.raises(RecipeError, match="from an object in Python"):
        warmstart.tune(resume="x")
    with pytest.raises(RecipeError, match="leave out seed, the recipe"):
        warmstart.tune(resume="x", recipe="r.toml", seed=3)
    assert warmstart.tune(ROWS, resume="x").status == "done"


def test_the_relative_base_of_an_adapter_is_found_from_anywhere(
    base: Path, here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(base.parent)
    run = warmstart.tune(ROWS, base="base", method="lora", out=here / "x", **QUICK)
    monkeypatch.chdir(here)
    assert len(warmstart.Run("x").predict(["good"])) == 1
    assert run.path == here / "x"
