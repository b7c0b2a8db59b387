"""How a model computes a batch: by transformers' own forward pass.

`models.fast.forward` has the other implementation, and chooses between the two. Both answer the
same questions, so that nobody has to know which one it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import RecipeError
from warmstart.models.architectures import body_of, family_of
from warmstart.models.fast.beside import compute_beside
from warmstart.models.fast.loss import Unprojected
from warmstart.models.fast.split import Cut, SlowCut
from warmstart.models.generation import Language
from warmstart.models.head_layers import (
    HEAD,
    Readout,
    drop_nothing,
    given_states,
    head_logits,
    reads_tokens,
    unwrap,
)
from warmstart.models.peft.prompts import answer_of, is_prompted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Outputs = Tensor | Unprojected | Mapping[str, Any]
"""Logits or vectors in float32; of a language model what stands before its logits; by name, what a
batch says itself how to compute."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together.

    Args:
        inputs: what the model reads, one of:
            ids [B, L] padded on the right, lengths [B] and, of two texts in a row, types [B, L];
            with them hidden [B, L, H], the states at a split, or chosen [B, L], the tokens whose
            vocabulary is asked for;
            features [B, H], what the head reads;
            ids, mask [B, L] and, for an encoder-decoder, decoder_ids [B, T];
            by, a function of this forward pass and these inputs that computes what an objective of
            its own kind needs, with whatever it reads;
            parts, of which each has ids and lengths, texts, how many a row has, and order: text k
            of row i of B is number k B + i, and `order` says where each computed vector belongs.
        targets: what the outputs should be; -100 counts nothing.
        weight: what the batch counts, a float32 scalar; see `Objective.weigh`.
        rows: the numbers of the rows.
        tokens: tokens that are computed, padding not counted.
        task: its name, where several tasks are trained together.
    """

    inputs: Mapping[str, Any]
    targets: Tensor
    weight: Tensor
    rows: np.ndarray
    tokens: int
    task: str = ""


class Forward:
    """The model's own forward pass, under autocast; works for every family."""

    caches_features = False
    """Whether what the head reads can be computed once and for all (`features`)."""
    used_rows: Tensor | None = None
    """The embedding rows that are trained, where these are not all."""

    def __init__(self, model: PreTrainedModel, readout: Readout = HEAD) -> None:
        self.model, self.readout, self.training = model, readout, True
        self.dtype, self.device = torch.float32, torch.device("cpu")
        family = family_of(unwrap(model).config)
        self._pads_left = family.padding_side == "left" and not reads_tokens(model)
        self._answer = answer_of(model, family)
        self._split: Cut | None = None
        self._parts: Sequence[Tensor] = ()
        self._leaf: Tensor | None = None
        self._remembers = False
        self._memory: tuple[Batch, Outputs] | None = None

    def forward(self, batch: Batch) -> Outputs:
        """What the readout says of a batch, in float32 unless it is `Unprojected`: logits [B, K],
        [B, L, K] of a head that reads every token, or [1, M, V] of M chosen tokens; vectors [B, H],
        or [B, K, H] of K texts a row."""
        if self._memory is not None and self._memory[0] is batch:
            return self._memory[1]
        outputs = self._compute(batch.inputs)
        self._memory = (batch, outputs) if self._remembers else None
        return outputs

    def _compute(self, inputs: Mapping[str, Any]) -> Outputs:
        if "parts" in inputs:
            vectors = [self.logits(**part, training=self.training) for part in inputs["parts"]]
            flat = self._join(vectors)[inputs["order"]]
            return flat.view(inputs["texts"], -1, flat.shape[-1]).transpose(0, 1)
        if "by" in inputs:
            self.set_mode(self.training)
            with self.autocast():
                return inputs["by"](self, inputs)
        if "features" in inputs:
            return self.head(inputs["features"], training=self.training)
        if "chosen" in inputs:
            states = self.token_states(inputs["ids"], inputs["lengths"], inputs.get("types"))
            return self.vocabulary(states[inputs["chosen"]][None])
        if "mask" in inputs:
            return self.language.forward(**inputs, training=self.training)
        if self._split is None:
            return self.logits(**inputs, training=self.training)
        ids, lengths, hidden = inputs["ids"], inputs["lengths"], inputs.get("hidden")
        hidden = self.below_split(inputs) if hidden is None else hidden
        return self._split.logits(hidden, ids, lengths, training=self.training)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Without gradient and dropout; the same batch is computed once, however often it is asked
        for."""
        training, self.training, self._remembers = self.training, False, True
        try:
            with torch.no_grad():
                yield
        finally:
            self.training, self._remembers, self._memory = training, False, None

    def hidden(self, batch: Batch) -> Tensor:
        """The last hidden states [B, L, H]; those of padding mean nothing."""
        inputs = batch.inputs
        return self.token_states(inputs["ids"], inputs["lengths"], inputs.get("types"))

    def vocabulary(self, states: Tensor) -> Tensor:
        """What the language-model head makes of last hidden states [B, L, H]: logits over the
        vocabulary, in float32."""
        inner: Any = unwrap(self.model)
        ids = torch.zeros(1, 1, dtype=torch.long, device=states.device)
        with self.autocast(), given_states(inner, states):
            outputs = inner(input_ids=ids)
            tokens = outputs.get("prediction_logits")  # of a head with a second one beside it
            return (outputs.logits if tokens is None else tokens).float()

    def log_probs(self, batch: Batch) -> Tensor:
        """The log-probability of each target [B, ...]; 0 where there is none (-100).

        Of a language model the logits of all targets are made at once.
        """
        outputs, real = self.forward(batch), batch.targets != IGNORE_INDEX
        assert not isinstance(outputs, Mapping)
        logits = outputs[real] if isinstance(outputs, Tensor) else outputs.at(real).logits()
        nll = cross_entropy(logits, batch.targets[real], reduction="none")
        return nll.new_zeros(real.shape).masked_scatter(real, -nll)

    @cached_property
    def language(self) -> Language:
        """The model as one that writes."""
        return Language(self)

    def generate(self, ids: Tensor, mask: Tensor) -> list[list[int]]:
        """The ids that the model writes for each row; see `Language.write`."""
        return self.language.write(ids, mask)

    def split(self, blocks: int) -> bool:
        """Compute in two parts from here on, if that is exact: the first `blocks` blocks, without
        gradient or dropout, and what stands above them."""
        self._split = self._cut(blocks)
        return self._split is not None

    def _cut(self, blocks: int) -> Cut | None:
        """None where it cannot be done exactly: with encoder-decoders, and where blocks pass on
        more than their hidden states."""
        if blocks < 1 or family_of(unwrap(self.model).config).kind == "encoder-decoder":
            return None
        cut = SlowCut(self, blocks)
        return cut if cut.is_exact() else None

    @torch.no_grad()
    def below_split(self, inputs: Mapping[str, Any]) -> Tensor:
        """What the blocks below the split give, [B, L, H]."""
        assert self._split is not None
        return self._split.states(inputs["ids"], inputs["lengths"], types=inputs.get("types"))

    def unsplit(self) -> None:
        """Compute the whole again."""
        if self._split is not None:
            self._split.close()
        self._split = None

    def without_dropout(self) -> None:
        """Compute without dropout in training too; to be called before `prepare`."""
        drop_nothing(self.model)

    @property
    def output_layer(self) -> Any:
        """The last layer of the head."""
        inner = unwrap(self.model)
        return inner.get_submodule(family_of(inner.config).output)

    def prepare(self, dtype: torch.dtype, device: torch.device, *, checkpointing: bool) -> None:
        """Choose type and device; called once before training."""
        self.dtype, self.device = dtype, device
        self.model.to(device)  # pyright: ignore[reportArgumentType]
        if dtype == torch.bfloat16 and device.type == "cpu":
            compute_beside(self.model)
        if checkpointing:
            inner: Any = unwrap(self.model)
            if is_prompted(self.model):
                raise RecipeError("train.gradient_checkpointing does not go with virtual tokens")
            if not inner.supports_gradient_checkpointing:
                name = inner.config.model_type
                raise RecipeError(
                    f"train.gradient_checkpointing: transformers has none for '{name}'"
                )
            newer = getattr(inner, "activation_checkpointing_enable", None)
            (newer or inner.gradient_checkpointing_enable)({"use_reentrant": False})

    def narrow_vocabulary(self, used: np.ndarray) -> np.ndarray | None:
        """Train only the embedding rows in `used`; returns old id → new id, or None if refused."""
        return None

    def widen_vocabulary(self) -> None:
        """Write the trained rows back where they came from."""

    def begin_epoch(self, seed: int) -> None:
        """Make the epoch's random numbers a function of `seed`."""

    def begin_step(self, seed: int) -> None:
        """Make the step's random numbers a function of `seed`; from here on it trains."""
        self.training = True
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # a hundredth of manual_seed's cost
        else:
            torch.manual_seed(seed)

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """What the readout says of rows of tokens, in float32: [B, K], or [B, L, K] where the head
        reads every token.

        Args:
            ids: token ids [B, L], padded on the right.
            lengths: tokens in each row [B].
            types: token types [B, L], or None where all are 0.
        """
        self.set_mode(training)
        if self.readout.source in ("features", "below_head"):
            return self._head_inputs(ids, lengths, types)
        if self.readout.source == "head":
            return self._head_logits(ids, lengths, types).float()
        ids, mask, types = self._padded(ids, lengths, types)
        if not ids.shape[1]:
            return torch.zeros(len(ids), unwrap(self.model).config.hidden_size, device=ids.device)
        with self.autocast():
            named = {} if types is None else {"token_type_ids": types}
            hidden = self.model(input_ids=ids, attention_mask=mask, **named).last_hidden_state
            return self.readout.pool(hidden, mask)

    def autocast(self) -> torch.autocast:
        """Within, transformers computes in the chosen type."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _padded(
        self, ids: Tensor, lengths: Tensor, types: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids, mask and types [B, L], padded on the family's side."""
        columns = torch.arange(ids.shape[1], device=ids.device)
        if self._pads_left:
            columns = (columns - (ids.shape[1] - lengths[:, None])) % ids.shape[1]
            ids = ids.gather(1, columns)
            types = None if types is None else types.gather(1, columns)
        return ids, (columns < lengths[:, None]).long(), types

    def _head_inputs(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        """What the head's last layer reads, [B, H]; of decoders for the last token."""
        states: list[Tensor] = []
        hook = self.output_layer.register_forward_pre_hook(
            lambda _, inputs: states.append(inputs[0])
        )
        try:
            self._head_logits(ids, lengths, types)
        finally:
            hook.remove()
        state = states.pop().float()
        if state.ndim == 3:
            state = state[torch.arange(len(state), device=state.device), lengths - 1]
        return state

    def _head_logits(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        ids, mask, types = self._padded(ids, lengths, types)
        with self.autocast():
            return self._answer(ids, mask, types)

    def token_states(self, ids: Tensor, lengths: Tensor, types: Tensor | None = None) -> Tensor:
        """The last hidden states [B, L, H] of rows of tokens; those of padding mean nothing."""
        self.set_mode(self.training)
        body: Any = body_of(unwrap(self.model))
        columns = torch.arange(ids.shape[1], device=ids.device)
        named = {} if types is None else {"token_type_ids": types}
        with self.autocast():
            mask = (columns < lengths[:, None]).long()
            return body(input_ids=ids, attention_mask=mask, **named).last_hidden_state

    def features(
        self, ids: Tensor, lengths: Tensor, *, training: bool = False, types: Tensor | None = None
    ) -> Tensor:
        """What the head reads, in float32: the first token [B, H], or every one [B, L, H]; where
        `caches_features` or the head reads every token."""
        raise NotImplementedError

    def head(self, features: Tensor, *, training: bool) -> Tensor:
        """Logits from what the head reads."""
        self.set_mode(training)
        return head_logits(self.model, features)

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """Vectors of many texts, computed part by part, as one tensor [n, H] for a single loss.

        The loss sees a leaf. Once its gradient is there, `collect` sends it back through one part
        after the other: exact, and a part's gradients may overwrite those of the part before it, as
        the 16-bit copies do.
        """
        if not torch.is_grad_enabled():
            return torch.cat([*parts])
        self._parts = parts
        self._leaf = torch.cat([part.detach() for part in parts]).requires_grad_()
        return self._leaf

    def set_mode(self, training: bool) -> None:
        """Put the model into training or evaluation mode."""
        if self.model.training != training:  # a walk over all modules, in every step
            self.model.train(training)

    def collect(self, *, accumulate: bool) -> None:
        """Called after each backward pass: put all gradients where the optimizer looks."""
        if self._leaf is None:
            self._take_gradients(accumulate=accumulate)
            return
        assert self._leaf.grad is not None
        pieces = self._leaf.grad.split([len(part) for part in self._parts])
        for number, (part, piece) in enumerate(zip(self._parts, pieces, strict=True)):
            part.backward(piece)
            self._take_gradients(accumulate=accumulate or number > 0)
        self._parts, self._leaf = (), None

    def _take_gradients(self, *, accumulate: bool) -> None:
        """Copy gradients that are kept elsewhere."""

    def filled(self) -> None:
        """Called where gradients were added to without a forward pass of this object."""

    def after_step(self) -> None:
        """Called after each step of the optimizer: forget gradients, renew copies."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def refresh(self) -> None:
        """Called when the weights have changed: renew copies of them."""

    def full_precision(self) -> None:
        """Compute in float32 from here on."""
        self.dtype = torch.float32
