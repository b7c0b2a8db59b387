"""A model in memory: a base's tokenizer, and its body under a new head."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import transformers
from tokenizers import Tokenizer

from warmstart.errors import BaseModelError, RecipeError
from warmstart.models.architectures import body_of, family_of, positions_of
from warmstart.models.checks import headers, read_json
from warmstart.models.head_layers import begin_anew, unwrap
from warmstart.models.heads import Head
from warmstart.models.hf_calls import FLOAT32, LOAD, one_line, quiet, seeded, set_labels
from warmstart.models.modules import LANGUAGE_MODELS, head_names

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base


PROBES = (
    "The quick brown Fox jumps over the lazy DOG.",
    " two  spaces\tand\nlines, isn't it? 3.14159 x86_64 #tag @name https://a.b/c?d=e",
    "Ärger mit Straße, déjà vu, naïve ﬁne ½ İstanbul",
    "漢字かな 한국어 русский العربية हिन्दी 👩‍👩‍👧 🙂",
    "",
)
LAYER = re.compile(r"\.\d+\.")


def load_tokenizer(base: Base) -> PreTrainedTokenizerFast:
    """The tokenizer that the base's `tokenizer.json` describes, without truncation or padding.

    transformers rebuilds some families' tokenizers from the vocabulary alone; where that splits
    a text in another way than the file says, the file wins. A decoder without a padding token
    pads with its end-of-text token. Raises `BaseModelError`.
    """
    with quiet(), one_line(f"the tokenizer of {base.name} cannot be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(base.path, **LOAD)
        written = Tokenizer.from_file(str(base.path / "tokenizer.json"))
        for splitter in (written, tokenizer.backend_tokenizer):
            splitter.no_truncation()
            splitter.no_padding()
        own = tokenizer.backend_tokenizer
        if own.get_vocab_size() != written.get_vocab_size() or any(
            own.encode(text).ids != written.encode(text).ids for text in PROBES
        ):
            tokenizer = rewrapped(tokenizer, written)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            raise BaseModelError(f"the tokenizer of {base.name} has no token that could pad")
        config = read_json(base.path / "config.json")
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions_of(config))
        if "token_type_ids" in tokenizer.model_input_names:
            read: Any = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
            if getattr(read, "type_vocab_size", 0) < 2 and read.model_type != "xlnet":
                names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
                # both: what is used now, and what is saved
                tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def rewrapped(tokenizer: Any, backend: Any, **more: Any) -> PreTrainedTokenizerFast:
    """Another backend with the special tokens, length, side and template of a tokenizer."""
    special = tokenizer.special_tokens_map.items()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        chat_template=tokenizer.chat_template,
        **{
            role: token
            for role, token in special
            if isinstance(token, str) and backend.token_to_id(token) is not None
        },
        **more,
    )


def load_headed(
    base: Base, head: Head, labels: Sequence[str], seed: int, dropout: float | None = None
) -> PreTrainedModel:
    """The base's body in float32 under a head of this kind, in eval mode.

    The head depends on `seed` alone, and the caller's random numbers are left untouched. A head
    that the base brings along is kept where its labels are `labels` in the same order, and begun
    anew otherwise. `dropout` replaces all dropout probabilities. Raises `BaseModelError` where
    anything but a head is missing.
    """
    with one_line(f"the config of {base.name} cannot be read"), quiet():
        config, had = _config(base, head, labels, dropout)
    family = family_of(config)
    if head.predicts_itself:
        return load_language(base, head.auto_for(family.kind), seed)
    kind = head.class_for(config, family)
    prefix = kind.base_model_prefix  # a class may have a name of its own for the body
    renamed = None if prefix == family.body else {rf"^{family.body}\.": f"{prefix}."}
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        loaded: Any = kind.from_pretrained(
            base.path,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            key_mapping=renamed,
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            **FLOAT32,
        )
        model, info = loaded
        # what the checkpoint did not give, or gave in another shape
        fresh = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
        # the modules that a checkpoint of the body alone does not give
        heads = head_names(model) or [*family.head_modules, "pooler"]
        writes = type(model).__name__.endswith(LANGUAGE_MODELS)
        if writes:
            heads = ["lm_head", "final_logits_bias"]
        output = family.output if head.problem_type else (heads[-1] if heads and not writes else "")
        kept = had == list(labels) and not any(key.startswith(output) for key in fresh)
        if output and not kept:
            std = getattr(config, "initializer_range", None) or getattr(config, "init_std", None)
            begin_anew([model.get_submodule(output)], std or 0.02)
    if head.generates:
        check_output_matrix(model, base, fresh)
    _check_fresh(model, base, fresh, heads)
    check_layers(info["unexpected_keys"], model, base.name)
    return model.eval()


def _config(
    base: Base, head: Head, labels: Sequence[str], dropout: float | None
) -> tuple[PreTrainedConfig, list[str]]:
    """The config for these labels, and the labels that the base had."""
    config = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
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


def check_output_matrix(model: Any, base: Base, fresh: Collection[str] = ()) -> None:
    """Refuse a base without output matrix; one that is tied to the embeddings is there.

    `architectures.skeleton(config, writes=True)` serves as the model; `fresh` are weights that its
    checkpoint did not give. Raises `BaseModelError`.
    """
    head, config = model.get_output_embeddings(), model.config
    name = next((name for name, module in model.named_modules() if module is head), "lm_head")
    # an untied T5 says so under another name
    tied = config.tie_word_embeddings and getattr(config, "scale_decoder_outputs", True)
    if f"{name}.weight" in fresh or not (tied or f"{name}.weight" in headers(base.path)):
        raise BaseModelError(
            f"{base.name} holds no output matrix: '{name}.weight' is not among its weights, and "
            "its config does not tie it to the embeddings. Give the whole language model, not its "
            "body; if they are meant to be tied, say tie_word_embeddings in its config.json"
        )


def _check_fresh(model: Any, base: Base, fresh: set[str], heads: list[str]) -> None:
    """Refuse a base that lacks more than a head."""
    begins = tuple(f"{name}." for name in heads)
    lost = sorted(key for key in fresh if not f"{key}.".startswith(begins))
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise BaseModelError(
            f"{base.name} is not a whole '{family_of(model.config).name}' model: "
            f"missing or of another shape are {', '.join(lost[:3])}{more}"
        )


def check_layers(unused: Iterable[str], model: Any, name: str) -> None:
    """Refuse a model whose config has fewer layers than its weights."""
    known = [key for key in model.state_dict() if LAYER.search(key)]
    for key in sorted(key for key in unused if LAYER.search(key)):
        like = LAYER.sub(".0.", key, count=1)
        if any(used_key.endswith(like) or like.endswith(used_key) for used_key in known):
            raise BaseModelError(
                f"{name} has more layers than its config.json says: '{key}' is left over, "
                f"where '{like}' is used; mend the config"
            )


def masked_class(config: Any) -> Any:
    """The class of transformers that guesses masked tokens for this config; None where the model
    is no encoder, or has none."""
    known: Any = transformers.MODEL_FOR_MASKED_LM_MAPPING
    return known.get(type(config), None) if family_of(config).kind == "encoder" else None


def load_masked(base: Base, seed: int, fresh: set[str] | None = None) -> PreTrainedModel:
    """The base, an encoder, with its masked-language head; see `load_language`."""
    return load_language(base, "AutoModelForMaskedLM", seed, fresh)


def load_language(
    base: Base, auto: str, seed: int, fresh: set[str] | None = None
) -> PreTrainedModel:
    """The base under the head with which the Auto class `auto` predicts the tokens of a text, in
    float32 and eval mode.

    What the checkpoint does not bring of the head begins with fresh weights that depend on `seed`
    alone; outputs that the config ties to the word embeddings are tied. `fresh` takes the names of
    these weights. Raises `BaseModelError` where transformers has no such class for the base, or
    its body is not whole.
    """
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(seed):
        config: Any = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
        if config.pad_token_id is None:
            config.pad_token_id = load_tokenizer(base).pad_token_id
        kind = getattr(transformers, auto)._model_mapping.get(type(config), None)
        if kind is None:
            raise BaseModelError(
                f"transformers has no {auto.removeprefix('AutoModelFor')} model for "
                f"'{config.model_type}'"
            )
        kind = kind[0] if isinstance(kind, tuple) else kind
        loaded: Any = kind.from_pretrained(
            base.path, config=config, output_loading_info=True,
            attn_implementation="sdpa" if kind._supports_sdpa else "eager", **FLOAT32
        )  # fmt: skip
        model, info = loaded
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    output = model.get_output_embeddings()  # of T5 its own body's
    own = {id(p) for p in body_of(model).parameters()} - {
        id(p) for p in (output.parameters() if output is not None else ())
    }
    named = model.named_parameters(remove_duplicate=False)
    lost = {key for key, p in named if id(p) in own and "pooler" not in key} & missing
    _check_fresh(model, base, lost, [])
    check_layers(info["unexpected_keys"], model, base.name)
    if fresh is not None:
        fresh.update(missing)
    return model.eval()


def share_body(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """Give all models one body, and return the one whose body it is.

    What a family counts as part of the head (BERT's pooler) stays each model's own. Output
    embeddings that were tied to the word embeddings are tied to the shared ones. Models with
    adapters are given with their adapters, which are then shared too. Raises `RecipeError` where
    a body lacks a part that another one has.
    """
    owner = max(models, key=lambda model: len(_shared(model)))
    parts = _shared(owner)
    for model in models:
        if model is owner:
            continue
        inner: Any = unwrap(model)
        output: Any = inner.get_output_embeddings()
        words: Any = inner.get_input_embeddings()
        tied = output is not None and getattr(output, "weight", None) is words.weight
        for name in _shared(model):
            if name not in parts:
                kinds = f"{type(unwrap(owner)).__name__} and {type(inner).__name__}"
                raise RecipeError(f"the bodies of {kinds} differ in '{name}' and cannot be shared")
            setattr(body_of(inner), name, parts[name])
        if tied:
            inner.get_output_embeddings().weight = inner.get_input_embeddings().weight
    return owner


def _shared(model: PreTrainedModel) -> dict[str, nn.Module | nn.Parameter]:
    """What makes up the body, by name, without what belongs to the head."""
    inner = unwrap(model)
    body = body_of(inner)
    heads = {id(inner.get_submodule(name)) for name in head_names(inner)}
    parts: dict[str, nn.Module | nn.Parameter] = {
        name: child for name, child in body.named_children() if id(child) not in heads
    }
    return parts | dict(body.named_parameters(recurse=False))
