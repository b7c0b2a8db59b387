"""Distillation of a task against sums made by hand, and in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import warmstart
from warmstart.errors import RecipeError
from warmstart.models.heads import CLASSES, HEADS
from warmstart.objectives.task_distill import TaskDistill, masks_of

LENGTHS = torch.tensor([3, 2])


def objective(head: str, **settings: Any) -> TaskDistill:
    made = TaskDistill(teacher="x", **settings)
    object.__setattr__(made, "_head", HEADS[head])
    made._head = HEADS[head]
    return made


def softmax(logits: Any, axis: int = -1) -> np.ndarray:
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum(axis, keepdims=True)


def test_divergence_of_classes_is_kl_at_a_temperature_times_its_square() -> None:
    ours, theirs = [[2.0, 0.0, -2.0], [0.0, 1.0, 0.0]], [[4.0, 2.0, 0.0], [3.0, 1.0, 0.0]]
    p, q = softmax(np.array(theirs) / 2), softmax(np.array(ours) / 2)
    by_hand = 4 * (p * np.log(p / q)).sum()
    value = objective("classes").divergence(
        torch.tensor(ours), torch.tensor(theirs), torch.tensor([0, 1]), LENGTHS
    )
    assert float(value) == pytest.approx(by_hand, rel=1e-6)
    # on paper: the first row's differ by a constant alone; p = .6285, .2312, .1403 against
    # q = .2741, .4519, .2741: .5217 - .1549 - .0940 = .2728, times 4
    assert by_hand == pytest.approx(4 * 0.2728, abs=1e-3)


def test_divergence_of_labels_is_that_of_coins_and_nothing_between_equals() -> None:
    ours, theirs = np.array([[1.0, -1.0]]), np.array([[3.0, 0.0]])
    p, q = (1 / (1 + np.exp(-x / 2)) for x in (theirs, ours))
    by_hand = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum() / 2
    own = objective("labels")
    value = own.divergence(torch.tensor(ours), torch.tensor(theirs), torch.ones(1, 2), LENGTHS)
    assert float(value) == pytest.approx(by_hand, rel=1e-6)
    same = own.divergence(torch.tensor(ours), torch.tensor(ours), torch.ones(1, 2), LENGTHS)
    assert float(same) == pytest.approx(0, abs=1e-9)


def test_divergence_of_numbers_is_their_squared_distance() -> None:
    value = objective("value").divergence(
        torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.5]]), torch.zeros(2), LENGTHS
    )
    assert float(value) == pytest.approx(4.25)


def test_divergence_of_tokens_counts_those_with_a_label_alone() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 2, 3, 4))
    targets = torch.tensor([[1, -100, 2], [-100, 0, -100]])
    marked = (targets != -100).numpy()
    p, q = softmax(theirs[marked] / 2), softmax(ours[marked] / 2)
    value = objective("tokens").divergence(
        torch.tensor(ours), torch.tensor(theirs), targets, LENGTHS
    )
    assert float(value) == pytest.approx(4 * (p * np.log(p / q)).sum(), rel=1e-6)


def test_divergence_of_spans_is_over_the_tokens_of_a_row_without_padding() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 2, 3, 2))
    by_hand = 0.0
    for row, length in enumerate(LENGTHS.tolist()):
        for end in range(2):
            p, q = (softmax(side[row, :length, end] / 2) for side in (theirs, ours))
            by_hand += 4 * (p * np.log(p / q)).sum() / 2
    targets = torch.tensor([[0, 1], [1, 1]])
    value = objective("span").divergence(torch.tensor(ours), torch.tensor(theirs), targets, LENGTHS)
    assert float(value) == pytest.approx(by_hand, rel=1e-5)
    left = objective("span").divergence(
        torch.tensor(ours), torch.tensor(theirs), torch.full((2, 2), -100), LENGTHS
    )
    assert float(left) == 0.0


def test_angle_is_the_mean_over_the_tokens_of_a_row() -> None:
    ours = torch.tensor(
        [[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 0.0], [9.0, 9.0]]]
    )
    theirs = torch.tensor(
        [[[2.0, 0.0], [0.0, -3.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 5.0], [0, 1.0]]]
    )
    value = objective("classes")._angle(ours, theirs, torch.tensor([0, 1]), LENGTHS)
    assert float(value) == pytest.approx((0 + 2 + 1) / 3 + (0 + 1) / 2)


def test_weights_that_are_zero_are_masked(tiny_of: Callable[[str], Path]) -> None:
    from transformers import AutoModel

    from warmstart.models.surgery.blocks import zero_weights

    model: Any = AutoModel.from_pretrained(tiny_of("bert"))
    assert not masks_of(model)
    masks = masks_of(zero_weights(model, 0.5))
    assert len(masks) == 12 and all(float(mask.mean()) == 0.5 for _, mask in masks)


def test_task_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(RecipeError, match="objective task_distill, as it is set, does not train"):
        warmstart.Recipe.of({"task": "prompts", "objective": "task_distill"})


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny_of: Callable[[str], Path]) -> Any:
    """A teacher, its rows and the tiny base of both."""
    folder = tmp_path_factory.mktemp("taught")
    data = folder / "rows.csv"
    ends = [(n, c) for n in "film book song service food".split() for c in "red blue".split()]
    rows = [f"the {kind} {noun} is {colour},{label}" for noun, colour in 4 * ends
            for kind, label in (("good", "yes"), ("bad", "no"))]  # fmt: skip
    data.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    base = str(tiny_of("bert"))
    keys = {"base": base, "evaluate.baselines": False, "evaluate.bootstrap": 100}
    teacher = warmstart.tune(data, out=folder / "teacher", **keys, **{"train.epochs": 4})
    return SimpleNamespace(data=data, keys=keys, teacher=teacher, folder=folder)


def test_a_run_learns_from_a_teacher(taught: Any) -> None:
    own = {"objective": "task_distill", "objective.teacher": str(taught.teacher.path)}
    run = warmstart.tune(taught.data, out=taught.folder / "student", **taught.keys, **own,
                         **{"train.epochs": 2})  # fmt: skip
    log = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    step = log[0]
    assert {"hard_loss", "soft_loss", "hidden_loss"} <= step.keys()
    total = step["soft_loss"] + 0.5 * step["hard_loss"] + step["hidden_loss"]
    assert step["loss"] == pytest.approx(total, abs=1e-4)
    assert run.facts["history"][-1]["validation_soft_loss"] < step["soft_loss"]


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn(taught: Any) -> None:
    own = {"objective": "task_distill", "objective.teacher": str(taught.teacher.path),
           "objective.keep_head": True, "base": str(taught.teacher.model),
           "objective.hard_weight": 0.0}  # fmt: skip
    keys = {**taught.keys, **own, "train.epochs": 1, "train.learning_rate": 1e-9}
    run = warmstart.tune(taught.data, out=taught.folder / "itself", **keys)
    assert run.facts["history"][-1]["validation_loss"] == pytest.approx(0, abs=1e-4)
    assert run.metrics["f1_macro"]["value"] == taught.teacher.metrics["f1_macro"]["value"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a teacher: --objective.teacher RUN"),
        ({"objective.teacher": "T", "method": "frozen"}, "take full or lora"),
        ({"objective.teacher": "T", "objective.hidden_weight": 1.0, "base": "B"}, "equally|wide"),
        ({"objective.teacher": "T", "data.path": "other"}, "knows other labels"),
    ],
)
def test_what_cannot_teach_is_refused(
    settings: Any, message: str, taught: Any, tmp_path: Path
) -> None:
    from tiny import tiny

    own = dict(settings)
    if own.get("objective.teacher"):
        own["objective.teacher"] = str(taught.teacher.path)
    if own.get("base"):
        own["base"] = str(tiny("bert", tmp_path / "wide", hidden_size=64))
    data = taught.data
    if own.pop("data.path", None):
        data = tmp_path / "other.csv"
        data.write_text(taught.data.read_text().replace(",no", ",never"), encoding="utf-8")
    keys = {**taught.keys, "train.epochs": 1, "objective": "task_distill", **own}
    with pytest.raises(RecipeError, match=message):
        warmstart.tune(data, out=tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_heads_are_those_of_the_supervised_and_vectors() -> None:
    heads = TaskDistill().heads
    assert CLASSES.name in heads and {"vector", "text"} <= heads


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_texts_are_learned_from_the_probability_of_every_token_of_the_answer(
    family: str, tmp_path: Path
) -> None:
    from tiny import writer
    from warmstart.data.tokens.dataset import TokenizedDataset, store_of
    from warmstart.models.fast.forward import forward_for
    from warmstart.models.saved import saved_model, saved_tokenizer
    from warmstart.training.datasets import WrittenRows

    folder = writer(tmp_path / "teacher", family)
    backend = saved_tokenizer(folder).backend_tokenizer
    prompts, answers = [[1, 7, 8], [1, 9, 10, 11]], [[12, 13, 2], [14, 2]]
    store: TokenizedDataset = store_of(prompts, backend)
    store = replace(store, answers=store_of(answers, backend))
    teacher, student = (forward_for(saved_model(folder)) for _ in range(2))
    chance = torch.Generator().manual_seed(0)
    for weights in student.model.parameters():
        weights.data.mul_(1 + 0.1 * torch.randn(weights.shape, generator=chance))
    rows = WrittenRows(store, student.language, 0, torch.device("cpu"))
    batch = rows.collate(np.arange(2))
    made = objective("text", temperature=2.0, hidden_weight=1.0, soft_weight=3.0)
    made._teacher = teacher
    teacher.training = student.training = False
    loss = made.loss(student, batch)
    named = {"input_ids": batch.inputs["ids"], "attention_mask": batch.inputs["mask"]}
    if family == "t5":
        named["decoder_input_ids"] = batch.inputs["decoder_ids"]
    real = batch.targets != -100
    assert int(real.sum()) == 5
    with torch.no_grad():
        ours, theirs = (own.model(**named).logits[real].numpy() for own in (student, teacher))
    p, q = softmax(theirs / 2), softmax(ours / 2)
    soft = 4 * (p * np.log(p / q)).sum()
    hard = -np.log(softmax(ours)[np.arange(5), batch.targets[real].numpy()]).sum()
    assert loss.metrics["soft_loss"].item() == pytest.approx(soft, rel=1e-4)
    assert loss.metrics["hard_loss"].item() == pytest.approx(hard, rel=1e-4)
    total = 3 * soft + 0.5 * hard + loss.metrics["hidden_loss"].item()
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    made._teacher = student
    again = made.loss(student, batch)
    assert again.metrics["soft_loss"].item() == pytest.approx(0, abs=1e-4)
    assert again.metrics["hidden_loss"].item() == pytest.approx(0, abs=1e-4)
    made._teacher, made._lessons = None, None
    object.__setattr__(made, "soft_weight", 0.0)
    object.__setattr__(made, "hidden_weight", 0.0)
    assert made.loss(student, batch).total.item() == pytest.approx(hard, rel=1e-4)
