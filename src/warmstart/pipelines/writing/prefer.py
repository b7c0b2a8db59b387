"""`prefer`: people say which of two answers is better, without knowing whose it is.

The judgements are lines of a file (`prompt`, `chosen`, `rejected`, who said so and when), to which
others, and the same person later, add theirs.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.config.validation import checked
from warmstart.data.conversations import write
from warmstart.errors import DataError, RecipeError, RunError, shown
from warmstart.files import check_plain
from warmstart.inference.engine import Engine
from warmstart.inference.writer import Prompt, open_writer
from warmstart.models.sampling import Sampling
from warmstart.pipelines.request import engine_for
from warmstart.pipelines.writing.generate import last_message, parted, prompts_of

COLUMNS = ("prompt", "chosen", "rejected", "chosen_model", "rejected_model", "shown_first",
           "annotator", "time")  # fmt: skip
ENDINGS = (".jsonl", ".csv", ".tsv")
AHEAD = 8
"""Prompts that are answered at once, before somebody waits for them."""
LEFT, RIGHT, SKIP, END = "1", "2", "skip", "end"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt, in the order in which they are shown.

    Args:
        number: of the prompt; counts from 0.
        of: how many prompts there are.
        prompt: as it was given; of a conversation its last message.
        answers: the two texts.
        models: whose they are, which is not shown.
        written: the prompt as it is written down: a text, or messages as JSON.
    """

    number: int
    of: int
    prompt: str
    answers: tuple[str, str]
    models: tuple[str, str]
    written: str


@dataclass(frozen=True, slots=True)
class Judgements:
    """What came of it.

    Args:
        out: the file.
        added: judgements of this time.
        total: judgements in the file.
        same: prompts to which both models gave the same answer, which nobody was asked about.
        wins: model → how often its answer was chosen, of all in the file.
        annotators: how many people judged.
        shared: pairs that more than one of them judged.
        agreement: Krippendorff's alpha of these (nominal; 1 where all agree, 0 as by chance); None
            where fewer than two pairs are shared, or too few to tell.
    """

    out: Path
    added: int
    total: int
    same: int
    wins: Mapping[str, int]
    annotators: int
    shared: int
    agreement: float | None


class Record:
    """The file of judgements: read, and added to a line at a time."""

    def __init__(self, out: Path) -> None:
        self.out, self.rows = out, list[dict[str, str]]()
        ending = out.suffix.lower()
        if ending not in ENDINGS:
            known = ", ".join(ENDINGS)
            raise RecipeError(f"cannot write {out}: give --out a name ending in {known}")
        if out.is_dir() or not out.absolute().parent.is_dir():
            what = "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"
            raise RunError(f"cannot write {out}: {what}")
        self._mark = {".csv": ",", ".tsv": "\t"}.get(ending)
        if out.exists():
            self._read()

    def add(self, row: Mapping[str, str]) -> None:
        """Write a judgement, so that it is on the disk before the next is asked for."""
        new = not self.out.exists() or not self.out.stat().st_size
        try:
            with self.out.open("a", encoding="utf-8", newline="") as file:
                if self._mark is None:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                else:
                    rows = csv.writer(file, delimiter=self._mark, lineterminator="\n")
                    if new:
                        rows.writerow(COLUMNS)
                    rows.writerow([row[name] for name in COLUMNS])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"cannot write {self.out}: {error.strerror}") from error
        self.rows.append({**row})

    def _read(self) -> None:
        try:
            check_plain(self.out)
            with self.out.open(encoding="utf-8", newline="") as file:
                rows: Any = (map(json.loads, filter(str.strip, file)) if self._mark is None
                             else csv.DictReader(file, delimiter=self._mark))  # fmt: skip
                for number, row in enumerate(rows, 1):
                    if not isinstance(row, dict) or not set(COLUMNS) <= row.keys():
                        raise DataError(
                            f"{self.out}, row {number}: this is no file of judgements (it lacks "
                            f"{shown(', '.join(sorted(set(COLUMNS) - set(row))), 80)}); give "
                            "another --out"
                        )
                    self.rows.append({name: str(row[name]) for name in COLUMNS})
        except (ValueError, OSError) as error:
            raise DataError(f"{self.out} cannot be read: {shown(error, 100)}") from None


def prefer(
    models: tuple[str, str],
    data: Any,
    choose: Callable[[Pair], str],
    keys: Mapping[str, Any],
    *,
    out: Path,
    annotator: str,
) -> Judgements:
    """See `api.prefer`."""
    engine, settings = parted(keys, models)
    sampling: Sampling = checked(Sampling, settings)
    if sampling.num_return_sequences > 1:
        raise RecipeError("num_return_sequences has no meaning here: two answers are compared")
    if models[0] == models[1] and sampling.temperature == 0:
        raise RecipeError("two answers of one model with temperature 0 are the same")
    record, prompts = Record(out), prompts_of(data)
    if not annotator.strip():
        raise RecipeError("say who judges: --annotator NAME")
    if any(row["annotator"] != annotator for row in record.rows):
        _alpha()  # before anything is asked
    before = len(record.rows)
    same = 0
    for pair in _pairs(models, prompts, sampling, engine, record, annotator):
        if pair.answers[0].strip() == pair.answers[1].strip():
            same += 1
            continue
        choice = choose(pair)
        if choice == END:
            break
        if choice in (LEFT, RIGHT):
            record.add(_row(pair, choice == LEFT, annotator))
    return _summed(record, before, same)


