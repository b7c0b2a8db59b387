"""Parts by name, parts of the user's own by path, and which of them a saved file may name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from warmstart import part as parts
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, UnknownNameError
from warmstart.objectives.supervised import Supervised
from warmstart.run import Run


class Own(Supervised):
    """An objective of the user's own."""


def test_a_class_of_ones_own_is_named_by_its_path():
    path = f"{__name__}.Own"
    assert parts.find("objective", path) is Own and Own.part_name() == path
    recipe = Recipe.of({"objective": path, "objective.label_smoothing": 0.1})
    assert type(recipe.objective) is Own
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    with pytest.raises(RecipeError, match=f"objective {path} has no setting 'smoothing'"):
        Recipe.of({"objective": path, "objective.smoothing": 0.1})


@pytest.mark.parametrize(("path", "message"), [
    ("no_such_package.Mine", r"there is no no_such_package\.Mine .* make it importable"),
    (f"{__name__}.Missing", "there is no .*has no attribute 'Missing'"),
    ("pathlib.Path", r"pathlib\.Path is no class that derives from warmstart's Objective"),
    ("warmstart.methods.lora.LoRA", "is no class that derives from warmstart's Objective"),
    (".Mine", r"there is no \.Mine"),
])  # fmt: skip
def test_what_is_no_such_class_is_answered_in_one_line(path: str, message: str):
    parts.allow(path)
    with pytest.raises(RecipeError, match=message):
        parts.find("objective", path)


def test_a_name_without_a_dot_is_one_of_ours():
    with pytest.raises(UnknownNameError, match="Did you mean 'supervised'"):
        parts.find("objective", "supervise")


def test_a_saved_recipe_runs_no_code_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = Recipe.of({"objective": f"{__name__}.Own"})
    run = Run.create(tmp_path / "run", recipe, {})
    assert run.recipe == recipe, "the module is imported already"
    (tmp_path / "mine.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = run.path / "recipe.toml"
    path.write_text(path.read_text().replace(f"{__name__}.Own", "mine.Own"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"names the objective mine\.Own.*not run"):
        run.recipe  # noqa: B018
    assert "mine" not in sys.modules
