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
from warmstart.models.loading import load_headed, load_masked
from warmstart.training.datasets import pad_rows
from warmstart.training.regularization.text import halves

if TYPE_CHECKING:
    from torch import nn

    from warmstart.models.base import Base


MASKED = 0.15  # of the tokens, as in Devlin et al. 2018
TOKENS = 128  # of a passage
LOGITS = 1 << 24  # numbers that are held at once: 64 MiB of float32
MASKING = ("ForMaskedLM", "ForPreTraining")


@dataclass(frozen=True, slots=True)
class Piece:
    """One passage as token ids [L], what is to be guessed of them, and the words that this covers.

    `targets` [L] (of an encoder-decoder [T], what its decoder writes) are -100 where none counts.
    """

    ids: np.ndarray
    targets: np.ndarray
    words: int = 0


class Reader:
    """Passages through the body of a model; `join` it again when the model has been changed.

    With the base's own language-model head `lm`, as transformers computes it, a decoder guesses
    every token of a passage after its start token, an encoder the masked ones (15 %, the same ones
    each time), and an encoder-decoder reads the first half and writes the second.
    """

    def __init__(self, model: Any, tokenizer: Any, lm: Any = None) -> None:
        self.tokenizer, self.pad = tokenizer, int(tokenizer.pad_token_id)
        self.lm: Any = lm
        config = unwrap(model).config
        self.kind, self.at_once = family_of(config if lm is None else lm.config).kind, 16
        self.longest = min(TOKENS, int(tokenizer.model_max_length), positions_of(config))
        if lm is not None:
            self.at_once = max(1, min(16, LOGITS // (self.longest * lm.config.vocab_size)))
            self._tied = lm.get_output_embeddings().weight is lm.get_input_embeddings().weight
            self._same = lm is unwrap(model)
            if not self._same:
                lm.eval().requires_grad_(False)
        self.join(model)

    def join(self, model: Any) -> None:
        """Read with this model's body from now on."""
        self.model: Any = model
        self.body: Any = body_of(unwrap(model))
        self.device = next(self.body.parameters()).device
        if self.lm is None:
            return
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

    def piece(self, text: str) -> Piece:
        """A passage as the model reads it."""
        if self.lm is not None and self.kind == "encoder-decoder":
            first, second = halves(text)
            return Piece(self._ids(first), self._ids(second), len(second.split()))
        ids = self._ids(text)
        if self.lm is None:
            return Piece(ids, np.zeros(0, np.int64))
        if self.kind == "decoder":
            starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
            first = next((start for start in starts if start is not None), None)
            if first is not None and ids[0] not in starts:
                ids = np.concatenate([[first], ids])[: self.longest]
            return Piece(ids, np.append(ids[1:], IGNORE_INDEX), len(text.split()))
        places = np.flatnonzero(~np.isin(ids, self.tokenizer.all_special_ids))
        rng = np.random.Generator(np.random.PCG64([len(ids), int(ids.sum())]))
        chosen = rng.permutation(places)[: max(1, round(MASKED * len(places)))]
        hidden, targets = ids.copy(), np.full(len(ids), IGNORE_INDEX, np.int64)
        hidden[chosen], targets[chosen] = self.tokenizer.mask_token_id, ids[chosen]
        return Piece(hidden, targets)

    def pieces(self, texts: Sequence[str]) -> list[Piece]:
        """Passages as the model reads them."""
        return [self.piece(text) for text in texts]

    def parts(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """Numbers of pieces that are computed together: those of about one length."""
        order = np.argsort([len(piece.ids) for piece in pieces], kind="stable")
        return [order[at : at + self.at_once] for at in range(0, len(order), self.at_once)]

    def states(self, pieces: Sequence[Piece], dtype: torch.dtype = torch.float32) -> Tensor:
        """The mean of the last hidden states over the tokens of each passage [n, H], float32."""
        ids, mask = self._padded([piece.ids for piece in pieces], self.pad)
        both = self.kind == "encoder-decoder" and hasattr(self.body, "decoder")
        body = self.body.get_encoder() if both else self.body
        with self._autocast(dtype):
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask[..., None].float()
        return (hidden * weights).sum(1) / weights.sum(1)

    def all_states(self, pieces: Sequence[Piece]) -> Tensor:
        """As `states`, a part at a time."""
        parts = self.parts(pieces)
        states = torch.cat([self.states([pieces[at] for at in part]) for part in parts])
        back = np.argsort(np.concatenate(parts))
        return states[torch.from_numpy(back).to(states.device)]

    def nll(
        self, pieces: Sequence[Piece], dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Of each passage: minus the log of the probability of its targets, summed; how many."""
        ids, mask = self._padded([piece.ids for piece in pieces], self.pad)
        targets, _ = self._padded([piece.targets for piece in pieces], IGNORE_INDEX)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self.kind == "encoder-decoder":
            start = torch.full_like(targets[:, :1], self.lm.config.decoder_start_token_id)
            shifted = torch.cat([start, targets[:, :-1]], 1)
            inputs["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORE_INDEX, self.pad)
        if self.kind != "encoder":
            inputs["use_cache"] = False
        with self._autocast(dtype):
            logits = self.lm(**inputs).logits.float()
        flat = cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1),
            ignore_index=IGNORE_INDEX, reduction="none",
        )  # fmt: skip
        return flat.view(targets.shape).sum(1), (targets != IGNORE_INDEX).sum(1)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The model without dropout, as it was before afterwards."""
        model: nn.Module = self.model
        before = model.training
        model.eval()
        try:
            yield
        finally:
            model.train(before)

    def _ids(self, text: str) -> np.ndarray:
        """Token ids with the model's special tokens; what is too long loses its middle part."""
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        ids = ids if len(ids) <= self.longest else [*ids[: self.longest - 1], ids[-1]]
        return np.array(ids or [self.pad], np.int64)

    def _padded(self, rows: Sequence[np.ndarray], fill: int) -> tuple[Tensor, Tensor]:
        ids, mask = pad_rows(rows, fill)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _autocast(self, dtype: torch.dtype) -> Any:
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)


def reader_for(base: Base, model: Any, tokenizer: Any, *, writes: bool) -> Reader:
    """The model's body under its base's own language-model head, or by its states alone.

    `writes`: the model itself is a language model. Raises `BaseModelError`.
    """
    lm = unwrap(model) if writes else _language_model(base)
    if lm is None or (family_of(lm.config).kind == "encoder" and tokenizer.mask_token_id is None):
        return Reader(model, tokenizer)
    return Reader(model, tokenizer, lm)


def _language_model(base: Base) -> Any:
    """The whole language model that the checkpoint of `base` holds; None where it holds none."""
    config = read_json(base.path / "config.json")
    if family_of(config).kind != "encoder":
        try:
            return load_headed(base, TEXT, [], seed=0)
        except BaseModelError:  # a body without output matrix
            return None
    if not any(str(name).endswith(MASKING) for name in config.get("architectures") or []):
        return None
    fresh = set[str]()
    lm = load_masked(base, 0, fresh)
    return None if fresh else lm
