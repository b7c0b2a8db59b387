"""What the tests of reinforcement learning share: a tiny decoder, prompts, and answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tiny import tiny_tokenizer
from warmstart.data.tokens.dataset import offsets_of, store_of
from warmstart.models.fast.forward import forward_for
from warmstart.models.forward import Forward
from warmstart.objectives.reinforcement.objective import RolloutObjective
from warmstart.objectives.reinforcement.rollouts import Rollouts

PROMPTS = ((5, 6, 7), (8, 9, 10, 11, 12))
ANSWERS = ((13, 14, 2), (15, 2), (16, 17, 18, 19), (20, 21, 22, 2))
"""Two to each prompt; 2 is the end, so that the third one was cut."""
REWARDS = (1.0, 0.0, 0.25, 2.0)
LIMIT = 4
VOCABULARY = 40


def decoder(seed: int = 0, **settings: Any) -> Any:
    """A random Llama of two layers in float32, with weights large enough to have opinions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=64, max_position_embeddings=64, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, initializer_range=0.15, **settings,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def session(
    model: Any, task: Any = None, rewards: Any = None, reference: Any = None
) -> SimpleNamespace:
    """What an objective sees of a session."""
    tokenizer = tiny_tokenizer("llama")
    forward = forward_for(model)
    forward.training = True
    texts = [f"prompt {n}" for n in range(len(PROMPTS))]
    table = pa.table({"source": texts, "target": ["x"] * len(PROMPTS)})
    task = task or SimpleNamespace(max_new_tokens=LIMIT, verify="exact", pattern=None,
                                   answers_known=False, as_text=lambda t: t["source"],
                                   end_token=lambda tokenizer: tokenizer.eos_token_id)  # fmt: skip
    return SimpleNamespace(
        model=model, forward=forward, device=torch.device("cpu"), pad_id=0, tokenizer=tokenizer,
        datasets={"train": store_of(PROMPTS, tokenizer.backend_tokenizer)},
        prepared=SimpleNamespace(task=task, examples={"train": SimpleNamespace(table=table)}),
        reference=lambda dtype=None: forward_for(reference or model),
        reward_model=rewards,
    )  # fmt: skip


def written(
    objective: RolloutObjective, model: Any, *, drift: float = 0.1, seed: int = 0,
    answers: Sequence[Sequence[int]] = ANSWERS, rewards: Sequence[float] = REWARDS,
    copies: int = 2,
) -> Rollouts:  # fmt: skip
    """The answers above as if they had been written, by a policy that has drifted since."""
    rng = np.random.default_rng(seed)
    lengths = [len(answer) for answer in answers]
    rollouts = Rollouts(
        0, 1, copies, np.repeat(np.arange(len(answers) // copies), copies), offsets_of(lengths),
        {"reward": np.array(rewards), "ended": np.array([answer[-1] == 2 for answer in answers])},
        {"ids": np.concatenate([np.array(answer, np.int64) for answer in answers])},
    )  # fmt: skip
    rollouts.tokens["old"] = np.zeros(sum(lengths), np.float32)
    rollouts.tokens["advantages"] = rollouts.tokens["old"]
    now = objective.scores(forward_for(model), rollouts, 10_000)["log_probs"]
    noise = [rng.normal(0, drift, len(now)).astype(np.float32) for _ in range(2)]
    rollouts.tokens |= {"old": now + noise[0], "reference": now + noise[1]}
    objective.credit(rollouts, 10_000)
    return rollouts


def gradients(forward: Forward) -> dict[str, torch.Tensor]:
    """A copy of what stands at the parameters."""
    return {n: p.grad.clone() for n, p in forward.model.named_parameters() if p.grad is not None}
