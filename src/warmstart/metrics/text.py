"""Scores of generated text: ROUGE, BLEU, chrF, exact match, and lengths.

`rouge-score` and `sacrebleu` read the strings; the statistics per row are theirs. References: a
string a row, or several; of several ROUGE and chrF count the best, BLEU all (as the packages do).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import regex

from warmstart.errors import WarmstartError
from warmstart.metrics.base import Floats, Measure, Scores, ratio

References = Sequence[str] | Sequence[Sequence[str]]
Words = Literal["13a", "intl", "zh", "char", "none"]

SENTENCE_END = re.compile(
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)\]]))\s+(?=[^\s\da-z])|(?<=[。！？])(?=[^\s」』”’）])"""
)
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
"""Scripts that write no spaces between words, as a class of `regex`."""
ENGLISH = 0.95  # share of letters a-z from which "ascii" and "13a" read a text as it is published


def script_of(texts: Iterable[str]) -> Literal["ascii", "spaced", "zh", "unspaced"]:
    """How words are counted in texts: "ascii" where nearly all letters are a-z and no text is
    without any, "spaced" of other scripts with spaces, "zh" Chinese, "unspaced" others without."""
    letters, ascii_letters, unspaced, kana, blind = 0, 0, 0, 0, False
    for text in texts:
        own = regex.findall(r"\p{L}", text)
        plain = sum(letter.isascii() for letter in own)
        letters, ascii_letters = letters + len(own), ascii_letters + plain
        blind = blind or (bool(own) and not regex.search("[A-Za-z0-9]", text))
        if plain < len(own):
            unspaced += len(regex.findall(f"[{UNSPACED}]", text))
            kana += len(regex.findall(r"\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}"
                                      r"|\p{Myanmar}|\p{Tibetan}", text))  # fmt: skip
    if 2 * unspaced > letters:
        return "unspaced" if 20 * kana > unspaced else "zh"
    return "spaced" if blind or ascii_letters < ENGLISH * letters else "ascii"


def words_of(text: str) -> list[str]:
    """What stands between spaces; in scripts without them each character is a word."""
    if text.isascii():
        return text.split()
    return regex.sub(rf"[{UNSPACED}]\p{{M}}*", r" \g<0> ", text).split()


class Rouge(Measure):
    """ROUGE-1, -2, -L and -Lsum F-measures, 0 to 1 (Lin 2004), means over the rows.

    `stemmer`: Porter's, for English, as in most published figures. `words`: "ascii" is the rule of
    the original, which drops every letter but a-z; "unicode" counts the words of any script that
    writes spaces, and is not comparable with published figures. `split` says what a sentence is for
    ROUGE-Lsum: "lines" (the original), or "sentences" for texts without line breaks.
    """

    title = "ROUGE"
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")

    def __init__(
        self,
        stemmer: bool = True,
        split: Literal["lines", "sentences"] = "lines",
        words: Literal["ascii", "unicode"] = "ascii",
    ) -> None:
        self.stemmer, self.split, self.words = stemmer, split, words
        with _needed("rouge-score", "ROUGE"):
            from rouge_score.rouge_scorer import RougeScorer
        tokenizer = None if words == "ascii" else _UnicodeWords()
        self._scorer = RougeScorer(list(self.names), use_stemmer=stemmer, tokenizer=tokenizer)

    def signature(self, references: References = ()) -> str:
        """How the figures were made, to be printed beside them."""
        stem = "yes" if self.stemmer and self.words == "ascii" else "no"
        number = version("rouge-score")
        return f"stem:{stem}|words:{self.words}|split:{self.split}|version:rouge-score-{number}"

    def rows(self, predictions: Sequence[str], references: References) -> Floats:
        """[n, 5]: 1, and the four F-measures."""
        counts = np.ones((len(references), 1 + len(self.names)))
        for row, text, accepted in zip(counts, predictions, several(references), strict=True):
            if self.split == "sentences":
                text, *accepted = ("\n".join(sentences(whole)) for whole in (text, *accepted))
            scores = self._scorer.score_multi(accepted, text)
            row[1:] = [scores[name].fmeasure for name in self.names]
        return counts

    def score(self, sums: Floats) -> Scores:
        places = enumerate(self.names, 1)
        return {name: ratio(sums[..., place], sums[..., 0]) for place, name in places}


class _Sacrebleu(Measure):
    """A corpus score of sacrebleu: statistics of the sentences add up to those of the corpus."""

    name: str
    title: str
    _width: int
    _metric: Any

    def rows(self, predictions: Sequence[str], references: References) -> Floats:
        """sacrebleu's own statistics of each sentence."""
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, {len(references)} references")
        if not len(references):
            return np.zeros((0, self._width))
        stats = self._metric._extract_corpus_statistics(list(predictions), streams(references))
        return np.array(stats, dtype=np.float64)

    def score(self, sums: Floats) -> Scores:
        """0 to 100 by sacrebleu's own formula, which may exceed 100 by its rounding; not here."""
        flat = sums.reshape(-1, sums.shape[-1])
        stats = [self._metric._compute_score_from_stats(row).score for row in flat.tolist()]
        return {self.name: np.minimum(stats, 100.0).reshape(sums.shape[:-1])}

    def highest(self, name: str) -> float | None:
        return 100.0

    def signature(self, references: References) -> str:
        """sacrebleu's signature, without which a figure cannot be compared (Post 2018)."""
        self._metric._cache_references(streams(references))
        return str(self._metric.get_signature())


