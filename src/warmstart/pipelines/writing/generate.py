"""`generate`: texts that models write behind prompts, with several settings beside each other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.config.validation import checked
from warmstart.data.conversations import PROMPT_ROLES, SYSTEMS, Message, messages_of
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.readers.text import is_plain, lines_of
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import DataError, RecipeError, RowError, shown
from warmstart.formatting import counted
from warmstart.inference.engine import Engine
from warmstart.inference.writer import Prompt, Writer, open_writer
from warmstart.models.sampling import Completion, Sampling, Token
from warmstart.part import OWN_HEAD, allow_named
from warmstart.pipelines.reading.rows import Writer as Rows
from warmstart.pipelines.reading.rows import check_out, source_of
from warmstart.pipelines.request import engine_for, engine_of

TEXT_COLUMNS = (*PROMPT_ROLES["prompt"], "text", "source", "input")
MOST_COLUMNS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """What is compared with what: a model with settings."""

    model: str
    sampling: Sampling
    title: str
    """What it has of its own: `temperature 0.2`; empty where nothing is compared."""


OnToken = Callable[[Column, Prompt, Token], None]


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A text that a model wrote.

    Args:
        prompt: the number of its prompt; counts from 0.
        question: the prompt as it was given; of a conversation its last message.
        column: the model and its settings.
        number: which of the texts for this prompt it is; counts from 0.
        completion: the text, its tokens and their log-probabilities, and why it ended.
    """

    prompt: int
    question: str
    column: Column
    number: int
    completion: Completion

    @property
    def text(self) -> str:
        """What the model wrote."""
        return self.completion.text

    def to_row(self) -> Mapping[str, Any]:
        """As a row of a file and of `--json`; `log_prob` is the mean of a token in nats."""
        settings = self.column.sampling.model_dump(mode="json", exclude={"stop"})
        return {
            "prompt": self.question,
            "text": self.text,
            "model": self.column.model,
            "number": self.number,
            "tokens": len(self.completion.ids),
            "finish_reason": self.completion.finish_reason,
            "log_prob": round(self.completion.mean_log_prob, 6),
            **settings,
            "stop": list(self.column.sampling.stop),
        }


def columns_of(models: Sequence[str], keys: Mapping[str, Any]) -> list[Column]:
    """A column for each model and each combination of settings of which several values were given:
    a list, or a text with commas. Raises `RecipeError`."""
    several: dict[str, list[Any]] = {}
    for key, value in keys.items():
        if isinstance(value, list | tuple) and key != "stop":
            several[key] = [*value]
        elif isinstance(value, str) and key != "stop":
            several[key] = [word.strip() for word in value.split(",")]
        else:
            several[key] = [value]
    varied = [key for key, values in several.items() if len(values) > 1]
    columns: list[Column] = []
    for model, values in itertools.product(models, itertools.product(*several.values())):
        settings: Sampling = checked(Sampling, dict(zip(several, values, strict=True)))
        title = [model] if len(models) > 1 else []
        title += [f"{key} {getattr(settings, key)}" for key in varied]
        columns.append(Column(model, settings, ", ".join(title)))
    if len(columns) > MOST_COLUMNS:
        raise RecipeError(
            f"{len(columns)} combinations of settings are more than can be compared; leave values "
            f"out until there are at most {MOST_COLUMNS}"
        )
    return columns


def parted(
    keys: Mapping[str, Any], models: Sequence[str | Path] = ()
) -> tuple[Engine, Mapping[str, Any]]:
    """The engine that keys name, and the settings of generation. Raises `RecipeError`."""
    allow_named(keys)
    other = {key for key in keys if key.partition(".")[0] == "engine" or key == OWN_HEAD}
    return engine_of(keys, models), {key: value for key, value in keys.items() if key not in other}


def prompts_of(data: Any) -> list[Prompt]:
    """The prompts in a text, a list of texts or conversations, a text file (a prompt a line), or a
    table with a column prompt, messages, question, instruction or text. Raises `DataError`."""
    if isinstance(data, list | tuple) and len(data) == 1 and isinstance(data[0], str | Path):
        data = data[0]
    source = source_of(data)
    if isinstance(source, str | os.PathLike) and is_plain(Path(source)):
        prompts: list[Any] = lines_of(Path(source))["text"].to_pylist()
    elif isinstance(source, list | tuple):
        prompts = [*source]
    elif isinstance(source, Iterable) and not isinstance(source, str | os.PathLike | Mapping) and (
        not hasattr(source, "columns") and not hasattr(source, "column_names")
    ):  # fmt: skip
        prompts = [*source]  # of lines
    else:
        return _of_table(read(source, ledger=Ledger()))
    if not prompts:
        raise DataError("there is no prompt; give a text, a file, or - for the lines of stdin")
    return [_prompt(value, f"prompt {number}") for number, value in enumerate(prompts, 1)]


