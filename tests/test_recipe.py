"""One recipe, three ways to say it: TOML file = command line = Python call."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.api import recipe_for
from warmstart.cli.main import VERBS, main
from warmstart.cli.parser import parse
from warmstart.config.recipe import Recipe, catalogue
from warmstart.config.toml import read_toml
from warmstart.config.validation import wanted
from warmstart.errors import RecipeError, RenamedKeyWarning
from warmstart.methods.frozen import Frozen
from warmstart.methods.lora import LoRA
from warmstart.training.settings import Forgetting, Train

words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
names = words.filter(lambda text: text.strip().lower() != "none")
shares = st.floats(0, 0.4)
counts = st.integers(1, 10**6)
methods = st.one_of(
    st.just({"method": "full"}),
    st.fixed_dictionaries(
        {"method": st.just("lora")},
        optional={
            "method.rank": counts,
            "method.alpha": st.floats(0.01, 1e6),
            "method.targets": st.sampled_from(["attention", "all"]),
        },
    ),
    st.fixed_dictionaries({"method": st.just("frozen")}, optional={"method.dropout": shares}),
)
rest = st.fixed_dictionaries(
    {},
    optional={
        "base": names,
        "seed": st.integers(0, 2**32 - 1),
        "out": names,
        "task.max_length": st.integers(3, 4096),
        "objective.label_smoothing": shares,
        "data.path": names,
        "data.columns.text": words,
        "data.columns.label": words,
        "data.delimiter": st.sampled_from([",", "\t", ";", "|", "#"]),
        "data.test_fraction": shares,
        "data.merge_labels": st.booleans(),
        "data.limit": st.none() | counts,
        "train.epochs": st.none() | counts,
        "train.patience": st.none() | counts,
        "train.learning_rate": st.floats(1e-9, 10),
        "train.schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "train.active_vocabulary": st.booleans(),
        "evaluate.bootstrap": st.integers(100, 1000),
    },
)
keys = st.builds(lambda one, other: {**one, **other}, methods, rest)


@settings(deadline=None)
@given(keys)
def test_a_recipe_comes_back_from_its_toml(keys: dict[str, Any]):
    recipe = Recipe.of(keys)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_toml(recipe.commented()) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'seed = "1"',
            'seed = "1": give a whole number, at least 0 and at most 4,294,967,295, without quotes',
        ),
        ('[train]\nepochs = "3"', 'train.epochs = "3": give a whole number'),
        ('[data]\nmerge_labels = "true"', 'data.merge_labels = "true": give true or false'),
        ('[method]\nname = "lora"\nrank = "8"', 'method.rank = "8": give a whole number'),
        ('"train.epochs" = "3"', 'train.epochs = "3": give a whole number'),
    ],
)
def test_a_number_in_quotes_is_text(text: str, said: str):
    with pytest.raises(RecipeError, match=re.escape(said)):
        Recipe.from_toml(text)


def test_quotes_where_they_belong():
    text = 'base = "3"\n[train]\npatience = "none"\n[data]\ncolumns = {text = "1"}\n'
    recipe = Recipe.from_toml("\ufeff" + text)
    assert (recipe.base, recipe.train.patience, recipe.data.columns) == ("3", None, {"text": "1"})
    assert {type(recipe.base), type(recipe.data.columns["text"])} == {str}
    assert Recipe.of({"train.epochs": "3"}).train.epochs == 3, "a word, as of the command line"


@settings(deadline=None)
@given(keys, st.booleans(), st.randoms(use_true_random=False))
def test_the_command_line_says_the_same_as_python(keys: dict[str, Any], joined: bool, random: Any):
    typed = [(key, str(value).lower() if isinstance(value, bool | None) else str(value))
             for key, value in keys.items()]  # fmt: skip
    random.shuffle(typed)
    line = ["tune", "data.csv"]
    for key, value in typed:
        line += [f"--{key}={value}"] if joined or value.startswith("--") else [f"--{key}", value]
    request = parse(line, VERBS)
    assert request.words == {"DATA": "data.csv"}
    quoted = [v for v in keys.values() if isinstance(v, str) and v[0] in "\"'" and v[0] == v[-1]]
    if not quoted:
        assert Recipe.of(request.keys) == Recipe.of(keys)


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("--data.columns.label 1", "data.columns.label", "1"),
        ("--base 123", "base", "123"),
        ("--base 1e3", "base", "1e3"),
        ("--base 1_000", "base", "1_000"),
        ("--base true", "base", "true"),
        ("--out 2024-01-01", "out", "2024-01-01"),
        ("--out nan", "out", "nan"),
        ("--out -3", "out", "-3"),
        ("--out '3'", "out", "3"),
        ("--out a=b=c", "out", "a=b=c"),
        ("--out=a=b", "out", "a=b"),
        ("out=a=b", "out", "a=b"),
        ("--data.columns {text='a=b'}", "data.columns", {"text": "a=b"}),
        ("--data.delimiter tab", "data.delimiter", "\t"),
        ("--data.max-dropped 0.5", "data.max_dropped", 0.5),
        ("--train.learning_rate 1e-4", "train.learning_rate", 1e-4),
        ("--train.patience none", "train.patience", None),
        ("--train.active_vocabulary no", "train.active_vocabulary", False),
        ("--train.gradient_checkpointing", "train.gradient_checkpointing", True),
        ("--train.gradient_checkpointing --seed 3", "train.gradient_checkpointing", True),
    ],
)
def test_a_typed_value_means_what_its_key_wants(typed: str, key: str, value: Any):
    found: Any = Recipe.of(parse(["recipe", *typed.split(" ")], VERBS).keys)
    for word in key.split("."):
        found = found[word] if isinstance(found, dict) else getattr(found, word)
    assert found == value
    assert type(found) is type(value)


def test_a_switch_does_not_swallow_the_file():
    request = parse(["tune", "--data.merge_labels", "tickets.csv"], VERBS)
    assert request.words == {"DATA": "tickets.csv"}
    assert request.keys == {"data.merge_labels": "true"}


def test_flags_may_stand_before_the_file():
    request = parse("tune --base minilm --json tickets.csv --out x".split(), VERBS)
    assert request.words == {"DATA": "tickets.csv"}
    assert request.keys == {"base": "minilm", "out": "x"}
    assert request.options["json"] is True


def test_a_text_with_an_equals_sign_is_a_text():
    assert parse(["predict", "run", "x=3"], VERBS).words == {"MODEL": "run", "DATA": "x=3"}
    assert parse(["predict", "run", "--", "--x"], VERBS).words["DATA"] == "--x"


def test_the_printed_default_is_the_default():
    assert Recipe.from_toml(Recipe().commented()) == Recipe() == Recipe.of({})


def test_every_key_is_described_in_the_same_way():
    faults: list[str] = []
    for key, info in catalogue().items():
        text = info.description or ""
        acronym = text.split(" ")[0].isupper()
        if not text or text.endswith(".") or (text[0].isupper() and not acronym):
            faults.append(f"{key}: {text!r}")
        assert f"# {text}" in Recipe.of({"method": "lora"}).commented() or key.startswith(
            ("method", "task.", "objective", "engine")
        )
    assert faults == []
    assert all(wanted(info) for key, info in catalogue().items() if "." in key)


def test_defaults_below_the_file_below_the_keys(tmp_path: Path):
    file = tmp_path / "r.toml"
    file.write_text(
        'seed = 5\n[train]\nepochs = 2\nbatch_size = 4\n[method]\nname = "lora"\nrank = 4'
    )
    recipe = recipe_for("d.csv", file, {"train.epochs": 9, "method.rank": 8})
    assert (recipe.seed, recipe.train.epochs, recipe.train.batch_size) == (5, 9, 4)
    assert recipe.train.patience == Train().patience
    assert recipe.method == LoRA(rank=8)
    assert recipe.data.path == "d.csv"
    assert recipe_for("d.csv", recipe, {"train.epochs": 9, "method.rank": 8}) == recipe


def test_another_part_forgets_the_settings_of_the_one_below():
    below = {"method": {"name": "lora", "dropout": 0.3, "rank": 4}}
    assert Recipe.of(below, {"method": "lora"}).method == LoRA(dropout=0.3, rank=4)
    assert Recipe.of(below, {"method": "frozen"}).method == Frozen()
    assert Recipe.of(below, {"method.name": "frozen", "method.dropout": 0.1}).method == Frozen(
        dropout=0.1
    )
    assert Recipe.of(below, {"method": LoRA(rank=2)}).method == LoRA(rank=2)
    assert Recipe.of({"method": LoRA(rank=2)}, {"method.alpha": 1}).method == LoRA(rank=2, alpha=1)


def test_a_part_without_its_name_in_two_layers():
    recipe: Any = Recipe.of({"task": {"max_length": 9}}, {"task.max_length": 7})
    assert recipe.task.max_length == 7


def test_within_a_layer_the_order_does_not_matter():
    one = Recipe.of(
        {"method.rank": 3, "method": "lora", "train.epochs": 2, "train": {"patience": 1}}
    )
    two = Recipe.of(
        {"train": {"patience": 1}, "train.epochs": 2, "method": "lora", "method.rank": 3}
    )
    assert one == two
    assert one.train == Train(epochs=2, patience=1)


def test_a_section_may_be_an_instance():
    assert Recipe.of({"train": Train(epochs=2)}, {"train.patience": 1}).train == Train(
        epochs=2, patience=1
    )


def test_paths_are_text(tmp_path: Path):
    assert Recipe.of({"out": tmp_path, "data.train": tmp_path}).out == str(tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        {"keep.penalty": "l2_sp", "keep.strength": 0.1},
        {"keep": {"penalty": "l2_sp", "strength": 0.1}},
        {"keep": Forgetting(penalty="l2_sp", strength=0.1)},
        {"keep": {"penalty": "l2_sp", "strength": 0.9}, "forgetting.strength": 0.1},
        read_toml("[keep]\npenalty = 'l2_sp'\nstrength = 0.1"),
        parse("tune --keep.penalty l2_sp keep.strength=0.1".split(), VERBS).keys,
    ],
    ids=["dotted", "table", "instance", "both", "toml", "typed"],
)
def test_an_old_spelling_is_understood_for_one_version(layer: dict[str, Any]):
    with pytest.warns(RenamedKeyWarning, match="'keep' of the recipe is called 'forgetting' now"):
        recipe = Recipe.of(layer)
    assert recipe.forgetting == Forgetting(penalty="l2_sp", strength=0.1)
    assert "[forgetting]" in recipe.to_toml() and "[keep]" not in recipe.to_toml()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Recipe.of(layer, quiet=True) == recipe == Recipe.from_toml(recipe.to_toml())


def test_a_single_key_may_have_an_old_spelling(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("warmstart.config.keys.RENAMED", {"train.lr": "train.learning_rate"})
    with pytest.warns(RenamedKeyWarning, match=r"'train\.lr'"):
        recipe = Recipe.of({"train": {"lr": 0.1, "epochs": 2}}, {"train.patience": 1})
    assert recipe.train == Train(learning_rate=0.1, epochs=2, patience=1)


def test_the_terminal_notes_an_old_spelling_once(capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert main(["recipe", "--keep.penalty", "l2_sp"]) == 0
        printed, noted = capsys.readouterr()
        assert 'penalty = "l2_sp"' in printed
        assert noted.startswith("note: 'keep' of the recipe") and noted.count("\n") == 1


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"method.rank": 16},
            "method full has no setting 'rank', method lora has: add --method lora",
        ),
        ({"method": "frozen", "method.rank": 1}, "method frozen has no setting 'rank'"),
        ({"method": 3}, "give the name of a method, one of "),
        ({"seed.x": 3}, "seed = "),
        ({"seed": 3, "seed.x": 3}, "seed is a single value"),
        ({"train": 3}, "as in --train.epochs VALUE"),
        ({"train.epochs": True}, "train.epochs = true: give a whole number"),
        ({"train.learning_rate": float("inf")}, "give a number, above 0"),
        ({"train.learning_rate": "nan"}, "give a number, above 0"),
        ({"base": True}, "base = true: give text"),
        ({"data.zzz": 1}, "data.max_dropped"),
        ({"zzz": 1}, "There are: base, "),
        ({"data.columns.text": True}, "valid string"),
        ({"method": Train()}, "is a"),
    ],
)
def test_what_is_refused_and_how(keys: dict[str, Any], says: str):
    with pytest.raises(RecipeError) as caught:
        Recipe.of(keys)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
