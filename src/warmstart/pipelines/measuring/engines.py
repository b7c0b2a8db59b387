"""`build`: another form of a saved model, measured against torch on the run's own rows.

How a candidate is tried, in a process of its own, stands in `pipelines/measuring/trials.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.config.keys import part_table
from warmstart.errors import DataError, RecipeError, RunError
from warmstart.formatting import counted
from warmstart.inference.auto import choose
from warmstart.inference.predictor import FORMS, Predictor, open_predictor
from warmstart.models.checks import of_run
from warmstart.pipelines.measuring.trials import ROWS, Candidate, Measured, Progress, measure
from warmstart.pipelines.prepare import load_splits
from warmstart.pipelines.reading.rows import AsTrained, labelled
from warmstart.pipelines.request import engine_of, settings_of
from warmstart.run import Run

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
MARGIN = 0.005
"""By how much of the main figure's range a candidate may be worse."""


def build(model: Path, data: Any, keys: Mapping[str, Any], progress: Progress) -> Any:
    """See `api.build`."""
    settings = settings_of("build", keys)
    engine = engine_of(keys)
    folder = of_run(model)
    predictor = open_predictor(folder)
    table = _rows(model, data, settings.data, predictor)
    automatic = engine.part_name() == "auto"
    own = part_table(engine)
    several = WRITERS if predictor.task.head.generates else CANDIDATES
    wanted = several if automatic else (("torch", {}), (own.pop("name"), own))
    candidates = [Candidate(folder, name, values) for name, values in wanted]
    measured = measure(candidates, table, progress)
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


def _fastest(measured: Sequence[Measured]) -> Measured:
    good = [row for row in measured if row.is_as_good(MARGIN)]
    return max(good, key=lambda row: row.rows_per_second or 0.0)


def _reason(best: Measured, measured: Sequence[Measured], rows: int) -> str:
    """Why it was chosen, in a sentence."""
    quicker = [row for row in measured if not (row.failure or row.is_as_good(MARGIN))
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
