"""What the objectives share that need no labels: the tokens of a row are what is predicted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart import part as parts
from warmstart.data.tokens.batching import pad_rows
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import RecipeError
from warmstart.models.modules import ParamGroup
from warmstart.objectives.base import Loss, Objective, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.fast.loss import Unprojected
    from warmstart.models.forward import Batch, Forward, Outputs

Kind = Literal["encoder", "decoder", "encoder-decoder"]
SENTINEL = "<extra_id_{}>"
HEAD_SHARE = 0.05


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
    """What an objective knows of the tokens; arrays say it of each id.

    Args:
        ordinary: the ids that are no special token, in order.
        maskable: whether it is no special token.
        spaced: whether it begins a word whatever stands before it: by WordPiece's ##, or the space
            in front of a piece.
        opens: whether it begins with a letter or digit, so that it may go on with a word.
        closes: whether it ends with one (or is a bare space), so that a word may go on behind it.
        ends: whether it ends a sentence.
        sentinels: T5's, the first one first; empty where there are none.
    """

    ordinary: np.ndarray
    maskable: np.ndarray
    spaced: np.ndarray
    opens: np.ndarray
    closes: np.ndarray
    ends: np.ndarray
    mask: int | None
    pad: int
    sentinels: Sequence[int] = ()

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> Vocabulary:
        """Of a tokenizer, for a model with so many output rows."""
        size, backend = min(len(tokenizer), size), tokenizer.backend_tokenizer
        prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
        pieced = bool(prefix) and type(backend.model).__name__ == "WordPiece"
        names = tokenizer.convert_ids_to_tokens(list(range(size)))
        texts = [text_of(name or "", "ByteLevel" in repr(backend.decoder)) for name in names]
        own = [bool(name) and str(name).startswith(prefix) for name in names]
        added = tokenizer.added_tokens_decoder.items()
        special = {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}
        sentinels: list[int] = []
        while (token := SENTINEL.format(len(sentinels))) in tokenizer.get_vocab():
            sentinels.append(int(tokenizer.convert_tokens_to_ids(token)))
        inside = np.ones(size, bool)
        inside[[i for i in (*special, *sentinels) if i < size]] = False
        spaced = [not go_on if pieced else text[:1].isspace()
                  for text, go_on in zip(texts, own, strict=True)]  # fmt: skip
        opens = [pieced or _goes_on(text.removeprefix(" ")[:1]) for text in texts]
        closes = [pieced or text == " " or _goes_on(text[-1:]) for text in texts]
        return cls(
            ordinary=np.flatnonzero(inside),
            maskable=inside,
            spaced=np.array(spaced, bool) | ~inside,
            opens=np.array(opens, bool) & inside,
            closes=np.array(closes, bool) & inside,
            ends=np.array([text.rstrip(QUOTES).endswith(STOPS) for text in texts], bool) & inside,
            mask=tokenizer.mask_token_id,
            pad=int(tokenizer.pad_token_id),
            sentinels=tuple(sentinels),
        )

    def word_starts(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens of a row [L] begin a word: letters and digits that stand together are one,
        with the space before them; every other sign is a word of its own."""
        starts = self.spaced[ids] | ~self.opens[ids]
        starts[:1] = True
        starts[1:] |= ~self.closes[ids[:-1]]
        return starts

    def sentence_ends(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens of a row [L] end a sentence: by a stop, where a word begins behind it."""
        ends = self.ends[ids]
        ends[:-1] &= self.spaced[ids[1:]]
        return ends

    def inner(self, row: np.ndarray) -> slice:
        """Where the text of a row [L] stands, without the special tokens at its edges."""
        at = np.flatnonzero(self.maskable[row])
        return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0)


STOPS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u2026")
QUOTES = "\"')]\u201d\u2019\u00bb"
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@cache
def _bytes_of_letters() -> Mapping[str, int]:
    """The letters in which byte-level tokenizers write bytes (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


def text_of(token: str, in_bytes: bool) -> str:
    """The text of a token, with its space in front; parts of a character are U+FFFD, or U+2026
    where one begins that is hardly a letter."""
    table = _bytes_of_letters()
    if in_bytes and all(letter in table for letter in token):
        raw = bytes(table[letter] for letter in token)
    elif match := _BYTE.fullmatch(token):
        raw = bytes([int(match[1], 16)])
    else:
        return token.replace(_SPACE, " ")
    text = raw.decode("utf-8", "replace")
    # what begins so is mostly a sign: quotes and dashes, emoji
    sign = text.lstrip(" ")[:1] == "\ufffd" and raw.lstrip(b" ")[0] in (0xE2, 0xF0)
    return text.replace("\ufffd", "\u2026\ufffd", 1) if sign else text


def _goes_on(letter: str) -> bool:
    """Whether a word may go on with this character: letters, digits, marks on letters, and parts
    of a character."""
    return letter.isalnum() or letter == "\ufffd" or unicodedata.category(letter or " ")[0] == "M"


def by_row(rng: np.random.Generator, rows: np.ndarray, use: int = 0) -> list[np.random.Generator]:
    """Random numbers of each row's own: a function of what `rng` began with, of the row's number
    and of `use`, whatever rows are computed with it. `rng` itself stands still."""
    seeds: Any = rng.bit_generator.seed_seq  # pyright: ignore[reportAttributeAccessIssue]
    key = [*seeds.generate_state(2).tolist(), use]
    return [np.random.default_rng([*key, number]) for number in rows.tolist()]


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
    predicts_tokens: ClassVar[bool] = True
    """Whether its loss is that of tokens, in nats each, and can be held against their frequency."""
    covers_text: ClassVar[bool] = False
    """Whether every token of a text is predicted exactly once, so that bits per byte are known."""

    head_steps: int | None = Field(
        default=None,
        ge=0,
        description="steps in which a head that the base does not bring is trained alone, before "
        "the rest moves; unset: 5 % of them; never where the base itself is new",
    )
    z_loss: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="so many times the square of log Z is added to the loss of each token, against "
        "logits that drift (PaLM has 1e-4); 0: none",
    )

    _words: Vocabulary = PrivateAttr()
    _fresh: frozenset[str] = PrivateAttr(default=frozenset())
    _device: Any = PrivateAttr(default=None)

    def check_base(self, config: Mapping[str, Any], kind: str, tokenizer: Any) -> None:
        """Raise `RecipeError` where a base cannot be trained so."""
        self.check_family(config, kind)

    def check_family(self, config: Mapping[str, Any], kind: str) -> None:
        """Raise `RecipeError` where no base of this architecture can be trained so."""
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

        fresh = set[str]()
        model = load_language(base, self.auto, seed, fresh)
        self._fresh = frozenset(() if base.source == "scratch" else fresh)
        return model

    def attached(self, model: Any) -> str:
        """What is to be told of a head that begins with fresh weights; else nothing. Raises
        `RecipeError` where the method lets it stand still."""
        moves = [p.requires_grad for name, p in model.named_parameters() if self._is_fresh(name)]
        if not moves:
            return ""
        if not all(moves):
            raise RecipeError(
                f"the base brings no head for objective {self.part_name()}, and the method does "
                "not train one; take method full"
            )
        alone = "for the first 5 % of the steps" if self.head_steps is None else (
            f"for {self.head_steps:,} steps"
        )  # fmt: skip
        return (f"the base brings no head for objective {self.part_name()}: it begins with fresh "
                f"weights and is trained alone {alone}")  # fmt: skip

    def param_groups(self, model: Any, steps: int) -> list[ParamGroup]:
        """The weights that wait until a fresh head has been trained, in a run of so many steps."""
        first = max(1, round(HEAD_SHARE * steps)) if self.head_steps is None else self.head_steps
        if not self._fresh or not first:
            return []
        waiting = [p for name, p in model.named_parameters() if not self._is_fresh(name)]
        return [ParamGroup(waiting, wait_steps=min(first, steps))]

    def _is_fresh(self, name: str) -> bool:
        return any(name == key or name.endswith(f".{key}") for key in self._fresh)

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
        real = targets != IGNORE_INDEX
        logits: Any = outputs
        at: Any = logits.at(real) if hasattr(logits, "at") else logits[real]
        return Predictions(at, targets[real], real.nonzero()[:, 0])

    def final_predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the figures of a model are made of: unless said otherwise, its predictions."""
        return self.predictions(outputs, batch)

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The cross-entropy of the tokens that are to be found, in nats."""
        return Loss(self.nll(self.predictions(model.forward(batch), batch)), batch.weight)

    def nll(self, predictions: Predictions) -> Tensor:
        """Minus the summed log-probability of the targets, with its gradient, and the z-loss."""
        return summed_nll(predictions, self.z_loss)

    def attach(self, model: Any, folder: Path) -> None:
        """Put back what `detach` took off; `folder` is where it was written, each part in a folder
        of its name."""

    def rows_of(self, batch: Batch) -> list[np.ndarray]:
        """The token ids of each row of a plain batch, without padding."""
        ids, lengths = batch.inputs["ids"].cpu().numpy(), batch.inputs["lengths"].cpu().numpy()
        return [row[:n] for row, n in zip(ids, lengths, strict=True)]


def summed_nll(predictions: Predictions, z_loss: float = 0.0) -> Tensor:
    """Minus the summed log-probability of the targets, with its gradient; `z_loss` as in
    `chunked_cross_entropy`."""
    from torch.nn.functional import cross_entropy

    from warmstart.models.fast.loss import Unprojected, chunked_cross_entropy, summed_z

    outputs, targets = predictions.outputs, predictions.targets
    if isinstance(outputs, Unprojected):
        return chunked_cross_entropy(outputs, targets, z_loss=z_loss)
    loss = cross_entropy(outputs.float(), targets, reduction="sum")
    return loss + summed_z(outputs.float(), z_loss) if z_loss else loss


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


class WritingObjective(LanguageObjective):
    """Why an encoder-decoder's weights move: it reads a damaged text, and writes what is missing,
    or the whole."""

    auto: ClassVar[str] = "AutoModelForSeq2SeqLM"
    kinds: ClassVar[frozenset[str]] = frozenset({"encoder-decoder"})

    _start: int = PrivateAttr(default=0)
    """The id that the decoder begins with."""

    def setup(self, session: Setting) -> None:
        """Learn the tokens of the tokenizer, and with which the decoder begins."""
        super().setup(session)
        config = session.model.config
        token = config.decoder_start_token_id
        self._start = int(config.pad_token_id if token is None else token)

    def written(
        self, batch: Batch, read: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
    ) -> Batch:
        """A batch of the texts that are read, and of those that are to be written."""
        pad = self._words.pad
        ids, mask = pad_rows(read, pad)
        shifted = [np.concatenate([[self._start], row])[:-1] for row in wanted]
        inputs = {"ids": ids, "mask": mask, "decoder_ids": pad_rows(shifted, pad)[0]}
        return sent(batch, inputs, pad_rows(wanted, IGNORE_INDEX)[0])


def objective_of(task: Any, kind: str, model: Any, tokenizer: Any) -> LanguageObjective:
    """The objective of a saved language model, ready to make batches; of a model that was trained
    elsewhere the usual one of its kind of architecture."""
    settings = dict(task.trained_by) or {"name": USUAL[kind]}
    objective: Any = parts.make("objective", settings.pop("name"), settings)
    objective = objective.model_copy()
    objective.setup(SimpleNamespace(tokenizer=tokenizer, model=model, mean_length=1.0))
    return objective
