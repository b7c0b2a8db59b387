"""Causal language modelling: the next token, and the loss of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretraining import Tiny, documents


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def it(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(request.param, tmp_path_factory.mktemp("clm"), "clm")


def windows(it: Tiny, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole windows [B, L + 1], and their labels."""
    texts = [torch.from_numpy(it.store.row(int(row)).astype(np.int64)) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(texts, True, it.tokenizer.pad_token_id), pad(texts, True, -100)


def test_the_loss_is_that_of_transformers(it: Tiny) -> None:
    """`AutoModelForCausalLM(labels)`, which shifts them itself."""
    rows = np.arange(7)
    ids, labels = windows(it, rows)
    with torch.no_grad():
        theirs = it.model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels)
    batch = it.batch(rows)
    assert it.mean(batch) == pytest.approx(float(theirs.loss), rel=1e-5)
    assert int(batch.weight) == int((labels[:, 1:] != -100).sum())


def test_every_token_and_the_end_of_each_document_is_predicted_once(it: Tiny) -> None:
    batch = it.batch(np.arange(len(it.rows)))
    targets = np.concatenate([row[row != -100].numpy() for row in batch.targets])
    texts, end = list[int](), it.tokenizer.eos_token_id
    for text in documents():
        ids = it.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        texts += [*ids, end]
    assert targets.tolist() == texts


def test_a_token_sees_those_before_it_alone(it: Tiny) -> None:
    row = int(np.argmax(it.store.lengths))
    batch = it.batch([row])
    with it.forward.evaluating():
        before: Any = it.forward.forward(batch)
        batch.inputs["ids"][0, 9] += 1
        it.forward._memory = None
        after: Any = it.forward.forward(batch)
    moved = ~torch.isclose(before.logits()[0], after.logits()[0], atol=1e-6).all(-1)
    assert not moved[:9].any() and moved[9:].any()


def test_a_text_begins_as_the_tokenizer_begins_it(it: Tiny) -> None:
    """Llama's with its own token; GPT-2's has none, and the separator stands there."""
    ids, first = it.tokenizer("the film")["input_ids"], int(it.store.row(0)[0])
    llama = it.model.config.model_type == "llama"
    assert (ids[0] == it.tokenizer.bos_token_id) == llama
    assert first == (ids[0] if llama else it.tokenizer.eos_token_id)


def test_a_saved_model_is_a_causal_one(it: Tiny, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    it.model.save_pretrained(tmp_path)
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(model) is type(it.model)
