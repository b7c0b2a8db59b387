"""Batches hold every row once, and answers come back in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from learning import CPU, classifier, grads_of, messages, ready, source_of, store_of
from warmstart.training import datasets as module
from warmstart.training.cached_states import FeatureRows
from warmstart.training.datasets import TokenRows

Folder = Callable[[str], Path]


def test_an_epoch_is_every_row_once(tiny_of: Folder) -> None:
    store, pad = store_of(tiny_of("bert"), *messages(30, seed=2))
    source = source_of(store, ready(classifier(tiny_of("bert"))), pad, batch_tokens=60)
    for epoch in range(2):
        rows = np.concatenate(source.plan(epoch))
        assert sorted(rows) == list(range(30))
    for step in source.plan(0):
        batches = source.batches(step, np.random.default_rng(0))
        assert sum(len(batch.targets) for batch in batches) == len(step)
        assert sum(float(batch.weight) for batch in batches) == len(step)


def test_repeated_rows(tiny_of: Folder) -> None:
    store, pad = store_of(tiny_of("bert"), *messages(10))
    rows, forward = np.array([0, 0, 0, 7, 9]), ready(classifier(tiny_of("bert")))
    source = source_of(store, forward, pad, batch_size=2, rows=rows)
    assert sorted(np.concatenate(source.plan(0))) == rows.tolist()
    assert len(source.dataset.predict(forward)) == 10  # answers are about all rows


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_answers_stand_in_order(
    family: str, tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pad = store_of(tiny_of(family), *messages(30, seed=2))
    forward = ready(classifier(tiny_of(family)))
    rows = TokenRows(store, pad, CPU)
    at_once = rows.predict(forward)
    monkeypatch.setattr(module, "INFERENCE_TOKENS", 50)
    np.testing.assert_allclose(rows.predict(forward), at_once, atol=2e-6)
    for i in (0, 11, 29):
        ids = torch.from_numpy(store.row(i).astype(np.int64))[None]
        with torch.no_grad():
            alone = forward.logits(ids, torch.tensor([ids.shape[1]]), training=False)
        np.testing.assert_allclose(at_once[i], alone[0].numpy(), atol=2e-6)
    assert np.abs(at_once[0] - at_once[11]).max() > 2e-5


def test_cached_features_are_the_uncached(tiny_of: Folder, tmp_path: Path) -> None:
    """The same logits, and the same gradient of the head."""
    model = classifier(tiny_of("distilbert")).requires_grad_(False)
    for part in (model.pre_classifier, model.classifier):
        part.requires_grad_(True)
    store, pad = store_of(tiny_of("distilbert"), *messages(30, seed=2))
    forward = ready(model)
    tokens = TokenRows(store, pad, CPU)
    cached = FeatureRows(tokens, forward, tmp_path / "states")
    np.testing.assert_allclose(cached.predict(forward), tokens.predict(forward), atol=1e-6)
    rows, found = np.array([3, 1, 28, 17]), []
    for dataset in (tokens, cached):
        batch, forward.training = dataset.collate(rows), True
        loss = torch.nn.functional.cross_entropy(forward.forward(batch), batch.targets)
        loss.backward()
        found.append(list(grads_of(model).values()))
        model.zero_grad()
    assert len(found[0]) == len(found[1]) == 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert cached.file is not None
    cached.file.close()
    assert not (tmp_path / "states").exists()
