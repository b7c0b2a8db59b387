"""What the benchmarks share: the rows, and one fresh process for each measurement.

The parent process stays thin (no torch, no numpy), because a child's peak resident size counts
from what it was forked from.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = (ROOT / ".." / "shared" / "data" / "tweet_emotion").resolve()
SAMPLES = ROOT / "src" / "warmstart" / "samples" / "tickets.csv"
SPLITS = ("train", "validation", "test")
BEGAN = "WARMSTART_BENCH_BEGAN"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Texts:
    """One split: texts and the numbers of their labels."""

    texts: list[str]
    targets: list[int]


def read_rows(path: Path) -> Rows:
    """(text, label) of a CSV file with these columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """The inverse of `read_rows`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def splits_of(data: Path) -> tuple[dict[str, Rows], str]:
    """The rows of every split, and what to say about them; the samples where `data` is missing."""
    if all((data / f"{name}.csv").is_file() for name in SPLITS):
        return {name: read_rows(data / f"{name}.csv") for name in SPLITS}, data.name
    rows = read_rows(SAMPLES)
    random.Random(0).shuffle(rows)
    cut, end = int(0.7 * len(rows)), int(0.8 * len(rows))
    parts = {"train": rows[:cut], "validation": rows[cut:end], "test": rows[end:]}
    return parts, f"{SAMPLES.name}, the samples of the package, because {data} is missing"


@contextmanager
def folder_with(
    splits: Mapping[str, Rows], rows: int | None = None, others: int | None = None
) -> Iterator[Path]:
    """A temporary folder `data/` with the first `rows` of train and `others` of the rest, and room
    beside it for what the workers write."""
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as name:
        data = Path(name) / "data"
        data.mkdir()
        for split, found in splits.items():
            write_rows(data / f"{split}.csv", found[: rows if split == "train" else others])
        yield data


def load(folder: Path) -> tuple[dict[str, Texts], list[str]]:
    """The splits of a folder that `folder_with` made, and the sorted labels."""
    rows = {name: read_rows(folder / f"{name}.csv") for name in SPLITS}
    labels = sorted({label for _, label in rows["train"]})
    number = {label: index for index, label in enumerate(labels)}
    return {
        name: Texts([text for text, _ in found], [number[label] for _, label in found])
        for name, found in rows.items()
    }, labels


def base_model() -> Path:
    """The folder of the embedded base model; imports no torch."""
    from warmstart.models.base import folder_of

    return folder_of("minilm")


def run_worker(script: str, name: str, keys: Mapping[str, Any], env: Mapping[str, str] | None = None
               ) -> dict[str, Any]:  # fmt: skip
    """Run `script --worker NAME` in a process of its own; what it handed to `hand_back`.

    Raises `RuntimeError` with the end of its stderr when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        out = Path(folder) / "result.json"
        request = json.dumps({**keys, "folder": folder, "result": str(out)})
        command = [sys.executable, str(Path(script).resolve()), "--worker", name]
        command += ["--request", request]
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        began = {BEGAN: repr(time.time())}
        whole = {**os.environ, **quiet, **(env or {}), **began}
        done = subprocess.run(command, env=whole, cwd=folder, capture_output=True, text=True)  # noqa: PLW1510
        if done.returncode or not out.is_file():
            raise RuntimeError(f"{name} failed ({done.returncode}):\n{done.stderr[-2000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def process_seconds() -> float:
    """Seconds since the parent started this process: interpreter and imports included."""
    return time.time() - float(os.environ.get(BEGAN, time.time()))


def peak_mb() -> float:
    """The largest resident size of this process so far, in MB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def hand_back(request: Mapping[str, Any], **facts: Any) -> None:
    """Give the parent what was measured; the peak of the memory unless it was taken before."""
    facts.setdefault("peak_mb", peak_mb())
    Path(request["result"]).write_text(json.dumps(facts), encoding="utf-8")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The flags that every benchmark has."""
    words = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--data", type=Path, default=DATA, help="a folder with the three splits")
    words.add_argument("--quick", action="store_true", help="tiny: does it run at all?")
    words.add_argument("--json", type=Path, help="where to write every single measurement")
    words.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    words.add_argument("--worker", help=argparse.SUPPRESS)
    words.add_argument("--request", type=json.loads, help=argparse.SUPPRESS)
    return words


def contestants(words: argparse.ArgumentParser, asked: str, known: Sequence[str]) -> list[str]:
    """The names in a list with commas; ends the program for one that nobody knows."""
    names = asked.split(",")
    if unknown := {*names} - {*known}:
        words.error(f"no contestant {', '.join(sorted(unknown))}")
    return names


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The order of round `by`: each one goes first in turn."""
    by %= max(len(names), 1)
    return [*names[by:], *names[:by]]
