"""The counting loop of conlleval.pl (Tjong Kim Sang 2004), line by line, as the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

ENDS = {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O"), ("E", "E"), ("E", "I"), ("E", "O")}
STARTS = {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I"), ("E", "E"), ("E", "I"), ("O", "E")}


def end_of_chunk(last: str, tag: str, last_type: str, kind: str) -> bool:
    return (last, tag) in ENDS or (last not in ("O", ".") and last_type != kind)


def start_of_chunk(last: str, tag: str, last_type: str, kind: str) -> bool:
    return (last, tag) in STARTS or (tag not in ("O", ".") and last_type != kind)


def split(tag: str) -> tuple[str, str]:
    mark, hyphen, kind = tag.partition("-")
    return (mark, kind) if hyphen else (tag, "")


def conlleval(
    predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
) -> dict[str, tuple[int, int, int]]:
    """Type (and "" for all) → entities right, predicted, and in the gold."""
    right: Counter[str] = Counter()
    guessed_of: Counter[str] = Counter()
    correct_of: Counter[str] = Counter()
    in_correct = False
    last_correct, last_correct_type, last_guessed, last_guessed_type = "O", "", "O", ""
    lines: list[tuple[str, str]] = []
    for ours, true in zip(predicted, gold, strict=True):
        lines += [*zip(ours, true, strict=True), ("O", "O")]
    for ours, true in lines:
        guessed, guessed_type = split(ours)
        correct, correct_type = split(true)
        ends = end_of_chunk(last_correct, correct, last_correct_type, correct_type)
        guess_ends = end_of_chunk(last_guessed, guessed, last_guessed_type, guessed_type)
        if in_correct:
            if ends and guess_ends and last_guessed_type == last_correct_type:
                in_correct = False
                right[last_correct_type] += 1
            elif ends != guess_ends or guessed_type != correct_type:
                in_correct = False
        starts = start_of_chunk(last_correct, correct, last_correct_type, correct_type)
        guess_starts = start_of_chunk(last_guessed, guessed, last_guessed_type, guessed_type)
        if starts and guess_starts and guessed_type == correct_type:
            in_correct = True
        correct_of[correct_type] += starts
        guessed_of[guessed_type] += guess_starts
        last_guessed, last_correct = guessed, correct
        last_guessed_type, last_correct_type = guessed_type, correct_type
    if in_correct:
        right[last_correct_type] += 1
    kinds = {kind for counts in (guessed_of, correct_of) for kind in counts if counts[kind]}
    found = {kind: (right[kind], guessed_of[kind], correct_of[kind]) for kind in kinds}
    return found | {"": (right.total(), guessed_of.total(), correct_of.total())}
