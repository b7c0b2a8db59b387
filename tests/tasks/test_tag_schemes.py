"""Schemes are written as they are read, and constrained decoding is the best allowed path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.tagging.decoding import best_paths
from warmstart.tasks.tagging.schemes import (
    are_entities,
    broken,
    labels_of,
    renewed,
    rules,
    strange,
    tags_of,
)

SCHEMES = ("iob2", "iob1", "bioes", "bilou")
KINDS = ("PER", "B-x")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(KINDS))))
@settings(max_examples=100, deadline=None)
def test_entities_come_back_from_the_tags_of_every_scheme(
    parts: list[tuple[int, int, str]],
) -> None:
    spans, at = [], 0
    for gap, size, kind in parts:
        spans.append((at + gap, at + gap + size, kind))
        at += gap + size
    for scheme in SCHEMES:
        tags = tags_of(spans, at, scheme)
        assert spans_of_tags(tags) == spans
        assert set(tags) <= set(labels_of(KINDS, scheme))
        assert broken([tags])[1] == {}


def test_how_each_scheme_writes() -> None:
    spans = [(0, 2, "A"), (2, 3, "A"), (4, 7, "B")]
    assert " ".join(tags_of(spans, 8, "iob2")) == "B-A I-A B-A O B-B I-B I-B O"
    assert " ".join(tags_of(spans, 8, "iob1")) == "I-A I-A B-A O I-B I-B I-B O"
    assert " ".join(tags_of(spans, 8, "bioes")) == "B-A E-A S-A O B-B I-B E-B O"
    assert " ".join(tags_of(spans, 8, "bilou")) == "B-A L-A U-A O B-B I-B L-B O"
    assert labels_of(["A"], "iob2") == ["O", "B-A", "I-A"]
    assert labels_of(["A"], "bilou") == ["O", "B-A", "I-A", "L-A", "U-A"]
    assert [renewed(tag) for tag in ("O", "B-A", "I-A", "S-A")] == ["O", "I-A", "I-A", "S-A"]


def test_what_is_a_scheme() -> None:
    assert are_entities({"O", "B-PER", "I-PER"}) and are_entities({"U-x"})
    assert are_entities({"O", "B", "I"})
    assert not are_entities({"O"}) and not are_entities({"NOUN", "VERB"})
    assert not are_entities({"B", "S"})
    assert strange({"O", "B-PER", "PER", "X-A"}) == ["PER", "X-A"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_allowed_is_what_the_scheme_would_write(scheme: str) -> None:
    """A sequence obeys the rules if and only if writing its entities gives it back."""
    labels = labels_of(("A", "B"), scheme)
    begin, between, end = rules(labels, scheme)
    for path in itertools.product(range(len(labels)), repeat=3):
        allowed = begin[path[0]] and end[path[-1]]
        allowed = allowed and all(between[a, b] for a, b in itertools.pairwise(path))
        tags = [labels[i] for i in path]
        assert allowed == (tags_of(spans_of_tags(tags), 3, scheme) == tags), tags


def test_the_best_allowed_path() -> None:
    labels = labels_of(("A",), "bioes")
    begin, between, end = rules(labels, "bioes")
    rng = np.random.default_rng(0)
    lengths = [3, 0, 1, 4, 2, 3]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = rng.normal(size=(sum(lengths), len(labels)))
    found = best_paths(scores, offsets, (begin, between, end))
    for first, last in itertools.pairwise(offsets.tolist()):
        ways = [
            path
            for path in itertools.product(range(len(labels)), repeat=last - first)
            if not path
            or (begin[path[0]] and end[path[-1]]
                and all(between[a, b] for a, b in itertools.pairwise(path)))
        ]  # fmt: skip
        best = max(ways, key=lambda path: sum(scores[first + i, k] for i, k in enumerate(path)))
        assert tuple(found[first:last].tolist()) == best


@pytest.mark.parametrize(
    ("rows", "scheme", "said"),
    [
        (["O I-A I-A", "I-B B-B"], "iob1", {}),
        (["B-A I-A", "O I-A", "B-A B-A"], "iob2", {1: ["I-A after O"]}),
        (["B-A I-A I-B"], "iob2", {0: ["I-B after I-A"]}),
        (["B I", "O I", "B O"], "iob2", {1: ["I after O"]}),
        (["S-A B-A O", "E-A O B-A"], "bioes",
         {0: ["O after B-A"], 1: ["E-A at the beginning", "B-A at the end"]}),
        (["B-A M-A E-A"], "bioes", {}),
    ],
)  # fmt: skip
def test_what_does_not_follow_its_scheme(
    rows: list[str], scheme: str, said: dict[int, list[str]]
) -> None:
    assert broken([row.split() for row in rows]) == (scheme, said)
