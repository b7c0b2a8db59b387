"""Texts that a model writes: the settings, the loop, the text as it comes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.models.sampling.completion import Completion, Finish, Token
    from warmstart.models.sampling.loop import generate
    from warmstart.models.sampling.settings import Sampling

__all__ = ["Completion", "Finish", "Sampling", "Token", "generate"]
_HOMES = {"Completion": "completion", "Finish": "completion", "Sampling": "settings",
          "Token": "completion",
          "generate": "loop"}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The settings are read without loading torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
