"""Distillation of a task: a small model learns to answer as a large one that was trained for it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.tokens.batching import ordered, pad
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import RecipeError, shown
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.supervised import Supervised, span

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.forward import Batch, Forward

WRITTEN = ("text2text", "summarization", "translation", "chat")
"""Tasks whose answers are texts that people have written."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What the teacher says of a split.

    Args:
        store: the tokens that it read.
        outputs: [n, K], or [tokens, K] of a head that reads every token, or vectors [n, texts, H].
        states: its last hidden states [tokens, H], float16, where they are learned.
        by_token: whether outputs stand beside tokens.
    """

    store: TokenizedDataset
    outputs: np.ndarray
    states: np.ndarray | None
    by_token: bool

    def about(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The outputs, and the states, for the rows of a batch, padded as it is."""
        rows, states = batch.rows, None
        outputs = self._padded(batch, self.outputs) if self.by_token else self.outputs[rows]
        if self.states is not None:
            states = self._sent(self._padded(batch, self.states), batch)
        return self._sent(outputs, batch), states

    def _padded(self, batch: Batch, values: np.ndarray) -> np.ndarray:
        """Of values beside the tokens those of the batch's rows [B, L, K]; 0 behind them."""
        wide = np.zeros((*batch.inputs["ids"].shape, values.shape[-1]), np.float32)
        for place, row in enumerate(batch.rows):
            own = values[self.store.offsets[row] : self.store.offsets[row + 1]]
            wide[place, : len(own)] = own
        return wide

    def _sent(self, values: np.ndarray, batch: Batch) -> Tensor:
        import torch

        return torch.from_numpy(values).to(batch.weight.device)


