"""A report explains the figures that it shows, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reports import render
from warmstart import part as parts
from warmstart.metrics.classification import TITLES
from warmstart.reporting.view import TERMS, terms
from warmstart.tasks.embedding import evaluation as embedding
from warmstart.tasks.tagging.task import ENTITY_TITLES, WORD_TITLES

SAID_ALREADY = {"precision", "recall", "right, unanswerable"}
TASKS = ("multilabel", "regression", "extractive_qa", "summarization", "translation", "text2text")


def titles_of(name: str) -> Mapping[str, str]:
    task: Any = parts.find("task", name)
    return task.model_validate({}).metric_titles


EVERY = [TITLES, ENTITY_TITLES, WORD_TITLES, *embedding.TITLES.values(), *map(titles_of, TASKS)]


@pytest.mark.parametrize("titles", EVERY)
def test_every_figure_is_explained(titles: Mapping[str, str]) -> None:
    for key, title in titles.items():
        assert title in SAID_ALREADY or len(terms({key: title})) == 1, title


def test_every_term_is_of_some_figure() -> None:
    shown = [term.title for titles in EVERY for term in terms(titles)]
    assert {term.title for term in TERMS} == set(shown)


def test_a_report_has_the_terms_of_its_figures(facts: dict[str, Any]) -> None:
    page = render(facts)
    assert "Matthews correlation (MCC)" in page and 'id="temperature"' in page
    assert "Spearman" not in page and "ROUGE" not in page and "<dt>TF-IDF</dt>" in page
    figure = {"value": 0.4, "low": 0.3, "high": 0.5}
    metrics = {
        "main": "spearman", "titles": {"spearman": "Spearman correlation"}, "spearman": figure,
        "rows": 9, "confidence_level": 0.95, "bootstrap": 10, "wrong": 0,
        "comparison": None, "verdict": "It is good.",
    }  # fmt: skip
    page = render({**facts, "metrics": metrics, "mistakes": []})
    assert "in the right order?" in page and "<dt>Interval</dt>" in page
    for strange in ("Macro-F1", "Temperature", "Accuracy", "cannot be told from noise"):
        assert f"<dt>{strange}" not in page.replace(' id="temperature"', "")
