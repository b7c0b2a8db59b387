"""What came of several stages: each in a row, and those that were tested on the same rows held
against each other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from warmstart.errors import RunError
from warmstart.evaluation import sentences as words
from warmstart.evaluation.comparison import Answers, standings
from warmstart.formatting import duration
from warmstart.pipelines.compare.request import Wanted
from warmstart.pipelines.compare.result import Comparison, is_comparison, trial_of
from warmstart.pipelines.stages.recipe import EXTEND, STAGE, Stage
from warmstart.reporting.comparison import notes, score_words, verdict
from warmstart.run import Run, folder_named, read_json
from warmstart.types import Metrics

RECORD = "stages.json"
COLUMNS = ("stage", "verb", "begins with", "what came of it", "interval", "time")


class Stages:
    """A folder of stages, done or begun. Raises `RunError` where there is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(folder_named(path))
        if not (self.path / RECORD).is_file():
            raise RunError(f"{self.path} holds no stages: it has no {RECORD}")

    @property
    def summary(self) -> dict[str, Any]:
        """`stages.json`: what each stage came to, and which differences are noise."""
        return read_json(self.path / RECORD)

    @property
    def runs(self) -> dict[str, Run | Comparison]:
        """What the stages that train have made, by their names."""
        places = {row["name"]: self.path / row["name"] for row in self.summary["stages"]
                  if row["verb"] != EXTEND}  # fmt: skip
        return {name: Comparison(place) if is_comparison(place) else Run(place)
                for name, place in places.items()}  # fmt: skip

    @property
    def report(self) -> Path:
        """The summary for people."""
        return self.path / "summary.md"

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Stages('{self.path}', {self.summary['status']})"


@dataclass(frozen=True, slots=True)
class Row:
    """What a stage came to. `interval` is empty where there is none; `forgotten` is a sentence."""

    name: str
    verb: str
    base: str
    outcome: str
    interval: str
    seconds: float | None
    forgotten: str
    path: str

    @property
    def cells(self) -> tuple[str, ...]:
        """As it stands under `COLUMNS`."""
        time = "" if self.seconds is None else duration(self.seconds)
        return self.name, self.verb, self.base, self.outcome, self.interval, time


def row_of(stage: Stage, place: Path) -> Row:
    """What a stage that is done came to."""
    path = place / stage.name
    if stage.verb == EXTEND:
        facts = read_json(path / "extension.json")
        outcome = f"{len(facts['words'])} new words, each a token"
        return Row(stage.name, stage.verb, stage.base, outcome, "", None, "", str(path / "model"))
    if is_comparison(path):
        summary = Comparison(path).summary
        outcome = "; ".join(
            f"{summary['title']} {score_words(own['value'], own['spread'])}"
            + (f" ({own['method']})" if len(summary["methods"]) > 1 else "")
            for own in summary["methods"]
        )
        best = summary["methods"][0]
        interval = "" if best["low"] is None else words.between(best["low"], best["high"])
        seconds = sum(own["seconds"] * len(own["runs"]) for own in summary["methods"])
        lost = str(_forgetting(path).get("sentence", ""))
        return Row(stage.name, stage.verb, stage.base, outcome, interval, seconds, lost, str(path))
    run = Run(path)
    metrics = Metrics.from_json(run.metrics) if "tasks" not in run.metrics else None
    seconds = float(run.facts["speed"]["seconds"])
    if metrics is None:
        outcome, interval = str(run.metrics["verdict"]), ""
    else:
        name = "bits_per_byte" if "bits_per_byte" in metrics.scores else metrics.main
        score, title = metrics.scores[name], metrics.titles.get(name, name)
        outcome, interval = f"{title} {words.figure(score.value)}", ""
        if score.low is not None and score.high is not None:
            interval = words.between(score.low, score.high)
    lost = str(_forgetting(path).get("sentence", ""))
    return Row(stage.name, stage.verb, stage.base, outcome, interval, seconds, lost, str(path))


