"""`build`: another form of a saved model, measured against torch on the run's own rows.

Every candidate is tried in a process of its own, with limits of time and memory: a library that
crashes takes nothing along. What it answers is compared with what torch answers in float32, alone
and beside others; its speed is that of this machine, now.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from warmstart import part as parts
from warmstart.config.keys import part_table
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import DataError, RecipeError, RunError, WarmstartError, shown
from warmstart.formatting import counted
from warmstart.inference.auto import choose
from warmstart.inference.predictor import FORMS, Predictor, open_predictor
from warmstart.metrics.bootstrap import Difference, difference
from warmstart.models.generation import GenerationOutput
from warmstart.models.heads import Head
from warmstart.pipelines.prepare import load_splits
from warmstart.pipelines.reading.rows import AsTrained, labelled
from warmstart.pipelines.request import engine_of, settings_of
from warmstart.run import Run
from warmstart.tasks.base import Examples

CANDIDATES: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("torch", {}), ("torch", {"precision": "bf16"}), ("onnx", {}), ("openvino", {}),
    ("openvino", {"precision": "bf16"}), ("openvino", {"precision": "int8"}),
)  # fmt: skip
"""What `auto` chooses among. The 8 bits of ONNX Runtime answer otherwise in another batch."""
WRITERS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("torch", {}), ("torch", {"precision": "bf16"}), ("openvino_genai", {}),
    ("openvino_genai", {"precision": "int8"}), ("ctranslate2", {}),
    ("ctranslate2", {"precision": "int8"}),
)  # fmt: skip
"""Where the answers are texts."""
TEXTS = 64
"""Rows that are compared where the answers are texts."""
Progress = Callable[[str, int, int], None]
"""(what, done, of) is called before each engine is tried."""
ROWS, ALONE, SECONDS = 1_000, 32, 2.0
"""Rows that are compared, of these alone too, and how long each candidate is measured."""
LIMIT = 900
"""Seconds that a candidate may take, its export included."""
MARGIN, LEVEL = 0.005, 0.95
"""By how much of the main figure's range a candidate may be worse, and how sure that has to be."""
SAME = 1e-3
"""Largest change of a probability up to which answers are those of torch."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of an engine.

    Args:
        engine, precision: which.
        score, difference: the main figure on the rows, and what it is more than torch's, with its
            interval.
        same: share of the rows with torch's own answer.
        gap: the largest difference of a probability (or output) from torch.
        beside: the largest difference between a row alone and in a batch.
        rows_per_second, milliseconds: in bulk, and for one text (median).
        memory_mb, size_mb: the most memory of the process, and of the form on disk.
        failure: why it could not be tried.
    """

    engine: str
    precision: str
    score: float | None = None
    difference: Mapping[str, Any] | None = None
    same: float | None = None
    gap: float | None = None
    beside: float | None = None
    rows_per_second: float | None = None
    milliseconds: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    failure: str = ""

    @property
    def is_as_good(self) -> bool:
        """Whether it may stand in for torch: by the same answers, or by a score that is certainly
        not worse by more than `MARGIN`."""
        if self.failure or self.gap is None:
            return False
        if self.gap <= SAME and self.same == 1.0:
            return True
        return self.difference is not None and self.difference["worst"] >= -MARGIN


