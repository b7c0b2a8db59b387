"""A predictor makes answers of rows: everything but the engine's part, in NumPy.

rows → table of the task's inputs → token ids → batches → engine → outputs → answers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart import part as parts
from warmstart.data.tokens.batching import ordered, pad, width
from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.errors import RunError, typed
from warmstart.inference.engine import Engine, Runner, TokenBatch
from warmstart.inference.inputs import table_of, task_of
from warmstart.models.architectures import positions_of
from warmstart.models.checks import note_of, read_json
from warmstart.models.heads import VECTOR, head_of
from warmstart.models.saving import read_modules
from warmstart.tasks.base import Examples

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.tasks.base import Task
    from warmstart.types import Prediction

OnCut = Callable[[int, int], None]
"""(row, tokens) of a text that was too long."""
CHUNK = 4096
"""Rows of `Predictor.predict` that are in memory at once."""


@dataclass(eq=False)
class Predictor:
    """Answers of the task that a saved model was trained for."""

    task: Task
    tokenizer: Any
    labels: list[str]
    runner: Runner

    def predict(self, rows: Sequence[Any]) -> list[Prediction]:
        """One prediction a row, in order; ids count from 0. A row is a text, or, for a task with
        several inputs, a dict of them or a tuple in their order."""
        answers: list[Prediction] = []
        for start in range(0, len(rows), CHUNK):
            answers += self.answers(self.table(rows[start : start + CHUNK]), start)
        return answers

    def table(self, rows: Sequence[Any]) -> pa.Table:
        """Rows as `predict` takes them, as a table of the task's inputs. Raises `DataError`."""
        return table_of(self.task, rows)

    def answers(
        self, table: pa.Table, start: int = 0, on_cut: OnCut | None = None
    ) -> list[Prediction]:
        """The answers for a table of the task's inputs, with the ids `start`, `start` + 1, …"""
        outputs, examples = self.outputs(table, start, on_cut)
        answers = self.task.decode(outputs, examples)
        return [replace(answer, id=str(start + i)) for i, answer in enumerate(answers)]

    def outputs(
        self, table: pa.Table, start: int = 0, on_cut: OnCut | None = None
    ) -> tuple[Any, Examples]:
        """What the model gives for a table, and the rows as the task sees them."""

        def cut(row: int, tokens: int) -> None:
            if on_cut is not None:
                on_cut(start + row, tokens)

        task = self.task
        dataset = task.encode(table, self.labels, self.tokenizer, task.max_length, cut)
        return self.compute(dataset), Examples(table, dataset, self.labels, self.tokenizer)

    def compute(self, dataset: TokenizedDataset) -> Any:
        """Outputs [n, K]; [tokens, K] of a head that reads every token, parallel to the ids;
        vectors [n, texts, H]; or a `GenerationOutput`."""
        if self.task.head.generates:
            return self._texts(dataset)
        if not self.task.head.gives_vectors:
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
            columns = width(int(dataset.lengths[rows].max()), longest)
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
        from warmstart.models.generation import GenerationOutput

        output = GenerationOutput.nothing(len(dataset))
        if dataset.answers is not None:
            scores = self.runner.log_probs(dataset)
            output = replace(output, nll=scores.nll, sure=scores.sure, hits=scores.hits,
                             tokens=scores.tokens)  # fmt: skip
        ids, confidence = self.runner.generate(replace(dataset, answers=None))
        return replace(output, ids=ids, confidence=confidence)


def open_predictor(folder: Path, engine: Engine | None = None) -> Predictor:
    """A predictor over a run or a model folder, by torch unless another engine is given.

    Raises `RunError`, `RecipeError` and `BaseModelError`.
    """
    from warmstart.models.saved import saved_config, saved_tokenizer

    chosen: Any = engine or parts.make("engine", "torch")
    folder = folder / "model" if (folder / "model").is_dir() else folder
    _check(folder)
    with _completed(folder) as whole:
        config, tokenizer = saved_config(whole), saved_tokenizer(whole)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        longest = min(tokenizer.model_max_length, positions_of(config))
        task = task_of(whole, longest)
        form = chosen.build(whole, folder / "engines" / chosen.part_name())
        pad_id: Any = tokenizer.pad_token_id
        runner = chosen.open(form, task, pad_id)
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    return Predictor(task, tokenizer, labels, runner)


@contextmanager
def _completed(folder: Path) -> Iterator[Path]:
    """The folder; a copy with what is missing where it is an adapter that PEFT alone has saved."""
    if (folder / "adapter_config.json").exists() and not note_of(folder):
        from warmstart.models.adapters.files import read
        from warmstart.models.adapters.open import opened

        with opened(read(folder)) as place:
            yield place
    else:
        yield folder


def _check(folder: Path) -> None:
    """Raise `RunError` unless this is a model that answers."""
    if (folder / "adapter_config.json").exists():
        return
    if not (folder / "config.json").exists():
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
        raise RunError(f"{folder} holds no model; give a run's folder or a model folder")
    config = read_json(folder / "config.json")
    names = config.get("architectures") or []
    plain = head_of(config) in (None, VECTOR) and not read_modules(folder)
    if plain and "task" not in note_of(folder):
        raise RunError(
            f"{folder} is a model without a head ({', '.join(map(str, names))}); "
            f"train one first: warmstart tune DATA --base {typed(folder)}"
        )
