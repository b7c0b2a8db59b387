"""New words as tokens of an existing tokenizer, such that no other text changes its ids.

Three ways, by what the tokenizer is:

- WordPiece and whole words: an added token that matches whole words alone (`single_word`). A new
  entry in the vocabulary would also match at the start of longer words: cat in category.
- BPE that splits at spaces first: an entry in the vocabulary without merges, which is found where
  a word is exactly that (`ignore_merges`), once with the space before it and once without.
- Unigram, and BPE over whole texts: an added token that matches whole words and takes the space
  on its left with it; the decoder puts that space back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmstart.counting import counted
from warmstart.errors import RecipeError, shown
from warmstart.tokenizer.words import normalised, plain_normaliser

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "▁"
CONTEXTS = ("", "x ", "(")  # before a word: nothing, another word, punctuation


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
    from tokenizers import Tokenizer

    old = Tokenizer.from_str(backend.to_str())
    old.no_truncation()
    old.no_padding()
    notes: list[str] = []
    kind = type(old.model).__name__
    wrong: dict[str, str] = {}
    if kind == "BPE" and _splits(old):
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


def _splits(backend: Tokenizer) -> bool:
    return backend.pre_tokenizer is not None and len(_parts(backend, "x y")) == 2


def _parts(backend: Tokenizer, text: str) -> list[tuple[str, str]]:
    """What the model is given: each part, and the text that it stands for."""
    normaliser, splitter = backend.normalizer, backend.pre_tokenizer
    plain = normaliser.normalize_str(text) if normaliser else text
    return [(part, plain[start:end]) for part, (start, end) in splitter.pre_tokenize_str(plain)]


def _into_vocabulary(
    old: Tokenizer, words: Sequence[str], notes: list[str]
) -> tuple[Tokenizer, list[Added]]:
    from tokenizers import Tokenizer

    description = json.loads(old.to_str())
    model = description["model"]
    vocabulary: dict[str, int] = model["vocab"]
    if not model.get("ignore_merges"):
        notes += _never_merged(old, vocabulary)
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
        if stands_for.strip(f" {SPACE}") == normalised(word, old).strip(SPACE):
            forms[part] = None
    return list(forms)


def _never_merged(old: Tokenizer, vocabulary: dict[str, int]) -> list[str]:
    """A note on old tokens that the merges never give, and that whole words will now be."""
    strange = [
        token
        for token, number in vocabulary.items()
        if len(old.model.tokenize(token)) > 1
        and [part for part, _ in _parts(old, old.decode([number]))] == [token]
    ]
    if not strange:
        return []
    return [
        f"{len(strange)} old tokens that the merges never gave are given now where a word is "
        f"exactly that: {shown(', '.join(strange), 120)}"
    ]


def _beside(
    old: Tokenizer, words: Sequence[str], with_space: bool
) -> tuple[Tokenizer, list[Added]]:
    from tokenizers import AddedToken, Tokenizer

    new = Tokenizer.from_str(old.to_str())
    by_form = plain_normaliser(old)
    pieces = {word: tuple(old.encode(word, add_special_tokens=False).ids) for word in words}
    unknown = _unknown(old)
    fresh = [word for word in words if len(pieces[word]) > 1 or pieces[word] == (unknown,)]
    new.add_tokens(
        [
            AddedToken(word, single_word=True, lstrip=with_space, normalized=by_form)
            for word in fresh
        ]
    )
    if with_space and fresh:
        _keep_spaces(new, fresh)
    ids = new.get_vocab(with_added_tokens=True)
    return new, [Added(word, word, ids[word], pieces[word]) for word in fresh]


def _keep_spaces(new: Tokenizer, words: Sequence[str]) -> None:
    """Have the decoder put the space back that a new token took, where it does not already."""
    from tokenizers import Regex, decoders

    text = f"x {words[0]} x"
    if new.decode(new.encode(text, add_special_tokens=False).ids) == text:
        return
    before = new.decoder
    either = "|".join(re.escape(word) for word in words)
    mark: Any = decoders.Replace(Regex(f"^(?=(?:{either})$)"), SPACE)
    new.decoder = decoders.Sequence([mark, before] if before is not None else [mark])


def _unknown(backend: Tokenizer) -> int | None:
    model: Any = backend.model
    token = getattr(model, "unk_token", None)
    if token is not None:
        return backend.token_to_id(token)
    return json.loads(backend.to_str())["model"].get("unk_id")


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
