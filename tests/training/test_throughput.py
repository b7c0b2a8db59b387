"""What a model computes for a token, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from learning import CPU, base_of
from warmstart.models.architectures import layers_of
from warmstart.models.head_layers import unwrap
from warmstart.models.loading import load_language
from warmstart.training.throughput import Work, peak_of

Folder = Callable[[str], Path]


def test_operations_are_counted_as_in_palm(tiny_of: Folder) -> None:
    """6 for each weight that multiplies a token, 12 x layers x width for each token of its row."""
    base = base_of(tiny_of("gpt2"))
    model = load_language(base, "AutoModelForCausalLM", 0)
    work = Work.of(model, torch.float32, CPU)
    assert work is not None
    words = model.config.vocab_size * 32
    assert (work.body, work.head, work.attention) == (12 * 2 * 32 * 32, words, 2 * 32)
    whole = work.operations(64, 60, 4)
    assert whole == 6 * (work.body * 64 + words * 60) + 12 * 64 * 64 * 16
    one = Work.of(load_language(base_of(tiny_of("bert")), "AutoModelForMaskedLM", 0), torch.float32,
                  CPU)  # fmt: skip
    shared = load_language(base_of(tiny_of("albert")), "AutoModelForMaskedLM", 0)
    again, deep = Work.of(shared, torch.float32, CPU), shared.config.num_hidden_layers
    assert one is not None and again is not None and deep == 2
    assert again.attention == one.attention  # one layer, read twice
    layer = next(iter(layers_of(unwrap(shared)))).parameters()
    least = deep * sum(p.numel() for p in layer if p.ndim > 1)
    assert least <= again.body < least + 32 * 4 * 32
    model.requires_grad_(False)
    still = Work.of(model, torch.float32, CPU)
    assert still is not None and still.operations(64, 60, 4) < whole
    assert Work.of(load_language(base_of(tiny_of("t5")), "AutoModelForSeq2SeqLM", 0),
                   torch.float32, CPU) is None  # fmt: skip


def test_a_product_of_matrices_has_all_of_the_peak() -> None:
    peak = peak_of(torch.float32, CPU)
    assert peak > 1e8
    work = Work(body=100, head=0, attention=0, trained=1.0, peak=600.0)
    assert work.share(tokens=1, predicted=0, rows=1, seconds=1) == pytest.approx(1.0)
