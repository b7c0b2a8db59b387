"""Losses and gradients of GRPO and its kin are those of TRL; a planted fault makes them differ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from rl import ANSWERS, LIMIT, PROMPTS, decoder, session, written
from warmstart.objectives import grpo as ours
from warmstart.objectives.grpo import GRPO
from warmstart.objectives.reinforcement.rollouts import Rollouts
from warmstart.training.loop import compute_gradients

pytestmark = pytest.mark.slow
BETA, TEMPERATURE = 0.04, 0.7
PLAIN: dict[str, Any] = {
    "num_generations": 2, "temperature": TEMPERATURE, "clip": 0.2, "clip_high": 0.2,
    "kl_loss": BETA, "kl_reward": 0.0, "kl_estimator": "k3", "mask_clipped": False,
    "loss_type": "grpo", "ratio": "token", "advantage": "group", "scale": "group",
    "drop_dead_groups": False, "steps_per_generation": 1, "iterations": 1,
}  # fmt: skip
RLOO: dict[str, Any] = {
    "ratio": "trajectory", "advantage": "leave_one_out", "scale": "none", "kl_loss": 0.0,
    "kl_reward": BETA, "kl_estimator": "k1",
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dapo": {"loss_type": "dapo", "clip_high": 0.28, "kl_loss": 0.0, "kl_estimator": None},
    "dr_grpo": {"loss_type": "dr_grpo", "scale": "none"},
    "gspo": {"ratio": "sequence", "clip": 0.03, "clip_high": 0.04},
    "rloo": RLOO,
}
Result = tuple[float, dict[str, torch.Tensor]]


def mine(model: Any, settings: dict[str, Any], micro: int = 4) -> tuple[Result, Rollouts]:
    """Our loss, its gradients, and the answers that it is of, in parts of so many answers."""
    objective = GRPO(**{**PLAIN, **settings})
    own = session(model)
    objective.setup(own)
    rollouts = written(objective, model)
    parts = np.array_split(np.arange(4), 4 // micro)
    batches = [objective.batch(rollouts, part) for part in parts]
    for batch in batches:
        batch.inputs.update(share=1.0, fresh=False)  # pyright: ignore[reportAttributeAccessIssue]
    own.forward.after_step()
    loss, _, _ = compute_gradients(objective, own.forward, batches)
    return (float(loss), {n: p.grad.clone() for n, p in model.named_parameters()}), rollouts


def theirs(model: Any, settings: dict[str, Any], rollouts: Rollouts) -> Result:
    """TRL's loss of the same answers, every default spelled out, and its gradients."""
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer
    from trl.trainer.utils import add_fused_lm_head

    model = copy.deepcopy(model)
    wanted = {**PLAIN, **settings}
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    trainer: Any = RLOOTrainer if wanted["ratio"] == "trajectory" else GRPOTrainer
    args = SimpleNamespace(
        use_bias_correction_kl=False, delta=None, steps_per_generation=1, report_to=[]
    )
    this = MagicMock()
    own = {
        "aux_loss_enabled": False, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None,
        "beta": wanted["kl_loss"], "epsilon_low": wanted["clip"], "args": args, "model": model,
        "epsilon_high": wanted["clip_high"], "loss_type": wanted["loss_type"], "use_vllm": False,
        "importance_sampling_level": wanted["ratio"], "max_completion_length": LIMIT,
        "current_gradient_accumulation_steps": 1, "_entropy_bonus_enabled": False,
    }  # fmt: skip
    for name, value in own.items():
        setattr(this, name, value)
    this.accelerator.num_processes = 1
    this.accelerator.reduce = lambda values, reduction: values
    this.accelerator.gather = lambda values: values
    this.accelerator.autocast = Nothing
    this._get_per_token_logps_and_entropies = lambda *a, **k: (
        trainer._get_per_token_logps_and_entropies(this, *a, **k)
    )
    inputs = _padded(rollouts, wanted)
    model.train()
    loss = trainer._compute_loss(this, model, inputs)
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in model.named_parameters()}


class Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def _padded(rollouts: Rollouts, wanted: dict[str, Any]) -> dict[str, torch.Tensor]:
    """As TRL has it: prompts padded on the left, answers on the right."""
    longest, most = max(map(len, PROMPTS)), max(map(len, ANSWERS))
    prompts, answers, marks, seen = ([] for _ in range(4))
    tokens: dict[str, list[Any]] = {"old": [], "reference": []}
    for number, answer in enumerate(ANSWERS):
        prompt = PROMPTS[number // 2]
        prompts.append([0] * (longest - len(prompt)) + list(prompt))
        seen.append([0] * (longest - len(prompt)) + [1] * len(prompt))
        answers.append([*answer] + [0] * (most - len(answer)))
        marks.append([1] * len(answer) + [0] * (most - len(answer)))
        for name, rows in tokens.items():
            own = rollouts.tokens[name][rollouts.offsets[number] : rollouts.offsets[number + 1]]
            rows.append([*own.tolist()] + [0.0] * (most - len(answer)))
    mask, old = torch.tensor(marks), torch.tensor(tokens["old"])
    reference = torch.tensor(tokens["reference"])
    return {
        "prompt_ids": torch.tensor(prompts), "prompt_mask": torch.tensor(seen),
        "completion_ids": torch.tensor(answers), "completion_mask": mask,
        "advantages": _advantages(rollouts, wanted, old, reference, mask),
        "old_per_token_logps": old, "ref_per_token_logps": reference,
        "old_logps": (old * mask).sum(1), "num_items_in_batch": mask.sum(),
    }  # fmt: skip


def _advantages(
    rollouts: Rollouts, wanted: dict[str, Any], old: torch.Tensor, reference: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The lines of TRL's `_generate_and_score_completions` that make advantages."""
    rewards = torch.from_numpy(rollouts.answers["reward"]).float()
    if wanted["ratio"] == "trajectory":
        rewards = rewards - wanted["kl_reward"] * ((old - reference) * mask).sum(-1)
        grouped = rewards.view(-1, 2)
        return rewards - ((grouped.sum(1, keepdim=True) - grouped) / (2 - 1)).view(-1)
    mean = rewards.view(-1, 2).mean(1).repeat_interleave(2)
    advantages = rewards - mean
    if wanted["scale"] == "group":
        advantages = advantages / (rewards.view(-1, 2).std(1).repeat_interleave(2) + 1e-4)
    return advantages


def apart(a: Result, b: Result) -> float:
    """The largest difference of the losses and of the gradients."""
    gaps = [float((a[1][name] - b[1][name]).abs().max()) for name in a[1]]
    return max(abs(a[0] - b[0]), *gaps)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("micro", [4, 1])
def test_loss_and_gradients_are_those_of_trl(name: str, micro: int):
    """In one part, and in four of unequal token counts (trap 20)."""
    model = decoder()
    own, rollouts = mine(model, VARIANTS[name], micro)
    other = theirs(model, VARIANTS[name], rollouts)
    assert max(float(g.abs().max()) for g in own[1].values()) > 1e-2
    assert apart(own, other) < 1e-5


FAULTS: dict[str, Callable[[Any], tuple[str, Any]]] = {
    "sign": lambda real: (
        "policy_terms", lambda a, b, c, d, **k: real.policy_terms(a, b, -c, d, **k)
    ),
    "label shift": lambda real: (
        "policy_terms", lambda a, b, c, d, **k: real.policy_terms(a.roll(1, 1), b, c, d, **k)
    ),
    "doubled divergence": lambda real: (
        "kl_estimate", lambda *a: 2 * real.kl_estimate(*a)
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch):
    from warmstart.objectives.reinforcement import policy

    real = SimpleNamespace(policy_terms=policy.policy_terms, kl_estimate=policy.kl_estimate)
    monkeypatch.setattr(ours, *FAULTS[fault](real))
    model = decoder()
    own, rollouts = mine(model, {})
    assert apart(own, theirs(model, {}, rollouts)) > 1e-3
