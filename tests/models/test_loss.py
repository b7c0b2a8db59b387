"""The loss over a large vocabulary in chunks, against that of the whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from warmstart.models.fast import loss as chunked
from warmstart.models.fast.loss import (
    Unprojected,
    chunked_cross_entropy,
    score_targets,
    summed_divergence,
)

ROWS, LENGTH, WIDTH, WORDS = 3, 7, 8, 50


def case(*, bias: bool = False) -> tuple[Unprojected, Tensor]:
    made = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, LENGTH, WIDTH, generator=made, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, generator=made, requires_grad=True)
    targets = torch.randint(0, WORDS, (ROWS, LENGTH), generator=made)
    targets[1, 3:] = -100
    targets[2] = -100
    shift = torch.randn(WORDS, generator=made) if bias else None
    return Unprojected(hidden, weight, shift), targets


def whole(outputs: Unprojected, targets: Tensor, smoothing: float) -> Tensor:
    return cross_entropy(
        outputs.logits().flatten(0, 1), targets.flatten(), label_smoothing=smoothing,
        reduction="sum",
    )  # fmt: skip


@pytest.fixture(params=[1, 5 * WORDS, 1 << 20], ids=["token", "five", "all"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_the_whole(smoothing: float, bias: bool) -> None:
    outputs, targets = case(bias=bias)
    leaves = [outputs.hidden, outputs.weight]
    expected = whole(outputs, targets, smoothing)
    wanted = torch.autograd.grad(expected / 3, leaves)
    found = chunked_cross_entropy(outputs, targets, smoothing)
    got = torch.autograd.grad(found / 3, leaves)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_no_more_logits_than_a_chunk_are_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", 4 * WORDS)
    sizes: list[int] = []
    loss = chunked._loss

    def spy(logits: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(logits))
        return loss(logits, *rest)

    monkeypatch.setattr(chunked, "_loss", spy)
    outputs, targets = case()
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chunked_cross_entropy(outputs, targets)
    assert sizes == [4, 4, 2], "ten targets, four at once"
    assert max(kept) <= max(outputs.hidden.numel(), outputs.weight.numel())


def test_a_frozen_matrix_gets_no_gradient() -> None:
    outputs, targets = case()
    still = Unprojected(outputs.hidden, outputs.weight.detach())
    chunked_cross_entropy(still, targets).backward()
    assert outputs.hidden.grad is not None and outputs.weight.grad is None


def test_under_autocast_it_is_as_exact_as_the_whole() -> None:
    outputs, targets = case()
    exact = whole(outputs, targets, 0.0).item()
    with torch.autocast("cpu", torch.bfloat16):
        found = chunked_cross_entropy(outputs, targets)
        rounded = whole(outputs, targets, 0.0).item()
    found.backward()
    assert outputs.weight.grad is not None and outputs.weight.grad.dtype == torch.float32
    assert abs(found.item() - exact) <= abs(rounded - exact) + 0.01 * exact


@pytest.mark.usefixtures("_chunks")
def test_scores_of_each_target() -> None:
    outputs, targets = case(bias=True)
    real = targets != -100
    scores = score_targets(outputs.at(real), targets[real])
    logits = outputs.logits()[real].detach()
    torch.testing.assert_close(scores.nll, cross_entropy(logits, targets[real], reduction="none"))
    assert scores.is_top.tolist() == (logits.argmax(-1) == targets[real]).tolist()
    again = score_targets(logits, targets[real])
    torch.testing.assert_close(again.nll, scores.nll)


def test_nothing_to_learn_is_a_loss_of_nothing() -> None:
    outputs, targets = case()
    found = chunked_cross_entropy(outputs, torch.full_like(targets, -100))
    found.backward()
    assert found.item() == 0.0
    assert outputs.weight.grad is not None and not outputs.weight.grad.any()


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_of_a_teacher_and_its_gradient_are_those_of_the_whole(
    temperature: float,
) -> None:
    ours, _ = case(bias=True)
    ours = Unprojected(ours.hidden.flatten(0, 1), ours.weight, ours.bias)
    made = torch.Generator().manual_seed(1)
    theirs = Unprojected(torch.randn(ROWS * LENGTH, WIDTH, generator=made),
                         torch.randn(WORDS + 3, WIDTH, generator=made))  # fmt: skip
    own = ours.logits() / temperature
    other = theirs.logits()[:, :WORDS] / temperature  # without the rows behind the tokens
    p, q = other.softmax(-1), own.softmax(-1)
    wanted = (p * (p.log() - q.log())).sum()
    inputs = [ours.hidden, ours.weight]
    slopes = torch.autograd.grad(wanted, inputs)
    total = summed_divergence(ours, theirs, temperature)
    assert torch.allclose(total, wanted, rtol=1e-5)
    for slope, seen in zip(slopes, torch.autograd.grad(total, inputs), strict=True):
        assert torch.allclose(slope, seen, atol=1e-5)
    logits = summed_divergence(ours.logits(), theirs.logits(), temperature)
    assert torch.allclose(logits, wanted, rtol=1e-5)
    assert summed_divergence(ours, ours, temperature).item() == pytest.approx(0, abs=1e-4)
