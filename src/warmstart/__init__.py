"""warmstart: a pretrained transformer through its whole life.

    import warmstart

    run = warmstart.tune("tickets.csv")
    run.predict(["my parcel never came"])
    run.report

Everything here is loaded when it is first used; `import warmstart` loads no torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.api import (
        adapters,
        align,
        build,
        chat,
        compress,
        demo,
        evaluate,
        fetch,
        generate,
        inspect,
        models,
        pipeline,
        plan,
        predict,
        prefer,
        pretrain,
        retrieval,
        run_stages,
        scaling,
        serve,
        tokenizer,
        tune,
    )
    from warmstart.config.recipe import Recipe
    from warmstart.errors import (
        BaseModelError,
        DataError,
        HubError,
        ProofError,
        RecipeError,
        RunError,
        WarmstartError,
    )
    from warmstart.pipelines.compare.result import Comparison
    from warmstart.pipelines.inspect import Inspection
    from warmstart.run import Run
    from warmstart.types import Prediction

__version__ = "0.1.0"

# Read by OpenMP when torch is loaded: threads that wait sleep. By default they spin, which on a
# machine with other work takes the cores from the threads that they wait for (bench/busy.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

_NAMES = {
    "api": "adapters align build chat compress demo evaluate fetch generate inspect models "
    "pipeline plan predict prefer pretrain retrieval run_stages scaling serve tokenizer tune",
    "errors": "BaseModelError DataError HubError ProofError RecipeError RunError WarmstartError",
    "config.recipe": "Recipe",
    "run": "Run",
    "types": "Prediction",
    "pipelines.inspect": "Inspection",
    "pipelines.compare.result": "Comparison",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [
    "BaseModelError",
    "Comparison",
    "DataError",
    "HubError",
    "Inspection",
    "Prediction",
    "ProofError",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "WarmstartError",
    "adapters",
    "align",
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
    "predict",
    "prefer",
    "pretrain",
    "retrieval",
    "run_stages",
    "scaling",
    "serve",
    "tokenizer",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"warmstart.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'warmstart' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(ModuleType):
    """`warmstart.models` is the function, also after the folder of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "models" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
