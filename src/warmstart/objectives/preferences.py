"""What the objectives share that learn from which of two answers people preferred: the
log-probabilities of both, under the model and under the reference, which is the model as it was
before the first step.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from warmstart.errors import RecipeError
from warmstart.formatting import duration
from warmstart.objectives.base import Loss, Setting
from warmstart.objectives.language import LanguageObjective

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward
    from warmstart.types import Listener

REFERENCE = "reference.safetensors"
"""The file of a run with the log-probabilities of the reference."""
SAMPLES, SAMPLE_TOKENS = 4, 48
"""Prompts of the test rows that are answered for the report, and tokens of an answer."""
TIMED, WORTH_SAYING = 8, 20.0
"""Rows by which the evaluation's length is foretold; seconds from which it is."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The answers of B prompts, the chosen one first, in nats.

    Args:
        policy: [B, 2] summed log-probabilities under the model, with their gradient.
        reference: [B, 2] the same under the reference; NaN where there is none.
        sizes: [B, 2] tokens of each answer, float32.
    """

    policy: Tensor
    reference: Tensor
    sizes: Tensor

    @property
    def ratios(self) -> Tensor:
        """The log of how much likelier the model finds each answer than the reference, [B, 2]."""
        return self.policy - self.reference

    @property
    def means(self) -> Tensor:
        """Mean log-probability of a token of each answer under the model, [B, 2]."""
        return self.policy / self.sizes


class PreferenceObjective(LanguageObjective):
    """Learns from pairs of answers. A subclass says what a pair costs (`cost`)."""

    auto: ClassVar[str] = "AutoModelForCausalLM"
    kinds: ClassVar[frozenset[str]] = frozenset({"decoder"})
    tasks: ClassVar[frozenset[str] | None] = frozenset({"preference"})
    aligns: ClassVar[bool] = True
    head_steps: ClassVar[int | None] = None  # pyright: ignore[reportIncompatibleVariableOverride]
    whole_steps: ClassVar[bool] = False
    """Whether the loss of a row needs all others of its step."""

    _session: Any = PrivateAttr(default=None)

    @property
    def refers(self) -> bool:
        """Whether the loss knows how likely the reference finds the answers."""
        return True

    def check_family(self, config: Mapping[str, Any], kind: str) -> None:
        """Raise `RecipeError` for a base that does not write behind a prompt."""
        if kind not in self.kinds:
            raise RecipeError(
                f"objective {self.part_name()} trains a decoder, and '{config.get('model_type')}' "
                f"is an {kind}; take --base smollm2, or --objective reward, which rates answers"
            )

    def setup(self, session: Setting) -> None:
        """Ask the reference, where there is one, and compute without dropout from here on: by it
        the model would differ from the reference before it has learned anything."""
        prepared = getattr(session, "prepared", None)
        if prepared is None:  # of a saved model, which only answers
            return
        self._session = session
        if not self.refers:
            return
        session.forward.without_dropout()
        datasets: Any = getattr(session, "datasets", None)
        for name, targets in self.kept(session, prepared).items():
            datasets[name] = self.with_reference(datasets[name], targets)

    def listen(self, listeners: Sequence[Listener]) -> None:
        """And say how long the evaluation will take."""
        super().listen(listeners)
        seconds = _afterwards(self._session) if self._session else 0.0
        if seconds > WORTH_SAYING:
            self.tell(
                "judging the test pairs after training, under this model and the one before it, "
                f"takes about {duration(seconds)} (less with --evaluate.baselines false)"
            )

    def kept(self, session: Any, prepared: Any) -> Mapping[str, np.ndarray]:
        """By split what the reference says of its rows [n, K], out of the run's folder where it was
        written for this base, these rows and this way of computing."""
        from safetensors.numpy import save_file

        from warmstart.files import write_atomically

        names = [name for name in ("train", "validation") if len(session.datasets[name])]
        key = self._key(session, prepared, names)
        folder = Path(prepared.recipe.out) if prepared.recipe.out else None
        path = folder / REFERENCE if folder is not None and folder.is_dir() else None
        if path is not None and (known := _read(path, key)):
            return known
        computed = self._computed(session, names)
        if path is not None:
            with write_atomically(path) as part:
                save_file(computed, part, metadata={"key": key})
        return computed

    def _computed(self, session: Any, names: list[str]) -> dict[str, np.ndarray]:
        """Asked of the model itself, which no step has moved yet, unless virtual tokens that are
        not trained yet stand before its input."""
        from warmstart.models.peft.prompts import is_prompted

        forward = session.reference() if is_prompted(session.model) else session.forward
        return {name: self.of_reference(session.rows(name), forward) for name in names}

    def of_reference(self, rows: Any, forward: Forward) -> np.ndarray:
        """What the reference says of the rows, float32 [n, K]."""
        return -rows.predict(forward).nll.astype(np.float32)

    def with_reference(self, dataset: Any, targets: np.ndarray) -> Any:
        """The dataset with what the reference says of its rows."""
        from dataclasses import replace

        return replace(dataset, targets=targets)

    def _key(self, session: Any, prepared: Any, names: list[str]) -> str:
        """A digest of the weights, the template (by the ids that it writes), the rows and the
        type."""
        digest = hashlib.sha256(prepared.base.sha256.encode())
        digest.update(f"{type(self).__name__} {session.forward.dtype}".encode())
        for name in names:
            text = session.datasets[name]
            while text is not None:
                digest.update(np.ascontiguousarray(text.ids).tobytes() + text.offsets.tobytes())
                text = text.answers
        return digest.hexdigest()

    def loss(self, model: Forward, batch: Batch) -> Loss:
        policy: Any = model.forward(batch)
        pairs = self.pairs(policy, batch)
        costs = self.cost(pairs)
        figures = {
            "chosen": pairs.policy[:, 0].sum(),
            "rejected": pairs.policy[:, 1].sum(),
            **{name: value.sum() for name, value in self.shown(pairs).items()},
        }
        times = batch.weight / len(batch.rows)  # figures are means of a pair, whatever it weighs
        figures = {name: times * value.detach() for name, value in figures.items()}
        return Loss(costs.sum(), batch.weight, figures)

    def pairs(self, policy: Tensor, batch: Batch) -> Pairs:
        """The log-probabilities [B, 2] of a batch beside those of the reference."""
        sizes = batch.inputs["sizes"].to(policy.dtype)
        reference = batch.targets
        if not reference.is_floating_point():
            reference = policy.new_full(policy.shape, float("nan"))
        return Pairs(policy, reference[:, :2], sizes)

    def judged(self, session: Any, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the model before training says of the test rows, how far this one has gone from it
        (see `PairRows.beside`), and what both write (`samples`)."""
        import torch

        if not session.prepared.recipe.evaluate.baselines:
            return {}
        before = session.reference(torch.float32)
        rows = session.rows("test", last=True)
        texts = _samples(rows, session.tokenizer, before, session.forward)
        return {**rows.beside(session.forward, before), "samples": texts}

    def cost(self, pairs: Pairs) -> Tensor:
        """The loss of each pair [B]."""
        raise NotImplementedError

    def shown(self, pairs: Pairs) -> Mapping[str, Tensor]:
        """What the log shows beside the loss, of each pair [B]: by how much the chosen answer's
        reward is the higher one (`margin`), and whether it is (`preferred`, ties half)."""
        margins = self.rewards(pairs)
        gaps = margins[:, 0] - margins[:, 1]
        return {"margin": gaps, "preferred": (gaps.sign() + 1) / 2}

    def rewards(self, pairs: Pairs) -> Tensor:
        """The reward that the model gives each answer by its likelihood [B, 2]."""
        raise NotImplementedError


