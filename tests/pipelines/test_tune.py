"""From a file to a finished run, with the parts as they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import warmstart
from learning import LABELS, messages, write_messages
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, RunError
from warmstart.pipelines.prepare import prepare
from warmstart.run import Run

Folder = Callable[[str], Path]
QUICK: dict[str, Any] = {
    "train.epochs": 2,
    "train.batch_size": 8,
    "evaluate.baselines": False,
    "evaluate.bootstrap": 100,
}


def tuned(data: Any, base: Path, out: Path, **keys: Any) -> Run:
    return warmstart.tune(data, base=str(base), out=str(out), **{**QUICK, **keys})


FOLDER = {
    "recipe.toml", "run.json", "model", "metrics.json", "predictions.parquet", "ledger.json",
    "proof.json", "log.jsonl", "trainer_state.json", "report.html",
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "full"), ("distilbert", "lora"), ("roberta", "frozen"), ("gpt2", "full"),
     ("llama", "lora"), ("t5", "frozen"), ("xlnet", "full"), ("bart", "lora"),
     ("modernbert", "frozen"), ("electra", "full")],
)  # fmt: skip
def test_a_whole_run(family: str, method: str, data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    run = tuned(data, tiny_of(family), tmp_path / "run", method=method)
    assert run.status == "done"
    assert {path.name for path in run.path.iterdir()} - {"ledger.parquet"} == FOLDER
    assert run.labels == sorted(LABELS)
    assert run.proof["passed"] and run.proof["max_probability_difference"] < 1e-4
    texts = ["a very good film", "an awful song", ""]
    answers = run.predict(texts)
    assert [a.id for a in answers] == ["0", "1", "2"]
    assert all(a.value in LABELS and 1 / 3 <= a.confidence <= 1 for a in answers)


def test_the_same_seed_the_same_bytes(data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        run = tuned(data, tiny_of("bert"), tmp_path / name, seed=seed)
        return (run.model / "model.safetensors").read_bytes()

    assert weights("a", 5) == weights("b", 5) != weights("c", 6)


def test_the_written_recipe_repeats_the_run(data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    run = tuned(data, tiny_of("bert"), tmp_path / "a", method="lora")
    again = warmstart.tune(recipe=run.path / "recipe.toml", out=str(tmp_path / "b"))
    ours, theirs = (r.model / "adapter_model.safetensors" for r in (run, again))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_active_vocabulary_changes_no_result(
    data: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    found = [
        load_file(
            tuned(
                data, tiny_of("bert"), tmp_path / str(active),
                **{"train.active_vocabulary": active, "train.precision": "fp32",
                   "train.max_grad_norm": 0.0},
            ).model
            / "model.safetensors"
        )
        for active in (True, False)
    ]  # fmt: skip
    assert found[0].keys() == found[1].keys()
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


def test_no_base_row_is_lost(data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    """Words that the data do not hold keep their vectors and their ids."""
    before = load_file(tiny_of("bert") / "model.safetensors")
    run = tuned(data, tiny_of("bert"), tmp_path / "run")
    after = load_file(run.model / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    old, new = before[name], after[f"bert.{name}"]
    same = (old == new).all(1)
    words = json.loads((run.model / "tokenizer.json").read_text())["model"]["vocab"]
    assert old.shape == new.shape
    assert same[words["movie"]] and same[words["service"]]
    assert not same[words["good"]] and not same[words["<s>"]]


def unequal(path: Path) -> Path:
    """60 bad, 30 good and 15 plain messages."""
    texts, labels = messages(180, seed=3)
    room = {"bad": 60, "good": 30, "plain": 15}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for text, label in zip(texts, labels, strict=True):
            if room[label]:
                room[label] -= 1
                writer.writerow([text, label])
    return path


@pytest.mark.parametrize("sampling", ["none", "over", "under"])
def test_sampling_never_touches_what_judges(sampling: str, tiny_of: Folder, tmp_path: Path) -> None:
    source = unequal(tmp_path / "unequal.csv")
    keys = {"data.path": str(source), "base": str(tiny_of("bert"))}
    plain = prepare(Recipe.of(keys))
    found = prepare(Recipe.of(keys, {"data.sampling": sampling}))
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(found.splits, name), getattr(plain.splits, name)
        assert ours.column("text").to_pylist() == theirs.column("text").to_pylist()
        assert (found.stores[name].targets == plain.stores[name].targets).all()
    before = np.bincount(plain.stores["train"].targets)
    counts = np.bincount(found.stores["train"].targets[found.rows])
    size = {"none": before, "over": [before.max()] * 3, "under": [before.min()] * 3}[sampling]
    assert counts.tolist() == list(size)
    assert found.rows.min() >= 0 and found.rows.max() < len(found.stores["train"])


@pytest.mark.parametrize("sampling", ["over", "under"])
def test_sampling_in_a_run(sampling: str, tiny_of: Folder, tmp_path: Path) -> None:
    source = unequal(tmp_path / "unequal.csv")
    plain = tuned(source, tiny_of("bert"), tmp_path / "plain", method="frozen")
    run = tuned(
        source, tiny_of("bert"), tmp_path / "run", method="frozen",
        **{"data.sampling": sampling, "objective.class_weights": "balanced"},
    )  # fmt: skip
    for name in ("validation_rows", "rows"):
        assert run.metrics[name] == plain.metrics[name]
    trained, others = (r.facts["speed"]["rows"] for r in (run, plain))
    assert (trained > others) == (sampling == "over")
    (note,) = [one for one in run.ledger["notes"] if one["kind"] == "sampling"]
    assert note["used"] * 2 == trained and note["message"] in run.report.read_text("utf-8")


@pytest.mark.parametrize("method", ["frozen", "full"])
def test_tokens_are_counted_only_where_they_are_computed(
    method: str, data: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    run = tuned(data, tiny_of("bert"), tmp_path / "run", method=method)
    speed = run.facts["speed"]
    log = (run.path / "log.jsonl").read_text("utf-8").splitlines()
    steps = [line for line in map(json.loads, log) if "loss" in line]
    if method == "frozen":
        assert "tokens_per_second" not in speed and "computed once" in speed["tokens"]
        assert not any("tokens" in line for line in steps)
        assert speed["tokens"] in run.report.read_text("utf-8")
    else:
        train = run.ledger["tokens"]["train"]["kept"]
        assert sum(line["tokens"] for line in steps) == 2 * train
        assert speed["tokens_per_second"] > 0 and "tokens" not in speed


def test_class_weights_reach_the_loss(tiny_of: Folder, tmp_path: Path) -> None:
    """A head that sees no text leans towards the frequent class, unless classes count alike."""
    source = unequal(tmp_path / "unequal.csv")
    shares = []
    for how in ("none", "balanced"):
        run = tuned(
            source, tiny_of("bert"), tmp_path / how, method="frozen",
            **{"objective.class_weights": how, "train.epochs": 30, "train.learning_rate": 1e-2,
               "method.dropout": 0.0, "train.patience": 30},
        )  # fmt: skip
        shares.append(run.predict(["the a is was"])[0].scores["bad"])
    assert shares[0] > shares[1] + 0.05


def test_refused_before_anything_is_written(data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RecipeError, match="muon"):
        tuned(data, tiny_of("bert"), out, method="frozen", **{"train.optimizer": "muon"})
    with pytest.raises(RecipeError):
        tuned(data, tiny_of("bert"), out, **{"train.learning_rat": 1})
    with pytest.raises(RecipeError, match="max_length"):
        tuned(data, tiny_of("bert"), out, **{"task.max_length": 2})
    assert not out.exists()


def test_a_folder_that_is_taken(data: Path, tiny_of: Folder, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    with pytest.raises(RunError, match="not empty"):
        tuned(data, tiny_of("bert"), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_long_texts_are_cut_and_told(tiny_of: Folder, tmp_path: Path) -> None:
    """A model of 64 positions, a text of 500 words."""
    source = write_messages(tmp_path / "long.csv", 60)
    with source.open("a", newline="") as file:
        csv.writer(file).writerow(["bad " * 500, "bad"])
    run = tuned(source, tiny_of("roberta"), tmp_path / "run", **{"task.max_length": 5000})
    task: Any = run.recipe.task
    assert task.max_length == 64
    assert "500" in json.dumps(run.ledger) or "438" in json.dumps(run.ledger)
    assert run.predict(["bad " * 500])[0].value in LABELS


@pytest.mark.slow
def test_the_sample_is_learned(tmp_path: Path) -> None:
    """The sample tickets and the embedded MiniLM, one epoch: clearly better than guessing."""
    from warmstart.api import SAMPLES

    run = warmstart.tune(
        SAMPLES / "tickets.csv", out=str(tmp_path / "run"),
        **{"train.epochs": 1, "train.learning_rate": 3e-4, "evaluate.baselines": False,
           "evaluate.bootstrap": 100},
    )  # fmt: skip
    assert run.proof["passed"]
    assert run.metrics["accuracy"]["value"] > 0.5
    assert len(run.labels) == 8


@pytest.mark.parametrize(("classes", "epochs"), [(4, 4), (40, 9), (90, 12)])
def test_many_classes_take_more_passes(classes: int, epochs: int, tmp_path: Path):
    """60 steps a class, between 4 and 12 passes over rows that make 270 steps."""
    path = tmp_path / "many.csv"
    rows = [f"text number {i},label {i % classes}" for i in range(6171)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    plan = warmstart.plan(path, **{"data.similarity": 0})
    assert plan["recipe"].train.epochs == epochs


@pytest.mark.parametrize("method", ["full", "frozen", "lora"])
def test_without_validation_rows_the_last_epoch_is_kept(
    method: str, tiny_of: Folder, data: Path, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {
        "data.validation_fraction": 0, "train.epochs": 3, "train.patience": 1, "method": method,
    }  # fmt: skip
    run = tuned(data, tiny_of("bert"), tmp_path / "run", **keys)
    assert [row["epoch"] for row in run.facts["history"]] == [1, 2, 3]
    assert run.facts["kept_epoch"] == 3 and run.proof["passed"]
    assert "validation_score" not in run.facts["history"][0]
    assert "Training" in run.report.read_text(encoding="utf-8")


def test_there_are_always_rows_to_test_on(tiny_of: Folder, data: Path, tmp_path: Path) -> None:
    with pytest.raises(warmstart.DataError, match=r"no rows to test on.*--data\.test FILE"):
        tuned(data, tiny_of("bert"), tmp_path / "run", **{"data.test_fraction": 0})
    assert not (tmp_path / "run").exists()
