"""Training the rows that occur gives what training all rows gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, classifier, fit, messages, source_of, store_of, weights_of
from warmstart.training.datasets import narrow

Folder = Callable[[str], Path]


def train(folder: Path, out: Path, active: bool, **settings: Any) -> tuple[Any, dict[str, Any]]:
    model = classifier(folder)
    run = fit(folder, out, model=model, rows=30, batch_size=6, **settings)
    if active:  # before anything else looks at the parameters, as `tune` does it
        model = classifier(folder)
        store, pad = store_of(folder, *messages(30))
        from warmstart.models.fast.forward import forward_for

        compute = forward_for(model)
        stores, pad = narrow(compute, {"train": store}, pad)
        assert model.get_input_embeddings().weight.shape[0] < 40
        compute.prepare(torch.float32, torch.device("cpu"), checkpointing=False)
        feed = replace_feed(run.train, stores["train"], compute, pad)
        run = replace(run, model=model, forward=compute, train=feed, validation=feed)
    progress = run.run()
    run.forward.full_precision()
    run.forward.widen_vocabulary()
    return progress, weights_of(run.model)


def replace_feed(feed: Any, store: Any, compute: Any, pad: int) -> Any:
    return source_of(
        store, compute, pad, feed.objective, seed=feed.seed, **feed.settings.model_dump()
    )


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_the_same_weights(family: str, clip: float, tiny_of: Folder, tmp_path: Path) -> None:
    """Bit for bit where the norm of the gradient plays no part; its sum is taken in another
    order over fewer rows."""
    folder = tiny_of(family)
    before = weights_of(classifier(folder))
    (all_, everything), (some, active) = (
        train(folder, tmp_path / str(a), a, max_grad_norm=clip) for a in (False, True)
    )
    assert everything.keys() == active.keys()
    for name, expected in everything.items():
        assert active[name].shape == expected.shape
        if clip:
            torch.testing.assert_close(active[name], expected, atol=1e-5, rtol=1e-4, msg=name)
        else:
            assert torch.equal(active[name], expected), name
    assert some.history[-1]["train_loss"] == pytest.approx(all_.history[-1]["train_loss"])
    name = next(n for n in before if "word_embeddings" in n)
    store, _ = store_of(folder, messages(30)[0])
    used = np.unique(store.ids)
    unused = np.setdiff1d(np.arange(before[name].shape[0]), used)
    assert len(unused) > 5
    assert torch.equal(active[name][unused], before[name][unused])
    moved = (active[name][used] != before[name][used]).any(1)
    assert moved.all()


def test_refused_where_nothing_is_won(tiny_of: Folder) -> None:
    """Frozen embeddings, and families that transformers computes."""
    from warmstart.models.fast.forward import forward_for

    store, pad = store_of(tiny_of("bert"), *messages(30))
    frozen = classifier(tiny_of("bert"))
    frozen.get_input_embeddings().requires_grad_(False)
    for model in (frozen, classifier(tiny_of("gpt2"))):
        stores, same = narrow(forward_for(model), {"train": store}, pad)
        assert stores["train"] is store and same == pad


def test_all_splits_count(tiny_of: Folder) -> None:
    """A token of the test split alone has its row too."""
    from warmstart.models.fast.forward import forward_for

    folder = tiny_of("bert")
    train, pad = store_of(folder, ["good film"])
    test, _ = store_of(folder, ["bad song"])
    model = classifier(folder)
    rows = model.get_input_embeddings().weight.detach().clone()
    stores, new_pad = narrow(forward_for(model), {"train": train, "test": test}, pad)
    small = model.get_input_embeddings().weight
    assert small.shape[0] == 7  # four words, <s>, </s>, <pad>
    for name, old in (("train", train), ("test", test)):
        assert torch.equal(small[stores[name].ids.astype(int)], rows[old.ids.astype(int)])
        assert stores[name].ids.dtype == old.ids.dtype
    assert torch.equal(small[new_pad], rows[pad])
