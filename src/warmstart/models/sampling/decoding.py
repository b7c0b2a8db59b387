"""The next token's logits, step by step: a model with its keys and values kept, or without.

Kept states stand in memory that is set aside once, so that a step copies none of them; a row that
has ended leaves. Prompts of several lengths are padded on the left, and the padding shifts no
position. Where a model keeps no such states (virtual tokens of PEFT, recurrent layers) every step
computes the whole text anew, padded on the right.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
)

from warmstart.errors import BaseModelError
from warmstart.models.architectures import family_of
from warmstart.models.head_layers import unwrap
from warmstart.models.peft.prompts import is_prompted

AHEAD = 64
"""Tokens for which memory is set aside at once, at least."""


class Decoding(Protocol):
    """Some rows whose next tokens are asked for."""

    def begin(self) -> Tensor:
        """Logits [prompts, V] of the first token, in float32."""
        ...

    def step(self, ids: Tensor) -> Tensor:
        """Logits [B, V] behind the tokens `ids` [B], one more of each row."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows [B'] alone, in this order; one may be there several times."""
        ...


def decoding(model: Any, prompts: Sequence[Sequence[int]], room: int) -> Decoding:
    """For prompts behind each of which at most `room` tokens are written."""
    inner: Any = unwrap(model)
    if family_of(inner.config).kind == "encoder-decoder":
        start = start_of(inner)
        if is_prompted(model):
            return Anew(model, prompts, start)
        return Translating(inner, prompts, room, start)
    if is_prompted(model) or _layers(inner) is None:
        return Anew(model, prompts)
    return Continuing(inner, prompts, room)


def check_writes(model: Any) -> None:
    """Raise `BaseModelError` for a model of transformers that writes no text."""
    if not model.can_generate() or family_of(model.config).name == "xlnet":
        raise BaseModelError(
            f"a {type(model).__name__} does not write: its head does not predict the next token "
            "from those before it. Give a decoder (GPT-2, Llama, ...) or an encoder-decoder "
            "(T5, BART, ...)"
        )


def start_of(model: Any) -> int:
    """The id that the decoder of an encoder-decoder begins with. Raises `BaseModelError`."""
    config, own = model.config, model.generation_config
    start = own.decoder_start_token_id
    start = config.decoder_start_token_id if start is None else start
    if start is None:
        raise BaseModelError(
            f"the config of this '{config.model_type}' names no decoder_start_token_id; "
            "put it into config.json: mostly the id of the padding token"
        )
    return int(start)


class Kept(DynamicLayer):
    """Keys and values of a layer in memory set aside for `room` tokens."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values [B, heads, L, width], with the new ones at the end."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._widen(key_states, value_states, begin, max(self._room, end, 2 * begin))
        assert self._buffers is not None
        keys, values = self._buffers
        keys[:, :, begin:end], values[:, :, begin:end] = key_states, value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows."""
        if self._buffers is not None:
            rows, length = len(indices), self.get_seq_length()
            taken = [kept[indices, :, :length] for kept in self._buffers]
            sizes = [(rows, *kept.shape[1:]) for kept in self._buffers]
            keys, values = (kept.new_empty(size) for kept, size in
                            zip(self._buffers, sizes, strict=True))  # fmt: skip
            keys[:, :, :length], values[:, :, :length] = taken
            self._buffers = keys, values
            self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def _widen(self, keys: Tensor, values: Tensor, length: int, room: int) -> None:
        wide = [new.new_empty(*new.shape[:2], room, new.shape[-1]) for new in (keys, values)]
        if self._buffers is not None:
            for kept, old in zip(wide, self._buffers, strict=True):
                kept[:, :, :length] = old[:, :, :length]
        self._buffers = wide[0], wide[1]


def _layers(model: Any) -> DynamicCache | None:
    """An empty cache of transformers for the model; None where it keeps other states than keys
    and values."""
    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return cache if all(type(layer) in plain for layer in cache.layers) else None


