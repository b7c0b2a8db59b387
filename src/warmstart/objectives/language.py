"""What the objectives share that need no labels: the tokens of a row are what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import PrivateAttr

from warmstart import part as parts
from warmstart.data.tokens.batching import pad_rows
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import RecipeError
from warmstart.objectives.base import Loss, Objective, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.fast.loss import Unprojected
    from warmstart.models.forward import Batch, Forward, Outputs

Kind = Literal["encoder", "decoder", "encoder-decoder"]
SENTINEL = "<extra_id_{}>"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of the tokens that are to be predicted.

    Args:
        outputs: logits [T, V], or what stands before them.
        targets: the tokens themselves [T].
        rows: which row of the batch each belongs to [T].
    """

    outputs: Tensor | Unprojected
    targets: Tensor
    rows: Tensor


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What an objective knows of the tokens.

    Args:
        ordinary: the ids that are no special token, in order.
        special: those that are.
        begins: of each id whether it begins a word, whatever stands before it.
        letters: of each id whether it is made of letters or digits.
        ends: of each id whether it ends a sentence.
        sentinels: T5's, the first one first; empty where there are none.
    """

    ordinary: np.ndarray
    special: np.ndarray
    begins: np.ndarray
    letters: np.ndarray
    ends: np.ndarray
    mask: int | None
    pad: int
    start: int
    """The first token behind which a text is written, for families that begin with one."""
    sentinels: Sequence[int] = ()

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> Vocabulary:
        """Of a tokenizer, for a model with so many output rows."""
        size = min(len(tokenizer), size)
        names = tokenizer.convert_ids_to_tokens(list(range(size)))
        tokens: list[str] = [name or "" for name in names]
        if any(token.startswith("##") for token in tokens):
            begins = np.array([not token.startswith("##") for token in tokens])
        else:
            begins = np.array([t[:1] in MARKS or not t[:1].isalnum() for t in tokens])
        special = {i for i in tokenizer.all_special_ids if i < size}
        sentinels: list[int] = []
        while (token := SENTINEL.format(len(sentinels))) in tokenizer.get_vocab():
            sentinels.append(int(tokenizer.convert_tokens_to_ids(token)))
        special |= {*sentinels}
        inside = np.ones(size, bool)
        inside[sorted(special)] = False
        start = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        return cls(
            ordinary=np.flatnonzero(inside),
            special=np.flatnonzero(~inside),
            begins=begins | ~inside,
            letters=np.array([t.lstrip(MARKS)[:1].isalnum() for t in tokens]) & inside,
            ends=np.array([token.endswith((".", "!", "?")) for token in tokens]),
            mask=tokenizer.mask_token_id,
            pad=int(tokenizer.pad_token_id),
            start=-1 if start is None else int(start),
            sentinels=tuple(sentinels),
        )

    def word_starts(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens of a row [L] begin a word: by WordPiece's ##, or the space before a piece;
        of these tokenizers what is no letter or digit is a word of its own."""
        starts = self.begins[ids]
        starts[:1] = True
        starts[1:] |= ~self.letters[ids[:-1]] & self.letters[ids[1:]]
        return starts


MARKS = "\u0120\u2581\u010a"
"""What stands in pieces for the space (or the line) before a word."""


