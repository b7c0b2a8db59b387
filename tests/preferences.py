"""What the tests of preference share: a tiny decoder, prompts with two answers, and what an
objective sees of a session."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from warmstart import part as parts
from warmstart.data.tokens.dataset import TokenizedDataset, store_of
from warmstart.models.forward import Forward
from warmstart.objectives.preferences import PreferenceObjective
from warmstart.training.loop import compute_gradients
from warmstart.training.pairs import PairRows

CPU = torch.device("cpu")
VOCABULARY = 40
PAIRS = (
    ((5, 6, 7), (13, 14, 2), (15, 2)),
    ((8, 9, 10, 11, 12), (16, 17, 18, 19, 2), (20, 2)),
    ((5, 9), (21, 2), (22, 23, 24, 2)),
    ((30,), (25, 2), (26, 27, 2)),
)
"""A prompt, the chosen answer and the rejected one; 2 is the end."""


def decoder(seed: int = 0, **settings: Any) -> Any:
    """A random Llama of two layers in float32, with weights large enough to have opinions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=64, max_position_embeddings=64, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, initializer_range=0.15, **settings,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def store(pairs: Sequence[Any] = PAIRS) -> TokenizedDataset:
    """The pairs as a task encodes them."""
    backend: Any = SimpleNamespace(get_vocab_size=lambda **_: VOCABULARY)
    columns = [*zip(*pairs, strict=True)] or [(), (), ()]
    prompts, chosen, rejected = (store_of(texts, backend) for texts in columns)
    return replace(prompts, answers=replace(chosen, answers=rejected))


class Aligned:
    """A model under an objective that has asked its reference: the model itself before the first
    step, unless another one is given."""

    def __init__(
        self, name: str, model: Any, pairs: Sequence[Any] = PAIRS, reference: Any = None,
        folder: Path | None = None, sha: str = "base", **settings: Any,
    ) -> None:  # fmt: skip
        self.objective: PreferenceObjective = parts.make("objective", name, settings).model_copy()  # pyright: ignore[reportAttributeAccessIssue]
        self.model, self.forward = model, Forward(model)
        asked = self.forward if reference is None else Forward(reference)
        base = SimpleNamespace(sha256=sha)
        recipe = SimpleNamespace(out=None if folder is None else str(folder))
        self.session: Any = SimpleNamespace(
            model=model, forward=asked, device=CPU, datasets={"train": store(pairs), "validation":
            store(pairs[:0])}, prepared=SimpleNamespace(base=base, recipe=recipe),
        )  # fmt: skip
        self.session.rows = lambda name: self.rows_of(self.session.datasets[name])
        self.objective.setup(self.session)
        self.forward.without_dropout()

    def rows_of(self, dataset: TokenizedDataset) -> PairRows:
        return PairRows(dataset, self.forward, 0, whole_steps=self.objective.whole_steps)

    @property
    def rows(self) -> PairRows:
        return self.rows_of(self.session.datasets["train"])

    def batches(self, *parts: Sequence[int]) -> list[Any]:
        """Micro-batches of these rows; all rows where none are named."""
        rng = np.random.default_rng(0)
        wanted = parts or (range(len(self.rows)),)
        return [self.objective.collate(self.rows, np.array([*part]), rng) for part in wanted]

    def step(self, *parts: Sequence[int]) -> tuple[float, dict[str, torch.Tensor], dict[str, Any]]:
        """Loss, gradients and metrics of a step in these parts."""
        self.forward.after_step()
        self.forward.training = True
        loss, _, metrics = compute_gradients(self.objective, self.forward, self.batches(*parts))
        grads = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        return float(loss), grads, {name: float(value) for name, value in metrics.items()}

    def learn(self, steps: int, rate: float = 1e-2) -> list[float]:
        """The losses of so many steps over all rows."""
        optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], rate)
        losses: list[float] = []
        for _ in range(steps):
            losses.append(self.step()[0])
            optimizer.step()
        return losses


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of gradients."""
    assert a.keys() == b.keys() and a
    return max(float((a[name] - b[name]).abs().max()) for name in a)


GOOD, BAD = ("great", "good", "fine", "nice"), ("bad", "awful", "poor", "never")
THINGS = "film movie song book service food".split()


def write_pairs(path: Path, n: int = 60, seed: int = 0) -> Path:
    """Pairs of which the chosen answer has a good word, in the words of `tiny`."""
    rng = random.Random(seed)
    rows: list[str] = []
    for number in range(n):
        thing, other = THINGS[number % 6], THINGS[number // 6 % 6]
        answers = [f"it was {rng.choice(words)} {rng.choice(THINGS)} {'.' * (1 + k)}"
                   for k, words in enumerate((GOOD, BAD))]  # fmt: skip
        prompt = f"the {thing} {other} was {'red' if number < 36 else 'blue'} ?"
        rows.append(json.dumps({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
