"""Conversations: the assistant's turns are what is learned, and what is written for a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from warmstart.data.conversations import (
    ASSISTANT,
    CHAT_ROLES,
    NESTED,
    Message,
    opened,
    read,
    read_conversations,
    sides_of,
    write,
)
from warmstart.data.ledger import place
from warmstart.data.tokens.dataset import IGNORE_INDEX, TokenizedDataset, store_of
from warmstart.errors import DataError, ProofError, RecipeError, RowError, shown
from warmstart.formatting import counted
from warmstart.metrics.language import AnswerFit
from warmstart.models.architectures import family_of, positions_of
from warmstart.tasks.base import Drop, Examples, OnCut
from warmstart.tasks.generation import NEW_TOKENS, SAMPLE, TextTask, texts_of
from warmstart.tasks.results import TaskResult, list_mistakes, prediction_table, shortened
from warmstart.tokenization.chat import ChatTemplate, Conversation
from warmstart.tokenization.rendering import Renderer

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.models.generation import GenerationOutput
    from warmstart.types import Prediction

BRIEF = 400  # characters of a text in the report
PREVIEWED, PROVEN = 3, 20  # conversations
FEWEST = 2  # tokens of an answer that must have room
LOADING = 60.0  # seconds
TOO_LONG = "the prompt alone has more tokens than task.max_length"
NOTHING = "nothing to learn: no answer of the assistant that is trained"


class Chat(TextTask):
    """Supervised fine-tuning on conversations, by a decoder behind its chat template."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = CHAT_ROLES
    required: ClassVar[frozenset[str] | None] = frozenset({"messages"})
    inputs: ClassVar[tuple[str, ...]] = ("messages",)
    beside: ClassVar[tuple[str, ...]] = ("system", "tools")
    nested: ClassVar[frozenset[str]] = NESTED
    texts: ClassVar[tuple[str, ...]] = ("source",)
    objective: ClassVar[str] = "sft"
    main_score: ClassVar[str] = "loss"
    metric_titles: ClassVar[Mapping[str, str]] = AnswerFit.titles
    baselines: ClassVar[tuple[str, ...]] = ()
    default_epochs: ClassVar[int | None] = 2  # a base that can talk needs no more
    when_cut: ClassVar[str] = "only the end was read"

    max_length: int = Field(
        default=1024,
        ge=8,
        description="tokens of a conversation; a longer one ends with the last answer that fits",
    )
    num_beams: int = Field(
        default=1, ge=1, le=64, description="answers followed at once (beam search); 1: greedy"
    )
    template: str | None = Field(
        default=None,
        description="how messages are written: own (the base's), chatml, llama-3, zephyr, vicuna, "
        "alpaca or plain; unset: own, or plain where the base has none; it is saved with the model",
    )
    train: Literal["all", "last"] = Field(
        default="all",
        description="which answers of a conversation are learned; a weight of 0 leaves one out",
    )
    tools: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="what becomes of conversations with tools that the template cannot write",
    )
    test_texts: int = Field(
        default=128, ge=1, description="test conversations for which the model writes an answer"
    )

    _templates: dict[int, ChatTemplate] = PrivateAttr(default_factory=dict)
    _known: dict[tuple[str, str], Conversation] = PrivateAttr(default_factory=dict)
    """Conversations that `usable` looked at, until `encode` has read them."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.prefix is not None or self.separator is not None:
            raise ValueError(
                "prefix and separator belong to tasks without messages; what stands around a "
                "message is task.template's to say"
            )
        return self

    @property
    def epoch_score(self) -> str:
        """Minus the loss: higher is better."""
        return "log_likelihood"

    @property
    def score_span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        return read_conversations(table, drop)

    def resolve_for_data(self, table: pa.Table) -> Chat:
        return self

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Chat:
        """With lengths for the base. Raises `RecipeError` for one that is no decoder."""
        family = family_of(config)
        if family.kind == "encoder-decoder":
            raise RecipeError(
                f"task chat continues a conversation, which a decoder does, and '{family.name}' "
                "reads a text to write another; take a decoder (--base smollm2), or task text2text"
            )
        positions = positions_of(config)
        new = self.max_new_tokens or max(2, min(NEW_TOKENS, positions // 4))
        longest = min(self.max_length, room, positions - new)
        if longest < FEWEST * 2:
            raise RecipeError(
                f"task.max_new_tokens {new} leaves no room for a prompt: '{family.name}' reads "
                f"{positions:,} tokens in all; lower it"
            )
        return self.model_copy(update={"max_length": longest, "max_new_tokens": new})

    def template_of(self, tokenizer: Any) -> ChatTemplate:
        """The template that a tokenizer is used with, which is saved with it from here on. Raises
        `RecipeError`."""
        template = self._templates.get(id(tokenizer))
        if template is None or template.tokenizer is not tokenizer:
            template = ChatTemplate.of(tokenizer, self.template)
            tokenizer.chat_template = template.source
            self._templates[id(tokenizer)] = template
        return template

    def end_token(self, tokenizer: Any) -> int | None:
        return self.template_of(tokenizer).end

    def usable(self, table: pa.Table, tokenizer: Any, drop: Drop) -> pa.Table:
        """Without conversations from which nothing can be learned; those that are too long end with
        the last answer that fits, and what stands behind the last answer is left out. An answer
        that the template writes otherwise once another follows has a row of its own."""
        template, kept, forgotten, short = self.template_of(tokenizer), list[int](), 0, 0
        columns = {name: list[str]() for name in ("messages", "source", "target")}
        for number, row in enumerate(table.select(["messages", "tools"]).to_pylist()):
            try:
                lessons, lost = self._lessons(template, read(row["messages"]), row["tools"])
            except RowError as error:
                drop(number, str(error))
                continue
            forgotten, short = forgotten + template.forgets(lessons[0]), short + lost
            for messages in lessons:
                kept.append(number)
                values = write(messages), *sides_of(messages)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
        if note := getattr(drop, "note", None):
            for remark in _thinking_notes(template, len(set(kept)), len(kept), forgotten, short):
                note("template", remark)
        table = table.take(np.array(kept, np.int64))
        for name, values in columns.items():
            at = table.column_names.index(name)
            table = table.set_column(at, name, [_strings(values)])
        return table

    def _lessons(
        self, template: ChatTemplate, messages: list[Message], tools: str
    ) -> tuple[list[list[Message]], int]:
        """What a conversation teaches, each up to the last answer that is learned and has room, and
        how many answers of it have none. Raises `RowError` where nothing is left."""
        functions, why = read(tools), list[RowError]()
        if self.tools == "drop" and not template.tools and _uses_tools(messages, functions):
            raise RowError("tools, which the template cannot write")
        several = self.train == "all" and template.thinking
        lessons = template.lessons(messages, functions) if several else [messages]
        fitted = list[list[Message]]()
        for lesson in lessons:
            try:
                fitted.append(self._fitted(template, list(lesson), tools))
            except RowError as error:
                why.append(error)
        if not fitted:
            raise why[0]
        return fitted, len(why)

    def _fitted(self, template: ChatTemplate, messages: list[Message], tools: str) -> list[Message]:
        """The messages of a conversation up to the last answer that is learned and has room. Raises
        `RowError`."""
        functions = read(tools)
        conversation = template.conversation(messages, functions, self.train)
        learned = conversation.learned
        pairs = zip(conversation.messages, conversation.turns, strict=True)
        turns = [(i, *span) for i, span in pairs if i in learned]
        if not turns:
            raise RowError(NOTHING)
        whole = [turn for turn in turns if turn[2] <= self.max_length]
        begun = [turn for turn in turns[:1] if turn[1] + FEWEST <= self.max_length]
        if not (whole or begun):
            raise RowError(TOO_LONG)
        last = (whole or begun)[-1][0] + 1
        if last < len(messages):
            messages = messages[:last]
            conversation = template.conversation(messages, functions, self.train)
            if again := conversation.learned - learned:  # which another lesson teaches
                messages = [{**m, "weight": 0} if i in again else m for i, m in enumerate(messages)]
                conversation = template.conversation(messages, functions, self.train)
        self._known[write(messages), tools] = conversation
        return messages

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """What stands before the last answer, with the tokens of earlier answers as targets, and
        the last answer with the token that ends it; without answers where one is missing. Raises
        `DataError` with file and line."""
        template = self.template_of(tokenizer)
        prompts, answers, learned = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        for number, row in enumerate(table.select(["messages", "tools"]).to_pylist()):
            try:
                prompt, answer, mask = self._parts(template, row["messages"], row["tools"])
            except RowError as error:
                raise DataError(f"{place(table, number)}: {error}; mend the row") from None
            room = longest - FEWEST if answer is not None else longest
            if (extra := len(prompt) - room) > 0:
                prompt, mask = prompt[extra:], mask[extra:]
            answer = np.zeros(0, np.int64) if answer is None else answer
            more = max(0, len(answer) - (longest - len(prompt)))
            if on_cut is not None and max(extra, 0) + more:
                on_cut(number, max(extra, 0) + more)
            prompts.append(prompt)
            answers.append(answer[: len(answer) - more])
            learned.append(mask)
        backend = tokenizer.backend_tokenizer
        flat = np.concatenate([np.zeros(0, bool), *learned])
        targets = np.where(flat, 0, IGNORE_INDEX).astype(np.int64)
        store = replace(
            store_of([ids.tolist() for ids in prompts], backend), targets=targets, by_token=True
        )
        if not len(store) or any(not len(answer) for answer in answers):
            return store
        return replace(store, answers=store_of([ids.tolist() for ids in answers], backend))

    def _parts(
        self, template: ChatTemplate, text: str, tools: str
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Prompt, answer and what is learned of the prompt."""
        known = self._known.pop((text, tools), None)
        messages, functions = read(text), read(tools)
        if messages[-1]["role"] != ASSISTANT or len(messages) == 1:
            ids = np.asarray(template.render(messages, functions, open=True), np.int64)
            return ids, None, np.zeros(len(ids), bool)
        known = known or template.conversation(messages, functions, self.train)
        begin, end = known.turns[-1]
        return known.ids[:begin], known.ids[begin:end], known.mask[:begin]

    def preview(self, examples: Examples) -> list[list[tuple[str, bool]]]:
        store, answers, rows = examples.store, examples.store.answers, list[Any]()
        for row in range(min(PREVIEWED, len(store)) if answers is not None else 0):
            assert answers is not None
            own = answers.row(row)
            ids = [*store.row(row).tolist(), *own.tolist()]
            learned = [*(store.learned(row) != IGNORE_INDEX).tolist(), *[True] * len(own)]
            runs = groupby(zip(ids, learned, strict=True), key=itemgetter(1))
            rows.append([(examples.tokenizer.decode([i for i, _ in run]), on) for on, run in runs])
        return rows

    def answered(self, table: pa.Table, answers: Sequence[Prediction]) -> pa.Table:
        """The conversations, each with the answer behind what was said before it."""
        texts = [str(answer.value).strip() for answer in answers]
        spoken = zip(table["messages"].to_pylist(), texts, strict=True)
        whole = [[*opened(read(text)), {"role": ASSISTANT, "content": answer}]
                 for text, answer in spoken]  # fmt: skip
        sides = [sides_of(messages) for messages in whole]
        columns = {"messages": map(write, whole), "source": [side[0] for side in sides],
                   "target": [side[1] for side in sides]}  # fmt: skip
        kept = [name for name in table.column_names if name not in columns]
        table = table.select(kept)
        for name, values in columns.items():
            table = table.append_column(name, [_strings([*values])])
        return table.filter(np.array([*map(bool, texts)], bool))

    def score(self, outputs: GenerationOutput, examples: Examples) -> dict[str, float]:
        figures = AnswerFit().total(self._statistics(outputs, examples))
        kept = {name: figures[name] for name in ("perplexity", "token_accuracy")}
        return {"log_likelihood": -figures["loss"], **kept}

    def _statistics(self, outputs: GenerationOutput, examples: Examples) -> np.ndarray:
        """Of each row [n, 5]; see `AnswerFit`."""
        tokenizer = examples.tokenizer
        ends = {self.template_of(tokenizer).end, tokenizer.eos_token_id}
        written = np.array([ids is not None for ids in outputs.ids])
        ended = np.array([bool(ids) and ids[-1] in ends for ids in outputs.ids])
        return np.stack([outputs.nll, outputs.tokens, outputs.hits, written, ended], 1).astype(
            np.float64
        )

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        answers, test = outputs["test"], examples["test"]
        statistics = self._statistics(answers, test)
        written = texts_of(answers, test.tokenizer)
        losses = statistics[:, 0] / np.maximum(statistics[:, 1], 1)
        table = prediction_table(test.table, {
            "source": test.table["source"], "target": test.table["target"], "prediction": written,
            "confidence": answers.confidence.astype(np.float32),
            "loss": losses.astype(np.float32), "ended": statistics[:, 4] > 0,
        })  # fmt: skip
        order = [int(row) for row in np.argsort(-losses, kind="stable") if statistics[row, 1]]

        def describe(row: int) -> Mapping[str, Any]:
            own = table.select(["source", "target", "prediction"]).slice(row, 1).to_pylist()[0]
            return {"text": shortened(own["source"]), "label": shortened(own["target"]),
                    "prediction": shortened(own["prediction"]), "written": True,
                    "note": f"{losses[row]:.2f} nats a token"}  # fmt: skip

        count = int(statistics[:, 3].sum())
        endless = count - int(statistics[:, 4].sum())
        notes = [
            f"{endless:,} of {count:,} answers were not over after {self.max_new_tokens} tokens: "
            "raise task.max_new_tokens, or train longer."
        ]
        return TaskResult(
            measure=AnswerFit(),
            statistics=statistics,
            score=lambda other: self._statistics(other, test),
            table=table,
            mistakes=list_mistakes(table, order, describe),
            notes=notes if endless > max(1, 0.05 * count) else (),
            facts={
                "unit": "nats a token",
                "row_name": "test conversation",
                "epoch_score": "Minus the loss of the answers",
                "template": self.template_of(test.tokenizer).name,
                "sections": [_side_by_side(table, statistics[:, 3] > 0)],
                "mistakes_lead": "The answers of people that surprise the model most, beside what "
                "it would have said.",
            },
        )

    def fold_into_weights(self, model: PreTrainedModel) -> Self:
        """From here on the template is that of the folder, where it is saved."""
        return self.model_copy(update={"template": "own"})

    def prove(self, folder: Path, examples: Examples) -> Mapping[str, Any]:
        """By transformers alone, in a process of its own, the saved folder gives conversations the
        ids that were trained on. Raises `ProofError`."""
        table = examples.table.slice(0, PROVEN).select(["messages", "tools"]).to_pylist()
        talks = [(read(row["messages"]), read(row["tools"])) for row in table]
        template, renderer = self.template_of(examples.tokenizer), Renderer()
        try:
            answer = renderer.ask({"folder": str(folder), "conversations": talks}, LOADING)
        finally:
            renderer.close()
        theirs = answer.get("ids")
        ours = [template.render(*talk) for talk in talks]
        if theirs != ours:
            why = shown(answer["refused"], 80) if theirs is None else "they differ"
            raise ProofError(
                f"transformers does not make the ids that were trained on of conversations, read "
                f"by the chat template in {folder}: {why}"
            )
        return {"same_conversations": len(talks)}


