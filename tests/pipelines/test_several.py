"""Several methods and seeds in one request: the same rows, a whole run each, one comparison."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import warmstart
from warmstart.cli.main import main
from warmstart.config.recipe import Recipe
from warmstart.data.tokens.dataset import tokenise
from warmstart.errors import RecipeError, RunError, UnknownNameError
from warmstart.pipelines import resources as energy
from warmstart.pipelines import resources as meter
from warmstart.pipelines.compare.request import is_several, wanted
from warmstart.run import Run
from warmstart.training.progress import Interrupted
from warmstart.types import Listener

Folder = Callable[[str], Path]
QUICK: dict[str, Any] = {
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.precision": "fp32",
    "evaluate.baselines": False,
    "evaluate.bootstrap": 100,
}


def compared(data: Any, base: Path, out: Path, **keys: Any) -> Any:
    return warmstart.tune(data, base=str(base), out=str(out), **{**QUICK, **keys})


@pytest.fixture(scope="module")
def made(data: Path, tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """frozen and lora with two seeds each, and what was tokenised meanwhile."""
    calls: list[int] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return tokenise(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmstart.tasks.base.tokenise", counted)
        out = tmp_path_factory.mktemp("several") / "both"
        found = compared(data, tiny_of("bert"), out, method=["frozen", "lora"], seed=[3, 4])
    return found, len(calls)


def rows_of(run: Run) -> list[Any]:
    return pq.read_table(run.path / "predictions.parquet", columns=["file", "line"]).to_pylist()


def test_each_run_is_whole_and_on_the_same_rows(made: Any):
    found, tokenised = made
    assert isinstance(found, warmstart.Comparison)
    runs = found.runs
    assert list(runs) == ["frozen-seed3", "frozen-seed4", "lora-seed3", "lora-seed4"]
    for name, run in runs.items():
        assert run.status == "done" and run.proof["passed"] and run.report.is_file()
        assert run.recipe.seed == int(name[-1]) and run.recipe.data.split_seed == 3
        assert rows_of(run) == rows_of(runs["frozen-seed3"])
    assert tokenised == 3  # one for each split
    weights = [run.model / "model.safetensors" for name, run in runs.items() if "frozen" in name]
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_the_figures_are_those_of_the_runs(made: Any):
    found, _ = made
    summary = found.summary
    assert summary["status"] == "done" and summary["main_score"] == "f1_macro"
    by_method = {one["method"]: one for one in summary["methods"]}
    for method, one in by_method.items():
        runs = [run for name, run in found.runs.items() if name.startswith(method)]
        scores = [run.metrics["f1_macro"]["value"] for run in runs]
        assert one["scores"] == scores and one["value"] == pytest.approx(sum(scores) / 2)
        assert one["trainable"] == runs[0].facts["size"]["trainable"]
    assert by_method["lora"]["file_bytes"] < by_method["frozen"]["file_bytes"]
    assert summary["verdict"].startswith("Best is ")
    assert summary["advice"].startswith("Take ")
    assert found.chosen.path.name in found.runs
    assert "<!doctype html>" in found.report.read_text(encoding="utf-8")


def test_a_run_is_the_same_alone(made: Any, data: Path, tiny_of: Folder, tmp_path: Path):
    """What one run leaves in the process changes nothing in the next."""
    found, _ = made
    alone = compared(data, tiny_of("bert"), tmp_path / "alone", method="lora", seed=3)
    file = "adapter_model.safetensors"
    assert (alone.model / file).read_bytes() == (found.runs["lora-seed3"].model / file).read_bytes()


class StopIn(Listener):
    """Interrupts, as Ctrl-C does, at the first step after so many epochs of all runs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, row: dict[str, Any]) -> None:
        self.left -= 1

    def step(self, step: Any, total: int) -> None:
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def test_what_is_done_is_kept_when_it_goes_on(data: Path, tiny_of: Folder, tmp_path: Path):
    out = tmp_path / "broken"
    with pytest.raises(Interrupted, match=f"warmstart tune --resume {out}$"):
        compared(
            data, tiny_of("bert"), out, method="bitfit,full", listeners=[StopIn(1)],
            **{"train.checkpoint_seconds": 0},
        )  # fmt: skip
    assert json.loads((out / "comparison.json").read_text())["status"] == "stopped"
    done = (out / "bitfit" / "run.json").stat().st_mtime_ns
    with pytest.raises(RecipeError, match=r"leave out train\.epochs"):
        warmstart.tune(resume=out, **{"train.epochs": 2})
    found: Any = warmstart.tune(resume=out)
    assert sorted(found.runs) == ["bitfit", "full"]
    assert (out / "bitfit" / "run.json").stat().st_mtime_ns == done
    assert "reason" not in found.summary
    whole = compared(data, tiny_of("bert"), tmp_path / "whole", method="full")
    weights = [run.model / "model.safetensors" for run in (whole, found.runs["full"])]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    again: Any = warmstart.tune(resume=out)
    assert again.summary == found.summary


