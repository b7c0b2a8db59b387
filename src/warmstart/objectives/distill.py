"""DistilBERT's objective: a small model learns to answer like a large one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.errors import RecipeError, shown
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.mlm import MLM

if TYPE_CHECKING:
    from torch import Tensor, nn

    from warmstart.models.forward import Batch, Forward

LOGITS = 1 << 23
"""Logits of each of the two models that are held at once."""


class Distill(MLM):
    """Distillation (Sanh et al. 2019): beside the hidden tokens, the model learns from a teacher's
    probabilities of every token of the vocabulary, and to point its last states the same way."""

    heads: ClassVar[frozenset[str]] = frozenset({"language"})

    teacher: str = Field(
        default="",
        description="a base, a folder or a run with a masked-language head and the same tokenizer",
    )
    temperature: float = Field(
        default=2.0, gt=0, description="divides both models' logits: the higher, the softer"
    )
    soft_weight: float = Field(
        default=5.0, ge=0, description="weight of the divergence from the teacher's probabilities"
    )
    mlm_weight: float = Field(
        default=2.0, ge=0, description="weight of the loss of the hidden tokens"
    )
    cosine_weight: float = Field(
        default=1.0,
        ge=0,
        description="weight of the angle between the last states, which must be equally wide",
    )
    init: Literal["base", "teacher_layers"] = Field(
        default="base",
        description="where the model begins: as the base is; teacher_layers: with the teacher's "
        "embeddings and head and, of two, four … times as many layers, every second, fourth …",
    )

    _loaded: Any = PrivateAttr(default=None)
    _computed: Any = PrivateAttr(default=None)
    _per_hidden: float = PrivateAttr(default=1.0)

    def check_base(self, config: Mapping[str, Any], kind: str, tokenizer: Any) -> None:
        """Raise `RecipeError` where the teacher cannot teach this base."""
        from warmstart.models.architectures import width_of

        super().check_base(config, kind, tokenizer)
        width, theirs = width_of(config), width_of(self._described(tokenizer))
        if width != theirs and (self.cosine_weight or self.init == "teacher_layers"):
            raise RecipeError(
                f"objective.teacher: its states are {theirs} wide and those of the base {width}; "
                "make the base as wide (--hidden_size), or give objective.cosine_weight = 0 and no "
                "objective.init"
            )

    def _described(self, tokenizer: Any) -> Mapping[str, Any]:
        """The teacher's config; no weight is read. Raises `RecipeError` where it splits texts in
        another way than `tokenizer`, or was saved without its head."""
        from warmstart.models.base import resolve
        from warmstart.models.checks import read_json
        from warmstart.models.loading import PROBES, load_tokenizer

        if not self.teacher:
            raise RecipeError("objective distill needs a teacher: --objective.teacher BASE")
        base = resolve(self.teacher)
        own: Any = load_tokenizer(base)
        pairs = zip(*([t.encode(p, add_special_tokens=True) for p in PROBES]
                      for t in (own, tokenizer)), strict=True)  # fmt: skip
        if own.get_vocab() != tokenizer.get_vocab() or any(a != b for a, b in pairs):
            raise RecipeError(
                f"objective.teacher: {shown(self.teacher)} has another tokenizer than the base, so "
                "that its probabilities are of other tokens; begin with its own: "
                "--architecture … --tokenizer and the teacher's name"
            )
        config = read_json(base.path / "config.json")
        saved = [str(name) for name in config.get("architectures") or ()]
        if saved and not any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in saved):
            raise RecipeError(self._headless(f"it was saved as {saved[0]}"))
        return config

    def _headless(self, reason: str) -> str:
        return (f"objective.teacher: {shown(self.teacher)} has no masked-language head ({reason}); "
                "take a model that was pretrained by mlm")  # fmt: skip

    def _model(self) -> Any:
        """The teacher under its own head, frozen. Raises `RecipeError` where it has none."""
        from warmstart.models.base import resolve
        from warmstart.models.loading import load_language

        if self._loaded is None:
            base, fresh = resolve(self.teacher), set[str]()
            self._loaded = load_language(base, self.auto, 0, fresh).requires_grad_(False)
            if fresh:
                raise RecipeError(self._headless(f"'{min(fresh)}' is missing"))
        return self._loaded

    def build_model(self, task: Any, base: Any, labels: Sequence[str], seed: int) -> Any:
        """The base under a masked-language head, as it is or with layers of the teacher."""
        model = super().build_model(task, base, labels, seed)
        if self.init == "teacher_layers":
            copy_layers(model, self._model())
        return model

    def setup(self, session: Setting) -> None:
        """Learn how many tokens stand for a hidden one, so that three means add up."""
        super().setup(session)
        length = session.mean_length
        self._per_hidden = length / max(1.0, self.share * (length - 2))

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """As for masked language modelling; it counts all tokens, padding aside."""
        batch = super().collate(dataset, rows, rng)
        return replace(batch, weight=batch.inputs["lengths"].sum().float())

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """Soft targets (KL · T²) and angles, means of all tokens; and the mean loss of the hidden
        ones."""
        import torch
        from torch.nn.functional import cosine_similarity

        teacher, ids = self._forward(model), batch.inputs["ids"]
        with torch.no_grad():
            theirs = teacher.hidden(batch)
        ours, chosen = model.hidden(batch), batch.inputs["chosen"]
        columns = torch.arange(ids.shape[1], device=ids.device)
        real = columns < batch.inputs["lengths"][:, None]
        predictions = self.predictions(model.vocabulary(ours[chosen][None]), batch)
        hard = self.nll(predictions) * self._per_hidden
        soft = self._divergence(model, teacher, ours[real], theirs[real])
        angle = ours.new_zeros((), dtype=torch.float32)
        if self.cosine_weight:
            angle = (1 - cosine_similarity(ours[real].float(), theirs[real].float(), -1)).sum()
        total = self.soft_weight * soft + self.mlm_weight * hard + self.cosine_weight * angle
        metrics = {"mlm_loss": hard, "soft_loss": soft, "cosine_loss": angle}
        return Loss(total, batch.weight, {name: part.detach() for name, part in metrics.items()})

    def _forward(self, model: Forward) -> Forward:
        """How the teacher computes: as the model does."""
        if self._computed is None:
            from warmstart.models.fast.forward import forward_for

            self._computed = forward_for(self._model())
            self._computed.prepare(model.dtype, model.device, checkpointing=False)
            self._computed.training = False
        return self._computed

    def _divergence(self, model: Forward, teacher: Forward, ours: Tensor, theirs: Tensor) -> Tensor:
        """The summed divergence of the tokens' probabilities, times the square of the temperature,
        for states [T, H]; where there are many, their logits are made in parts, and made again for
        the gradient."""
        import torch
        from torch.utils.checkpoint import checkpoint

        if not self.soft_weight:
            return ours.new_zeros((), dtype=torch.float32)

        def of_part(own: Tensor, other: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = (teacher.vocabulary(other[None])[0] / self.temperature).log_softmax(-1)
            guess = (model.vocabulary(own[None])[0] / self.temperature).log_softmax(-1)
            return (wanted.exp() * (wanted - guess)).sum() * self.temperature**2

        size = max(1, LOGITS // int(model.model.config.vocab_size))
        if len(ours) <= size:
            return of_part(ours, theirs)
        parts = zip(ours.split(size), theirs.split(size), strict=True)
        sums: list[Any] = [checkpoint(of_part, *part, use_reentrant=False) for part in parts]
        return torch.stack(sums).sum()


def copy_layers(model: Any, teacher: Any) -> None:
    """Give a model the embeddings and the head of a teacher of the same width and, evenly taken, as
    many of its layers as it has. Raises `RecipeError` where the parts differ.

    A layer of BERT, RoBERTa or DistilBERT has the same parts in the same order, whatever they are
    called. DistilBERT has no token types: what all tokens add of them goes to the positions.
    """
    import torch

    from warmstart.models.architectures import layers_of

    ours, theirs = layers_of(model), layers_of(teacher)
    if len(ours) > len(theirs):
        raise RecipeError(
            f"objective.init = teacher_layers: the base has {len(ours)} layers and the teacher "
            f"{len(theirs)}; give --layers {len(theirs)} or fewer"
        )
    pairs = [(layer, theirs[i * len(theirs) // len(ours)]) for i, layer in enumerate(ours)]
    with torch.no_grad():
        for layer, source in pairs:
            _copy(list(layer.parameters()), list(source.parameters()))
        own = dict(model.base_model.embeddings.named_parameters())
        other = dict(teacher.base_model.embeddings.named_parameters())
        _copy(list(own.values()), [other[name] for name in own if name in other])
        types = other.get("token_type_embeddings.weight")
        if types is not None and "token_type_embeddings.weight" not in own:
            own["position_embeddings.weight"] += types[0]
        heads = [sorted(_beside_body(m), key=lambda p: tuple(p.shape)) for m in (model, teacher)]
        _copy(*heads)


def _beside_body(model: Any) -> list[nn.Parameter]:
    """The weights of the head alone."""
    body = {id(parameter) for parameter in model.base_model.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in body]


def _copy(ours: Sequence[nn.Parameter], theirs: Sequence[nn.Parameter]) -> None:
    shapes = [[tuple(p.shape) for p in side] for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        other = next((pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]), None)
        raise RecipeError(
            "objective.init = teacher_layers: the parts of the base and of the teacher differ"
            + (f", as in {other[0]} and {other[1]}" if other else "")
            + "; take the architecture of the teacher, or distilbert for a BERT"
        )
    for own, other in zip(ours, theirs, strict=True):
        own.copy_(other)