class TaskDistill(Supervised):
    """Distillation on the rows of a task (Hinton et al. 2015): beside the labels the model learns
    from a teacher's probabilities at a temperature, and to point its last hidden states the same
    way (Sanh et al. 2019). The teacher answers every row once, before the first step; where texts
    are written, it says beside the model how likely each token of the answer is."""

    tasks: ClassVar[frozenset[str] | None] = frozenset(
        {"classification", "multilabel", "regression", "pairs", "tagging", "extractive_qa",
         "embedding", "few_shot", "reward", *WRITTEN}
    )  # fmt: skip

    teacher: str = Field(
        default="", description="a run or a model folder that was trained for the same task"
    )
    temperature: float = Field(
        default=2.0, gt=0, description="divides both models' logits: the higher, the softer"
    )
    soft_weight: float = Field(
        default=1.0, ge=0, description="weight of the divergence from the teacher's probabilities"
    )
    hard_weight: float = Field(
        default=0.5, ge=0, description="weight of the loss of the labels; vectors have none"
    )
    hidden_weight: float | None = Field(
        default=None,
        ge=0,
        description="weight of the angle between the last hidden states; unset: 1, or 0 where they "
        "are not equally wide or texts are split in another way",
    )
    keep_head: bool = Field(
        default=False, description="the base is a model of this task and begins with its own head"
    )
    keep_zeros: bool = Field(
        default=False, description="weights of the layers that are 0 at the beginning stay 0"
    )

    _lessons: Any = PrivateAttr(default=None)
    """Split → `Lesson`."""
    _stores: Any = PrivateAttr(default=None)
    _masks: Any = PrivateAttr(default=())
    _teacher: Any = PrivateAttr(default=None)
    """How the teacher computes, where texts are written."""

    @property
    def heads(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The heads that it can train."""
        return super().heads | {"vector", "reward"}

    @property
    def asks_teacher(self) -> bool:
        """Whether anything but the labels is learned."""
        return self.soft_weight > 0 or self.hidden_weight != 0

    def build_model(self, task: Any, base: Any, labels: Sequence[str], seed: int) -> Any:
        """The base under the task's head, fresh or its own, with numbers in the unit that is
        learned."""
        if not self.keep_head:
            return super().build_model(task, base, labels, seed)
        from warmstart.models.head_layers import rescale
        from warmstart.models.saved import saved_model

        model = saved_model(base.path)
        spread = getattr(task, "spread", None)
        if spread is not None:
            rescale(model, -task.mean / spread, 1 / spread)
        return model

    def setup(self, session: Setting) -> None:
        """Have the teacher answer the rows. Raises `RecipeError` where it cannot teach them."""
        if not self.asks_teacher and not session.head.gives_vectors:
            super().setup(session)
            self._masks = masks_of(session.model) if self.keep_zeros else ()
            return
        if not self.teacher:
            raise RecipeError(
                "objective task_distill needs a teacher: --objective.teacher RUN, a run or model "
                "folder of the same task"
            )
        prepared = session.prepared
        if prepared.method.caches_features or prepared.method.cut(session.model):
            raise RecipeError(
                f"method {prepared.method.part_name()} computes the states of the body once, and "
                "distillation compares them as they move; take full or lora"
            )
        super().setup(session)
        if self.keep_zeros:
            self._masks = masks_of(session.model)
        teacher = session.opened(Path(self.teacher))
        self._check(teacher, session)
        weight = self._hidden_weight(teacher, session)
        object.__setattr__(self, "hidden_weight", weight)  # of this run's copy
        if session.head.generates:
            self._teacher = teacher.runner.forward
            self._teacher.prepare(session.forward.dtype, session.device, checkpointing=False)
            self._teacher.training = False
            return
        names = ("train", "validation")
        self._stores = {name: cast("Any", session).datasets[name].targets for name in names}
        self._lessons = {name: self._lesson(teacher, session, name) for name in names}

    def _check(self, teacher: Any, session: Setting) -> None:
        """Raise `RecipeError` unless the teacher gives what the model is to learn."""
        task = session.prepared.task
        if teacher.task.head != task.head:
            raise RecipeError(
                f"objective.teacher: {shown(self.teacher)} was trained for "
                f"{teacher.task.part_name()}, and this is {task.part_name()}; give one of the same "
                "task"
            )
        if task.head.labelled and {*teacher.labels} != {*session.labels}:
            strange = sorted({*teacher.labels} ^ {*session.labels})
            raise RecipeError(
                f"objective.teacher: {shown(self.teacher)} knows other labels (such as "
                f"'{shown(strange[0])}'); give one that was trained with the labels of these rows"
            )
        if task.head.reads in ("tokens", "body", "vocabulary") and not _same_split(
            teacher, session
        ):
            raise RecipeError(
                f"objective.teacher: {shown(self.teacher)} splits texts in another way than the "
                "base, and answers token by token; give one with the same tokenizer"
            )

    def _hidden_weight(self, teacher: Any, session: Setting) -> float:
        from warmstart.models.architectures import width_of
        from warmstart.models.head_layers import unwrap

        widths = [width_of(unwrap(model).config) for model in (teacher.runner.model, session.model)]
        can = widths[0] == widths[1] and _same_split(teacher, session)
        if session.head.gives_vectors:
            return 0.0  # the vectors are the states
        if self.hidden_weight and not can:
            raise RecipeError(
                f"objective.hidden_weight: the teacher's states are {widths[0]} wide and those of "
                f"the model {widths[1]}, or texts are split in another way; leave it out"
            )
        return float(can) if self.hidden_weight is None else self.hidden_weight

    def _lesson(self, teacher: Any, session: Setting, name: str) -> Lesson:
        examples = session.prepared.examples[name]
        store = examples.store
        if not _same_split(teacher, session):
            columns = [c for c in examples.table.column_names
                       if c in teacher.task.inputs or c[0] == "_"]  # fmt: skip
            store = teacher.task.encode(examples.table.select(columns), teacher.labels,
                                        teacher.tokenizer, teacher.task.max_length)  # fmt: skip
        outputs = np.asarray(teacher.compute(store), np.float32)
        head, task = session.head, session.prepared.task
        if head.labelled and head.problem_type != "regression":
            places = [teacher.labels.index(label) for label in session.labels]
            outputs = outputs[..., places]
        elif head.problem_type == "regression":
            offset = getattr(teacher.task, "offset", None) or 0.0
            mean, spread = getattr(task, "mean", None) or 0.0, getattr(task, "spread", None) or 1.0
            outputs = (outputs + offset - mean) / spread
        states = _states(teacher, store, session) if self.hidden_weight and len(store) else None
        return Lesson(store, outputs.astype(np.float32), states, head.per_token)

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The batch with what the teacher says of it."""
        batch = super().collate(dataset, rows, rng)
        if self._lessons is None:
            return batch
        own = getattr(dataset, "targets", None)
        own = cast("Any", dataset).dataset.targets if own is None else own
        name = next(name for name, targets in self._stores.items() if targets is own)
        return replace(batch, task=name)  # the name of what is learned: here of the split

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """Sums of what each row (or labelled token) has lost, by its weight each."""
        import torch

        from warmstart.models.fast.forward import with_states

        for weights, mask in self._masks:
            weights.data.mul_(mask)
        if self._masks:
            model.refresh()
        if self._teacher is None and self._lessons is None:
            return super().loss(model, batch)
        if self._head.generates:
            return self._loss_of_texts(model, batch)
        theirs, their_states = self._lessons[batch.task].about(batch)
        if self._head.gives_vectors:
            vectors: Any = model.forward(batch)
            apart = 1 - torch.cosine_similarity(vectors, theirs, -1)
            total = apart.mean(1).sum()
            return Loss(total, batch.weight, {"soft_loss": total.detach()})
        states = None
        if their_states is not None:
            outputs, states = with_states(model, batch)
        else:
            outputs = model.forward(batch)
        logits, targets = cast("Tensor", outputs), batch.targets
        lengths = batch.inputs["lengths"]
        if self._head.over_tokens:
            hard = span(logits, targets, self.label_smoothing, lengths)
        else:
            hard = self.total(logits, targets)
        soft = self.divergence(logits, theirs, targets, lengths)
        total = self.soft_weight * soft + self.hard_weight * hard
        metrics = {"hard_loss": hard.detach(), "soft_loss": soft.detach()}
        if states is not None and their_states is not None:
            angle = self._angle(states, their_states, targets, lengths)
            total = total + (self.hidden_weight or 0.0) * angle
            metrics["hidden_loss"] = angle.detach()
        return Loss(total, batch.weight, metrics)

    def _loss_of_texts(self, model: Forward, batch: Batch) -> Loss:
        """The same at each token of the answers, after the true ones before it; the hidden states
        are those that the output matrices read."""
        import torch
        from torch import Tensor

        from warmstart.models.fast.loss import summed_divergence

        outputs, places = model.forward(batch), batch.targets != IGNORE_INDEX
        with torch.no_grad():
            theirs: Any = self._teacher.forward(batch)
        hard = self.total(outputs, batch.targets)
        ours, theirs = (own[places] if isinstance(own, Tensor) else own.at(places)
                        for own in (cast("Any", outputs), theirs))  # fmt: skip
        soft = self.temperature**2 * summed_divergence(ours, theirs, self.temperature)
        total = self.soft_weight * soft + self.hard_weight * hard
        metrics = {"hard_loss": hard.detach(), "soft_loss": soft.detach()}
        if self.hidden_weight and not isinstance(ours, Tensor) and not isinstance(theirs, Tensor):
            alike = torch.cosine_similarity(ours.hidden.float(), theirs.hidden.float(), -1)
            angle = (1 - alike).sum()
            total, metrics["hidden_loss"] = total + self.hidden_weight * angle, angle.detach()
        return Loss(total, batch.weight, metrics)

    def divergence(
        self, logits: Tensor, theirs: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """The summed KL divergence of the teacher's probabilities from the model's, both at the
        temperature T, times T² (so that its gradient keeps its size; Hinton et al. 2015).

        Args:
            logits, theirs: of the model and the teacher: classes [B, K]; labels [B, K], a mean over
                the labels; numbers [B, 1], whose squared distance it is; classes of tokens
                [B, L, K], where there is a target; first and last tokens [B, L, 2] of `lengths`
                [B], half of the sum of both.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

        if self._head.problem_type == "regression":
            return (logits - theirs).square().sum()
        square, ours, theirs = self.temperature**2, logits / self.temperature, theirs / (
            self.temperature
        )  # fmt: skip
        if self._head.activation == "sigmoid":
            wanted = theirs.sigmoid()
            lost = binary_cross_entropy_with_logits(ours, wanted, reduction="sum")
            least = binary_cross_entropy_with_logits(theirs, wanted, reduction="sum")
            return square * (lost - least) / logits.shape[1]
        if self._head.over_tokens:
            taught = (targets != IGNORE_INDEX).any(1)
            real = torch.arange(ours.shape[1], device=ours.device) < lengths[:, None]
            gone = ~real[..., None]
            ours, theirs = (v.masked_fill(gone, -1e9)[taught].log_softmax(1)
                            for v in (ours, theirs))  # fmt: skip
            return square * kl_div(ours, theirs, reduction="sum", log_target=True) / 2
        if self._head.per_token:
            labelled = targets != IGNORE_INDEX
            ours, theirs = ours[labelled], theirs[labelled]
        ours, theirs = ours.log_softmax(-1), theirs.log_softmax(-1)
        return square * kl_div(ours, theirs, reduction="sum", log_target=True)

    def _angle(self, ours: Tensor, theirs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """1 - cosine of the last hidden states: of each row the mean over its tokens, or that of
        each labelled token."""
        import torch

        apart = 1 - torch.cosine_similarity(ours.float(), theirs, -1)
        if self._head.per_token and not self._head.over_tokens:
            return apart[targets != IGNORE_INDEX].sum()
        real = torch.arange(apart.shape[1], device=apart.device) < lengths[:, None]
        rows = apart.masked_fill(~real, 0.0).sum(1) / lengths.clamp(min=1)
        if self._head.over_tokens:
            rows = rows[(targets != IGNORE_INDEX).any(1)]
        return rows.sum()


def masks_of(model: Any) -> list[tuple[Any, Tensor]]:
    """Each matrix inside the layers that has zeros, and 1 where it has none."""
    from warmstart.models.modules import adapter_targets

    matrices = [model.get_submodule(name).weight for name in adapter_targets(model, "all")]
    masks = [(weights, (weights != 0).to(weights.dtype)) for weights in matrices]
    return [(weights, mask) for weights, mask in masks if not mask.all()]


def _same_split(teacher: Any, session: Setting) -> bool:
    """Whether the teacher reads the very tokens that the model reads."""
    ours, theirs = session.tokenizer, teacher.tokenizer
    alike = ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    length = session.prepared.task.max_length <= teacher.task.max_length
    return length and (alike or _split_alike(ours, theirs, session))


def _split_alike(ours: Any, theirs: Any, session: Setting) -> bool:
    """Whether two tokenizers, which were written down otherwise, give the same ids."""
    if ours.get_vocab() != theirs.get_vocab():
        return False
    task, table = session.prepared.task, session.prepared.examples["train"].table.slice(0, 256)
    pair = [task.encode(table, session.labels, own, task.max_length).ids for own in (ours, theirs)]
    return bool(np.array_equal(*pair))


def _states(teacher: Any, store: TokenizedDataset, session: Setting) -> np.ndarray:
    """The teacher's last hidden states [tokens, H], in a file that is gone with them."""
    import torch

    from warmstart.models.architectures import width_of
    from warmstart.models.head_layers import unwrap

    forward, runner = teacher.runner.forward, teacher.runner
    width = width_of(unwrap(runner.model).config)
    folder = session.prepared.recipe.out
    with tempfile.TemporaryFile(dir=folder) as file:  # it lasts as long as the array
        states: Any = np.memmap(file, np.float16, "w+", shape=(len(store.ids), width))
    forward.training = False
    with torch.no_grad():
        for rows in ordered(store.lengths, runner.batch_tokens):
            columns = max(1, int(store.lengths[rows].max()))
            ids, lengths = pad(store, rows, runner.pad_id, columns)
            types = None
            if store.types is not None:
                types = torch.from_numpy(store.padded(store.types, rows, columns, 0))
                types = types.to(forward.device)
            sent = (torch.from_numpy(values).to(forward.device) for values in (ids, lengths))
            hidden = forward.token_states(*sent, types).float().cpu().numpy()
            for row, value in zip(rows, hidden, strict=True):
                begin, end = store.offsets[row], store.offsets[row + 1]
                states[begin:end] = value[: end - begin]
    return states
