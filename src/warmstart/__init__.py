"""warmstart: a pretrained transformer through its whole life.

    import warmstart

    run = warmstart.tune("tickets.csv")
    run.predict(["my parcel never came"])
    run.report

Everything here is loaded when it is first used; `import warmstart` loads no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.api import (
        adapters,
        demo,
        evaluate,
        fetch,
        inspect,
        models,
        plan,
        predict,
        retrieval,
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

_HOMES = {
    "adapters": "api",
    "demo": "api",
    "evaluate": "api",
    "fetch": "api",
    "inspect": "api",
    "models": "api",
    "plan": "api",
    "predict": "api",
    "retrieval": "api",
    "tokenizer": "api",
    "tune": "api",
    "BaseModelError": "errors",
    "DataError": "errors",
    "HubError": "errors",
    "ProofError": "errors",
    "RecipeError": "errors",
    "RunError": "errors",
    "WarmstartError": "errors",
    "Recipe": "config.recipe",
    "Run": "run",
    "Prediction": "types",
    "Inspection": "pipelines.inspect",
    "Comparison": "pipelines.compare.result",
}

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
    "demo",
    "evaluate",
    "fetch",
    "inspect",
    "models",
    "plan",
    "predict",
    "retrieval",
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
    """`warmstart.evaluate` is the function, also after the folder of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
