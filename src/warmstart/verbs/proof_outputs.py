"""The proof of tasks that no pipeline answers: the outputs themselves, row by row.

transformers (or PEFT) loads the saved folder, the task encodes the raw rows with the saved
tokenizer, and the model's own forward pass answers them one at a time, without padding.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.counting import counted
from warmstart.errors import ProofError
from warmstart.verbs.proof import TOLERANCE, chosen_rows, fresh_model, loading

if TYPE_CHECKING:
    from warmstart.data.tokens import TokenStore
    from warmstart.tasks.base import Examples, Task


def prove_outputs(
    folder: Path, task: Task, examples: Examples, outputs: np.ndarray, seed: int
) -> dict[str, Any]:
    """See `prove_task`. Compared are probabilities, or values, each of which may differ by 1e-4
    of the largest."""
    begun = time.perf_counter()
    rows = chosen_rows(task.as_text(examples.table).to_pylist(), seed)
    wanted = answers_of(examples.store, rows, outputs)
    with loading(folder):
        found, loader = _afresh(folder, task, examples, rows)
    if len(found) != len(wanted):
        raise ProofError(
            f"the tokenizer saved in {folder} splits the texts in another way: {len(found)} and "
            f"{len(wanted)} outputs"
        )
    theirs, ours = linked(task.form, found), linked(task.form, wanted)
    return compared(folder, theirs, ours, len(rows), loader, begun)


def compared(
    folder: Path, theirs: np.ndarray, ours: np.ndarray, rows: int, loader: str, begun: float
) -> dict[str, Any]:
    """The figures of a proof: how far the saved folder's outputs are from the run's.

    `begun` is when it began (`time.perf_counter`). Raises `ProofError`.
    """
    gap = float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max())))
    if not gap <= TOLERANCE:  # not a number, either
        raise ProofError(
            f"the model saved in {folder} does not answer as the trained one: its outputs differ "
            f"by up to {gap:.4f} on {counted(rows, 'test row')}"
        )
    return {
        "passed": True,
        "rows": rows,
        "outputs": int(ours.size),
        "max_difference": gap,
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }


def answers_of(store: TokenStore, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The outputs that belong to rows of the table, windows in order."""
    windows = np.arange(len(store))
    if store.of_row is not None:
        windows = np.flatnonzero(np.isin(store.of_row, rows))
    else:
        windows = windows[rows]
    if len(outputs) == len(store) and len(outputs) != len(store.ids):
        return outputs[windows]
    parts = [outputs[store.offsets[i] : store.offsets[i + 1]] for i in windows]
    return np.concatenate(parts)


def linked(form: str, outputs: np.ndarray) -> np.ndarray:
    """Outputs as what they mean: probabilities, or values as they are."""
    from warmstart.tasks._classes import softmax

    if form == "labels":
        return 1.0 / (1.0 + np.exp(-outputs.astype(np.float64)))
    return softmax(outputs) if form in ("classes", "tokens") else outputs.astype(np.float64)


def _afresh(
    folder: Path, task: Task, examples: Examples, rows: np.ndarray
) -> tuple[np.ndarray, str]:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.quiet import quiet
    from warmstart.models.saved import load_saved

    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        if getattr(task, "module", None):
            model, loader = load_saved(folder)[0], "AutoModel, with your own head"
        else:
            model, loader = fresh_model(folder, config, task.form)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    table = examples.table.take(rows)
    store = task.encode(table, examples.labels, tokenizer, task.max_length)
    parts: list[np.ndarray] = []
    with torch.no_grad():
        for i in range(len(store)):
            ids = torch.from_numpy(store.row(i).astype(np.int64))[None]
            named: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if store.types is not None:
                types = store.types[store.offsets[i] : store.offsets[i + 1]].astype(np.int64)
                named["token_type_ids"] = torch.from_numpy(types)[None]
            answer = model(**named)
            both = getattr(answer, "start_logits", None)
            logits = answer.logits if both is None else torch.stack([both, answer.end_logits], -1)
            behind = logits if logits.ndim == 2 else logits[:, -ids.shape[1] :]  # virtual tokens
            parts.append(behind.float().numpy())
    flat = [part[0] if part.ndim == 3 else part for part in parts]
    return np.concatenate(flat), loader
