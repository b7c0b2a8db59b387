"""ELECTRA: a generator fills hidden places, and the model tells what was filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretraining import Tiny


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny("electra", tmp_path_factory.mktemp("electra"), "replaced_token")


def mask_of(batch: Any) -> torch.Tensor:
    return batch.inputs["mask"]


def test_the_losses_are_those_of_transformers(it: Tiny) -> None:
    """`ElectraForMaskedLM` on the hidden text, `ElectraForPreTraining` on what it makes of it."""
    batch = it.batch(np.arange(8))
    inputs, chosen = batch.inputs, batch.inputs["chosen"]
    labels = torch.full_like(inputs["ids"], -100)
    labels[chosen] = batch.targets[0]
    with it.forward.evaluating():
        outputs = it.forward.forward(batch)
    with torch.no_grad():
        generator = it.model.generator(
            input_ids=inputs["ids"], attention_mask=mask_of(batch), labels=labels
        )
        shares = generator.logits[chosen].softmax(-1).cumsum(-1)
        sampled = (shares < inputs["draws"][:, None]).sum(-1)
        filled = inputs["original"].clone()
        filled[chosen] = sampled
        changed = (filled != inputs["original"]).long()
        theirs = it.model(input_ids=filled, attention_mask=mask_of(batch), labels=changed)
    assert torch.equal(outputs["changed"].long(), changed)
    assert not changed[~chosen].any() and changed[chosen].any()
    loss, weight = it.loss(batch), float(mask_of(batch).sum())
    assert float(loss.weight) == weight
    hidden = float(loss.metrics["generator_loss"]) * it.objective.share / int(chosen.sum())
    assert hidden == pytest.approx(float(generator.loss), rel=1e-5)
    assert float(loss.metrics["detection_loss"]) / weight == pytest.approx(
        float(theirs.loss), rel=1e-5
    )
    total = float(loss.metrics["generator_loss"]) + 50 * float(loss.metrics["detection_loss"])
    assert float(loss.total) == pytest.approx(total, rel=1e-6)
    judged = it.objective.final_predictions(outputs, batch)
    figure = torch.nn.functional.cross_entropy(judged.outputs, judged.targets)
    assert float(figure) == pytest.approx(float(theirs.loss), rel=1e-5), "of the model that is kept"
    right = (theirs.logits > 0) == changed.bool()
    assert int(loss.metrics["detection_accuracy"]) == int(right[mask_of(batch).bool()].sum())


def test_what_is_sampled_is_as_likely_as_the_generator_finds_it(it: Tiny) -> None:
    batch = it.batch([0])
    chosen = batch.inputs["chosen"].clone()
    chosen[0, int(chosen[0].nonzero()[0, 0]) + 1 :] = False
    draws = torch.linspace(0.5 / 4000, 1 - 0.5 / 4000, 4000)
    counts = torch.zeros(len(it.tokenizer))
    with it.forward.evaluating():
        shares = (
            it.model.generator(input_ids=batch.inputs["ids"], attention_mask=mask_of(batch))
            .logits[chosen][0]
            .softmax(-1)
        )
        cumulative = shares.cumsum(-1)
        for draw in draws:
            counts[int((cumulative < draw * cumulative[-1]).sum())] += 1
    torch.testing.assert_close(counts / len(draws), shares, atol=2 / 4000, rtol=0)


def test_the_detection_teaches_the_generator_nothing(it: Tiny) -> None:
    """No gradient passes through the sampling; only the shared embeddings hear of both."""
    batch = it.batch(np.arange(8))
    shared = {id(p) for p in it.model.electra.embeddings.parameters()}
    it.forward.after_step()
    it.forward.begin_step(0)
    outputs: Any = it.forward.forward(batch)
    outputs["logits"].sum().backward()
    for name, parameter in it.model.generator.named_parameters():
        if id(parameter) not in shared:
            assert parameter.grad is None or not parameter.grad.any(), name
    assert it.model.discriminator_predictions.dense.weight.grad.any()
    it.forward.after_step()
    outputs = it.forward.forward(batch)
    outputs["generator_logits"].sum().backward()
    for name, parameter in it.model.electra.encoder.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
    it.forward.after_step()


def test_the_embeddings_are_shared_and_the_generator_is_small(it: Tiny) -> None:
    generator, model = it.model.generator, it.model
    words = model.electra.embeddings.word_embeddings.weight
    assert generator.electra.embeddings.word_embeddings.weight is words
    assert generator.generator_lm_head.weight is words
    for name in ("position_embeddings", "token_type_embeddings"):
        shared = getattr(model.electra.embeddings, name)
        assert getattr(generator.electra.embeddings, name) is shared
    assert generator.config.hidden_size < model.config.hidden_size
    own = {id(p) for p in generator.electra.encoder.parameters()}
    assert not own & {id(p) for p in model.electra.parameters()}


def test_the_saved_model_has_no_generator(it: Tiny, tmp_path: Path) -> None:
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    batch = it.batch(np.arange(4))
    before = it.mean(batch)
    helpers = it.objective.detach(it.model)
    it.model.save_pretrained(tmp_path / "model")
    helpers["generator"].save_pretrained(tmp_path / "generator")
    it.model.generator = helpers["generator"]
    kinds: list[tuple[Any, str]] = [
        (ElectraForPreTraining, "model"), (ElectraForMaskedLM, "generator"),
    ]  # fmt: skip
    for kind, name in kinds:
        _, info = kind.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
    it.objective.detach(it.model)
    it.objective.attach(it.model, tmp_path)
    assert it.mean(batch) == pytest.approx(before, rel=1e-6)
