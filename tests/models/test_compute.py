"""Every family trains and comes back from disk; the fast way gives the slow way's numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from learning import (
    FAST,
    SLOW,
    base_of,
    classifier,
    fit,
    gradients,
    messages,
    predict,
    ready,
    store_of,
)
from warmstart.data.tokens.batching import pad
from warmstart.errors import RecipeError
from warmstart.models import loading as backbone
from warmstart.models.fast.forward import FastForward, forward_for, is_fast
from warmstart.models.forward import Forward
from warmstart.models.saving import save_model

Folder = Callable[[str], Path]


def batch(folder: Path, n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    store, pad_id = store_of(folder, messages(n, seed=4)[0])
    ids, lengths = pad(store, np.arange(n), pad_id)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_who_is_fast(family: str, tiny_of: Folder) -> None:
    model = classifier(tiny_of(family))
    assert is_fast(model) == (family in FAST)
    assert type(forward_for(model)) is (FastForward if family in FAST else Forward)
    assert type(forward_for(model, fast=False)) is Forward


def test_a_bert_that_decodes_is_not_fast(tiny_of: Folder) -> None:
    model = classifier(tiny_of("bert"))
    model.config.is_decoder = True
    assert not is_fast(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", SLOW)
def test_a_few_steps_and_back(
    family: str, dtype: torch.dtype, tiny_of: Folder, tmp_path: Path
) -> None:
    """The loss falls, and the folder answers a padded batch of raw texts for transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = fit(
        tiny_of(family), tmp_path, rows=24, epochs=8, learning_rate=5e-3, batch_size=12,
        precision=dtype, schedule="constant", warmup=0.0,
    )  # fmt: skip
    assert type(run.forward) is Forward
    progress = run.run()
    losses = [row["train_loss"] for row in progress.history]
    assert losses[-1] < 0.9 * losses[0]
    run.forward.full_precision()
    texts = messages(10, seed=8)[0]
    store, pad_id = store_of(tiny_of(family), texts)
    ours = predict(store, run.forward, pad_id)
    base = base_of(tiny_of(family))
    save_model(run.model, backbone.load_tokenizer(base), tmp_path / "out", base)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        theirs = model(**inputs).logits
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_padding_changes_nothing(family: str, tiny_of: Folder) -> None:
    """Whichever side the family likes it on."""
    compute = ready(classifier(tiny_of(family)))
    ids, lengths = batch(tiny_of(family))
    with torch.no_grad():
        together = compute.logits(ids, lengths, training=False)
        for i, length in enumerate(lengths.tolist()):
            alone = compute.logits(ids[i : i + 1, :length], lengths[i : i + 1], training=False)
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [family for family in SLOW if family != "xlnet"])
def test_checkpointing_of_the_model_itself(family: str, tiny_of: Folder) -> None:
    targets = torch.arange(9) % 3
    found = []
    for checkpointing in (False, True):
        compute = ready(classifier(tiny_of(family)), checkpointing=checkpointing)
        found.append(gradients(compute, *batch(tiny_of(family)), targets))
    (loss, one), (loss_again, other) = found
    torch.testing.assert_close(loss, loss_again)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name)


def test_checkpointing_where_there_is_none(tiny_of: Folder) -> None:
    with pytest.raises(RecipeError, match="none for 'xlnet'"):
        ready(classifier(tiny_of("xlnet")), checkpointing=True)


@pytest.mark.parametrize("family", FAST)
def test_fast_and_slow_train_alike(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    """Some steps of AdamW in 32 bits: the same losses and nearly the same weights."""
    runs = []
    for fast in (True, False):
        run = fit(tiny_of(family), tmp_path / str(fast), fast=fast, rows=24, batch_size=8)
        assert isinstance(run.forward, FastForward) == fast
        runs.append((run.run(), dict(run.model.named_parameters())))
    (one, weights), (other, twins) = runs
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert mine["validation_loss"] == pytest.approx(theirs["validation_loss"], abs=1e-4)
    gaps = [(weights[name] - twins[name]).abs().mean().item() for name in twins]
    assert np.mean(gaps) < 2e-5  # Adam's sign-like first steps blow single roundings up


def test_the_mode_is_set_before_the_body_computes(tiny_of: Folder) -> None:
    """An adapter's dropout sits in the body: on in the first training batch after a validation,
    off in the first validation batch after training."""
    from warmstart.methods.lora import LoRA

    model = LoRA(dropout=0.5).attach(classifier(tiny_of("bert")), 0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_()
    compute = ready(model)
    ids, lengths = batch(tiny_of("bert"))

    def logits(training: bool) -> torch.Tensor:
        compute.begin_step(1)
        with torch.no_grad():
            return compute.logits(ids, lengths, training=training)

    wild = [logits(True), logits(True)]
    calm = [logits(False), logits(False)]
    assert torch.equal(*wild)
    assert torch.equal(*calm)
    assert torch.equal(wild[0], logits(True))
    assert not torch.allclose(wild[0], calm[0], atol=1e-3)


def test_full_precision_answers_exactly(tiny_of: Folder) -> None:
    model = classifier(tiny_of("bert"))
    exact = copy.deepcopy(model)
    compute: FastForward = ready(model, torch.bfloat16)
    ids, lengths = batch(tiny_of("bert"))
    rough = compute.logits(ids, lengths, training=False)
    compute.full_precision()
    found = compute.logits(ids, lengths, training=False)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    expected = exact(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.equal(rough, found)
