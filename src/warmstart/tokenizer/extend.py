"""A base model with new words: each new row of its embedding is the mean of the old pieces' rows.

The mean starts a new token where its pieces stood (Gee et al. 2022, "Fast vocabulary transfer");
a random row would have to be learned from nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import BaseModelError, ProofError, RunError, shown
from warmstart.models.quiet import LOAD, one_line, quiet, seeded
from warmstart.tokenizer.build import PROBES
from warmstart.tokenizer.insert import Added

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.catalog import Base

ROUNDING = 64  # units in the last place


def extend(
    base: Base,
    tokenizer: PreTrainedTokenizerFast,
    backend: Tokenizer,
    added: Sequence[Added],
    out: Path,
    notes: list[str],
) -> dict[str, Any]:
    """Write `base` with the tokens `added` to the folder `out`, proven, and return the facts.

    `tokenizer` is the base's own, `backend` the one with the new words. Raises `RunError` where
    the folder cannot be written, `ProofError` where it does not answer as it should.
    """
    from warmstart.models.saving import save_model

    if out.exists():
        raise RunError(f"{out} exists already; choose another --out")
    model = load(base, notes)
    before = answers(model, tokenizer)
    rows = grow(model, added)
    wanted = wrapped(tokenizer, backend)
    folder = save_model(model, wanted, out, base)
    try:
        proof = prove(folder, model, wanted, before, added)
    except ProofError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {"out": str(out), "rows": len(_weights(model)), "rows_before": rows, "proof": proof}


def load(base: Base, notes: list[str]) -> PreTrainedModel:
    """The base as the class that its config names, in the precision of its file, in eval mode."""
    import transformers

    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(0):
        config = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
        named = [name for name in config.architectures or [] if hasattr(transformers, name)]
        kind: Any = getattr(transformers, named[0]) if named else transformers.AutoModel
        model, info = kind.from_pretrained(
            base.path, dtype="auto", use_safetensors=True, output_loading_info=True, **LOAD
        )
    for what, keys in (("begun anew", info["missing_keys"]), ("left out", info["unexpected_keys"])):
        if keys:
            notes.append(f"weights of {base.name} {what}: {shown(', '.join(sorted(keys)), 200)}")
    return model.eval()


def grow(model: PreTrainedModel, added: Sequence[Added]) -> int:
    """Give the model a row for each new token; returns how many rows it had.

    The rows of the output layer, where it is one of its own, and its biases are means as well.
    Spare rows that the embedding has beyond its vocabulary are used first.
    """
    import torch

    rows = len(_weights(model))
    need = max((entry.id for entry in added), default=-1) + 1
    if need > rows:
        with quiet():
            model.resize_token_embeddings(need, mean_resizing=False)
    with torch.no_grad():
        for table in _tables(model):
            for entry in added:
                mean = table[list(entry.pieces)].float().mean(0)
                table[entry.id] = mean.to(table.dtype)
    return rows


def wrapped(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """The new backend with all that the base's tokenizer says of itself."""
    from transformers import PreTrainedTokenizerFast

    special = tokenizer.special_tokens_map.items()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        pad_token_type_id=tokenizer.pad_token_type_id,
        model_input_names=tokenizer.model_input_names,
        clean_up_tokenization_spaces=False,
        chat_template=tokenizer.chat_template,
        **{role: token for role, token in special if isinstance(token, str)},
    )


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each probe what the body (of T5: its encoder) gives, and what the whole model gives."""
    import torch

    has_body = model.base_model is not model or not model.config.is_encoder_decoder
    body: Any = model.base_model if has_body else model.get_encoder()
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode():
        for text in PROBES:
            ids = tokenizer(text, truncation=True, max_length=32, return_tensors="pt").input_ids
            if not ids.numel():
                continue
            more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
            inside = body(input_ids=ids, **(more if has_body else {}))[0]
            found.append((inside, model(input_ids=ids, **more)[0]))
    return found


def prove(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    before: Sequence[tuple[torch.Tensor, torch.Tensor]],
    added: Sequence[Added],
) -> dict[str, Any]:
    """The saved folder, loaded afresh: same ids and rows, same answers to old texts.

    What the body gives must be the same bit for bit. Scores of old tokens may differ by rounding:
    a product with more columns is summed in other blocks.
    """
    import torch
    from transformers import AutoTokenizer

    with one_line(f"{folder} cannot be loaded"), quiet():
        read = AutoTokenizer.from_pretrained(folder, **LOAD)
        kind: Any = type(model)
        again = kind.from_pretrained(folder, dtype="auto", use_safetensors=True, **LOAD).eval()
    for text in (*(f"x {entry.word} x" for entry in added), *PROBES):
        if read(text, verbose=False).input_ids != tokenizer(text, verbose=False).input_ids:
            raise ProofError(
                f"transformers rebuilds the tokenizer of {model.config.model_type} in a way of its "
                f"own, which splits '{shown(text)}' otherwise: this base cannot be extended"
            )
    if not torch.equal(_weights(again), _weights(model)):
        raise ProofError(f"{folder}: the saved embedding is not the one that was made")
    known = min(entry.id for entry in added)
    worst = 0.0
    for (body, scores), (new_body, new_scores) in zip(before, answers(again, read), strict=True):
        old, new = scores[..., :known].float(), new_scores[..., :known].float()
        gap = float((new - old).abs().max())
        rounding = ROUNDING * torch.finfo(scores.dtype).eps * max(1.0, float(old.abs().max()))
        if not torch.equal(body, new_body) or gap > rounding:
            raise ProofError(f"{folder}: old texts have other outputs (by {gap:.1e})")
        worst = max(worst, gap)
    return {"texts": len(before), "max_difference": worst}


def _weights(model: PreTrainedModel) -> torch.Tensor:
    """The word embedding, [tokens, size]."""
    embedding: Any = model.get_input_embeddings()
    if embedding is None:
        raise BaseModelError(f"{type(model).__name__} has no word embedding")
    return embedding.weight


def _tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """All that has one row a token: embeddings, and the output layer's weights and biases."""
    rows = len(_weights(model))
    found: dict[int, torch.Tensor] = {}
    output: Any = model.get_output_embeddings()
    for module in (model.get_input_embeddings(), output):
        for weights in module.parameters() if module is not None else ():
            if len(weights) == rows:
                found[weights.data_ptr()] = weights
    for name, weights in model.named_parameters():
        if output is not None and name.endswith(".bias") and weights.shape == (rows,):
            if name.rpartition(".")[0].endswith(("predictions", "lm_head", "lm_loss", "decoder")):
                found[weights.data_ptr()] = weights
    return list(found.values())