def build(model: Path, data: Any, keys: Mapping[str, Any], progress: Progress) -> Any:
    """See `api.build`."""
    settings = settings_of("build", keys)
    engine = engine_of(keys)
    folder = model / "model" if (model / "model").is_dir() else model
    predictor = open_predictor(folder)
    table = _rows(model, data, settings.data, predictor)
    automatic = engine.part_name() == "auto"
    own = part_table(engine)
    several = WRITERS if predictor.task.head.generates else CANDIDATES
    wanted = several if automatic else (("torch", {}), (own.pop("name"), own))
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "rows.arrow"
        with pa.ipc.new_file(source, table.schema) as writer:
            writer.write_table(table)
        trials = list[Mapping[str, Any]]()
        for number, (name, values) in enumerate(wanted):
            progress(_words(name, values), number, len(wanted))
            trials.append(_try(folder, name, values, source))
        progress("compare", len(wanted), len(wanted))
    measured = _compare(predictor, table, wanted, trials)
    if not automatic and measured[-1].failure:
        raise RunError(measured[-1].failure)
    best, reason = None, ""
    if automatic:
        best = _fastest(measured)
        number = measured.index(best)
        reason = _reason(best, measured, len(table))
        out = folder / FORMS / "auto"
        choose(folder, out, wanted[number][0], dict(wanted[number][1]), reason)
    return {
        "model": str(folder), "rows": len(table), "main": predictor.task.main_score,
        "engines": [asdict(row) for row in measured],
        "chosen": None if best is None else {"engine": best.engine, "precision": best.precision,
                                             "reason": reason},
    }  # fmt: skip


def _rows(model: Path, data: Any, settings: Any, predictor: Predictor) -> pa.Table:
    """Labelled rows to compare on: those of `data`, or the run's own of validation."""
    if data is not None:
        table = labelled(data, AsTrained(settings, predictor))
    elif (model / "run.json").is_file():
        recipe: Any = Run(model).recipe
        if recipe.data.path is None and recipe.data.train is None:
            raise DataError(
                f"the data of the run {model} were given in Python and are not in a file; name "
                f"labelled rows: warmstart build {model} DATA"
            )
        table = load_splits(recipe)[0].validation
    else:
        raise RecipeError(
            f"{model} is no run, so its data are not known; name labelled rows: "
            f"warmstart build {model} DATA"
        )
    if not len(table):
        raise DataError("there are no rows to compare the engines on; name some after the model")
    return table.slice(0, TEXTS if predictor.task.head.generates else ROWS).combine_chunks()


def _words(name: str, values: Mapping[str, Any]) -> str:
    return f"{name} {values.get('precision', 'fp32')}"


