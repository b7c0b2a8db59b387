"""How a base reads general text: by its own language-model head, or, without one, by its states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import BaseModelError
from warmstart.models.architectures import body_of, family_of, positions_of
from warmstart.models.checks import read_json
from warmstart.models.head_layers import unwrap
from warmstart.models.heads import TEXT
from warmstart.models.hf_calls import LOAD, one_line, quiet, seeded
from warmstart.training.regularization.text import halves

if TYPE_CHECKING:
    from torch import nn

    from warmstart.models.base import Base


MASKED = 0.15  # of the tokens, as in Devlin et al. 2018
TOKENS = 128  # of a passage
LOGITS = 1 << 24  # numbers that are held at once: 64 MiB of float32


@dataclass(frozen=True, slots=True)
class Piece:
    """One passage as token ids [L], what is to be said of them, and the words that this covers.

    `targets` [L] (of an encoder-decoder [T], what its decoder writes) are -100 where none counts.
    """

    ids: np.ndarray
    targets: np.ndarray
    words: int = 0


class Reader:
    """Passages through the body of a model; `join` it again when the model has been changed."""

    says_nats = False

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.tokenizer, self.pad = tokenizer, int(tokenizer.pad_token_id)
        self.longest = _longest(unwrap(model).config, tokenizer)
        self.model: Any = model
        self.join(model)

    def join(self, model: Any) -> None:
        """Read with this model's body from now on."""
        self.model, self.body = model, body_of(unwrap(model))
        self.device = next(self.body.parameters()).device

    def pieces(self, texts: Sequence[str]) -> list[Piece]:
        """Passages as the model reads them."""
        return [Piece(self._ids(text), np.zeros(0, np.int64)) for text in texts]

    def states(self, pieces: Sequence[Piece], dtype: torch.dtype = torch.float32) -> Tensor:
        """The mean of the last hidden states over the tokens of each passage [n, H], float32."""
        ids, mask = self._padded([piece.ids for piece in pieces])
        body: Any = self.body
        if family_of(unwrap(self.model).config).kind == "encoder-decoder":
            body = body.get_encoder()
        with _lower(self.device, dtype):
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask[..., None].float()
        return (hidden * weights).sum(1) / weights.sum(1)

    def parts(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """Numbers of pieces that are computed together: those of about one length."""
        order = np.argsort([len(piece.ids) for piece in pieces], kind="stable")
        size = self._at_once()
        return [order[at : at + size] for at in range(0, len(order), size)]

    def all_states(self, pieces: Sequence[Piece]) -> Tensor:
        """As `states`, a part at a time."""
        parts = self.parts(pieces)
        found = torch.cat([self.states([pieces[at] for at in part]) for part in parts])
        back = np.argsort(np.concatenate(parts))
        return found[torch.from_numpy(back).to(found.device)]

    def _at_once(self) -> int:
        return 16

    def _ids(self, text: str) -> np.ndarray:
        """Token ids with the model's special tokens; what is too long loses its middle part."""
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        ids = ids if len(ids) <= self.longest else [*ids[: self.longest - 1], ids[-1]]
        return np.array(ids or [self.pad], np.int64)

    def _padded(self, rows: Sequence[np.ndarray], fill: int | None = None) -> tuple[Tensor, Tensor]:
        """Rows padded on the right [n, L], and what of it is real."""
        longest = max(len(row) for row in rows)
        ids = np.full((len(rows), longest), self.pad if fill is None else fill, np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)


class LanguageReader(Reader):
    """The body under the base's own language-model head `lm`, as transformers computes it.

    A decoder says every token of a passage after its start token, an encoder the masked ones (15 %,
    the same ones each time), an encoder-decoder reads the first half and writes the second.
    """

    says_nats = True

    def __init__(self, model: Any, tokenizer: Any, lm: Any) -> None:
        self.lm: Any = lm
        self.kind = family_of(lm.config).kind
        self._same = lm is unwrap(model)
        own = lm.get_output_embeddings()
        self._tied = own.weight is lm.get_input_embeddings().weight
        if not self._same:
            lm.eval().requires_grad_(False)
        super().__init__(model, tokenizer)

    def join(self, model: Any) -> None:
        super().join(model)
        if self._same:
            self.lm = unwrap(model)
            return
        lm = self.lm
        if hasattr(lm, lm.base_model_prefix):
            setattr(lm, lm.base_model_prefix, self.body)
        else:  # T5's parts stand in the model itself
            for part, module in self.body.named_children():
                setattr(lm, part, module)
        lm.to(self.device)
        if self._tied:
            lm.get_output_embeddings().weight = lm.get_input_embeddings().weight

    def pieces(self, texts: Sequence[str]) -> list[Piece]:
        make = {"decoder": self._written, "encoder-decoder": self._second_half}
        return [make.get(self.kind, self._masked)(text) for text in texts]

    def told(
        self, pieces: Sequence[Piece], dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Of each passage: minus the log of the probability of its targets, summed; how many."""
        ids, mask = self._padded([piece.ids for piece in pieces])
        targets, _ = self._padded([piece.targets for piece in pieces], IGNORE_INDEX)
        named: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self.kind == "encoder-decoder":
            start = torch.full_like(targets[:, :1], self.lm.config.decoder_start_token_id)
            shifted = torch.cat([start, targets[:, :-1]], 1)
            named["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORE_INDEX, self.pad)
        if self.kind != "encoder":
            named["use_cache"] = False
        with _lower(self.device, dtype):
            logits = self.lm(**named).logits.float()
        flat = cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1),
            ignore_index=IGNORE_INDEX, reduction="none",
        )  # fmt: skip
        return flat.view(targets.shape).sum(1), (targets != IGNORE_INDEX).sum(1)

    def _at_once(self) -> int:
        return max(1, min(16, LOGITS // (self.longest * self.lm.config.vocab_size)))

    def _written(self, text: str) -> Piece:
        ids = self._ids(text)
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        if ids[0] not in starts and any(start is not None for start in starts):
            first = next(start for start in starts if start is not None)
            ids = np.concatenate([[first], ids])[: self.longest]
        return Piece(ids, np.append(ids[1:], IGNORE_INDEX), len(text.split()))

    def _second_half(self, text: str) -> Piece:
        read, written = halves(text)
        return Piece(self._ids(read), self._ids(written), len(written.split()))

    def _masked(self, text: str) -> Piece:
        ids = self._ids(text)
        special = np.isin(ids, self.tokenizer.all_special_ids)
        places = np.flatnonzero(~special)
        rng = np.random.Generator(np.random.PCG64([len(ids), int(ids.sum())]))
        chosen = rng.permutation(places)[: max(1, round(MASKED * len(places)))]
        targets = np.full(len(ids), IGNORE_INDEX, np.int64)
        targets[chosen] = ids[chosen]
        ids = ids.copy()
        ids[chosen] = self.tokenizer.mask_token_id
        return Piece(ids, targets)


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Without dropout, as it was before afterwards."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens of a passage that the model has places for."""
    return min(TOKENS, int(tokenizer.model_max_length), positions_of(config))


def _lower(device: torch.device, dtype: torch.dtype) -> Any:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


# Which language-model head a base brings along, if any.

MASKING = ("ForMaskedLM", "ForPreTraining")


def reader_for(base: Base, model: Any, tokenizer: Any, *, writes: bool) -> Reader:
    """The model's body under its base's own language-model head, or by its states alone.

    `writes`: the model itself is a language model. Raises `BaseModelError`.
    """
    lm = unwrap(model) if writes else language_model(base)
    if lm is None or (family_of(lm.config).kind == "encoder" and tokenizer.mask_token_id is None):
        return Reader(model, tokenizer)
    return LanguageReader(model, tokenizer, lm)


def language_model(base: Base) -> Any:
    """The whole language model that the checkpoint of `base` holds; None where it holds none."""
    from warmstart.models.loading import load_headed

    config = read_json(base.path / "config.json")
    if family_of(config).kind == "encoder":
        return _masked(base, config)
    try:
        return load_headed(base, TEXT, [], seed=0)
    except BaseModelError:  # a body without output matrix
        return None


def _masked(base: Base, config: dict[str, Any]) -> Any:
    """An encoder under its masked-language-model head, all of which the checkpoint gives."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    names = [str(name) for name in config.get("architectures") or []]
    if not any(name.endswith(MASKING) for name in names):
        return None
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(0):
        known: Any = AutoConfig.from_pretrained(base.path, **LOAD)
        kind: Any = MODEL_FOR_MASKED_LM_MAPPING.get(type(known), None)
        if kind is None:
            return None
        lm, info = kind.from_pretrained(
            base.path, config=known, dtype=torch.float32, use_safetensors=True,
            output_loading_info=True, **LOAD,
        )  # fmt: skip
    return None if info["missing_keys"] or info["mismatched_keys"] else lm
