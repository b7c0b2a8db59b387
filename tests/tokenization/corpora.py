"""Small texts in several scripts, and tokenizers of every kind trained on them."""

from __future__ import annotations

from functools import cache
from typing import Any

from warmstart.tokenization import training as build
from warmstart.tokenization.comparison import Opened, opened
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import BYTES, KINDS, Training

TEXTS = [
    "The parcel never came, and the shop does not answer.",
    "My invoice shows 3 items; I ordered two (in March)!",
    "Der Käufer hat die Straße falsch geschrieben.",
    "I'd like to cancel my order, it's the second one.",
    "Le café était fermé, mais le garçon est revenu.",
    "two  spaces\tand a tab, then\na new line",
    "漢字 and かな stand beside latin letters",
] * 12
CASES = [(kind, how) for kind in KINDS for how in BYTES[kind]]


def asked(kind: str = "bpe", **keys: Any) -> Training:
    size = None if kind == "char" else 600
    return Training.model_validate({"kind": kind, "vocab_size": size} | keys)


@cache
def trained(kind: str, how: str, normalize: str | None = "nfc", lowercase: bool = False) -> Opened:
    """A tokenizer in memory; not to be changed."""
    settings = asked(kind, bytes=how, normalize=normalize, lowercase=lowercase)
    return opened(f"{kind} {how}", build.train(settings, Corpus([TEXTS], settings))[0])
