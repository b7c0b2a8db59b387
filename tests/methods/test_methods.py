"""Only what a method declares moves, and what it saves is what other tools load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, LABELS, SLOW, base_of, classifier, fit, messages, weights_of
from warmstart.methods.base import Method
from warmstart.methods.frozen import Frozen
from warmstart.methods.full import Full
from warmstart.methods.lora import LoRA
from warmstart.models import loading as backbone
from warmstart.models.architectures import family_of, layers_of
from warmstart.models.saved import load_saved

Folder = Callable[[str], Path]
UNUSED = (
    "token_type", "position_embeddings", "wpe", "mask_emb", "r_s_bias", "seg_embed", "key.bias",
    "k_lin.bias", "k_proj.bias", "relative_attention", "word_emb",
)  # fmt: skip
METHODS: list[Method] = [Full(), Frozen(dropout=0.1), LoRA(rank=4, alpha=8.0)]


def named(method: Method) -> str:
    return method.part_name()


def trained(folder: Path, out: Path, method: Method, **settings: Any) -> tuple[Any, Any, Any]:
    """The run, and all weights before and after."""
    model = method.attach(classifier(folder), 0)
    before = weights_of(model)
    run = fit(folder, out, model=model, rows=24, epochs=2, learning_rate=5e-3, **settings)
    run.run()
    return run, before, weights_of(model)


@pytest.mark.parametrize("family", [*FAST, *SLOW])
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_what_moves(method: Method, family: str, tiny_of: Folder, tmp_path: Path) -> None:
    run, before, after = trained(tiny_of(family), tmp_path, method)
    heads = family_of(run.model.config).head_modules
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    asked = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert moved <= asked
    assert any(f"{head}." in name for head in heads for name in moved)
    for name in asked - moved:  # weights that play no part for these rows
        assert any(word in name for word in UNUSED), name
    for name in asked:
        in_head = any(f"{head}." in name for head in heads)
        if method.part_name() == "frozen":
            assert in_head, name
        if method.part_name() == "lora":
            assert in_head or "lora_" in name, name
    if method.part_name() == "full":
        assert asked == set(before)


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_an_untrained_lora_changes_nothing(family: str, tiny_of: Folder) -> None:
    """In the compute that trains it, too."""
    from learning import ready

    plain, adapted = (classifier(tiny_of(family)) for _ in range(2))
    adapted = LoRA(dropout=0.3).attach(adapted, 0)
    ids = torch.tensor([[1, 8, 9, 10, 2], [1, 20, 21, 22, 2]])
    lengths = torch.tensor([5, 5])
    with torch.no_grad():
        expected = ready(plain).logits(ids, lengths, training=False)
        found = ready(adapted).logits(ids, lengths, training=False)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_lora_computes_as_peft_does(targets: Any, tiny_of: Folder, tmp_path: Path) -> None:
    """Forward and gradient of a trained adapter through the fast encoder and through PEFT."""
    import copy

    from learning import gradients, ready

    run, _, _ = trained(tiny_of("bert"), tmp_path, LoRA(rank=4, targets=targets))
    twin = copy.deepcopy(run.model)
    ids = torch.tensor([[1, 8, 9, 10, 2], [1, 20, 21, 22, 2], [1, 30, 31, 2, 0]])
    lengths, targets_ = torch.tensor([5, 5, 4]), torch.tensor([0, 1, 2])
    loss, ours = gradients(ready(run.model), ids, lengths, targets_)
    mask = (torch.arange(5) < lengths[:, None]).long()
    twin.zero_grad()
    theirs = twin(input_ids=ids, attention_mask=mask, labels=targets_).loss
    theirs.backward()
    torch.testing.assert_close(loss, theirs.detach())
    for name, weights in twin.named_parameters():
        if weights.grad is not None:
            torch.testing.assert_close(ours[name], weights.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert any("lora_A" in name for name in ours)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "gpt2", "t5"])
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_saved_and_loaded_by_others(
    method: Method, family: str, tiny_of: Folder, tmp_path: Path
) -> None:
    """Plain transformers, and plain PEFT, answer as the trained model does; so do we."""
    from transformers import AutoModelForSequenceClassification

    run, _, _ = trained(tiny_of(family), tmp_path / "run", method)
    base, out = base_of(tiny_of(family)), tmp_path / "model"
    method.save(run.model, backbone.load_tokenizer(base), out, base)
    run.forward.full_precision()
    expected = run.validation.dataset.predict(run.forward)
    kind = AutoModelForSequenceClassification
    if method.part_name() == "lora":
        import warnings

        from peft import PeftModel

        names = {path.name for path in out.iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= names
        assert not {"model.safetensors", "config.json"} & names
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = kind.from_pretrained(base.path, num_labels=len(LABELS))
            body.config.pad_token_id = run.model.config.pad_token_id
            model: Any = PeftModel.from_pretrained(body, str(out))
    else:
        model = kind.from_pretrained(out)
        assert model.config.id2label == dict(enumerate(LABELS))
    loaded, tokenizer = load_saved(out)
    inputs = tokenizer(
        messages(24)[0], padding=True, return_tensors="pt", return_token_type_ids=False
    )
    for one in (model, loaded):
        with torch.no_grad():
            found = one.eval()(**inputs).logits.numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_frozen_grows_by_one_layer(tiny_of: Folder) -> None:
    mean = Frozen().attach(classifier(tiny_of("bert")), 0)
    first = Frozen(pooling="first").attach(classifier(tiny_of("bert")), 0)
    assert (len(layers_of(mean)), len(layers_of(first))) == (3, 2)
    assert Frozen.caches_features and not LoRA.caches_features and not Full.caches_features


def test_the_seed_decides_the_adapter(tiny_of: Folder) -> None:
    def lora_a(seed: int) -> list[torch.Tensor]:
        model = LoRA().attach(classifier(tiny_of("bert")), seed)
        return [p for n, p in model.named_parameters() if "lora_A" in n]

    one, same, other = lora_a(1), lora_a(1), lora_a(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_learning_rates_follow_the_width() -> None:
    for method in METHODS:
        assert method.default_learning_rate(384) >= method.default_learning_rate(768) > 0
