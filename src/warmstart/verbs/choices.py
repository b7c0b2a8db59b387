"""Every choice that a recipe leaves open, made from the rows and the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import RecipeError
from warmstart.recipe import Recipe

if TYPE_CHECKING:
    from warmstart.data.tokens import TokenStore
    from warmstart.models.catalog import Base
    from warmstart.tasks.base import Task

CLASS_STEPS = 60
"""Steps that each class wants: 77 classes need twice the passes that 4 do (bench/scores.py)."""
USUAL_WIDTH = 768
"""Of the layers of a base whose config names no width."""


def check_rank(method: Any, config: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for a change of higher rank than the matrices that it changes."""
    from warmstart.models.families import width_of

    rank, width = getattr(method, "rank", 0), width_of(config)
    if rank > width > 0:
        raise RecipeError(
            f"method.rank = {rank:,}: the layers of the base are {width:,} wide, and no change of "
            "their matrices has a higher rank; give less, as in 16, or take --method full"
        )


def resolved(
    recipe: Recipe, base: Base, rows: int, longest: int, index: np.ndarray, store: TokenStore
) -> Recipe:
    """The recipe with every open choice made, so that it repeats the run wherever it is read."""
    from warmstart.data.batches import plan
    from warmstart.methods.base import Method
    from warmstart.models.families import family_of, width_of
    from warmstart.models.weights import read_json as read_config
    from warmstart.train.precision import choose, device_named

    method: Any = recipe.method
    train = recipe.train
    config = read_config(base.path / "config.json")
    width = width_of(config) or USUAL_WIDTH
    task: Any = recipe.task
    batch = train.batch_size or task.usual_batch or method.default_batch_size
    one_state = task.form not in ("tokens", "span")
    cached = method.caches_features and bool(family_of(config).post_norm_block) and one_state
    if train.batch_tokens and not cached:
        steps = len(plan(store.sizes[index], batch, recipe.seed, 0, train.batch_tokens))
    else:
        steps = -(-rows // batch)
    pace = method if cached or not method.caches_features else Method
    classes = len(np.unique(store.targets)) if task.form == "classes" and not cached else 0
    epochs = train.epochs or _usual_epochs(task, pace, steps, classes)
    device = device_named(train.device)
    precision = "bf16" if "bfloat16" in str(choose(train.precision, device)) else "fp32"
    chosen = {
        "epochs": epochs,
        "patience": max(3, epochs // 4) if train.patience is None else train.patience,
        "batch_size": batch,
        "learning_rate": train.learning_rate or task.usual_rate(method, width),
        "precision": precision,
        "device": device.type,
    }
    task = task.model_copy(update={"max_length": longest})
    return recipe.model_copy(update={"train": train.model_copy(update=chosen), "task": task})


def _usual_epochs(task: Task, pace: Any, steps: int, classes: int) -> int:
    """The passes where the recipe names none; `steps` make one."""
    fewest, most = pace.epochs_between
    wanted = max(pace.steps_wanted, CLASS_STEPS * classes)
    return task.usual_epochs or min(most, max(fewest, task.least_epochs, -(-wanted // steps)))
