"""The proof: the saved folder, loaded afresh by other people's tools, answers the same.

Nothing of the trained model in memory is used: transformers (or PEFT) loads the folder, splits
the raw texts with the saved tokenizer and computes; the probabilities are compared with those of
the run's predictions. A head that was not saved, a tokenizer that differs or weights that were
lost on the way cannot pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.counting import counted
from warmstart.errors import ProofError, shown
from warmstart.models.auto import Head, kind_of

TOLERANCE = 1e-4
ROWS = 64


def prove(
    folder: Path, texts: Sequence[str], probabilities: np.ndarray, max_length: int, seed: int
) -> dict[str, Any]:
    """Compare and return the figures for `proof.json`.

    Args:
        folder: the saved model or adapter.
        texts: the test split's texts, n of them.
        probabilities: [n, K], as the run gave them.

    Raises `ProofError` when any probability differs by more than 1e-4.
    """
    begun = time.perf_counter()
    rows = chosen_rows(texts, seed)
    chosen = [str(texts[int(i)]) for i in rows]
    with loading(folder):
        answer, loader = _answers(folder, chosen, max_length)
    gap = np.abs(answer - probabilities[rows])
    same = int((answer.argmax(1) == probabilities[rows].argmax(1)).sum())
    figures = {
        "passed": bool(gap.max() <= TOLERANCE),
        "rows": len(rows),
        "same_label": same,
        "max_probability_difference": float(gap.max()),
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if not figures["passed"]:
        raise ProofError(
            f"the model saved in {folder} does not answer as the trained one: probabilities "
            f"differ by up to {gap.max():.4f} on {counted(len(rows), 'test row')}"
        )
    return figures


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes a `ProofError`."""
    try:
        yield
    except Exception as error:  # transformers, peft and safetensors raise all kinds
        raise ProofError(
            f"the model saved in {folder} cannot be loaded afresh: {shown(error, 160)}"
        ) from error


def chosen_rows(texts: Sequence[str], seed: int) -> np.ndarray:
    """Up to `ROWS` rows: the longest and the shortest text, the rest at random."""
    sizes = np.array([len(text) for text in texts])
    ends = {int(sizes.argmax()), int(sizes.argmin())}
    order = np.random.default_rng(seed).permutation(len(texts))
    rest = [int(i) for i in order if int(i) not in ends]
    return np.array(sorted([*ends, *rest[: ROWS - len(ends)]]))


def _answers(folder: Path, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, str]:
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.prompts import is_prompted
    from warmstart.models.quiet import quiet

    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        classify: Any = transformers.pipeline(
            "text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None
        )
        # behind virtual tokens PEFT reads a batch's padding as text: one text at a time
        batch = 1 if is_prompted(model) else 8
        found = classify(list(texts), truncation=True, max_length=max_length, batch_size=batch)
    table = np.zeros((len(texts), config.num_labels))
    for row, scores in enumerate(found):
        for entry in scores:
            table[row, config.label2id[entry["label"]]] = entry["score"]
    return table, loader


def fresh_model(folder: Path, config: Any, head: Head = "classes") -> tuple[Any, str]:
    """The saved model, loaded by transformers or PEFT alone, and what loaded it."""
    import transformers

    from warmstart.models.families import family_of

    name = kind_of(head, family_of(config).kind).auto
    auto = getattr(transformers, name)
    version = f"transformers {transformers.__version__}"
    if not (folder / "adapter_config.json").exists():
        model = auto.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return model.eval(), f"{name}, {version}"
    return _adapted(folder, config, auto, version)


def _adapted(folder: Path, config: Any, auto: Any, version: str) -> tuple[Any, str]:
    """PEFT's model over the base that the adapter names; merged, where that can be."""
    import peft

    from warmstart.models.bottleneck import register
    from warmstart.models.peft_models import can_merge, merged
    from warmstart.models.saved import base_bits, with_adapter

    register()
    adapter: Any = peft.PeftConfig.from_pretrained(str(folder))
    base = auto.from_pretrained(
        adapter.base_model_name_or_path, config=config, local_files_only=True, use_safetensors=True
    )
    adapted: Any = with_adapter(base, folder)
    loader = f"PeftModel, peft {peft.__version__}, {version}"
    if bits := base_bits(folder):
        return adapted.eval(), f"{loader}, base in {bits} bits"
    return (merged(adapted) if can_merge(adapted) else adapted).eval(), loader
