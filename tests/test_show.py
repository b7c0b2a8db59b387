"""What the command line prints of an answer of any task."""

from __future__ import annotations

from typing import Any

import pytest

from warmstart.show.answers import as_line, as_row, in_words
from warmstart.tasks._spans import SpanPrediction
from warmstart.types import Prediction

ENTITY = {"type": "ORG", "text": "Royal\nMail", "start": 0, "end": 10, "score": 0.9}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("refund", "refund"),
        ("two\nlines", "two lines"),
        ("", "(none)"),
        (["late", "rude"], "late, rude"),
        ([], "(none)"),
        ([ENTITY], "Royal Mail [ORG]"),
        ([{"tag": "NN", "text": "mail"}, {"tag": "VB", "text": "came"}], "mail [NN], came [VB]"),
        ({"topic": "delivery", "tone": ["rude"]}, "topic: delivery; tone: rude"),
        (3.25, "3.25"),
        ([0.5, -0.5, 0.25, 1.0], "[0.500, -0.500, 0.250, … 4 numbers]"),
        ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
    ],
)
def test_values_in_words(value: Any, words: str) -> None:
    assert in_words(value) == words


def test_only_what_has_a_confidence_shows_one() -> None:
    assert (
        as_line("where  is\nit?", Prediction("0", "late", 0.87654)) == "late\t0.877\twhere is it?"
    )
    assert as_line("a", Prediction("0", 3.25, 1.0)) == "3.25\ta"
    assert as_row(Prediction("0", 3.25, 1.0)) == {"id": "0", "label": 3.25}
    assert "confidence" not in as_row(Prediction("0", [0.5, -0.5], 1.0))
    assert as_row(Prediction("0", [], 0.9))["confidence"] == 0.9


def test_an_answer_out_of_a_passage_says_where_it_stands() -> None:
    found = as_row(SpanPrediction("0", "DHL", 0.8, {"DHL": 0.8}, 20, 23))
    assert (found["start"], found["end"]) == (20, 23)
    assert found["scores"] == {"DHL": 0.8}
