"""After the training of several tasks: each proven and evaluated on its own, then the whole run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from warmstart.data.splitting import row_units
from warmstart.errors import ProofError
from warmstart.evaluation import sentences as words
from warmstart.evaluation.evaluate import scale
from warmstart.files import write_json, write_text
from warmstart.metrics.bootstrap import difference
from warmstart.models.architectures import family_of
from warmstart.models.checks import config_file
from warmstart.pipelines.finish import finish, next_steps_of_tasks, peak_memory_mb
from warmstart.pipelines.multitask.prepare import PreparedTasks
from warmstart.pipelines.session import Session
from warmstart.reporting.multitask import render_tasks
from warmstart.run import Run, read_json
from warmstart.training.progress import Progress

OUTPUTS = dict[str, Any]
WHOLE = ("verdict", "main", "titles", "rows", "confidence_level", "scale", "comparison", "notes")
"""What of a task's metrics stands in those of the run; all of it stands in tasks/<name>."""


class TaskRun(Run):
    """What one of the tasks of a run gave: `tasks/<name>` beside `model/<name>`."""

    @property
    def model(self) -> Path:
        return self.path.parent.parent / "model" / self.path.name

    @property
    def answers_from(self) -> Path:
        return self.model


def finish_tasks(
    run: Run,
    prepared: PreparedTasks,
    progress: Progress,
    outputs: dict[str, OUTPUTS],
    speed: dict[str, Any],
    size: dict[str, Any],
) -> None:
    """Proof, evaluation, report and card of each task; metrics, proof and report of the run."""
    for name in prepared.trained:
        _finish_task(run, name, prepared, progress, outputs[name], speed, size[name])
    folders = {name: run.path / "tasks" / name for name in prepared.trained}
    results = {name: read_json(folder / "metrics.json") for name, folder in folders.items()}
    alone: dict[str, Any] = {}
    if prepared.task.compare:
        alone = {
            name: _compare_with_alone(run, name, prepared, outputs[name], metrics["titles"])
            for name, metrics in results.items()
        }
        shutil.rmtree(run.path / "alone")
    models = [run.model / name for name in folders]
    proofs = {name: read_json(folder / "proof.json") for name, folder in folders.items()}
    proof = {"passed": True, "tasks": proofs, "shared": prove_shared(models)}
    write_json(run.path / "proof.json", proof)
    speed["peak_memory_mb"] = peak_memory_mb()
    metrics = {**_metrics(prepared, results, alone), "speed": speed}
    write_json(run.path / "metrics.json", metrics)
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    facts = {
        **run.facts,
        "name": run.path.name,
        "method": prepared.recipe.method.part_name(),
        "recipe_toml": prepared.recipe.to_toml(),
        "metrics": metrics,
        "proof": proof,
        "next": next_steps_of_tasks(models),
    }
    write_text(run.report, render_tasks(facts))
    run.update(status="done")


def _finish_task(
    run: Run,
    name: str,
    prepared: PreparedTasks,
    progress: Progress,
    outputs: OUTPUTS,
    speed: dict[str, Any],
    size: dict[str, int],
) -> None:
    """Finish one task as a run of its own; the training loss is that of all tasks together."""
    folder, own = run.path / "tasks" / name, prepared.trained[name]
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was stopped left
    kept = {key: run.facts[key] for key in ("created", "versions")}
    part = TaskRun.create(folder, own.recipe, {**own.facts(), **kept})
    own.ledger.write(folder)
    history = [
        {
            **{key: row[key] for key in ("epoch", "step", "kept")},
            "train_loss": None,
            "validation_loss": row[f"loss:{name}"],
            "validation_score": row[f"score:{name}"],
        }
        for row in progress.history
    ]
    finish(part, own, replace(progress, history=history), outputs, dict(speed), size)
    (folder / "run.json").unlink()  # a part of a run, and none that could be resumed


