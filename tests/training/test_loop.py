"""A step is exact however it is cut, and goes the same way when begun again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from learning import (
    LABELS,
    classifier,
    fit,
    grads_of,
    messages,
    ready,
    source_of,
    store_of,
    supervised,
)
from warmstart.data.sampling import class_weights
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.objectives.base import Loss, Position
from warmstart.training.datasets import TokenRows
from warmstart.training.loop import _mix, compute_gradients, steps

Folder = Callable[[str], Path]


def awake(folder: Path) -> Any:
    """A classifier with larger weights: every matrix gets a gradient that counts."""
    model = classifier(folder)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn(values.shape, generator=generator), alpha=0.1)
    return model


def one_step(
    folder: Path,
    micro_batch_tokens: int,
    *,
    weights: torch.Tensor | None = None,
    fast: bool = True,
    dtype: torch.dtype = torch.float32,
    **objective: Any,
) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Loss, gradient and number of micro-batches of a step over rows of unequal length."""
    compute = ready(awake(folder), dtype, fast=fast)
    store, pad = store_of(folder, *messages(24, seed=6))
    aim = supervised(weights=weights, **objective)
    source = source_of(store, compute, pad, aim)
    parts = source.dataset.micro(np.arange(24), micro_batch_tokens)
    batches = [aim.collate(source.dataset, part, np.random.default_rng(0)) for part in parts]
    loss, weight, _ = compute_gradients(aim, compute, batches)
    torch.testing.assert_close(weight, torch.stack([b.weight for b in batches]).sum())
    assert sum(batch.tokens for batch in batches) == int(store.lengths.sum())
    return loss, grads_of(compute.model), len(batches)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulation_is_exact(
    family: str, weighted: bool, smoothing: float, tiny_of: Folder
) -> None:
    """Parts of unequal size and weight add up to the whole batch."""
    weights = torch.tensor([0.3, 2.0, 1.1]) if weighted else None
    whole, gradient, count = one_step(
        tiny_of(family), 10_000, weights=weights, label_smoothing=smoothing
    )
    assert count == 1
    for tokens, at_least in ((120, 4), (1, 24)):
        loss, parts, count = one_step(
            tiny_of(family), tokens, weights=weights, label_smoothing=smoothing
        )
        assert count >= at_least
        torch.testing.assert_close(loss, whole, atol=1e-6, rtol=1e-6)
        assert parts.keys() == gradient.keys()
        for name in gradient:
            torch.testing.assert_close(parts[name], gradient[name], atol=1e-6, rtol=1e-4, msg=name)


def test_accumulation_in_sixteen_bits(tiny_of: Folder) -> None:
    loss, one, _ = one_step(tiny_of("bert"), 10_000, dtype=torch.bfloat16)
    loss_again, other, count = one_step(tiny_of("bert"), 100, dtype=torch.bfloat16)
    assert count > 3
    torch.testing.assert_close(loss, loss_again, atol=1e-2, rtol=0)
    compared = 0
    for name in one:
        if one[name].ndim == 2 and one[name].norm() > 1e-3:
            cosine = torch.cosine_similarity(one[name].flatten(), other[name].flatten(), dim=0)
            assert cosine > 0.99, name
            assert float(other[name].norm()) == pytest.approx(float(one[name].norm()), rel=0.05)
            compared += 1
    assert compared >= 12


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs(smoothing: float, tiny_of: Folder) -> None:
    """Computed by hand from the slow twin's logits, class weights and all."""
    folder = tiny_of("roberta")
    store, pad = store_of(folder, *messages(24, seed=6))
    weights = torch.tensor(class_weights(np.array([0, 0, 0, 1, 2, 2]), len(LABELS))).float()
    slow = ready(awake(folder), fast=False)
    batch = TokenRows(store, pad, slow.device).collate(np.arange(24))
    logits: Any = slow.forward(batch)
    expected = cross_entropy(logits, batch.targets, weights, label_smoothing=smoothing)
    for fast in (True, False):
        loss, _, _ = one_step(
            tiny_of("roberta"), 100, weights=weights, fast=fast, label_smoothing=smoothing
        )
        torch.testing.assert_close(loss, expected.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("done", [1, 3, 6, 7, 11])
def test_begun_again(family: str, done: int, tiny_of: Folder, tmp_path: Path) -> None:
    """From the weights and the memory after `done` steps, the rest is the same bit for bit."""

    def begin(name: str, **kw: Any) -> Any:
        return fit(tiny_of(family), tmp_path / name, rows=24, batch_size=4, dropout=0.1, **kw)

    whole = begin("whole")
    half = begin("half")

    def go(run: Any, first: int, last: int) -> list[float]:
        losses = []
        for step in steps(
            run.train, run.forward, run.optimizer, run.objective, seed=5,
            done=Position(first, first // 6, first % 6),
        ):  # fmt: skip
            losses.append(float(step.loss))
            assert step.index == first + len(losses)
            assert step.epoch == (1 if step.index <= 6 else 2)
            assert step.ends_epoch == (step.index in (6, 12))
            if step.index == last:
                break
        return losses

    expected = go(whole, 0, 12)
    go(half, 0, done)
    resumed = begin("resumed")
    with torch.no_grad():
        for mine, theirs in zip(resumed.model.parameters(), half.model.parameters(), strict=True):
            mine.copy_(theirs)
    resumed.optimizer.load_state({k: v.clone() for k, v in half.optimizer.state().items()})
    resumed.forward.refresh()
    assert go(resumed, done, 12) == expected[done:]
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_step_whose_rows_have_no_target_is_left_out(tiny_of: Folder, tmp_path: Path) -> None:
    """Its loss is 0 and not 0 / 0, and the weights stay where they are."""
    run: Any = fit(tiny_of("bert"), tmp_path / "run", rows=8, batch_size=4)
    collate = run.objective.collate

    def nothing(dataset: Any, rows: Any, rng: Any) -> Any:
        batch = collate(dataset, rows, rng)
        return replace(batch, targets=torch.full_like(batch.targets, IGNORE_INDEX),
                       weight=torch.tensor(0.0))  # fmt: skip

    run.objective = SimpleNamespace(
        collate=nothing,
        skips=run.objective.skips,
        steps=run.objective.steps,
        loss=lambda model, batch: Loss(model.forward(batch).sum() * 0, batch.weight),
    )
    run.train.objective = run.objective
    before = [parameter.clone() for parameter in run.model.parameters()]
    for step in steps(run.train, run.forward, run.optimizer, run.objective, seed=5,
                      done=Position()):  # fmt: skip
        assert float(step.loss) == 0 and step.skipped == "its rows have no target"
    assert all(map(torch.equal, before, run.model.parameters()))


def test_seeds_are_far_apart() -> None:
    found = {_mix(seed, number) for seed in range(40) for number in range(200)}
    assert len(found) == 8000
    assert all(0 <= value < 2**62 for value in found)
