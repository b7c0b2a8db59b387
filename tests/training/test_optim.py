"""Schedules, decay groups, clipping, and both optimizers against torch's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from learning import FAST, SLOW, classifier, fit, weights_of
from warmstart.errors import RecipeError
from warmstart.training.optimizer import Optimizer, rate_at, split_parameters
from warmstart.training.settings import Train

Folder = Callable[[str], Path]
PLAIN: dict[str, Any] = {
    "optimizer": "adamw", "learning_rate": 1e-2, "weight_decay": 0.1, "total": 20, "warmup": 0.1,
    "schedule": "linear", "max_grad_norm": 1.0,
}  # fmt: skip


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)
    )


def optimizer_of(model: Any, **keys: Any) -> Optimizer:
    """The inner linear layer is hidden, the last one is the head."""
    return built(model, **{**PLAIN, "hidden": [model[2].weight], **keys})


def built(model: Any, *, total: int, **keys: Any) -> Optimizer:
    own = {key: keys.pop(key) for key in ("hidden", "param_groups", "epoch_starts") if key in keys}
    return Optimizer(model, Train(**keys), total, **own)


def pull(model: nn.Module, step: int, factor: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 20, (16, 5), generator=generator)
    targets = torch.randint(0, 3, (16,), generator=generator)
    model.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(model(ids).mean(1), targets)
    (loss * factor).backward()
    return loss.detach()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.06])
def test_schedule(schedule: str, warmup: float) -> None:
    """Rises evenly to 1, then falls towards 0 as torch's own schedules do."""
    rates = [rate_at(step, 100, Train(warmup=warmup, schedule=schedule)) for step in range(100)]
    rising = round(warmup * 100)
    assert rates[:rising] == pytest.approx([(i + 1) / rising for i in range(rising)])
    rest = 100 - rising
    expected = {
        "linear": [1 - i / rest for i in range(rest)],
        "cosine": [(1 + math.cos(math.pi * i / rest)) / 2 for i in range(rest)],
        "constant": [1.0] * rest,
    }[schedule]
    assert rates[rising:] == pytest.approx(expected)
    assert all(0 < rate <= 1 for rate in rates)


def test_a_single_step_has_a_rate() -> None:
    assert rate_at(0, 1, Train()) == 1.0
    assert rate_at(0, 1, Train(warmup=0.9, schedule="cosine")) == 1.0


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_norms_biases_and_embeddings_are_spared(family: str, tiny_of: Folder) -> None:
    model = classifier(tiny_of(family))
    decayed, rest = split_parameters(model)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {id(p) for p in decayed + rest} == set(names)
    assert len(decayed) + len(rest) == len(names)
    for weights in decayed:
        name = names[id(weights)]
        assert weights.ndim >= 2, name
        assert not any(w in name for w in ("norm", "embeddings.", "wte", "wpe", "shared")), name
        assert not name.endswith("bias"), name
    for weights in rest:
        name = names[id(weights)]
        assert weights.ndim == 1 or any(
            w in name.lower() for w in ("norm", "embed", "wte", "wpe", "shared", "bias")
        ), name


def test_frozen_weights_are_no_parameters() -> None:
    model = net()
    model[0].requires_grad_(False)
    decayed, rest = split_parameters(model)
    assert len(decayed) + len(rest) == 6
    with pytest.raises(RecipeError, match="nothing to train"):
        built(model.requires_grad_(False), **PLAIN)


