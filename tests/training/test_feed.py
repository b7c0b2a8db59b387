"""Batches hold every row once, and answers come back in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from learning import classifier, grads_of, messages, ready, store_of
from warmstart.training import batches as feeds
from warmstart.training.batches import StateFeed, TokenFeed

Folder = Callable[[str], Path]


def feed_of(folder: Path, n: int = 30, **settings: int) -> TokenFeed:
    store, pad = store_of(folder, *messages(n, seed=2))
    return TokenFeed(store, ready(classifier(folder)), pad, **{"batch_size": 8, **settings})


def test_an_epoch_is_every_row_once(tiny_of: Folder) -> None:
    feed = feed_of(tiny_of("bert"), batch_tokens=60)
    for epoch in range(2):
        rows = np.concatenate(feed.epoch(1, epoch))
        assert sorted(rows) == list(range(30))
    for step in feed.epoch(1, 0):
        batches = feed.batches(step)
        assert sum(len(batch.targets) for batch in batches) == len(step)


def test_repeated_rows(tiny_of: Folder) -> None:
    store, pad = store_of(tiny_of("bert"), *messages(10))
    rows = np.array([0, 0, 0, 7, 9])
    feed = TokenFeed(store, ready(classifier(tiny_of("bert"))), pad, batch_size=2, rows=rows)
    assert sorted(np.concatenate(feed.epoch(1, 0))) == rows.tolist()
    assert len(feed.predict()) == 10  # answers are about all rows


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_answers_stand_in_order(
    family: str, tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = feed_of(tiny_of(family))
    at_once = feed.predict()
    monkeypatch.setattr(feeds, "INFERENCE_TOKENS", 50)
    np.testing.assert_allclose(feed.predict(), at_once, atol=2e-6)
    for i in (0, 11, 29):
        ids = torch.from_numpy(feed.store.row(i).astype(np.int64))[None]
        with torch.no_grad():
            alone = feed.compute.logits(ids, torch.tensor([ids.shape[1]]), training=False)
        np.testing.assert_allclose(at_once[i], alone[0].numpy(), atol=2e-6)
    assert np.abs(at_once[0] - at_once[11]).max() > 2e-5


def test_cached_states_are_the_uncached(tiny_of: Folder, tmp_path: Path) -> None:
    """The same logits, and the same gradient of the head."""
    model = classifier(tiny_of("distilbert")).requires_grad_(False)
    for module in (model.pre_classifier, model.classifier):
        module.requires_grad_(True)
    store, pad = store_of(tiny_of("distilbert"), *messages(30, seed=2))
    tokens = TokenFeed(store, ready(model), pad, batch_size=8)
    file = tokens.states(tmp_path / "states")
    cached = StateFeed(file, store.targets, ready(model), batch_size=8)
    np.testing.assert_allclose(cached.predict(), tokens.predict(), atol=1e-6)
    rows, found = np.array([3, 1, 28, 17]), []
    for feed in (tokens, cached):
        (batch,) = feed.batches(rows)
        loss = torch.nn.functional.cross_entropy(feed.logits(batch, training=True), batch.targets)
        loss.backward()
        found.append(list(grads_of(model).values()))
        model.zero_grad()
    assert len(found[0]) == len(found[1]) == 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    file.close()
    assert not (tmp_path / "states").exists()
