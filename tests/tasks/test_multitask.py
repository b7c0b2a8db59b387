"""Several tasks in one recipe: how they are mixed, what is hidden, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from warmstart.config.recipe import Recipe
from warmstart.data.sampling import order, shares, turns
from warmstart.errors import RecipeError, UnknownNameError

ROWS = {"big": 8000, "middle": 900, "small": 40}
TWO = {"mood": {"data": "a.csv"}, "things": {"name": "tagging", "data": "b.jsonl"}}


def recipe(tasks: dict[str, Any], **task: Any) -> Recipe:
    return Recipe.of({"task": {"name": "multitask", "tasks": tasks, **task}})


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e6])
def test_shares_are_the_formula(temperature: float) -> None:
    found = shares(ROWS, temperature)
    wanted = {name: rows ** (1 / temperature) for name, rows in ROWS.items()}
    whole = sum(wanted.values())
    assert found == pytest.approx({name: value / whole for name, value in wanted.items()})


def test_one_is_proportional_and_much_is_even() -> None:
    assert shares(ROWS, 1.0)["small"] == pytest.approx(40 / 8940)
    assert list(shares(ROWS, 1e9).values()) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_turns_are_the_shares_to_within_one_step(temperature: float) -> None:
    wanted, steps = shares(ROWS, temperature), 600
    counts = turns(wanted, steps)
    assert sum(counts.values()) == steps
    for name, count in counts.items():
        assert abs(count - steps * wanted[name]) < 1


def test_every_task_has_a_turn() -> None:
    assert min(turns(shares({"big": 100_000, "small": 3}, 1.0), 20).values()) == 1


def test_order_holds_the_turns_and_the_seed_decides() -> None:
    counts = {"a": 5, "b": 3}
    one = order(counts, seed=1, epoch=0)
    assert sorted(one) == ["a"] * 5 + ["b"] * 3
    assert one == order(counts, seed=1, epoch=0)
    assert any(one != order(counts, seed=1, epoch=epoch) for epoch in (1, 2, 3))


def test_a_recipe_comes_back_from_toml() -> None:
    asked = recipe({**TWO, "words": {"name": "mlm", "share": 0.2}}, temperature=2)
    assert Recipe.from_toml(asked.to_toml()) == asked


def test_flags_name_a_task_and_its_setting() -> None:
    asked = Recipe.of(
        {"task": "multitask", "task.tasks.mood.data": "a.csv", "task.tasks.mood.weight": "2"}
    )
    task: Any = asked.task
    assert task.tasks == {"mood": {"data": "a.csv", "weight": "2"}}
    assert task.weight_of("mood") == 2.0
    assert task.settings_of("mood") == {"name": "classification", "max_length": 256}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "summarization", "data": "a"}, "task summarization writes texts"),
        ({"name": "embedding", "data": "a"}, "task embedding gives vectors"),
        ({"name": "few_shot", "data": "a"}, "task few_shot has an objective of its own"),
        ({"name": "multitask", "data": "a"}, "cannot be one of several"),
        ({"name": "custom", "data": "a"}, "cannot be one of several"),
        ({"name": "tagging"}, "task.tasks.x has no data"),
        ({"data": "a", "weight": 0}, "task.tasks.x.weight = 0: give a number above 0"),
        ({"data": "a", "weight": "much"}, "give a number above 0"),
        ({"name": "mlm", "share": 1.5}, "give a number above 0 and below 1"),
        ({"name": "mlm", "shared": 0.1}, "Did you mean 'share'?"),
        ({"data": "a", "columns": "text"}, "task.tasks.x.columns: give a table"),
    ],
)
def test_what_cannot_share_a_body_is_refused_in_the_recipe(
    entry: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as error:
        recipe({**TWO, "x": entry})
    assert said in str(error.value)


def test_unknown_kinds_and_odd_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tagging'"):
        recipe({**TWO, "x": {"name": "taging", "data": "a"}})
    with pytest.raises(RecipeError, match="name of a folder"):
        recipe({**TWO, "../x": {"data": "a"}})
