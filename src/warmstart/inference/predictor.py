"""A predictor makes answers of rows: everything but the engine's part, in NumPy.

rows → table of the task's inputs → token ids → batches → engine → outputs → answers
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart import part as parts
from warmstart.data.conversations import as_message, as_text, messages_of
from warmstart.data.ledger import place
from warmstart.data.tables import pc, torn
from warmstart.data.tokens.batching import ordered, pad, width
from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import DataError, RunError, shown, typed
from warmstart.inference.engine import Engine, Runner, TokenBatch
from warmstart.models.adapters.files import read
from warmstart.models.adapters.open import opened
from warmstart.models.architectures import positions_of
from warmstart.models.checks import (
    ADAPTED,
    NOTE,
    config_file,
    is_adapter,
    note_of,
    of_run,
    read_json,
)
from warmstart.models.generation import GenerationOutput
from warmstart.models.heads import CLASSES, HEADS, VECTOR, head_of
from warmstart.models.hf_calls import one_line
from warmstart.models.saved import saved_config, saved_tokenizer
from warmstart.models.saving import read_modules
from warmstart.tasks.base import Examples, Task
from warmstart.types import Prediction

OnCut = Callable[[int, int], None]
"""(row, tokens) of a text that was too long."""
Instead = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any] | None]
"""Another task for a saved model, as its metadata, from the name of its own, what was noted when it
was saved, and its config; None: its own."""
CHUNK = 4096
"""Rows of `Predictor.predict` that are in memory at once."""
FORMS = "engines"
"""The folder in a model's that holds the forms which engines have made of it."""
FOREIGN: Mapping[str, Mapping[str, Any]] = {"tagging": {"constrained": False}}
"""What holds for a model trained elsewhere: IOB1 cannot be told from IOB2 by the labels."""


