"""Saved models tried in processes of their own: what they answer, how fast, with how much memory.

`build` tries engines of one model, `compress` smaller models beside the one that they come from. A
candidate that crashes takes nothing along. What it answers is compared with the first one's
answers, row by row, alone and beside others; its speed is that of this machine, now.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from warmstart import part as parts
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import RunError, WarmstartError, shown
from warmstart.inference.predictor import FORMS, Predictor, open_predictor
from warmstart.metrics.bootstrap import Difference, difference
from warmstart.models.generation import GenerationOutput
from warmstart.models.heads import Head
from warmstart.pipelines.resources import status
from warmstart.tasks.base import Examples

Progress = Callable[[str, int, int], None]
"""(what, done, of) is called before each candidate is tried."""
ROWS, ALONE, SECONDS = 1_000, 32, 2.0
"""Rows that are compared, of these alone too, and how long each candidate is measured."""
LIMIT = 900
"""Seconds that a candidate may take, its export included."""
LEVEL = 0.95
"""Of the interval of a difference."""
SAME, ALIKE = 1e-3, 1e-6
"""Largest change of a probability, and of the agreement, up to which answers are the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model folder with the engine that computes it, and what the two are called."""

    folder: Path
    engine: str = "torch"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""

    @property
    def precision(self) -> str:
        return str(self.settings.get("precision", "fp32"))

    @property
    def words(self) -> str:
        """Its name, or else that of its engine with the precision."""
        return self.name or f"{self.engine} {self.precision}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of a candidate.

    Args:
        engine, precision, name: which.
        score, difference: the main figure on the rows, and what it is more than the first one's,
            with its interval.
        same: agreement with the first one's answers: the share of rows with the same answer; of
            numbers their correlation; of vectors their mean cosine.
        gap: the largest difference of a probability (or output) from the first one's; None where
            they cannot be laid beside each other.
        beside: the largest difference between a row alone and in a batch.
        rows_per_second, milliseconds: in bulk, and for one text (median).
        tokens_per_second: that it writes, in bulk.
        memory_mb, size_mb: the most memory of the process, and of the form on disk.
        failure: why it could not be tried.
    """

    engine: str
    precision: str
    name: str = ""
    score: float | None = None
    difference: Mapping[str, Any] | None = None
    same: float | None = None
    gap: float | None = None
    beside: float | None = None
    rows_per_second: float | None = None
    milliseconds: float | None = None
    tokens_per_second: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    failure: str = ""

    @property
    def agrees(self) -> bool:
        """Whether its answers are those of the first candidate, however sure it is of them."""
        return self.same is not None and self.same >= 1 - ALIKE

    @property
    def is_same(self) -> bool:
        """Whether its answers are those of the first candidate, and it is as sure of them."""
        return self.agrees and self.gap is not None and self.gap <= SAME

    def is_as_good(self, margin: float) -> bool:
        """Whether it may stand in for the first one: by the same answers, or by a score that is
        certainly not worse by more than a share `margin` of the figure's range."""
        if self.failure or self.score is None:
            return False
        return self.is_same or (self.difference is not None and self.difference["worst"] >= -margin)


def measure(
    candidates: Sequence[Candidate],
    table: pa.Table,
    progress: Progress,
    calibration: pa.Table | None = None,
) -> list[Measured]:
    """Try candidates on labelled rows and lay each beside the first.

    Args:
        table: rows of the task's columns; at most `ROWS` are best.
        calibration: rows on which a form may be calibrated, where these are others.

    Raises `RunError` where the first one fails; a failure of another is in what is returned.
    """
    with tempfile.TemporaryDirectory() as place:
        rows = _written(table, Path(place) / "rows.arrow")
        other = rows
        if calibration is not None:
            other = _written(calibration, Path(place) / "calibration.arrow")
        trials = list[Mapping[str, Any]]()
        for number, candidate in enumerate(candidates):
            progress(f"measuring {candidate.words}", number, len(candidates))
            trials.append(_try(candidate, rows, other, Path(place) / f"{number}.safetensors"))
        progress("comparing the answers", len(candidates), len(candidates))
    if "failure" in trials[0]:
        raise RunError(str(trials[0]["failure"]))
    return _compare(candidates, table, trials)


