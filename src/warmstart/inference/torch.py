"""PyTorch on this machine: the saved folder itself, computed in float32 unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.errors import RunError, typed
from warmstart.inference.engine import Engine
from warmstart.models.checks import note_of, read_json
from warmstart.models.heads import VECTOR, head_of
from warmstart.models.sentence_folder import read_modules
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.tasks.base import Examples

CHUNK = 4096


class Torch(Engine):
    """Answers with torch."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: cuda if there is one"
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32", description="fp32 answers exactly as transformers does"
    )

    own_head: str | None = Field(
        default=None, description="path of the user's own head class that may be run"
    )

    def build(self, run: Path, out: Path) -> Path:
        """Nothing to build: the run's model folder is what torch reads."""
        return run / "model" if (run / "model").is_dir() else run

    def open(self, path: Path) -> TorchPredictor:
        """A predictor over a run or a model folder. Raises `RunError`, `BaseModelError`."""
        return TorchPredictor(self, self.build(path, path))


class TorchPredictor:
    """Answers of the task that a saved model was trained for."""

    def __init__(self, engine: Torch, folder: Path) -> None:
        from warmstart.inference.inputs import labels_of, task_of
        from warmstart.models.architectures import positions_of
        from warmstart.models.custom_head import check_own
        from warmstart.models.loading import load_saved
        from warmstart.training.precision import choose, device_named

        _check(folder)
        check_own(folder, engine.own_head)
        with _whole(folder) as whole:
            self.model, self.tokenizer = load_saved(whole)
            config: Any = self.model.config
            longest = min(self.tokenizer.model_max_length, positions_of(config))
            self.task: Any = task_of(whole, longest)
            self.labels = labels_of(config)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.pad: Any = self.tokenizer.pad_token_id
        if config.pad_token_id is None:
            config.pad_token_id = self.pad
        device = device_named(engine.device)
        self.forward = self.task.forward(self.model)
        self.model.requires_grad_(False)
        self.forward.prepare(choose(engine.precision, device), device, checkpointing=False)

    def predict(self, rows: Sequence[Any]) -> list[Prediction]:
        """One prediction a row, in order; ids count from 0. A row is a text, or, for a task with
        several inputs, a dict of them or a tuple in their order."""
        found: list[Prediction] = []
        for start in range(0, len(rows), CHUNK):
            found += self.answers(self.table(rows[start : start + CHUNK]), start)
        return found

    def table(self, rows: Sequence[Any]) -> pa.Table:
        """Rows as `predict` takes them, as a table of the task's inputs. Raises `DataError`."""
        from warmstart.inference.inputs import table_of

        return table_of(self.task, rows)

    def answers(
        self, table: pa.Table, start: int = 0, on_cut: Callable[[int, int], None] | None = None
    ) -> list[Prediction]:
        """The answers for a table of the task's inputs, with the ids `start`, `start` + 1, …

        `on_cut(row, tokens)` is told of each text that was too long.
        """

        outputs, examples = self.outputs(table, start, on_cut)
        answers = self.task.decode(outputs, examples)
        return [replace(answer, id=str(start + i)) for i, answer in enumerate(answers)]

    def outputs(
        self, table: pa.Table, start: int = 0, on_cut: Callable[[int, int], None] | None = None
    ) -> tuple[Any, Examples]:
        """What the model gives for a table, and the rows as the task sees them."""
        from warmstart.tasks.base import Examples
        from warmstart.training.datasets import rows_for

        def cut(row: int, tokens: int) -> None:
            if on_cut is not None:
                on_cut(start + row, tokens)

        task = self.task
        store = task.encode(table, self.labels, self.tokenizer, task.max_length, cut)
        examples = Examples(table, store, self.labels, self.tokenizer)
        rows = rows_for(task.head, store, self.forward, self.pad)
        return rows.predict(self.forward), examples


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """The folder; a copy with what is missing where it is an adapter that PEFT alone has saved."""
    from warmstart.models.adapters.files import read
    from warmstart.models.adapters.open import opened

    if (folder / "adapter_config.json").exists() and not note_of(folder):
        with opened(read(folder)) as place:
            yield place
    else:
        yield folder


def _check(folder: Path) -> None:
    """Raises `RunError` unless this is a model that answers."""
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
