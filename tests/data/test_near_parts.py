"""The pieces below `find_duplicates`: numbers for words, candidates, similarity, groups."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.dedup.clusters import joined, straddling_groups
from warmstart.data.dedup.minhash import (
    PAIR,
    WEIGHT,
    candidates,
    codes_of,
    cut_short,
    resemblance,
    sampled,
    sketches_of,
)
from warmstart.errors import DataError


def texts_of(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def words_of(text: str) -> list[str]:
    return text.replace("\x1f", " ").split(" ")


TEXT = st.text("ab1é \x1f", max_size=25)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, max_size=8))
def test_codes_of_texts_are_those_of_their_words(texts: list[str]) -> None:
    codes = codes_of(texts_of(*texts))
    assert len(codes) == len(texts)
    known: dict[str, int] = {}
    for i, text in enumerate(texts):
        mine = codes.flat[codes.starts[i] : codes.starts[i + 1]]
        words = [word for word in words_of(text) if word]
        assert len(mine) == max(2 * len(words) - 1, 0)
        assert ((mine[1::2] & PAIR) != 0).all() and ((mine[::2] & PAIR) == 0).all()
        for word, code in zip(words, mine[::2].tolist(), strict=True):
            assert known.setdefault(word, code) == code
            assert code & int(WEIGHT) == len(word.encode()) + 1
    assert len(set(known.values())) == len(known)


def plain_resemblance(one: str, other: str) -> tuple[float, float]:
    """The same figures, computed with sets."""
    a, b = one.split(), other.split()
    sides = [{w for w in a if w not in b}, {w for w in b if w not in a}]
    shared = sum(len(w) + 1 for w in set(a) & set(b))
    unshared = sum(len(w) + 1 for side in sides for w in side)
    lacking = [
        sum(max(7 - len(w), 0) for w in side if len(w) == 1 or any(c.isdigit() for c in w))
        for side in sides
    ]
    pairs = {*itertools.pairwise(a)}, {*itertools.pairwise(b)}
    share = shared / max(shared + unshared + 2 * min(lacking), 1)
    return share, len(pairs[0] & pairs[1]) / max(len(pairs[0] | pairs[1]), 1)


SENTENCE = st.lists(st.sampled_from("a bb ccc dd5 7 eight fff".split()), min_size=1, max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCE.map(" ".join), min_size=2, max_size=6))
def test_resemblance_is_that_of_sets(texts: list[str]) -> None:
    left, right = np.triu_indices(len(texts), 1)
    found = resemblance(texts_of(*texts), left, right)
    for i, j, share in zip(left, right, found, strict=True):
        assert share.tolist() == pytest.approx(plain_resemblance(texts[i], texts[j]), abs=1e-6)


def test_similar_texts_are_candidates_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(5_000)]
    fresh = [" ".join(rng.choice(words, 14)) for _ in range(3_000)]
    copies = [" ".join(text.split()[:5] + text.split()[6:]) for text in fresh[:300]]
    texts = texts_of(*fresh, *copies)
    pairs = candidates(sketches_of(texts))
    found = {(int(p) >> 32, int(p) & 0xFFFFFFFF) for p in pairs}
    planted = {(i, 3_000 + i) for i in range(300)}
    assert len(planted & found) >= 297 and len(found - planted) < 30
    assert (candidates(sketches_of(texts)) == pairs).all()


def test_long_texts_keep_few_codes_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    words = rng.choice([f"word{i}" for i in range(5_000)], 4_000)
    codes = sampled(codes_of(texts_of(" ".join(words), " ".join(words[100:]))))
    sizes = np.diff(codes.starts)
    assert (sizes < 700).all() and (sizes > 350).all()
    one, other = codes.flat[: sizes[0]], codes.flat[sizes[0] :]
    assert len(np.intersect1d(one, other)) / len(np.union1d(one, other)) > 0.85


@pytest.mark.parametrize("reverse", [False, True])
def test_cut_texts_are_found_by_sorting(reverse: bool) -> None:
    words = [f"word{i}" for i in range(20)]
    rows = [words, words[:15], words[:11], [*words[:9], *"abcdefgh"], [*words, *words, *words]]
    texts = sorted(" ".join(row[::-1] if reverse else row) for row in rows)
    pairs = cut_short(texts_of(*texts), sketches_of(texts_of(*texts)).ends)
    found = [{len(texts[int(p) >> 32].split()), len(texts[int(p) & 0xFFFFFFFF].split())}
             for p in pairs]  # fmt: skip
    assert found == [{20, 15}]


def test_joined_gives_the_smallest_of_each_group() -> None:
    groups = joined(7, np.array([5, 2, 3]), np.array([2, 6, 1]))
    assert groups.tolist() == [0, 1, 2, 1, 4, 2, 2]
    assert joined(3, np.zeros(0, int), np.zeros(0, int)).tolist() == [0, 1, 2]


def test_straddling_groups_are_counted() -> None:
    parts = {
        "train": pa.table({"author": ["ann", "ann", "bob", None, "zoe"]}),
        "test": pa.table({"author": ["ann", "cid", "", "zoe"]}),
    }
    assert straddling_groups(parts, "author").to_pylist() == [
        {"value": "ann", "train": 2, "test": 1},
        {"value": "zoe", "train": 1, "test": 1},
    ]
    assert len(straddling_groups({"train": parts["train"]}, "author")) == 0
    with pytest.raises(DataError, match=r"no column 'autor'.*Did you mean 'author'.*data\.group"):
        straddling_groups(parts, "autor")
