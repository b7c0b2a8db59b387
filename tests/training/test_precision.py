"""Which number type, which device, and whose memory."""

from __future__ import annotations

import pytest
import torch

from learning import CPU
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