def test_other_data_are_not_gone_on_with(data: Path, tiny_of: Folder, tmp_path: Path):
    mine, out = tmp_path / "mine.csv", tmp_path / "out"
    mine.write_text(data.read_text())
    with pytest.raises(Interrupted):
        compared(mine, tiny_of("bert"), out, method="bitfit,full", listeners=[StopIn(1)])
    mine.write_text("".join(mine.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(RunError, match=f"cannot resume {out}: the data have changed"):
        warmstart.tune(resume=out)


def test_a_recipe_that_was_edited_is_not_gone_on_with(data: Path, tiny_of: Folder, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        compared(data, tiny_of("bert"), out, method="bitfit,full", listeners=[StopIn(1)])
    recipe = out / "full" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("warmup = 0.06", "warmup = 0.5"))
    with pytest.raises(RunError, match=rf"^cannot resume {out}: train\.warmup was 0\.06 when"):
        warmstart.tune(resume=out)


def test_a_failing_run_is_told_and_left_out(
    data: Path, tiny_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from warmstart.pipelines import tune as module

    train = module._train

    def fails(run: Run, *rest: Any, **more: Any) -> None:
        if run.path.name == "full":
            raise RunError("the loss became nan at step 1")
        train(run, *rest, **more)

    monkeypatch.setattr(module, "_train", fails)
    found = compared(data, tiny_of("bert"), tmp_path / "out", method="full,bitfit")
    assert list(found.runs) == ["bitfit"]
    assert any("full failed" in note and "nan" in note for note in found.summary["notes"])
    assert "the loss became nan" in found.report.read_text(encoding="utf-8")
    with pytest.raises(RunError, match="no run came to an end.*nan"):
        compared(data, tiny_of("bert"), tmp_path / "none", method=["full"])


def test_all_that_cannot_be_is_refused_at_once(data: Path, tiny_of: Folder, tmp_path: Path):
    with pytest.raises(RecipeError) as told:
        compared(
            data, tiny_of("bert"), tmp_path / "out",
            method=["full", {"name": "partial", "layers": 9}, {"name": "partial", "layers": 8}],
        )  # fmt: skip
    assert "nothing was trained, because partial, partial-2 cannot be here" in str(told.value)
    assert "layers is 9" in str(told.value) and "layers is 8" in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "error", "said"),
    [
        ({"method": "full,lroa"}, UnknownNameError, "no method 'lroa'. Did you mean 'lora'"),
        ({"method": "full,,lora"}, RecipeError, "method = full,,lora: give names"),
        ({"method": "lora,lora"}, RecipeError, "method lora is named twice"),
        ({"seed": "0,1,0"}, RecipeError, "seed 0 is named twice"),
        ({"seed": "0,one"}, RecipeError, "seed = one: give a whole number"),
        ({"method": "full,frozen", "method.rank": 4}, RecipeError, "has no setting 'rank'"),
        ({"method": ["full", 3]}, RecipeError, "method = 3: give the name of a method"),
    ],
)
def test_what_is_wrong_is_said(keys: dict[str, Any], error: type[Exception], said: str):
    assert is_several(keys)
    with pytest.raises(error) as told:
        wanted({}, keys)
    assert said in str(told.value)


def test_a_setting_goes_to_the_methods_that_have_it():
    below = {"method": {"name": "lora", "alpha": 4}, "train": {"epochs": 2}}
    asked = wanted(below, {"method": "full,lora,adapter", "method.rank": "8", "seed": "5,6"})
    assert [one.name for one in asked] == [
        f"{method}-seed{seed}" for method in ("full", "lora", "adapter") for seed in (5, 6)
    ]
    lora: Any = asked[2].recipe.method
    assert (lora.rank, lora.alpha) == (8, 4)
    assert {one.recipe.data.split_seed for one in asked} == {5}
    assert {one.recipe.train.epochs for one in asked} == {2}
    own = wanted({}, {"method": [{"name": "lora", "rank": 2}, {"name": "lora", "rank": 4}]})
    assert [one.name for one in own] == ["lora", "lora-2"]
    assert own[0].recipe.data.split_seed is None
    assert wanted({}, {"seed": [1, 2], "data.split_seed": 9})[1].recipe.data.split_seed == 9
    assert not is_several({"method": "full", "seed": 1, "data.columns": "{text = 'a,b'}"})


def test_the_command_line(
    data: Path, tiny_of: Folder, tmp_path: Path, capsys: Any, monkeypatch: Any
):
    monkeypatch.chdir(tmp_path)
    words = ["tune", str(data), "--base", str(tiny_of("bert")), "--method", "bitfit,layernorm"]
    words += [word for key, value in QUICK.items() for word in (f"--{key}", str(value))]
    assert main([*words, "--dry-run"]) == 0
    assert "2 runs" in capsys.readouterr().out and not (tmp_path / "runs").exists()
    assert main([*words, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [run["recipe"]["method"]["name"] for run in planned["runs"]] == ["bitfit", "layernorm"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "bitfit (1 of 2)" in printed.err and "layernorm (2 of 2)" in printed.err
    for said in ("Best is ", "Take ", "95 % interval", "trained", "One seed each", "energy"):
        assert said in printed.out
    assert "runs/messages-methods/comparison.html" in printed.out
    assert main(["tune", "--resume", "runs/messages-methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["report"]).is_file() and len(found["methods"]) == 2
    assert Recipe.of(found["asked"][0]["recipe"]).method.part_name() == "bitfit"


def test_memory_is_that_of_the_run_alone():
    """A hundred megabytes that were held and given back before are not counted."""
    if not meter.set_back():
        pytest.skip("this system does not set the peak back")
    before = bytearray(200_000_000)
    before[::4096] = b"1" * len(before[::4096])
    del before
    found = meter.Meter("cpu")
    found.begin()
    held = bytearray(60_000_000)
    held[::4096] = b"1" * len(held[::4096])
    found.epoch({})
    peak = found.facts()["peak_memory_mb"]
    assert peak is not None and 50 < peak < 120, peak


def rapl(folder: Path, name: str, joules: float, limit: float = 1000.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{round(limit * 1e6)}\n")
    return folder


def test_energy_is_counted_over_packages_and_beyond_the_end_of_the_counter(tmp_path: Path):
    first, second = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1"
    rapl(first, "package-0", 990)
    rapl(second, "package-1", 5)
    rapl(tmp_path / "intel-rapl:0:0", "core", 1)
    found = energy.energy_of("cpu", tmp_path)
    found.begin()
    rapl(first, "package-0", 10)  # it began anew at 1000
    rapl(second, "package-1", 7)
    rapl(tmp_path / "intel-rapl:0:0", "core", 900)  # stands within the package
    found.look()
    assert found.joules == pytest.approx(22)
    assert "RAPL" in found.note


def test_energy_is_never_guessed(tmp_path: Path):
    for folder, device in ((tmp_path, "cpu"), (tmp_path, "mps")):
        found = energy.energy_of(device, folder)
        found.begin()
        found.look()
        assert found.joules is None and "not measured" in found.note
    (rapl(tmp_path / "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    assert "may not be read" in energy.energy_of("cpu", tmp_path).note
