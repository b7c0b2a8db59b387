"""A model with a row for some of its tokens alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.errors import BaseModelError, RecipeError
from warmstart.models.architectures import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENDINGS = ("_token_id", "_tokens", "bad_words_ids")
"""How the names of ids end in a config."""


@torch.no_grad()
def keep_tokens(model: PreTrainedModel, kept: np.ndarray) -> PreTrainedModel:
    """The same model with the rows of these tokens alone, `kept` [n] their old ids in order: of the
    embedding, and of the output layer where it has one a token. The config's ids are the new ones.

    Raises `RecipeError` for RoBERTa's kin where the padding token would get another id, since its
    positions are counted from it.
    """
    places = {int(old): new for new, old in enumerate(kept)}
    tables, chosen = token_tables(model), torch.from_numpy(kept.astype(np.int64))
    before = family_of(model.config).position_offset
    fresh = {id(table): nn.Parameter(table[chosen].clone()) for table in tables}
    size = len(word_embedding(model))
    for module in model.modules():
        for name, weights in [*module.named_parameters(recurse=False)]:
            if id(weights) in fresh:
                setattr(module, name, fresh[id(weights)])
                for count in ("num_embeddings", "out_features"):
                    if getattr(module, count, None) == size:
                        setattr(module, count, len(kept))
        for name, values in [*module.named_buffers(recurse=False)]:
            if values.ndim and values.shape[-1] == size and name.endswith("logits_bias"):
                setattr(module, name, values[..., chosen])
        if isinstance(module, nn.Embedding) and module.num_embeddings == len(kept):
            padding = module.padding_idx
            module.padding_idx = None if padding is None else places.get(padding)
    model.config.vocab_size = len(kept)
    for owner, key, value in _named(model):
        setattr(owner, key, _moved(value, places))
    if family_of(model.config).position_offset != before:
        raise RecipeError(
            "the padding token of this model would get another id, and its positions are counted "
            "from it; its vocabulary cannot be trimmed: prune or quantize it"
        )
    return model


def word_embedding(model: PreTrainedModel) -> Any:
    """The word embedding, [tokens, size]. Raises `BaseModelError` where there is none."""
    embedding: Any = model.get_input_embeddings()
    if embedding is None:
        raise BaseModelError(f"{type(model).__name__} has no word embedding")
    return embedding.weight


def token_tables(model: PreTrainedModel) -> list[Tensor]:
    """All that has one row a token: embeddings, and the output layer's weights and biases."""
    rows = len(word_embedding(model))
    tables: dict[int, Tensor] = {}
    output: Any = model.get_output_embeddings()
    for module in (model.get_input_embeddings(), output):
        for weights in module.parameters() if module is not None else ():
            if len(weights) == rows:
                tables[weights.data_ptr()] = weights
    for name, weights in model.named_parameters():
        if output is not None and name.endswith(".bias") and weights.shape == (rows,):
            if name.rpartition(".")[0].endswith(("predictions", "lm_head", "lm_loss", "decoder")):
                tables[weights.data_ptr()] = weights
    return list(tables.values())


def ids_named(model: PreTrainedModel) -> set[int]:
    """The tokens that the config and the generation config name as the one with which a text begins
    or ends, or is padded; those that are only held down may go."""
    values = [value for _, key, value in _named(model) if key.endswith("_token_id")]
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return {token for tokens in lists for token in tokens if isinstance(token, int)}


def _named(model: PreTrainedModel) -> list[tuple[Any, str, Any]]:
    """What a config says of tokens: it, the key and the value. A number of `max_new_tokens` is no
    token."""
    owners = (model.config, getattr(model, "generation_config", None))
    return [(owner, key, value) for owner in owners if owner is not None
            for key, value in vars(owner).items() if key.endswith(ENDINGS)
            and (key.endswith("_token_id") or isinstance(value, list | tuple))]  # fmt: skip


def _moved(value: Any, places: Mapping[int, int]) -> Any:
    """Ids by their new numbers; a token that is gone is None, and lists are without it."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return places.get(value)
    if isinstance(value, list | tuple):
        entries = cast("list[Any]", [*value])
        if any(isinstance(entry, list | tuple) for entry in entries):  # whole words
            known = [entry for entry in entries if {*entry} <= places.keys()]
            return [[places[token] for token in entry] for entry in known] or None
        return [places[token] for token in entries if token in places]
    return value