def torchs(model: Any, name: str) -> list[torch.optim.Optimizer]:
    """The optimizers that somebody would write down for `net`."""
    matrices = [model[2].weight, model[4].weight]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    if name == "adamw":
        decayed = {"params": matrices, "weight_decay": 0.1}
        return [torch.optim.AdamW([decayed, {"params": others, "weight_decay": 0.0}], lr=1e-2)]
    muon = torch.optim.Muon(matrices[:1], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    decayed = {"params": matrices[1:], "weight_decay": 0.1}
    return [muon, torch.optim.AdamW([decayed, {"params": others, "weight_decay": 0.0}], lr=1e-2)]


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("clip", "factor"), [(1.0, 1.0), (1.0, 50.0), (0.0, 50.0), (1e-3, 1.0)])
def test_a_plain_torch_loop(name: str, schedule: str, clip: float, factor: float) -> None:
    """clip_grad_norm_, LambdaLR and torch's own optimizers do the same; 0 never clips."""
    model = net()
    twin = copy.deepcopy(model)
    optimizer = optimizer_of(model, optimizer=name, schedule=schedule, max_grad_norm=clip)
    theirs = torchs(twin, name)
    course = [
        torch.optim.lr_scheduler.LambdaLR(
            o, lambda s: rate_at(s, 20, Train(warmup=0.1, schedule=schedule))
        )
        for o in theirs
    ]
    clipped = 0
    for step in range(20):
        pull(model, step, factor)
        pull(twin, step, factor)
        assert course[-1].get_last_lr()[0] == pytest.approx(optimizer.step(step)[0])
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or float("inf"))
        clipped += bool(clip and norm > clip)
        for part in (*theirs, *course):
            part.step()
    # AdamW alone hardly feels a factor, but for the steps that are clipped and those that are not
    assert clipped == {(1.0, 50.0): 20, (0.0, 50.0): 0, (1e-3, 1.0): 20}.get(
        (clip, factor), clipped
    )
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        # Muon's Newton-Schulz steps run in bfloat16, where the last bit of a gradient can count
        near = 1e-5 if name == "adamw" else 1e-3
        torch.testing.assert_close(mine, other, atol=near, rtol=1e-4)


def test_the_norm_is_that_before_clipping() -> None:
    model = net()
    twin = copy.deepcopy(model)
    optimizer = built(model, **{**PLAIN, "max_grad_norm": 1e-3})
    pull(model, 0)
    pull(twin, 0)
    expected = nn.utils.clip_grad_norm_(twin.parameters(), 1e-3)
    torch.testing.assert_close(optimizer.step(0)[1], expected)
    first = [value for key, value in optimizer.state().items() if key.endswith("exp_avg")]
    norm = torch.stack([moment.norm() for moment in first]).norm() / 0.1  # 1 - beta 1
    torch.testing.assert_close(norm, torch.tensor(1e-3), atol=1e-6, rtol=1e-2)


def test_muon_where_some_weights_get_no_gradient(tiny_of: Folder, tmp_path: Path) -> None:
    """XLNet's segment biases play no part for one segment."""
    run = fit(tiny_of("xlnet"), tmp_path, rows=12, epochs=1, optimizer="muon", max_grad_norm=1e-3)
    run.run()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_is_remembered_comes_back(name: str) -> None:
    """Through its state a fresh optimizer goes on bit for bit; without it, not."""
    model = net()
    optimizer = optimizer_of(model, optimizer=name)
    for step in range(5):
        pull(model, step)
        optimizer.step(step)
    twin, forgetful = copy.deepcopy(model), copy.deepcopy(model)
    again = optimizer_of(twin, optimizer=name)
    again.load_state({key: value.clone() for key, value in optimizer.state().items()})
    empty = optimizer_of(forgetful, optimizer=name)
    for step in range(5, 9):
        for one, opt in ((model, optimizer), (twin, again), (forgetful, empty)):
            pull(one, step)
            opt.step(step)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(model[2].weight, forgetful[2].weight)


def test_muon_moves_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = net()
    optimizer = optimizer_of(model, optimizer="muon")
    before = weights_of(model)
    pull(model, 0)
    optimizer.step(0)
    assert [type(part).__name__ for _, part in optimizer._parts] == ["Muon", "AdamW"]
    muon = [p for group in optimizer._parts[0][1].param_groups for p in group["params"]]
    assert len(muon) == 1
    assert muon[0] is model[2].weight
    for name, weights in model.named_parameters():
        assert not torch.equal(weights, before[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_batch_by_heart(optimizer: str, tiny_of: Folder, tmp_path: Path) -> None:
    run = fit(
        tiny_of("bert"), tmp_path, rows=12, batch_size=12, epochs=100, learning_rate=5e-3,
        optimizer=optimizer, patience=None,
    )  # fmt: skip
    progress = run.run()
    assert progress.history[0]["train_loss"] > 0.9
    assert progress.history[-1]["validation_score"] == 1.0
    assert progress.history[-1]["train_loss"] < 0.1
