"""Every task by several methods, very small: the same weights, answers, scores and proof as ever.

The runs are written down in `golden/runs`. Where a change of them is meant, the sections that it
touches are made anew, and no others:

    WARMSTART_REFRESH_GOLDEN=metrics,proof pytest tests/test_golden.py -m "slow or not slow"

(`1` for all of weights, predictions, metrics and proof; without xdist).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import warmstart
from golden.cases import CASES, WIDE, Case, asked_of, keys_of
from golden.record import SECTIONS, differences, load, machine, recorded, save
from tiny import tiny

RUNS = Path(__file__).parent / "golden" / "runs"
REFRESH = "WARMSTART_REFRESH_GOLDEN"
ALL = [(task, case) for task, cases in CASES.items() for case in cases]


def refreshed() -> tuple[str, ...]:
    """The sections that are to be made anew."""
    asked = os.environ.get(REFRESH, "")
    names = SECTIONS if asked == "1" else tuple(filter(None, asked.replace(" ", "").split(",")))
    if unknown := [name for name in names if name not in SECTIONS]:
        raise ValueError(f"{REFRESH}: no section {', '.join(unknown)}; there are {SECTIONS}")
    if names and "PYTEST_XDIST_WORKER" in os.environ:
        raise ValueError(f"{REFRESH}: several workers would write one file; leave out -n")
    return names


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """One thread, so that sums are added up in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a family, made once."""

    @cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp("golden") / family
        return tiny(family, folder, **WIDE.get(family, {"initializer_range": 0.2}))

    return made


@pytest.mark.parametrize(
    ("task", "case"),
    [pytest.param(task, case, id=f"{task}-{case.name}",
                  marks=[pytest.mark.slow] if case.slow else []) for task, case in ALL],
)  # fmt: skip
def test_run(task: str, case: Case, base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base, anew = base_of(case.family), refreshed()
    gc.freeze()  # else all that is loaded is looked through for garbage, which outlasts a run
    run: Any = warmstart.tune(
        base=str(base), out=str(tmp_path / "run"), **keys_of(task, case, tmp_path)
    )
    assert run.status == "done"
    asked = asked_of(task, case)
    found = recorded(run, run.predict(asked) if asked else [], tmp_path)
    path, here = RUNS / f"{task}.json", machine()
    runs = load(path)
    golden = runs.setdefault(case.name, {})
    if anew:
        golden |= {name: {"made_on": here, "found": found[name]} for name in anew}
        order = {one.name: runs[one.name] for one in CASES[task] if one.name in runs}
        save(path, {name: {part: one[part] for part in SECTIONS if part in one}
                    for name, one in order.items()})  # fmt: skip
    said: list[str] = []
    for name in SECTIONS:
        if name not in golden:
            said.append(f"{name}: none is written down yet")
            continue
        same = golden[name]["made_on"] == here
        lines = differences(
            golden[name]["found"], found[name], same_machine=same, coarse="bf16" in case.name
        )
        said += [f"{name}: {line}" for line in lines]
    if said:
        pytest.fail(
            f"{task}-{case.name} is not the run of {path.name} any more:\n  "
            + "\n  ".join(said)
            + f"\nWhere this is meant: {REFRESH}=<the sections above> (see {Path(__file__).name})",
            pytrace=False,
        )


@pytest.mark.parametrize("task", CASES)
def test_every_run_is_written_down(task: str) -> None:
    runs = load(RUNS / f"{task}.json")
    assert [*runs] == [case.name for case in CASES[task]], "delete what is no run any more"
    for name, run in runs.items():
        assert tuple(run) == SECTIONS, name


def test_whether_bits_are_compared() -> None:
    """Where they are not, the summary says so."""
    made = {
        run["weights"]["made_on"] for task in CASES for run in load(RUNS / f"{task}.json").values()
    }
    if other := made - {machine()}:
        pytest.skip(
            f"hashes are not compared here ({machine()}): made on {'; '.join(sorted(other))}"
        )


def test_a_change_is_named_by_its_section_and_key() -> None:
    before = {"a": {"norm": 1.0, "sha": "x"}, "b": [1, 2], "said": "by 1.5 points", "old": 1}
    after = {"a": {"norm": 1.1, "sha": "y"}, "b": [1, 3], "said": "by 1.6 points", "new": 2}
    assert differences(before, after, same_machine=True) == [
        "a > norm: 1.0 -> 1.1",
        "b > 1: 2 -> 3",
        'said: "by 1.5 points" -> "by 1.6 points"',
        "old: gone, was 1",
        "new: new, 2",
        'a > sha: "x" -> "y"',
    ]
    near = {"a": {"norm": 1.001, "sha": "y"}, "b": [1, 2], "said": "by 1.6 points", "old": 1}
    assert differences(before, near, same_machine=False) == []
    assert differences(before, after, same_machine=False)[:2] == [
        "a > norm: 1.0 -> 1.1",
        "b > 1: 2 -> 3",
    ]
    many = differences({}, {str(n): n for n in range(20)}, same_machine=True)
    assert len(many) == 9 and many[-1] == "and 12 more"
