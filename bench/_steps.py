"""The two training steps that `profile_step.py` looks into, on the same batches.

Both give a generator that does one step each time it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from _common import base_model, load
from _trainer import collate, encode

MAX_LENGTH, BATCH, RATE, DECAY = 128, 16, 1e-4, 0.01
TOTAL = 10_000  # of the schedule; only its length


def plan_of(encoded: list[dict[str, Any]], count: int, seed: int) -> list[np.ndarray]:
    """The rows of `count` length-grouped steps."""
    from warmstart.data.tokens.batching import plan

    lengths = np.array([len(row["input_ids"]) for row in encoded])
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < count:
        batches += [rows for rows in plan(lengths, BATCH, seed, epoch) if len(rows) == BATCH]
        epoch += 1
    return batches[:count]


def rows_of(data: Path) -> list[dict[str, Any]]:
    """The training rows as token ids."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model())
    return encode(tokenizer, load(data)[0]["train"], {"max_length": MAX_LENGTH})


def tuned(data: Path, precision: str, plan: list[np.ndarray]) -> Iterator[None]:
    """What the tuned Trainer does in a step, without the Trainer around it."""
    from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

    encoded, labels = rows_of(data), load(data)[1]
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        base_model(), num_labels=len(labels), attn_implementation="sdpa"
    )
    model.train()
    groups = _groups(model)
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, TOTAL)
    low = precision == "bf16"
    for rows in plan:
        batch = collate([encoded[i] for i in rows], 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.zero_grad()
        yield


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """As the Trainer groups them: no decay on biases and norms."""
    spared = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    ids = {id(p) for p in spared}
    rest = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": rest, "weight_decay": DECAY}, {"params": spared, "weight_decay": 0.0}]


def warm(data: Path, precision: str, plan: list[np.ndarray]) -> Iterator[None]:
    """What `warmstart.tune(method="full")` does in a step: the same calls as in verbs/tune.py."""
    from warmstart.config.recipe import Recipe
    from warmstart.models.fast.forward import forward_for
    from warmstart.pipelines.prepare import prepare
    from warmstart.training.batches import BatchSource
    from warmstart.training.datasets import TokenRows, narrow
    from warmstart.training.loop import steps
    from warmstart.training.memory import keep_freed_memory
    from warmstart.training.optimizer import Optimizer
    from warmstart.training.settings import Train

    keep_freed_memory()
    prepared = prepare(
        Recipe.of({"data.path": str(data), "method": "full", "task.max_length": MAX_LENGTH})
    )
    model = prepared.task.build_model(prepared.base, prepared.labels, 0)
    model = prepared.method.attach(model, 0)
    forward = forward_for(model)
    pad = prepared.tokenizer.pad_token_id
    stores, pad = narrow(forward, prepared.stores, pad)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    forward.prepare(dtype, torch.device("cpu"), checkpointing=False)

    class Given(BatchSource):
        def plan(self, epoch: int) -> list[np.ndarray]:
            return plan

    objective, settings = prepared.objective, prepared.recipe.train
    moves = Train(learning_rate=RATE, weight_decay=DECAY, warmup=0.0)
    optimizer = Optimizer(model, moves, TOTAL)
    settings = settings.model_copy(
        update={"batch_size": BATCH, "epochs": None, "max_steps": len(plan)}
    )
    rows = TokenRows(stores["train"], pad, forward.device)
    for _ in steps(Given(rows, objective, settings), forward, optimizer, objective, seed=0):
        yield
