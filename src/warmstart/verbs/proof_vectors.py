"""The proof of vectors: the saved folder in plain transformers, pooled as its files say.

One text at a time, without padding; nothing of the trained model in memory is used.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.models.sentence_folder import read_modules
from warmstart.verbs.proof import chosen_rows, fresh_model, loading
from warmstart.verbs.proof_outputs import compared

if TYPE_CHECKING:
    from warmstart.tasks.base import Examples, Task


def prove_vectors(
    folder: Path, task: Task, examples: Examples, outputs: np.ndarray, seed: int
) -> dict[str, Any]:
    """See `prove_task`; `outputs` are vectors [n, K, H]. An element may differ by 1e-4 of the
    largest."""
    begun = time.perf_counter()
    texts: list[str] = task.as_text(examples.table).to_pylist()
    rows = chosen_rows(texts, seed)
    wanted = outputs[rows, 0]
    with loading(folder):
        found, loader = _afresh(folder, [texts[int(i)] for i in rows], task.max_length)
    return compared(folder, found, wanted, len(rows), loader, begun)


def _afresh(folder: Path, texts: list[str], max_length: int) -> tuple[np.ndarray, str]:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.quiet import quiet

    said = read_modules(folder)
    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config, "vector")
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found: list[np.ndarray] = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            hidden = model(
                input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]
            ).last_hidden_state[0].float()  # fmt: skip
            vector = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}
            found.append(vector[said["pooling"]].numpy())
    vectors = np.stack(found)
    if said["normalise"]:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors, f"{loader}, {said['pooling']} of the last hidden states"
