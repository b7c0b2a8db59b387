"""What every task answers: its columns, its examples, its head, its answers, its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from warmstart.data.cells import in_order
from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.data.tokens.encoding import tokenise_pairs
from warmstart.errors import RecipeError
from warmstart.models.architectures import family_of
from warmstart.models.heads import CLASSES, Head
from warmstart.part import Part
from warmstart.tasks.results import TaskResult, column

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.models.base import Base
    from warmstart.models.forward import Forward
    from warmstart.types import Prediction

OnCut = Callable[[int, int], None]
"""(row, tokens) of a text that had to be cut."""
Drop = Callable[[int, str], None]
"""(row, reason) of a row that cannot be used; it goes to the ledger."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """One split: the table of the task's columns with `_file` and `_line`, and its token ids.

    `labels` are what `Task.fit_labels` found in train.
    """

    table: pa.Table
    store: TokenizedDataset
    labels: Sequence[str]
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.table)


class Task(Part):
    """What is predicted."""

    kind: ClassVar[str] = "task"
    roles: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Role of a column → names under which it is recognised, in order."""
    required: ClassVar[frozenset[str] | None] = None
    """Roles without which there is nothing to learn; None: all. Where several columns can say the
    same, `rows` checks what is there."""
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    """Roles that an answer is asked for with; never a target."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Roles that are read with the inputs where a file has them."""
    nested: ClassVar[frozenset[str]] = frozenset()
    """Roles whose values may be lists or structs."""
    texts: ClassVar[tuple[str, ...]] = ("text",)
    """Columns (after `rows`) that may not be empty, and by which rows are copies of each other."""
    label: ClassVar[str | None] = None
    """The column of one class a row, by which splits are stratified; None where there is none."""
    together: ClassVar[str | None] = None
    """A column (after `rows`) whose rows of one value stay on one side of a split that is cut off,
    as the questions on one passage; a `data.group` that is named goes first."""
    head: ClassVar[Head] = CLASSES
    """The kind of head."""
    objective: ClassVar[str] = "supervised"
    """The objective that is taken where the recipe names none."""
    main_score: ClassVar[str] = ""
    """The figure that chooses the best epoch and stands first in the report."""
    metric_titles: ClassVar[Mapping[str, str]] = {}
    """Figures that are shown, the main one first → how they are called."""
    when_cut: ClassVar[str] = "only the beginning was read"
    """What it means that a text has more tokens than the model can read."""
    trains: ClassVar[bool] = True
    """Whether a model can be trained for it; else a saved one is only evaluated in it."""
    own_data: ClassVar[bool] = False
    """Whether the task's settings name the data, as where several tasks have theirs."""
    reads_documents: ClassVar[bool] = False
    """Whether the data are documents, of which nothing but the text is read."""
    without_both: ClassVar[str] = ""
    """What to take in the place of an encoder-decoder, for a task that can do nothing with it."""
    default_batch: ClassVar[int | None] = None
    """Rows in a step where the recipe names none; None: the method's own number."""
    min_epochs: ClassVar[int] = 1
    """Passes that it takes at least where the recipe names none."""
    default_epochs: ClassVar[int | None] = None
    """Passes where the recipe names none; None: as many as the method wants."""
    max_length: int

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """The columns of the roles in this task's own form, `_file` and `_line` kept: every column
        a plain one of strings (lists and structs as JSON). Raises `DataError` with file and line.
        """
        return table

    def as_text(self, table: pa.Table) -> pa.ChunkedArray:
        """One text for each row, for people to read and for the TF-IDF baseline."""
        return table[self.texts[0]]

    def strata(self, table: pa.Table) -> Sequence[str] | None:
        """A word for each row, whose shares are to be alike in splits that are cut off, where no
        `label` column says it; None: by chance."""
        return None

    def data_notes(self, train: pa.Table) -> list[str]:
        """What is worth knowing of the training rows; it is noted in the ledger."""
        return []

    @property
    def epoch_score(self) -> str:
        """The figure of `score` that chooses the best epoch; higher is better."""
        return self.main_score

    @property
    def score_span(self) -> tuple[float, float]:
        """The worst and the best that `epoch_score` can be."""
        return 0.0, 1.0

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Task:
        """With the choices made that depend on the base.

        Args:
            config: the base's `config.json`.
            room: tokens that its tokenizer allows.

        Raises `RecipeError` where a setting does not go with the base.
        """
        if self.without_both and (family := family_of(config)).kind == "encoder-decoder":
            raise RecipeError(
                f"task {self.part_name()} needs an encoder or a decoder, and '{family.name}' is "
                f"both; take {self.without_both}"
            )
        return self

    def resolve_for_data(self, table: pa.Table) -> Task:
        """With what the rows themselves say, where they may come in several kinds; `table` is the
        training rows, or those that a saved model is evaluated on."""
        return self

    def as_read_by(self, other: Task) -> Task:
        """With what a task of the same settings found when it read the same rows."""
        return self

    def check(self, method: Any) -> None:
        """Raise `RecipeError` where the method does not go with the task."""

    def default_rate(self, method: Any, width: int) -> float:
        """The peak learning rate where the recipe names none, for a model of this hidden width."""
        return method.default_learning_rate(width)

    def fit_labels(self, train: pa.Table) -> list[str]:
        """The labels, in the order of the head's outputs; empty where there are none."""
        if self.label is None:
            return []
        return in_order(set(train[self.label].to_pylist()))

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """The rows as token ids, with targets where the table has the target's column.

        The same call in training and when answering. Unless said otherwise the model reads the
        text of each row, or `sentence1` and `sentence2` together, beside its `targets`.
        """
        targets = self.targets(table, labels)
        if "sentence1" in table.column_names:
            pair = table["sentence1"].to_pylist(), table["sentence2"].to_pylist()
            store = tokenise_pairs(*pair, tokenizer, longest, on_cut)
        else:
            store = tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut)
        return store if targets is None else replace(store, targets=targets)

    def usable(self, table: pa.Table, tokenizer: Any, drop: Drop) -> pa.Table:
        """The rows that a model can learn from or be judged on as `tokenizer` splits them; called
        for each split before `encode`. Raises `DataError` or `RecipeError`."""
        return table

    def preview(self, examples: Examples) -> list[list[tuple[str, bool]]]:
        """The first rows of a split as stretches of text, each with whether it is what is learned;
        nothing for a task that learns no tokens."""
        return []

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        """What the model is to learn of each row [n, ...]; None where the table does not say."""
        raise NotImplementedError

    def check_base(self, base: Base, labels: Sequence[str]) -> None:
        """Raise `RecipeError` or `BaseModelError` where the task cannot be done on this base,
        before its weights are read and anything is written."""
        self.head.check(base.path)

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        """The base's body under this task's head."""
        from warmstart.models.loading import load_headed

        return load_headed(base, self.head, list(labels), seed)

    def forward(self, model: PreTrainedModel) -> Forward:
        """How the model's outputs are computed."""
        from warmstart.models.fast.forward import forward_for

        return forward_for(model)

    def decode(self, outputs: Any, examples: Examples) -> list[Prediction]:
        """The model's outputs (as the feed of this form gives them) as one answer for each row of
        the table."""
        raise NotImplementedError

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """Answers as columns that `predict --out` adds to the user's own."""
        return {
            "prediction": column([str(answer.value) for answer in answers], "string"),
            "confidence": column([round(answer.confidence, 6) for answer in answers]),
        }

    def labelled(self, outputs: Any, examples: Examples) -> dict[str, pa.Array]:
        """As `columns`, from the model's outputs; where rows are many, without an object a row."""
        return self.columns(self.decode(outputs, examples))

    def score(self, outputs: Any, examples: Examples) -> dict[str, float]:
        """Quick figures for one pass over a split, `epoch_score` among them (higher is better)."""
        raise NotImplementedError

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        """The predictions on the test rows beside the references.

        `outputs` has "test" and, where there is one, "validation" (thresholds are chosen there and
        never on test); `examples` also "train". When a saved model is evaluated on new rows, only
        "test" is there.
        """
        raise NotImplementedError

    def fold_into_weights(self, model: PreTrainedModel) -> Self:
        """After training, before anything is answered: with what training had for its own ease,
        such as a unit of the targets, put into the model's weights."""
        return self

    def fit_thresholds(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> Self:
        """The task with what a trained model's outputs settle, such as a threshold chosen on
        validation; so it is proven, evaluated and saved. See `evaluate` for the arguments."""
        return self

    def write_extras(self, folder: Path) -> None:
        """Write what else belongs to the saved model. Raises `RunError`."""

    def prove(self, folder: Path, examples: Examples) -> Mapping[str, Any]:
        """Figures of the task's own for the proof of a saved model, from its files alone. Raises
        `ProofError`."""
        return {}

    def to_metadata(self) -> dict[str, Any]:
        """What the saved folder must keep of this task, so that it answers again."""
        return {"name": self.part_name(), **self.model_dump(mode="json")}


def without(table: pa.Table, rows: np.ndarray, drop: Drop, reason: str) -> pa.Table:
    """The table without the rows that are marked [n], all dropped for this reason."""
    for row in np.flatnonzero(rows):
        drop(int(row), reason)
    return table.filter(~rows) if rows.any() else table
