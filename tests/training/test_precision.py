"""Which number type, which device, and whose memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from learning import CPU
from preloaded import ENVIRONMENT
from warmstart.errors import RecipeError
from warmstart.training import precision
from warmstart.training.memory import give_back_memory, keep_freed_memory, small_heap


def test_as_told() -> None:
    assert precision.choose("fp32", CPU) == torch.float32
    assert precision.choose("bf16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("times", "expected"),
    [((2.0, 1.0), torch.bfloat16), ((1.2, 1.0), torch.float32), ((1.0, 4.0), torch.float32)],
)
def test_auto_takes_what_is_measured_to_be_faster(
    times: tuple[float, float], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = dict(zip((torch.float32, torch.bfloat16), times, strict=True))
    monkeypatch.setattr(precision, "_seconds", lambda *dtypes: [seconds[d] for d in dtypes])
    assert precision.choose("auto", CPU) == expected


def test_auto_measures() -> None:
    assert precision.choose("auto", CPU) in (torch.float32, torch.bfloat16)
    threads = torch.get_num_threads()
    assert all(0 < seconds < 1 for seconds in precision._seconds(torch.float32, torch.bfloat16))
    assert torch.get_num_threads() == threads


def test_device() -> None:
    assert precision.device_named("cpu") == CPU
    assert precision.device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r"train\.device is cuda.*leave it at auto"):
        precision.device_named("cuda")


def test_freed_memory_is_kept_and_given_back() -> None:
    """At any time and again; each says whether the C library listened, and it has let go."""
    import platform

    def held() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    heard = platform.libc_ver()[0] == "glibc"
    for _ in range(2):
        assert small_heap() == keep_freed_memory() == heard
        blocks = [torch.ones(1 << 18) for _ in range(200)]
        full = held()
        del blocks
        kept = held()
        assert give_back_memory() == heard
        if heard:
            assert kept > full - (50 << 20)
            assert held() < full - (150 << 20)


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 3.0),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b", 0.5),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000",
             "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            "4:cpu,cpuacct:/x\n3:memory:/y", 2.0,
        ),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu:/x", None),
        ({"cpu.max": "what"}, "no group", None),
        ({}, "0::/", None),
    ],
)  # fmt: skip
def test_a_quota_of_a_container_is_read(
    files: dict[str, str], own: str, cores: float | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    assert precision.cpu_quota(tmp_path / "groups", tmp_path / "own") == cores


def test_threads_are_no_more_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for asked, quota, used in [(4, None, 4), (4, 1.5, 2), (4, 0.2, 1), (1, 8.0, 1)]:
            torch.set_num_threads(asked)
            monkeypatch.setattr(precision, "cpu_quota", lambda quota=quota: quota)
            assert precision.use_cores() == used == torch.get_num_threads()
        assert precision.use_cores(3) == 3 == torch.get_num_threads(), "as a run had"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("own", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    own: dict[str, str], policy: str
) -> None:
    clean = {k: v for k, v in ENVIRONMENT.items() if k not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    code = "import os, sys, warmstart; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | own, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [policy, "False"]
