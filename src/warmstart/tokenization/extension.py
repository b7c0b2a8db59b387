"""A base model with new words: each new row of its embedding is the mean of the old pieces' rows.

The mean starts a new token where its pieces stood (Gee et al. 2022, "Fast vocabulary transfer");
a random row would have to be learned from nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders

from warmstart.errors import ProofError, RecipeError, RunError, shown
from warmstart.formatting import counted
from warmstart.models.hf_calls import LOAD, one_line, quiet, seeded
from warmstart.models.loading import PROBES, rewrapped
from warmstart.models.saving import save_model
from warmstart.models.surgery.tokens import token_tables, word_embedding
from warmstart.tokenization.comparison import opened
from warmstart.tokenization.corpus import is_plain_normalizer, normalize
from warmstart.tokenization.training import SPACE

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base


# New words as tokens of an existing tokenizer, such that no other text changes its ids.
#
# Three ways, by what the tokenizer is:
#
# - WordPiece and whole words: an added token that matches whole words alone (`single_word`). A new
# entry in the vocabulary would also match at the start of longer words: cat in category.
# - BPE that splits at spaces first: an entry in the vocabulary without merges, which is found where
# a word is exactly that (`ignore_merges`), once with the space before it and once without.
# - Unigram, and BPE over whole texts: an added token that matches whole words and takes the space
# on its left with it; the decoder puts that space back.

CONTEXTS = ("", "x ", "(")  # before a word: nothing, another word, punctuation
ROUNDING = 64  # units in the last place


@dataclass(frozen=True, slots=True)
class Added:
    """A new token: the word it is for, its id, and the ids of the pieces it takes the place of."""

    word: str
    token: str
    id: int
    pieces: tuple[int, ...]


def insert(
    backend: Tokenizer, words: Sequence[str], skip: bool = False
) -> tuple[Tokenizer, list[Added], list[str]]:
    """A copy of the tokenizer that knows the words, its new tokens, and notes.

    Words that are one token already are noted and left out. Raises `RecipeError` for a word that
    cannot become one; with `skip`, such words are noted and left out as well.
    """
    old = Tokenizer.from_str(backend.to_str())
    old.no_truncation()
    old.no_padding()
    notes: list[str] = []
    kind = type(old.model).__name__
    wrong: dict[str, str] = {}
    splits = old.pre_tokenizer is not None and len(_parts(old, "x y")) == 2
    if kind == "BPE" and splits:
        apart = "its pre-tokeniser takes the word apart"
        wrong = {word: apart for word in words if not _forms(old, word)}
        new, added = _into_vocabulary(old, [word for word in words if word not in wrong], notes)
    else:
        new, added = _beside(old, words, with_space=kind not in ("WordPiece", "WordLevel"))
    ids: dict[str, set[int]] = {}
    for entry in added:
        ids.setdefault(entry.word, set()).add(entry.id)
    wrong |= {word: why for word, own in ids.items() if (why := _fault(new, word, own))}
    for word, why in wrong.items():
        if not skip:
            raise RecipeError(f"'{shown(word)}' cannot become one token here: {why}; leave it out")
    if wrong:
        note = f"left out, cannot become one token: {shown(', '.join(wrong), 200)}"
        new, added, more = insert(backend, [word for word in words if word not in wrong])
        return new, added, [note, *more]
    if whole := [word for word in words if word not in ids]:
        notes.append(f"one token already, left as they are: {shown(', '.join(whole), 200)}")
    return new, added, notes


def _parts(backend: Tokenizer, text: str) -> list[tuple[str, str]]:
    """What the model is given: each part, and the text that it stands for."""
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    plain = normalizer.normalize_str(text) if normalizer else text
    return [(part, plain[start:end]) for part, (start, end) in splitter.pre_tokenize_str(plain)]


def _into_vocabulary(
    old: Tokenizer, words: Sequence[str], notes: list[str]
) -> tuple[Tokenizer, list[Added]]:
    description = json.loads(old.to_str())
    model = description["model"]
    vocabulary: dict[str, int] = model["vocab"]
    if not model.get("ignore_merges"):
        strange = [  # old tokens that the merges never give, and that whole words will now be
            token
            for token, number in vocabulary.items()
            if len(old.model.tokenize(token)) > 1
            and [part for part, _ in _parts(old, old.decode([number]))] == [token]
        ]
        if strange:
            notes.append(
                f"{len(strange)} old tokens that the merges never gave are given now where a word "
                f"is exactly that: {shown(', '.join(strange), 120)}"
            )
    for token in description["added_tokens"]:  # else they would be numbered after the new words
        vocabulary.setdefault(token["content"], token["id"])
    added: list[Added] = []
    free = max(vocabulary.values()) + 1
    for word in words:
        for form in _forms(old, word):
            if form not in vocabulary:
                pieces = tuple(token.id for token in old.model.tokenize(form))
                vocabulary[form] = free
                added.append(Added(word, form, free, pieces))
                free += 1
    model["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(description)), added


def _forms(old: Tokenizer, word: str) -> list[str]:
    """How the model is given the word in each context in which it is given it whole."""
    forms: dict[str, None] = {}
    for context in CONTEXTS:
        part, stands_for = _parts(old, context + word)[-1]
        if stands_for.strip(f" {SPACE}") == normalize(word, old).strip(SPACE):
            forms[part] = None
    return list(forms)


def _beside(
    old: Tokenizer, words: Sequence[str], with_space: bool
) -> tuple[Tokenizer, list[Added]]:
    new = Tokenizer.from_str(old.to_str())
    by_form = is_plain_normalizer(old)
    pieces = {word: tuple(old.encode(word, add_special_tokens=False).ids) for word in words}
    unknown = opened("", old).unknown
    fresh = [word for word in words if len(pieces[word]) > 1 or pieces[word] == (unknown,)]
    new.add_tokens(
        [
            AddedToken(word, single_word=True, lstrip=with_space, normalized=by_form)
            for word in fresh
        ]
    )
    text = f"x {fresh[0]} x" if with_space and fresh else ""
    if new.decode(new.encode(text, add_special_tokens=False).ids) != text:
        # have the decoder put the space back that a new token took
        either = "|".join(re.escape(word) for word in fresh)
        mark: Any = decoders.Replace(Regex(f"^(?=(?:{either})$)"), SPACE)
        new.decoder = decoders.Sequence([mark] if new.decoder is None else [mark, new.decoder])
    ids = new.get_vocab(with_added_tokens=True)
    return new, [Added(word, word, ids[word], pieces[word]) for word in fresh]


def _fault(new: Tokenizer, word: str, ids: set[int]) -> str:
    """Why a word is not one token where it stands alone, or one in a longer word; else nothing."""
    for text in (word, f"x {word} x"):
        encoding = new.encode(text, add_special_tokens=False)
        start = text.index(word)
        over = [
            number
            for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if begin < start + len(word) and end > start
        ]
        if len(over) != 1 or over[0] not in ids:
            return f"in '{shown(text)}' it would be {counted(len(over), 'token')}"
    for text in (f"x{word}", f"{word}x"):
        if ids & set(new.encode(text, add_special_tokens=False).ids):
            return f"it would also match in '{shown(text)}'"
    return ""


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
    if out.exists():
        raise RunError(f"{out} exists already; choose another --out")
    with one_line(f"{base.name} cannot be loaded"), quiet(), seeded(0):
        config = transformers.AutoConfig.from_pretrained(base.path, **LOAD)
        names = [name for name in config.architectures or [] if hasattr(transformers, name)]
        kind: Any = getattr(transformers, names[0]) if names else transformers.AutoModel
        model, info = kind.from_pretrained(  # in the precision of its file
            base.path, dtype="auto", use_safetensors=True, output_loading_info=True, **LOAD
        )
        model.eval()
    for what, keys in (("begun anew", info["missing_keys"]), ("left out", info["unexpected_keys"])):
        if keys:
            notes.append(f"weights of {base.name} {what}: {shown(', '.join(sorted(keys)), 200)}")
    before = _answers(model, tokenizer)
    rows = _grow(model, added)
    wider = with_backend(tokenizer, backend)
    folder = save_model(model, wider, out, base)
    try:
        proof = _prove(folder, model, wider, before, added)
    except ProofError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {
        "out": str(out),
        "rows": len(word_embedding(model)),
        "rows_before": rows,
        "proof": proof,
    }


def with_backend(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with another backend, and all else as it was."""
    return rewrapped(
        tokenizer,
        backend,
        truncation_side=tokenizer.truncation_side,
        pad_token_type_id=tokenizer.pad_token_type_id,
        model_input_names=tokenizer.model_input_names,
        clean_up_tokenization_spaces=False,
    )


