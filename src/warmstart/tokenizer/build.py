"""A tokenizer trained on a corpus, put together, saved, and read back to be compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.counting import counted
from warmstart.errors import DataError, ProofError, RecipeError, RunError, shown
from warmstart.tokenizer import pipeline
from warmstart.tokenizer.families import Specials, specials_for
from warmstart.tokenizer.learn import Learned, learn
from warmstart.tokenizer.settings import Training

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from warmstart.tokenizer.corpus import Corpus

BYTES = [f"<0x{value:02X}>" for value in range(256)]
NEVER = -1_000.0
"""The score of a special token in a Unigram model: only as itself, never as part of a text."""
PROBES = (
    "The quick brown Fox jumps over the lazy DOG.",
    " two  spaces\tand\nlines, isn't it? 3.14159 x86_64 #tag @name",
    "Ärger mit Straße, déjà vu, naïve ﬁne ½ İstanbul",
    "漢字かな 한국어 русский العربية हिन्दी 🙂",
    "",
)
KEPT = 200  # texts of the corpus that the saved tokenizer is tried on


def train(asked: Training, corpus: Corpus) -> tuple[Tokenizer, Specials, dict[str, Any]]:
    """A tokenizer as asked for, its special tokens, and the facts of the training.

    Raises `RecipeError` for settings that the corpus does not allow, `DataError` for a corpus
    without text.
    """
    specials = specials_for(asked)
    fallback = BYTES if asked.byte_mode == "fallback" else []
    room = asked.size - len(specials.first) - len(specials.last) - len(fallback)
    if room < 1:
        raise RecipeError(
            f"vocab_size {asked.size} has no room beside {len(specials.first + specials.last)} "
            f"special tokens{' and 256 bytes' if fallback else ''}: raise it"
        )
    normalizer, splitter = pipeline.normalizer(asked), pipeline.pre_tokenizer(asked)
    found = learn(asked, _read(corpus), normalizer, splitter, room)
    if not found.pieces:
        raise DataError(
            f"nothing in the corpus occurs {counted(asked.frequency, 'time')}: give more text, or "
            "lower --min_frequency"
        )
    backend = assemble(asked, specials, found, fallback)
    size = backend.get_vocab_size()
    notes: list[str] = []
    if asked.vocab_size and size < asked.vocab_size:
        notes.append(
            f"{size:,} tokens instead of {asked.vocab_size:,}: the corpus gives no more pieces"
        )
    facts = {"vocab_size": size, "texts": corpus.texts, "characters": corpus.characters}
    return backend, specials, facts | {"notes": notes}


def _read(corpus: Corpus) -> Iterator[list[str]]:
    yield from corpus.rows()
    if corpus.progress:
        corpus.progress("learning the pieces", 0, 1)


def assemble(
    asked: Training, specials: Specials, found: Learned, fallback: Sequence[str] = ()
) -> Tokenizer:
    """Ids in the order: first special tokens, bytes, pieces, last special tokens."""
    from tokenizers import AddedToken, Tokenizer

    special = {*specials.first, *specials.last, *fallback}
    scores = found.scores or [0.0] * len(found.pieces)
    pieces = [(p, s) for p, s in zip(found.pieces, scores, strict=True) if p not in special]
    vocabulary = [(token, NEVER) for token in (*specials.first, *fallback)] + pieces
    vocabulary += [(token, NEVER) for token in specials.last]
    ids = {token: i for i, (token, _) in enumerate(vocabulary)}
    backend = Tokenizer(_model(asked, specials, found, vocabulary, ids))
    parts = {
        "normalizer": pipeline.normalizer(asked),
        "pre_tokenizer": pipeline.pre_tokenizer(asked),
        "decoder": pipeline.decoder(asked),
        "post_processor": pipeline.post_processor(specials, ids),
    }
    for name, part in parts.items():
        if part is not None:
            setattr(backend, name, part)
    backend.add_special_tokens(
        [
            AddedToken(token, lstrip=token in specials.swallows_space, normalized=False)
            for token in (*specials.first, *specials.last)
        ]
    )
    return backend


def _model(
    asked: Training,
    specials: Specials,
    found: Learned,
    vocabulary: list[tuple[str, float]],
    ids: dict[str, int],
) -> Any:
    from tokenizers import models

    unknown: Any = specials.unknown
    if asked.kind == "wordpiece":
        return models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=100)
    if asked.kind == "word":
        return models.WordLevel(ids, unk_token=unknown)
    by_bytes = asked.byte_mode == "fallback"
    if asked.kind == "unigram":
        return models.Unigram(vocabulary, unk_id=ids[unknown], byte_fallback=by_bytes)
    return models.BPE(ids, found.merges, unk_token=unknown, byte_fallback=by_bytes)


def as_transformers(
    backend: Tokenizer, specials: Specials, asked: Training
) -> PreTrainedTokenizerFast:
    """The tokenizer as `transformers` knows it: with roles, sides and the longest length."""
    from transformers import PreTrainedTokenizerFast

    roles = set(specials.roles.values())
    more = [token for token in (*specials.first, *specials.last) if token not in roles]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=asked.max_length,
        padding_side=specials.padding_side,
        truncation_side=asked.truncation_side,
        pad_token_type_id=specials.pad_type,
        model_input_names=list(specials.inputs),
        clean_up_tokenization_spaces=False,
        extra_special_tokens=more,
        **specials.roles,
    )


def save(tokenizer: PreTrainedTokenizerFast, facts: dict[str, Any], folder: Path) -> Path:
    """Write a folder that `AutoTokenizer` loads, whole or not at all. Raises `RunError`."""
    from warmstart.models.check import fingerprint
    from warmstart.models.quiet import quiet
    from warmstart.models.saving import whole_folder, write_note

    folder = folder.absolute()
    if folder.exists():
        raise RunError(f"{folder} exists already; choose another --out")
    with whole_folder(folder, "the tokenizer") as fresh:
        with quiet():
            tokenizer.save_pretrained(fresh)
        write_note(fresh, {"tokenizer_sha256": fingerprint(fresh), "trained": facts})
    return folder


def prove(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> int:
    """On how many texts the saved folder gives the same ids. Raises `ProofError` for another."""
    from transformers import AutoTokenizer

    from warmstart.models.quiet import one_line, quiet

    with quiet(), one_line(f"the tokenizer in {folder} cannot be loaded"):
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tried = [*PROBES, *texts]
    for text in tried:
        for cut in (False, True):
            how: Any = {"truncation": cut, "verbose": False}
            if loaded(text, **how).input_ids != tokenizer(text, **how).input_ids:
                shutil.rmtree(folder, ignore_errors=True)
                raise ProofError(f"{folder} splits '{shown(text)}' in another way than it did")
    return len(tried)
