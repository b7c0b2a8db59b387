"""Methods beside each other: figures as sklearn has them, honest words, a page that is harmless."""

from __future__ import annotations

from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score

from warmstart.evaluation.comparison import Answers, Standing, Trial, _holm, better_buy, standings
from warmstart.metrics.bootstrap import difference
from warmstart.metrics.classification import ClassMeasure
from warmstart.reporting import comparison as page
from warmstart.reporting import comparison as words

EVIL = "<script>alert(1)</script>\"'"
LABELS = ["a", "b", "c"]
TRUTH = np.random.default_rng(0).integers(0, 3, 400)


class Page(HTMLParser):
    """Collects tags and attributes; fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

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

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


def said(right: float, seed: int) -> np.ndarray:
    """Answers of which about this share is right."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(TRUTH)) < right, TRUTH, rng.integers(0, 3, len(TRUTH)))


def table(answer: np.ndarray) -> pa.Table:
    names = np.array(LABELS)
    return pa.table({"label": names[TRUTH], "prediction": names[answer]})


def trial(method: str, seed: int, answer: np.ndarray, trainable: int) -> Trial:
    value = f1_score(TRUTH, answer, average="macro")
    score = {"value": value, "low": value - 0.04, "high": value + 0.04}
    return Trial(f"{method}-seed{seed}", method, seed, score, trainable, trainable * 4, 10.0)


def compared(**shares: tuple[float, int]) -> tuple[list[Standing], Answers]:
    """Methods with the share of right rows and the number of trained weights, two seeds each."""
    trials: list[Trial] = []
    tables: dict[str, pa.Table] = {}
    for number, (method, (right, weights)) in enumerate(shares.items()):
        for seed in (0, 1):
            answer = said(right, 10 * number + seed)
            trials.append(trial(method, seed, answer, weights))
            tables[trials[-1].name] = table(answer)
    answers = Answers.of(tables, LABELS, "f1_macro")
    assert answers is not None
    return standings(trials, answers, "f1_macro", draws=400), answers


def test_the_mean_over_seeds_is_that_of_sklearn():
    found, answers = compared(full=(0.8, 100), lora=(0.4, 10))
    for metric, reference in (
        ("accuracy", accuracy_score),
        ("f1_macro", lambda y, p: f1_score(y, p, average="macro")),
    ):
        runs = ["full-seed0", "full-seed1"]
        got = answers.measure(2).total(answers.rows(runs))[metric]
        assert got == pytest.approx(np.mean([reference(TRUTH, answers.predicted[r]) for r in runs]))
    assert found[0].method == "full"
    assert found[0].spread == pytest.approx(np.std(found[0].scores, ddof=1))
    assert found[0].low is not None and found[0].high is not None
    assert found[0].low < found[0].value < found[0].high


def test_one_seed_is_tested_as_a_run_against_a_baseline_is():
    a, b = said(0.7, 1), said(0.6, 2)
    trials = [trial("full", 0, a, 9), trial("lora", 0, b, 3)]
    answers = Answers.of({"full-seed0": table(a), "lora-seed0": table(b)}, LABELS, "f1_macro")
    other = standings(trials, answers, "f1_macro", draws=4000)[1].against
    measure = ClassMeasure(3)
    rows = (measure.rows(answer, TRUTH) for answer in (b, a))
    reference = difference(measure, *rows, "f1_macro", 4000)
    assert other["difference"] == pytest.approx(reference.difference)
    assert other["low"] == pytest.approx(reference.low, abs=0.006)
    assert other["high"] == pytest.approx(reference.high, abs=0.006)
    assert other["p_value"] == pytest.approx(reference.p_value, abs=0.02)


def test_a_real_difference_is_told_from_noise():
    found, _ = compared(full=(0.80, 100), lora=(0.79, 10), frozen=(0.3, 1))
    assert [one.outcome for one in found] == ["best", "noise", "worse"]
    assert found[2].method == "frozen"


