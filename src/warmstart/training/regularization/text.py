"""General text in passages: some to learn along, some held out to measure forgetting by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.errors import DataError
from warmstart.formatting import counted

LONGEST = 400  # characters of a passage, about 90 English tokens
SHORTEST = 80
MOST = 20_000  # passages that are read
FEWEST = 50
HELD = 200  # passages held out, or a fifth of them
SHIPPED = Path(__file__).parents[2] / "samples" / "general.txt"


@dataclass(frozen=True, slots=True)
class General:
    """Passages of general text; none of `held` is in `learned`."""

    learned: list[str]
    held: list[str]
    name: str
    note: str = ""

    @property
    def fingerprint(self) -> str:
        """The hash of all passages."""
        whole = "\n".join([*self.learned, "", *self.held])
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def read_general(path: str) -> General:
    """The passages of a file or folder: its texts in order, joined and cut at about 400 characters.

    Every so-manyth is held out. Raises `DataError` where there are fewer than 50.
    """
    from warmstart.tokenization.corpus import Corpus
    from warmstart.tokenization.settings import Reading

    corpus = Corpus([path], Reading(), lenient=True)
    texts = ((text, group) for batch in corpus.batches()
             for text, group in zip(batch.texts, batch.groups, strict=True))  # fmt: skip
    distinct: dict[str, None] = {}
    for passage in passages(texts):
        distinct[passage] = None
        if len(distinct) == MOST:
            break
    every = list(distinct)
    if len(every) < FEWEST:
        raise DataError(
            f"forgetting.text: {path} gives {len(every)} different passages of {SHORTEST} to "
            f"{LONGEST} characters; at least {FEWEST} are needed, some to learn along and some to "
            "measure forgetting by"
        )
    size = min(HELD, len(every) // 5)
    held = set(np.linspace(0, len(every) - 1, size).round().astype(int).tolist())
    left = " and no further" if len(every) == MOST else ""
    note = (
        f"general text: {counted(len(every), 'passage')} of {path} read{left}; {len(held)} of them "
        "are held out for the forgetting figure and never trained on"
    )
    return General(
        [text for at, text in enumerate(every) if at not in held],
        [text for at, text in enumerate(every) if at in held],
        str(path),
        note,
    )


def shipped() -> General:
    """The small English text that comes with the package; all of it is held out."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    return General([], [line for line in lines if line], "the general text of warmstart")


def passages(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Texts of one group joined, and cut between words into at most `LONGEST` characters."""
    rest, before = "", None
    for text, group in texts:
        if group != before and len(rest) >= SHORTEST:
            yield rest
        words = " ".join(text.split())
        rest = f"{rest} {words}".strip() if group == before else words
        before = group
        while len(rest) > LONGEST:
            cut = rest.rfind(" ", SHORTEST, LONGEST)
            cut = LONGEST if cut < 0 else cut
            yield rest[:cut]
            rest = rest[cut:].strip()
    if len(rest) >= SHORTEST:
        yield rest


def evenly(texts: Sequence[str], most: int) -> list[str]:
    """At most so many of the texts, at equal distances."""
    size = min(most, len(texts))
    return [texts[at * len(texts) // size] for at in range(size)]


def halves(text: str) -> tuple[str, str]:
    """A passage cut in two: between sentences near its middle, else between words."""
    middle, size = len(text) // 2, len(text)
    for mark in (". ", "? ", "! ", " "):
        places = [at + len(mark) for at in range(size // 4, 3 * size // 4)
                  if text.startswith(mark, at)]  # fmt: skip
        if places:
            cut = min(places, key=lambda at: abs(at - middle))
            return text[:cut].strip(), text[cut:].strip()
    return text[:middle], text[middle:]
