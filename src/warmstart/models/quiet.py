"""Calls into transformers: without noise, with repeatable numbers, and errors in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from warmstart.errors import BaseModelError, WarmstartError, shown

LOAD: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""For `from_pretrained`: nothing is fetched, and no code that comes with a model is run."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers that depend on `seed` alone; the caller's generator is put back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a `BaseModelError` that begins with `what`."""
    try:
        yield
    except WarmstartError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise all kinds
        raise BaseModelError(f"{what}: {shown(error, 200)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings from transformers and PEFT."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging as noise

    level, bar = noise.get_verbosity(), noise.is_progress_bar_enabled()
    hub_bar = not are_progress_bars_disabled()
    noise.set_verbosity(logging.CRITICAL)
    noise.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        noise.set_verbosity(level)
        if bar:
            noise.enable_progress_bar()
        if hub_bar:
            enable_progress_bars()
        else:
            disable_progress_bars()
