"""How a model writes, as transformers keeps it: `generation_config.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.data.tokens.windows import separator_of
from warmstart.models.architectures import family_of
from warmstart.models.fast.loss import Unprojected
from warmstart.models.fast.split import Computes
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import quiet
from warmstart.models.peft.prompts import is_prompted
from warmstart.models.sampling.decoding import start_of

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


SAMPLE = 48
"""Tokens of a text that is written after each validation."""

# What a model that writes gives for the rows of a split.


FLAT = ("nll", "sure", "hits", "tokens", "confidence")


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """What a model says of the target of each row.

    Args:
        nll: [n] summed cross-entropy of the row's target, each token after the true ones, in nats.
        sure: [n] summed probabilities of the target's tokens.
        hits: [n] tokens of the target than which none was likelier.
        tokens: [n] tokens of the target; 0 where there is none.
    """

    nll: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    tokens: np.ndarray

    @classmethod
    def nothing(cls, rows: int) -> Self:
        """For so many rows, to be filled in."""
        return cls(np.zeros(rows), np.zeros(rows), np.zeros(rows), np.zeros(rows, np.int64))

    @property
    def loss(self) -> float:
        """Mean cross-entropy of a target token in nats."""
        return float(self.nll.sum() / max(self.tokens.sum(), 1))


@dataclass(frozen=True, slots=True, eq=False)
class GenerationOutput(TokenScores):
    """Texts that a model wrote, and what it says of the texts that people wrote.

    Args:
        ids: the token ids of each row's text, special tokens included; None where none was asked.
        confidence: [n] mean probability of the tokens of `ids`; 0 without one.
    """

    ids: list[list[int] | None]
    confidence: np.ndarray

    @classmethod
    def nothing(cls, rows: int) -> Self:
        """For so many rows, to be filled in."""
        nll, sure, hits, confidence = (np.zeros(rows) for _ in range(4))
        return cls(nll, sure, hits, np.zeros(rows, np.int64), [None] * rows, confidence)

    @classmethod
    def joined(cls, parts: Sequence[GenerationOutput]) -> GenerationOutput:
        """The rows of several behind one another."""
        values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FLAT}
        return cls(**values, ids=[row for part in parts for row in part.ids])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As flat arrays, for a file; a row without a text has an empty one."""
        rows = [row or [] for row in self.ids]
        lengths = np.array([len(row) for row in rows], np.int64)
        flat = np.array([token for row in rows for token in row], np.int64)
        return {name: getattr(self, name) for name in FLAT} | {"ids": flat, "lengths": lengths}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> GenerationOutput:
        """The inverse of `to_arrays`."""
        rows = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
        ids: list[list[int] | None] = [row.tolist() for row in rows]
        return cls(**{name: arrays[name] for name in FLAT}, ids=ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[list[int] | None]:
        return iter(self.ids)

    @property
    def probability(self) -> float:
        """Mean probability of a target token."""
        return float(self.sure.sum() / max(self.tokens.sum(), 1))

    @property
    def accuracy(self) -> float:
        """Share of the target tokens that were the likeliest."""
        return float(self.hits.sum() / max(self.tokens.sum(), 1))


TOKENS = (
    "bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip


def generation_config(model: PreTrainedModel, end: int | None, **settings: Any) -> GenerationConfig:
    """The settings with the special tokens of the model, and nothing else of its own.

    What a base brings along (other beams, lengths, penalties) would otherwise mix with what was
    asked for. `end` is a token that ends a text beside those of the model, or None.
    """
    from transformers import GenerationConfig

    config: Any = model.config
    own: Any = model.generation_config
    known: dict[str, Any] = {}
    for name in (*TOKENS, "eos_token_id"):
        value = getattr(own, name, None)
        known[name] = getattr(config, name, None) if value is None else value
    ends = known.pop("eos_token_id")
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    ends = list(dict.fromkeys(token for token in (*ends, end) if token is not None))
    known = {name: value for name, value in known.items() if value is not None}
    settings = {name: value for name, value in settings.items() if value not in (None, 0)}
    if settings.get("num_beams", 1) == 1:
        settings.pop("length_penalty", None)
    eos: Any = ends[0] if len(ends) == 1 else ends
    return GenerationConfig(do_sample=False, eos_token_id=eos, **known, **settings)


@torch.no_grad()
def sample(forward: Computes, start: int, tokens: int, pad_id: int, seed: int) -> Tensor:
    """The ids of a text that a decoder writes after the token `start`, drawn by chances that are a
    function of the seed; the chances of others are left as they are."""
    model: Any = forward.model
    forward.set_mode(False)
    first = torch.tensor([[start]], device=forward.device)
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    with forward.autocast(), quiet():
        ids = model.generate(
            input_ids=first, attention_mask=torch.ones_like(first), do_sample=True, top_k=50,
            max_new_tokens=tokens, pad_token_id=pad_id,
        )  # fmt: skip
    torch.set_rng_state(before)
    return ids[0, 1:]


def sampler(forward: Computes, tokenizer: Any, longest: int, seed: int) -> Callable[[], str] | None:
    """What writes a text of a decoder's own, always by the same chances; None of other models."""
    if family_of(unwrap(forward.model).config).kind != "decoder":
        return None
    tokens, start = min(SAMPLE, longest - 1), separator_of(tokenizer)

    def write() -> str:
        ids = sample(forward, start, tokens, tokenizer.pad_token_id, seed)
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return write


# What a language model's output matrix reads, whatever the family, and texts that it writes.

_STOPS: ContextVar[bool] = ContextVar("stops_before_the_logits", default=False)
CLOSE = 1e-4


class _BeforeLogits(Exception):
    """Leaves a forward pass where the output matrix would be multiplied."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class Language:
    """A model under a language-model head: its forward pass, and its generation.

    The forward pass of transformers is left just before its output matrix, so that the logits of
    the whole vocabulary are never made at once. Where a model changes its logits afterwards (a
    soft cap, a scale), which a trial shows, they are computed as the model does it.
    """

    def __init__(self, forward: Computes) -> None:
        self._forward = forward
        inner = self._inner = unwrap(forward.model)
        self.decodes = family_of(inner.config).kind != "encoder-decoder"
        self.pads_badly = self.decodes and is_prompted(forward.model)
        self._head: Any = inner.get_output_embeddings()
        bias = getattr(inner, "final_logits_bias", None)
        self._bias: Tensor | None = None if bias is None or not bias.any() else bias[0]
        self.chunked = self._stoppable()

    @property
    def generation(self) -> Any:
        """The `GenerationConfig` that it writes by."""
        return self._inner.generation_config

    @property
    def start(self) -> int:
        """The id that the decoder of an encoder-decoder begins with. Raises `BaseModelError`."""
        return start_of(self._inner)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor,
        decoder_ids: Tensor | None = None,
        *,
        pieces: Tensor | None = None,
        training: bool,
        **more: Tensor,
    ) -> Unprojected | Tensor:
        """What stands before the logits [B, L, H], or the logits themselves [B, L, V].

        Args:
            ids: token ids [B, L] padded on the right; of a decoder prompt and answer.
            mask: [B, L] 1 where there is a token.
            decoder_ids: ids [B, T] that the decoder of an encoder-decoder reads; then L is T above.
            pieces: [B, L] of a decoder, numbers that are equal for tokens of one text, where a row
                holds several: none sees another, and each begins at place 0.
            more: what else the model is given, such as position_ids [B, L].
        """
        forward = self._forward
        forward.set_mode(training)
        named: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, **more}
        if decoder_ids is not None:
            named["decoder_input_ids"] = decoder_ids
        if pieces is not None:
            named |= self._apart(pieces)
        if not is_prompted(forward.model):
            named["use_cache"] = False
        length = (ids if decoder_ids is None else decoder_ids).shape[1]
        with forward.autocast():
            if not self.chunked:
                return forward.model(**named).logits[:, -length:].float()
            return self._unprojected(named, length)

    def write(self, ids: Tensor, mask: Tensor) -> list[list[int]]:
        """The ids that the model writes for each row, by its own generation config.

        `ids` [B, L] are padded on the left for a decoder, on the right else.
        """
        forward = self._forward
        forward.set_mode(False)
        model: Any = forward.model
        with torch.no_grad(), forward.autocast(), quiet():
            written = model.generate(input_ids=ids, attention_mask=mask)
        prompted = is_prompted(model) and model.active_peft_config.peft_type != "PREFIX_TUNING"
        begin = ids.shape[1] if self.decodes else 1
        if self.decodes and prompted and not torch.equal(written[:, :begin], ids):
            begin = 0  # generated from embeddings: the prompt is not among the ids
        ends = self.generation.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        rows: list[list[int]] = []
        for row in written[:, begin:].tolist():  # without what pads behind the end
            stop = next((place for place, token in enumerate(row) if token in ends), len(row))
            rows.append(row[: stop + 1])
        return rows

    def _apart(self, pieces: Tensor) -> dict[str, Tensor]:
        """Places and a mask [B, 1, L, L] by which the texts of a row are computed apart."""
        length = pieces.shape[1]
        places = torch.arange(length, device=pieces.device)
        begins = torch.ones_like(pieces, dtype=torch.bool)
        begins[:, 1:] = pieces[:, 1:] != pieces[:, :-1]
        starts = torch.where(begins, places, 0).cummax(1).values
        seen = (pieces[:, :, None] == pieces[:, None, :]) & (places[:, None] >= places)
        mask: Tensor = seen[:, None]
        config: Any = self._inner.config
        if config._attn_implementation != "sdpa":  # which adds the mask to the scores
            type_ = self._forward.dtype
            mask = torch.zeros_like(mask, dtype=type_).masked_fill(~mask, torch.finfo(type_).min)
        return {"position_ids": places - starts, "attention_mask": mask}

    def _unprojected(self, named: dict[str, Any], length: int) -> Unprojected:
        token = _STOPS.set(True)
        try:
            self._forward.model(**named)
        except _BeforeLogits as stopped:
            return Unprojected(stopped.hidden[:, -length:], self._head.weight, self._bias)
        finally:
            _STOPS.reset(token)
        raise AssertionError("the output matrix was not reached")

    def _stoppable(self) -> bool:
        """Whether the model's logits are what its output matrix gives, tried on two tokens."""
        head = self._head
        if type(head) is not nn.Linear or head.bias is not None:
            return False
        head.register_forward_pre_hook(_stop)
        model: Any = self._forward.model
        device = next(model.parameters()).device
        ids = torch.tensor([[3, 4]], device=device) % head.weight.shape[0]
        named: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if not self.decodes:
            named["decoder_input_ids"] = ids
        before = model.training
        model.eval()
        with torch.no_grad():
            whole = model(**named).logits[:, -2:].float()
            parts = self._unprojected(named, 2).logits()
        model.train(before)
        return bool(torch.allclose(parts, whole, atol=CLOSE, rtol=CLOSE))


def _stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if _STOPS.get():
        raise _BeforeLogits(inputs[0])
