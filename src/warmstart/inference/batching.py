"""Texts that join and leave while others are being written (continuous batching): the contract that
a server drives, and what keeps it over requests to OpenVINO GenAI."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import RunError
from warmstart.models.sampling.completion import Token
from warmstart.models.sampling.rows import Row, ends_of
from warmstart.models.sampling.settings import Sampling

if TYPE_CHECKING:
    from warmstart.inference.openvino_genai import GenaiRunner


class Batcher:
    """Texts that one model writes side by side; each may join and leave at every step.

    A server has one thread step, for as long as there is something to write, and its others add and
    cancel, while it steps or between:

        batcher = runner.batcher(tokenizer, ends)
        numbers = batcher.add(ids, sampling)        # any thread; raises before anything is computed
        while batcher.busy:
            for token in batcher.step():            # the thread that steps
                ...                                 # token.row is one of the numbers
        batcher.cancel(number)                      # any thread; ends with the next step

    A text's last `Token` has a `finish_reason`; from then on its number is not known any more.
    """

    def add(self, prompt: Sequence[int], sampling: Sampling, number: int = 0) -> list[int]:
        """The numbers of the texts that are written behind a prompt, `num_return_sequences` of
        them. Their draws depend on `sampling.seed`, on `number`, and on nothing else.

        Raises `RecipeError` for a prompt for which there is no room and a setting that the engine
        does not have, and `DataError` for tokens that the model does not have; nothing has been
        begun then.
        """
        raise NotImplementedError

    def cancel(self, number: int) -> None:
        """End a text with the next step; one that has ended, or is not known, is left alone."""
        raise NotImplementedError

    def step(self) -> list[Token]:
        """What one step of the model adds to the texts; where nothing is to be written, nothing.
        Raises `RunError` where the library failed: then this batcher is at an end, and its runner
        with it; open the model again."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether a text is being written."""
        raise NotImplementedError

    @property
    def used(self) -> float:
        """Share of the memory for keys and values that the last step needed, 0 to 1."""
        raise NotImplementedError


class RequestBatcher(Batcher):
    """Requests to a pipeline, and the texts that come of them."""

    def __init__(self, runner: GenaiRunner, tokenizer: Any, ends: Collection[int]) -> None:
        self._runner, self._tokenizer = runner, tokenizer
        self._ends = ends_of(runner.config, runner.generation, tokenizer, ends)
        self._live = dict[int, tuple[list[Row], Any]]()
        self._owner = dict[int, int]()  # of a text the first of its request
        self._cancelled = set[int]()
        self._next, self._changing = itertools.count(), threading.Lock()

    def add(self, prompt: Sequence[int], sampling: Sampling, number: int = 0) -> list[int]:
        rows = self._runner.rows([prompt], sampling, self._tokenizer)
        with self._changing:
            for row in rows:
                row.seed = np.random.SeedSequence((sampling.seed, number, row.number))
                row.number = next(self._next)
        self.begin([prompt], rows)
        return [row.number for row in rows]

    def begin(self, prompts: Sequence[Sequence[int]], rows: Sequence[Row]) -> None:
        """Have texts written; of a beam search those of a prompt together."""
        groups: list[list[Row]] = []
        for row in rows:
            beams = row.sampling.num_beams > 1
            if beams and groups and groups[-1][0].prompt == row.prompt:
                groups[-1].append(row)
            else:
                groups.append([row])
        for group in groups:
            first = group[0]
            settings = _settings(first.sampling, first.seed)
            settings |= {"max_new_tokens": first.room, "num_return_sequences": len(group)}
            self.enter(group, prompts[first.prompt], settings)

    def enter(self, rows: list[Row], prompt: Sequence[int], settings: Mapping[str, Any]) -> None:
        """A request whose texts are `rows`, by names of transformers' generation config."""
        handle = self._runner.request(prompt, settings, self._ends)
        with self._changing:
            self._live[rows[0].number] = rows, handle
            self._owner |= {row.number: rows[0].number for row in rows}

    def cancel(self, number: int) -> None:
        with self._changing:
            if number in self._owner:
                self._cancelled.add(number)

    def step(self) -> list[Token]:
        tokens: list[Token] = []
        with self._changing:
            for number in self._cancelled:
                self._cancel(number, tokens.append)
            self._cancelled.clear()
        self._runner.step()
        with self._changing:
            for first, (rows, handle) in [*self._live.items()]:
                self._read(rows, handle, tokens.append)
                if all(row.finish is not None for row in rows):
                    self._forget(first)
        return tokens

    @property
    def busy(self) -> bool:
        return bool(self._live) or bool(self._runner.pipeline.has_non_finished_requests())

    @property
    def used(self) -> float:
        return self._runner.used

    def _cancel(self, number: int, tell: Callable[[Token], None]) -> None:
        if number not in self._owner:
            return
        rows, handle = self._live[self._owner[number]]
        row = next(row for row in rows if row.number == number)
        if row.finish is None:
            row.cancel(tell)
        if all(row.finish is not None for row in rows):
            handle.cancel()
            self._forget(rows[0].number)

    def _forget(self, first: int) -> None:
        rows, _ = self._live.pop(first)
        for row in rows:
            del self._owner[row.number]

    def _read(self, rows: list[Row], handle: Any, tell: Callable[[Token], None]) -> None:
        from openvino_genai import GenerationStatus

        beams = rows[0].sampling.num_beams > 1
        ended = handle.get_status() != GenerationStatus.RUNNING
        if beams and not ended:
            return
        while handle.can_read():
            parts = sorted(handle.read().values(), key=lambda part: -part.score)
            for row, part in zip(rows, parts, strict=not beams):
                for token, log_prob in zip(
                    part.generated_ids, part.generated_log_probs, strict=True
                ):
                    if row.finish is None:
                        row.take(token, log_prob, self._ends, tell)
                if beams and row.finish is None:
                    row.finish = "length"
        if all(row.finish is not None for row in rows):
            if not ended:  # a stop text
                handle.stop()
        elif ended:
            raise RunError("engine openvino_genai ended a text without a reason")


def _settings(sampling: Sampling, seed: np.random.SeedSequence) -> dict[str, Any]:
    """Settings of ours by names of transformers' generation config."""
    named: dict[str, Any] = {"repetition_penalty": sampling.repetition_penalty}
    if sampling.num_beams > 1:
        return {**named, "num_beams": sampling.num_beams, "do_sample": False}
    if not sampling.temperature:
        return {**named, "do_sample": False}
    named |= {"do_sample": True, "rng_seed": int(seed.generate_state(1)[0])}
    named |= {name: getattr(sampling, name) for name in ("temperature", "top_p", "min_p")}
    return named | ({"top_k": sampling.top_k} if sampling.top_k else {})
