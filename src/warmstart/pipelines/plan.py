"""`tune --dry-run`: everything but the training, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from warmstart.config.recipe import Recipe
from warmstart.pipelines.prepare import Prepared, prepare
from warmstart.pipelines.tune import stem
from warmstart.run import check_free, check_writable, free_path


def rehearse(recipe: Recipe, source: Any = None, out: Path | None = None) -> dict[str, Any]:
    """What `tune` would do with this recipe; see `api.plan`. `out` is a run to go on with."""
    if out is None:
        out = Path(recipe.out) if recipe.out else free_path(stem(recipe))
        check_free(out)
        check_writable(out)
    task: Any = recipe.task
    if task.own_data:
        from warmstart.pipelines.multitask.prepare import rehearse_tasks

        return {**rehearse_tasks(recipe, source), "out": str(out)}
    prepared = prepare(recipe, source)
    return {
        **prepared.facts(),
        "counts": _counts(prepared),
        "steps": _steps(prepared),
        "out": str(out),
        "ledger": prepared.ledger.summary(),
        "recipe": prepared.recipe,
    }


def _counts(prepared: Prepared) -> dict[str, dict[str, int]]:
    """Label → split → rows."""
    if not prepared.task.head.single_label:
        return {}
    k = len(prepared.labels)
    numbers = {
        name: np.bincount(store.targets, minlength=k) for name, store in prepared.stores.items()
    }
    return {
        label: {name: int(counted[i]) for name, counted in numbers.items()}
        for i, label in enumerate(prepared.labels)
    }


def _steps(prepared: Prepared) -> int:
    """Steps of all epochs."""
    from warmstart.data.tokens.batching import plan

    train = prepared.recipe.train
    assert train.epochs and train.batch_size
    if not train.batch_tokens or prepared.method.caches_features:
        return train.epochs * -(-len(prepared.rows) // train.batch_size)
    lengths = prepared.stores["train"].sizes[prepared.rows]
    seed = prepared.recipe.seed
    return sum(
        len(plan(lengths, train.batch_size, seed, epoch, train.batch_tokens))
        for epoch in range(train.epochs)
    )
