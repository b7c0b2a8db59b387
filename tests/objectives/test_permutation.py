"""XLNet: tokens are guessed in a random order, and none of them sees itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pretraining import Tiny
from warmstart.objectives.permutation import choose_spans, order_mask


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny("xlnet", tmp_path_factory.mktemp("xlnet"), "permutation")


def test_the_loss_is_that_of_transformers(it: Tiny) -> None:
    """`XLNetLMHeadModel(perm_mask, target_mapping, labels)`."""
    batch = it.batch(np.arange(6))
    named, targets = batch.inputs["named"], batch.targets
    with torch.no_grad():
        theirs = it.model(**named).logits
        real = targets != -100
        whole = torch.nn.functional.cross_entropy(theirs[real], targets[real])
        row = it.batch([0])
        own = it.model(**row.inputs["named"], labels=row.targets)
    assert it.mean(batch) == pytest.approx(float(whole), rel=1e-5)
    assert it.mean(row) == pytest.approx(float(own.loss), rel=1e-5)


def test_the_masks_are_those_of_the_collator_of_transformers(it: Tiny) -> None:
    """The same rule, i may not see j, for every pair of tokens of a text."""
    from transformers import DataCollatorForPermutationLanguageModeling

    collator = DataCollatorForPermutationLanguageModeling(it.tokenizer)
    row = it.store.row(int(np.argmax(it.store.lengths))).astype(np.int64)
    row = row[: len(row) // 2 * 2]  # it wants an even length
    torch.manual_seed(0)
    shares, ours = list[float](), list[float]()
    for seed in range(60):
        made = collator([{"input_ids": row.tolist()}])
        chosen = (made["labels"][0] != -100).numpy()
        special = np.isin(row, it.tokenizer.all_special_ids)
        assert not chosen[special].any()
        theirs = made["perm_mask"][0].numpy()
        # among the guessed tokens a strict order; the others are seen by all
        guessed = np.flatnonzero(chosen)
        for mask in (theirs, order_mask(chosen, np.random.default_rng(seed))):
            assert not mask[:, ~chosen].any()
            between = mask[np.ix_(guessed, guessed)]
            assert (between + between.T == 1 + np.eye(len(guessed))).all()
            assert sorted(between.sum(1).tolist()) == list(range(1, len(guessed) + 1))
        plain = ~chosen & ~special
        assert (theirs[np.ix_(plain, chosen)] == 1).all()
        own = order_mask(chosen, np.random.default_rng(seed))
        assert (own[np.ix_(~chosen, chosen)] == 1).all()
        shares.append(chosen[~special].mean())
        drawn = choose_spans(~special, 1 / 6, 5, np.random.default_rng(seed))
        ours.append(drawn[~special].mean())
    assert np.mean(ours) == pytest.approx(np.mean(shares), abs=0.04)


def test_a_guessed_token_sees_neither_itself_nor_those_after_it(it: Tiny) -> None:
    """Change a token: only what comes later in the order, and is not the token, may move."""
    row = int(np.argmax(it.store.lengths))
    batch = it.batch([row])
    named: dict[str, Any] = batch.inputs["named"]
    hidden = named["perm_mask"][0]
    places = named["target_mapping"][0].argmax(-1).tolist()
    with torch.no_grad():
        before = it.model(**named).logits[0]
        moved = 0
        for place in places:
            ids = named["input_ids"].clone()
            ids[0, place] = (ids[0, place] + 7) % len(it.tokenizer)
            after = it.model(**{**named, "input_ids": ids}).logits[0]
            for number, other in enumerate(places):
                same = torch.allclose(before[number], after[number], atol=1e-6)
                assert same == bool(hidden[other, place]), (place, other)
                moved += not same
    assert moved == len(places) * (len(places) - 1) / 2 > 0


def test_a_sixth_of_the_tokens_is_guessed_in_spans_of_one_to_five() -> None:
    rng, shares, spans = np.random.default_rng(0), list[float](), list[int]()
    for _ in range(300):
        chosen = choose_spans(np.ones(300, bool), 1 / 6, 5, rng)
        shares.append(float(chosen.mean()))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen, [0]])))
        spans += (edges[1::2] - edges[::2]).tolist()
    assert np.mean(shares) == pytest.approx(1 / 6, abs=0.01)
    assert set(spans) >= {1, 2, 3, 4, 5} and np.mean(spans) == pytest.approx(3, abs=0.3)


def test_every_row_has_a_guess(tmp_path_factory: pytest.TempPathFactory, it: Tiny) -> None:
    for seed in range(20):
        batch = it.batch(np.arange(len(it.rows)), seed)
        assert ((batch.targets != -100).sum(1) > 0).all()
        assert int((batch.targets != -100).sum()) == int(batch.weight)
        special = torch.tensor(it.tokenizer.all_special_ids)
        assert not torch.isin(batch.targets[batch.targets != -100], special).any()
