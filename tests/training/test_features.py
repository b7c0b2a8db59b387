"""Frozen features are the mean of transformers' own hidden states, however computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from learning import base_of, messages
from warmstart.errors import BaseModelError
from warmstart.models.base import Base
from warmstart.models.loading import load_tokenizer
from warmstart.training.frozen_features import features

Folder = Callable[[str], Path]
FAST = ("bert", "roberta", "electra", "distilbert")
SLOW = ("modernbert", "xlnet", "gpt2", "llama", "t5", "bart", "pegasus")
TEXTS = messages(23, seed=3)[0]


def reference(folder: Path, texts: list[str], max_length: int = 128) -> np.ndarray:
    """One text at a time, without padding, in float32, by transformers alone."""
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    tokenizer: Any = load_tokenizer(base_of(folder))
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            states = body(inputs["input_ids"]).last_hidden_state
        rows.append(states[0].mean(0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_the_mean_is_transformers_own(family: str, tiny_of: Folder) -> None:
    base = base_of(tiny_of(family))
    found = features(base, TEXTS, precision="fp32")
    assert found.dtype == np.float32 and found.shape == (23, 32)
    np.testing.assert_allclose(found, reference(tiny_of(family), TEXTS), atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_sixteen_bits_are_near(family: str, tiny_of: Folder) -> None:
    exact, short = (
        features(base_of(tiny_of(family)), TEXTS, precision=p) for p in ("fp32", "bf16")
    )
    cosine = (exact * short).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(short, axis=1)
    assert cosine.min() > 0.999


def test_order_arrow_and_length(tiny_of: Folder) -> None:
    """An Arrow column gives what a list gives; a row does not depend on its neighbours."""
    base = base_of(tiny_of("bert"))
    whole = features(base, TEXTS, precision="fp32")
    chunks = pa.chunked_array([TEXTS[:7], TEXTS[7:]])
    np.testing.assert_array_equal(features(base, chunks, precision="fp32"), whole)
    alone = features(base, TEXTS[4:5], precision="fp32")
    np.testing.assert_allclose(alone[0], whole[4], atol=1e-6)
    short = features(base, TEXTS, 6, precision="fp32")
    np.testing.assert_allclose(short, reference(tiny_of("bert"), TEXTS, 6), atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_texts_without_tokens(family: str, tiny_of: Folder) -> None:
    """A decoder sees nothing of an empty text: zeros, among others and alone."""
    base = base_of(tiny_of(family))
    mixed, alone = (features(base, t, precision="fp32") for t in (["good film", ""], ["", ""]))
    assert np.isfinite(mixed).all() and mixed[0].any()
    assert mixed[1].any() == alone.any() == (family == "bert")
    assert features(base, [], precision="fp32").shape == (0, 32)


def test_progress_reaches_the_end(tiny_of: Folder) -> None:
    told: list[tuple[str, int, int]] = []
    features(base_of(tiny_of("bert")), TEXTS, progress=lambda *step: told.append(step))
    assert told[-1] == ("features", 23, 23)


def test_a_damaged_base(tiny_of: Folder, tmp_path: Path) -> None:
    import shutil
    from dataclasses import replace

    folder = tmp_path / "base"
    shutil.copytree(tiny_of("gpt2"), folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    base: Base = replace(base_of(tiny_of("gpt2")), path=folder)
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        features(base, TEXTS)