def _of_table(table: pa.Table) -> list[Prompt]:
    names = {name.lower(): name for name in table.column_names}
    name = next((names[name] for name in TEXT_COLUMNS if name in names), None)
    if name is None:
        own = [name for name in table.column_names if name[0] != "_"]
        raise DataError(
            f"{table['_file'][0].as_py()} has no column of prompts (its columns: "
            f"{shown(', '.join(own), 100)}); call one prompt, messages, question or text"
        )
    system = next((names[name] for name in SYSTEMS if name in names), None)
    prompts: list[Prompt] = []
    for row in table.to_pylist():
        prompt = _prompt(row[name], f"{row['_file']}:{row['_line']}")
        if system is not None and row[system]:
            spoken = prompt if not isinstance(prompt, str) else [_by_user(prompt)]
            prompt = [{"role": "system", "content": str(row[system])}, *spoken]
        prompts.append(prompt)
    return prompts


def _prompt(value: Any, where: str) -> Prompt:
    """A text as it is; messages, or such as JSON, without an answer at their end."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where} is empty; write something, or leave the row out")
    try:
        messages = messages_of(value)
    except RowError as error:
        raise DataError(f"{where}: {error}; mend or delete the row") from None
    if isinstance(value, str) and messages == [_by_user(value)]:
        return value
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise DataError(f"{where} has no message to answer; give one of a user")
    return messages


def _by_user(text: str) -> Message:
    return {"role": "user", "content": text}


def last_message(prompt: Prompt) -> str:
    """A prompt as people see it: the text, or the last message."""
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def generate(
    models: Sequence[str | Path],
    data: Any,
    keys: Mapping[str, Any],
    *,
    raw: bool = False,
    out: Path | None = None,
    notes: list[str] | None = None,
    on_token: OnToken | None = None,
) -> Iterator[Written]:
    """See `api.generate`: the texts, one column after the other, each when it is complete."""
    engine, settings = parted(keys, models)
    columns = columns_of([str(model) for model in models], settings)
    if out is not None:
        check_out(out, data)
    prompts = prompts_of(data)
    return _written(columns, prompts, engine, raw, out, notes, on_token)


def _written(
    columns: Sequence[Column], prompts: Sequence[Prompt], engine: Engine, raw: bool,
    out: Path | None, notes: list[str] | None, on_token: OnToken | None,
) -> Iterator[Written]:  # fmt: skip
    texts: list[Written] = []
    for model, own in itertools.groupby(columns, key=lambda column: column.model):
        writer = open_writer(model, engine_for(engine, model))
        _note(notes, writer, prompts, raw)
        seen = TextNotes()
        ids = [writer.encode(prompt, raw=raw, on_cut=partial(seen.see_cut, number))
               for number, prompt in enumerate(prompts)]  # fmt: skip
        seen.add_to(notes, writer.positions, writer.predictor.task.when_cut)
        for column in own:
            for written in _column(writer, column, prompts, ids, raw, on_token):
                if out is not None:
                    texts.append(written)
                yield written
        if notes is not None:
            notes += writer.predictor.notes()
    if out is not None:
        with Rows(out) as rows:
            rows.write(pa.Table.from_pylist([written.to_row() for written in texts]))


def _column(
    writer: Writer, column: Column, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]],
    raw: bool, on_token: OnToken | None,
) -> Iterator[Written]:  # fmt: skip
    several = column.sampling.num_return_sequences

    def tell(token: Token) -> None:
        assert on_token is not None
        on_token(column, prompts[token.row // several], token)

    completions = writer.write(
        ids, column.sampling, ends=writer.ends(raw=raw), on_token=tell if on_token else None
    )
    for number, completion in enumerate(completions):
        prompt = completion.prompt
        yield Written(prompt, last_message(prompts[prompt]), column, number % several, completion)


def _note(notes: list[str] | None, writer: Writer, prompts: Sequence[Prompt], raw: bool) -> None:
    if notes is None:
        return
    plain = any(isinstance(prompt, str) for prompt in prompts)
    if plain and not raw:
        notes.append(writer.how_it_reads())
    elif plain and writer.reads != "raw":
        notes.append("each prompt is given to the model as it is (--raw)")


def summary(texts: Sequence[Written]) -> list[str]:
    """What is worth knowing of texts that were written."""
    cut = [w for w in texts if w.completion.finish_reason == "length"]
    if not cut:
        return []
    limit = cut[0].column.sampling
    how = (f"max_length {limit.max_length}" if limit.max_length is not None
           else f"max_new_tokens {limit.max_new_tokens}")  # fmt: skip
    return [
        f"{counted(len(cut), 'text')} of {len(texts):,} did not end by itself and was cut at {how}"
        " or where the model has no more positions"
    ]
