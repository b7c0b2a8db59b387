"""Texts whose likelihood is asked for: continuations behind their contexts, as token ids.

A context and its continuation are tokenised together, and parted where the continuation begins (Gao
et al., lm-evaluation-harness). A token that reaches over the border is one of the continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from warmstart.data.tokens.dataset import (
    IGNORE_INDEX,
    TokenizedDataset,
    id_type,
    offsets_of,
    uncut,
)
from warmstart.data.tokens.windows import affixes

PseudoLikelihood = Literal["original", "within_word"]


class Parted(NamedTuple):
    """A continuation behind its context.

    Args:
        words: of each token of the continuation the number of its word.
        merged: whether its first token begins in the context.
    """

    context: list[int]
    continuation: list[int]
    words: list[int | None]
    merged: bool


class TooLong(Exception):
    """A continuation that the model cannot read whole: its number, its tokens, and the room."""

    def __init__(self, number: int, tokens: int, room: int) -> None:
        super().__init__(number, tokens, room)
        self.number, self.tokens, self.room = number, tokens, room


@dataclass(frozen=True, slots=True)
class Continuations:
    """Contexts and their continuations [n each], to be encoded for a kind of model.

    Each encoding is a `TokenizedDataset` whose `of_row` says which of the n each row is of.
    `on_cut(number, tokens)` hears of a context whose first tokens have no room: the end is kept.
    Raises `TooLong`.
    """

    contexts: Sequence[str]
    texts: Sequence[str]
    tokenizer: Any
    longest: int
    on_cut: Callable[[int, int], None] | None = None

    def parted(self) -> list[Parted]:
        """Each pair, tokenised together, without special tokens."""
        wholes = [context + text for context, text in zip(self.contexts, self.texts, strict=True)]
        rows: list[Parted] = []
        for context, encoding in zip(self.contexts, self._encoded(wholes), strict=True):
            ends = [end for _, end in encoding.offsets]
            at = next((i for i, end in enumerate(ends) if end > len(context)), len(ends))
            merged = at < len(ends) and encoding.offsets[at][0] < len(context)
            rows.append(
                Parted(encoding.ids[:at], encoding.ids[at:], encoding.word_ids[at:], merged)
            )
        return rows

    def behind_prefix(self, prefix: Sequence[int]) -> TokenizedDataset:
        """For a decoder: the context behind the tokens of `prefix`, and the continuation as
        `answers`. Where nothing stands before a continuation, its first token is the context."""
        read, wanted = list[list[int]](), list[list[int]]()
        for number, row in enumerate(self.parted()):
            behind = row.continuation
            room = self.longest - len(prefix) - len(behind) + 1
            context = [*prefix, *self._fitting(number, row.context, room, len(behind))]
            if not context:
                context, behind = behind[:1], behind[1:]
            read.append(context)
            wanted.append(behind)
        return self._written(read, wanted)

    def beside_encoder(self, sentinel: int | None = None) -> TokenizedDataset:
        """For an encoder-decoder: the encoder reads the context between its special tokens, and the
        decoder is to write the continuation, as `answers`, behind those that begin a text. With a
        `sentinel` both have it where the continuation belongs, as T5 was pretrained."""
        before, behind = affixes(self.tokenizer)
        mark = [] if sentinel is None else [sentinel]
        own = [text.lstrip() if mark or not context else text
               for context, text in zip(self.contexts, self.texts, strict=True)]  # fmt: skip
        contexts, texts = self._encoded(self.contexts), self._encoded(own)
        read, wanted = list[list[int]](), list[list[int]]()
        for number, (context, text) in enumerate(zip(contexts, texts, strict=True)):
            start = [*before, *mark] if mark else before
            room = self.longest - len(before) - len(behind) - len(mark)
            kept = self._fitting(number, context.ids, room, len(start) + len(text.ids))
            read.append([*before, *kept, *mark, *behind])
            wanted.append([*start, *text.ids])
        return self._written(read, wanted)

    def masked(self, mask: int, way: PseudoLikelihood) -> TokenizedDataset:
        """For a masked model: a copy for each token of the continuation, in which it is hidden; the
        token is the target of its place.

        With `within_word` the tokens behind it in its word are hidden too (Kauf & Ivanova 2023), so
        that a rare word is not guessed from its own end; `original` is Salazar et al. 2020.
        """
        before, behind = affixes(self.tokenizer)
        copies, targets, owners = list[np.ndarray](), list[np.ndarray](), list[int]()
        kind = id_type(self.tokenizer.backend_tokenizer)
        for number, row in enumerate(self.parted()):
            room = self.longest - len(before) - len(behind) - len(row.continuation)
            context = self._fitting(number, row.context, room, len(row.continuation))
            whole = np.array([*before, *context, *row.continuation, *behind], kind)
            first, words = len(before) + len(context), row.words
            for place, token in enumerate(row.continuation):
                copy, target = whole.copy(), np.full(len(whole), IGNORE_INDEX, np.int64)
                stop = place + 1
                while (
                    way == "within_word" and stop < len(words)
                    and words[stop] is not None and words[stop] == words[place]
                ):  # fmt: skip
                    stop += 1
                copy[first + place : first + stop] = mask
                target[first + place] = token
                copies.append(copy)
                targets.append(target)
                owners.append(number)
        offsets = offsets_of([len(copy) for copy in copies])
        return TokenizedDataset(
            np.concatenate([np.empty(0, kind), *copies]), offsets,
            np.concatenate([np.empty(0, np.int64), *targets]), by_token=True,
            of_row=np.array(owners, np.int64),
        )  # fmt: skip

    def _fitting(self, number: int, context: list[int], room: int, tokens: int) -> list[int]:
        """The end of a context that has room beside a continuation of so many tokens."""
        if room < 0 or tokens > self.longest:
            raise TooLong(number, tokens, min(self.longest, room + tokens))
        lost = len(context) - room
        if lost > 0 and self.on_cut is not None:
            self.on_cut(number, lost)
        return context[max(0, lost) :]

    def _encoded(self, texts: Sequence[str]) -> Sequence[Any]:
        backend = self.tokenizer.backend_tokenizer
        with uncut(backend):
            return backend.encode_batch(list(texts), add_special_tokens=False)

    def _written(
        self, read: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]
    ) -> TokenizedDataset:
        kind = id_type(self.tokenizer.backend_tokenizer)

        def store(rows: Sequence[Sequence[int]], **more: Any) -> TokenizedDataset:
            flat = np.array([token for row in rows for token in row], kind)
            unknown = np.full(len(rows), IGNORE_INDEX, np.int64)
            return TokenizedDataset(flat, offsets_of([len(row) for row in rows]), unknown, **more)

        return store(read, answers=store(wanted), of_row=np.arange(len(read)))
