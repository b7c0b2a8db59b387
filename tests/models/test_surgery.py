"""What is taken out of a model: the rest answers as its own class says, saved and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import classifier, writer
from warmstart.errors import RecipeError
from warmstart.models.hf_calls import quiet
from warmstart.models.saved import saved_model
from warmstart.models.surgery import blocks
from warmstart.models.surgery.tokens import keep_tokens, word_embedding

FAMILIES = ["bert", "distilbert", "electra", "modernbert", "xlnet", "gpt2", "qwen3", "t5", "bart"]
IDS = torch.tensor([[1, 7, 8, 9, 2], [1, 10, 11, 12, 2]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fresh tiny classifier of a family."""
    folder = tmp_path_factory.mktemp("surgery")

    def get(family: str) -> Any:
        if not (folder / family).exists():
            classifier(family, folder / family)
        model = saved_model(folder / family)
        model.config.pad_token_id = model.config.pad_token_id or 0
        return model

    return get


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def again(model: Any, folder: Path) -> Any:
    """The model as transformers alone loads it from a folder."""
    with quiet():
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder).eval()


def size(model: Any) -> int:
    return sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_and_units_are_taken_out_and_the_rest_is_a_plain_model(
    family: str, made: Any, tmp_path: Path
) -> None:
    whole = made(family)
    wanted = logits(whole)
    assert torch.equal(logits(blocks.keep_layers(whole, [[0, 1]] * 2)), wanted)
    assert torch.equal(logits(blocks.keep_units(whole, 0.0)), wanted)
    fewer = blocks.keep_layers(whole, [[0]] * 2)
    narrow = blocks.keep_units(whole, 0.5)
    assert blocks.stack_sizes(fewer) == [1] * len(blocks.stack_sizes(whole))
    for number, smaller in enumerate((fewer, narrow)):
        assert size(smaller) < size(whole)
        loaded = again(smaller, tmp_path / str(number))
        assert torch.allclose(logits(loaded), logits(smaller), atol=1e-6)
    assert torch.equal(logits(whole), wanted), "the source is as it was"


def test_units_that_do_nothing_go_first(made: Any) -> None:
    whole = made("bert")
    with torch.no_grad():
        for block in whole.bert.encoder.layer:
            block.output.dense.weight[:, 1::2] = 0.0
    assert torch.allclose(logits(blocks.keep_units(whole, 0.5)), logits(whole), atol=1e-6)


def test_a_gated_feed_forward_part_loses_the_same_units_in_all_its_matrices(made: Any) -> None:
    for family in ("modernbert", "qwen3"):
        whole = made(family)
        for name, weights in whole.named_parameters():
            if name.endswith(("mlp.Wo.weight", "down_proj.weight")):
                weights.data[:, ::2] = 0.0
        assert torch.allclose(logits(blocks.keep_units(whole, 0.5)), logits(whole), atol=1e-6)


def test_heads_that_do_nothing_are_taken_out_where_a_config_can_say_so(
    made: Any, tmp_path: Path
) -> None:
    whole = made("qwen3")
    with torch.no_grad():
        for block in whole.model.layers:
            block.self_attn.o_proj.weight[:, :16] = 0.0
    smaller = blocks.keep_heads(whole, 0.5)
    assert smaller.config.num_attention_heads == 1 and smaller.config.head_dim == 16
    assert torch.allclose(logits(smaller), logits(whole), atol=1e-6)
    assert torch.allclose(logits(again(smaller, tmp_path)), logits(whole), atol=1e-6)


@pytest.mark.parametrize(
    ("family", "act", "message"),
    [
        ("bert", lambda m: blocks.keep_heads(m, 0.5), "heads cannot be taken out.*feed_forward"),
        (
            "albert",
            lambda m: blocks.keep_layers(m, [[0]]),
            "layers cannot be taken out of a 'albert'",
        ),
        ("mobilebert", lambda m: blocks.keep_units(m, 0.5), "cannot be made narrower.*quantize"),
    ],
)
def test_what_cannot_be_done_names_what_can(family: str, act: Any, message: str, made: Any) -> None:
    with pytest.raises(RecipeError, match=message):
        act(made(family))


def test_the_smallest_weights_become_zero(made: Any) -> None:
    model = made("bert")
    before = model.bert.encoder.layer[0].output.dense.weight.detach().clone()
    blocks.zero_weights(model, 0.25)
    after = model.bert.encoder.layer[0].output.dense.weight
    assert int((after == 0).sum()) == after.numel() // 4
    assert float(before[after == 0].abs().max()) <= float(before[after != 0].abs().min())
    assert torch.equal(before[after != 0], after[after != 0])
    assert model.classifier.weight.all() and word_embedding(model).any()


def test_layers_are_taken_evenly() -> None:
    assert blocks.spread_evenly(6, 12) == [0, 2, 4, 7, 9, 11], "as DistilBERT's first weights"
    assert blocks.spread_evenly(3, 6) == [0, 2, 5]
    assert blocks.spread_evenly(1, 6) == [0]
    for layers in range(2, 30):
        for kept in range(1, layers):
            chosen = blocks.spread_evenly(kept, layers)
            assert len({*chosen}) == kept and chosen == sorted(chosen) and chosen[-1] < layers


KEPT = np.array([0, 1, 2, 3, 4, 7, 8, 9, 20])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "t5", "gpt2"])
def test_tokens_are_taken_out_and_texts_of_the_others_answered_alike(
    family: str, made: Any, tmp_path: Path
) -> None:
    whole = made(family)
    ids = torch.tensor([[1, 7, 8, 9, 2]])
    wanted, places = logits(whole, ids), {int(old): new for new, old in enumerate(KEPT)}
    smaller = keep_tokens(whole, KEPT)
    assert smaller.config.vocab_size == len(KEPT) == len(word_embedding(smaller))
    fresh = torch.tensor([[places[int(number)] for number in ids[0]]])
    assert torch.equal(logits(again(smaller, tmp_path), fresh), wanted)


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_a_model_that_writes_keeps_the_scores_of_the_tokens_that_are_left(
    family: str, tmp_path: Path
) -> None:
    whole = saved_model(writer(tmp_path / "whole", family))
    ids = torch.tensor([[1, 7, 8, 9, 2]])
    wanted = logits(whole, ids)[..., KEPT]
    smaller = again(keep_tokens(whole, KEPT), tmp_path / "smaller")
    places = KEPT.tolist()
    fresh = torch.tensor([[places.index(number) for number in ids[0].tolist()]])
    assert torch.allclose(logits(smaller, fresh), wanted, atol=1e-6)
    assert smaller.config.eos_token_id == 2


def test_roberta_keeps_its_positions_or_is_refused(made: Any) -> None:
    model = made("roberta")
    model.config.pad_token_id = 5
    with pytest.raises(RecipeError, match="padding token.*another id"):
        keep_tokens(model, np.array([0, 1, 2, 5, 7]))
