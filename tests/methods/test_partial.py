"""The top layers alone: what moves, and training on kept states against training on the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, SLOW, classifier, fit, ready, weights_of
from warmstart.errors import RecipeError
from warmstart.methods.partial import Partial
from warmstart.models.architectures import layers_of
from warmstart.training.batches import BatchSource
from warmstart.training.cached_states import HiddenFile, split_states

Folder = Callable[[str], Path]
CUT = (*FAST, "gpt2", "llama", "modernbert")


def run_of(folder: Path, out: Path, *, dropout: float = 0.0, **settings: Any) -> Any:
    model = Partial(layers=1).attach(classifier(folder, dropout=dropout), 0)
    keys: dict[str, Any] = {"rows": 24, "epochs": 3, "learning_rate": 5e-3, "keep": "last"}
    return fit(folder, out, model=model, **keys | settings)


def cut_run(run: Any, folder: Path, **how: Any) -> list[float]:
    rows = {"train": run.train.dataset, "validation": run.validation.dataset}
    with split_states(rows, run.forward, 1, folder / "hidden", **how) as made:
        assert made is not None
        kept = sorted(path.name for path in (folder / "hidden").glob("*"))
        assert kept == (["train", "validation"] if how.get("keep", True) else [])
        run.train, run.validation = (
            BatchSource(made[name], run.objective, run.settings, run.seed) for name in rows
        )
        progress = run.run()
    assert not (folder / "hidden").exists()
    return [row["train_loss"] for row in progress.history]


@pytest.mark.parametrize("family", CUT)
def test_kept_states_train_as_the_whole_model_does(
    family: str, tiny_of: Folder, tmp_path: Path
) -> None:
    """In 32 bits the same losses; in bfloat16 nearly; states that are not kept, the same too."""
    plain = run_of(tiny_of(family), tmp_path / "plain")
    expected = [row["train_loss"] for row in plain.run().history]
    for name, how, near in (
        ("exact", {"dtype": torch.float32}, 1e-5),
        ("rounded", {}, 5e-3),
        ("live", {"keep": False}, 1e-5),
    ):
        run = run_of(tiny_of(family), tmp_path / name)
        assert cut_run(run, tmp_path / name, **how) == pytest.approx(expected, abs=near), name
        if name == "exact":
            one, other = weights_of(plain.model), weights_of(run.model)
            gaps = [float((one[key] - other[key]).abs().mean()) for key in one]
            assert np.mean(gaps) < 2e-5
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_no_dropout_below_the_cut(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    run = run_of(tiny_of(family), tmp_path, dropout=0.5)
    assert run.forward.split(1)
    ids, lengths = torch.tensor([[1, 8, 9, 10, 3]]), torch.tensor([5])
    run.model.train()
    inputs = {"ids": ids, "lengths": lengths}
    first = run.forward.below_split(inputs)
    assert torch.equal(first, run.forward.below_split(inputs))
    torch.manual_seed(0)
    answers = [run.forward._compute({**inputs, "hidden": first}) for _ in range(2)]
    if family == "gpt2":
        assert not torch.equal(*answers), "above it there is"
    run.forward.unsplit()


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_what_moves(family: str, tiny_of: Folder) -> None:
    model = Partial(layers=1).attach(classifier(tiny_of(family)), 0)
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    blocks = layers_of(model)
    top = {id(p) for p in blocks[-1].parameters()}
    below = {id(p) for block in blocks[:-1] for p in block.parameters()} - top
    for name, p in model.named_parameters():
        if id(p) in top:
            assert name in moving
        elif id(p) in below or "emb" in name or "wte" in name or "shared" in name:
            assert name not in moving
    model.train()
    assert not blocks[0].training and blocks[-1].training
    assert Partial(layers=1).cut(model) == len(blocks) - 1


@pytest.mark.parametrize("family", ["xlnet", "t5", "bart"])
def test_what_cannot_be_cut_is_trained_whole(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    """An encoder-decoder has two states; XLNet's blocks pass on more than one."""
    run = run_of(tiny_of(family), tmp_path)
    with split_states({"train": run.train.dataset}, run.forward, 1, tmp_path / "hidden") as made:
        assert made is None or family == "xlnet"


def test_more_layers_than_there_are(tiny_of: Folder) -> None:
    with pytest.raises(RecipeError, match=r"method\.layers is 5, .* has 2 layers; take at most 2"):
        Partial(layers=5).attach(classifier(tiny_of("bert")), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_unequal_length(dtype: torch.dtype, tmp_path: Path) -> None:
    """Written and read in any order, without padding on disk, padded with zeros in memory."""
    offsets = np.array([0, 3, 4, 9, 11])
    states = torch.randn(4, 5, 6).to(dtype)
    file = HiddenFile(tmp_path / "x" / "states", offsets, 6, dtype)
    file.write(np.array([2, 0]), states[[2, 0]])
    file.write(np.array([3, 1]), states[[3, 1]])
    assert (tmp_path / "x" / "states").stat().st_size == 11 * 6 * dtype.itemsize
    found = file.read(np.array([1, 3, 0, 2]), 7)
    assert found.shape == (4, 7, 6) and found.dtype == dtype
    for row, got in zip([1, 3, 0, 2], found, strict=True):
        length = offsets[row + 1] - offsets[row]
        assert torch.equal(got[:length], states[row, :length])
        assert not got[length:].any()
    file.close()
    assert not (tmp_path / "x" / "states").exists()


def test_a_compute_that_was_cut_is_whole_again(tiny_of: Folder) -> None:
    compute = ready(Partial(layers=1).attach(classifier(tiny_of("bert")), 0))
    ids, lengths = torch.tensor([[1, 8, 9, 10, 2]]), torch.tensor([5])
    before = compute.logits(ids, lengths, training=False)
    assert compute.split(1)
    compute.training = False
    torch.testing.assert_close(compute._compute({"ids": ids, "lengths": lengths}), before)
    compute.unsplit()
    assert torch.equal(compute.logits(ids, lengths, training=False), before)
