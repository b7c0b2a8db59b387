"""A saved model or a base that writes: prompts as it reads them → texts.

text or messages → token ids (by its chat template, its task, or as they are) → engine → texts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from warmstart.data.tokens.windows import affixes, separator_of
from warmstart.errors import RecipeError, shown, typed
from warmstart.inference.engine import Engine
from warmstart.inference.hosted_writer import open_writing
from warmstart.inference.openai import is_hosted
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.models.architectures import family_of
from warmstart.models.base import model_folder
from warmstart.models.checks import config_file, is_adapter, note_of, read_json
from warmstart.models.heads import LANGUAGE, TEXT, VECTOR, head_of
from warmstart.models.sampling import Completion, Sampling
from warmstart.models.saved import saved_config
from warmstart.tokenization.chat import ChatTemplate

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
"""A text, or the messages of a conversation that is to be answered."""
Reads = Literal["template", "task", "raw"]


@dataclass(eq=False)
class Writer:
    """A model that writes texts.

    Args:
        name: what it was called.
        predictor: its task, tokenizer and engine.
        template: its own chat template, or None.
        positions: the tokens that it can read and write together.
        reads: how it reads a prompt unless told to read it raw: put into its chat template, as its
            task was trained on (a source with what stands around it), or as it is.
    """

    name: str
    predictor: Predictor
    template: ChatTemplate | None
    positions: int
    decodes: bool
    reads: Reads

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.predictor.tokenizer

    def conversation(self) -> ChatTemplate:
        """The template by which it talks: its own, or the plain one of ours.

        Raises `RecipeError` for an encoder-decoder, which reads no conversation.
        """
        if not self.decodes:
            raise RecipeError(
                f"{shown(self.name)} is an encoder-decoder, which answers one text at a time and "
                "keeps no conversation; ask it with warmstart generate"
            )
        return self.template or ChatTemplate.of(self.tokenizer)

    def encode(
        self, prompt: Prompt, *, raw: bool = False, on_cut: Callable[[int], None] | None = None
    ) -> list[int]:
        """The token ids of a prompt. A source of a task that is too long is cut, as when the model
        was trained; `on_cut` hears by how many tokens. Raises `RecipeError` for messages without a
        template."""
        if not isinstance(prompt, str):
            return self.conversation().render([dict(m) for m in prompt], open=True)
        reads = "raw" if raw else self.reads
        if reads == "template" and self.template is not None:
            return self.template.render([{"role": "user", "content": prompt}], open=True)
        if reads == "task":
            return self._source(prompt, on_cut)
        backend = self.tokenizer.backend_tokenizer
        if not self.decodes:
            return list(backend.encode_batch_fast([prompt])[0].ids)
        before, _ = affixes(self.tokenizer)
        text = backend.encode_batch_fast([prompt], add_special_tokens=False)[0]
        ids = [*before, *text.ids]  # `encode` would let no other thread go on meanwhile
        return ids or [separator_of(self.tokenizer)]

    def ends(self, *, raw: bool = False) -> set[int]:
        """The tokens that end a text, beside those that model and tokenizer name: the end of a turn
        of its template, and of a document."""
        ends: set[int] = set()
        if self.template is not None:
            ends.add(self.template.end)
        if self.decodes and (raw or self.reads == "raw"):
            ends.add(separator_of(self.tokenizer))
        return ends

    def write(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling], **how: Any
    ) -> list[Completion]:
        """The texts behind prompts; see `models.sampling.generate`."""
        write: Any = self.predictor.runner.write
        return write(prompts, sampling, tokenizer=self.tokenizer, **how)

    def how_it_reads(self) -> str:
        """In words for people."""
        if self.reads == "template":
            return (
                "each prompt is put into the model's chat template as the message of a user; "
                "--raw gives it to the model as it is"
            )
        if self.reads == "task":
            task: Any = self.predictor.task
            behind = f" and '{shown(task.separator)}' behind it" if task.separator else ""
            before = f" with '{shown(task.prefix)}' before it" if task.prefix else ""
            return (
                f"each prompt is read as the task {task.part_name()} reads a source{before}{behind}"
                "; --raw gives it to the model as it is"
            )
        return "each prompt is given to the model as it is, which goes on with it"

    def _source(self, text: str, on_cut: Callable[[int], None] | None) -> list[int]:
        task, predictor = self.predictor.task, self.predictor
        at = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), ["prompt"])
        table = pa.table({"source": pa.array([text]), "_file": at, "_line": pa.array([1])})
        cut = None if on_cut is None else lambda _, tokens: on_cut(tokens)
        store = task.encode(table, predictor.labels, predictor.tokenizer, task.max_length, cut)
        return store.ids.tolist()


def open_writer(model: str | Path, engine: Engine | None = None) -> Writer:
    """A run, a model folder, an adapter, a base (a name, a GGUF file, a hub id) that writes, or a
    hosted model (`openai:MODEL`).

    Raises `RunError`, `BaseModelError` and `RecipeError`, the last for a model that does not write,
    with what to do with it instead.
    """
    name = str(model)
    if is_hosted(name):
        hosted, conversations = open_writing(name, engine)
        return Writer(name, hosted, conversations, 1 << 16, decodes=True, reads="template")
    folder = model_folder(model)
    _check_writes(folder, name)
    predictor = open_predictor(folder, engine)
    tokenizer = predictor.tokenizer
    tokenizer.backend_tokenizer.no_truncation()  # which its file may ask for
    tokenizer.backend_tokenizer.no_padding()
    opened: Any = getattr(predictor.runner, "model", None)
    config = saved_config(folder) if opened is None else opened.config
    if predictor.task.head not in (TEXT, LANGUAGE):
        raise RecipeError(
            f"{shown(name)} was trained for the task {predictor.task.part_name()} and writes no "
            f"text; ask it with: warmstart predict {typed(name)} TEXT"
        )
    decodes = family_of(config).kind != "encoder-decoder"
    template = ChatTemplate.of(tokenizer) if tokenizer.chat_template and decodes else None
    trained = note_of(folder).get("task", {}).get("name")
    reads: Reads = "raw" if template is None else "template"
    if trained is not None and predictor.task.inputs == ("source",):
        reads = "task"
    positions = min(predictor.task.max_length, 1 << 16)
    return Writer(name, predictor, template, positions, decodes, reads)


def _check_writes(folder: Path, name: str) -> None:
    """Raise `RecipeError` for a model that does not write, by its files alone."""
    if is_adapter(folder) or not config_file(folder).exists():
        return
    config = read_json(config_file(folder))
    head = head_of(config)
    names = ", ".join(map(str, config.get("architectures") or [])) or "a body without a head"
    if family_of(config).kind == "encoder":
        what = "an encoder, which reads texts and writes none"
        instead = f"ask it with warmstart predict {typed(name)} TEXT"
        if head == LANGUAGE:
            what = "a masked language model, which guesses words left out of a text and writes none"
            instead = "let transformers fill the gaps (pipeline('fill-mask')) or tune it for a task"
        elif head in (None, VECTOR):
            instead = "tune it for a task and ask that model with warmstart predict"
        raise RecipeError(
            f"{shown(name)} ({names}) is {what}: {instead}; to write, take a decoder such as "
            "smollm2, or an encoder-decoder"
        )
    if head not in (None, LANGUAGE, TEXT):
        raise RecipeError(
            f"{shown(name)} ({names}) has the head of a {head.what} model and writes no text; ask "
            f"it with: warmstart predict {typed(name)} TEXT, or write with its base"
        )
