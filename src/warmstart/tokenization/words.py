"""The words that a tokenizer is to learn: given, or found in a corpus."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.data.readers import files
from warmstart.errors import RecipeError, shown
from warmstart.tokenization.settings import Extension

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.tokenization.corpus import Corpus

SHORTEST, LONGEST = 3, 40  # characters of a word that a corpus proposes


@dataclass(frozen=True, slots=True)
class Proposal:
    """A word, how often the corpus has it (0 where it was given), and its pieces now."""

    word: str
    count: int
    pieces: list[str]

    @property
    def saved(self) -> int:
        """Tokens of the corpus that it would save."""
        return self.count * (len(self.pieces) - 1)


def given(words: Sequence[str], backend: Tokenizer) -> list[Proposal]:
    """Words from a list, or from a file with one a line. Raises `RecipeError` for none."""
    if len(words) == 1 and os.path.isfile(words[0]):
        from warmstart.data.readers.encoding import detect

        path = Path(words[0])
        files.format_of(path)
        words = [line.strip() for line in files.lines(path, detect(path))]
    seen: dict[str, None] = {}
    for word in words:
        plain = normalised(word.strip(), backend)
        if len(plain.split()) > 1:
            raise RecipeError(
                f"'{shown(word)}' is more than one word to this tokenizer: give single words"
            )
        if plain:
            seen[plain] = None
    if not seen:
        raise RecipeError("no words were given: --words a,b or a file with one a line")
    return [Proposal(word, 0, pieces_of(word, backend)) for word in seen]


def proposed(corpus: Corpus, backend: Tokenizer, asked: Extension) -> list[Proposal]:
    """Frequent words that fall into many pieces, those first that would save most tokens."""
    raw: Counter[str] = Counter()
    for texts in corpus.rows():
        for text in texts:
            raw.update(text.split())
    counts: Counter[str] = Counter()
    for chunk, count in raw.items():
        if (word := _word(chunk)) and not re.search(r"\s", plain := normalised(word, backend)):
            counts[plain] += count
    found = [
        Proposal(word, count, pieces_of(word, backend))
        for word, count in counts.items()
        if count >= asked.min_frequency and SHORTEST <= len(word) <= LONGEST
    ]
    found = [proposal for proposal in found if len(proposal.pieces) >= asked.min_pieces]
    found.sort(key=lambda proposal: (-proposal.saved, proposal.word))
    return found[: asked.max_words]


def normalised(word: str, backend: Tokenizer) -> str:
    """The word as the tokenizer sees it: in small letters, for one that has no others."""
    return backend.normalizer.normalize_str(word) if plain_normaliser(backend) else word


def plain_normaliser(backend: Tokenizer) -> bool:
    """Whether there is a normaliser and it leaves spaces and the start of a text alone."""
    normaliser: Any = backend.normalizer
    return normaliser is not None and normaliser.normalize_str("a b") == "a b"


def pieces_of(word: str, backend: Tokenizer) -> list[str]:
    """The pieces of a word that stands alone."""
    return backend.encode(word, add_special_tokens=False).tokens


def _word(chunk: str) -> str:
    """Letters and their marks, without the punctuation around them; else nothing."""
    start, end = 0, len(chunk)
    while start < end and not _letter(chunk[start]):
        start += 1
    while end > start and not _letter(chunk[end - 1]):
        end -= 1
    word = chunk[start:end]
    return word if all(map(_letter, word)) else ""


def _letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"
