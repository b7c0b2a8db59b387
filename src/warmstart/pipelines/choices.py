"""The choices that a recipe leaves open, made for the base and the rows; what does not go together.

`prepare` asks in this order: `for_base`, `check_method`, `fitted`, `rows_of`, `resolved`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from warmstart.config.keys import part_table
from warmstart.config.recipe import Recipe
from warmstart.data import sampling
from warmstart.data.ledger import Ledger
from warmstart.data.splitting import Splits
from warmstart.data.tokens.batching import plan
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import FLOAT32_ONLY, family_of, skeleton, width_of
from warmstart.models.base import Base
from warmstart.models.checks import read_json
from warmstart.models.loading import check_output_matrix
from warmstart.tasks.base import Task
from warmstart.training.datasets import row_sizes
from warmstart.training.precision import choose, device_named

CLASS_STEPS = 60
"""Steps that each class wants: 77 classes need twice the passes that 4 do (bench/scores.py)."""
USUAL_WIDTH = 768
"""Of the layers of a base whose config names no width."""


def for_base(recipe: Recipe, base: Base, tokenizer: Any) -> Recipe:
    """The recipe with what an objective without labels settles. Raises `RecipeError` where it does
    not go with the base."""
    objective: Any = recipe.objective
    task: Any = recipe.task
    if not task.head.predicts_itself:
        return recipe
    config = read_json(base.path / "config.json")
    objective.check_base(config, family_of(config).kind, tokenizer)
    own = {key: value for key, value in part_table(objective).items() if value is not None}
    settled: dict[str, Any] = {"trained_by": own}
    if task.reads_documents:
        settled["covers_text"] = objective.covers_text and task.long == "split"
    return recipe.model_copy(update={"task": task.model_copy(update=settled)})


def check_method(recipe: Recipe, base: Base) -> None:
    """Raise `RecipeError` where the method does not go with the base, before anything has been
    written."""
    method: Any = recipe.method
    task: Any = recipe.task
    task.check(method)
    config = read_json(base.path / "config.json")
    rank, width = getattr(method, "rank", 0), width_of(config)
    if rank > width > 0:  # a change of higher rank than the matrices that it changes
        raise RecipeError(
            f"method.rank = {rank:,}: the layers of the base are {width:,} wide, and no change of "
            "their matrices has a higher rank; give less, as in 16, or take --method full"
        )
    writes = task.head.generates
    if writes and family_of(config).kind == "encoder":
        raise RecipeError(
            f"task {task.part_name()} writes texts, and '{config['model_type']}' is an encoder, "
            "which cannot; take a --base that is an encoder-decoder (T5, BART, PEGASUS) or a "
            "decoder (GPT-2, Llama, Qwen)"
        )
    if writes or type(method).check is not Method.check:
        itself = task.head.predicts_itself and family_of(config).kind != "encoder"
        frame = skeleton(config, writes=writes or itself)
        method.check(frame)
        if writes:
            check_output_matrix(frame, base)


def fitted(
    recipe: Recipe, base: Base, tokenizer: Any, splits: Splits, ledger: Ledger | None = None
) -> Task:
    """The task as the base and the training rows settle it, its texts as long as there is room."""
    task: Any = recipe.task
    method: Any = recipe.method
    room = tokenizer.model_max_length - method.extra_tokens
    task = task.resolve_for_base(read_json(base.path / "config.json"), room)
    task = task.resolve_for_data(splits.train)
    if task.max_length > room and ledger is not None:
        ledger.note("length", f"task.max_length is {room:,} and not {task.max_length:,}: the base "
                    "reads no more at once")  # fmt: skip
    return task.model_copy(update={"max_length": min(task.max_length, room)})


def rows_of(recipe: Recipe, store: TokenizedDataset) -> np.ndarray:
    """The rows of train to learn from."""
    if recipe.data.sampling == "none":
        return store.taught
    task: Any = recipe.task
    if not task.head.single_label:
        raise RecipeError(
            f"data.sampling evens out classes, and the rows of task {task.part_name()} have no "
            "single class; leave it at none"
        )
    return sampling.resample(store.targets, recipe.data.sampling, recipe.seed)


def resolved(recipe: Recipe, base: Base, rows: np.ndarray, store: TokenizedDataset) -> Recipe:
    """The recipe with every open choice made, so that it repeats the run wherever it is read."""
    method: Any = recipe.method
    task: Any = recipe.task
    train, config = recipe.train, read_json(base.path / "config.json")
    width = width_of(config) or USUAL_WIDTH
    batch = train.batch_size or task.default_batch or method.default_batch_size
    one_state = not task.head.per_token
    cached = method.caches_features and bool(family_of(config).post_norm_block) and one_state
    if train.batch_tokens and not cached:
        steps = len(plan(store.sizes[rows], batch, recipe.seed, 0, train.batch_tokens))
    else:
        steps = -(-len(rows) // batch)
    pace = method if cached or not method.caches_features else Method
    classes = len(np.unique(store.targets)) if task.head.single_label and not cached else 0
    fewest, most = pace.epochs_between
    wanted = -(-max(pace.steps_wanted, CLASS_STEPS * classes) // steps)
    usual = task.default_epochs or min(most, max(fewest, task.min_epochs, wanted))
    epochs = train.epochs or usual
    if train.max_steps or train.tokens:
        tokens = int(row_sizes(store)[rows].sum())
        passes = (train.max_steps or 0) / steps + (train.tokens or 0) / max(tokens, 1)
        epochs = math.ceil(passes)
    device = device_named(train.device)
    wanted_type = train.precision
    if wanted_type == "auto" and config.get("model_type") in FLOAT32_ONLY:
        wanted_type = "fp32"
    precision = "bf16" if "bfloat16" in str(choose(wanted_type, device)) else "fp32"
    chosen = {
        "epochs": None if train.max_steps or train.tokens else epochs,
        "patience": max(3, epochs // 4) if train.patience is None else train.patience,
        "batch_size": batch,
        "learning_rate": train.learning_rate or task.default_rate(method, width),
        "precision": precision,
        "device": device.type,
    }
    return recipe.model_copy(update={"train": train.model_copy(update=chosen)})
