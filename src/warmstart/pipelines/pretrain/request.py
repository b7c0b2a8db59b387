"""The request of `pretrain`: what it leaves open is settled as language models are trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.config.keys import nested, over, plain
from warmstart.errors import RecipeError, shown
from warmstart.models.architectures import family_of
from warmstart.models.base import resolve
from warmstart.models.checks import read_json
from warmstart.objectives.language import USUAL
from warmstart.pipelines.request import Request

PRETRAINING: Mapping[str, Any] = {
    "task": {"name": "language_model"},
    "data": {"validation_fraction": 0.05, "test_fraction": 0.05},
    "train": {"keep": "last", "patience": 0, "schedule": "cosine", "min_rate": 0.1,
              "warmup": 0.1, "weight_decay": 0.1, "adam_beta2": 0.99, "guard": True},
}  # fmt: skip
"""What `pretrain` has in the place of the defaults of fine-tuning. Runs often have some hundred
steps: a warm-up of 2 % is over after ten, and just behind a GPT-2's loss leapt from 6.6 to 10."""
BATCH_TOKENS = 8_192
RATES = {"nano": 2e-3, "tiny": 1e-3, "mini": 8e-4, "small": 6e-4, "base": 4e-4}
"""Size of a new base → the peak of its learning rate."""
SHARES = {"xlnet": 0.5, "electra": 0.5}
"""Architecture → its share of that: at 1e-3 the losses of a tiny XLNet and ELECTRA leapt, and the
XLNet's three times in 210 steps."""
OBJECTIVES = {
    "albert": "sop", "electra": "replaced_token", "gpt2": "clm", "llama": "clm",
    "t5": "span_corruption", "bart": "denoising", "pegasus": "gap_sentences",
    "xlnet": "permutation",
}  # fmt: skip
"""Architecture → the objective that it is known for; all others: mlm."""
SHORT = ("architecture", "size", "tokenizer", "vocabulary_size", "layers", "hidden_size", "heads")
"""Keys of `scratch` that `pretrain` takes without it."""


def pretraining(corpus: Any, recipe: Any, keys: Mapping[str, Any], resume: Path | None) -> Request:
    """A request whose recipe has the usual settings below what was typed. Raises `RecipeError`, and
    `BaseModelError` where the base to go on with is not there."""
    keys = {f"scratch.{key}" if key in SHORT else key: value for key, value in keys.items()}
    if resume is not None:
        return Request(corpus, recipe, keys, resume)
    method = keys.get("method")
    if isinstance(method, list | tuple) or (isinstance(method, str) and "," in method):
        raise RecipeError(
            "pretrain takes several seeds, but one method: its figure, the loss, is the better the "
            "lower, which the comparison of methods does not know; give each method a run, or a "
            "stage of warmstart run"
        )
    if "base" in keys and (new := keys.get("scratch.architecture")) is not None:
        raise RecipeError(
            f"base {shown(keys['base'])} goes on with a model, and architecture {shown(new)} makes "
            "a new one; give one of them"
        )
    below, above = Request(corpus, recipe, keys).layers()
    typed = over(nested(below), nested(above))
    train, scratch = dict(typed.get("train") or {}), dict(typed.get("scratch") or {})
    name = scratch.get("architecture")
    usual = {key: dict(value) for key, value in PRETRAINING.items()}
    if not train.keys() & {"batch_size", "batch_tokens"}:
        usual["train"]["batch_tokens"] = BATCH_TOKENS
    if name is not None:
        rate = RATES.get(str(scratch.get("size", "tiny")), 1e-3)
        usual["train"]["learning_rate"] = rate * SHARES.get(str(name), 1.0)
        if "max_length" not in dict(typed.get("task") or {}):
            usual["task"]["max_length"] = 256
    if "name" not in plain("objective", typed.get("objective", {})):
        if name is None:
            path = resolve(str(typed.get("base", "minilm")), revision=typed.get("revision")).path
            config = read_json(path / "config.json")
            name, kind = str(config.get("model_type")), family_of(config).kind
            usual["objective"] = {"name": OBJECTIVES.get(name) or USUAL[kind]}
        else:
            usual["objective"] = {"name": OBJECTIVES.get(str(name), "mlm")}
    return Request(corpus, over(usual, below) if below else usual, above)
