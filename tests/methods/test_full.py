"""Learning rates by layer, and layers that begin to move later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import FAST, SLOW, classifier, fit, weights_of
from warmstart.methods.full import Full
from warmstart.models.architectures import layers_of
from warmstart.models.modules import parameters_by_depth
from warmstart.training.loop import Step
from warmstart.training.progress import Interrupted
from warmstart.training.trainer import Fit
from warmstart.types import Listener

Folder = Callable[[str], Path]


def paced(folder: Path, out: Path, method: Full, **settings: Any) -> Fit:
    model = method.attach(classifier(folder), 0)
    run = fit(folder, out, model=model, rows=16, **settings)
    return replace(run, param_groups=method.param_groups(model))


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_from_the_top_down(family: str, tiny_of: Folder) -> None:
    """Head, blocks from the last to the first, embeddings: every weight once."""
    model = classifier(tiny_of(family))
    groups, blocks = parameters_by_depth(model), layers_of(model)
    assert len(groups) == len(blocks) + 2 and all(groups)
    flat = [id(p) for group in groups for p in group]
    assert sorted(flat) == sorted(id(p) for p in model.parameters())
    for block, group in zip(reversed(blocks), groups[1:-1], strict=True):
        more = {id(p) for p in group} - {id(p) for p in block.parameters()}
        assert len(more) <= (2 if family in ("t5", "bart") else 0)  # an encoder's final norm
    assert any(p is model.get_input_embeddings().weight for p in groups[-1])
    names = {id(p): n for n, p in model.named_parameters()}
    for p in groups[-1]:
        assert any(w in names[id(p)] for w in ("emb", "wte", "wpe", "shared", "mask_emb")), names[
            id(p)
        ]


def test_each_layer_moves_less_than_the_one_above(tiny_of: Folder, tmp_path: Path) -> None:
    """Adam's first step has the size of the learning rate, whatever the gradient."""
    run = paced(
        tiny_of("bert"), tmp_path, Full(layer_decay=0.5), epochs=1, batch_size=16, warmup=0.0,
        weight_decay=0.0, schedule="constant", learning_rate=1e-3, fast=False,
    )  # fmt: skip
    groups = parameters_by_depth(run.model)  # pyright: ignore[reportArgumentType]
    before = [[p.detach().clone() for p in group] for group in groups]
    run.run()
    for depth, (group, old) in enumerate(zip(groups, before, strict=True)):
        moved = max(float((p - q).detach().abs().max()) for p, q in zip(group, old, strict=True))
        assert moved == pytest.approx(1e-3 * 0.5**depth, rel=1e-2)


class Watch(Listener):
    def __init__(self) -> None:
        self.run: Any = None
        self.moved: list[list[bool]] = []
        self.old: list[list[torch.Tensor]] = []

    def begin(self) -> None:
        self.groups = parameters_by_depth(self.run.model)
        self.old = [[p.detach().clone() for p in group] for group in self.groups]

    def step(self, step: Step, total: int) -> None:
        now = [
            any(not torch.equal(p, q) for p, q in zip(group, old, strict=True))
            for group, old in zip(self.groups, self.old, strict=True)
        ]
        self.moved.append(now)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_layers_begin_to_move_one_after_another(
    optimizer: str, fast: bool, tiny_of: Folder, tmp_path: Path
) -> None:
    watch = Watch()
    run = paced(
        tiny_of("bert"), tmp_path, Full(unfreeze_every=1), epochs=5, batch_size=8, fast=fast,
        optimizer=optimizer, listeners=[watch],
    )  # fmt: skip
    watch.run = run
    watch.begin()
    run.run()
    assert len(watch.moved) == 10  # two steps an epoch; head, two blocks, embeddings
    for index, moved in enumerate(watch.moved):
        assert moved == [depth <= index // 2 for depth in range(4)]


def test_without_paces_nothing_changes(tiny_of: Folder, tmp_path: Path) -> None:
    runs = [
        paced(tiny_of("bert"), tmp_path / str(i), method, epochs=2, batch_size=8)
        for i, method in enumerate([Full(), Full(layer_decay=1.0)])
    ]
    assert Full().param_groups(runs[0].model) == []  # pyright: ignore[reportArgumentType]
    for run in runs:
        run.run()
    one, other = (weights_of(run.model) for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


class Stop(Listener):
    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: Step, total: int) -> None:
        if step.index == self.at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_resumed_bit_for_bit(at: int, tiny_of: Folder, tmp_path: Path) -> None:
    """Also across an epoch in which another layer begins to move."""
    method = Full(unfreeze_every=1, layer_decay=0.7)
    keys: dict[str, Any] = {"epochs": 5, "batch_size": 8, "keep": "last"}
    whole = paced(tiny_of("bert"), tmp_path / "whole", method, **keys)
    whole.run()
    out = tmp_path / "parts"
    with pytest.raises(Interrupted):
        paced(tiny_of("bert"), out, method, listeners=[Stop(at)], **keys).run()
    again = paced(tiny_of("bert"), out, method, **keys)
    again.run(resume=True)
    one, other = weights_of(whole.model), weights_of(again.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
