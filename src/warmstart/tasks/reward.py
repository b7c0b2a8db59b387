"""A reward model: a number for a prompt and its answer, the higher the better people like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.data.conversations import PROMPT_ROLES
from warmstart.data.tokens.dataset import TokenizedDataset, store_of
from warmstart.data.tokens.encoding import tokenise_pairs
from warmstart.errors import DataError
from warmstart.metrics.preference import TITLES, PairAccuracy
from warmstart.models.architectures import family_of
from warmstart.models.heads import REWARD, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.preference.pairs import ANSWERS, UNUSED, PairTask, answer_only, readable
from warmstart.tasks.preference.results import (
    length_notes,
    length_section,
    pair_table,
    wrong_pairs,
)
from warmstart.tasks.results import TaskResult, column
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.models.base import Base


class Reward(PairTask):
    """Reward modelling: a head with one output reads a prompt with its answer, whole.

    A decoder answers at the last token of the row, the one that ends the answer, whatever id pads
    it; an encoder reads prompt and answer as two texts. Rewards of different prompts cannot be
    compared: only differences were learned.
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        **PairTask.roles, "answer": (*PROMPT_ROLES["answer"], "text"),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset({"prompt"})
    inputs: ClassVar[tuple[str, ...]] = ("prompt", "answer")
    head: ClassVar[Head] = REWARD
    objective: ClassVar[str] = "reward"
    metric_titles: ClassVar[Mapping[str, str]] = TITLES
    min_epochs: ClassVar[int] = 1

    decodes: bool = Field(
        default=False, description="whether the base reads from left to right; set by the run"
    )

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """Pairs, where the table has them; else each prompt with one answer."""
        names = set(table.column_names)
        if {*ANSWERS} <= names:
            own = [name for name in table.column_names if name != "answer"]
            return super().rows(table.select(own), drop)
        if "answer" in names:
            return answer_only(table, drop)
        raise DataError(
            f"{table['_file'][0].as_py() if len(table) else 'the data'} has neither chosen and "
            "rejected answers to learn from nor one answer to rate; name them with "
            "--data.columns.chosen NAME and --data.columns.rejected NAME"
        )

    def resolve_for_data(self, table: pa.Table) -> Task:
        """As it is. Raises `DataError` where there are no pairs."""
        if not {*ANSWERS} <= {*table.column_names}:
            raise DataError(
                f"{table['_file'][0].as_py()} has no pairs of answers; name them with "
                "--data.columns.chosen NAME and --data.columns.rejected NAME"
            )
        return self

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Task:
        """With the kind of the base."""
        task = super().resolve_for_base(config, room)
        return task.model_copy(update={"decodes": family_of(config).kind == "decoder"})

    def fit_labels(self, train: pa.Table) -> list[str]:
        return ["reward"]

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        """The base's body under a head with one output. A decoder's is at the last token that does
        not pad, which transformers tells by its id: the padding is one that ends no answer."""
        from warmstart.models.loading import load_tokenizer

        model = super().build_model(base, labels, seed)
        if self.decodes:
            model.config.pad_token_id = set_padding(load_tokenizer(base))
        return model

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """Each prompt with its answer as one row: the chosen answers and, behind them, the rejected
        ones; or the only answers."""
        from dataclasses import replace

        if self.decodes:
            set_padding(tokenizer)
        names = ANSWERS if ANSWERS[0] in table.column_names else ("answer",)
        encode = self._conversations if self.decodes else self._two_texts
        store = None
        for own in reversed(encode(table, names, tokenizer, longest, on_cut)):
            store = replace(own, answers=store)
        assert store is not None
        margins = self.targets(table, labels)
        return store if margins is None else replace(store, targets=margins)

    def _conversations(
        self,
        table: pa.Table,
        names: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None,
    ) -> list[TokenizedDataset]:
        """By the template, up to the token that ends the answer."""
        renamed = table if len(names) > 1 else table.rename_columns(
            ["chosen" if name == "answer" else name for name in table.column_names]
        )  # fmt: skip
        prompts, answers = self.written(renamed, tokenizer, longest, on_cut)
        backend = tokenizer.backend_tokenizer
        return [store_of([[*p, *a] for p, a in zip(prompts, own, strict=True)], backend)
                for own in answers.values()]  # fmt: skip

    def _two_texts(
        self,
        table: pa.Table,
        names: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None,
    ) -> list[TokenizedDataset]:
        """As an encoder reads two texts. In training a row that is too long is dropped."""
        prompts, cut = readable(table["prompt"]), dict[int, int]()

        def note(row: int, tokens: int) -> None:
            cut[row] = max(cut.get(row, 0), tokens)

        side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
        try:
            stores = [tokenise_pairs(prompts, readable(table[name]), tokenizer, longest, note)
                      for name in names]  # fmt: skip
        finally:
            tokenizer.truncation_side = side
        drop: Drop | None = getattr(on_cut, "drop", None)
        for row, tokens in sorted(cut.items()):
            if drop is not None:
                drop(row, UNUSED.format(tokens=longest + tokens, longest=longest))
            elif on_cut is not None:
                on_cut(row, tokens)
        return stores

    def scores(self, outputs: Any) -> np.ndarray:
        """The rewards of both answers [n, 2]."""
        return np.asarray(outputs, np.float64).reshape(-1, 2)

    def score(self, outputs: Any, examples: Examples) -> dict[str, float]:
        scores = self.scores(outputs)
        return PairAccuracy()(scores, None) if len(scores) else dict.fromkeys(TITLES, 0.0)

    def decode(self, outputs: Any, examples: Examples) -> list[Prediction]:
        """The reward of each answer, of seven digits; of pairs that of the chosen one."""
        values = np.asarray(outputs, np.float64).reshape(len(examples), -1)[:, 0]
        return [Prediction(str(i), float(f"{value:.7g}"), 1.0) for i, value in enumerate(values)]

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The reward alone: nothing is known of how sure a single one is."""
        return {"reward": column([answer.value for answer in answers], "float64")}

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, measure, scores = examples["test"], PairAccuracy(), self.scores(outputs["test"])
        table = pair_table(test.table, scores[:, :, None], ("reward",))
        lengths = length_section(test.table, scores, None)
        return TaskResult(
            measure=measure,
            statistics=measure.rows(scores),
            score=measure.rows,
            table=table,
            mistakes=wrong_pairs(table),
            baselines=("length", "bag_of_words"),
            facts={"sections": [lengths], "row_name": "test pair", "mistakes_lead":
                   "The test pairs whose rejected answer has the higher reward, by the most "
                   "first; all pairs are in predictions.parquet."},
            notes=length_notes(lengths),
        )  # fmt: skip


def set_padding(tokenizer: Any) -> int:
    """Have the tokenizer pad with a token that ends no answer, and return its id: another special
    one, or else the last of the vocabulary."""
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if pad is None or pad == end:
        added = tokenizer.added_tokens_decoder.items()
        others = [i for i, token in sorted(added) if token.special and i != end]
        pad = others[0] if others else next(i for i in (len(tokenizer) - 1, 0) if i != end)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    return int(pad)
