"""The report's layout: nothing clipped, nothing pushed out of view, no large gap, right words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reports import render
from warmstart.reporting.page import LONG
from warmstart.reporting.view import FIRST, MORE, Point, first_screen

ERROR = {
    "id": "1", "file": "t.csv", "line": 2, "text": "Where is it?", "label": "delivery",
    "prediction": "billing", "confidence": 0.9,
}  # fmt: skip


def test_a_command_wraps_between_its_words_and_can_be_copied(facts: dict[str, Any]) -> None:
    command = "warmstart predict runs/tickets new.csv --out answered.csv"
    html = render(facts | {"next": [(command, "answers a file")]})
    code = re.findall(r'class="command"><code>(.*?)</code>', html)
    assert [re.sub("<.*?>", "", one) for one in code] == [command]
    assert f'data-copy="{command}"' in html
    rule = re.search(r"\.command code \{(.*?)\}", html, re.DOTALL)
    assert rule and "pre-wrap" in rule[1] and "nowrap" not in rule[1]


def test_a_long_label_is_cut_in_tables_and_whole_in_its_title(facts: dict[str, Any]) -> None:
    label = "x" * 300
    metrics = facts["metrics"]
    named = {
        "labels": [label, *metrics["labels"][1:]],
        "per_class": [metrics["per_class"][0] | {"label": label}, *metrics["per_class"][1:]],
    }
    html = render(facts | {"metrics": metrics | named, "mistakes": []})
    assert f'<span title="{label}">{"x" * (LONG - 1)}…</span>' in html
    assert max(map(len, re.findall("x+", re.sub(r'title="x+"', "", html)))) < LONG


def test_mistakes_are_worded_by_what_the_task_gives_not_by_length(facts: dict[str, Any]) -> None:
    long = ERROR | {"label": "x" * 300, "confidence": 0.875}
    html = render(facts | {"mistakes": [long]})
    assert "<dt>labelled</dt>" in html and "<dt>model says</dt>" in html
    assert "87.5\u00a0% sure" in html and "wanted" not in html.split("<script>")[0]
    html = render(facts | {"mistakes": [ERROR | {"written": True}]})
    assert "<dt>wanted</dt><dd>delivery</dd><dt>given</dt><dd>billing</dd>" in html


@pytest.mark.parametrize(
    ("points", "errors", "shown", "next_left"),
    [
        (3, 10, FIRST, False),  # the right column is short: "What next?" fills it
        (13, 10, FIRST, True),  # many notes: it stands below the mistakes
        (20, 10, MORE, True),  # more notes still: more mistakes as well
        (20, 2, 2, True),
        (3, 0, 0, False),
    ],
)
def test_the_first_screen_leaves_no_large_gap(
    points: int, errors: int, shown: int, next_left: bool
) -> None:
    found = first_screen([Point("watch", "Mind", "x" * 100)] * points, [ERROR] * errors)
    assert (len(found[0]), found[1]) == (shown, next_left)


def training_of(html: str) -> str:
    """The section about training."""
    return re.split(r"</section>", html.split('id="training"')[1])[0]


def test_training_says_why_there_is_no_curve_and_shows_what_there_is(facts: dict[str, Any]) -> None:
    history = facts["history"]
    told = training_of(render(facts))
    assert told.count("<figure") == 2 and facts["metrics"]["curves"]["sentence"] in told
    unseen = [{key: row[key] for key in ("epoch", "step", "train_loss")} for row in history]
    told = training_of(render(facts | {"history": unseen}))
    assert "There were no validation rows" in told and told.count("<figure") == 1
    assert "no training history" not in told
    told = training_of(render(facts | {"history": history[:1]}))
    assert "<dt>Training loss</dt><dd>1.000</dd>" in told and "<figure" not in told
    bare = {key: value for key, value in facts["metrics"].items() if key != "curves"}
    told = training_of(render(facts | {"history": history[:1], "metrics": bare}))
    assert "only once" in told
    assert 'id="training"' not in render(facts | {"history": []})


def test_nothing_is_said_to_stand_beside_baselines_that_are_not_there(
    facts: dict[str, Any],
) -> None:
    assert "beside simple methods" in render(facts)
    alone = facts["metrics"] | {"baselines": [], "comparison": None}
    assert "beside simple methods" not in render(facts | {"metrics": alone})


SHORT = ["anger", "joy", "optimism", "sadness"]
WORDY = ["abbreviation", "description", "entity", "human", "location", "number"]


@pytest.mark.parametrize(("labels", "beside"), [(SHORT, True), (WORDY, False)])
def test_all_classes_stand_beside_the_commonest_confusions_where_half_the_page_holds_them(
    facts: dict[str, Any], labels: list[str], beside: bool
) -> None:
    matrix = [[5 + (i == j) for j in range(len(labels))] for i in range(len(labels))]
    metrics = facts["metrics"] | {"labels": labels, "confusion_matrix": matrix}
    section = render(facts | {"metrics": metrics}).split('id="confusions"')[1]
    assert ('class="grid two"' in section.split("</section>")[0]) == beside


def test_a_confidence_that_was_not_corrected_is_not_shown_as_if(facts: dict[str, Any]) -> None:
    calibration = facts["metrics"]["calibration"]
    section = render(facts).split('id="confidence"')[1].split("</section>")[0]
    assert "confidence_calibrated" in section and section.lower().count(">corrected<") == 2
    bare = facts["metrics"] | {"calibration": calibration | {"fitted": False}}
    section = render(facts | {"metrics": bare}).split('id="confidence"')[1].split("</section>")[0]
    assert "It was not corrected" in section
    assert "is the same" in section and ">corrected<" not in section.lower()
