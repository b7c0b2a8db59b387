"""The model card: a head that hubs can read, and a text that tells the limits."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import warmstart
from learning import write_messages
from reports import model_card


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


def test_the_code_for_an_adapter_gives_the_names_of_the_labels(
    tiny_of: Callable[[str], Path], tmp_path: Path, preloaded: dict[str, str]
) -> None:
    data = write_messages(tmp_path / "messages.csv", 60)
    run = warmstart.tune(
        data, base=str(tiny_of("bert")), method="lora", out=tmp_path / "run",
        **{"train.epochs": 1, "evaluate.bootstrap": 100, "evaluate.baselines": False},
    )  # fmt: skip
    code = (run.model / "README.md").read_text(encoding="utf-8").split("```")[1]
    code = code.removeprefix("python\n").replace("path/to/this/folder", str(run.model))
    assert "AutoPeftModelForSequenceClassification" in code
    answer = run.predict("a text to judge")[0]
    done = subprocess.run(
        ["python", "-c", code],
        env=preloaded,
        text=True,
        capture_output=True,
        cwd=tiny_of("bert").parent,  # the folder of the base is named without its place
    )
    assert done.returncode == 0, done.stderr
    (found,) = ast.literal_eval(done.stdout)
    assert found["label"] == answer.value
    assert found["score"] == pytest.approx(answer.confidence, abs=1e-4)


def test_labels_in_the_code_are_what_they_are(facts: dict[str, Any]) -> None:
    names = ['say "no"\n```', "it's", "ü"]
    metrics = facts["metrics"] | {"labels": names}
    text = model_card(facts | {"metrics": metrics, "labels": names, "adapter": True})
    code = next(t.content for t in MarkdownIt("commonmark").parse(text) if t.type == "fence")
    (line,) = [line for line in code.splitlines() if line.startswith("labels = ")]
    assert ast.literal_eval(line.removeprefix("labels = ")) == names
    assert 'print(classify("a text to judge"))' in code


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


def test_a_card_without_figures_says_so() -> None:
    text = model_card({"title": "Bare", "labels": ["a", "b"]})
    assert "It has not been evaluated." in text
    assert ModelCard(text).data.library_name == "transformers"