def _kept(model: Any, room: int) -> DynamicCache:
    """As `_layers`, with memory for so many tokens."""
    cache = _layers(model)
    if cache is None:
        raise BaseModelError(f"a '{model.config.model_type}' keeps no keys and values")
    cache.layers = [Kept(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, left: bool
) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, L]; the padding is id 0."""
    length = max(map(len, rows))
    ids, mask = torch.zeros(2, len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row, dtype=torch.long), 1
    return ids.to(device), mask.to(device)


def _reads(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


class Continuing:
    """A decoder with its keys and values."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], room: int) -> None:
        self._model, device = model, next(model.parameters()).device
        self._ids, mask = _padded(prompts, device, left=True)
        longest = self._ids.shape[1]
        self._even = bool(mask.all())  # no padding: no mask
        self._mask = torch.ones(len(prompts), longest + room, dtype=torch.long, device=device)
        self._mask[:, :longest] = mask
        self._lengths, self._end = mask.sum(1), longest
        self._cache = _kept(model, longest + room)
        self._positioned = _reads(model, "position_ids")
        self._last = {"logits_to_keep": 1} if _reads(model, "logits_to_keep") else {}

    def begin(self) -> Tensor:
        positions = self._mask[:, : self._end].cumsum(1) - 1
        return self._logits(self._ids, positions.clamp(min=0), self._last)

    def step(self, ids: Tensor) -> Tensor:
        positions = self._lengths[:, None]
        self._lengths, self._end = self._lengths + 1, self._end + 1
        return self._logits(ids[:, None], positions, {})

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self._lengths = self._mask[rows], self._lengths[rows]

    def _logits(self, ids: Tensor, positions: Tensor, more: Mapping[str, Any]) -> Tensor:
        named: dict[str, Any] = {"position_ids": positions} if self._positioned else {}
        outputs = self._model(
            input_ids=ids,
            attention_mask=None if self._even else self._mask[:, : self._end],
            past_key_values=self._cache,
            use_cache=True,
            **named,
            **more,
        )
        return outputs.logits[:, -1].float()


class Translating:
    """An encoder-decoder with its keys and values; the prompts are read by the encoder."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], room: int, start: int) -> None:
        self._model, device = model, next(model.parameters()).device
        ids, mask = _padded(prompts, device, left=False)
        self._mask = mask
        self._read = model.get_encoder()(input_ids=ids, attention_mask=mask)
        self._first = torch.full((len(prompts),), start, device=device)
        crossing = _kept(model, ids.shape[1])
        self._cache = EncoderDecoderCache(_kept(model, room + 1), crossing)

    def begin(self) -> Tensor:
        return self.step(self._first)

    def step(self, ids: Tensor) -> Tensor:
        outputs = self._model(
            encoder_outputs=self._read,
            attention_mask=self._mask,
            decoder_input_ids=ids[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        return outputs.logits[:, -1].float()

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._read.last_hidden_state = self._read.last_hidden_state[rows]


class Anew:
    """Any model that gives logits for a whole text."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], start: int | None = None
    ) -> None:
        self._model, self._device = model, next(model.parameters()).device
        self._sources = None if start is None else [list(prompt) for prompt in prompts]
        self._rows = [list(p) if start is None else [start] for p in prompts]

    def begin(self) -> Tensor:
        ids, mask = _padded(self._rows, self._device, left=False)
        named: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self._sources is not None:
            read, seen = _padded(self._sources, self._device, left=False)
            named = {"input_ids": read, "attention_mask": seen, "decoder_input_ids": ids}
        if not is_prompted(self._model):
            named["use_cache"] = False
        logits = self._model(**named).logits[:, -ids.shape[1] :]
        last = mask.sum(1) - 1
        return logits[torch.arange(len(ids), device=ids.device), last].float()

    def step(self, ids: Tensor) -> Tensor:
        for row, token in zip(self._rows, ids.tolist(), strict=True):
            row.append(token)
        return self.begin()

    def keep(self, rows: Tensor) -> None:
        places = rows.tolist()
        self._rows = [[*self._rows[place]] for place in places]
        if self._sources is not None:
            self._sources = [self._sources[place] for place in places]
