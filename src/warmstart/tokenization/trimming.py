"""A tokenizer with fewer tokens that splits every text of the kept ones exactly as before.

Which tokens must stay with those in use, by what the tokenizer is:

- WordPiece and whole words: none. The longest match at a place was a kept token, and no longer one
  has come.
- BPE: the tokens that a kept one is merged of, and these merges. The lowest of the merges that
  could be made next is then the same at every step.
- Unigram: one piece of the lowest score, from which that of an unknown character is counted. The
  best way through a text is still there, and only others have gone.

Beside them special tokens stay, single bytes, and the letters in use, so that a new word of the
same letters is split into pieces and not unknown.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from warmstart.errors import RecipeError

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
MARKS = ("##", "\u2581", "</w>")
"""What stands for a place in a word and is no letter of it."""
PLAIN = string.ascii_letters + string.digits + string.punctuation


def needed(backend: Tokenizer, used: Iterable[int]) -> np.ndarray:
    """The ids that a tokenizer must keep for texts of the ids `used` to be split as before, in
    order. Raises `RecipeError` for a kind that cannot be trimmed."""
    description = json.loads(backend.to_str())
    model, kind = description["model"], type(backend.model).__name__
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = {number: token for token, number in vocabulary.items()}
    kept = {int(number) for number in used}
    kept |= {int(token["id"]) for token in description["added_tokens"]}
    kept |= {vocabulary[token] for token in _named(description) if token in vocabulary}
    letters = {letter for number in kept for letter in _bare(tokens.get(number, ""))} | {*PLAIN}
    for token, number in vocabulary.items():
        bare = _bare(token)
        if BYTE.fullmatch(token) or not bare or (len(bare) == 1 and bare in letters):
            kept.add(number)
    if kind == "BPE":
        _add_parts(model, vocabulary, kept, byte_level="ByteLevel" in json.dumps(description))
    elif kind == "Unigram":
        kept.add(min(range(len(model["vocab"])), key=lambda number: model["vocab"][number][1]))
        if (unknown := model.get("unk_id")) is not None:  # mBART-50 has it a second time
            kept.add(unknown)
            tokens.setdefault(unknown, model["vocab"][unknown][0])
    elif kind not in ("WordPiece", "WordLevel"):
        raise RecipeError(f"a tokenizer of the kind {kind} cannot be trimmed; prune or quantize")
    return np.array(sorted(kept & tokens.keys()), np.int64)


def trimmed(backend: Tokenizer, kept: np.ndarray) -> Tokenizer:
    """The tokenizer with these tokens alone, which get the numbers 0, 1, … in their order."""
    places = {int(old): new for new, old in enumerate(kept)}
    description = json.loads(backend.to_str())
    model = description["model"]
    if isinstance(model["vocab"], dict):
        old: dict[str, int] = model["vocab"]
        model["vocab"] = {token: places[number] for token, number in old.items()
                          if number in places}  # fmt: skip
    else:
        known = range(len(model["vocab"]))
        model["vocab"] = [model["vocab"][number] for number in known if number in places]
        if model.get("unk_id") is not None:
            model["unk_id"] = places[model["unk_id"]]
    if "merges" in model:
        merges = [_pair(merge) for merge in model["merges"]]
        model["merges"] = [
            [left, right] for left, right in merges
            if {left, right, _joined(model, left, right)} <= model["vocab"].keys()
        ]  # fmt: skip
    for token in description["added_tokens"]:
        token["id"] = places[token["id"]]
    description["post_processor"] = _renumbered(description.get("post_processor"), places)
    smaller = Tokenizer.from_str(json.dumps(description))
    smaller.no_truncation()
    smaller.no_padding()
    return smaller


def _add_parts(
    model: Mapping[str, Any], vocabulary: Mapping[str, int], kept: set[int], *, byte_level: bool
) -> None:
    """Add the tokens that kept ones are merged of, and all single bytes."""
    parts: dict[int, list[int]] = {}
    for merge in model["merges"]:
        left, right = _pair(merge)
        whole = vocabulary.get(_joined(model, left, right))
        if whole is not None and left in vocabulary and right in vocabulary:
            parts.setdefault(whole, []).extend((vocabulary[left], vocabulary[right]))
    if byte_level:
        kept |= {number for token, number in vocabulary.items() if len(token) == 1}
    waiting = [*kept]
    while waiting:
        fresh = {*parts.get(waiting.pop(), ())} - kept
        kept |= fresh
        waiting += fresh


def _pair(merge: Any) -> Sequence[str]:
    return cast("Sequence[str]", merge.split(" ", 1) if isinstance(merge, str) else merge)


def _joined(model: Mapping[str, Any], left: str, right: str) -> str:
    """The token that a merge makes: the mark of a word's inside is there once."""
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _bare(token: str) -> str:
    """A token without marks of its place."""
    for mark in MARKS:
        token = token.removeprefix(mark) if mark != "</w>" else token.removesuffix(mark)
    return token


def _named(description: Mapping[str, Any]) -> set[str]:
    """Tokens that a tokenizer names besides: the unknown one, those of its template."""
    model, names = description["model"], set[str]()
    if isinstance(model.get("unk_token"), str):
        names.add(model["unk_token"])
    if model.get("unk_id") is not None:
        names.add(model["vocab"][model["unk_id"]][0])
    for step in _steps(description.get("post_processor")):
        for key in ("sep", "cls"):
            names |= {step[key][0]} if step.get(key) else set()
        for entry in (step.get("special_tokens") or {}).values():
            names |= {*entry["tokens"]}
    return names


def _steps(processor: Any) -> list[dict[str, Any]]:
    """A post-processor and those in it."""
    if not isinstance(processor, dict):
        return []
    inner = cast("dict[str, Any]", processor)
    return [inner, *(part for each in inner.get("processors") or [] for part in _steps(each))]


def _renumbered(processor: Any, places: Mapping[int, int]) -> Any:
    """A post-processor with the new ids of its tokens."""
    for step in _steps(processor):
        for key in ("sep", "cls"):
            if step.get(key):
                step[key] = [step[key][0], places[step[key][1]]]
        for entry in (step.get("special_tokens") or {}).values():
            entry["ids"] = [places[number] for number in entry["ids"]]
    return processor
