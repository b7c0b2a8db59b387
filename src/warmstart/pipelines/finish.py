"""After training: the proof, the evaluation, the report and the model card."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from warmstart.files import write_atomically, write_json, write_text
from warmstart.pipelines.next_steps import next_steps
from warmstart.pipelines.prepare import Prepared
from warmstart.run import Run

if TYPE_CHECKING:
    from warmstart.evaluation.evaluate import Evaluation
    from warmstart.training.trainer import Progress


NO_TOKENS = "none in training: the head read hidden states that were computed once"


def conclude(
    run: Run,
    prepared: Prepared,
    progress: Progress,
    outputs: dict[str, Any],
    speed: dict[str, Any],
    size: dict[str, Any],
    forgetting: dict[str, Any] | None = None,
) -> None:
    """Proof, evaluation, report, card."""
    import pyarrow.parquet as pq

    from warmstart.evaluation.evaluate import evaluate
    from warmstart.evaluation.forgetting import section
    from warmstart.pipelines.verify import prove_task
    from warmstart.training.memory import give_back_memory

    recipe, examples = prepared.recipe, prepared.examples
    proof = prove_task(run.model, prepared.task, examples["test"], outputs["test"], recipe.seed)
    write_json(run.path / "proof.json", proof)
    give_back_memory()  # the model that was loaded afresh
    found = evaluate(
        recipe.evaluate, prepared.task, outputs, examples, progress.history, recipe.seed
    )
    if forgetting:
        found.metrics["forgetting"] = forgetting
        found.metrics["sections"] = [*found.metrics.get("sections", []), section(forgetting)]
    speed["peak_memory_mb"] = peak_memory_mb()
    write_json(run.path / "metrics.json", {**found.metrics, "speed": speed})
    with write_atomically(run.path / "predictions.parquet") as part:
        pq.write_table(found.predictions, part)
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    _publish(run, prepared, found, proof)
    run.update(status="done")


def _publish(run: Run, prepared: Prepared, found: Evaluation, proof: dict[str, Any]) -> None:
    from warmstart.reporting.model_card import model_card
    from warmstart.reporting.page import write_report

    facts = run.facts
    everything: dict[str, Any] = {
        "title": run.path.name,
        "created": facts["created"],
        "verdict": found.metrics["verdict"],
        "run": {"name": run.path.name, "path": str(run.path)},
        "recipe_toml": prepared.recipe.to_toml(),
        "method": prepared.method.part_name(),
        "base": {**facts["base"], **facts["size"], "hub_id": prepared.base.hub_id},
        "license": prepared.base.license,
        "adapter": (run.model / "adapter_config.json").exists(),
        "data": prepared.ledger.summary(),
        "leakage": prepared.splits.leakage,
        "labels": prepared.labels,
        "task": {"name": prepared.task.part_name(), "head": prepared.task.head.name},
        "metrics": found.metrics,
        "history": facts["history"],
        "errors": found.mistakes,
        "speed": facts["speed"],
        "proof": proof,
        "next": next_steps(prepared.task, run.answers_from),
        "versions": facts["versions"],
    }
    write_report(run.report, everything)
    write_text(run.model / "README.md", model_card(everything))


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
