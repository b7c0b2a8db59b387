"""Tokenizers: trained on a corpus, shown, compared, and extended with the words of a domain.

    import warmstart

    trained = warmstart.tokenizer.train("corpus.txt", kind="bpe", vocab_size=4000)
    warmstart.tokenizer.show("my parcel never came", tokenizers=["minilm", trained["out"]])

Each function takes the keys of its settings (`warmstart tokenizer train --help` explains them) and
gives back what `--json` prints. Errors are those of `warmstart`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from warmstart.config.validation import checked
from warmstart.errors import RecipeError
from warmstart.models.base import Base, resolve
from warmstart.models.loading import load_tokenizer
from warmstart.run import free_path, new_folder
from warmstart.tokenization import extension, training
from warmstart.tokenization.comparison import look, measure, open_all
from warmstart.tokenization.corpus import Corpus, Progress, propose_words, read_words
from warmstart.tokenization.settings import Choice, Comparison, Extension, Training

__all__ = ["compare", "extend", "plan_extension", "show", "train"]
FOLDER = Path("tokenizers")


def train(
    corpus: Any, *, out: str | Path | None = None, progress: Progress | None = None, **keys: Any
) -> dict[str, Any]:
    """Train a tokenizer and save it as a folder that `AutoTokenizer.from_pretrained` loads.

    Args:
        corpus: a file or folder, a list of them, or an object: a list of texts, a data frame.
        out: the folder to write; unset: the next free one in `tokenizers/`.
        progress: is told (what, done, of).
        keys: those of `Training`: `kind`, `vocab_size`, `family`, `lowercase` and so on.

    Returns `out`, `vocab_size`, `texts`, `characters`, `proven_on` (texts that the saved folder
    split in the same way), `settings` and `notes`.
    """
    settings: Training = checked(Training, keys)
    sources = _sources(corpus)
    named = isinstance(sources[0], str | os.PathLike)
    stem = Path(sources[0]).name.partition(".")[0] if named else "data"
    folder = _folder(out, f"{stem}-{settings.kind}")
    backend, specials, facts = training.train(settings, Corpus(sources, settings, None, progress))
    notes = facts.pop("notes")
    tokenizer = training.as_transformers(backend, specials, settings)
    facts |= {"settings": settings.model_dump(exclude_defaults=True) | {"kind": settings.kind}}
    training.save(tokenizer, facts, folder)
    texts = next(Corpus(sources, settings).rows())[: training.PROOF_TEXTS]
    proven = training.prove(folder, tokenizer, texts)
    return {"out": str(folder), **facts, "proven_on": proven, "notes": notes}


def show(text: str, *, progress: Progress | None = None, **keys: Any) -> list[dict[str, Any]]:
    """The same text under several tokenizers.

    Args:
        text: what is split.
        keys: those of `Choice`: `tokenizers`, and `corpus` and `vocab_size` for kinds to train.

    Returns, for each tokenizer, its `pieces` (piece, id, start, end, text, unknown, special), the
    number of `tokens` and of `unknown` ones, and the characters that are `lost` altogether.
    """
    choice: Choice = checked(Choice, keys)
    if not text:
        raise RecipeError("there is no text to show: give it in quotes")
    corpus = Corpus(choice.corpus, choice, None, progress) if choice.corpus else None
    return [asdict(look(text, tokenizer)) for tokenizer in open_all(choice, corpus)]


def compare(data: Any, *, progress: Progress | None = None, **keys: Any) -> list[dict[str, Any]]:
    """Measure several tokenizers on the same texts, for each group of texts apart.

    Args:
        data: a file or folder, a list of them, or an object. The texts of each file, of each
            text column, or of each value of the column `by` are a group.
        keys: those of `Comparison`: `tokenizers`, `by`, `max_length`, `corpus` and so on.

    Returns one row for each group and tokenizer; the group `all` comes last.
    """
    settings: Comparison = checked(Comparison, keys)
    files = settings.corpus
    corpus = Corpus(files, settings, None, progress, lenient=True) if files else None
    tokenizers = open_all(settings, corpus)
    texts = Corpus(_sources(data), settings, settings.by, progress)
    return [asdict(row) for row in measure(tokenizers, texts, settings.max_length)]


def extend(
    base: str, *, out: str | Path | None = None, progress: Progress | None = None, **keys: Any
) -> dict[str, Any]:
    """Give a base model new words as tokens, each beginning as the mean of its old pieces.

    Args:
        base: minilm, smollm2, a folder with a model, a GGUF file, or a hub id.
        out: the folder to write; unset: the next free one in `tokenizers/`.
        keys: those of `Extension`: `words` (a list or a file), or `corpus` to have them proposed.

    Returns `out`, the `words` with their count in the corpus, old pieces and new ids, the `rows`
    of the embedding, the `proof` and `notes`.
    """
    planned = _planned_extension(base, progress, keys)
    facts = extension.extend(
        planned.model, planned.tokenizer, planned.wider, planned.tokens,
        _folder(out, f"{Path(base).name}-extended"), planned.notes,
    )  # fmt: skip
    return {**facts, "words": planned.rows, "notes": planned.notes}


def plan_extension(base: str, *, progress: Progress | None = None, **keys: Any) -> dict[str, Any]:
    """The `words` that `extend` would add, and its `notes`; writes nothing."""
    planned = _planned_extension(base, progress, keys)
    return {"words": planned.rows, "notes": planned.notes}


class _Planned(NamedTuple):
    """An extension before anything is written; `rows` are the words, with their ids."""

    model: Base
    tokenizer: Any
    wider: Any
    tokens: list[extension.Added]
    rows: list[dict[str, Any]]
    notes: list[str]


def _planned_extension(base: str, progress: Progress | None, keys: Mapping[str, Any]) -> _Planned:
    settings: Extension = checked(Extension, keys)
    if bool(settings.words) == bool(settings.corpus):
        raise RecipeError("give either --words (a list or a file) or --corpus to find them in")
    model = resolve(base)
    tokenizer = load_tokenizer(model)
    backend = tokenizer.backend_tokenizer
    if settings.words:
        proposals = read_words(settings.words, backend)
    else:
        corpus = Corpus(settings.corpus, settings, None, progress)
        proposals = propose_words(corpus, backend, settings)
    if not proposals:
        raise RecipeError(
            f"no word occurs {settings.min_frequency} times in the corpus and falls into "
            f"{settings.min_pieces} pieces: there is nothing to add"
        )
    wider, tokens, notes = extension.insert(
        backend, [proposal.word for proposal in proposals], skip=bool(settings.corpus)
    )
    if not tokens:
        raise RecipeError(f"every word is one token of {base} already: there is nothing to add")
    ids: dict[str, list[int]] = {}
    for token in tokens:
        ids.setdefault(token.word, []).append(token.id)
    rows = [
        {"word": p.word, "count": p.count, "pieces": p.pieces, "ids": ids[p.word]}
        for p in proposals
        if p.word in ids
    ]
    return _Planned(model, tokenizer, wider, tokens, rows, notes)


def _sources(data: Any) -> list[Any]:
    """A list of paths as it is; anything else is one source."""
    paths = isinstance(data, list | tuple) and data and all(
        isinstance(path, os.PathLike) or (isinstance(path, str) and os.path.exists(path))
        for path in data
    )  # fmt: skip
    return list(data) if paths else [data]


def _folder(out: str | Path | None, name: str) -> Path:
    """The folder to write, which must not be there yet. Raises `RunError`."""
    return free_path(name, FOLDER) if out is None else new_folder(out)
