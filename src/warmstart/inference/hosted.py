"""A hosted model in the place of a saved one: rows → conversations → host → answers of a task.

The model is told what to do and shown a few labelled rows. An answer that is no label is never
taken for one: it becomes a class of its own, `NO_ANSWER`, which is wrong wherever it stands.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from warmstart import part as parts
from warmstart.data.columns import map_roles
from warmstart.data.conversations import opened
from warmstart.data.conversations import read as read_messages
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.settings import Data
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import DataError, RecipeError
from warmstart.formatting import counted
from warmstart.inference.engine import Engine
from warmstart.inference.host import Host
from warmstart.inference.openai import HOSTED, OpenAI
from warmstart.inference.predictor import OnCut, Predictor, own_form
from warmstart.inference.replies import Reply
from warmstart.models.generation import GenerationOutput
from warmstart.models.heads import CLASSES, Head
from warmstart.tasks.base import Examples, Task
from warmstart.tasks.classification import Classification
from warmstart.tasks.generation import TextTask

NO_ANSWER = "(no valid answer)"
SUMMARY = {"summary", "highlights", "abstract", "tldr"}
"""Columns of texts that can be nothing but summaries."""
SURE = 0.999999
"""The most that a stated probability may be, so that its logarithm can be taken of the others."""


class _Unsure(Classification):
    """Classification whose answers come without a probability."""

    head: ClassVar[Head] = replace(CLASSES, problem_type=None)

    @classmethod
    def part_name(cls) -> str:
        return "classification"


class Texts:
    """Stands where a tokenizer does: the "tokens" of a text are its number in this list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def batch_decode(self, rows: Sequence[Sequence[int]], **_: Any) -> list[str]:
        """The texts with these numbers; "" where a row has none."""
        return ["".join(self.texts[number] for number in row) for row in rows]


