"""Figures and sentences as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from reports import render
from warmstart.evaluation.evaluate import Evaluation
from warmstart.evaluation.sentences import calibration_sentence, figure


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.0, "0.000"), (-0.0002, "0.000"), (-0.0012, "-0.001"), (0.7741, "0.774"), (41.23, "41.2")],
)
def test_a_figure_is_never_minus_nothing(value: float, said: str) -> None:
    assert figure(value) == said


def test_why_confidence_was_not_corrected(evaluation: Evaluation) -> None:
    found = evaluation.metrics["calibration"]
    assert (found["validation_rows"], found["fitted"], found["reason"]) == (200, True, None)
    assert "No temperature was fitted" not in found["sentence"]
    why = {"fitted": False, "reason": "there are no validation rows", "rows": 400}
    for error, rows in ((0.2, 400), (0.01, 400), (0.2, 40)):
        said = calibration_sentence(
            found | why | {"rows": rows, "before": found["before"] | {"ece": error}}
        )
        assert said.endswith(". No temperature was fitted: there are no validation rows.")


def test_mistakes_and_rows_are_not_mixed_up(facts: dict[str, Any]) -> None:
    metrics = {key: facts["metrics"][key] for key in ("rows", "main", "f1_macro", "titles")}
    metrics |= {"comparison": None, "verdict": "It is good."}
    metrics |= {"confidence_level": 0.95, "bootstrap": 10, "wrong": 2}
    page = render({**facts, "metrics": metrics, "mistakes": facts["mistakes"][:3]})
    assert "2 of 400 test rows were wrong. 3 mistakes are listed, several of some rows" in page
    page = render({**facts, "metrics": metrics, "mistakes": facts["mistakes"][:2]})
    assert "2 of 400 test rows were wrong. 2 are listed" in page


def test_a_class_that_does_not_occur_is_not_the_weakest(facts: dict[str, Any]) -> None:
    from reports import model_card

    classes = [dict(one) for one in facts["metrics"]["per_class"]]
    classes[0] |= {"label": "ghost", "f1": 0.0, "support": 0, "predicted": 0}
    changed = {**facts, "metrics": facts["metrics"] | {"per_class": classes}}
    page = render(changed)
    table = page[page.index('id="classes-h"') : page.index('id="confusions-h"')]
    names = [one["label"] for one in classes[1:]]
    assert all(table.index(name) < table.index("ghost") for name in names)
    assert "never predicted: not judged" in table and "0.000" not in table
    assert "| ghost | – | – | – | 0 |" in model_card(changed)
    classes[0] |= {"predicted": 12}
    assert "wrongly predicted for 12 rows: not judged" in render(changed)
    assert "| ghost | – | – | – | 0 |" in model_card(changed)
