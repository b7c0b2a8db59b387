"""What warmstart can do, as functions. The command line calls these and nothing else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from warmstart.api.answering import (
    answers,
    build,
    chat,
    compress,
    evaluate,
    generate,
    pipeline,
    plan_compression,
    predict,
    prefer,
    serve,
)
from warmstart.api.training import (
    SAMPLES,
    align,
    demo,
    fetch,
    inspect,
    models,
    plan,
    plan_stages,
    pretrain,
    recipe_for,
    run_stages,
    scaling,
    tune,
)

if TYPE_CHECKING:
    from warmstart.pipelines import adapters
    from warmstart.pipelines import search as retrieval
    from warmstart.pipelines import tokenizers as tokenizer

__all__ = [
    "SAMPLES",
    "adapters",
    "align",
    "answers",
    "build",
    "chat",
    "compress",
    "demo",
    "evaluate",
    "fetch",
    "generate",
    "inspect",
    "models",
    "pipeline",
    "plan",
    "plan_compression",
    "plan_stages",
    "predict",
    "prefer",
    "pretrain",
    "recipe_for",
    "retrieval",
    "run_stages",
    "scaling",
    "serve",
    "tokenizer",
    "tune",
]
MODULES = {"adapters": "adapters", "retrieval": "search", "tokenizer": "tokenizers"}
"""Names of this module that are modules, which load torch: when they are first used."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"warmstart.pipelines.{MODULES[name]}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