class LanguageObjective(Objective):
    """Why the weights of a language model move. A subclass makes the batch (`collate`): what is
    hidden, moved or left out of a row, and the tokens that are to be found again."""

    heads: ClassVar[frozenset[str]] = frozenset({"language"})
    auto: ClassVar[str] = "AutoModelForPreTraining"
    """The Auto class of transformers that carries the head it trains."""
    kinds: ClassVar[frozenset[str]] = frozenset({"encoder"})
    """Kinds of architectures that it trains."""
    architectures: ClassVar[frozenset[str]] = frozenset()
    """Model types that it trains; none named: all of the kinds."""
    covers_text: ClassVar[bool] = False
    """Whether every token of a text is predicted exactly once, so that bits per byte are known."""

    _words: Vocabulary = PrivateAttr()
    _device: Any = PrivateAttr(default=None)

    def check_base(self, config: Mapping[str, Any], kind: str, tokenizer: Any) -> None:
        """Raise `RecipeError` where a base cannot be trained so."""
        name = str(config.get("model_type"))
        if kind not in self.kinds or (self.architectures and name not in self.architectures):
            fitting = ", ".join(sorted(self.architectures)) or " or ".join(
                f"{'an' if k[0] == 'e' else 'a'} {k}" for k in sorted(self.kinds)
            )
            raise RecipeError(
                f"objective {self.part_name()} trains {fitting}, and '{name}' is "
                f"{'an' if kind[0] == 'e' else 'a'} {kind}; take objective {USUAL[kind]}"
            )

    def build_model(self, task: Any, base: Any, labels: Sequence[str], seed: int) -> Any:
        """The base under the head that this objective trains."""
        from warmstart.models.loading import load_language

        return load_language(base, self.auto, seed)

    def setup(self, session: Setting) -> None:
        """Learn the tokens of the tokenizer."""
        self._words = Vocabulary.of(session.tokenizer, session.model.config.vocab_size)

    def predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the model says at the targets of a batch."""
        targets, chosen = batch.targets, batch.inputs.get("chosen")
        if chosen is not None:
            assert not isinstance(outputs, Mapping)
            rows = chosen.nonzero()[:, 0]
            at = outputs[0]  # pyright: ignore[reportIndexIssue]
            return Predictions(at, targets[0], rows)
        real, every = targets != IGNORE_INDEX, cast("Any", outputs)
        at: Any = every.at(real) if hasattr(every, "at") else every[real]
        return Predictions(at, targets[real], real.nonzero()[:, 0])

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The cross-entropy of the tokens that are to be found, in nats."""
        return Loss(summed_nll(self.predictions(model.forward(batch), batch)), batch.weight)

    def attach(self, model: Any, folder: Path) -> None:
        """Put back what `detach` took off; `folder` is where it was written, each part in a folder
        of its name."""

    def detach(self, model: Any) -> Mapping[str, Any]:
        """Take off the model what only training needed; by name what is worth keeping of it."""
        return {}

    def rows_of(self, batch: Batch) -> list[np.ndarray]:
        """The token ids of each row of a plain batch, without padding."""
        ids, lengths = batch.inputs["ids"].cpu().numpy(), batch.inputs["lengths"].cpu().numpy()
        return [row[:n] for row, n in zip(ids, lengths, strict=True)]


def summed_nll(predictions: Predictions) -> Tensor:
    """Minus the summed log-probability of the targets, with its gradient."""
    from torch.nn.functional import cross_entropy

    from warmstart.models.fast.loss import Unprojected, chunked_cross_entropy

    outputs, targets = predictions.outputs, predictions.targets
    if isinstance(outputs, Unprojected):
        return chunked_cross_entropy(outputs, targets)
    return cross_entropy(outputs.float(), targets, reduction="sum")


USUAL: Mapping[str, str] = {
    "encoder": "mlm", "decoder": "clm", "encoder-decoder": "span_corruption",
}  # fmt: skip
"""Kind of architecture → the objective that is usual for it."""


def sent(batch: Batch, inputs: Mapping[str, np.ndarray], targets: np.ndarray) -> Batch:
    """A batch with other inputs and targets (numpy arrays), on the device of the old one; its
    weight is the number of its targets."""
    import torch

    device = batch.inputs["ids"].device
    count = float((targets != IGNORE_INDEX).sum())
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)).to(device)
               for name, v in inputs.items()}  # fmt: skip
    return replace(
        batch, inputs=tensors, targets=torch.from_numpy(targets).to(device),
        weight=batch.weight.new_tensor(count),
    )  # fmt: skip


def written(
    batch: Batch, read: Sequence[np.ndarray], wanted: Sequence[np.ndarray], start: int, pad: int
) -> Batch:
    """A batch of an encoder-decoder: the texts that it reads, and those that it is to write."""
    ids, mask = pad_rows(read, pad)
    shifted = [np.concatenate([[start], row])[:-1] for row in wanted]
    inputs = {"ids": ids, "mask": mask, "decoder_ids": pad_rows(shifted, pad)[0]}
    return sent(batch, inputs, pad_rows(wanted, IGNORE_INDEX)[0])


def decoder_start(model: Any) -> int:
    """The id that the decoder begins with."""
    config = model.config
    token = config.decoder_start_token_id
    return int(config.pad_token_id if token is None else token)


def objective_of(task: Any, kind: str, model: Any, tokenizer: Any) -> LanguageObjective:
    """The objective of a saved language model, ready to make batches; of a model that was trained
    elsewhere the usual one of its kind of architecture."""
    settings = dict(task.trained_by) or {"name": USUAL[kind]}
    objective: Any = parts.make("objective", settings.pop("name"), settings)
    objective = objective.model_copy()
    objective.setup(SimpleNamespace(tokenizer=tokenizer, model=model, mean_length=1.0))
    return objective
