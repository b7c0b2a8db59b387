"""A model in memory: a base's tokenizer, its body under a new head, and saved folders."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from warmstart.errors import BaseModelError, shown
from warmstart.models.architectures import Family, family_of, positions_of
from warmstart.models.checks import header, read_json, weight_files
from warmstart.models.heads import CLASSES, Head
from warmstart.models.hf_calls import FLOAT32, LOAD, one_line, quiet, seeded, set_labels
from warmstart.models.modules import LANGUAGE_MODELS, head_names
from warmstart.models.saving import save_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base


__all__ = ["check_output_matrix", "load_classifier", "load_headed", "load_tokenizer", "save_model"]
PROBES = (
    "The quick brown Fox jumps over the lazy DOG.",
    " two  spaces\tand\nlines, isn't it? 3.14159 x86_64 #tag @name https://a.b/c?d=e",
    "Ärger mit Straße, déjà vu, naïve ﬁne ½ İstanbul",
    "漢字かな 한국어 русский العربية हिन्दी 👩‍👩‍👧 🙂",
    "",
)
LAYER = re.compile(r"\.\d+\.")
BUFFERS = ("position_ids", "token_type_ids", "masked_bias", "attn.bias", "inv_freq")


def load_tokenizer(base: Base) -> PreTrainedTokenizerFast:
    """The tokenizer that the base's `tokenizer.json` describes, without truncation or padding.

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
        if not _agree(tokenizer.backend_tokenizer, written):
            special = tokenizer.special_tokens_map.items()
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=written,
                model_max_length=tokenizer.model_max_length,
                padding_side=tokenizer.padding_side,
                chat_template=tokenizer.chat_template,
                **{
                    role: token
                    for role, token in special
                    if isinstance(token, str) and written.token_to_id(token) is not None
                },
            )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise BaseModelError(f"the tokenizer of {base.name} has no token that could pad")
    config = read_json(base.path / "config.json")
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions_of(config))
    if "token_type_ids" in tokenizer.model_input_names and not _reads_types(base):
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        # both: what is used now, and what is saved
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _reads_types(base: Base) -> bool:
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(base.path, **LOAD)
    return getattr(config, "type_vocab_size", 0) >= 2 or config.model_type == "xlnet"


def _agree(tokenizer: Any, written: Any) -> bool:
    """Whether two tokenizers are of the same size and give the same ids for the probes."""
    return tokenizer.get_vocab_size() == written.get_vocab_size() and all(
        tokenizer.encode(text).ids == written.encode(text).ids for text in PROBES
    )


def load_classifier(
    base: Base,
    labels: Sequence[str],
    seed: int,
    dropout: float | None = None,
    notes: list[str] | None = None,
) -> PreTrainedModel:
    """As `load_headed`, under a single-label classification head."""
    return load_headed(base, CLASSES, labels, seed, dropout, notes)


def load_headed(
    base: Base,
    head: Head,
    labels: Sequence[str],
    seed: int,
    dropout: float | None = None,
    notes: list[str] | None = None,
) -> PreTrainedModel:
    """The base's body in float32 under a head of this kind, in eval mode.

    The head depends on `seed` alone, and the caller's random numbers are left untouched. A head
    that the base brings along is kept where its labels are `labels` in the same order, and begun
    anew otherwise. `dropout` replaces all dropout probabilities. `notes` takes what was in the
    checkpoint and not used. Raises `BaseModelError` where anything but a head is missing.
    """
    with one_line(f"the config of {base.name} cannot be read"), quiet():
        config, had = _config(base, head, labels, dropout)
    family = family_of(config)
    kind = head.class_for(config, family)
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        loaded: Any = kind.from_pretrained(
            base.path,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            key_mapping=_renamed(kind, family),
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            **FLOAT32,
        )
        model, info = loaded
        # what the checkpoint did not give, or gave in another shape
        fresh = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
        heads = _heads(model, family)
        output = family.output if head.problem_type else (heads[-1] if heads else "")
        kept = had == list(labels) and not any(key.startswith(output) for key in fresh)
        if output and not kept:
            _reset(model.get_submodule(output), config)
    if head.generates:
        check_output_matrix(model, base, fresh)
    _check_fresh(fresh, heads, family, base)
    check_layers(info["unexpected_keys"], set(model.state_dict()), base.name)
    if notes is not None:
        notes.extend(_notes(info, fresh, had, labels, output))
    return model.eval()