@dataclass(eq=False)
class Predictor:
    """Answers of the task that a saved model was trained for."""

    task: Task
    tokenizer: Any
    labels: list[str]
    runner: Runner
    reading: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """How the data that it was trained on were read: columns by role, encoding, delimiter, header,
    merge_labels."""

    def notes(self) -> list[str]:
        """What is worth knowing of how it answered, once it has."""
        return []

    def facts(self) -> Mapping[str, Any]:
        """The same as figures, for `metrics.json`."""
        return {}

    def predict(self, rows: Sequence[Any]) -> list[Prediction]:
        """One prediction a row, in order; ids count from 0. A row is a text, or, for a task with
        several inputs, a dict of them or a tuple in their order."""
        answers: list[Prediction] = []
        for start in range(0, len(rows), CHUNK):
            answers += self.answers(self.table(rows[start : start + CHUNK]), start)
        return answers

    def table(self, rows: Sequence[Any]) -> pa.Table:
        """Rows as `predict` takes them, as a table of the task's inputs. Raises `DataError`."""
        task, columns = self.task, {role: list[Any]() for role in self.task.inputs}
        for number, row in enumerate(rows, 1):
            values = _inputs_of(task.inputs, row, number)
            for (role, column), value in zip(columns.items(), values, strict=True):
                if role not in task.nested and not isinstance(value, str | None):
                    kind = type(value).__name__
                    reason = f"of type {kind}; give a text"
                    if isinstance(value, list | tuple):
                        reason = "a list; give one text"
                    raise DataError(f"row {number}: {role} is {reason}")
                column.append(value)
        arrays: dict[str, Any] = {}
        for role, values in columns.items():
            kind = None if role in task.nested and values else pa.string()
            try:
                arrays[role] = pa.chunked_array([pa.array(values, kind)])
            except UnicodeEncodeError:
                raise torn(values, lambda row, role=role: f"row {row + 1}: {role}") from None
        at = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), ["row"])
        return own_form(
            task, pa.table({**arrays, "_file": at, "_line": pa.array(range(1, len(rows) + 1))})
        )

    def answers(
        self, table: pa.Table, start: int = 0, *, seen: TextNotes | None = None
    ) -> list[Prediction]:
        """The answers for a table of the task's inputs, with the ids `start`, `start` + 1, …"""
        outputs, examples = self.outputs(table, start, seen=seen)
        answers = self.task.decode(outputs, examples)
        return [replace(answer, id=str(start + i)) for i, answer in enumerate(answers)]

    def outputs(
        self,
        table: pa.Table,
        start: int = 0,
        on_cut: OnCut | None = None,
        seen: TextNotes | None = None,
    ) -> tuple[Any, Examples]:
        """What the model gives for a table, and the rows as the task sees them; `seen` hears what
        the texts lose."""
        listener = seen.see_cut if seen is not None else on_cut

        def cut(row: int, tokens: int) -> None:
            if listener is not None:
                listener(start + row, tokens)

        task = self.task
        dataset = task.encode(table, self.labels, self.tokenizer, task.max_length, cut)
        if seen is not None:
            texts = lambda: task.as_text(table).to_pylist()  # noqa: E731 - seldom needed
            seen.see_unknown(dataset, self.tokenizer, texts)
        return self.compute(dataset), Examples(table, dataset, self.labels, self.tokenizer)

    def judged(self, table: pa.Table, seen: TextNotes) -> tuple[Any, Examples]:
        """As `outputs`, for labelled rows: texts that are wanted are scored whole, and noted by
        none."""
        task = self.task
        if not task.head.generates:
            return self.outputs(table, seen=seen)
        inputs = table.select([*task.inputs, "_file", "_line"])
        task.encode(inputs, self.labels, self.tokenizer, task.max_length, seen.see_cut)
        return self.outputs(table)

    def compute(self, dataset: TokenizedDataset) -> Any:
        """Outputs [n, K]; [tokens, K] of a head that reads every token, parallel to the ids; of
        several texts a row [n, texts, K], and vectors always so; a `GenerationOutput`; or, of a
        language model, what it says of each window (`TokenScores`)."""
        if self.task.head.generates:
            return self._texts(dataset)
        if self.task.head.predicts_itself:
            return self.runner.log_probs(dataset)
        if dataset.answers is None and not self.task.head.gives_vectors:
            return self._rows(dataset)
        texts = [dataset]
        while (behind := texts[-1].answers) is not None:
            texts.append(behind)
        flat = self._rows(joined(texts))
        return flat.reshape(len(texts), len(dataset), flat.shape[-1]).transpose(1, 0, 2)

    def _rows(self, dataset: TokenizedDataset) -> np.ndarray:
        outputs = np.empty((0, 0), np.float32)
        longest = int(dataset.lengths.max(initial=1))
        for rows in ordered(dataset.lengths, self.runner.batch_tokens):
            columns = width(max(1, int(dataset.lengths[rows].max())), max(1, longest))
            ids, lengths = pad(dataset, rows, self.tokenizer.pad_token_id, columns)
            types = dataset.types
            types = None if types is None else dataset.padded(types, rows, columns, 0)
            values = self.runner.run(TokenBatch(ids, lengths, types))
            if not np.isfinite(values).all():
                raise RunError("the model answers with values that are no numbers; it is damaged")
            if not outputs.size:
                size = len(dataset) if values.ndim == 2 else len(dataset.ids)
                outputs = np.empty((size, values.shape[-1]), np.float32)
            if values.ndim == 2:
                outputs[rows] = values
                continue
            for row, value in zip(rows, values, strict=True):
                begin, end = dataset.offsets[row], dataset.offsets[row + 1]
                outputs[begin:end] = value[: end - begin]
        return outputs

    def _texts(self, dataset: TokenizedDataset) -> Any:
        output = GenerationOutput.nothing(len(dataset))
        if dataset.answers is not None:
            scores = self.runner.log_probs(dataset)
            output = replace(output, nll=scores.nll, sure=scores.sure, hits=scores.hits,
                             tokens=scores.tokens)  # fmt: skip
        ids, confidence = self.runner.generate(replace(dataset, answers=None))
        return replace(output, ids=ids, confidence=confidence)


def open_predictor(
    folder: Path,
    engine: Engine | None = None,
    instead: Instead | None = None,
    rows: TokenizedDataset | None = None,
) -> Predictor:
    """A predictor over a run or a model folder, by torch unless another engine is given, for the
    model's own task unless `instead` names another; `rows` as in `Engine.build`.

    Raises `RunError`, `RecipeError` and `BaseModelError`.
    """
    chosen: Any = engine or parts.make("engine", "torch")
    folder = of_run(folder)
    with one_line(f"the model in {folder} is damaged"):
        _check(folder)
    with one_line(f"the model in {folder} is damaged"), _completed(folder) as whole:
        config, tokenizer = saved_config(whole), saved_tokenizer(whole)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token_id is None:
            raise RunError(f"the tokenizer in {folder} has no token that could pad; copy it again")
        longest = min(tokenizer.model_max_length, positions_of(config))
        task = _task_of(whole, longest, instead)
        pad_id: Any = tokenizer.pad_token_id
        form = chosen.build(whole, folder / FORMS / chosen.part_name(), task, pad_id, rows)
        runner = chosen.open(form, task, pad_id)
        reading = note_of(whole).get("data")
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    return Predictor(task, tokenizer, labels, runner, reading if isinstance(reading, dict) else {})


