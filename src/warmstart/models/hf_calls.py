"""Calls into transformers: without noise, with repeatable numbers, and errors in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from warmstart.errors import BaseModelError, WarmstartError, lacks_memory, shown

LOAD: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""For `from_pretrained`: nothing is fetched, and no code that comes with a model is run."""
FLOAT32: dict[str, Any] = {**LOAD, "dtype": "float32", "use_safetensors": True}
"""As `LOAD`, of a model's weights."""


def set_labels(config: Any, labels: Sequence[str]) -> None:
    """Write the task's labels into a config, which so knows their number too."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}


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
    except BaseException as error:  # transformers, tokenizers and safetensors raise all kinds
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # such as Ctrl-C; what panics in Rust is no Exception either
        if lacks_memory(error):
            raise  # of the machine, and not the file's fault
        raise BaseModelError(f"{what}: {shown(error, 200)}") from error


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """No warnings from transformers, PEFT and the hub, and no progress bars but `bars`."""
    from huggingface_hub import utils as hub
    from transformers.utils import logging as hf

    levels = hf.get_verbosity(), hub.logging.get_verbosity()
    own_bars, hub_bars = hf.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    hf.set_verbosity(logging.CRITICAL)
    hub.logging.set_verbosity_error()
    if not bars:
        hf.disable_progress_bar()
        hub.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf.set_verbosity(levels[0])
        hub.logging.set_verbosity(levels[1])
        if own_bars:
            hf.enable_progress_bar()
        (hub.enable_progress_bars if hub_bars else hub.disable_progress_bars)()
