"""The page of an inspection: complete in itself, every text harmless, differences marked."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import warmstart
from warmstart.cli.output.inspection import print_inspection
from warmstart.evaluation import inspection
from warmstart.evaluation.inspection.base import SEVERE, CheckResult, Context
from warmstart.evaluation.inspection.labels import balance_facts
from warmstart.formatting import counted
from warmstart.reporting import charts
from warmstart.reporting.inspection import coded, differing, render_inspection, short_names

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"


class Page(HTMLParser):
    """Collects tags and attributes; fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "input", "br", "hr", "img", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of data in which every text, label, column and file name tries to break out."""
    folder = tmp_path_factory.mktemp("evil")
    long = "one two three four five six seven eight nine ten"
    rows: list[Any] = [{"text": f"{EVIL} {long} {i % 7}", "label": f"{EVIL}{i % 2}", EVIL: i % 2}
                       for i in range(60)]  # fmt: skip
    rows += [{"text": f"{EVIL} {long} eleven", "label": f"{EVIL}0", EVIL: 0},
             {"text": "&amp;", "label": f"{EVIL}1", EVIL: 1},
             {"text": f"Guten Tag, die Lampe kam leider zerbrochen an {EVIL}", "label": "x"},
             {"text": f"{EVIL} mail to ann@example.com", "label": "x", EVIL: 1}]  # fmt: skip
    found = warmstart.inspect(rows, out=folder / "out", features=False)
    return found.report.read_text(encoding="utf-8")


def test_it_is_complete_in_itself(page: str):
    parsed = Page(page)
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert {"findings", "classes", "lengths", "copies", "labels", "texts", "columns"} <= set(ids)
    assert len(ids) == len(set(ids))
    links = {value for name, value in parsed.attributes if name == "href"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "data:,")) for link in links)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and "default-src 'none'" in policy[1] and "script-src 'sha256-" in policy[1]
    assert "http://" not in page and "https://" not in page and "url(" not in page


def test_every_text_is_escaped(page: str):
    assert "<script>alert" not in page and "<img" not in page
    assert Page(page).tags.count("script") == 1
    assert "&lt;script&gt;alert" in page
    assert "ann@example.com" not in page


def test_differences_are_marked():
    left, right = differing("Where is my parcel?", "where is the parcel")
    assert [piece for piece, differs in left if differs] == ["Where", "my", "?"]
    assert [piece for piece, differs in right if differs] == ["where", "the"]
    assert differing("a", "a") == ([("a", False)], [("a", False)])


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_pieces_make_up_the_texts(one: str, other: str):
    left, right = differing(one, other)
    assert "".join(piece for piece, _ in left) == one
    assert "".join(piece for piece, _ in right) == other
    same = ["".join(p for p, differs in side if not differs) for side in (left, right)]
    assert same[0] == same[1]


def test_flags_and_commands_are_code():
    assert coded("merge them: --data.merge_labels true") == (
        "merge them: <code>--data.merge_labels true</code>"
    )
    assert coded("<b> --seed 1, then") == "&lt;b&gt; <code>--seed 1</code>, then"


def test_short_names_stay_different():
    assert short_names(["a/x.csv", "b/y.csv"]) == {"a/x.csv": "x.csv", "b/y.csv": "y.csv"}
    assert short_names(["a/x.csv", "b/x.csv"]) == {"a/x.csv": "a/x.csv", "b/x.csv": "b/x.csv"}


def test_a_histogram_draws_every_bar():
    drawn = charts.histogram("t", [0, 10, 20, 30], [3, 0, 5], 2, mark=15)
    assert drawn.count('class="column"') == 3 and 'class="mark"' in drawn
    assert "30 and more: 2 rows" in drawn
    assert charts.histogram("t", [0], [], 0) == ""


@pytest.mark.parametrize(
    ("sizes", "word"),
    [((10, 9), "even"), ((10, 5), "a little"), ((50, 10), "uneven"), ((99, 3), "very")],
)
def test_the_verdict_on_balance(sizes: tuple[int, int], word: str):
    counts = {"a": {"train": sizes[0]}, "b": {"train": sizes[1]}}
    balance = balance_facts(counts)
    assert balance and f"are {word}" in balance["verdict"]
    assert balance_facts({"a": {"train": 3}, "b": {"train": 0}}) is None
    assert balance_facts({}) is None


def test_a_check_is_a_function_and_shown_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def check_question_marks(context: Context) -> CheckResult:
        rows = [row for row, text in enumerate(context.source.texts.to_pylist()) if "?" in text]
        result = CheckResult({"questions": len(rows)})
        result.tables["questions"] = context.source.listing(rows)
        result.lines["questions"] = counted(len(rows), "question")
        result.add("questions", SEVERE, len(rows), "Some texts ask something.", "answer them")
        return result

    monkeypatch.setattr(inspection, "CHECKS", (*inspection.CHECKS, check_question_marks))
    rows = [{"text": "is it?", "label": "a"}, {"text": "it is so", "label": "b"}]
    look = warmstart.inspect(rows, out=tmp_path / "o", features=False)
    assert "questions" in [row["kind"] for row in look.findings] and look.summary["questions"] == 1
    assert look.tables["questions"].text.tolist() == ["is it?"]
    assert "Some texts ask something." in look.report.read_text(encoding="utf-8")
    print_inspection(look, as_json=False)
    printed = capsys.readouterr().out
    assert "Some texts ask something." in printed and "questions  1 question" in printed


def test_the_page_needs_nothing_but_its_facts(tmp_path: Path):
    rows = [{"text": "x"}]
    found = warmstart.inspect(rows, out=tmp_path / "o", features=False)
    assert "Nothing that would need mending" not in found.report.read_text()
    tables = {name: pa.Table.from_pandas(found.tables[name]) for name in found.tables}
    Page(render_inspection(found.summary, tables))