def scorer(predictor: Predictor) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    """A saved model as a reward: a number for each of several prompts (texts, or messages as JSON)
    and their answers, of which any may be empty or look like JSON.

    Raises `RunError` for a model whose answer is no number.
    """
    task = predictor.task
    if task.head.states_confidence or task.head.gives_vectors or len(task.inputs) > 2:
        raise RunError(
            f"a reward is a number, and this model was trained for {task.part_name()}; give one "
            "that was trained for reward or regression"
        )

    spoken = "answer" in task.inputs

    def row(prompt: str, answer: str) -> Any:
        if len(task.inputs) == 1:  # a model of the answer alone
            return answer
        return (prompt, as_message(answer)) if spoken else (as_text(messages_of(prompt)), answer)

    def score(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        rows = [row(*pair) for pair in zip(prompts, answers, strict=True)]
        return [float(answer.value) for answer in predictor.predict(rows)]

    return score


@contextmanager
def _completed(folder: Path) -> Iterator[Path]:
    """The folder; a copy with what is missing where it is an adapter that PEFT alone has saved."""
    if is_adapter(folder) and not note_of(folder):
        with opened(read(folder)) as whole:
            yield whole
    else:
        yield folder


def _check(folder: Path) -> None:
    """Raise `RunError` unless this is a model that answers."""
    nothing = RunError(f"{folder} holds no model; give a run's folder or a model folder")
    if not os.path.exists(folder):  # unlike Path.exists, false for a name that is too long
        raise nothing
    if is_adapter(folder):
        return
    if not config_file(folder).exists():
        if (folder / "run.json").exists():
            raise RunError(
                f"the run {folder} has no model yet; go on with it: "
                f"warmstart tune --resume {typed(folder)}"
            )
        names = sorted(path.parent.name for path in folder.glob("*/warmstart.json"))
        if names:
            raise RunError(
                f"{folder} holds a model for each of its tasks; name the one to ask: "
                f"{' or '.join(str(folder / name) for name in names)}"
            )
        raise nothing
    config = read_json(folder / "config.json")
    names = config.get("architectures") or []
    plain = head_of(config) in (None, VECTOR) and not read_modules(folder)
    if plain and "task" not in note_of(folder):
        raise RunError(
            f"{folder} is a model without a head ({', '.join(map(str, names))}); "
            f"train one first: warmstart tune DATA --base {typed(folder)}"
        )


def _task_of(folder: Path, longest: int, instead: Instead | None) -> Task:
    """The task of a saved model; texts may have `longest` tokens. Raises `RunError`."""
    note, config = note_of(folder), config_file(folder)
    saved = dict(note.get("task") or {})
    name = saved.pop("name", None)
    if name is None:
        head = head_of(read_json(config)) if config.exists() else None
        name = (HEADS.get(str(note.get("head"))) or head or CLASSES).task
        saved = read_modules(folder) if name == "embedding" else FOREIGN.get(name, {})
    known = read_json(config) if config.exists() else {}
    if instead is not None and (other := instead(name, note, known)) is not None:
        saved = dict(other)
        name, longest = str(saved.pop("name")), min(longest, saved.get("max_length", longest))
    if name not in parts.names("task"):
        raise RunError(
            f"{folder} was trained for the task '{shown(name)}', which is not known here"
        )
    try:
        task: Any = parts.find("task", name).model_validate({**saved, "max_length": longest})
    except ValueError as error:
        raise RunError(f"{folder / NOTE} is damaged: {shown(error, 120)}") from None
    if known and config.name != ADAPTED and "module" not in saved:
        _check_head(task, known, config)
    return task.resolve_for_base(known, longest) if known else task


def _check_head(task: Task, config: Mapping[str, Any], path: Path) -> None:
    """Refuse a config that names a model with another head than the task's, or with none."""
    head = head_of(config)
    if task.head.gives_logits and (head is None or head.auto != task.head.auto):
        names = config.get("architectures")
        raise RunError(
            f"{path} is damaged: its architectures = {shown(names, 40)} name no model with a "
            f"{task.head.what} head; copy the folder again"
        )


def own_form(task: Task, table: pa.Table) -> pa.Table:
    """A table of the task's inputs as `Task.rows` makes it; no row may be lost, and a text that is
    missing, as in JSON and Parquet, is an empty one, as in CSV."""

    def refuse(row: int, reason: str) -> None:
        raise DataError(f"{place(table, row)}: {reason}; mend or delete the row")

    for role in set(task.inputs) - set(task.nested):
        column = table[role]
        if column.null_count and pa.types.is_string(column.type):
            at = table.column_names.index(role)
            table = table.set_column(at, role, pc.fill_null(column, ""))
    return task.rows(table, refuse)


def _inputs_of(roles: Sequence[str], row: Any, number: int) -> Sequence[Any]:
    """The inputs of one row, in the order of the roles."""
    if isinstance(row, Mapping):
        if missing := [role for role in roles if role not in row]:
            raise DataError(f"row {number} has no {missing[0]}; it needs {', '.join(roles)}")
        return [row[role] for role in roles]
    if len(roles) == 1:
        return [row]
    if isinstance(row, str) or len(row) != len(roles):
        raise DataError(
            f"row {number}: this model is asked with {' and '.join(roles)}; give a dict of "
            f"them or a tuple in this order"
        )
    return list(row)
