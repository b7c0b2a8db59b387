"""What holds for every objective that needs no labels, on the families that it trains."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import CPU, base_of
from pretraining import Tiny, tiny_base
from warmstart import part as parts
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import BaseModelError, RecipeError
from warmstart.models.forward import Forward
from warmstart.models.loading import load_language
from warmstart.objectives.clm import CLM
from warmstart.pipelines.pretrain.request import OBJECTIVES
from warmstart.training.batches import BatchSource
from warmstart.training.loop import compute_gradients
from warmstart.training.optimizer import Optimizer
from warmstart.training.settings import Train

CASES = [
    ("bert", "mlm", {}),
    ("roberta", "mlm", {"unit": "span"}),
    ("bert", "nsp", {}),
    ("albert", "sop", {}),
    ("electra", "replaced_token", {}),
    ("gpt2", "clm", {}),
    ("llama", "clm", {}),
    ("t5", "span_corruption", {}),
    ("bart", "denoising", {}),
    ("pegasus", "gap_sentences", {}),
    ("xlnet", "permutation", {}),
]
IDS = [f"{objective}-{architecture}" for architecture, objective, _ in CASES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def it(request: Any, folder: Path) -> Tiny:
    architecture, objective, settings = request.param
    return Tiny(architecture, folder, objective, **settings)


def unequal(it: Tiny) -> np.ndarray:
    """Four rows of very unequal length."""
    order = np.argsort(it.store.lengths, kind="stable")
    return order[np.linspace(0, len(order) - 1, 4).astype(int)]


def gradients(it: Tiny, batches: list[Any]) -> tuple[float, dict[str, torch.Tensor]]:
    it.forward.after_step()
    it.forward.begin_epoch(0)
    it.forward.begin_step(0)
    mean, _, _ = compute_gradients(it.objective, it.forward, batches)
    own = {name: p.grad.clone() for name, p in it.model.named_parameters() if p.grad is not None}
    return float(mean), own


def test_one_batch_of_four_is_four_batches_of_one(it: Tiny) -> None:
    """Trap 19: parts with unequally many targets have the gradient of the whole, and the same
    tokens are hidden in them."""
    rows = unequal(it)
    whole, theirs = gradients(it, [it.batch(rows)])
    parts, ours = gradients(it, [it.batch([row]) for row in rows])
    weights = [float(it.batch([row]).weight) for row in rows]
    assert len(set(weights)) > 1, "unequal numbers of targets"
    assert parts == pytest.approx(whole, rel=1e-5)
    assert ours.keys() == theirs.keys() and len(ours) > 10
    scale = max(float(g.abs().max()) for g in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6 * max(1.0, scale), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_gradients_are_those_of_the_plain_model_in_every_step(it: Tiny, dtype: Any) -> None:
    """Whatever computes it: what a step leaves behind is in no later gradient. An output matrix
    that is tied to the embeddings writes to rows that no token of the step looked up."""
    rows = [it.batch(unequal(it)), it.batch(np.arange(4)), it.batch(np.arange(4, 9))]
    plain = Forward(it.model)
    expected = list[dict[str, torch.Tensor]]()
    for batch in rows:
        plain.after_step()
        loss = it.objective.loss(plain, batch)
        (loss.total / loss.weight).backward()
        expected.append({name: p.grad for name, p in it.model.named_parameters()
                         if p.grad is not None})  # fmt: skip
    plain.after_step()
    it.forward.prepare(dtype, CPU, checkpointing=False)
    all_ours = [gradients(it, [batch])[1] for batch in rows]
    it.forward.prepare(torch.float32, CPU, checkpointing=False)
    for ours, theirs in zip(all_ours, expected, strict=True):
        largest = max(float(g.norm()) for g in theirs.values())
        for name, gradient in theirs.items():
            if dtype == torch.float32:
                torch.testing.assert_close(ours[name], gradient, atol=1e-5 * largest, rtol=1e-3)
            elif gradient.norm() > 0.01 * largest:
                cosine = torch.cosine_similarity(ours[name].flatten(), gradient.flatten(), 0)
                assert float(cosine) > 0.97, name


def test_the_validation_loss_is_that_of_any_batch_size(it: Tiny, monkeypatch: Any) -> None:
    """Trap 22: and what is said of each window too."""
    source = BatchSource(it.rows, it.objective, Train(batch_size=4))
    losses, rows = list[float](), list[np.ndarray]()
    for size in (1, 8, 16):
        order = np.array_split(np.arange(len(it.rows)), -(-len(it.rows) // size))
        monkeypatch.setattr(it.rows, "ordered", lambda _, order=order: order)
        output = source.evaluate(it.forward)
        losses.append(output.figures["loss"])
        rows.append(output.outputs.nll)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    for nll in rows[1:]:
        np.testing.assert_allclose(nll, rows[0], rtol=1e-4, atol=1e-4)


def test_padding_counts_nothing(it: Tiny) -> None:
    """A row says the same beside a longer one, and no target is padding."""
    order = np.argsort(it.store.lengths, kind="stable")
    short, long = int(order[0]), int(order[-1])
    assert it.store.lengths[short] < it.store.lengths[long]
    batch, both = it.batch([short]), it.batch([short, long])
    assert float(both.weight) == float(batch.weight) + float(it.batch([long]).weight)
    with it.forward.evaluating():
        alone = it.objective.predictions(it.forward.forward(batch), batch)
        beside = it.objective.predictions(it.forward.forward(both), both)
    own = beside.rows == 0
    assert torch.equal(beside.targets[own], alone.targets)
    assert not (beside.targets == it.tokenizer.pad_token_id).any()
    torch.testing.assert_close(logits(beside)[own], logits(alone), atol=1e-5, rtol=1e-4)


def logits(predictions: Any) -> torch.Tensor:
    outputs = predictions.outputs
    return (outputs if isinstance(outputs, torch.Tensor) else outputs.logits()).detach()


SECOND = "The song described every café. The garden rebuilt every letter!"


@pytest.mark.parametrize(("architecture", "objective", "settings"), CASES, ids=IDS)
def test_documents_do_not_see_each_other(
    architecture: str, objective: str, settings: dict[str, Any], folder: Path
) -> None:
    """Trap 14: another first document changes nothing that is said of the second one."""
    seen = list[tuple[torch.Tensor, torch.Tensor]]()
    for first in ("The river forgot every winter.", "Again slowly isn't it? never-ending 3.14!"):
        it = Tiny(architecture, folder, objective, texts=[first, SECOND], longest=60, **settings)
        assert len(it.rows) == 2
        batches = (it.batch([0, 1], seed) for seed in range(20))
        # a row of nsp whose second part is its own: else it is made of both, by its nature
        batch = next(b for b in batches if objective != "nsp" or not b.inputs["pairs"][1])
        with it.forward.evaluating():
            answers = it.objective.predictions(it.forward.forward(batch), batch)
        own = answers.rows == 1
        assert own.any()
        seen.append((answers.targets[own], logits(answers)[own]))
    assert torch.equal(seen[0][0], seen[1][0])
    torch.testing.assert_close(seen[0][1], seen[1][1], atol=1e-5, rtol=1e-4)


def test_nothing_but_real_tokens_is_read(it: Tiny) -> None:
    batch = it.batch(unequal(it))
    targets = batch.targets[batch.targets != IGNORE_INDEX]
    assert int(targets.min()) >= 0 and int(targets.max()) < len(it.tokenizer)


def test_a_fresh_head_is_trained_alone_first(folder: Path) -> None:
    """Of a base that brings a body alone; the rest stands still, and then moves."""
    it = Tiny("roberta", folder, "mlm", head_steps=2)
    assert "begins with fresh weights and is trained alone for 2 steps" in it.objective.attached(
        it.model
    )
    optimizer = Optimizer(
        it.model, Train(learning_rate=1e-2), 4, param_groups=it.objective.param_groups(it.model, 4)
    )
    it.forward.prepare(torch.float32, CPU, checkpointing=False)
    moved = list[set[str]]()
    for step in range(4):
        before = {name: p.detach().clone() for name, p in it.model.named_parameters()}
        it.forward.begin_step(step)
        compute_gradients(it.objective, it.forward, [it.batch(np.arange(8), step)])
        optimizer.step(step)
        it.forward.after_step()
        moved.append({n for n, p in it.model.named_parameters() if not torch.equal(p, before[n])})
    assert moved[0] == moved[1] and all(name.startswith("lm_head.") for name in moved[0])
    assert len(moved[0]) == 5 and len(moved[2]) > 20 and moved[2] == moved[3]
    assert [len(it.objective.param_groups(it.model, steps)) for steps in (4, 100)] == [1, 1]
    usual = it.objective.model_copy(update={"head_steps": None})
    assert usual.param_groups(it.model, 200)[0].wait_steps == 10
    it.model.requires_grad_(False)
    with pytest.raises(RecipeError, match="brings no head.*take method full"):
        it.objective.attached(it.model)


def test_a_whole_base_waits_for_nothing(folder: Path) -> None:
    it = Tiny("gpt2", folder, "clm")
    assert not it.objective.attached(it.model) and not it.objective.param_groups(it.model, 100)


@pytest.mark.parametrize("architecture", ["t5", "bart", "bert"])
def test_a_body_with_a_hole_is_no_base(architecture: str, folder: Path, tmp_path: Path) -> None:
    """What a checkpoint lacks of the body is never begun anew in silence."""
    from safetensors.torch import load_file, save_file

    whole = tiny_base(architecture, folder)
    shutil.copytree(whole, tmp_path / "base")
    tensors = load_file(whole / "model.safetensors")
    lost = next(name for name in sorted(tensors) if ".1." in name and name.endswith(".weight"))
    del tensors[lost]
    save_file(tensors, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    aim: Any = parts.make("objective", OBJECTIVES.get(architecture, "mlm"), {}).model_copy()
    with pytest.raises(BaseModelError, match="is not a whole"):
        load_language(replace(base_of(whole), path=tmp_path / "base"), aim.auto, 0)


def test_z_loss_is_that_of_palm_and_a_step_without_targets_is_no_nan(it: Tiny) -> None:
    """Beside the loss of each token so many times (log Z)²; with the gradient that autograd gives
    to whole logits, also where they are made in parts."""
    aim, batch = it.objective, it.batch(unequal(it))
    heavier = aim.model_copy(update={"z_loss": 0.25})
    with it.forward.evaluating():
        at = aim.predictions(it.forward.forward(batch), batch)
        whole = at.outputs if isinstance(at.outputs, torch.Tensor) else at.outputs.logits()
        extra = 0.25 * float(whole.float().logsumexp(-1).square().sum())
        plain, more = (one.nll(at) for one in (aim, heavier))
    assert float(more - plain) == pytest.approx(extra, rel=1e-4)
    if not isinstance(at.outputs, torch.Tensor):
        hidden = at.outputs.hidden.detach().requires_grad_(True)
        ours = replace(at, outputs=replace(at.outputs, hidden=hidden))
        (slope,) = torch.autograd.grad(heavier.nll(ours), hidden)
        theirs = replace(at, outputs=ours.outputs.logits())
        (wanted,) = torch.autograd.grad(heavier.nll(theirs), hidden)
        assert torch.allclose(slope, wanted, atol=1e-5)
    nothing = replace(batch, weight=torch.zeros(()), targets=torch.full_like(batch.targets, -100))
    if isinstance(aim, CLM):
        it.model.zero_grad(set_to_none=True)
        mean, _, _ = compute_gradients(aim, it.forward, [nothing])
        grads = [p.grad for p in it.model.parameters() if p.grad is not None]
        assert float(mean) == 0 and all(not g.any() for g in grads)