def _written(table: pa.Table, path: Path) -> Path:
    table = table.combine_chunks()
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return path


def _try(candidate: Candidate, rows: Path, calibration: Path, out: Path) -> Mapping[str, Any]:
    """What a candidate does with some rows, in a process of its own; a failure as {"failure"}."""
    request = json.dumps([str(candidate.folder), candidate.engine, dict(candidate.settings),
                          str(rows), str(calibration), str(out), SECONDS])  # fmt: skip
    code = "from warmstart.pipelines.measuring.trials import trial; trial()"
    try:
        done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True,
                              text=True, timeout=LIMIT, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failure": f"{candidate.words} took longer than {LIMIT // 60} minutes"}
    if done.returncode:
        ended = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else ""
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        text = f"{candidate.words} ended {ended}: {shown(last, 200)}" if ended else last
        return {"failure": text}
    return load_file(out)


def trial() -> None:
    """What the child process of `_try` does; the request comes by stdin. Errors go to stderr in a
    line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        answer(*json.load(sys.stdin))
    except WarmstartError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def answer(
    folder: str,
    name: str,
    values: Mapping[str, Any],
    rows: str,
    calibration: str,
    out: str,
    seconds: float,
) -> None:
    """Answer rows with an engine, all, one by one, and for some seconds again; write it to `out`.
    Raises `WarmstartError`."""
    engine: Any = parts.make("engine", name, dict(values))
    table, others = _read(rows), None
    if name != "torch":
        others = encoded(open_predictor(Path(folder)), _read(calibration))
    predictor = open_predictor(Path(folder), engine, rows=others)
    dataset = encoded(predictor, table)
    begun = time.perf_counter()
    outputs, alone, times = predictor.compute(dataset), list[Any](), list[float]()
    spent, count = time.perf_counter() - begun, len(table)
    for row in range(min(ALONE, len(table))):
        begun = time.perf_counter()
        alone.append(predictor.outputs(table.slice(row, 1))[0])
        times.append(time.perf_counter() - begun)
    if spent < seconds:  # the first pass is not the last one, and was slower
        begun, count, spent = time.perf_counter(), 0, 0.0
        while spent < seconds:
            predictor.compute(dataset)
            spent, count = time.perf_counter() - begun, count + len(table)
    figures = {
        "speed": count / spent, "milliseconds": 1000 * np.median(times),
        "memory": _peak_memory(),
        "size": _size(Path(folder), engine),
    }  # fmt: skip
    arrays = packed("outputs", [outputs]) | packed("alone", alone)
    save_file({**arrays, **{name: np.array(value) for name, value in figures.items()}}, out)


def packed(name: str, parts: Sequence[Any]) -> dict[str, np.ndarray]:
    """Outputs of rows behind one another, as arrays of a file."""
    if not isinstance(parts[0], GenerationOutput):
        return {name: np.concatenate(parts)}
    arrays = GenerationOutput.joined(parts).to_arrays()
    return {f"{name}.{key}": value for key, value in arrays.items()}


def unpacked(name: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `packed`."""
    if name in arrays:
        return arrays[name]
    own = {key.removeprefix(f"{name}."): value for key, value in arrays.items()
           if key.startswith(f"{name}.")}  # fmt: skip
    return GenerationOutput.of_arrays(own)


def shares(head: Head, outputs: Any) -> np.ndarray:
    """What two candidates are compared by: probabilities, or the confidence in each text."""
    return outputs.confidence if head.generates else head.probabilities(outputs)


def _peak_memory() -> float:
    """The most memory of this program so far, in MB. What `getrusage` says begins with that of the
    process that started it."""
    return status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read(path: str) -> pa.Table:
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()


def encoded(predictor: Predictor, table: pa.Table) -> TokenizedDataset:
    """The rows as the model reads them."""
    task = predictor.task
    return task.encode(table, predictor.labels, predictor.tokenizer, task.max_length)


def _size(folder: Path, engine: Any) -> float:
    """Megabytes of what the engine reads."""
    form = getattr(engine, "form", None)
    place = folder if form is None else folder / FORMS / engine.part_name() / form
    return sum(path.stat().st_size for path in place.iterdir() if path.is_file()) / 1e6


def _compare(
    candidates: Sequence[Candidate], table: pa.Table, trials: Sequence[Mapping[str, Any]]
) -> list[Measured]:
    """Each candidate beside the first. Each reads the rows by its own tokenizer."""
    opened: dict[Path, tuple[Predictor, Examples]] = {}
    for candidate in candidates:
        if candidate.folder not in opened:
            own = open_predictor(candidate.folder)
            examples = Examples(table, encoded(own, table), own.labels, own.tokenizer)
            opened[candidate.folder] = own, examples
    rows, first = list[Measured](), None
    for candidate, trial in zip(candidates, trials, strict=True):
        which = candidate.engine, candidate.precision, candidate.name
        if "failure" in trial:
            rows.append(Measured(*which, failure=str(trial["failure"])))
            continue
        predictor, examples = opened[candidate.folder]
        task, head = predictor.task, predictor.task.head
        outputs = unpacked("outputs", trial)
        result = task.evaluate({"test": outputs}, {"test": examples})
        answers = [row.value for row in task.decode(outputs, examples)]
        own, alone = shares(head, outputs), shares(head, unpacked("alone", trial))
        first = first or (result, answers, own)
        main = task.main_score
        apart = difference(result.measure, result.statistics, first[0].statistics, main,
                           level=LEVEL)  # fmt: skip
        rows.append(Measured(
            *which,
            score=float(result.measure.total(result.statistics)[main]),
            difference=_difference(apart, result.measure, main, first[0].statistics),
            same=agreement(head, answers, first[1]),
            gap=float(np.abs(own - first[2]).max()) if own.shape == first[2].shape else None,
            beside=float(np.abs(alone - own[: len(alone)]).max()),
            rows_per_second=float(trial["speed"]), milliseconds=float(trial["milliseconds"]),
            tokens_per_second=_written_in(outputs, float(trial["speed"])),
            memory_mb=float(trial["memory"]), size_mb=float(trial["size"]),
        ))  # fmt: skip
    return rows


def agreement(head: Head, answers: Sequence[Any], others: Sequence[Any]) -> float:
    """How far answers are the same; see `Measured.same`."""
    if head.gives_vectors:
        left, right = (np.array(rows, np.float64) for rows in (answers, others))
        if left.shape != right.shape:
            return float("nan")
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        return float(((left * right).sum(1) / np.maximum(lengths, 1e-12)).mean())
    if not head.states_confidence:
        left, right = (np.array(rows, np.float64) for rows in (answers, others))
        if np.allclose(left, right, rtol=1e-5, atol=1e-6):
            return 1.0
        return float(np.corrcoef(left, right)[0, 1])
    return float(np.mean([a == b for a, b in zip(answers, others, strict=True)]))


def _difference(apart: Difference, measure: Any, name: str, first: np.ndarray) -> dict[str, Any]:
    """A difference, and the worst that it may be as a share of the figure's range; of one without
    a range, such as a loss in nats, as a share of the first candidate's figure."""
    worst = -apart.high if apart.lower_is_better else apart.low
    lost = apart.difference if apart.lower_is_better else -apart.difference
    top = measure.highest(name)
    span = top or abs(float(measure.total(first)[name])) or 1.0
    unit = "%" if top is None else "points"
    return {**apart.as_dict(), "worst": worst / span, "lost": lost / span, "span": span,
            "unit": unit}  # fmt: skip


def _written_in(outputs: Any, rows_per_second: float) -> float | None:
    """Tokens a second of texts that are written; None of other answers."""
    if not isinstance(outputs, GenerationOutput):
        return None
    return rows_per_second * sum(len(ids or []) for ids in outputs) / max(len(outputs), 1)
