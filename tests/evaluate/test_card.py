"""The model card: a head that hubs can read, and a text that tells the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from warmstart.evaluate.card import model_card, write_card


def test_the_head_is_what_hubs_read(facts: dict[str, Any]) -> None:
    text = model_card(facts | {"base": facts["base"] | {"hub_id": "org/minilm"}})
    head = yaml.safe_load(text.split("---")[1])
    assert head["base_model"] == "org/minilm"
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-classification")
    data = ModelCard(text).data
    assert data.base_model == "org/minilm"
    results = {one.metric_name: one.metric_value for one in data.eval_results or []}
    assert results["macro-F1"] == pytest.approx(facts["metrics"]["f1_macro"]["value"], abs=1e-6)
    assert len(results) == 4


def test_an_adapter_says_that_it_is_one(facts: dict[str, Any]) -> None:
    text = model_card(facts | {"adapter": True})
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "peft"
    assert "base_model" not in head
    assert "AutoPeftModelForSequenceClassification" in text


def test_the_text_gives_figures_with_intervals_limits_and_data(facts: dict[str, Any]) -> None:
    text = model_card(facts)
    score = facts["metrics"]["f1_macro"]
    assert f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})" in text
    assert 'pipeline("text-classification"' in text
    assert "Weakest labels:" in text
    assert "Rows read 910, kept 900, dropped 10" in text
    assert "2 test rows also stand in train." in text


def test_the_tables_are_tables(facts: dict[str, Any]) -> None:
    body = model_card(facts).split("---\n", 2)[2]
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert html.count("<table>") == 2
    assert html.count("<tr>") == 1 + 4 + 1 + 3


def test_labels_cannot_break_the_card(facts: dict[str, Any]) -> None:
    evil = "a|b <script>`x`\n# no\n---"
    metrics = facts["metrics"]
    classes = [one | {"label": evil} for one in metrics["per_class"]]
    changed = metrics | {"per_class": classes, "labels": [evil] * 3}
    text = model_card(facts | {"metrics": changed, "labels": [evil] * 3, "title": evil})
    assert ModelCard(text).data.pipeline_tag == "text-classification"
    html = MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])
    assert "<script>" not in html
    assert html.count("<table>") == 2
    assert html.count("<h1>") == 1


def test_a_recipe_with_a_fence_stays_inside(facts: dict[str, Any]) -> None:
    text = model_card(facts | {"recipe_toml": 'x = "```"\n'})
    assert '````toml\nx = "```"\n````' in text


def test_a_card_without_figures_says_so(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", {"title": "Bare", "labels": ["a", "b"]})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "It has not been evaluated." in text
    assert ModelCard(text).data.library_name == "transformers"
