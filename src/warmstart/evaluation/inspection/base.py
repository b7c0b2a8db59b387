"""What the checks of an inspection share: the data that they look at, and the result they give."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.clusters import Duplicates, find_duplicates
from warmstart.data.profiling.columns import Source
from warmstart.data.profiling.language import Languages, find_languages, name_of
from warmstart.data.tables import is_blank
from warmstart.data.tokens.lost import unknown_token
from warmstart.errors import typed
from warmstart.formatting import counted
from warmstart.training.frozen_features import features

if TYPE_CHECKING:
    from warmstart.data.settings import Data
    from warmstart.models.base import Base

Progress = Callable[[str, int, int], None]
SEVERE, WORTH, NOTE = SEVERITIES = ("severe", "worth fixing", "note")
MIN_ROWS, MIN_ROWS_OF_CLASS = 40, 5  # from which a model can judge labels
LANGUAGE_ROWS, FERTILITY_ROWS = 200_000, 1_000  # whose language, and whose tokens, are looked at
FERTILITY, MANY_UNKNOWN = 1.7, 0.1
"""Tokens a word, and share of unknown tokens, from which a base does not know a language. With an
English base: English 1.0 to 1.2 (banking77, tweets, abstracts), German 1.9 to 2.0, Swahili 2.2,
Arabic 3.9; Chinese 63 % unknown (SIB-200, Multi30k)."""
UNSPACED = ("zh", "ja", "th", "lo", "km", "my")
WORD = re.compile(r"\w+|[^\w\s]")


class Finding(NamedTuple):
    """`message` is a sentence, `remedy` what to do or type, `rows` how many rows are concerned."""

    kind: str
    severity: str
    message: str
    rows: int
    remedy: str


@dataclass(slots=True)
class CheckResult:
    """What a check gives: `facts` for machines (JSON-able, merged into the summary), findings,
    tables for all, `lines` of figures for the terminal, and files (name → what writes it)."""

    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    findings: list[Finding] = field(default_factory=list[Finding])
    tables: dict[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    lines: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, Callable[[Path], None]] = field(
        default_factory=dict[str, Callable[[Path], None]]
    )

    def add(self, kind: str, severity: str, rows: int, message: str, remedy: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, severity, message, rows, remedy))


class LabelledFeatures(NamedTuple):
    """The rows whose labels a model can judge, on frozen features."""

    rows: np.ndarray  # int64 [n], ascending
    groups: np.ndarray  # int64 [n], equal for copies, which never judge each other
    features: np.ndarray  # float32 [n, H]
    targets: np.ndarray  # int64 [n]
    names: list[str]  # of the class numbers


@dataclass(eq=False)
class Context:
    """The data of an inspection and its settings; work that several checks need is done once."""

    source: Source
    settings: Data
    base: Base
    tokenizer: Any
    asked_length: int  # tokens, which the base may not be able to read
    seed: int
    data: str  # as it was named
    out: Path
    clean_name: str  # suggested for a clean copy
    kind: str = "classification"  # the task, or what the rows are that none learns from
    own: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    """Split → the rows in the task's own form, where they are more than a text and its label."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Reason → rows that the task cannot use."""
    copies: bool = True  # whether a clean copy of such rows can be written
    use_features: bool = True  # whether the base judges the labels
    max_rows: int = 20_000  # judged at most
    template: str | None = None  # the chat template that was named
    progress: Progress | None = None

    @property
    def base_limit(self) -> int:
        """Tokens that the base reads at once."""
        return min(self.tokenizer.model_max_length, 1 << 20)

    @property
    def max_length(self) -> int:
        """Tokens from which a text is cut."""
        return min(self.asked_length, self.base_limit)

    def report(self, stage: str) -> None:
        """Report that a stage begins."""
        if self.progress is not None:
            self.progress(stage, 0, len(self.source.table))

    @cached_property
    def duplicates(self) -> Duplicates:
        """Copies among the rows that have a text (and a label); groups of all rows, else -1."""
        label = "label" if self.source.has_labels else None
        filled = {
            split: ~is_blank(table["text"]) & (True if label is None else ~is_blank(table[label]))
            for split, table in self.source.parts.items()
        }
        parts = {
            split: table.filter(pa.array(filled[split]))
            for split, table in self.source.parts.items()
        }
        similarity = self.settings.similarity
        duplicates = find_duplicates(parts, ["text"], label, similarity, progress=self.progress)
        groups: dict[str, np.ndarray] = {}
        for split, rows in filled.items():
            groups[split] = np.full(len(rows), -1, np.int64)
            groups[split][rows] = duplicates.groups[split]
        return replace(duplicates, groups=groups)

    @cached_property
    def languages(self) -> tuple[Languages, np.ndarray]:
        """The languages of at most LANGUAGE_ROWS rows, and the numbers of these."""
        texts, index = self.source.texts, np.arange(len(self.source.table))
        if len(index) > LANGUAGE_ROWS:
            rng = np.random.default_rng([self.seed, 0x1A46])
            index = np.sort(rng.choice(index, LANGUAGE_ROWS, replace=False))
            texts = texts.take(pa.array(index))
        return find_languages(texts.to_pylist(), self.progress), index

    @cached_property
    def strange_to_base(self) -> str:
        """Why the base cannot judge these texts: its tokenizer does not know their language, for
        it takes the words to pieces or knows no token for them; else nothing."""
        texts = self.source.texts.slice(0, FERTILITY_ROWS).to_pylist()
        rows = self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        tokens = sum(map(len, rows))
        unknown_id = unknown_token(self.tokenizer)
        unknown = sum(token == unknown_id for row in rows for token in row)
        if unknown > MANY_UNKNOWN * max(tokens, 1):
            return f"the base's tokenizer does not know {unknown / tokens:.0%} of the tokens"
        majority = self.languages[0].majority
        if majority in ("", "en", *UNSPACED):
            return ""
        words = sum(len(WORD.findall(text)) for text in texts)
        if tokens <= FERTILITY * max(words, 1):
            return ""
        return (
            f"the texts are {name_of(majority)}, whose words the base's tokenizer takes to pieces "
            f"({tokens / words:.1f} tokens a word)"
        )

    @cached_property
    def features(self) -> LabelledFeatures | str:
        """Of at most `max_rows` rows with a label that MIN_ROWS_OF_CLASS rows have; or the reason
        why there are none."""
        if not self.source.has_labels:
            return "there is no label column"
        if not self.use_features:
            return "not asked for"
        if self.strange_to_base:
            return f"{self.strange_to_base}, so that it cannot tell which labels are wrong"
        labels = np.array(self.source.labels, dtype=object)
        names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        groups = np.concatenate([self.duplicates.groups[split] for split in self.source.parts])
        frequent = (counts >= MIN_ROWS_OF_CLASS) & (names != "")
        rows = np.flatnonzero(frequent[codes] & (groups >= 0))
        if len(rows) < MIN_ROWS or len(np.unique(codes[rows])) < 2:
            return (
                f"fewer than {MIN_ROWS} rows, or fewer than two classes of {MIN_ROWS_OF_CLASS} rows"
            )
        if len(rows) > self.max_rows:
            rng = np.random.default_rng([self.seed, 0x5A3F])
            rows = np.sort(rng.choice(rows, self.max_rows, replace=False))
        names, targets = np.unique(labels[rows].astype(str), return_inverse=True)
        texts = self.source.table["text"].take(pa.array(rows))
        length = min(self.max_length, 128)
        vectors = features(self.base, texts, length, progress=self.progress)
        return LabelledFeatures(rows, groups[rows], vectors, targets, [str(n) for n in names])

    @property
    def fix_flag(self) -> str:
        """`--fix NAME`, with a name to suggest; where no copy can be written, that it is to be done
        by hand."""
        if not self.copies:
            return "by hand"
        return f"--fix {typed(self.clean_name)}"


def n_rows(n: int, singular: str = "has", plural: str = "have") -> str:
    """A number of rows with its verb: 1 row has, 3 rows have."""
    return counted(n, f"row {singular}", f"rows {plural}")
