"""What the benchmarks say: the machine, the statistics, the tables."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _common import run_worker

Measures = dict[str, list[dict[str, Any]]]
"""For every contestant its results, one for each round."""


def machine() -> dict[str, str]:
    """What the figures depend on."""
    facts = {
        "CPU": _cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
                     os.cpu_count()),
        "RAM": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }  # fmt: skip
    for name in ("torch", "transformers", "sentence-transformers", "scikit-learn", "warmstart"):
        facts[name] = _version(name)
    return facts


def load_average() -> str:
    """Of the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def announce(title: str, data: str) -> dict[str, Any]:
    """Print what is about to be measured, on what; returns it for the JSON file."""
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "data": data,
        "machine": machine(),
        "load_before": load_average(),
    }
    print(f"## {title}\n\nData: {data}. Command: `{facts['command']}`.")
    print("Machine: " + ", ".join(f"{k} {v}" for k, v in facts["machine"].items()) + ".")
    print(f"Load average before: {facts['load_before']}.", flush=True)
    if os.getloadavg()[0] > 0.5:
        print("**The machine was not quiet before the run; do not believe the times.**", flush=True)
    return facts


def close(facts: dict[str, Any], path: Path | None) -> None:
    """Print the load after the run and write everything to `path`."""
    facts["load_after"] = load_average()
    print(f"\nLoad average after: {facts['load_after']} (our own work included).", flush=True)
    if path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def measure(
    script: str,
    found: Measures,
    name: str,
    keys: Mapping[str, Any],
    number: int,
    told: Callable[[dict[str, Any]], str],
    *,
    what: str = "round",
    worker: str | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """One contestant once, told in a line; a failure is told and left out.

    Args:
        told: what is said of a result.
        worker: what the script's worker is called, if not as the contestant.
    """
    what = f"{what} {number}"
    try:
        result = run_worker(script, worker or name, keys, env)
    except RuntimeError as error:
        print(f"{what}: {error}", file=sys.stderr, flush=True)
        return
    found[name].append({"round": number, **result})
    print(f"{what}, {name}: {told(result)}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a markdown table, the first column on the left."""
    print("\n| " + " | ".join(head) + " |")
    print("|---" + "|---:" * (len(head) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) < 2:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def column(results: Sequence[dict[str, Any]], key: str) -> list[float]:
    """One figure of every round."""
    return [float(result[key]) for result in results]


def ratios(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], key: str) -> str:
    """How many times better ours is: median and range of the ratios within each round.

    Rates are ours / theirs, seconds theirs / ours.
    """
    mine = {result["round"]: float(result[key]) for result in ours}
    pairs = [(mine[r["round"]], float(r[key])) for r in theirs if r["round"] in mine]
    if not pairs:
        return "–"
    rate = key.endswith("per_second")
    return spread([a / b if rate else b / a for a, b in pairs], 2) + "×"


def mean_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    if len(values) < 2:
        return f"{values[0]:.4f} (1 seed)"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours minus theirs with Welch's 95 % interval (Welch 1947)."""
    gap = statistics.mean(ours) - statistics.mean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return f"{gap:+.4f} (too few seeds for an interval)"
    from scipy.stats import t

    a = statistics.variance(ours) / len(ours)
    b = statistics.variance(theirs) / len(theirs)
    if a + b == 0:
        return f"{gap:+.4f} (no spread)"
    freedom = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (len(theirs) - 1))
    half = float(t.ppf(0.975, freedom)) * (a + b) ** 0.5
    word = "within noise" if abs(gap) <= half else "**not noise**"
    return f"{gap:+.4f} [{gap - half:+.4f}, {gap + half:+.4f}], {word}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in facts.items()}
    flags = found.get("flags", "").split()
    extras = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return " ".join([found.get("model name", platform.machine()), *extras])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        if name != "warmstart":
            return "none"
        import warmstart

        return f"{warmstart.__version__} (source)"
