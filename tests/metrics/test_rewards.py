"""Rewards: what is right, functions of one's own, weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from warmstart import part
from warmstart.data.conversations import messages_of
from warmstart.errors import RecipeError, RunError, UnknownNameError
from warmstart.inference.predictor import scorer
from warmstart.metrics.rewards import (
    Answered,
    Means,
    Rewards,
    are_right,
    check_names,
    is_numeric,
    number_in,
)  # fmt: skip


def answered(texts: Sequence[str], answers: Sequence[str | None] | None = None) -> Answered:
    count = len(texts)
    return Answered(
        ["?"] * count, texts, [None] * count if answers is None else answers,
        np.arange(count) % 2 == 0, np.array([len(text.split()) for text in texts]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("about -3.5 m", -3.5), ("1,234.5", 1234.5), ("2 and 3", 3), ("\u22127", -7),
     ("so x = .5", 0.5), ("none", None), ("1,2", 2), ("#### 42", 42)],
)  # fmt: skip
def test_the_last_number_counts(text: str, number: float | None):
    assert number_in(text) == number


def test_what_is_right():
    assert are_right("exact", ["a  b ", "ab", "x"], ["a b", "a b", None]).tolist() == [
        True, False, False
    ]  # fmt: skip
    assert is_numeric("The answer is 46.", "46") and not is_numeric("46 or 47", "46")
    assert not is_numeric("no idea", "46") and not is_numeric("46", "forty-six")
    texts = ["answer: 12", "answer: 13", "12"]
    pattern = r"answer: (?P<answer>\d+)"
    assert are_right("regex", texts, ["12"] * 3, pattern).tolist() == [True, False, False]
    assert are_right("regex", texts, [None] * 3, r"^answer").tolist() == [True, True, False]


def test_a_regular_expression_takes_no_longer_than_its_text():
    begun = time.perf_counter()
    assert not are_right("regex", ["a" * 20_000 + "!"], [None], r"^(a+)+$")[0]
    assert time.perf_counter() - begun < 2
    with pytest.raises(RecipeError, match="look-arounds"):
        are_right("regex", ["a"], [None], r"(?=a)")
    with pytest.raises(RecipeError, match="cannot be read"):
        are_right("regex", ["a"], [None], "(")
    with pytest.raises(RecipeError, match="--task.pattern"):
        Rewards(["regex"])


def test_several_with_weights():
    rewards = Rewards(["exact", "length", "ended"], [1.0, 0.1, -0.5])
    values = rewards(answered(["a", "b c"], ["a", "x"]))
    assert values.tolist() == pytest.approx([1 + 0.1 - 0.5, 0.2])
    with pytest.raises(ValueError, match="one weight for each"):
        check_names(["exact", "length"], [1.0])
    with pytest.raises(UnknownNameError, match="Did you mean 'numeric'"):
        Rewards(["numerc"])


def own_module(monkeypatch: pytest.MonkeyPatch, function: Any) -> str:
    import sys

    module: Any = SimpleNamespace(__name__="own_rewards_of_test", reward=function)
    monkeypatch.setitem(sys.modules, "own_rewards_of_test", module)
    return "own_rewards_of_test.reward"


def test_a_function_of_ones_own(monkeypatch: pytest.MonkeyPatch):
    """It is called by name, as TRL calls it."""

    def reward(prompts: list[str], completions: list[str], answer: list[Any], **more: Any) -> Any:
        assert prompts == ["?", "?"] and answer == ["x", None] and not more
        return [len(text) for text in completions]

    name = own_module(monkeypatch, reward)
    assert Rewards([name])(answered(["aa", "b"], ["x", None])).tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [([1.0], "1 numbers for 2"), ([1.0, float("nan")], "no number for answer 2 of 2"),
     ([None, 1.0], "no number for answer 1"), ("no", "it has to give")],
)  # fmt: skip
def test_what_is_no_reward_is_refused(values: Any, words: str, monkeypatch: pytest.MonkeyPatch):
    name = own_module(monkeypatch, lambda **given: values)
    with pytest.raises(RunError, match=words):
        Rewards([name])(answered(["a", "b"]))


def test_a_function_that_fails_says_so(monkeypatch: pytest.MonkeyPatch):
    def reward(**given: Any) -> Any:
        raise KeyError("city")

    with pytest.raises(RunError, match=r"own_rewards_of_test.reward failed: KeyError: 'city'"):
        Rewards([own_module(monkeypatch, reward)])(answered(["a"]))


def test_code_that_nobody_named_is_not_run():
    with pytest.raises(RecipeError, match="code that nobody here has named"):
        Rewards(["antigravity.fly"])
    part.allow_named({"objective.reward": "exact,no_such_module_of_mine.polite"})
    with pytest.raises(RecipeError, match="there is no no_such_module_of_mine.polite"):
        Rewards(["no_such_module_of_mine.polite"])


def test_a_reward_model(tmp_path: Any):
    def open_model(folder: Any) -> Any:
        assert folder == tmp_path
        return lambda prompts, texts: [
            float(len(p) + len(t)) for p, t in zip(prompts, texts, strict=True)
        ]

    assert Rewards([str(tmp_path)], open_model=open_model)(answered(["ab"])).tolist() == [3.0]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (("prompt", "answer"), [('[{"role": "user", "content": "a"}]', ""), ("a", "[1]")]),
        (("sentence1", "sentence2"), [("a", ""), ("a", "[1]")]),
        (("text",), ["", "[1]"]),
    ],
)
def test_a_model_is_asked_for_any_text(inputs: tuple[str, ...], expected: list[Any]):
    """An empty answer, and one that looks like JSON; conversations come as messages."""
    rows: list[Any] = []
    head = SimpleNamespace(states_confidence=False, gives_vectors=False)
    predictor: Any = SimpleNamespace(
        task=SimpleNamespace(head=head, inputs=inputs),
        predict=lambda asked: [rows.append(row) or SimpleNamespace(value=0.5) for row in asked],
    )
    prompts = ['[{"role": "user", "content": "a"}]', "a"]
    assert scorer(predictor)(prompts, ["", "[1]"]) == [0.5, 0.5]
    if "answer" in inputs:
        rows = [(prompt, messages_of(answer)[0]["content"]) for prompt, answer in rows]
    assert rows == expected


def test_means_of_columns():
    measure = Means(["accuracy", "reward"], ["accuracy"], "accuracy")
    rows = measure.rows({"accuracy": np.array([1.0, 0.0]), "reward": np.array([-3.0, 1.0])})
    assert measure.total(rows) == {"accuracy": 0.5, "reward": -1.0}
    assert measure.highest("accuracy") == 1.0 and measure.highest("reward") is None
    right = measure.correct(rows)
    assert right is not None and right.tolist() == [True, False]
