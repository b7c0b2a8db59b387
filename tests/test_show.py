"""What the command line prints of an answer of any task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from warmstart.cli.output.answers import as_line, as_row, in_words
from warmstart.cli.output.run import scores
from warmstart.cli.output.tables import heading, plain, put
from warmstart.tasks.extractive_qa.decoding import SpanPrediction
from warmstart.types import Metrics, Prediction

ROOT = Path(__file__).resolve().parents[1]
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


def metrics_of(*titles: str) -> Metrics:
    """The figures of a run beside baselines of these titles."""
    figure = {"value": 0.616, "low": 0.526, "high": 0.688}
    names = {
        "f1_macro": "macro-F1",
        "accuracy": "accuracy",
        "f1_weighted": "weighted F1",
        "matthews_correlation": "Matthews correlation",
    }
    figures = dict.fromkeys(names, figure)
    table = {
        "rows": 119,
        "main": "f1_macro",
        "confidence_level": 0.95,
        "bootstrap": 1_000,
        "titles": names,
        "baselines": [{"name": title, "title": title, **figures} for title in titles],
        "comparison": None,
        "verdict": "It is good.",
        **figures,
    }
    return Metrics.from_json(table)


def test_the_scores_stand_in_a_plain_table_of_80_columns(capsys: Any) -> None:
    scores(metrics_of("always the commonest class", "TF-IDF + logistic regression"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "119 test rows"
    assert lines[1].split("  ")[-3:] == [" 95 % interval", "commonest class", "TF-IDF"]
    assert lines[2].split() == ["macro-F1", *"0.616 0.526 to 0.688 0.616 0.616".split()]
    assert len(lines) == 8  # a title, a head, four figures, a gap, the verdict
    assert all(len(line) <= 80 and line == line.rstrip() and line.isascii() for line in lines)
    for page in ("README.md", "docs/guide/first-model.md"):
        assert lines[1] in (ROOT / page).read_text(encoding="utf-8").splitlines(), page


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("always the mean", "mean"),
        ("the 3 most frequent labels", "3 most frequent labels"),
        ("the base, untuned", "base, untuned"),
        ("TF-IDF + log. regression of each label", "TF-IDF"),
        ("TF-IDF cosine of the two texts", "TF-IDF cosine of the two texts"),
    ],
)
def test_a_baseline_has_a_short_name_at_the_head_of_its_column(title: str, short: str) -> None:
    assert heading(title) == short


def test_a_row_is_one_line_where_no_terminal_sets_a_limit(capsys: Any) -> None:
    table = plain()
    table.add_column("folder", overflow="fold")
    table.add_row("a" * 200)
    put(table)
    assert capsys.readouterr().out == f"folder\n{'a' * 200}\n"
