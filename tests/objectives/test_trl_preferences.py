"""Losses and gradients of dpo, kto and reward are those of TRL; planted faults make them differ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from preferences import PAIRS, Aligned, decoder, gap
from warmstart import part as parts
from warmstart.models.fast import pairs as rows_of_pairs
from warmstart.objectives.kto import Kto
from warmstart.objectives.preferences import Pairs

pytestmark = pytest.mark.slow
CLOSE = 1e-5
DPO: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("sigmoid", {}),
    "hinge": ("hinge", {"loss_type": "hinge"}),
    "ipo": ("ipo", {"loss_type": "ipo"}),
    "robust": ("robust", {"loss_type": "robust", "label_smoothing": 0.2}),
    "normalised": ("sigmoid_norm", {"length_normalised": True}),
}
WEIGHTS = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
Result = tuple[float, dict[str, torch.Tensor]]


def padded(texts: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Prompts with answers as TRL collates them, on the right."""
    longest = max(len(p) + len(a) for p, a in texts)
    ids, seen, marks = ([] for _ in range(3))
    for prompt, answer in texts:
        rest = longest - len(prompt) - len(answer)
        ids.append([*prompt, *answer] + [0] * rest)
        seen.append([1] * (longest - rest) + [0] * rest)
        marks.append([0] * len(prompt) + [1] * len(answer) + [0] * rest)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen),
            "completion_mask": torch.tensor(marks)}  # fmt: skip


def trainer(model: Any, reference: Any, **more: Any) -> Any:
    """What a method of TRL's trainer needs of it, every default spelled out."""
    from trl.trainer.utils import add_fused_lm_head

    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
    for own in (model, reference):
        add_fused_lm_head(own, outputs=outputs)
    this = MagicMock()
    own = {
        "beta": 0.1, "label_smoothing": 0.0, "ld_alpha": None, "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5, "loss_weights": [1.0], "use_weighting": False,
        "aux_loss_enabled": False, "precompute_ref_logps": False, "model": model,
        "ref_model": reference, "loss_type": "kto", "calculate_KL": True, "desirable_weight": 1.0,
        "undesirable_weight": 1.0, "_tp_size": 1, "_total_train_tokens": 0,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None,
                                center_rewards_coefficient=None),
    }  # fmt: skip
    for name, value in {**own, **more}.items():
        setattr(this, name, value)
    this.accelerator.device = torch.device("cpu")
    this.accelerator.gather = this.accelerator.gather_for_metrics = lambda values: values
    this.accelerator.unwrap_model = lambda own: own
    return this


def graded(model: Any, loss: torch.Tensor) -> Result:
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters()}


def dpo_of_trl(loss_type: str, smoothing: float) -> Result:
    from trl.trainer.dpo_trainer import DPOTrainer

    model, reference = decoder(), decoder(1)
    this = trainer(model, reference, loss_types=[loss_type], label_smoothing=smoothing)
    texts = [(p, c) for p, c, _ in PAIRS] + [(p, r) for p, _, r in PAIRS]
    inputs: Any = padded([([*p], [*a]) for p, a in texts])
    return graded(model, DPOTrainer._compute_loss(this, model, inputs, False))


def kto_of_trl() -> Result:
    """The mismatched answers are those of the next row, as ours are."""
    from trl.trainer.kto_trainer import KTOTrainer

    model, reference = decoder(1), decoder(2)
    this = trainer(model, reference, **WEIGHTS)
    this._compute_kl_logps = lambda *args: KTOTrainer._compute_kl_logps(this, *args)
    nexts = [*PAIRS[1:], PAIRS[0]]
    texts = [(p, c) for p, c, _ in PAIRS] + [(p, r) for p, _, r in PAIRS]
    others = [(p, c) for (p, *_), (_, c, _) in zip(PAIRS, nexts, strict=True)]
    others += [(p, r) for (p, *_), (_, _, r) in zip(PAIRS, nexts, strict=True)]
    inputs: Any = padded([([*p], [*a]) for p, a in texts])
    inputs |= {f"KL_{k}": v for k, v in padded([([*p], [*a]) for p, a in others]).items()}
    inputs["label"] = torch.tensor([True] * 4 + [False] * 4)
    return graded(model, KTOTrainer._compute_loss(this, model, inputs, False))


def ours(name: str, **settings: Any) -> Result:
    it = Aligned(name, decoder(), reference=decoder(1), beta=0.1, **settings)
    return it.step()[:2]