class HostedPredictor(Predictor):
    """Answers of a task by a hosted model; see `open_hosted`."""

    def __init__(self, host: Host, task: Task, labels: list[str], shown: pa.Table | None) -> None:
        super().__init__(task, None, labels, host)
        self.host, self.engine, self.source = host, host.engine, shown
        self.invalid: Counter[str] = Counter()
        self._shown: list[Mapping[str, str]] | None = None

    def outputs(
        self,
        table: pa.Table,
        start: int = 0,
        on_cut: OnCut | None = None,
        seen: TextNotes | None = None,
    ) -> tuple[Any, Examples]:
        texts = self._texts_of(table)
        if self._shown is None:
            self._shown = self._chosen(set(texts))
        if self.task.head.generates:
            return self._written(table, texts)
        return self._labelled(table, texts)

    def notes(self) -> list[str]:
        """What is worth knowing of what was asked, once it is answered."""
        notes = self.host.summary()
        if wrong := sum(self.invalid.values()):
            reasons = ", ".join(f"{many:,} {why}" for why, many in self.invalid.most_common())
            many = counted(wrong, "answer was", "answers were")
            room = "; those cut off need a higher --engine.max_new_tokens"
            notes.append(f"{many} none of the labels ({reasons}); each is given as {NO_ANSWER} and "
                         f"counts as wrong{room if self.invalid['cut off'] else ''}")  # fmt: skip
        return notes

    def facts(self) -> Mapping[str, Any]:
        return {"hosted": {**self.host.figures(), "invalid": dict(self.invalid)}}

    def judged(self, table: pa.Table, seen: TextNotes) -> tuple[Any, Examples]:
        return self.outputs(table, seen=seen)

    def _texts_of(self, table: pa.Table) -> list[str]:
        task: Any = self.task
        if "sentence1" in table.column_names:
            pairs = zip(table["sentence1"].to_pylist(), table["sentence2"].to_pylist(), strict=True)
            return [f"First text: {a or ''}\nSecond text: {b or ''}" for a, b in pairs]
        prefix = getattr(task, "prefix", None) or ""
        return [f"{prefix}{text or ''}" for text in table[task.inputs[0]].to_pylist()]

    def _chosen(self, texts: set[str]) -> list[Mapping[str, str]]:
        """The labelled rows that are shown, as turns of a conversation: by chance, of each label as
        many, and none of those that are asked."""
        if self.source is None or not self.engine.shots:
            return []
        target = "target" if self.task.head.generates else "label"
        rows = list(zip(self._texts_of(self.source), self.source[target].to_pylist(), strict=True))
        draw = random.Random(self.engine.seed)
        draw.shuffle(rows)
        room: Counter[str] = Counter()
        turns: list[Mapping[str, str]] = []
        for text, answer in rows:
            group = answer if target == "label" else ""
            if text in texts or not text.strip() or room[group] == self.engine.shots:
                continue
            room[group] += 1
            shown = answer if target == "target" else self._in_form(answer)
            turns += [{"role": "user", "content": text}, {"role": "assistant", "content": shown}]
        return turns

    def _in_form(self, label: str) -> str:
        return json.dumps({"label": label}, ensure_ascii=False) if self._schema else label

    @property
    def _schema(self) -> Mapping[str, Any] | None:
        """The form that a label is held to."""
        if not self.engine.constrained or self.task.head.generates:
            return None
        label = {"type": "string", "enum": self.labels}
        shape = {"type": "object", "properties": {"label": label}, "required": ["label"],
                 "additionalProperties": False}  # fmt: skip
        return {"type": "json_schema",
                "json_schema": {"name": "label", "strict": True, "schema": shape}}  # fmt: skip

    def _replies(self, texts: Sequence[str], most: int, **fields: Any) -> list[Reply]:
        engine = self.engine
        if engine.temperature is not None:
            fields |= {"temperature": engine.temperature}
        fields |= {"seed": engine.seed, "logprobs": True}
        system = self._instruction()
        first = [{"role": "system", "content": system}] if system else []
        calls: list[Callable[[], Reply]] = []
        for text in texts:
            messages = [*first, *(self._shown or []), *self._turns(text)]
            calls.append(partial(self.host.ask, messages, most, **fields))
        return self.host.all(calls)

    def _turns(self, text: str) -> list[Mapping[str, str]]:
        """A text as what the user says, or a conversation up to the answer that is wanted."""
        if "messages" not in self.task.inputs:
            return [{"role": "user", "content": text}]
        return [{"role": m["role"], "content": m["content"]} for m in opened(read_messages(text))]

    def _instruction(self) -> str:
        """What the model is told before the first text."""
        task: Any = self.task
        if task.head.generates:
            usual = {"summarization": "Summarise the text. Answer with the summary alone."}
            if name := getattr(task, "target_language", None):
                usual["translation"] = f"Translate the text to {name}. Answer with it alone."
            return self.engine.instruction or usual.get(task.part_name(), "")
        what = self.engine.instruction or "Give the text the one label that fits it best."
        how = 'Answer with {"label": "…"}.' if self._schema else "Answer with the label alone."
        return f"{what} The labels are: {json.dumps(self.labels, ensure_ascii=False)}. {how}"

    def _labelled(self, table: pa.Table, texts: list[str]) -> tuple[np.ndarray, Examples]:
        schema = self._schema
        fields = {} if schema is None else {"response_format": schema}
        most = 24 + 4 * max(len(label.encode()) for label in self.labels)
        if "max_new_tokens" in self.engine.model_fields_set:  # of a model that thinks first
            most = self.engine.max_new_tokens
        replies = self._replies(texts, most, **fields)
        values = [_label_of(reply, self.labels) for reply in replies]
        self.invalid.update(reason for label, reason in values if label is None)
        names = list(self.labels)
        if self.invalid:
            names.append(NO_ANSWER)
        logits = np.full((len(texts), len(names)), 0.0, np.float32)
        sure = [
            _probability(reply, label) for reply, (label, _) in zip(replies, values, strict=True)
        ]
        for row, ((label, _), known) in enumerate(zip(values, sure, strict=True)):
            if label is None:  # how unsure it is nobody knows
                logits[row, -1] = 0.01
                continue
            value = min(known if known is not None else SURE, SURE)
            rest = (1 - value) / max(len(names) - 1, 1)
            logits[row] = np.log(max(rest, 1e-9))
            logits[row, names.index(label)] = np.log(max(value, rest + 1e-9))
        if any(label for label, _ in values) and not any(known is not None for known in sure):
            self._say_unsure()
        targets = self.task.targets(table, names)
        return logits, Examples(table, _store(len(texts), targets), names, None)

    def _say_unsure(self) -> None:
        note = "the host gives no probabilities: the confidence of its answers means nothing"
        if note not in self.host.notes:
            self.host.notes.append(note)
        if type(self.task) is Classification:
            self.task = _Unsure(max_length=self.task.max_length)

    def _written(self, table: pa.Table, texts: list[str]) -> tuple[GenerationOutput, Examples]:
        task: Any = self.task
        replies = self._replies(texts, task.max_new_tokens or self.engine.max_new_tokens)
        sure = [_mean([value for _, value in reply.tokens]) for reply in replies]
        self._note_ends(replies)
        outputs = replace(
            GenerationOutput.nothing(len(texts)), ids=[[row] for row in range(len(texts))],
            confidence=np.array(sure, float),
        )  # fmt: skip
        written = Texts([reply.text for reply in replies])
        return outputs, Examples(table, _store(len(texts), None), [], written)

    def _note_ends(self, replies: Sequence[Reply]) -> None:
        ends = Counter(reply.finish for reply in replies)
        for end, what in (("length", "cut at max_new_tokens"), ("refused", "refused by the model"),
                          ("content_filter", "held back by the host's filter")):  # fmt: skip
            if many := ends[end]:
                self.host.notes.append(f"{counted(many, 'text was', 'texts were')} {what}")


