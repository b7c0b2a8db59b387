"""The proof of tasks that write: the same loss and the same texts from the saved folder.

transformers (or PEFT) loads the folder; the task encodes the raw rows with the saved tokenizer.
Row by row, without padding, the model's own loss is computed and `generate` writes by the saved
`generation_config.json` alone.
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
    from warmstart.data.written import Written
    from warmstart.tasks.base import Examples, Task

ROWS = 16
OTHER_TEXTS = 1
"""Rows whose text may differ where the loss does not: beams that score alike to the last digit."""


def prove_text(
    folder: Path, task: Task, examples: Examples, outputs: Written, seed: int
) -> dict[str, Any]:
    """See `prove_task`. The loss of a row may differ by 1e-4 nats a token."""
    begun = time.perf_counter()
    rows = chosen_rows(task.as_text(examples.table).to_pylist(), seed)[:ROWS]
    ours = [outputs.ids[int(row)] or [] for row in rows]
    wanted = outputs.nats[rows] / np.maximum(outputs.tokens[rows], 1)
    with loading(folder):
        losses, written, tokenizer, loader = _afresh(folder, task, examples, rows)
    texts = [tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in (ours, written)]
    same = sum(a.strip() == b.strip() for a, b in zip(*texts, strict=True))
    gap = float(np.abs(losses - wanted).max())
    figures = {
        "passed": bool(gap <= TOLERANCE and same >= len(rows) - OTHER_TEXTS),
        "rows": len(rows),
        "same_text": same,
        "max_difference": gap,
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if not figures["passed"]:
        raise ProofError(
            f"the model saved in {folder} does not write as the trained one: {same} of "
            f"{counted(len(rows), 'text')} the same, and losses differ by up to {gap:.4f} nats "
            "a token"
        )
    return figures


def _afresh(
    folder: Path, task: Task, examples: Examples, rows: np.ndarray
) -> tuple[np.ndarray, list[list[int]], Any, str]:
    """Loss a token and written ids of each row, the tokenizer, and what loaded the model."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    from warmstart.models.quiet import quiet

    with quiet(), torch.no_grad():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config, "text")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        table = examples.table.take(rows)
        store = task.encode(table, examples.labels, tokenizer, task.max_length)
        losses = [_loss(model, config, store, i) for i in range(len(store))]
        written: list[list[int]] = []
        for i in range(len(store)):
            ids = torch.from_numpy(store.row(i).astype(np.int64))[None]
            mask = torch.ones_like(ids)
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[
                0
            ].tolist()
            echoed = not config.is_encoder_decoder and found[: ids.shape[1]] == ids[0].tolist()
            written.append(found[ids.shape[1] :] if echoed else found)
    return np.array(losses), written, tokenizer, loader


def _loss(model: Any, config: Any, store: TokenStore, row: int) -> float:
    """The model's own loss of one row: of the answer alone."""
    import torch

    answers = store.answers
    assert answers is not None
    ids = torch.from_numpy(store.row(row).astype(np.int64))[None]
    labels = torch.from_numpy(answers.row(row).astype(np.int64))[None]
    if not config.is_encoder_decoder:
        ids, labels = (
            torch.cat([ids, labels], 1),
            torch.cat([torch.full_like(ids, -100), labels], 1),
        )
    named = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return float(model(**named).loss)
