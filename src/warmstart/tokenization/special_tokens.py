"""The special tokens of each family: which there are, at which ids, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from warmstart.errors import RecipeError, shown
from warmstart.tokenization.settings import Training

SENTINELS = 100  # of T5, for spans that are masked


@dataclass(frozen=True, slots=True)
class Specials:
    """The special tokens of one tokenizer."""

    first: tuple[str, ...]
    """Those at the ids from 0 on."""
    roles: Mapping[str, str]
    """What `transformers` calls each of them: `pad_token`, `cls_token` and so on."""
    single: str
    """Around one text, `$A`, in the language of `TemplateProcessing`."""
    pair: str
    last: tuple[str, ...] = ()
    """Those at the end of the vocabulary."""
    padding_side: Literal["right", "left"] = "right"
    pad_type: int = 0
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    optional_unknown: bool = False
    """Whether there is no unknown token where nothing can be unknown."""
    swallows_space: frozenset[str] = field(default_factory=frozenset[str])
    """Tokens that take the space on their left with them, as RoBERTa's mask does."""


TYPED = ("input_ids", "token_type_ids", "attention_mask")
_ROBERTA = Specials(
    ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>",
     "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"},
    "<s> $A </s>", "<s> $A </s> </s> $B </s>", swallows_space=frozenset({"<mask>"}),
)  # fmt: skip
FAMILIES: dict[str | None, Specials] = {
    None: Specials(
        ("<pad>", "<unk>", "</s>"),
        {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"},
        "$A", "$A $B", optional_unknown=True,
    ),
    "bert": Specials(
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
         "mask_token": "[MASK]"},
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", inputs=TYPED,
    ),
    "roberta": _ROBERTA,
    "bart": _ROBERTA,
    "gpt2": Specials(
        ("<|endoftext|>", "<|pad|>", "<|unk|>"),
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>",
         "unk_token": "<|unk|>"},
        "$A", "$A $B", optional_unknown=True,
    ),
    "t5": Specials(
        ("<pad>", "</s>", "<unk>"),
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        "$A </s>", "$A </s> $B </s>",
        last=tuple(f"<extra_id_{i}>" for i in reversed(range(SENTINELS))),
    ),
    "llama": Specials(
        ("<unk>", "<s>", "</s>", "<pad>"),
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        "<s> $A", "<s> $A <s>:1 $B:1",
    ),
    "xlnet": Specials(
        ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"),
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<cls>",
         "sep_token": "<sep>", "pad_token": "<pad>", "mask_token": "<mask>"},
        "$A <sep> <cls>:2", "$A <sep> $B:1 <sep>:1 <cls>:2",
        padding_side="left", pad_type=3, inputs=TYPED, swallows_space=frozenset({"<mask>"}),
    ),
}  # fmt: skip


def specials_for(settings: Training) -> Specials:
    """The special tokens of what was settings. Raises `RecipeError` where they cannot be had."""
    family = FAMILIES[settings.family]
    first, roles = list(family.first), dict(family.roles)
    if settings.byte_mode == "level" and family.optional_unknown:
        first.remove(roles.pop("unk_token"))
    end = roles.get("eos_token")
    if end is None and (settings.add_eos or settings.pad == "eos"):
        what = "add_eos" if settings.add_eos else "pad = eos"
        raise RecipeError(f"{what}: {settings.family} has no end token; leave it out")
    pad = roles["pad_token"]
    if settings.pad == "eos" and end is not None:
        first.remove(pad)
        roles["pad_token"] = end
    elif settings.pad == "zeros":
        first.remove(pad)
        first.insert(0, pad)
    for token in settings.special_tokens:
        if token in first or token in family.last:
            raise RecipeError(f"special token '{shown(token)}' is one already; leave it out")
    single, pair = family.single, family.pair
    if settings.add_eos and end is not None and not single.endswith(end):
        single, pair = f"{single} {end}", f"{pair} {end}"
    if settings.max_length < len(single.split()):
        raise RecipeError(
            f"max_length {settings.max_length} leaves no room for text beside "
            f"{len(single.split()) - 1} special tokens; raise it"
        )
    return replace(
        family, first=(*first, *settings.special_tokens), roles=roles, single=single, pair=pair,
        padding_side=settings.padding_side or family.padding_side,
    )  # fmt: skip