def _config(
    base: Base, head: Head, labels: Sequence[str], dropout: float | None
) -> tuple[PreTrainedConfig, list[str]]:
    """The config for these labels, and the labels that the base had."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path, **LOAD)
    had = [label for _, label in sorted((config.id2label or {}).items())]
    if head.labelled:
        set_labels(config, labels)
    else:
        had = list(labels)
    config.problem_type = head.problem_type
    if head.outputs:
        config.num_labels = head.outputs
    if hasattr(config, "use_mems_eval"):  # XLNet's memory: of no use here, and pipelines trip on it
        config.use_mems_eval = False
    if config.pad_token_id is None:
        config.pad_token_id = load_tokenizer(base).pad_token_id
    if dropout is not None:
        for name in family_of(config).dropouts:
            setattr(config, name, dropout)
    return config, had


def _renamed(kind: Any, family: Family) -> dict[str, str] | None:
    """How a checkpoint's names become those of a class that has a name of its own for the body, as
    LlamaForQuestionAnswering."""
    if kind.base_model_prefix == family.body:
        return None
    return {rf"^{family.body}\.": f"{kind.base_model_prefix}."}


def _heads(model: Any, family: Family) -> list[str]:
    """The modules that a checkpoint of the body alone does not give."""
    if type(model).__name__.endswith(LANGUAGE_MODELS):
        return ["lm_head", "final_logits_bias"]
    return head_names(model) or [*family.head_modules, "pooler"]


def check_output_matrix(model: Any, base: Base, fresh: Collection[str] = ()) -> None:
    """Refuse a base without output matrix; one that is tied to the embeddings is there.

    `architectures.skeleton(config, writes=True)` serves as the model; `fresh` are weights that its
    checkpoint did not give. Raises `BaseModelError`.
    """
    head, config = model.get_output_embeddings(), model.config
    name = next((name for name, module in model.named_modules() if module is head), "lm_head")
    # an untied T5 says so under another name
    tied = config.tie_word_embeddings and getattr(config, "scale_decoder_outputs", True)
    stored = {key for file in weight_files(base.path) for key in header(file)}
    if f"{name}.weight" in fresh or not (tied or f"{name}.weight" in stored):
        raise BaseModelError(
            f"{base.name} holds no output matrix: '{name}.weight' is not among its weights, and "
            "its config does not tie it to the embeddings. Give the whole language model, not its "
            "body; if they are meant to be tied, say tie_word_embeddings in its config.json"
        )


def _check_fresh(fresh: set[str], heads: list[str], family: Family, base: Base) -> None:
    """Refuse a base that lacks more than a head."""
    begins = tuple(f"{name}." for name in heads)
    lost = sorted(key for key in fresh if not f"{key}.".startswith(begins))
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise BaseModelError(
            f"{base.name} is not a whole '{family.name}' model: "
            f"missing or of another shape are {', '.join(lost[:3])}{more}"
        )


def check_layers(unused: Iterable[str], used: set[str], name: str) -> None:
    """Refuse a model whose config has fewer layers than its weights."""
    known = [key for key in used if LAYER.search(key)]
    for key in sorted(key for key in unused if LAYER.search(key)):
        like = LAYER.sub(".0.", key, count=1)
        if any(used_key.endswith(like) or like.endswith(used_key) for used_key in known):
            raise BaseModelError(
                f"{name} has more layers than its config.json says: '{key}' is left over, "
                f"where '{like}' is used; mend the config"
            )


def _reset(output: nn.Module, config: PreTrainedConfig) -> None:
    """Give the last layer of the head fresh small weights."""
    std = getattr(config, "initializer_range", None) or getattr(config, "init_std", None) or 0.02
    with torch.no_grad():
        for weights in output.parameters():
            weights.normal_(0.0, std) if weights.ndim > 1 else weights.zero_()


def _notes(
    info: dict[str, Any], fresh: set[str], had: list[str], labels: Sequence[str], output: str
) -> list[str]:
    notes: list[str] = []
    unused = sorted(k for k in info["unexpected_keys"] if not k.endswith(BUFFERS))
    if unused:
        notes.append(f"not used from the base: {shown(', '.join(unused), 200)}")
    new = sorted({key.rpartition(".")[0] for key in fresh})
    if new:
        notes.append(f"new in the head: {', '.join(new)}")
    if had != list(labels) and not any(key.startswith(output) for key in fresh):
        notes.append("the base's own head has other labels and was begun anew")
    return notes
