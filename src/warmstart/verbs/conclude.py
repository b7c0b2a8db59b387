"""After training: the proof, the evaluation, the report and the model card."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.run import Run, write_json, write_text
from warmstart.verbs.prepare import Prepared

if TYPE_CHECKING:
    from warmstart.evaluate.harness import Evaluation
    from warmstart.models.catalog import Base
    from warmstart.train.fit import Progress


def conclude(
    run: Run,
    prepared: Prepared,
    progress: Progress,
    logits: dict[str, np.ndarray],
    speed: dict[str, Any],
    size: dict[str, Any],
) -> None:
    """Proof, evaluation, report, card."""
    import pyarrow.parquet as pq

    from warmstart.evaluate.harness import evaluate
    from warmstart.evaluate.predictions import Scored
    from warmstart.tasks.classification import softmax
    from warmstart.verbs.proof import prove

    test = prepared.splits.test
    texts: list[str] = test["text"].to_pylist()
    longest = prepared.task.max_length
    proof = prove(run.model, texts, softmax(logits["test"]), longest, prepared.recipe.seed)
    write_json(run.path / "proof.json", proof)
    scored = {
        name: Scored(
            logits[name],
            prepared.stores[name].targets,
            getattr(prepared.splits, name)["text"],
            getattr(prepared.splits, name)["_file"],
            getattr(prepared.splits, name)["_line"],
        )
        for name in ("test", "validation")
    }
    found = evaluate(
        prepared.recipe.evaluate,
        prepared.labels,
        scored["test"],
        scored["validation"],
        prepared.splits.train["text"],
        prepared.stores["train"].targets,
        progress.history,
        prepared.recipe.seed,
    )
    speed["peak_memory_mb"] = peak_memory_mb()
    write_json(run.path / "metrics.json", {**found.metrics, "speed": speed})
    fresh = run.path / ".predictions.parquet"
    try:
        pq.write_table(found.predictions, fresh)
        fresh.replace(run.path / "predictions.parquet")
    finally:
        fresh.unlink(missing_ok=True)
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    _publish(run, prepared, found, proof)
    run.update(status="done")


def _publish(run: Run, prepared: Prepared, found: Evaluation, proof: dict[str, Any]) -> None:
    from warmstart.evaluate.card import model_card
    from warmstart.evaluate.report import write_report

    facts = run.facts
    everything: dict[str, Any] = {
        "title": run.path.name,
        "created": facts["created"],
        "verdict": found.metrics["verdict"],
        "run": {"name": run.path.name, "path": str(run.path)},
        "recipe_toml": prepared.recipe.to_toml(),
        "method": prepared.method.part_name(),
        "base": {**facts["base"], **facts["size"], "hub_id": hub_id(prepared.base)},
        "license": prepared.base.license,
        "adapter": (run.model / "adapter_config.json").exists(),
        "data": prepared.ledger.summary(),
        "leakage": prepared.splits.leakage,
        "labels": prepared.labels,
        "metrics": found.metrics,
        "history": facts["history"],
        "errors": found.mistakes,
        "speed": facts["speed"],
        "proof": proof,
        "next": next_commands(run),
        "versions": facts["versions"],
    }
    write_report(run.report, everything)
    write_text(run.model / "README.md", model_card(everything))


def hub_id(base: Base) -> str | None:
    """The name under which the base is known on the hub, if it is."""
    from warmstart.models.embedded import EMBEDDED

    if base.source == "hub":
        return base.name
    return EMBEDDED[base.name].hub_id if base.source == "embedded" else None


def next_commands(run: Run) -> list[tuple[str, str]]:
    """What to type next, and what it does."""
    return [
        (f'warmstart predict {run.path} "your text"', "labels a text, with confidence"),
        (f"warmstart predict {run.path} new.csv --out labelled.csv", "labels every row of a file"),
        (f"warmstart evaluate {run.path} other.csv", "scores the model on other labelled data"),
    ]


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
