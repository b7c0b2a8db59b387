"""BART: spans become one mask each, sentences change places, and the whole text is written."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining import Tiny
from warmstart.objectives.denoising import infill, shuffled

MASK = 4


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny("bart", tmp_path_factory.mktemp("bart"), "denoising", longest=60)


def gaps(ids: np.ndarray, text: np.ndarray) -> list[int]:
    """How many tokens each mask of an infilled text (of rising ids) stands for."""
    sizes, last = list[int](), int(ids[0]) - 1
    bounds = [*text.tolist(), int(ids[-1]) + 1]
    for token, after in zip(bounds, [*bounds[1:], None], strict=True):
        if token != MASK:
            last = token
        else:
            assert after not in (MASK, None), "masks do not touch"
            sizes.append(int(after) - last - 1)
    return sizes


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_as_many_tokens_are_hidden_as_is_said(share: float) -> None:
    """And the spans are Poisson distributed (λ 3), those of no token included."""
    rng, hidden, tokens, sizes = np.random.default_rng(0), 0, 0, list[int]()
    for _ in range(600):
        ids = np.arange(10, 10 + int(rng.integers(200, 600)))
        text = infill(ids, share, 3.0, MASK, rng)
        kept = text[text != MASK]
        assert (np.diff(kept) > 0).all()
        assert len(ids) - len(kept) == round(share * len(ids))
        hidden, tokens = hidden + len(ids) - len(kept), tokens + len(ids)
        sizes += gaps(ids, text)
    assert hidden / tokens == pytest.approx(share, abs=0.003)
    expected = rng.poisson(3.0, 100_000)
    assert np.mean(sizes) == pytest.approx(3.0, abs=0.2)
    for size in range(7):
        own, theirs = np.mean(np.array(sizes) == size), np.mean(expected == size)
        assert own == pytest.approx(theirs, abs=0.035), size


@pytest.mark.parametrize(("length", "share", "span"), [(1, 0.3, 3.0), (2, 0.9, 0.5), (9, 0.99, 1)])
def test_a_text_of_which_little_stays(length: int, share: float, span: float) -> None:
    ids = np.arange(10, 10 + length)
    for seed in range(50):
        text = infill(ids, share, span, MASK, np.random.default_rng(seed))
        assert (text != MASK).sum() == length - round(share * length)
        assert not (round(share * length) == 0 and MASK in text)


def test_spans_lie_anywhere() -> None:
    hidden = np.zeros(30)
    for seed in range(4_000):
        text = infill(np.arange(10, 40), 0.3, 3.0, MASK, np.random.default_rng(seed))
        hidden += ~np.isin(np.arange(10, 40), text)
    # at the edges less: no span reaches over them
    np.testing.assert_allclose(hidden[2:-2] / 4_000, 0.31, atol=0.03)
    assert hidden.min() / 4_000 > 0.1 and hidden.sum() / 4_000 == 9


def test_sentences_change_places_and_stay_whole() -> None:
    ids = np.array([5, 6, 1, 7, 1, 8, 9, 10])
    sentences = {(5, 6, 1), (7, 1), (8, 9, 10)}
    orders = set[tuple[int, ...]]()
    for seed in range(100):
        text = shuffled(ids, ids == 1, np.random.default_rng(seed))
        orders.add(tuple(text.tolist()))
        rest = text.tolist()
        while rest:
            own = next(s for s in sentences if tuple(rest[: len(s)]) == s)
            rest = rest[len(own) :]
        assert sorted(text.tolist()) == sorted(ids.tolist())
    assert len(orders) == 6


def test_the_whole_text_is_written(it: Tiny) -> None:
    batch = it.batch(np.arange(len(it.rows)))
    for row in range(len(it.rows)):
        wanted = batch.targets[row][batch.targets[row] != -100].tolist()
        assert wanted == it.store.row(row).tolist()
        read = batch.inputs["ids"][row][batch.inputs["mask"][row].bool()].tolist()
        assert (read[0], read[-1]) == (wanted[0], wanted[-1])
        assert not {*read} - {*wanted, it.tokenizer.mask_token_id}
        assert batch.inputs["decoder_ids"][row, 0] == it.model.config.decoder_start_token_id
    assert (batch.inputs["ids"] == it.tokenizer.mask_token_id).any(1).float().mean() > 0.9


def test_the_loss_is_that_of_transformers(it: Tiny) -> None:
    """`BartForConditionalGeneration(labels)`."""
    batch = it.batch(np.arange(6))
    assert it.mean(batch) == pytest.approx(it.loss_of_transformers(batch), rel=1e-5)
