"""Which of two texts a token belongs to reaches the model under every method, head and family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learning import base_of, ready
from warmstart import part as parts
from warmstart.models.architectures import body_of
from warmstart.models.custom_head import load_own
from warmstart.models.heads import CLASSES, LABELS, SPAN, TOKENS, VALUE, Head
from warmstart.models.loading import load_headed
from warmstart.models.peft.prompts import is_prompted

Folder = Callable[[str], Path]
FAMILIES = ("bert", "electra", "xlnet")
"""Those whose tokens have types; the types of XLNet stand on the right of padding."""
HEADS = (CLASSES, LABELS, VALUE, TOKENS, SPAN)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("full", "frozen", "partial", "ia3", "bitfit", "layernorm")},
    "lora": ("lora", {"rank": 4}),
    "dora": ("lora", {"rank": 4, "use_dora": True}),
    "adapter": ("adapter", {"size": 4}),
    **{name: (name, {"tokens": 3}) for name in ("prompt_tuning", "p_tuning", "prefix_tuning")},
}
CELLS = [
    (method, head, family)
    for method in METHODS
    for head in HEADS
    for family in FAMILIES
    if (method, family) != ("prefix_tuning", "xlnet")  # refused: it takes no keys and values
]
IDS = torch.tensor([[1, 8, 9, 2, 11, 12, 2], [1, 20, 2, 21, 2, 0, 0]])
TYPES = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]])
LENGTHS = torch.tensor([7, 5])


def moved(model: Any) -> Any:
    """The model with every weight away from where it begins: an adapter that says something, and
    token types that count."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return model.eval()


def logits_of(outputs: Any) -> Tensor:
    if hasattr(outputs, "start_logits"):
        return torch.stack([outputs.start_logits, outputs.end_logits], -1)
    return outputs.logits


def by_transformers(model: Any, ids: Tensor, types: Tensor) -> Tensor:
    """One row [1, L] without padding by the model of transformers itself, past PEFT's wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    mask = torch.ones_like(ids)
    if not is_prompted(model):
        outputs = inner(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return logits_of(outputs)
    prompt = model.get_prompt(batch_size=1)
    whole = torch.ones(1, ids.shape[1] + 3, dtype=torch.long)
    if isinstance(prompt, Tensor):
        words = torch.cat([prompt, model.word_embeddings(ids)], dim=1)
        types = torch.cat([torch.zeros(1, 3, dtype=torch.long), types], dim=1)
        outputs = inner(inputs_embeds=words, attention_mask=whole, token_type_ids=types)
        logits = logits_of(outputs)
        return logits if logits.ndim == 2 else logits[:, -ids.shape[1] :]

    def prefixed(_: nn.Module, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**named, "past_key_values": prompt, "attention_mask": whole}

    hook = body_of(inner).register_forward_pre_hook(prefixed, with_kwargs=True)
    outputs = inner(input_ids=ids, token_type_ids=types)
    hook.remove()
    return logits_of(outputs)


@pytest.mark.parametrize(
    ("name", "head", "family"), CELLS, ids=[f"{m}-{h.name}-{f}" for m, h, f in CELLS]
)
def test_token_types_reach_the_model(name: str, head: Head, family: str, tiny_of: Folder) -> None:
    labels = ["0"] if head is VALUE else ["a", "b", "c"]
    model: Any = load_headed(base_of(tiny_of(family)), head, labels, 0, 0.0)
    check(model, name)


@pytest.mark.parametrize("name", ["full", "lora", "adapter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_reach_a_head_of_ones_own(name: str, family: str, tiny_of: Folder) -> None:
    parts.allow_named({"module": "own_heads.Attending"})
    check(load_own(base_of(tiny_of(family)), "own_heads.Attending", {}, ["a", "b"], 0), name)


def check(model: Any, name: str) -> None:
    part, settings = METHODS[name]
    method: Any = parts.make("method", part, settings)
    model = moved(method.attach(model, 0))
    with torch.no_grad():
        typed = ready(model).logits(IDS, LENGTHS, training=False, types=TYPES)
        slow = ready(model, fast=False).logits(IDS, LENGTHS, training=False, types=TYPES)
        plain = ready(model).logits(IDS, LENGTHS, training=False)
        assert not torch.allclose(typed[0], plain[0], atol=1e-4), "types change the answer"
        for row, length in enumerate(LENGTHS.tolist()):
            wanted = by_transformers(
                model, IDS[row : row + 1, :length], TYPES[row : row + 1, :length]
            )
            of = slice(None) if typed.ndim == 2 else slice(0, length)
            for logits in (typed, slow):
                torch.testing.assert_close(logits[row][of], wanted[0], atol=1e-5, rtol=1e-4)
