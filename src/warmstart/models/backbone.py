"""A base model in memory: its tokenizer, its body under a new head, and the way back to disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from warmstart.errors import BaseModelError, shown
from warmstart.models.families import Family, family_of
from warmstart.models.quiet import one_line, quiet, seeded
from warmstart.models.saving import save_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.catalog import Base

__all__ = ["load_classifier", "load_tokenizer", "save_model"]
PROBES = (
    "The quick brown Fox jumps over the lazy DOG.",
    " two  spaces\tand\nlines, isn't it? 3.14159 x86_64 #tag @name https://a.b/c?d=e",
    "Ärger mit Straße, déjà vu, naïve ﬁne ½ İstanbul",
    "漢字かな 한국어 русский العربية हिन्दी 👩‍👩‍👧 🙂",
    "",
)
LOAD: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
BUFFERS = ("position_ids", "token_type_ids", "masked_bias", "attn.bias", "inv_freq")


def load_tokenizer(base: Base) -> PreTrainedTokenizerFast:
    """The tokenizer that the base's `tokenizer.json` describes, without cutting or padding.

    transformers rebuilds some families' tokenizers from the vocabulary alone; where that splits
    a text in another way than the file says, the file wins. A decoder without a padding token
    pads with its end-of-text token. Raises `BaseModelError`.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with quiet(), one_line(f"the tokenizer of {base.name} cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(base.path, **LOAD)
        written = Tokenizer.from_file(str(base.path / "tokenizer.json"))
        for splitter in (written, tokenizer.backend_tokenizer):
            splitter.no_truncation()
            splitter.no_padding()
        if not _same(tokenizer.backend_tokenizer, written):
            special = tokenizer.special_tokens_map.items()
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=written,
                model_max_length=tokenizer.model_max_length,
                padding_side=tokenizer.padding_side,
                chat_template=tokenizer.chat_template,
                **{role: token for role, token in special if _known(written, token)},
            )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise BaseModelError(f"the tokenizer of {base.name} has no token that could pad")
    return tokenizer


def load_classifier(
    base: Base,
    labels: Sequence[str],
    seed: int,
    dropout: float | None = None,
    notes: list[str] | None = None,
) -> PreTrainedModel:
    """The base's body in float32 under a single-label classification head, in eval mode.

    The head depends on `seed` alone, and the caller's random numbers are left untouched. A head
    that the base brings along is kept where its labels are `labels` in the same order, and begun
    anew otherwise. `dropout` replaces all dropout probabilities. What was in the checkpoint and
    not used is told in `notes`. Raises `BaseModelError` where anything but a head is missing.
    """
    with one_line(f"the config of {base.name} cannot be read"), quiet():
        config, had = _config(base, labels, dropout)
    family = family_of(config)
    kind = _classifier_class(config, family)
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        loaded: Any = kind.from_pretrained(
            base.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            **LOAD,
        )
        model, info = loaded
        fresh = _new_keys(info)
        if had != list(labels) or any(key.startswith(family.output) for key in fresh):
            _begin(model.get_submodule(family.output), config)
    _only_the_head_is_new(fresh, family, base)
    if notes is not None:
        notes.extend(_notes(info, fresh, had, labels, family))
    return model.eval()


def _config(
    base: Base, labels: Sequence[str], dropout: float | None
) -> tuple[PreTrainedConfig, list[str]]:
    """The config for these labels, and the labels that the base had."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path, **LOAD)
    had = [label for _, label in sorted((config.id2label or {}).items())]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    if hasattr(config, "use_mems_eval"):  # XLNet's memory: of no use here, and pipelines trip on it
        config.use_mems_eval = False
    if config.pad_token_id is None:
        config.pad_token_id = load_tokenizer(base).pad_token_id
    if dropout is not None:
        for name in family_of(config).dropouts:
            setattr(config, name, dropout)
    return config, had


def _classifier_class(config: PreTrainedConfig, family: Family) -> type[PreTrainedModel]:
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSES

    if not family.classifies:
        raise BaseModelError(f"transformers has no classification model for '{family.name}'")
    found: Any = CLASSES[type(config)]
    return found


def _new_keys(info: dict[str, Any]) -> set[str]:
    """The weights that the checkpoint did not give, or gave in another shape."""
    return set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}


def _only_the_head_is_new(fresh: set[str], family: Family, base: Base) -> None:
    heads = tuple(f"{name}." for name in family.head_modules)
    lost = sorted(key for key in fresh if not key.startswith(heads))
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise BaseModelError(
            f"{base.name} is not a whole '{family.name}' model: "
            f"missing or of another shape are {', '.join(lost[:3])}{more}"
        )


def _begin(output: nn.Module, config: PreTrainedConfig) -> None:
    """Give the last layer of the head fresh small weights."""
    std = getattr(config, "initializer_range", None) or getattr(config, "init_std", None) or 0.02
    with torch.no_grad():
        for weights in output.parameters():
            weights.normal_(0.0, std) if weights.ndim > 1 else weights.zero_()


def _notes(
    info: dict[str, Any], fresh: set[str], had: list[str], labels: Sequence[str], family: Family
) -> list[str]:
    notes: list[str] = []
    unused = sorted(k for k in info["unexpected_keys"] if not k.endswith(BUFFERS))
    if unused:
        notes.append(f"not used from the base: {shown(', '.join(unused), 200)}")
    new = sorted({key.rpartition(".")[0] for key in fresh})
    if new:
        notes.append(f"new in the head: {', '.join(new)}")
    if had != list(labels) and not any(key.startswith(family.output) for key in fresh):
        notes.append("the base's own head has other labels and was begun anew")
    return notes


def _same(one: Any, other: Any) -> bool:
    """Whether two tokenizers are of one size and give the same ids for telling texts."""
    return one.get_vocab_size() == other.get_vocab_size() and all(
        one.encode(text).ids == other.encode(text).ids for text in PROBES
    )


def _known(tokenizer: Any, token: Any) -> bool:
    return isinstance(token, str) and tokenizer.token_to_id(token) is not None