class Bleu(_Sacrebleu):
    """BLEU of the corpus, 0 to 100 (Papineni et al. 2002). Not a mean of the rows' BLEU.

    `words` cuts text into words: "13a" for most languages, "zh" Chinese, "char" without spaces.
    """

    name, title = "bleu", "BLEU"
    _width = 10

    def __init__(self, lowercase: bool = False, words: Words = "13a") -> None:
        with _needed("sacrebleu", "BLEU and chrF"):
            from sacrebleu.metrics import BLEU
        self._metric = BLEU(lowercase=lowercase, tokenize=words, force=True)


class Chrf(_Sacrebleu):
    """chrF2 of the corpus, 0 to 100 (Popović 2015); `word_order` 2 makes it chrF++."""

    name, title = "chrf", "chrF"

    def __init__(self, lowercase: bool = False, word_order: int = 0) -> None:
        with _needed("sacrebleu", "BLEU and chrF"):
            from sacrebleu.metrics import CHRF
        self._metric = CHRF(lowercase=lowercase, word_order=word_order)
        self._width = 3 * (6 + word_order)


class Lengths(Measure):
    """How long the answers are, how many are empty, and how much they repeat themselves.

    Words as in `words_of`; of several references the first counts. `length_ratio`:
    words predicted per word of reference. `repeated`: share of the bigrams that occurred before in
    the same answer. Statistics [n, 6]: 1, words, words of the reference, empty, bigrams, repeated.
    """

    lower_is_better = frozenset({"empty", "repeated"})

    def rows(self, predictions: Sequence[str], references: References) -> Floats:
        counts = np.ones((len(references), 6))
        for row, text, accepted in zip(counts, predictions, several(references), strict=True):
            words = words_of(text)
            run = 2 if len(words) == len(text.split()) else 4  # characters: about two words
            pairs = list(zip(*(words[first:] for first in range(run)), strict=False))
            reference = len(words_of(accepted[0]))
            row[1:] = (len(words), reference, not words, len(pairs), len(pairs) - len(set(pairs)))
        return counts

    def score(self, sums: Floats) -> Scores:
        rows, words, reference, empty, pairs, repeated = np.moveaxis(sums, -1, 0)
        return {
            "words": ratio(words, rows),
            "reference_words": ratio(reference, rows),
            "length_ratio": ratio(words, reference),
            "empty": ratio(empty, rows),
            "repeated": ratio(repeated, pairs),
        }

    def highest(self, name: str) -> float | None:
        return 1.0 if name in self.lower_is_better else None


class Joined(Measure):
    """The figures of several measures, whose names must differ.

    Statistics [n, S] are those of the measures side by side.
    """

    def __init__(self, *parts: Measure) -> None:
        self.parts = parts
        self.lower_is_better = frozenset[str]().union(*(part.lower_is_better for part in parts))
        tried = [part.rows(["a"], ["a"]) for part in parts]
        self._ends = np.cumsum([rows.shape[1] for rows in tried]).tolist()
        self._owner = {
            name: part
            for part, rows in zip(parts, tried, strict=True)
            for name in part.score(rows.sum(0))
        }

    def rows(self, predictions: Sequence[Any], references: Sequence[Any]) -> Floats:
        return np.hstack([part.rows(predictions, references) for part in self.parts])

    def score(self, sums: Floats) -> Scores:
        pieces = np.split(sums, self._ends[:-1], axis=-1)
        parts = zip(self.parts, pieces, strict=True)
        return {name: value for part, piece in parts for name, value in part.score(piece).items()}

    def signatures(self, references: References) -> dict[str, str]:
        """How the figures of the packages were made, to be printed beside them."""
        packages = [part for part in self.parts if isinstance(part, Rouge | _Sacrebleu)]
        return {part.title: part.signature(references) for part in packages}

    def highest(self, name: str) -> float | None:
        return self._owner[name].highest(name)


class Exact(Measure):
    """Share of the predictions that equal a reference, but for spaces at the ends or doubled.

    Statistics [n, 2]: 1, equal.
    """

    def rows(self, predictions: Sequence[str], references: References) -> Floats:
        counts = np.ones((len(references), 2))
        for row, text, accepted in zip(counts, predictions, several(references), strict=True):
            row[1] = float(any(text.split() == reference.split() for reference in accepted))
        return counts

    def score(self, sums: Floats) -> Scores:
        return {"exact_match": ratio(sums[..., 1], sums[..., 0])}


def sentences(text: str) -> list[str]:
    """The sentences of a text: its lines, cut after . ! or ? before a capital or a quote."""
    return [part for line in text.splitlines() for part in SENTENCE_END.split(line) if part]


def several(references: References) -> list[list[str]]:
    """The references of each row as a list of at least one."""
    return [[row] if isinstance(row, str) else (list(row) or [""]) for row in references]


def streams(references: References) -> list[list[str | None]]:
    """References as sacrebleu wants them: the first of every row, the second … (None: no more)."""
    rows = several(references)
    most = max(map(len, rows), default=1)
    return [[row[n] if n < len(row) else None for row in rows] for n in range(most)]


class _UnicodeWords:
    """Runs of letters, digits and marks of any script, in lower case; single characters of scripts
    without spaces; of a text without any of these what stands between its spaces."""

    def tokenize(self, text: str) -> list[str]:
        word = rf"[{UNSPACED}]\p{{M}}*|[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]+"
        return regex.findall(word, text.lower(), regex.V1) or text.split()


@contextmanager
def _needed(package: str, what: str) -> Iterator[None]:
    """Raise `WarmstartError` where an import inside finds nothing."""
    try:
        yield
    except ImportError as error:
        raise WarmstartError(
            f"{what} needs the package {package}, which is not installed: "
            "pip install 'warmstart[text]'"
        ) from error