def open_hosted(
    name: str, engine: Engine, task: Mapping[str, Any], columns: Sequence[str] = ()
) -> HostedPredictor:
    """A predictor that asks the hosted model `openai:MODEL`.

    Args:
        task: the task by its `name`, and its settings; without a name the columns of the examples
            say it, or else `columns`, those of the data.

    Raises `RecipeError` where it is not clear what is to be answered, `DataError` for examples that
    cannot be read, and what `Host` raises.
    """
    if not isinstance(engine, OpenAI):
        raise RecipeError(f"{name} is asked by engine openai, and not by {engine.part_name()}")
    source = None
    if engine.examples is not None:
        source = read(engine.examples, ledger=Ledger(), how=Data().reading)
    read_as = [n for n in (source.column_names if source is not None else columns) if n[0] != "_"]
    settings = dict(task)
    kind = str(settings.pop("name", None) or _task_named(read_as, engine))
    if kind not in HOSTED:
        raise RecipeError(f"a hosted model is asked in task {', '.join(HOSTED)}, and not in {kind}")
    chosen: Any = parts.make("task", kind, settings)
    shown = None if source is None else _rows(source, chosen)
    labels: list[str] = []
    if isinstance(chosen, Classification):
        labels = list(engine.labels) or (chosen.fit_labels(shown) if shown is not None else [])
        _check_labels(labels, shown, engine)
    elif not isinstance(chosen, TextTask):
        raise RecipeError(f"a hosted model is not asked in task {kind}")
    host = Host(engine, name)
    predictor = HostedPredictor(host, chosen, labels, shown)
    if not isinstance(chosen, Classification) and not (predictor._instruction() or source):
        raise RecipeError(
            f"nothing says what {name} is to write: give --engine.instruction TEXT, or "
            "--engine.examples FILE with source and target"
        )
    host.announce("the texts" if source is None else "the texts, and some rows of the examples,")
    return predictor


def open_teacher(
    name: str, engine: Engine, task: Task, labels: Sequence[str], shown: pa.Table | None
) -> HostedPredictor:
    """The hosted model `openai:MODEL` as one that answers rows of a task in the place of a saved
    model with these labels; of `shown`, labelled rows, it sees some. Raises `RecipeError`, and what
    `Host` raises; nothing is sent yet."""
    if not isinstance(engine, OpenAI):
        raise RecipeError(f"{name} is asked by engine openai, and not by {engine.part_name()}")
    if engine.examples is not None:
        shown = _rows(read(engine.examples, ledger=Ledger(), how=Data().reading), task)
    talks = "messages" in task.inputs  # which say themselves what is wanted
    return HostedPredictor(Host(engine, name), task, [*labels], None if talks else shown)


