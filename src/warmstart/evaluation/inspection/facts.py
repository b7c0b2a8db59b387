"""What an inspection finds out without a model: columns, classes, texts, languages, short cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.data.labels import seen
from warmstart.data.profiling import columns as profile
from warmstart.data.profiling import language as profile_language
from warmstart.data.profiling import pii as profile_personal
from warmstart.data.profiling import shortcuts as profile_giveaway
from warmstart.data.profiling import text as text_facts
from warmstart.data.tables import pc

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.data.dedup.pairs import Duplicates
    from warmstart.data.profiling.columns import Source
    from warmstart.data.settings import Data

Progress = Callable[[str, int, int], None]
LANGUAGE_ROWS = 200_000
LISTED = 200  # rows of a kind that are kept with their text
BRIEF = 200  # characters of a text in a listing


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """All rows of all splits, one after the other, in the order of the splits."""

    table: pa.Table  # split, _file, _line, text, and label where there is one
    label: str | None

    @property
    def texts(self) -> pa.ChunkedArray:
        """The texts, "" where there is none."""
        return text_facts.as_array(self.table["text"])

    @property
    def labels(self) -> list[str]:
        """The labels without outer spaces, "" where there is none."""
        if self.label is None:
            return [""] * len(self.table)
        return [(value or "").strip() for value in self.table[self.label].to_pylist()]

    def listing(self, rows: Sequence[int] | np.ndarray, **more: Sequence[Any]) -> pa.Table:
        """split, file, line, label, text (personal data hidden, cut to BRIEF) of some rows."""
        some = self.table.take(pa.array(np.asarray(rows, np.int64)))
        texts = [profile_personal.masked(text or "") for text in some["text"].to_pylist()]
        found: dict[str, Any] = {
            "split": some["split"],
            "file": pc.cast(some["_file"], pa.string()),
            "line": some["_line"],
            "label": some[self.label] if self.label else pa.nulls(len(some), pa.string()),
            "text": [t if len(t) <= BRIEF else t[: BRIEF - 1] + "…" for t in texts],
        }
        return pa.table(found | {name: list(values) for name, values in more.items()})


def all_rows(parts: Mapping[str, pa.Table]) -> Rows:
    """The splits as one table with a column `split`."""
    label = "label" if all("label" in t.column_names for t in parts.values()) else None
    names = ["_file", "_line", "text", *(["label"] if label else [])]
    tables = [
        table.select(names)
        .set_column(0, "_file", pc.cast(table["_file"], pa.string()))
        .append_column("split", pa.array([split] * len(table), pa.string()))
        for split, table in parts.items()
    ]
    return Rows(pa.concat_tables(tables), label)


def basics(source: Source, settings: Data) -> dict[str, Any]:
    """Files, splits, columns and their roles."""
    columns = profile.column_facts(source)
    return {
        "rows": sum(len(table) for table in source.parts.values()),
        "splits": {name: len(table) for name, table in source.parts.items()},
        "files": profile.file_facts(source, settings),
        "columns": columns,
        "roles": dict(source.roles),
        "group_columns": [c["column"] for c in columns if profile.looks_like_group(c)],
    }


def classes(source: Source, labels: Sequence[str]) -> dict[str, Any] | None:
    """Rows of each class and how unequal they are; None without a label column."""
    if "label" not in source.roles:
        return None
    counts = profile.class_counts(source.parts, "label")
    train = {name: own.get("train", 0) for name, own in counts.items()}
    sizes = sorted((n for n in train.values() if n), reverse=True) or [0]
    spellings: dict[str, list[str]] = {}
    for name in counts:
        spellings.setdefault(seen(name), []).append(name)
    return {
        "counts": counts,
        "classes": len(counts),
        "largest_share": sizes[0] / max(sum(sizes), 1),
        "ratio": sizes[0] / max(sizes[-1], 1),
        "spellings": [group for group in spellings.values() if len(group) > 1],
        "single": [name for name, n in train.items() if n == 1],
        "unknown_in_train": [name for name, n in train.items() if not n],
        "unlabelled": sum(not label for label in labels),
    }


def lengths(
    rows: Rows, backend: Tokenizer, asked: int, most: int | None, progress: Progress | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Lengths in characters, words and tokens, what a limit would cut; and the token lengths."""
    from warmstart.data.tokens.dataset import tokenise

    if progress is not None:
        progress("tokens", 0, len(rows.table))
    texts = rows.texts
    tokens = tokenise(texts, backend, 1 << 30).lengths
    found = {
        "characters": text_facts.distribution(text_facts.characters(texts)),
        "words": text_facts.distribution(text_facts.words(texts)),
        "tokens": text_facts.distribution(tokens),
        "cuts": text_facts.cuts(tokens, asked, most),
        "asked": asked,
        "base_limit": most,
    }
    return found | {"enough": text_facts.enough(found["cuts"])}, tokens