def _thinking_notes(
    template: ChatTemplate, talks: int, rows: int, forgotten: int, short: int
) -> list[str]:
    """What a template does with thinking, as far as a split of the data shows it."""
    notes = list[str]()
    if rows > talks:
        notes.append(
            "the template writes an answer otherwise once another follows (it drops what was "
            f"thought), so that {counted(talks, 'conversation')} became {counted(rows, 'row')}: "
            "each answer is learned as the model would write it"
        )
    if short:
        notes.append(
            f"{counted(short, 'answer has', 'answers have')} no room in task.max_length with what "
            "was thought and said before, so that nothing is learned of it; raise it"
        )
    if forgotten:
        notes.append(
            f"{counted(forgotten, 'conversation holds', 'conversations hold')} thinking that the "
            "template does not write, so that it is not learned; another template may "
            "(--task.template)"
        )
    if template.opens and "/" not in template.opens and not template.thinking:
        notes.append(
            f"the template opens an answer with {template.opens} when it is asked, and writes none "
            "with it: the model learns to answer without thinking, and is then asked to think "
            "first; for data without thinking take another (--task.template)"
        )
    return notes


def _strings(values: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _uses_tools(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> bool:
    return bool(tools) or any("tool_calls" in m or m["role"] == "tool" for m in messages)


def _side_by_side(table: pa.Table, written: np.ndarray) -> Mapping[str, Any]:
    """A few answers from all over the test rows that were answered, beside those of people."""
    rows = np.flatnonzero(written)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).round().astype(int))]
    picked = table.take(rows).to_pylist()
    names = ("source", "target", "prediction")
    return {
        "title": "Some of its answers",
        "lead": f"{counted(len(rows), 'test conversation')} at equal distances, neither best nor "
        "worst.",
        "columns": ["conversation", "reference", "what the model wrote"],
        "rows": [[shortened(row[name], BRIEF) for name in names] for row in picked],
    }