def along_the_way(rows: Sequence[Row], place: Path) -> list[Row]:
    """The rows, in which a stage that begins with another also says what all of them together did
    to general text: its figure beside that of the base that the first began with, where a stage
    measured that on the same passages, by a figure that does not depend on the tokenizer."""
    from warmstart.evaluation.forgetting import TITLES

    facts = {row.name: _forgetting(place / row.name) for row in rows if row.verb != EXTEND}
    bases = {row.name: row.base for row in rows}
    own: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if not row.base.startswith(STAGE) and "before" in facts.get(row.name, {}):
            own.setdefault(row.base, facts[row.name])
    complete: list[Row] = []
    for row in rows:
        base, now = row.base, facts.get(row.name, {})
        while base.startswith(STAGE):
            base = bases[base.removeprefix(STAGE)]
        first = own.get(base, {})
        alike = [first.get(key) == now.get(key) for key in ("text", "passages")]
        names = [name for name in ("recall", "word_perplexity")
                 if name in first.get("before", {}) and name in now.get("after", {})]  # fmt: skip
        if base != row.base and names and all(alike):
            then, after = (words.figure(own[names[0]]["value"])
                           for own in (first["before"], now["after"]))  # fmt: skip
            title = TITLES[names[0]]
            whole = f"All of its stages together: {title} {after}; {base} itself has {then}."
            row = replace(row, forgotten=f"{row.forgotten} {whole}")
        complete.append(row)
    return complete


def _forgetting(path: Path) -> Mapping[str, Any]:
    """What the run of a stage, or the one that was chosen of several, found of general text."""
    run = Comparison(path).chosen if is_comparison(path) else Run(path)
    return run.metrics.get("forgetting") or {}


def judged(names: Iterable[str], place: Path) -> list[str]:
    """Of the stages that were tested on the same rows of the same data, by the same figure: which
    is best, and whether the others are really behind it."""
    alike: dict[str, list[tuple[str, str, Run]]] = {}
    for stage in names:
        for method, run in _runs(stage, place / stage):
            metrics = run.metrics
            if "main" not in metrics or metrics["main"] in metrics["lower_is_better"]:
                continue
            facts, task = run.facts, cast("Any", run.recipe.task)
            key = json.dumps([task.part_name(), facts["fingerprint"], facts["rows"].get("test"),
                              run.metrics["main"]])  # fmt: skip
            alike.setdefault(key, []).append((stage, method, run))
    texts: list[str] = []
    for members in alike.values():
        if len({stage for stage, _, _ in members}) > 1:
            texts += _verdict(members)
    return texts


def _runs(stage: str, path: Path) -> list[tuple[str, Run]]:
    """Each run of a stage, and what it is called in a comparison with other stages."""
    if not is_comparison(path):
        return [(stage, Run(path))]
    comparison = Comparison(path)
    rows = {row["name"]: row["method"] for row in comparison.summary["runs"]}
    several = len(set(rows.values())) > 1
    return [(f"{stage} ({rows[name]})" if several else stage, run)
            for name, run in comparison.runs.items()]  # fmt: skip


def _verdict(members: Sequence[tuple[str, str, Run]]) -> list[str]:
    first = members[0][2]
    metrics = Metrics.from_json(first.metrics)
    named = {f"{name}/{number}": run for number, (_, name, run) in enumerate(members)}
    wanted = [Wanted(key, method, run.recipe)
              for key, (_, method, run) in zip(named, members, strict=True)]  # fmt: skip
    trials = [trial_of(row, named[row.name], metrics.main) for row in wanted]
    tables = {name: pq.read_table(run.path / "predictions.parquet") for name, run in named.items()}
    answers = Answers.of(tables, first.labels, metrics.main)
    table = standings(
        trials, answers, metrics.main, draws=metrics.bootstrap, level=metrics.confidence_level,
        seed=first.recipe.seed,
    )  # fmt: skip
    title = metrics.main_title
    text = verdict(table, title, metrics.rows, metrics.confidence_level)
    return [text, *notes(table, answers is not None)]


def markdown(summary: Mapping[str, Any]) -> str:
    """`summary.md`."""
    rows = [Row(**row) for row in summary["rows"]]
    lines = [f"# {summary['name']}", "", f"| {' | '.join(COLUMNS)} |",
             f"|{'---|' * len(COLUMNS)}"]  # fmt: skip
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells)} |" for row in rows]
    lines += ["", *(f"{text}\n" for text in summary["verdicts"])]
    lost = [f"- {row.name}: {row.forgotten}" for row in rows if row.forgotten]
    lines += ["## What was forgotten of general text", "", *lost, ""] if lost else []
    lines += ["Each stage has a report of its own in its folder.", ""]
    return "\n".join(lines)


def as_facts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows for `stages.json`."""
    return [asdict(row) for row in rows]
