"""The report: complete in itself, every section there, every text harmless, colours readable."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import render, write_report
from warmstart.reporting import charts
from warmstart.reporting.page import TEMPLATES

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
SECTIONS = (
    "mistakes",
    "classes",
    "confusions",
    "confidence",
    "training",
    "data",
    "details",
    "terms",
)


class Page(HTMLParser):
    """Collects tags, ids and addresses; fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "input", "br", "hr", "img", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


def test_every_section_is_there_and_every_link_leads_somewhere(facts: dict[str, Any]) -> None:
    page = Page(render(facts))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert set(SECTIONS) <= set(ids)
    assert len(ids) == len(set(ids))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert {link[1:] for link in links} <= set(ids)
    named = {v for _, name, value in page.attributes if name == "aria-labelledby" for v in [value]}
    assert named <= set(ids)


def test_the_first_screen_answers_the_four_questions(facts: dict[str, Any]) -> None:
    html = render(facts)
    for question in (
        "How good is it?",
        "Can it be trusted?",
        "What should I look at?",
        "What next?",
    ):
        assert question in html
    assert f"{facts['metrics']['f1_macro']['value']:.3f}" in html
    assert "TF-IDF + logistic regression" in html
    assert "tickets.csv, line" in html
    assert "2 test rows also stand in train." in html
    assert html.index("How good is it?") < html.index('id="mistakes"')


def test_nothing_is_loaded(facts: dict[str, Any]) -> None:
    html = render(facts)
    assert "http://" not in html
    assert "https://" not in html
    page = Page(html)
    for tag, name, value in page.attributes:
        assert name != "src", (tag, value)
        assert not name.startswith("on"), (tag, name)
        if name == "href":
            assert value.startswith(("#", "data:,"))
    assert "url(" not in html
    assert "@import" not in html


def test_every_text_is_escaped(facts: dict[str, Any]) -> None:
    row = facts["mistakes"][0] | {"text": EVIL, "label": EVIL, "prediction": EVIL, "file": EVIL}
    evil = facts | {
        "title": EVIL,
        "created": EVIL,
        "verdict": EVIL,
        "recipe_toml": EVIL,
        "mistakes": [row, row | {"text": EVIL * 30}],
        "run": {"name": EVIL, "path": EVIL},
        "next": [(EVIL, EVIL)],
        "versions": {EVIL: EVIL},
        "data": {
            "rows": {"read": 1, "kept": 1, "dropped": 0},
            "splits": {EVIL: 1},
            "dropped": {EVIL: {"rows": 1, "first": EVIL}},
            "notes": [{"kind": "leakage", "message": EVIL}],
        },
        "metrics": named(facts["metrics"], EVIL),
    }
    html = render(evil)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert Page(html).tags.count("script") == 1
    many = named(facts["metrics"], EVIL, classes=20)
    assert "<script>alert" not in render(evil | {"metrics": many})


def named(metrics: dict[str, Any], label: str, classes: int = 3) -> dict[str, Any]:
    """The metrics with classes of these names."""
    one = metrics["per_class"][0] | {"label": label}
    return metrics | {
        "labels": [label] * classes,
        "per_class": [one] * classes,
        "confusion_matrix": (np.eye(classes, dtype=int) * 3 + 1).tolist(),
    }


def test_only_our_script_may_run(facts: dict[str, Any]) -> None:
    html = render(facts)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "script-src 'sha256-" in policy[1]
    assert "unsafe-eval" not in policy[1]


def test_a_report_of_almost_nothing_still_renders() -> None:
    html = render({"title": "Empty"})
    assert "<h1>Empty</h1>" in html
    Page(html)


def test_many_classes_are_drawn_and_few_are_a_table(facts: dict[str, Any]) -> None:
    assert '<svg class="heat"' not in render(facts)
    many = facts | {"metrics": named(facts["metrics"], "a_long_class_name", classes=77)}
    html = render(many)
    assert '<svg class="heat"' in html
    assert "a_<wbr>long_<wbr>class_<wbr>name" in html
    Page(html)


def test_the_file_is_written_whole(facts: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    write_report(path, facts)
    first = path.read_text(encoding="utf-8")
    with pytest.raises(KeyError):
        write_report(path, facts | {"metrics": {"per_class": 3}})
    assert path.read_text(encoding="utf-8") == first
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.1, 0.9], [0.771, 0.774], [12.0, 3.0]])
def test_axes_are_round_and_hold_their_values(values: list[float]) -> None:
    low, high, step = charts._axis(values)
    assert low <= min(values) <= max(values) <= high
    assert 1 <= (high - low) / step <= 6


def test_a_gap_in_a_series_is_left_out() -> None:
    drawn = charts.line_chart("t", [1, 2, 3], {"a": [0.1, None, 0.3]}, "epoch")
    assert drawn.count("<circle") == 2
    assert charts.line_chart("t", [], {}, "epoch") == ""


def test_every_line_has_a_colour_of_its_own_in_chart_and_legend() -> None:
    css = (TEMPLATES / "report.css").read_text()
    colours = {
        number: re.findall(
            rf"\.s{number} polyline {{ stroke: var\((\S+)\); }} \.s{number} circle "
            rf"{{ fill: var\(\1\); }}", css,
        ) + re.findall(rf"\.k{number}::before {{ background: var\((\S+)\); }}", css)
        for number in range(charts.COLOURS)
    }  # fmt: skip
    assert all(len(found) == 2 and found[0] == found[1] for found in colours.values())
    assert len({found[0] for found in colours.values()}) == charts.COLOURS >= 6
    names = {f"task {number}": [0.1, 0.2] for number in range(charts.COLOURS + 1)}
    drawn = charts.line_chart("t", [1, 2], names, "epoch")
    assert f"s{charts.COLOURS}" not in drawn and drawn.count('class="key k0"') == 2


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_its_ground(scheme: str) -> None:
    css = (TEMPLATES / "report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    grounds = [(text, ground) for ground in ("card", "page") for text in ("ink", "soft", "blue")]
    grounds += [("orange", "card"), ("ink", "info-bg")]
    grounds += [(tag, f"{tag}-bg") for tag in ("good", "watch", "bad", "info")]
    lines = [(line, "card") for line in ("green", "pink", "gold")]
    for text, ground in grounds + lines:
        a, b = sorted((luminance(found[text]), luminance(found[ground])))
        least = 3 if (text, ground) in lines else 4.5
        assert (b + 0.05) / (a + 0.05) >= least, (text, ground)


@pytest.mark.parametrize(
    ("outcome", "difference", "advice"),
    [
        ("noise", 0.17, "More test rows would tell."),
        ("noise", -0.02, "the simpler method is the better buy"),
        ("worse", -0.2, "the simpler method is the better buy"),
    ],
)
def test_what_is_advised_where_a_baseline_is_not_beaten(
    facts: dict[str, Any], outcome: str, difference: float, advice: str
) -> None:
    facts["metrics"]["comparison"] |= {"outcome": outcome, "difference": difference}
    assert advice in render(facts)