def _afterwards(session: Any) -> float:
    """About how many seconds the test rows take after training, in float32, by the clock of a few:
    under the trained model, then under it and the one before, with all logits of both."""
    rows = session.rows("test", last=True)
    if not len(rows):
        return 0.0
    few = rows.collate(rows.ordered(1)[0][:TIMED])
    with session.forward.evaluating():
        begun = time.perf_counter()
        session.forward.forward(few)
        seconds = (time.perf_counter() - begun) / len(few.rows)
    slower = 1 if session.forward.dtype.itemsize == 4 else 2
    times = 4 if session.prepared.recipe.evaluate.baselines else 1
    return seconds * slower * len(rows) * times


def _samples(rows: Any, tokenizer: Any, *models: Forward) -> list[list[str]]:
    """What models write to a few of the prompts, the likeliest token each time: the prompt and one
    text a model."""
    from warmstart.models.sampling import Sampling, generate

    chosen = np.unique(np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int))
    prompts = [rows.dataset.row(int(row)).tolist() for row in chosen]
    greedy = Sampling(max_new_tokens=SAMPLE_TOKENS, temperature=0.0)
    columns = [tokenizer.batch_decode(prompts, skip_special_tokens=True)]
    for model in models:
        written = [completion.ids for completion in generate(model, prompts, greedy)]
        columns.append(tokenizer.batch_decode(written, skip_special_tokens=True))
    return [list(row) for row in zip(*columns, strict=True)]


def _read(path: Path, key: str) -> Mapping[str, np.ndarray] | None:
    """What was written with this key; None where it was another one, or nothing can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
