"""How a model writes, as transformers keeps it: `generation_config.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

TOKENS = (
    "bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip


def generation_config(model: PreTrainedModel, end: int | None, **settings: Any) -> GenerationConfig:
    """The settings with the special tokens of the model, and nothing else of its own.

    What a base brings along (other beams, lengths, penalties) would otherwise mix with what was
    asked for. `end` is a token that ends a text beside those of the model, or None.
    """
    from transformers import GenerationConfig

    config: Any = model.config
    own: Any = model.generation_config
    known: dict[str, Any] = {}
    for name in (*TOKENS, "eos_token_id"):
        value = getattr(own, name, None)
        known[name] = getattr(config, name, None) if value is None else value
    ends = known.pop("eos_token_id")
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    ends = list(dict.fromkeys(token for token in (*ends, end) if token is not None))
    known = {name: value for name, value in known.items() if value is not None}
    asked = {name: value for name, value in settings.items() if value not in (None, 0)}
    if asked.get("num_beams", 1) == 1:
        asked.pop("length_penalty", None)
    eos: Any = ends[0] if len(ends) == 1 else ends
    return GenerationConfig(do_sample=False, eos_token_id=eos, **known, **asked)
