"""Tokenizers: trained on a corpus, shown, compared, and extended with the words of a domain.

    import warmstart

    trained = warmstart.tokenizer.train("corpus.txt", kind="bpe", vocab_size=4000)
    warmstart.tokenizer.show("my parcel never came", tokenizers=["minilm", trained["out"]])

Each function takes the keys of its settings (`warmstart tokenizer train --help` explains them) and
gives back what `--json` prints. Errors are those of `warmstart`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.config.validation import checked
from warmstart.errors import RecipeError, RunError
from warmstart.tokenization.settings import Choice, Comparison, Extension, Reading, Training

if TYPE_CHECKING:
    from warmstart.tokenization.corpus import Corpus, Progress

__all__ = ["compare", "extend", "show", "train"]
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
    from warmstart.tokenization import training as build

    asked: Training = checked(Training, keys)
    texts = _corpus(_sources(corpus), asked, progress)
    folder = _free(out, f"{_stem(corpus)}-{asked.kind}")
    backend, specials, facts = build.train(asked, texts)
    notes = facts.pop("notes")
    tokenizer = build.as_transformers(backend, specials, asked)
    settings = asked.model_dump(exclude_defaults=True) | {"kind": asked.kind}
    build.save(tokenizer, facts | {"settings": settings}, folder)
    first = next(_corpus(_sources(corpus), asked, None).rows())
    proven = build.prove(folder, tokenizer, list(islice(first, build.KEPT)))
    return {"out": str(folder), **facts, "proven_on": proven, "settings": settings, "notes": notes}


def show(text: str, *, progress: Progress | None = None, **keys: Any) -> list[dict[str, Any]]:
    """The same text under several tokenizers.

    Args:
        text: what is split.
        keys: those of `Choice`: `tokenizers`, and `corpus` and `vocab_size` for kinds to train.

    Returns, for each tokenizer, its `pieces` (piece, id, start, end, text, unknown, special), the
    number of `tokens` and of `unknown` ones, and the characters that are `lost` altogether.
    """
    from warmstart.tokenization.comparison import look_all, open_all

    choice: Choice = checked(Choice, keys)
    if not text:
        raise RecipeError("there is no text to show: give it in quotes")
    texts = _corpus(choice.corpus, choice, progress) if choice.corpus else None
    return [found.as_dict() for found in look_all(text, open_all(choice, texts))]


def compare(data: Any, *, progress: Progress | None = None, **keys: Any) -> list[dict[str, Any]]:
    """Measure several tokenizers on the same texts, for each group of texts apart.

    Args:
        data: a file or folder, a list of them, or an object. The texts of each file, of each
            text column, or of each value of the column `by` are a group.
        keys: those of `Comparison`: `tokenizers`, `by`, `max_length`, `corpus` and so on.

    Returns one row for each group and tokenizer; the group `all` comes last.
    """
    from warmstart.tokenization.comparison import measure, open_all

    asked: Comparison = checked(Comparison, keys)
    corpus = _corpus(asked.corpus, asked, progress, lenient=True) if asked.corpus else None
    tokenizers = open_all(asked, corpus)
    texts = _corpus(_sources(data), asked, progress, by=asked.by)
    rows, _ = measure(tokenizers, texts, asked.max_length)
    return [row.as_dict() for row in rows]


def extend(
    base: str, *, out: str | Path | None = None, progress: Progress | None = None, **keys: Any
) -> dict[str, Any]:
    """Give a base model new words as tokens, each beginning as the mean of its old pieces.

    Args:
        base: an embedded name, a folder with a model, or a hub id.
        out: the folder to write; unset: the next free one in `tokenizers/`.
        keys: those of `Extension`: `words` (a list or a file), or `corpus` to have them proposed.

    Returns `out`, the `words` with their count in the corpus, old pieces and new ids, the `rows`
    of the embedding, the `proof` and `notes`.
    """
    from warmstart.models.base import resolve
    from warmstart.models.loading import load_tokenizer
    from warmstart.tokenization import words as finding
    from warmstart.tokenization.extension import extend as write
    from warmstart.tokenization.extension import insert

    asked: Extension = checked(Extension, keys)
    if bool(asked.words) == bool(asked.corpus):
        raise RecipeError("give either --words (a list or a file) or --corpus to find them in")
    found_base = resolve(base)
    tokenizer = load_tokenizer(found_base)
    backend = tokenizer.backend_tokenizer
    folder = _free(out, f"{Path(base).name}-extended")
    if asked.words:
        chosen = finding.given(asked.words, backend)
    else:
        chosen = finding.proposed(_corpus(asked.corpus, asked, progress), backend, asked)
    if not chosen:
        raise RecipeError(
            f"no word occurs {asked.min_frequency} times in the corpus and falls into "
            f"{asked.min_pieces} pieces: there is nothing to add"
        )
    new, added, notes = insert(backend, [one.word for one in chosen], skip=bool(asked.corpus))
    if not added:
        raise RecipeError(f"every word is one token of {base} already: there is nothing to add")
    facts = write(found_base, tokenizer, new, added, folder, notes)
    ids = {word: [one.id for one in added if one.word == word] for word in {a.word for a in added}}
    rows = [
        {"word": one.word, "count": one.count, "pieces": one.pieces, "ids": ids[one.word]}
        for one in chosen
        if one.word in ids
    ]
    return {**facts, "words": rows, "notes": notes}


def _corpus(
    sources: Sequence[Any],
    reading: Reading,
    progress: Progress | None,
    by: str | None = None,
    lenient: bool = False,
) -> Corpus:
    from warmstart.tokenization.corpus import Corpus

    return Corpus(sources, reading, by, progress, lenient)


def _sources(data: Any) -> list[Any]:
    """A list of paths as it is; anything else is one source."""
    paths = isinstance(data, list | tuple) and data and all(
        isinstance(one, os.PathLike) or (isinstance(one, str) and os.path.exists(one))
        for one in data
    )  # fmt: skip
    return list(data) if paths else [data]


def _stem(corpus: Any) -> str:
    first = _sources(corpus)[0]
    return Path(first).name.partition(".")[0] if isinstance(first, str | os.PathLike) else "data"


def _free(out: str | Path | None, name: str) -> Path:
    """The folder to write, which must not be there yet. Raises `RunError`."""
    if out is not None:
        if os.path.exists(out):
            raise RunError(f"{out} exists already; choose another --out")
        return Path(out)
    number, path = 2, FOLDER / name
    while path.exists():
        path, number = FOLDER / f"{name}-{number}", number + 1
    return path
