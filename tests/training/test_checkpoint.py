"""A checkpoint is whole or does not count."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.errors import RunError
from warmstart.training import checkpoint

STATE = {"step": 3, "history": [{"loss": 0.1}], "best_score": None, "name": "ü"}


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "model.weight": torch.full((4, 3), value),
        "model.transposed": torch.arange(6.0).view(2, 3).t(),
        "optimizer.0.0.step": torch.tensor(7.0),
        "half": torch.ones(3, dtype=torch.bfloat16, requires_grad=True),
        "ids": torch.arange(4),
    }


def test_there_and_back(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    path = checkpoint.save(tmp_path, 3, tensors(), STATE)
    assert checkpoint.newest(tmp_path) == path
    found, state = checkpoint.load(path)
    assert state == STATE
    assert found.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert torch.equal(found[name], expected) and found[name].dtype == expected.dtype


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        checkpoint.save(tmp_path, step, tensors(step), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000100"
    checkpoint.save(tmp_path, 100, tensors(5), {})  # again, over what is there
    newest = checkpoint.newest(tmp_path)
    assert newest and checkpoint.load(newest)[0]["model.weight"][0, 0] == 5
    checkpoint.clear(tmp_path)
    assert not tmp_path.exists()


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, tensors(), STATE)
    names = sorted(p.name for p in path.iterdir())
    assert names == ["manifest.json", "state.json", "tensors.safetensors"]
    assert (path / "tensors.safetensors").read_bytes()[8:9] == b"{"
    assert json.loads((path / "state.json").read_text()) == STATE


def test_the_manifest_is_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is written everything else stands, under a name that does not count."""
    write, seen = checkpoint._write, []

    def watch(path: Path, text: str) -> None:
        if path.name == "manifest.json":
            seen.extend(sorted(p.name for p in path.parent.iterdir()))
            assert checkpoint.newest(tmp_path) is None
        write(path, text)

    monkeypatch.setattr(checkpoint, "_write", watch)
    checkpoint.save(tmp_path, 1, tensors(), STATE)
    assert seen == ["state.json", "tensors.safetensors"]


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["tensors.safetensors", "state.json", "manifest.json"]),
    harm=st.sampled_from(["cut", "flip", "empty", "gone"]),
    where=st.floats(0, 0.999),
)
def test_a_damaged_one_is_passed_over(
    name: str, harm: str, where: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    good = checkpoint.save(folder, 1, tensors(1), {"step": 1})
    bad = checkpoint.save(folder, 2, tensors(2), {"step": 2})
    assert checkpoint.newest(folder) == bad
    data = bytearray((bad / name).read_bytes())
    at = int(where * len(data))
    if harm == "gone":
        (bad / name).unlink()
    else:
        if harm == "flip":
            data[at] ^= 0xFF
        else:
            data = data[: at if harm == "cut" else 0]
        (bad / name).write_bytes(data)
    assert checkpoint.newest(folder) == good
    assert checkpoint.load(good)[1] == {"step": 1}


def test_what_is_passed_over_is_told_and_makes_room(tmp_path: Path) -> None:
    """The checkpoints of a run that had to begin again are not taken for the older ones."""
    folder = tmp_path / "checkpoints"
    assert checkpoint.passed_over(folder) == ""
    for step in (8, 9):
        checkpoint.save(folder, step, tensors(step), {})
    assert checkpoint.passed_over(folder) == ""
    (folder / "step-00000009" / "tensors.safetensors").write_bytes(b"")
    assert checkpoint.passed_over(folder) == (
        f"the newest checkpoint of {tmp_path} cannot be read (step-00000009); it goes on from the "
        "one before, step-00000008"
    )
    (folder / "step-00000008" / "manifest.json").unlink()
    assert checkpoint.passed_over(folder) == (
        f"no checkpoint of {tmp_path} can be read (step-00000009 and step-00000008); it begins "
        "again at step 1"
    )
    first = checkpoint.save(folder, 1, tensors(1), {})
    assert checkpoint.newest(folder) == first
    second = checkpoint.save(folder, 2, tensors(2), {})
    assert sorted(folder.iterdir()) == [first, second]
    assert checkpoint.passed_over(folder) == ""


def test_what_a_killed_writer_left_is_ignored(tmp_path: Path) -> None:
    good = checkpoint.save(tmp_path, 5, tensors(), STATE)
    left = tmp_path / ".step-00000009"
    left.mkdir()
    (left / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / "step-00000007").mkdir()  # a folder without a manifest
    (tmp_path / "step-99999999").write_text("no folder")
    assert checkpoint.newest(tmp_path) == good
    assert checkpoint.save(tmp_path, 9, tensors(), STATE) == tmp_path / "step-00000009"
    assert not left.exists()


@pytest.mark.parametrize("moment", ["tensors", "state.json", "manifest.json", "rename", "folder"])
def test_a_full_disk(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error; what was there is still good; nothing half-written stays."""
    folder = tmp_path / "checkpoints"
    good = checkpoint.save(folder, 1, tensors(), STATE)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise full

    if moment == "tensors":

        def half(values: Any, path: Path) -> None:
            path.write_bytes(b"half")
            raise full

        monkeypatch.setattr(checkpoint, "save_file", half)
    elif moment == "rename":
        monkeypatch.setattr(checkpoint.os, "replace", fail)
    elif moment == "folder":
        monkeypatch.setattr(Path, "mkdir", fail)
    else:
        write = checkpoint._write
        monkeypatch.setattr(
            checkpoint, "_write", lambda p, t: fail() if p.name == moment else write(p, t)
        )
    with pytest.raises(RunError, match="cannot write a checkpoint.*No space left"):
        checkpoint.save(folder, 2, tensors(), STATE)
    monkeypatch.undo()
    assert [p.name for p in folder.iterdir()] == [good.name]
    assert checkpoint.newest(folder) == good


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_of_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint._write
    monkeypatch.setattr(checkpoint, "_write", lambda p, t: real(Path("/dev/full"), t))
    with pytest.raises(RunError, match="No space left"):
        checkpoint.save(tmp_path, 2, tensors(), STATE)
    assert list(tmp_path.iterdir()) == []
