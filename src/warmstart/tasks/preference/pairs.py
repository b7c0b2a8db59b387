"""A prompt with two answers, of which people chose one: how such rows are read, put into token ids
and shown. What the tasks share that learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.data.conversations import (
    ASSISTANT,
    NESTED,
    PREFERENCE_ROLES,
    as_text,
    messages_of,
    read,
    read_preferences,
    write,
)
from warmstart.data.ledger import place
from warmstart.data.tokens.dataset import TokenizedDataset, store_of
from warmstart.errors import DataError, RecipeError, RowError
from warmstart.tasks.base import Drop, OnCut, Task
from warmstart.tasks.results import column
from warmstart.tokenization.chat import ChatTemplate

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERS = ("chosen", "rejected")
UNUSED = "a prompt and an answer of {tokens:,} tokens, more than task.max_length {longest:,}"


class PairTask(Task):
    """Answers to prompts, in pairs: `chosen`, which people preferred, and `rejected`."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        **PREFERENCE_ROLES, "margin": ("margin", "strength"),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset(ANSWERS)
    nested: ClassVar[frozenset[str]] = NESTED
    texts: ClassVar[tuple[str, ...]] = ("prompt", *ANSWERS)
    together: ClassVar[str | None] = "prompt"
    main_score: ClassVar[str] = "accuracy"
    when_cut: ClassVar[str] = "the beginning of the prompt was not read"

    max_length: int = Field(
        default=512,
        ge=8,
        description="tokens that a prompt and one answer may have together; longer rows are left "
        "out, with the reason in the ledger",
    )
    template: str | None = Field(
        default=None,
        description="how a conversation is written for the model: own (the base's template) or the "
        "name of one that comes with warmstart; unset: the base's own, else plain text",
    )

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """Prompt, chosen and rejected as messages, each as JSON; see `read_preferences`."""
        own = {name: table[name] for name in ("margin", "_file", "_line")
               if name in table.column_names}  # fmt: skip
        left_out = list[int]()

        def drops(row: int, reason: str) -> None:
            left_out.append(row)
            drop(row, reason)

        margins = own.pop("margin", None)
        formed = read_preferences(table.drop_columns(["margin"]) if margins else table, drops)
        if margins is None:
            return formed
        kept = np.setdiff1d(np.arange(len(table)), left_out)
        return formed.append_column("margin", margins.take(kept).cast("string"))

    def as_text(self, table: pa.Table) -> pa.ChunkedArray:
        """The prompt and the answers that are there, for people."""
        import pyarrow as pa

        names = [n for n in ("prompt", "answer", *ANSWERS) if n in table.column_names]
        columns = (readable(table[name]) for name in names)
        return pa.chunked_array([column(["\n".join(row) for row in zip(*columns, strict=True)],
                                        "string")])  # fmt: skip

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        """The margins [n], where the data have a column of them; else None. Raises `DataError`."""
        if "margin" not in table.column_names:
            return None
        margins = np.full(len(table), np.nan, np.float32)
        for row, cell in enumerate(table["margin"].to_pylist()):
            with suppress(ValueError):
                margins[row] = float(cell or 0)
        if len(strange := np.flatnonzero(~np.isfinite(margins))):
            raise DataError(
                f"{place(table, int(strange[0]))}: the margin is no number; mend it, or leave the "
                "column out with --data.columns.margin none"
            )
        return margins

    def written(
        self, table: pa.Table, tokenizer: Any, longest: int, on_cut: OnCut | None
    ) -> tuple[list[list[int]], dict[str, list[list[int]]]]:
        """The ids of each prompt, with the opening for an answer, and by name those of its answers,
        each with the token that ends it.

        In training a row that cannot be used is dropped (`Cut.drop`). A saved model reads what it
        can of it: the end of a prompt, the beginning of an answer; `on_cut` hears how many tokens
        it does not. Raises `DataError` where it can read nothing.
        """
        template = ChatTemplate.of(tokenizer, self.template)
        names = [name for name in self.texts[1:] if name in table.column_names]
        drop: Drop | None = getattr(on_cut, "drop", None)
        prompts, answers = list[list[int]](), {name: list[list[int]]() for name in names}
        for number, row in enumerate(table.select(["prompt", "tools", *names]).to_pylist()):
            try:
                prompt, own = _encoded(template, row, names)
                size = len(prompt) + max(map(len, own), default=0)
                if drop is not None and size > longest:
                    raise RowError(UNUSED.format(tokens=size, longest=longest))
            except RowError as error:
                if drop is None:
                    raise DataError(f"{place(table, number)}: {error}") from None
                drop(number, str(error))
                prompt, own, size = [0], [[0]] * len(names), 1
            if size > longest:
                own = [answer[: longest - 1] for answer in own]
                prompt = prompt[max(0, len(prompt) + max(map(len, own), default=0) - longest) :]
                if on_cut is not None:
                    on_cut(number, size - longest)
            prompts.append(prompt)
            for name, answer in zip(names, own, strict=True):
                answers[name].append(answer)
        return prompts, answers

    def as_pairs(
        self, table: pa.Table, tokenizer: Any, longest: int, on_cut: OnCut | None
    ) -> TokenizedDataset:
        """The prompts, with the chosen answers behind them, and behind these the rejected ones."""
        prompts, answers = self.written(table, tokenizer, longest, on_cut)
        backend = tokenizer.backend_tokenizer
        store = None
        for name in reversed(list(answers)):
            store = replace(store_of(answers[name], backend), answers=store)
        return replace(store_of(prompts, backend), answers=store)


def readable(cells: Any) -> list[str]:
    """Conversations in JSON as texts for people."""
    return [as_text(read(cell)) for cell in cells.to_pylist()]


def answer_only(table: pa.Table, drop: Drop) -> pa.Table:
    """A table of prompts, each with one answer, in the form that `read_preferences` gives pairs."""
    rows = table.select(["prompt", "answer"]).to_pylist()
    columns: dict[str, list[str]] = {"prompt": [], "answer": []}
    for number, row in enumerate(rows):
        try:
            prompt = messages_of(row["prompt"] or "")
            answer = messages_of(row["answer"] or "", ASSISTANT)
        except RowError as error:
            drop(number, str(error))
            prompt, answer = [], []
        columns["prompt"].append(write(prompt))
        columns["answer"].append(write(answer))
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, column(values, "string"))
    return table.append_column("tools", column([""] * len(table), "string"))


def _encoded(
    template: ChatTemplate, row: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """A prompt and its answers as ids. Raises `RowError`."""
    messages, tools = read(row["prompt"]), read(row["tools"]) or None
    prompt = template.render(messages, tools, open=True)
    answers = list[list[int]]()
    for name in names:
        behind = read(row[name])
        if len(behind) > 1:
            raise RowError(f"{name}: an answer of several messages")
        conversation = template.conversation([*messages, *behind], tools, "last")
        begin, end = conversation.turns[-1]
        ids = conversation.ids.tolist()
        if template.opens and not answers:  # an answer without thinking stands otherwise
            prompt = ids[:begin]
        if ids[:begin] != prompt and template.opens:
            raise RowError("one answer with thinking and one without")
        if ids[:begin] != prompt:
            raise RecipeError(
                "the template writes a prompt in another way where its answer follows, so that the "
                "model would be trained on what it is never asked; take another: --task.template"
            )
        answers.append(ids[begin:end])
    return prompt, answers
