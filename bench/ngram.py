"""Interpolated Kneser-Ney n-gram models of words, the yardstick of a small language model.

    python bench/ngram.py                         # perplexity of orders 1 to 5 on held-out prose
    python bench/ngram.py --corpus train/ --test held_out.txt --order 3

Words are lower case, punctuation marks are words, and a sentence ends at . ! or ?. Words that
occur once in the corpus are the unknown word. Each order has one discount, n1 / (n1 + 2 n2); below
the highest, counts are numbers of different words before (Kneser & Ney 1995; Chen & Goodman 1999,
4.1.6), but for n-grams that begin a sentence. Unigrams are interpolated with the uniform
distribution.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from _common import DATA, parser

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
ENDS = {".", "!", "?"}
START, END, UNKNOWN = 0, 1, 2
PROSE = DATA.parent / "corpus" / "prose"


def words_of(text: str) -> list[str]:
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


def sentences_of(text: str) -> list[list[str]]:
    """The sentences of a text, each with the mark that ends it."""
    sentences, sentence = list[list[str]](), list[str]()
    for word in words_of(text):
        sentence.append(word)
        if word in ENDS:
            sentences.append(sentence)
            sentence = []
    return [*sentences, sentence] if sentence else sentences


def read(path: Path) -> list[list[str]]:
    """The sentences of a text file, or of all below a folder."""
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    return [one for file in files for one in sentences_of(file.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class Order:
    """The n-grams of one order.

    Args:
        keys: [G] number of the first n - 1 words (in the order below) times the vocabulary, plus
            the last word; ascending, so that a place in them is the number of an n-gram.
        counts: [G] how often each counts.
        total, kinds: of each history [H], how often it counts, and how many words follow it.
        discount: what is taken from each count.
    """

    keys: np.ndarray
    counts: np.ndarray
    total: np.ndarray
    kinds: np.ndarray
    discount: float


class KneserNey:
    """An n-gram model of sentences."""

    def __init__(self, sentences: Iterable[Sequence[str]], order: int = 5) -> None:
        sentences = [list(one) for one in sentences]
        self.seen = Counter(word for one in sentences for word in one)
        known = sorted(word for word, count in self.seen.items() if count > 1)
        self.ids = {word: i for i, word in enumerate(known, UNKNOWN + 1)}
        self.size = len(known) + 3
        flat = np.array(
            [i for one in sentences for i in [START, *self.numbers(one), END]], np.int64
        )
        self.orders = self._counted(flat, order)

    def numbers(self, words: Sequence[str]) -> list[int]:
        return [self.ids.get(word, UNKNOWN) for word in words]

    def _counted(self, flat: np.ndarray, order: int) -> list[Order]:
        """The orders from 1 on. `gram[p]` is the number of the n-gram that begins at place p."""
        whole = np.ones(len(flat), bool)  # places whose n-gram lies in one sentence
        gram, histories = flat.copy(), self.size
        levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        first = flat == START
        for n in range(1, order + 1):
            if n == 1:
                keys, inverse = np.arange(self.size), flat
            else:
                last = np.roll(flat, -(n - 1))
                whole &= (last != START) & (np.arange(len(flat)) <= len(flat) - n)
                keys, inverse = np.unique((gram * self.size + last)[whole], return_inverse=True)
                gram = np.zeros(len(flat), np.int64)
                gram[whole] = inverse
            levels.append((keys, gram.copy(), whole.copy()))
        made: list[Order] = []
        for n, (keys, gram, whole) in enumerate(levels, 1):
            if n == order:
                counts = np.bincount(gram[whole], minlength=len(keys))
            else:  # how many different words stand before it; itself, where it begins a sentence
                above, longer, inside = levels[n]
                at = np.flatnonzero(inside)
                suffix = np.zeros(len(above), np.int64)
                suffix[longer[at]] = gram[at + 1]
                counts = np.bincount(suffix, minlength=len(keys))
                begins = np.zeros(len(keys), bool)
                begins[gram[whole & first]] = True
                raw = np.bincount(gram[whole], minlength=len(keys))
                counts = np.where(begins, raw, counts)
            if n == 1:
                counts[START] = 0  # never predicted
            histories = 1 if n == 1 else len(levels[n - 2][0])
            before = np.zeros(len(keys), np.int64) if n == 1 else keys // self.size
            once, twice = (counts == 1).sum(), (counts == 2).sum()
            made.append(Order(
                keys, counts, np.bincount(before, counts, histories),
                np.bincount(before[counts > 0], minlength=histories),
                float(once / max(once + 2 * twice, 1)),
            ))  # fmt: skip
        return made

    def probability(self, history: Sequence[int], word: int) -> float:
        """Of a word behind the last words of a history."""
        value = 1.0 / (self.size - 1)  # every word but the start
        for n in range(1, min(len(self.orders), len(history) + 1) + 1):
            level = self.orders[n - 1]
            before = self._number(history[len(history) - n + 1 :]) if n > 1 else 0
            if before is None or not level.total[before]:
                break
            key = before * self.size + word
            at = int(np.searchsorted(level.keys, key))
            count = level.counts[at] if at < len(level.keys) and level.keys[at] == key else 0
            left = level.discount * level.kinds[before]
            value = (max(count - level.discount, 0.0) + left * value) / level.total[before]
        return float(value)

    def _number(self, words: Sequence[int]) -> int | None:
        """The number of an n-gram in its order; None where it does not occur."""
        number = words[0]
        for n, word in enumerate(words[1:], 1):
            key = number * self.size + word
            keys = self.orders[n].keys
            at = int(np.searchsorted(keys, key))
            if at == len(keys) or keys[at] != key:
                return None
            number = at
        return number

    def nats(self, words: Sequence[str]) -> float:
        """Minus the log-probability of a sentence and its end."""
        ids, total = [START, *self.numbers(words), END], 0.0
        for place in range(1, len(ids)):
            total -= float(np.log(self.probability(ids[:place][-len(self.orders) :], ids[place])))
        return total


class Unigram:
    """Each word as likely as it is in the corpus, one added to each count (Laplace)."""

    def __init__(self, sentences: Iterable[Sequence[str]]) -> None:
        self.seen = Counter(word for one in sentences for word in one)
        self.total = self.seen.total() + len(self.seen) + 1

    def nats(self, words: Sequence[str]) -> float:
        """Minus the log-probability of a sentence."""
        return -float(sum(np.log((self.seen[word] + 1) / self.total) for word in words))


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--corpus", type=Path, default=PROSE / "train")
    words.add_argument("--test", type=Path, default=PROSE / "validation")
    words.add_argument("--order", type=int, default=5)
    asked = words.parse_args()
    train, test = read(asked.corpus), read(asked.test)
    test = test[:500] if asked.quick else test
    count = sum(len(one) + 1 for one in test)
    print(f"{sum(map(len, train)):,} words to count, {count:,} to predict (ends counted)\n")
    print("| order | perplexity of a word |\n|---:|---:|")
    for order in range(1, asked.order + 1):
        model = KneserNey(train, order)
        loss = sum(model.nats(one) for one in test) / count
        print(f"| {order} | {np.exp(loss):.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
