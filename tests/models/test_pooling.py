"""Mean pooling as one more layer: what the head reads is the mean, and others load the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, LABELS, base_of, classifier, messages, ready, store_of
from warmstart.data.tokens.batching import pad
from warmstart.models import loading as backbone
from warmstart.models.architectures import body_of, layers_of
from warmstart.models.head_layers import append_mean_layer, can_append
from warmstart.models.saving import save_model

Folder = Callable[[str], Path]


def spread(model: Any) -> None:
    """Weights large enough for the tokens' states to differ."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.1)


@pytest.mark.parametrize("family", FAST)
def test_the_head_reads_the_mean(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = tiny_of(family)
    model = classifier(folder)
    spread(model)
    store, pad_id = store_of(folder, messages(8, seed=2)[0])
    ids, lengths = (torch.from_numpy(x) for x in pad(store, np.arange(8), pad_id))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        hidden = body_of(model)(input_ids=ids, attention_mask=mask).last_hidden_state
    means = torch.stack([row[:n].mean(0) for row, n in zip(hidden, lengths, strict=True)])
    expected = torch.nn.functional.layer_norm(means, means.shape[1:])
    assert can_append(model)
    before = len(layers_of(model))
    append_mean_layer(model)
    layers = getattr(model.config, "n_layers", None) or model.config.num_hidden_layers
    assert layers == len(layers_of(model)) == before + 1
    compute = ready(model)
    with torch.no_grad():
        found = compute.features(ids, lengths)
        logits = compute.logits(ids, lengths, training=False)
    # the residual is worth a hundredth of the mean
    gap = (found - expected).norm(dim=1) / expected.norm(dim=1)
    assert gap.max() < 0.02
    assert (hidden[:, 0] - expected).norm() > 0.3 * expected.norm()  # it is not what stood there
    save_model(model, backbone.load_tokenizer(base_of(folder)), tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert len(layers_of(again)) == before + 1
    with torch.no_grad():
        theirs = again.eval()(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, theirs, atol=1e-5, rtol=0)
    assert again.config.num_labels == len(LABELS)


@pytest.mark.parametrize("family", ["gpt2", "t5", "modernbert", "xlnet"])
def test_other_blocks_are_left_alone(family: str, tiny_of: Folder) -> None:
    assert not can_append(classifier(tiny_of(family)))
