"""Virtual tokens: the answer to a text does not depend on its batch, and the proof holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import base_of, classifier, fit, messages, predict, prove, ready, store_of
from warmstart import part as parts
from warmstart.data.tokens.batching import pad
from warmstart.errors import RecipeError
from warmstart.metrics.base import softmax
from warmstart.models import loading as backbone

Folder = Callable[[str], Path]
PAIRS = [
    *((m, f) for m in ("prompt_tuning", "p_tuning") for f in ("bert", "roberta", "distilbert")),
    *((m, f) for m in ("prompt_tuning", "p_tuning") for f in ("modernbert", "xlnet", "llama")),
    *(("prefix_tuning", f) for f in ("bert", "roberta", "gpt2", "llama")),
    ("prompt_tuning", "gpt2"),
]


def method_of(name: str, **settings: Any) -> Any:
    return parts.make("method", name, settings)


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_padding_changes_nothing(name: str, family: str, tiny_of: Folder) -> None:
    compute = ready(method_of(name, tokens=3).attach(classifier(tiny_of(family)), 0))
    store, pad_id = store_of(tiny_of(family), messages(9, seed=4)[0])
    ids, lengths = map(torch.from_numpy, pad(store, np.arange(9), pad_id))
    with torch.no_grad():
        together = compute.logits(ids, lengths, training=False)
        for i, length in enumerate(lengths.tolist()):
            alone = compute.logits(ids[i : i + 1, :length], lengths[i : i + 1], training=False)
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "family"),
    [("prompt_tuning", "bert"), ("prompt_tuning", "gpt2"), ("p_tuning", "xlnet"),
     ("prefix_tuning", "llama"), ("adapter", "roberta"), ("ia3", "electra"),
     ("layernorm", "t5"), ("lora", "bert")],
)  # fmt: skip
def test_the_proof_holds(name: str, family: str, tiny_of: Folder, tmp_path: Path) -> None:
    """transformers' pipeline over PEFT's model answers as the trained one does."""
    method = method_of(name, **({"base_bits": 4} if name == "lora" else {}))
    model = method.attach(classifier(tiny_of(family)), 0)
    run = fit(tiny_of(family), tmp_path / "run", model=model, rows=12, epochs=1)
    run.run()
    base, texts = base_of(tiny_of(family)), messages(12, seed=5)[0]
    tokenizer = backbone.load_tokenizer(base)
    tokenizer.model_max_length = 40
    method.save(model, tokenizer, tmp_path / "model", base)
    store, pad_id = store_of(tiny_of(family), texts)
    logits = predict(store, run.forward, pad_id)
    figures = prove(tmp_path / "model", texts, softmax(logits), 40)
    assert figures["passed"] and "PeftModel" in figures["loaded_with"]
    assert figures["max_probability_difference"] < 1e-5


def test_it_learns(tiny_of: Folder, tmp_path: Path) -> None:
    for name in ("prompt_tuning", "p_tuning", "prefix_tuning"):
        method = method_of(name, tokens=4)
        model = method.attach(classifier(tiny_of("bert")), 0)
        run = fit(
            tiny_of("bert"), tmp_path / name, model=model, rows=12, epochs=40, batch_size=12,
            learning_rate=method.default_learning_rate(32),
        )  # fmt: skip
        losses = [row["train_loss"] for row in run.run().history]
        assert losses[-1] < losses[0], name


def test_the_head_takes_smaller_steps(tiny_of: Folder) -> None:
    method = method_of("prompt_tuning")
    model: Any = method.attach(classifier(tiny_of("bert")), 0)
    [pace] = method.param_groups(model)
    assert pace.rate == pytest.approx(0.1)
    vectors = model.prompt_encoder["default"].embedding.weight
    assert all(p is not vectors for p in pace.parameters) and pace.parameters
    assert method.extra_tokens == 20


def test_prompts_begin_as_words_and_depend_on_the_seed(tiny_of: Folder) -> None:
    def begun(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        model: Any = method_of("prompt_tuning").attach(classifier(tiny_of("bert")), seed)
        return model.prompt_encoder["default"].embedding.weight, model.word_embeddings.weight

    (one, words), (same, _), (other, _) = begun(1), begun(1), begun(2)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert all((row == words).all(1).any() for row in one)


def test_no_checkpointing_behind_virtual_tokens(tiny_of: Folder) -> None:
    model = method_of("prefix_tuning").attach(classifier(tiny_of("gpt2")), 0)
    with pytest.raises(RecipeError, match="does not go with virtual tokens"):
        ready(model, checkpointing=True)
