"""After training: the proof, the evaluation, the report and the model card."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from warmstart.evaluation.evaluate import evaluate
from warmstart.evaluation.forgetting import section
from warmstart.files import write_atomically, write_json, write_text
from warmstart.pipelines.next_steps import next_steps
from warmstart.pipelines.prepare import Prepared
from warmstart.pipelines.verify import prove_task
from warmstart.reporting.model_card import model_card
from warmstart.reporting.page import write_report
from warmstart.run import Run, report_of
from warmstart.training.memory import give_back_memory
from warmstart.types import Metrics, RunReport, Verdict

if TYPE_CHECKING:
    from warmstart.training.trainer import Progress

NO_TOKENS = "none in training: the head read hidden states that were computed once"


def finish(
    run: Run,
    prepared: Prepared,
    progress: Progress,
    outputs: dict[str, Any],
    speed: dict[str, Any],
    size: dict[str, Any],
    forgetting: dict[str, Any] | None = None,
) -> RunReport:
    """Proof, evaluation, report, card."""
    recipe, examples = prepared.recipe, prepared.examples
    proof = prove_task(run.model, prepared.task, examples["test"], outputs["test"], recipe.seed)
    write_json(run.path / "proof.json", proof)
    give_back_memory()  # the model that was loaded afresh
    evaluation = evaluate(
        recipe.evaluate, prepared.task, outputs, examples, progress.history, recipe.seed
    )
    speed["peak_memory_mb"] = peak_memory_mb()
    metrics = replace(Metrics.from_json(evaluation.metrics), speed=speed)
    if forgetting:
        sections = [*(metrics.sections or ()), section(forgetting)]
        metrics = replace(metrics, forgetting=Verdict.from_json(forgetting), sections=sections)
    write_json(run.path / "metrics.json", metrics.to_json())
    with write_atomically(run.path / "predictions.parquet") as part:
        pq.write_table(evaluation.predictions, part)
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    report = report_of(run, recipe)
    report = replace(
        report,
        base={**report.base, "hub_id": prepared.base.hub_id},
        license=prepared.base.license,
        leakage=prepared.splits.leakage,
        metrics=metrics,
        mistakes=evaluation.mistakes,
        next=next_steps(prepared.task, run.answers_from),
    )
    write_report(run.report, report)
    write_text(run.model / "README.md", model_card(report))
    run.update(status="done")
    return report


def speed_of(progress: Progress, caching: float, device: str, precision: str) -> dict[str, Any]:
    """How long training took; `caching` are the seconds before it, for states computed once.

    Where a head alone learned from such states, no token passed through the model in training and
    there are no tokens per second.
    """
    rate = round(progress.tokens / max(progress.seconds, 1e-9), 1)
    return {
        "seconds": round(progress.seconds, 2),
        "rows": progress.rows,
        "rows_per_second": round(progress.rows / max(progress.seconds, 1e-9), 1),
        **({"tokens_per_second": rate} if progress.tokens else {"tokens": NO_TOKENS}),
        "feature_seconds": round(caching, 2),
        "device": device,
        "precision": precision,
    }


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