def test_where_one_seed_is_above_the_difference_is_noise():
    first = [said(0.9, 1), said(0.5, 2)]
    second = [said(0.6, 3), said(0.6, 4)]
    trials = [trial("full", s, answer, 9) for s, answer in enumerate(first)]
    trials += [trial("lora", s, answer, 3) for s, answer in enumerate(second)]
    tables = {t.name: table(a) for t, a in zip(trials, [*first, *second], strict=True)}
    found = standings(trials, Answers.of(tables, LABELS, "f1_macro"), "f1_macro", draws=400)
    assert found[1].against["worse_seeds"] == 1
    assert found[1].outcome == "noise"


def test_holm_as_in_his_paper():
    given = [0.04, 0.01, 0.03, 0.005]
    rows = [{"p_value": p} for p in given]
    _holm(rows)
    assert [row["p_value"] for row in rows] == pytest.approx([0.06, 0.03, 0.06, 0.02])


def standing(method: str, value: float, trainable: int, **against: float) -> Standing:
    p = 0.4 if against else None
    return Standing(
        method, [method], [0], [value], value, None, value - 0.03, value + 0.03, trainable,
        trainable * 4, 10.0, None, None, "noise" if against else "best",
        {**against, "p_value": p, "seeds": 1, "worse_seeds": 1, "best": "full"} if against else {},
    )  # fmt: skip


def test_the_smallest_within_one_standard_error_is_the_better_buy():
    full = standing("full", 0.80, 100)
    near = standing("lora", 0.79, 10, difference=-0.01, low=-0.04, high=0.02)
    far = standing("frozen", 0.75, 1, difference=-0.05, low=-0.11, high=0.01)
    assert better_buy([full, near, far]) is near  # 5 points are more than one standard error of 3
    assert better_buy([full, far]) is full
    text = words.advice([full, near], near, 0.95)
    assert "Take lora: not to be told from full" in text
    assert "10 % of the trained weights" in text
    assert "ruled out" not in text
    wide = standing("lora", 0.79, 10, difference=-0.01, low=-0.09, high=0.07)
    assert "Up to 9.0 points less cannot be ruled out" in words.advice([full, wide], wide, 0.95)


def test_the_words_name_the_runner_up_and_what_is_not_known():
    found, _ = compared(full=(0.80, 100), lora=(0.79, 10), frozen=(0.3, 1))
    text = words.verdict(found, "macro-F1", 400, 0.95)
    assert f"Best is {found[0].method}: macro-F1" in text
    assert f"The runner-up, {found[1].method}, is" in text and "cannot be told from noise" in text
    assert "Really worse than" in text and "frozen" in text
    assert any("Two seeds" in note for note in words.notes(found, True))
    alone = standings([trial("full", 0, said(0.8, 1), 9)], None, "f1_macro")
    assert words.verdict(alone, "macro-F1", 400, 0.95).startswith("full: macro-F1")
    assert words.advice(alone, alone[0], 0.95) == ""


def test_tests_that_disagree_leave_a_method_unclear():
    full = standing("full", 0.80, 100)
    split = standing("lora", 0.70, 10, difference=-0.1, low=-0.2, high=-0.01)
    text = words.verdict([full, split], "macro-F1", 20, 0.95)
    assert "the two tests disagree" in text and "noise" not in text
    assert words.outcome_words("noise", split.against) == "unclear"
    split.against["worse_seeds"] = 0
    assert words.outcome_words("noise", split.against) == "noise", "it is the seeds that disagree"


def test_without_a_paired_test_only_intervals_that_do_not_meet_count():
    trials = [trial("full", 0, said(0.8, 1), 9), trial("lora", 0, said(0.78, 2), 3),
              trial("frozen", 0, said(0.2, 3), 1)]  # fmt: skip
    found = standings(trials, None, "f1_macro")
    assert [one.outcome for one in found] == ["best", "noise", "worse"]
    assert any("no paired test" in note for note in words.notes(found, False))