def _grow(model: PreTrainedModel, added: Sequence[Added]) -> int:
    """Give the model a row for each new token; returns how many rows it had.

    The rows of the output layer, where it is one of its own, and its biases are means as well.
    Spare rows that the embedding has beyond its vocabulary are used first.
    """
    rows = len(word_embedding(model))
    need = max((entry.id for entry in added), default=-1) + 1
    if need > rows:
        with quiet():
            model.resize_token_embeddings(need, mean_resizing=False)
    with torch.no_grad():
        for table in token_tables(model):
            for entry in added:
                mean = table[list(entry.pieces)].float().mean(0)
                table[entry.id] = mean.to(table.dtype)
    return rows


def _answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each probe what the body (of T5: its encoder) gives, and what the whole model gives."""
    has_body = model.base_model is not model or not model.config.is_encoder_decoder
    body: Any = model.base_model if has_body else model.get_encoder()
    outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode():
        for text in PROBES:
            ids = tokenizer(text, truncation=True, max_length=32, return_tensors="pt").input_ids
            if not ids.numel():
                continue
            more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
            inside = body(input_ids=ids, **(more if has_body else {}))[0]
            outputs.append((inside, model(input_ids=ids, **more)[0]))
    return outputs


def _prove(
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
    with one_line(f"{folder} cannot be loaded"), quiet():
        read = transformers.AutoTokenizer.from_pretrained(folder, **LOAD)
        kind: Any = type(model)
        again = kind.from_pretrained(folder, dtype="auto", use_safetensors=True, **LOAD).eval()
    for text in (*(f"x {entry.word} x" for entry in added), *PROBES):
        if read(text, verbose=False).input_ids != tokenizer(text, verbose=False).input_ids:
            raise ProofError(
                f"transformers rebuilds the tokenizer of {model.config.model_type} in a way of its "
                f"own, which splits '{shown(text)}' otherwise: this base cannot be extended"
            )
    if not torch.equal(word_embedding(again), word_embedding(model)):
        raise ProofError(f"{folder}: the saved embedding is not the one that was made")
    known = min(entry.id for entry in added)
    worst = 0.0
    for (body, scores), (new_body, new_scores) in zip(before, _answers(again, read), strict=True):
        old, new = scores[..., :known].float(), new_scores[..., :known].float()
        gap = float((new - old).abs().max())
        rounding = ROUNDING * torch.finfo(scores.dtype).eps * max(1.0, float(old.abs().max()))
        if not torch.equal(body, new_body) or gap > rounding:
            raise ProofError(f"{folder}: old texts have other outputs (by {gap:.1e})")
        worst = max(worst, gap)
    return {"texts": len(before), "max_difference": worst}