def _try(folder: Path, name: str, values: Mapping[str, Any], rows: Path) -> Mapping[str, Any]:
    """What an engine does with some rows, in a process of its own; a failure as {"failure"}."""
    words = _words(name, values)
    out = rows.with_name(f"{words.replace(' ', '-')}.safetensors")
    request = json.dumps([str(folder), name, dict(values), str(rows), str(out)])
    code = "from warmstart.pipelines.engines import trial; trial()"
    try:
        done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True,
                              text=True, timeout=LIMIT, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failure": f"{words} took longer than {LIMIT // 60} minutes"}
    if done.returncode:
        ended = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else ""
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return {"failure": f"{words} ended {ended}: {shown(last, 200)}" if ended else last}
    return load_file(out)


def trial() -> None:
    """What the child process of `_try` does; the request comes by stdin. Errors go to stderr in a
    line."""
    folder, name, values, rows, out = json.load(sys.stdin)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        engine: Any = parts.make("engine", name, values)
        with pa.memory_map(rows) as file:
            table = pa.ipc.open_file(file).read_all()
        rows_of_data = _encoded(open_predictor(Path(folder)), table)
        predictor = open_predictor(Path(folder), engine, rows=rows_of_data)
    except WarmstartError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    dataset = _encoded(predictor, table)
    outputs, alone, times = predictor.compute(dataset), list[Any](), list[float]()
    for row in range(min(ALONE, len(table))):
        begun = time.perf_counter()
        alone.append(predictor.outputs(table.slice(row, 1))[0])
        times.append(time.perf_counter() - begun)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        predictor.compute(dataset)
        count += len(table)
    figures = {
        "speed": count / (time.perf_counter() - begun), "milliseconds": 1000 * np.median(times),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
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
    """What two engines are compared by: probabilities, or the confidence in each text."""
    return outputs.confidence if head.generates else head.probabilities(outputs)


def _encoded(predictor: Predictor, table: pa.Table) -> TokenizedDataset:
    """The rows as the model reads them."""
    task = predictor.task
    return task.encode(table, predictor.labels, predictor.tokenizer, task.max_length)


def _size(folder: Path, engine: Any) -> float:
    """Megabytes of what the engine reads."""
    form = getattr(engine, "form", None)
    place = folder if form is None else folder / FORMS / engine.part_name() / form
    return sum(path.stat().st_size for path in place.iterdir() if path.is_file()) / 1e6


def _compare(
    predictor: Predictor,
    table: pa.Table,
    wanted: Sequence[tuple[str, Mapping[str, Any]]],
    trials: Sequence[Mapping[str, Any]],
) -> list[Measured]:
    """Each engine beside the first, which is torch. Raises `RunError` where torch failed."""
    task = predictor.task
    if "failure" in trials[0]:
        raise RunError(str(trials[0]["failure"]))
    examples = Examples(table, _encoded(predictor, table), predictor.labels, predictor.tokenizer)
    results = [None if "failure" in trial else
               task.evaluate({"test": unpacked("outputs", trial)}, {"test": examples})
               for trial in trials]  # fmt: skip
    first, head, main = results[0], task.head, task.main_score
    assert first is not None
    wanted_outputs = unpacked("outputs", trials[0])
    reference = shares(head, wanted_outputs)
    answers = [row.value for row in task.decode(wanted_outputs, examples)]
    rows: list[Measured] = []
    for (name, values), trial, result in zip(wanted, trials, results, strict=True):
        precision = str(values.get("precision", "fp32"))
        if result is None:
            rows.append(Measured(name, precision, failure=str(trial["failure"])))
            continue
        outputs = unpacked("outputs", trial)
        own, alone = shares(head, outputs), shares(head, unpacked("alone", trial))
        theirs = [row.value for row in task.decode(outputs, examples)]
        apart = difference(result.measure, result.statistics, first.statistics, main, level=LEVEL)
        rows.append(Measured(
            name, precision,
            score=float(result.measure.total(result.statistics)[main]),
            difference=_difference(apart, result.measure.highest(main)),
            same=float(np.mean([a == b for a, b in zip(theirs, answers, strict=True)])),
            gap=float(np.abs(own - reference).max()),
            beside=float(np.abs(alone - own[: len(alone)]).max()),
            rows_per_second=float(trial["speed"]), milliseconds=float(trial["milliseconds"]),
            memory_mb=float(trial["memory"]), size_mb=float(trial["size"]),
        ))  # fmt: skip
    return rows


def _difference(apart: Difference, highest: float | None) -> dict[str, Any]:
    """A difference, and the worst that it may be as a share of the figure's range."""
    worst = -apart.high if apart.lower_is_better else apart.low
    return {**apart.as_dict(), "worst": worst / (highest or 1.0)}


def _fastest(measured: Sequence[Measured]) -> Measured:
    good = [row for row in measured if row.is_as_good]
    return max(good, key=lambda row: row.rows_per_second or 0.0)


def _reason(best: Measured, measured: Sequence[Measured], rows: int) -> str:
    """Why it was chosen, in a sentence."""
    quicker = [row for row in measured if not (row.failure or row.is_as_good)
               and (row.rows_per_second or 0) > (best.rows_per_second or 0)]  # fmt: skip
    times = (best.rows_per_second or 0.0) / (measured[0].rows_per_second or 1.0)
    text = (
        f"{best.engine} in {best.precision}, {times:.1f} times as many rows a second as torch in "
        f"fp32, and not worse on {counted(rows)}"
    )
    if best is measured[0]:
        text = "torch in fp32: nothing that is as good was faster"
    if quicker:
        names = " and ".join(f"{row.engine} in {row.precision}" for row in quicker)
        text += (
            f"; {names} would be faster, but {counted(rows)} cannot show that the answers are not "
            "worse: name more labelled rows after the model"
        )
    return text