@pytest.mark.parametrize("change", ["order", "label", "columns", "metric"])
def test_answers_on_other_rows_are_not_paired(change: str):
    one, other, main = table(said(0.8, 1)), table(said(0.8, 2)), "f1_macro"
    if change == "order":
        other = other.take(list(range(len(TRUTH)))[::-1])
    elif change == "label":
        other = other.set_column(1, "prediction", pa.array(["unheard of"] * len(TRUTH)))
    elif change == "columns":
        other = other.drop_columns("prediction")
    else:
        main = "rouge_l"
    assert Answers.of({"a": one, "b": other}, LABELS, main) is None


def summary(**changes: Any) -> dict[str, Any]:
    found, _ = compared(full=(0.80, 22_713_216), lora=(0.79, 800_000), frozen=(0.3, 150_000))
    runs = [
        {"name": run, "method": one.method, "seed": seed, "status": "done", "seconds": 3.0,
         "score": {"value": score}, "validation_score": 0.7, "kept_epoch": 4}
        for one in found
        for run, seed, score in zip(one.runs, one.seeds, one.scores, strict=True)
    ]  # fmt: skip
    failed = {"name": "ia3", "method": "ia3", "seed": 0, "status": "failed", "reason": "the loss"}
    return {
        "name": "tickets-methods", "data": "tickets.csv", "base": "minilm", "created": "2026-11-21",
        "verdict": words.verdict(found, "macro-F1", 400, 0.95), "advice": "Take lora.",
        "title": "macro-F1", "rows": {"train": 1, "validation": 1, "test": 400}, "seeds": [0, 1],
        "confidence_level": 0.95, "methods": [asdict(one) for one in found],
        "notes": ["a note"], "measured": ["energy is not measured: no counter"],
        "runs": [*runs, failed], "next": [("warmstart predict x", "labels")],
        "facts": {"task": "x"}, **changes,
    }  # fmt: skip


def test_the_page_holds_together():
    html = page.render_comparison(summary())
    found = Page(html)
    ids = [value for _, name, value in found.attributes if name == "id"]
    links = [value for tag, name, value in found.attributes if tag == "a" and name == "href"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert "lora-seed0/report.html" in links
    assert not [v for _, name, v in found.attributes if name == "src" or v.startswith("http")]
    assert "Peak memory<" not in html and "Energy<" not in html  # nothing was measured
    methods = [one | {"peak_memory_mb": 812.0} for one in summary()["methods"]]
    assert "812 MiB" in page.render_comparison(summary(methods=methods))


def test_every_text_on_the_page_is_harmless():
    evil = summary()
    evil["methods"] = [one | {"method": EVIL} for one in evil["methods"]]
    evil["runs"] = [run | {"name": EVIL, "reason": EVIL} for run in evil["runs"]]
    evil |= dict.fromkeys(("name", "data", "base", "verdict", "advice", "title", "created"), EVIL)
    evil |= {"notes": [EVIL], "measured": [EVIL], "next": [(EVIL, EVIL)], "facts": {EVIL: EVIL}}
    html = page.render_comparison(evil)
    assert "<script>alert" not in html
    assert Page(html).tags.count("script") == 1


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (page.millions(22_713_216), "22.7 M"),
        (page.millions(150_000), "0.15 M"),
        (page.millions(3_456), "3,456"),
        (page.megabytes(92_000_000), "92 MB"),
        (page.megabytes(3_400_000), "3.4 MB"),
        (page.duration(8.44), "8.4 s"),
        (page.duration(125), "2 min 05 s"),
        (page.duration(7_320), "2 h 02 min"),
        (page.joules(850), "850 J"),
        (page.joules(12_345), "12.3 kJ"),
        (page.joules(7.2e6), "2.00 kWh"),
    ],
)
def test_units(said: str, text: str):
    assert said == text
