"""After training: the proof, the evaluation, the report and the model card; what to type next."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from warmstart.errors import typed
from warmstart.evaluation.evaluate import evaluate
from warmstart.evaluation.forgetting import section
from warmstart.files import write_atomically, write_json, write_text
from warmstart.pipelines.prepare import Prepared, planned_source
from warmstart.pipelines.verify import prove_task
from warmstart.reporting.model_card import model_card
from warmstart.reporting.page import write_report
from warmstart.run import Run, report_of
from warmstart.tasks.base import Task
from warmstart.training.memory import give_back_memory
from warmstart.training.progress import Progress
from warmstart.types import Metrics, Verdict

Steps = list[tuple[str, str]]
"""Commands, and what each does."""
NO_TOKENS = "none in training: the head read hidden states that were computed once"


def finish(
    run: Run,
    prepared: Prepared,
    progress: Progress,
    outputs: dict[str, Any],
    speed: dict[str, Any],
    size: dict[str, Any],
    forgetting: dict[str, Any] | None = None,
) -> None:
    """Proof, evaluation, report, card."""
    recipe, examples = prepared.recipe, prepared.examples
    if prepared.task.reads_documents:
        speed = {**speed, "padding": padding_of(prepared)}
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
    if written := samples(progress.history):
        metrics = replace(metrics, sections=[*(metrics.sections or ()), written])
    write_json(run.path / "metrics.json", metrics.to_json())
    with write_atomically(run.path / "predictions.parquet") as part:
        pq.write_table(evaluation.predictions, part)
    run.update(size=size, speed=speed, history=progress.history, kept_epoch=progress.kept_epoch)
    report = report_of(run, recipe, recipe.to_toml())
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


def samples(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A section of the report: the texts that a model wrote as it was trained."""
    rows = [[row["step"], row["sample"]] for row in history if row.get("sample")]
    if not rows:
        return None
    return {
        "title": "Written after each validation",
        "lead": "A text of the model, drawn by chance, always with the same seed.",
        "columns": ["Step", "Text"], "rows": rows[-12:],
    }  # fmt: skip


def padding_of(prepared: Prepared) -> float:
    """The share of what the first pass over the documents computes that is padding: each
    micro-batch is as wide as its longest window."""
    train, store = prepared.recipe.train, prepared.stores["train"]
    source = planned_source(store, prepared.rows, prepared.objective, train, prepared.recipe.seed)
    sizes, text, whole = source.dataset.sizes, 0, 0
    for rows in source.plan(0):
        for part in source.dataset.micro(rows, train.micro_batch_tokens):
            text, whole = text + int(sizes[part].sum()), whole + len(part) * int(sizes[part].max())
    return round(1 - text / max(whole, 1), 4)


def speed_of(
    progress: Progress,
    caching: float,
    device: str,
    precision: str,
    threads: int | None,
    peak: float | None = None,
) -> dict[str, Any]:
    """How long training took; `caching` are the seconds before it, for states computed once.

    Where a head alone learned from such states, no token passed through the model in training and
    there are no tokens per second. `peak` are the operations a second that the machine can.
    """
    used: dict[str, Any] = {}
    if peak and progress.operations:
        share = progress.operations / max(progress.seconds, 1e-9) / peak
        used = {"operations": progress.operations, "peak_per_second": peak,
                "peak_share": round(share, 4)}  # fmt: skip
    rate = round(progress.tokens / max(progress.seconds, 1e-9), 1)
    return {
        "seconds": round(progress.seconds, 2),
        "rows": progress.rows,
        "rows_per_second": round(progress.rows / max(progress.seconds, 1e-9), 1),
        **({"tokens_per_second": rate} if progress.tokens else {"tokens": NO_TOKENS}),
        "tokens_trained": progress.tokens,
        **used,
        "feature_seconds": round(caching, 2),
        "device": device,
        "precision": precision,
        "threads": threads,
    }


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def next_steps(task: Task, model: Path) -> Steps:
    """For a run or model folder of this task."""
    folder = typed(model)
    module = getattr(task, "module", "")
    own = f" --task.module {typed(module)}" if module else ""
    example, rows = '"your text"', "a text"
    if len(task.inputs) > 1:
        example = f"'{json.dumps(dict.fromkeys(task.inputs, '…'), ensure_ascii=False)}'"
        rows = "a pair of texts"
    predict = f"warmstart predict {folder}"
    steps = [
        (f"{predict} {example}{own}", task.head.does.format(one=rows)),
        (f"{predict} new.csv --out {task.head.answers_file}{own}",
         "does so with every row of a file"),
        (f"warmstart evaluate {folder} other.csv{own}", "scores the model on other labelled data"),
    ]  # fmt: skip
    writes = task.head.generates or task.head.predicts_itself
    if writes and task.inputs[:1] in (("messages",), ("prompt",)):
        answers = "says which answer it prefers" if task.head.predicts_itself else "answers"
        scores = "scores it on other rows of the same form"
        return [(f"warmstart chat {folder}", "talks with it"), (steps[0][0], answers),
                (f"warmstart evaluate {folder} other.jsonl{own}", scores)]  # fmt: skip
    if task.head.predicts_itself:
        base = (f"warmstart tune data.csv --base {folder}", "fine-tunes it on labelled data")
        other = (f"warmstart evaluate {folder} other.txt", "measures it on other texts")
        return [base, other, steps[0]]
    if not task.head.gives_vectors:
        return steps
    index = f"warmstart index {folder} texts.csv --out texts-index"
    search = 'warmstart search texts-index "your question"'
    return [
        (index, "makes an index of your texts"),
        (search, "finds those nearest in meaning"),
        *steps,
    ]


def next_steps_of_tasks(models: Sequence[Path]) -> Steps:
    """For the model folders of a run of several tasks."""
    folder, *others = [typed(model) for model in models]
    more = f"; the others are asked the same way: {', '.join(others)}"
    return [
        (f"warmstart predict {folder} new.csv --out answered.csv", f"answers every row{more}"),
        (f"warmstart evaluate {folder} other.csv", "scores a model on other labelled data"),
    ]