def _task_named(columns: Sequence[str], engine: OpenAI) -> str:
    """What columns are for: a label to be given, or a text to be written."""
    names = {name.lower() for name in columns}

    def has(task: str, *roles: str) -> bool:
        known: Any = parts.find("task", task)
        return all(names & {role, *known.roles[role]} for role in roles)

    if has("pairs", "sentence1", "sentence2"):
        return "pairs"
    if engine.labels or has("classification", "text", "label"):
        return "classification"
    if names & {"translation", "pair"}:
        return "translation"
    if has("summarization", "source") and names & SUMMARY:
        return "summarization"
    if engine.instruction or has("text2text", "source", "target"):
        return "text2text"
    raise RecipeError(
        "a hosted model has to know what to answer: give --engine.examples FILE (labelled rows), "
        "--engine.labels A,B, or --engine.instruction TEXT for an answer in words"
    )


def _rows(source: pa.Table, task: Task) -> pa.Table:
    """The examples by role, without those that have no answer."""
    required = set(task.roles) if task.required is None else set(task.required)
    table = own_form(task, map_roles(source, task.roles, {}, required, task.nested))
    target = "label" if task.label else "target"
    if target not in table.column_names:
        raise DataError(
            f"{table['_file'][0].as_py()}: the examples have no column for {target}; name it so"
        )
    kept = [bool(str(value or "").strip()) for value in table[target].to_pylist()]
    return table.filter(pa.array(kept))


def _check_labels(labels: Sequence[str], shown: pa.Table | None, engine: OpenAI) -> None:
    """Raise `RecipeError` unless there are labels, among them all of the examples."""
    if len(labels) < 2:
        raise RecipeError(
            "there are not two labels to choose from: give --engine.examples FILE with labelled "
            "rows, or --engine.labels A,B"
        )
    strange = set(shown["label"].to_pylist()) - set(labels) if shown is not None else set()
    if strange:
        raise RecipeError(
            f"{engine.examples} has the label '{min(strange)}', which --engine.labels does not name"
        )


def _store(rows: int, targets: np.ndarray | None) -> TokenizedDataset:
    """Rows without tokens, for nothing was split here."""
    known = np.zeros(rows, np.int64) if targets is None else targets
    return TokenizedDataset(np.empty(0, np.uint16), np.zeros(rows + 1, np.int64), known)


def _label_of(reply: Reply, labels: Sequence[str]) -> tuple[str | None, str]:
    """The label that an answer is, in its own spelling or another case; or None, and why."""
    if reply.finish in ("refused", "content_filter"):
        return None, "refused"
    text = reply.text.strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["label"]).strip()
        except (ValueError, KeyError, TypeError):
            return None, "cut off" if reply.finish == "length" else "of another form"
    text = text.strip().strip("\"'").removesuffix(".")
    if text in labels:
        return text, ""
    alike = [label for label in labels if label.casefold() == text.casefold()]
    if len(alike) == 1:
        return alike[0], ""
    return None, "empty" if not text else "cut off" if reply.finish == "length" else "other words"


def _probability(reply: Reply, label: str | None) -> float | None:
    """How likely the model held the tokens of the label; None where the host does not say."""
    whole = "".join(text for text, _ in reply.tokens)
    begin = whole.casefold().rfind(label.casefold()) if label else -1
    if begin < 0 or label is None:
        return None
    total, at = 0.0, 0
    for text, value in reply.tokens:
        if at < begin + len(label) and at + len(text) > begin:
            total += value
        at += len(text)
    return float(np.exp(min(total, 0.0)))


def _mean(values: Sequence[float]) -> float:
    """Mean probability of tokens; 0 where nothing is known of them."""
    return float(np.exp(np.asarray(values)).mean()) if len(values) else 0.0
