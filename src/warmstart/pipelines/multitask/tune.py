"""Several tasks in one run: trained together, each saved, proven and judged on its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.files import write_json
from warmstart.pipelines.finish import finish, peak_memory_mb, speed_of
from warmstart.pipelines.multitask.prepare import PreparedTasks
from warmstart.pipelines.multitask.session import TasksSession
from warmstart.pipelines.next_steps import next_steps_of_tasks
from warmstart.pipelines.session import Session
from warmstart.run import Run, read_json

if TYPE_CHECKING:
    from warmstart.pipelines.prepare import Prepared
    from warmstart.training.trainer import Listener, Progress

OUTPUTS = dict[str, Any]


class TaskRun(Run):
    """What one of the tasks of a run gave: `tasks/<name>` beside `model/<name>`."""

    @property
    def model(self) -> Path:
        return self.path.parent.parent / "model" / self.path.name

    @property
    def answers_from(self) -> Path:
        return self.model


def train_tasks(run: Run, prepared: PreparedTasks, listeners: list[Listener], resume: bool) -> None:
    """Train, save, prove, judge. Raises `WarmstartError`."""
    from warmstart.training import checkpoint

    write_json(run.path / "ledger.json", {"tasks": prepared.ledgers()})
    session = TasksSession.begin(prepared)
    progress = session.fitting(run.path, listeners).run(resume=resume)
    train = prepared.recipe.train
    speed = speed_of(progress, 0.0, session.together.device.type, train.precision)
    outputs = {name: one.answers() for name, one in session.each.items()}
    session.widen_vocabulary()
    for name, one in session.each.items():
        one.save(run.model / name)
        _finish(run, name, one, progress, outputs[name], speed)
    alone = _alone(run, session, outputs, resume) if prepared.task.compare else {}
    _tell(run, prepared, session, progress, speed, alone)
    checkpoint.clear(run.path / "checkpoints")


def _finish(
    run: Run, name: str, session: Session, progress: Progress, outputs: OUTPUTS, speed: Any
) -> None:
    """Proof, evaluation, report and card of one task, as of a run of its own."""
    folder = run.path / "tasks" / name
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was stopped left
    prepared, facts = session.prepared, run.facts
    kept = {key: facts[key] for key in ("created", "versions")}
    part = TaskRun.create(folder, prepared.recipe, {**prepared.facts(), **kept})
    prepared.ledger.write(folder)
    own = replace(progress, history=_history(name, progress))
    finish(part, prepared, own, outputs, dict(speed), session.size())
    (folder / "run.json").unlink()  # a part of a run, and none that could be resumed


def _history(name: str, progress: Progress) -> list[dict[str, Any]]:
    """The course of one task; the training loss is that of all tasks together."""
    return [
        {
            **{key: row[key] for key in ("epoch", "step", "kept")},
            "train_loss": None,
            "validation_loss": row[f"loss:{name}"],
            "validation_score": row[f"score:{name}"],
        }
        for row in progress.history
    ]


def _alone(
    run: Run, session: TasksSession, together: dict[str, OUTPUTS], resume: bool
) -> dict[str, Any]:
    """Each task trained by itself with the same settings, and what sharing changed."""
    from warmstart.pipelines.multitask.result import compared

    found: dict[str, Any] = {}
    for name, shared in session.each.items():
        folder = run.path / "alone" / name
        folder.mkdir(parents=True, exist_ok=True)
        single = Session.begin(_unmeasured(session.prepared.each[name]))
        single.fit(folder, [], resume=resume)
        outputs = single.answers()
        titles = read_json(run.path / "tasks" / name / "metrics.json")["titles"]
        pair = (shared.prepared, together[name], single.prepared, outputs)
        found[name] = compared(*pair, titles)
    shutil.rmtree(run.path / "alone")
    return found


def _unmeasured(prepared: Prepared) -> Prepared:
    """Without the figure of what was forgotten, which a run of several tasks does not have."""
    settings = prepared.recipe.evaluate.model_copy(update={"forgetting": False})
    return replace(prepared, recipe=prepared.recipe.model_copy(update={"evaluate": settings}))


def _tell(
    run: Run,
    prepared: PreparedTasks,
    session: TasksSession,
    progress: Progress,
    speed: dict[str, Any],
    alone: dict[str, Any],
) -> None:
    """The run as a whole: metrics, proof, report."""
    from warmstart.pipelines.multitask.result import metrics_of, prove_shared
    from warmstart.reporting.multitask import write_tasks

    folders = {name: run.path / "tasks" / name for name in session.each}
    proofs = {name: read_json(folder / "proof.json") for name, folder in folders.items()}
    shared = prove_shared([run.model / name for name in session.each])
    proof = {"passed": True, "tasks": proofs, "shared": shared}
    write_json(run.path / "proof.json", proof)
    found = {name: read_json(folder / "metrics.json") for name, folder in folders.items()}
    speed["peak_memory_mb"] = peak_memory_mb()
    metrics = {**metrics_of(prepared, found, alone), "speed": speed}
    write_json(run.path / "metrics.json", metrics)
    size = {name: one.size() for name, one in session.each.items()}
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    facts = run.facts
    everything = {
        "name": run.path.name,
        "created": facts["created"],
        "base": facts["base"],
        "method": prepared.recipe.method.part_name(),
        "recipe_toml": prepared.recipe.to_toml(),
        "metrics": metrics,
        "history": progress.history,
        "proof": proof,
        "versions": facts["versions"],
        "next": next_steps_of_tasks([run.model / name for name in metrics["tasks"]]),
    }
    write_tasks(run.report, everything)
    run.update(status="done")
