"""Entities are counted as conlleval.pl and seqeval count them, ill-formed tags included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from seqeval.scheme import BILOU, IOBES

from conlleval import conlleval
from warmstart.errors import RowError
from warmstart.metrics.entities import Entities, spans_of_tags, types_of

KINDS = ["PER", "LOC", "a-b"]


def tags_of(marks: str) -> list[str]:
    return ["O", *(f"{mark}-{kind}" for mark in marks for kind in KINDS)]


def sentences(tags: list[str]) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
    pair = st.tuples(st.sampled_from(tags), st.sampled_from(tags))
    return st.lists(st.lists(pair, min_size=1, max_size=12), min_size=1, max_size=4)


def columns(rows: list[list[tuple[str, str]]]) -> tuple[list[list[str]], list[list[str]]]:
    return [[a for a, _ in row] for row in rows], [[b for _, b in row] for row in rows]


def counted(predicted: list[list[str]], gold: list[list[str]]) -> dict[str, tuple[int, ...]]:
    a, b = [spans_of_tags(row) for row in predicted], [spans_of_tags(row) for row in gold]
    kinds = types_of(a, b)
    sums = Entities(kinds).rows(a, b).sum(0).reshape(3, -1).astype(int)
    found = {kind: tuple(sums[:, place].tolist()) for place, kind in enumerate(kinds)}
    return found | {"": tuple(sums.sum(1).tolist())}


@given(sentences(tags_of("BI")))
@settings(max_examples=150, deadline=None)
def test_counts_of_ill_formed_bio_equal_conlleval(rows: list[list[tuple[str, str]]]) -> None:
    predicted, gold = columns(rows)
    assert counted(predicted, gold) == conlleval(predicted, gold)


@given(sentences(tags_of("BIES")))
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_scores_of_ill_formed_iobes_equal_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    predicted, gold = columns(rows)
    a, b = [spans_of_tags(row) for row in predicted], [spans_of_tags(row) for row in gold]
    kinds = types_of(a, b)
    ours = Entities(kinds)(a, b)
    assert ours["f1_micro"] == pytest.approx(seqeval.f1_score(gold, predicted))
    assert ours["precision_micro"] == pytest.approx(seqeval.precision_score(gold, predicted))
    assert ours["recall_micro"] == pytest.approx(seqeval.recall_score(gold, predicted))
    if kinds:
        table = seqeval.classification_report(gold, predicted, output_dict=True)
        true = [table[kind]["f1-score"] for kind in types_of(b)]
        assert ours["f1_macro"] == pytest.approx(np.mean(true) if true else 0.0)
        for kind in kinds:
            assert ours[f"f1:{kind}"] == pytest.approx(table[kind]["f1-score"])


def encoded(spans: list[tuple[int, int, str]], length: int, marks: str) -> list[str]:
    """Tags with these marks for begin, inside, end, single."""
    begin, inside, end, single = marks
    tags = ["O"] * length
    for first, last, kind in spans:
        tags[first:last] = [f"{inside}-{kind}"] * (last - first)
        tags[first] = f"{begin}-{kind}"
        tags[last - 1] = f"{end if last - first > 1 else single}-{kind}"
    return tags


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(KINDS)), max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_every_scheme_of_the_same_spans_reads_the_same(parts: list[tuple[int, int, str]]) -> None:
    spans, place = [], 0
    for gap, size, kind in parts:
        spans.append((place + gap, place + gap + size, kind))
        place += gap + size
    for marks in ("BIIB", "BIES", "BILU", "BMES"):
        assert spans_of_tags(encoded(spans, place + 1, marks)) == spans


@pytest.mark.filterwarnings("ignore")
def test_well_formed_bilou_and_iobes_equal_strict_seqeval() -> None:
    gold = [[(0, 1, "PER"), (1, 4, "PER")], [(0, 2, "LOC")], []]
    guess = [[(0, 1, "PER"), (1, 3, "PER")], [(0, 2, "LOC")], [(2, 3, "PER")]]
    ours = Entities(("LOC", "PER"))(guess, gold)
    for marks, scheme in (("BILU", BILOU), ("BIES", IOBES)):
        a, b = ([encoded(row, 5, marks) for row in rows] for rows in (guess, gold))
        theirs = seqeval.f1_score(b, a, mode="strict", scheme=scheme)
        assert ours["f1_micro"] == pytest.approx(theirs)
    assert ours["f1_micro"] == pytest.approx(2 * 2 / (4 + 3))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("I-PER I-PER O", [(0, 2, "PER")]),  # I without B
        ("I-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),  # IOB1: B parts neighbours
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),  # the type changes
        ("B-PER O I-PER", [(0, 1, "PER"), (2, 3, "PER")]),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("E-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("U-PER U-PER L-PER", [(0, 1, "PER"), (1, 2, "PER"), (2, 3, "PER")]),
        ("B I O", [(0, 2, "")]),
        ("O O", []),
    ],
)
def test_ill_formed_tags(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of_tags(tags.split()) == spans


def test_an_unknown_tag_is_refused_by_name() -> None:
    with pytest.raises(RowError, match=r"tag 'PER' is of no known kind"):
        spans_of_tags(["PER"])
    with pytest.raises(ValueError, match="type 'LOC' is not among"):
        Entities(("PER",)).rows([[(0, 1, "LOC")]], [[]])


def test_character_spans_in_any_order_and_twice() -> None:
    gold = [[(0, 5, "PER"), (9, 14, "LOC")]]
    guess = [[(9, 14, "LOC"), (9, 14, "LOC"), (0, 4, "PER")]]
    measure = Entities(("LOC", "PER"))
    rows = measure.rows(guess, gold)
    assert rows.tolist() == [[1, 0, 1, 1, 1, 1]]
    scores = measure.total(rows)
    assert scores["f1_micro"] == 0.5
    assert (scores["f1:LOC"], scores["f1:PER"], scores["f1_macro"]) == (1.0, 0.0, 0.5)


def test_types_that_do_not_occur_are_left_out_of_the_macro_mean() -> None:
    measure = Entities(("LOC", "ORG", "PER"))
    scores = measure([[(0, 1, "PER")]], [[(0, 1, "PER")]])
    assert scores["f1_macro"] == 1.0
    rows = measure.rows([[(0, 1, "PER")], []], [[], [(0, 1, "LOC")]])
    assert measure.bearing(rows)["f1:PER"] == 1
    assert measure.bearing(rows)["recall:LOC"] == 1
    assert measure.bearing(rows)["precision:LOC"] == 0


def test_real_tags_with_noise_equal_conlleval_and_seqeval(shared_data: Path) -> None:
    lines = (shared_data / "wnut17" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    gold = [json.loads(line)["ner_tags"] for line in lines]
    rng = np.random.default_rng(0)
    every = sorted({tag for row in gold for tag in row})
    noisy = [[t if rng.random() < 0.9 else str(rng.choice(every)) for t in row] for row in gold]
    found = counted(noisy, gold)
    assert found == conlleval(noisy, gold)
    right, predicted, actual = found[""]
    assert 2 * right / (predicted + actual) == pytest.approx(seqeval.f1_score(gold, noisy))
