"""What a `tokenizer.json` does to a text, looked at before it is built: a small file may ask for
steps that make a text a million times as long, or for a pattern that takes for ever."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from warmstart.errors import BaseModelError, shown

MOST_STEPS = 100
MOST_GROWTH = 256
LONGEST_PATTERN, LONGEST_WORD = 5_000, 10_000  # characters
LONGEST_PADDING = 1_000_000  # tokens
LARGEST_ID = 10_000_000  # a table of that many entries is made
LONGEST_MAPPING = 18  # characters that Unicode makes of one, at most (NFKC)
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
CHAINS = ("normalizers", "pretokenizers", "processors", "decoders")
MAY_BE_EMPTY = re.compile(r"[*?|^$]|\{0?,|\\[bBGAzZ]")
PIECES = re.compile(r"\\.|\[\^?\]?(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\]\\])*\]|\{\d+,\d*\}|.", re.DOTALL)


def check_steps(tokenizer: Mapping[str, Any], file: Path) -> None:
    """Refuse a tokenizer whose steps may make a text very long, or never end.

    Args:
        tokenizer: the content of a `tokenizer.json`.
        file: where it stands, for the message.

    Raises `BaseModelError`.
    """
    steps = [(part, step) for part in PARTS for step in _steps(tokenizer.get(part))]
    if len(steps) > MOST_STEPS:
        raise BaseModelError(
            f"{file} takes a text through {len(steps):,} steps; at most {MOST_STEPS} are read"
        )
    growth = 1
    for part, step in steps:
        for pattern in _patterns(step):
            if len(pattern) > LONGEST_PATTERN or repeats_itself(pattern):
                raise BaseModelError(
                    f"{file} has a pattern in its {part} that may take for ever: "
                    f"{shown(pattern, 60)}"
                )
        growth *= _growth(step)
        if growth > MOST_GROWTH:
            raise BaseModelError(
                f"{file} makes a text more than {MOST_GROWTH} times as long (the steps of its "
                f"{part}); put the tokenizer there that the model was trained with"
            )
    model, padding = _table(tokenizer.get("model")), _table(tokenizer.get("padding"))
    vocabulary, added = _table(model.get("vocab")), tokenizer.get("added_tokens")
    tokens = cast("list[Any]", added) if isinstance(added, list) else []
    ids = [*vocabulary.values(), *(_table(token).get("id") for token in tokens)]
    sizes = [
        ("an id of", max((id_ for id_ in ids if isinstance(id_, int)), default=0), LARGEST_ID),
        ("max_input_chars_per_word", model.get("max_input_chars_per_word"), LONGEST_WORD),
        ("padding to", _table(padding.get("strategy")).get("Fixed"), LONGEST_PADDING),
        ("pad_to_multiple_of", padding.get("pad_to_multiple_of"), LONGEST_PADDING),
    ]
    for name, size, most in sizes:
        if isinstance(size, int) and size > most:
            raise BaseModelError(f"{file} says {name} {shown(size)}; at most {most:,} are read")


def repeats_itself(pattern: str) -> bool:
    """Whether a repeated group of a pattern holds a repetition, as in `(a+)+`: such a pattern may
    take time that doubles with each character."""
    holds, closed = [False], False
    for piece in PIECES.findall(pattern):
        if piece == "(":
            holds.append(False)
        elif piece == ")" and len(holds) > 1:
            closed = holds.pop()
            holds[-1] |= closed
            continue
        elif piece in ("*", "+") or (piece[0] == "{" and len(piece) > 1):
            if closed:
                return True
            holds[-1] = True
        closed = False
    return False


def _table(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a part, those of chains within chains too."""
    waiting = [part]
    while waiting:
        step = _table(waiting.pop())
        chains = [step[name] for name in CHAINS if isinstance(step.get(name), list)]
        waiting += [below for chain in chains for below in chain]
        if step and not chains:
            yield step


def _patterns(step: Mapping[str, Any]) -> Iterator[str]:
    pattern = _table(step.get("pattern")).get("Regex")
    if isinstance(pattern, str):
        yield pattern


def _growth(step: Mapping[str, Any]) -> int:
    """How many times as long a step may make a text, besides what Unicode's own forms do."""
    kind, content = step.get("type"), step.get("content")
    if kind == "Replace" and isinstance(content, str):
        pattern = _table(step.get("pattern"))
        if isinstance(pattern.get("String"), str):
            return max(1, math.ceil(len(content) / max(1, len(pattern["String"]))))
        return max(1, len(content) + bool(MAY_BE_EMPTY.search(str(pattern.get("Regex")))))
    if kind == "Precompiled":
        return _of_mappings(str(step.get("precompiled_charsmap") or ""))
    if kind == "TemplateProcessing":
        pieces = [step.get(name) for name in ("single", "pair")]
        specials = _table(step.get("special_tokens")).values()
        ids = [_table(token).get("ids") for token in specials]
        count = sum(len(cast("list[Any]", some)) for some in ids if isinstance(some, list))
        return max(1, count // MOST_STEPS, *(_repeated(each) for each in pieces))
    return 2 if kind == "ByteLevel" else max(1, len(str(step.get("prepend") or "")) // MOST_STEPS)


def _repeated(template: Any) -> int:
    """How often a template holds the same text; many special tokens count too."""
    pieces = cast("list[Any]", template) if isinstance(template, list) else []
    texts = [_table(_table(piece).get("Sequence")).get("id") for piece in pieces]
    return max(len(pieces) // MOST_STEPS, texts.count("A"), texts.count("B"))


def _of_mappings(charsmap: str) -> int:
    """The growth by a table of sentencepiece: the size of its trie (4 bytes), the trie, and the
    texts that characters become, each ended by a zero."""
    try:
        table = base64.b64decode(charsmap)
    except ValueError:
        return 1
    texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return max(1, math.ceil(max(map(len, texts)) / (4 * LONGEST_MAPPING)))