def _compare_with_alone(
    run: Run,
    name: str,
    prepared: PreparedTasks,
    together: OUTPUTS,
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """Train a task by itself with the same settings: did sharing help?

    Together minus alone on the test rows, as the paired difference of the main figure; the outcome
    is "better", "worse" or "noise".
    """
    folder, before = run.path / "alone" / name, prepared.each[name]
    folder.mkdir(parents=True, exist_ok=True)
    settings = before.recipe.evaluate
    unmeasured = {"evaluate": settings.model_copy(update={"forgetting": False})}
    recipe = before.recipe.model_copy(update=unmeasured)
    single = Session.begin(replace(before, recipe=recipe))
    single.fit(folder, [], resume=True)
    outputs, shared = single.answers(), prepared.trained[name]
    ours = shared.task.evaluate(together, shared.examples)
    theirs = single.prepared.task.evaluate(outputs, single.prepared.examples)
    measure, main = ours.measure, before.task.main_score
    gap = difference(
        measure, ours.statistics, theirs.statistics, main,
        settings.bootstrap, settings.confidence_level, recipe.seed,
        row_units(shared.examples["test"].table, ours.groups),
    )  # fmt: skip
    verdict = words.verdict(
        gap, "the same task trained alone", titles.get(main, main), scale(measure, main)
    )
    return {
        "together": measure.total(ours.statistics)[main],
        "alone": measure.total(theirs.statistics)[main],
        **gap.as_dict(),
        "outcome": gap.outcome,
        "sentence": words.sentence(verdict),
    }


def _metrics(
    prepared: PreparedTasks, results: Mapping[str, Mapping[str, Any]], alone: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics of the run: the mean of the main scores, and the figures of each task."""
    tasks: dict[str, Any] = {}
    for name, metrics in results.items():
        tasks[name] = {
            "task": prepared.each[name].task.part_name(),
            "share": round(prepared.shares[name], 6),
            **{key: metrics[key] for key in (*WHOLE, *metrics["titles"]) if key in metrics},
            **({"alone": alone[name]} if name in alone else {}),
        }
    values = [task[task["main"]]["value"] * task.get("scale", 1.0) for task in tasks.values()]
    mean = sum(values) / len(values)
    return {
        "main": "mean",
        "titles": {"mean": "mean of the main scores"},
        "mean": {"value": mean},
        "tasks": tasks,
        "helpers": {name: round(prepared.shares[name], 6) for name in prepared.texts},
        "verdict": _verdict(mean, tasks, alone),
    }


def _verdict(mean: float, tasks: Mapping[str, Any], alone: Mapping[str, Any]) -> str:
    """The whole result in a few words."""
    text = f"{len(tasks)} tasks over one body, mean of the main scores {words.figure(mean)}"
    if not alone:
        return (
            f"{text}. Whether sharing helped is not known: `--task.compare true` also trains each "
            "task alone."
        )
    outcomes = {
        "better": "sharing helped {}",
        "worse": "sharing harmed {}",
        "noise": "for {} the difference to training alone cannot be told from noise",
    }
    clauses: list[str] = []
    for outcome, clause in outcomes.items():
        if names := [name for name, task in alone.items() if task["outcome"] == outcome]:
            clauses.append(clause.format(words.listed(names)))
    return f"{text}; {'; '.join(clauses)}."


def prove_shared(folders: Sequence[Path]) -> dict[str, Any]:
    """That the saved folders have one body: what they all have by name must be equal.

    Raises `ProofError`.
    """
    saved = [
        {name: value for file in sorted(folder.glob("*.safetensors"))
         for name, value in load_file(file).items()}
        for folder in folders
    ]  # fmt: skip
    config = config_file(folders[0])
    heads = family_of(read_json(config)).head_modules if config.exists() else ()
    common = set.intersection(*(set(tensors) for tensors in saved))
    body = sorted(
        name for name in common
        if not any(f".{head}." in f".{name}" for head in (*heads, "classifier", "qa_outputs"))
    )  # fmt: skip
    for name in body:
        if any(not tensors[name].equal(saved[0][name]) for tensors in saved[1:]):
            raise ProofError(f"the saved folders of the tasks differ in '{name}' of the body")
    if not body:
        raise ProofError("the saved folders of the tasks have no weights in common")
    return {"tensors": len(body), "equal": True}