def oddities(rows: Rows) -> tuple[dict[str, Any], pa.Table]:
    """How many texts are empty, next to empty or hold characters that went wrong; and which."""
    texts = rows.texts
    found = {"empty": np.flatnonzero(profile.blank(texts))}
    found |= {"near_empty": text_facts.near_empty(texts), **text_facts.odd_rows(texts)}
    tables = [rows.listing(which[:LISTED], kind=[kind] * len(which[:LISTED]))
              for kind, which in found.items() if len(which)]  # fmt: skip
    listing = pa.concat_tables(tables) if tables else rows.listing([], kind=[])
    return {kind: len(which) for kind, which in found.items()}, listing


def languages(rows: Rows, seed: int, progress: Progress | None) -> tuple[dict[str, Any], pa.Table]:
    """The languages, of at most LANGUAGE_ROWS rows; and the rows in another than most."""
    texts, index = rows.texts, np.arange(len(rows.table))
    if len(index) > LANGUAGE_ROWS:
        rng = np.random.default_rng([seed, 0x1A46])
        index = np.sort(rng.choice(index, LANGUAGE_ROWS, replace=False))
        texts = texts.take(pa.array(index))
    found = profile_language.find_languages(texts.to_pylist(), progress)
    facts = {
        "majority": profile_language.name_of(found.majority),
        "shares": {profile_language.name_of(c): round(s, 5) for c, s in found.shares.items()},
        "other_rows": len(found.rows),
        "unsure": found.unsure,
        "checked": len(index),
    }
    some = sorted(found.rows, key=lambda row: -row[2])[: 10 * LISTED]
    listing = rows.listing(
        index[[row for row, _, _ in some]],
        language=[profile_language.name_of(code) for _, code, _ in some],
        confidence=[confidence for _, _, confidence in some],
    )
    return facts, listing


def personal(rows: Rows, progress: Progress | None) -> tuple[dict[str, Any], pa.Table]:
    """How many rows hold personal data, by kind; and where, with the data themselves hidden."""
    kinds: dict[str, int] = {}
    which: list[int] = []
    said: list[tuple[str, str]] = []
    hit_rows = 0
    if progress is not None:
        progress("personal data", 0, len(rows.table))
    texts = (text for chunk in rows.texts.chunks for text in chunk.to_pylist())
    for row, text, hits in profile_personal.rows_with_personal(texts):
        hit_rows += 1
        for kind in {hit.kind for hit in hits}:
            kinds[kind] = kinds.get(kind, 0) + 1
        for hit in hits:
            which.append(row)
            said.append((hit.kind, profile_personal.excerpt(text, hit)))
    table = rows.listing(which, kind=[k for k, _ in said], excerpt=[e for _, e in said])
    ordered = dict(sorted(kinds.items(), key=lambda item: -item[1]))
    return {"rows": hit_rows, "kinds": ordered}, table.drop_columns(["text"])


def giveaways(source: Source, rows: Rows, seed: int) -> dict[str, Any]:
    """Columns and words that predict the label by themselves."""
    labels = rows.labels
    used = {*source.roles.values(), "_file", "_line"}
    table = pa.concat_tables(source.whole.values(), promote_options="permissive")
    names, codes = np.unique(labels, return_inverse=True)
    codes = codes.astype(np.int64)
    codes[np.isin(codes, np.flatnonzero(names == ""))] = -1
    columns = [name for name in table.column_names if name not in used]
    texts = rows.texts.to_pylist()
    known = [(text, label) for text, label in zip(texts, labels, strict=True) if label]
    train = codes[: len(source.parts["train"])]
    return {
        "columns": profile_giveaway.column_rules(table, codes, columns, seed),
        "words": profile_giveaway.word_rules([t for t, _ in known], [x for _, x in known])[:20],
        "sorted_by_label": profile_giveaway.sorted_by_label(train),
    }


def duplicate_facts(copies: Duplicates, groups: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How many rows repeat another of their split, stand in two splits, or contradict a twin."""
    pairs = copies.pairs
    repeats: dict[str, int] = {}
    leaked: dict[str, int] = {}
    for split, own in groups.items():
        compared = own[own >= 0]
        repeats[split] = len(compared) - len(np.unique(compared))
        if split != "train":
            leaked[split] = int(np.isin(compared, groups["train"]).sum())
    conflicts = int(pc.sum(pc.cast(pairs["conflict"], pa.int64())).as_py() or 0)
    kinds = pc.value_counts(pairs["kind"]).to_pylist()
    return {
        **copies.summary,
        "pairs": len(pairs),
        "by_kind": {one["values"]: one["counts"] for one in kinds},
        "repeats": repeats,
        "leaked": leaked,
        "conflicts": conflicts,
    }


def hidden(pairs: pa.Table) -> pa.Table:
    """The pairs with personal data in their texts hidden; the most alike first."""
    for name in ("left_text", "right_text"):
        texts = [profile_personal.masked(text or "") for text in pairs[name].to_pylist()]
        at = pairs.column_names.index(name)
        pairs = pairs.set_column(at, name, pa.array(texts, pa.string()))
    return pairs