def _row(pair: Pair, first: bool, annotator: str) -> dict[str, str]:
    chosen, rejected = (0, 1) if first else (1, 0)
    return {
        "prompt": pair.written,
        "chosen": pair.answers[chosen],
        "rejected": pair.answers[rejected],
        "chosen_model": pair.models[chosen],
        "rejected_model": pair.models[rejected],
        "shown_first": pair.models[0],
        "annotator": annotator,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _pairs(
    models: tuple[str, str], prompts: Sequence[Prompt], sampling: Sampling,
    engine: Engine, record: Record, annotator: str,
) -> Iterator[Pair]:  # fmt: skip
    """The pairs that this person has not judged: answers that others have judged, so that it can
    be seen how far they agree, and new ones."""
    names = _names(models)
    known: dict[str, tuple[str, str]] = {}
    done: set[str] = set()
    for row in record.rows:
        if {row["chosen_model"], row["rejected_model"]} == set(names):
            pair = {row["chosen_model"]: row["chosen"], row["rejected_model"]: row["rejected"]}
            known.setdefault(row["prompt"], (pair[names[0]], pair[names[1]]))
            if row["annotator"] == annotator:
                done.add(row["prompt"])
    texts = [prompt if isinstance(prompt, str) else write(prompt) for prompt in prompts]
    waiting = [number for number, text in enumerate(texts) if text not in done]
    writers = [] if all(texts[n] in known for n in waiting) else [
        open_writer(model, engine_for(engine, model)) for model in models]  # fmt: skip
    order = np.random.default_rng(list(annotator.encode())).permutation(len(prompts)) % 2
    for begin in range(0, len(waiting), AHEAD):
        part = waiting[begin : begin + AHEAD]
        fresh = [number for number in part if texts[number] not in known]
        answers: list[list[str]] = []
        for second, writer in enumerate(writers if fresh else []):
            ids = [writer.encode(prompts[number]) for number in fresh]
            own = [_own(sampling, number, second if models[0] == models[1] else 0)
                   for number in fresh]  # fmt: skip
            answers.append([c.text for c in writer.write(ids, own, ends=writer.ends())])
        for number in part:
            text = texts[number]
            if text not in known:
                at = fresh.index(number)
                known[text] = answers[0][at].strip(), answers[1][at].strip()
            (left, right), whose = known[text], names
            both = left, right
            if order[number]:
                both, whose = (right, left), (names[1], names[0])
            yield Pair(number, len(prompts), last_message(prompts[number]), both, whose, text)


def _names(models: tuple[str, str]) -> tuple[str, str]:
    """What the two are called; of one model that answers twice the second has a number."""
    return (models[0], f"{models[1]} (2)") if models[0] == models[1] else models


def _own(sampling: Sampling, number: int, second: int) -> Sampling:
    """The settings for a prompt, whose draws do not depend on what else is asked."""
    seed = np.random.SeedSequence((sampling.seed, number, second)).generate_state(1)
    return sampling.model_copy(update={"seed": int(seed[0])})


def _summed(record: Record, before: int, same: int) -> Judgements:
    wins: dict[str, int] = {}
    units: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for row in record.rows:
        for name in (row["chosen_model"], row["rejected_model"]):
            wins.setdefault(name, 0)
        wins[row["chosen_model"]] += 1
        unit = (row["prompt"], *sorted((row["chosen"], row["rejected"])))
        units[unit][row["annotator"]] = row["chosen"]
    shared = sum(len(votes) > 1 for votes in units.values())
    return Judgements(
        record.out, len(record.rows) - before, len(record.rows), same, wins,
        len({row["annotator"] for row in record.rows}), shared, agreement(units),
    )  # fmt: skip


def agreement(units: Mapping[tuple[str, ...], Mapping[str, str]]) -> float | None:
    """Krippendorff's alpha (2004, chapter 11; nominal) of who chose which answer of each pair:
    unit → annotator → answer. None where it says nothing.

    Which of a pair's answers stands first is settled by the texts, so that a value says the same of
    both; chance agreement is that of a coin, were both as often chosen.
    """
    counts = [
        [sum(text == unit[-2] for text in votes.values()),
         sum(text == unit[-1] for text in votes.values())]
        for unit, votes in units.items() if len(votes) > 1
    ]  # fmt: skip
    values = np.asarray(counts)
    if len(counts) < 2 or not values.any(0).all():
        return None
    return float(_alpha()(value_counts=values, level_of_measurement="nominal"))


def _alpha() -> Any:
    """The function of the package, which is an extra. Raises `RunError` where it is missing."""
    try:
        return importlib.import_module("krippendorff").alpha
    except ImportError:
        raise RunError(
            "the agreement of several annotators needs krippendorff: "
            "pip install 'warmstart[prefer]'"
        ) from None
