"""Exact match and token F1 equal SQuAD's own scripts, kept here word by word as reference."""

from __future__ import annotations

import collections
import json
import re
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.metrics.squad import Answers, best_no_answer_threshold, normalized


def normalize_answer(s):
    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def f1_of_1(prediction, ground_truth):
    prediction_tokens = normalize_answer(prediction).split()
    ground_truth_tokens = normalize_answer(ground_truth).split()
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def f1_of_2(a_gold, a_pred):
    gold_toks = normalize_answer(a_gold).split() if a_gold else []
    pred_toks = normalize_answer(a_pred).split() if a_pred else []
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def squad_1(predictions, references):
    exact = [
        max(normalize_answer(p) == normalize_answer(g) for g in golds)
        for p, golds in zip(predictions, references, strict=True)
    ]
    f1 = [
        max(f1_of_1(p, g) for g in golds) for p, golds in zip(predictions, references, strict=True)
    ]
    return sum(exact) / len(exact), sum(f1) / len(f1)


def squad_2(predictions, references):
    exact, f1 = [], []
    for a_pred, answers in zip(predictions, references, strict=True):
        gold_answers = [a for a in answers if normalize_answer(a)]
        if not gold_answers:
            gold_answers = [""]
        exact.append(
            max(int(normalize_answer(a) == normalize_answer(a_pred)) for a in gold_answers)
        )
        f1.append(max(f1_of_2(a, a_pred) for a in gold_answers))
    return exact, f1


def find_best_thresh(preds, scores, na_probs, qid_to_has_ans):
    num_no_ans = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    cur_score = num_no_ans
    best_score = cur_score
    best_thresh = 0.0
    qid_list = sorted(na_probs, key=lambda k: na_probs[k])
    for qid in qid_list:
        if qid not in scores:
            continue
        diff = scores[qid] if qid_to_has_ans[qid] else (-1 if preds[qid] else 0)
        cur_score += diff
        if cur_score > best_score:
            best_score = cur_score
            best_thresh = na_probs[qid]
    return best_score / len(scores), best_thresh


WORDS = [
    "the",
    "a",
    "An",
    "Cat",
    "cat.",
    "dog",
    "co-op",
    "U.S.",
    "dog,",
    "!",
    "Émile",
    "theme",
    "  ",
]
text = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@given(st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_scores_equal_the_script_of_1_1(rows: list[tuple[str, list[str]]]) -> None:
    answers, golds = zip(*rows, strict=True)
    scores = Answers(version=1)(answers, golds)
    expected = squad_1(answers, golds)
    assert (scores["exact_match"], scores["f1"]) == pytest.approx(expected)


@given(st.lists(st.tuples(text, st.lists(text, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_scores_equal_the_script_of_2(rows: list[tuple[str, list[str]]]) -> None:
    answers, golds = zip(*rows, strict=True)
    measure = Answers(unanswerable=True)
    statistics = measure.rows(answers, golds)
    exact, f1 = squad_2(answers, golds)
    assert statistics[:, 1].tolist() == pytest.approx(exact)
    assert statistics[:, 2].tolist() == pytest.approx(f1)
    has = np.array([any(row) for row in golds])
    scores = measure.total(statistics)
    for name, kept in (("has_answer_f1", has), ("no_answer_f1", ~has)):
        assert scores[name] == pytest.approx(np.array(f1)[kept].mean() if kept.any() else 0.0)
    assert measure.bearing(statistics)["no_answer_f1"] == (~has).sum()


@given(st.text(max_size=30))
def test_any_text_is_normalized_as_the_script_does(answer: str) -> None:
    assert normalized(answer) == normalize_answer(answer)


def test_known_cases() -> None:
    assert normalized("  The U.S.A. -- an   Apple's ") == "usa apples"
    measure = Answers()
    assert measure(["the Eiffel Tower"], [["Paris", "Eiffel tower!"]])["exact_match"] == 1.0
    half = measure(["tower of Eiffel"], [["Eiffel tower"]])
    assert half == {"exact_match": 0.0, "f1": pytest.approx(0.8)}
    assert measure([""], [[]]) == {"exact_match": 1.0, "f1": 1.0}
    assert measure(["something"], [[]]) == {"exact_match": 0.0, "f1": 0.0}
    assert measure(["the"], [["a"]])["f1"] == 1.0
    assert Answers(version=1)(["the"], [["a"]]) == {"exact_match": 1.0, "f1": 0.0}


@pytest.mark.parametrize("seed", range(20))
def test_the_no_answer_threshold_equals_the_script(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    has, empty = rng.random(n) < 0.6, rng.random(n) < 0.3
    scores = np.where(has, rng.random(n) * ~empty, empty.astype(float))
    probability = rng.random(n)
    threshold, score = best_no_answer_threshold(scores, probability, has, empty)
    ids = range(n)
    expected = find_best_thresh(
        {i: "" if empty[i] else "x" for i in ids},
        {i: float(scores[i]) for i in ids},
        {i: float(probability[i]) for i in ids},
        {i: bool(has[i]) for i in ids},
    )
    assert (score, threshold) == pytest.approx(expected)
    applied = np.where(probability > threshold, (~has).astype(float), scores)
    assert applied.mean() == pytest.approx(score)


def test_a_threshold_moves_rows_of_equal_probability_together() -> None:
    found = best_no_answer_threshold(
        np.array([1.0, 0.0]),
        np.array([0.3, 0.3]),
        np.array([True, False]),
        np.array([False, False]),
    )
    assert found == (0.0, 0.5)


def test_real_answers_equal_the_scripts(shared_data: Path) -> None:
    lines = (shared_data / "xquad" / "test_en.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    golds = [[row["answer_text"]] for row in rows]
    answers = [row["context"][row["answer_start"] :][:20] for row in rows]
    for version, reference in ((1, squad_1), (2, squad_2)):
        scores = Answers(version=version)(answers, golds)
        exact, f1 = (np.mean(column) for column in reference(answers, golds))
        assert (scores["exact_match"], scores["f1"]) == pytest.approx((exact, f1))
        assert 0.1 < scores["f1"] < 0.9
