"""Documents without those that are empty or hardly text, each with its reason: the rules of Gopher,
but for the one of English stop words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import regex

from warmstart.data.dedup.clusters import UNSPACED
from warmstart.data.ledger import Ledger
from warmstart.data.tables import is_blank
from warmstart.errors import DataError

MOST_COMMON = {2: 0.20, 3: 0.18, 4: 0.16}
"""Words in a row → the share of the characters that the commonest such run may have."""
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Words in a row → the share of the characters in runs that have been there before."""
BULLETS = ("•", "-", "*")


def cleaned(table: pa.Table, ledger: Ledger, *, quality: bool) -> pa.Table:
    """Without documents that are empty or, where asked for, hardly text."""
    table = table.set_column(
        table.column_names.index("text"), "text", table["text"].cast(pa.large_string())
    )
    lost = is_blank(table["text"])
    ledger.drop_rows(table, lost, "empty")
    if quality:
        texts = table["text"].to_pylist()
        reasons = [None if gone else fault(text) for text, gone in zip(texts, lost, strict=True)]
        for reason in dict.fromkeys(filter(None, reasons)):
            hardly = np.array([r == reason for r in reasons])
            ledger.drop_rows(table, hardly, str(reason))
            lost = lost | hardly
    if lost.all():
        raise (
            ledger.nothing_left(table["_file"][0].as_py())
            if len(table)
            else DataError("the corpus holds no text: give files with text in them")
        )
    return table.filter(pa.array(~lost)) if lost.any() else table


def fault(text: str) -> str | None:
    """Why a document is hardly text; None where it is.

    The filters of Rae et al. 2021 (appendix A.1.1, table A1), with their thresholds: 50 to 100,000
    words of 3 to 10 characters on average, few # and …, few list items and lines that break off,
    words with letters, and little of it said before. Their rule of English stop words is left out,
    as it would drop all other languages. Of scripts without spaces between words the rules of lines
    and signs hold alone.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = text.split()
    spaced = 2 * len(regex.findall(UNSPACED, text)) < len(text)
    reason = _of_words(words) if spaced else None
    return reason or _of_lines(lines, text, len(words)) or (_repeated(words) if spaced else None)


def _of_words(words: Sequence[str]) -> str | None:
    if len(words) < 50:
        return "quality: fewer than 50 words"
    if len(words) > 100_000:
        return "quality: more than 100,000 words"
    mean = sum(map(len, words)) / len(words)
    if not 3 <= mean <= 10:
        return f"quality: words of {'less than 3' if mean < 3 else 'more than 10'} characters"
    if sum(any(c.isalpha() for c in word) for word in words) < 0.8 * len(words):
        return "quality: more than a fifth of its words have no letter"
    return None


def _of_lines(lines: Sequence[str], text: str, words: int) -> str | None:
    if any(len(re.findall(sign, text)) > 0.1 * max(words, 1) for sign in ("#", r"…|\.\.\.")):
        return "quality: more than one # or … for ten words"
    if sum(line.startswith(BULLETS) for line in lines) > 0.9 * len(lines):
        return "quality: nine lines of ten are list items"
    if sum(line.endswith(("…", "...")) for line in lines) > 0.3 * len(lines):
        return "quality: three lines of ten break off with …"
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    for name, parts in (("lines", lines), ("paragraphs", blocks)):
        again = [(len(part), n - 1) for part, n in Counter(parts).items() if n > 1]
        if sum(n for _, n in again) > 0.3 * len(parts):
            return f"quality: more than three of ten {name} are repeated"
        if sum(size * n for size, n in again) > 0.2 * len(text):
            return f"quality: more than a fifth of it is repeated {name}"
    return None


def _repeated(words: Sequence[str]) -> str | None:
    """What is said too often, in runs of words."""
    whole = sum(map(len, words)) + len(words) - 1
    for n, most in MOST_COMMON.items():
        runs = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        if not runs:
            break
        run, times = runs.most_common(1)[0]
        if times > 1 and times * (sum(map(len, run)) + n - 1) > most * whole:
            return f"quality: the same {n} words again and again"
    for n, most in REPEATED.items():
        seen, at, again = set[tuple[str, ...]](), 0, 0
        while at + n <= len(words):
            run = tuple(words[at : at + n])
            if run in seen:
                again, at = again + sum(map(len, run)) + n - 1, at + n
            else:
                seen.add(run)
                at += 1
        if again > most * whole:
            return f"quality: runs of {n} words are repeated"
    return None