def our_kto() -> Result:
    """From where the model has gone away from the reference: z is above 0."""
    it = Aligned("kto", decoder(1), reference=decoder(2), beta=0.1, **WEIGHTS)
    return it.step()[:2]


def apart(a: Result, b: Result) -> float:
    """The largest difference of the losses and of the gradients; infinite where it is none."""
    worst = max(abs(a[0] - b[0]), gap(a[1], b[1]))
    return worst if worst == worst else float("inf")


@pytest.mark.parametrize("name", DPO)
def test_dpo_is_that_of_trl(name: str) -> None:
    theirs, settings = DPO[name]
    wanted = dpo_of_trl(theirs, settings.get("label_smoothing", 0.0))
    assert apart(ours("dpo", **settings), wanted) < CLOSE


def test_kto_is_that_of_trl() -> None:
    assert apart(our_kto(), kto_of_trl()) < CLOSE


@pytest.mark.parametrize(("center", "margin"), [(None, None), (0.01, None), (None, 0.5)])
def test_reward_is_that_of_trl(center: float | None, margin: float | None) -> None:
    from transformers import LlamaForSequenceClassification
    from trl.trainer.reward_trainer import RewardTrainer

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(copy.deepcopy(decoder().config))
    model.config.num_labels = 1
    model.score = torch.nn.Linear(32, 1, bias=False)
    model.num_labels = 1
    texts = [([*p], [*c]) for p, c, _ in PAIRS] + [([*p], [*r]) for p, _, r in PAIRS]
    inputs: Any = padded(texts)
    inputs.pop("completion_mask")
    this = MagicMock()
    this.args = SimpleNamespace(center_rewards_coefficient=center)
    this._total_train_tokens, this._tp_size = 0, 1
    this.accelerator.gather = this.accelerator.gather_for_metrics = lambda values: values
    margins = {} if margin is None else {"margin": torch.full((4,), margin)}
    theirs = graded(model, RewardTrainer.compute_loss(this, model, {**inputs, **margins}))
    model.zero_grad()
    objective: Any = parts.make("objective", "reward", {"center": center or 0.0})
    chosen, rejected = model(**inputs).logits.view(2, -1)
    targets = margins.get("margin", torch.full((4,), -100))
    mine = graded(model, objective.cost(chosen, rejected, targets).mean())
    assert apart(mine, theirs) < CLOSE


# Planted faults: each has to be noticed by the comparison.


def sign(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = Pairs.ratios.fget  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(Pairs, "ratios", property(lambda self: -ratios(self)))


def shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token by what stands at its own place."""
    whole = rows_of_pairs.pair_inputs

    def late(*args: Any, **more: Any) -> Any:
        inputs = whole(*args, **more)
        return {**inputs, "place": (inputs["place"] + 1) % inputs["ids"].shape[1]}

    monkeypatch.setattr("warmstart.training.pairs.pair_inputs", late)


def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Kto.distance
    monkeypatch.setattr(Kto, "distance", lambda self, pairs: 2 * once(self, pairs))


def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is the model itself."""
    monkeypatch.setattr(
        "warmstart.objectives.preferences.PreferenceObjective.pairs",
        lambda self, policy, batch: Pairs(policy, policy.detach(), batch.inputs["sizes"].float()),
    )


def masked_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reference that is no number, times 0, leaves in the sum."""
    own = Pairs.ratios.fget  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(Pairs, "ratios", property(lambda self: own(self) + float("nan") * 0))


@pytest.mark.parametrize("plant", [sign, shift, forgotten, masked_nan])
def test_a_fault_in_dpo_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dpo_of_trl("sigmoid", 0.0)
    plant(monkeypatch)
    assert apart(ours("dpo"), wanted) > 100 * CLOSE


@pytest.mark.parametrize("plant", [sign, shift, doubled, masked_nan])
def test_a_fault_in_kto_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = kto_of_trl()
    plant(monkeypatch)
    assert apart(our_kto(), wanted) > 100 * CLOSE


def test_what_stands_in_padding_is_never_read() -> None:
    """Trap 32: not even multiplied by 0."""
    it = Aligned("dpo", decoder(), reference=decoder(1))
    batch = it.batches()[0]
    columns = torch.arange(batch.inputs["ids"].shape[1])
    padding = columns[None] >= batch.inputs["lengths"][:, None]
    assert padding.any()
    with torch.no_grad():
        kept = float(it.objective.loss(it.forward, batch).total)
        batch.inputs["ids"][padding] = 39
        assert float(it.objective.loss(it.forward, batch).total) == pytest.approx(kept, abs=1e-6)
