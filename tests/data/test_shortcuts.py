"""Columns and words that give the label away."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from warmstart.data.profiling.shortcuts import column_rules, sorted_by_label, word_rules

N = 400
CODES = np.arange(N) % 2
LABELS = [("ham", "spam")[code] for code in CODES]


def rules(**columns: list) -> dict[str, float]:
    found = column_rules(pa.table(columns), CODES, list(columns))
    return {row["column"]: row["skill"] for row in found}


def test_a_column_that_is_the_label_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    found = rules(
        folder=[("inbox", "junk")[c] for c in CODES],
        weight=[float(c * 10 + x) for c, x in zip(CODES, rng.random(N), strict=True)],
        mostly=[int(c if rng.random() < 0.9 else 1 - c) for c in CODES],
        noise=rng.integers(0, 5, N).tolist(),
        measure=rng.random(N).tolist(),
    )
    assert found["folder"] == 1
    assert found["weight"] >= 0.95
    assert 0.6 <= found["mostly"] < 0.95
    assert found["noise"] < 0.2 and found["measure"] < 0.2


def test_ids_count_by_what_they_are_made_of():
    found = rules(
        named=[f"{label}_{i:04}" for i, label in enumerate(LABELS)],
        plain=[f"row{i:04}" for i in range(N)],
        number=[i + 1000 * int(c) for i, c in enumerate(CODES)],
        serial=list(range(N)),
    )
    assert found["named"] == 1
    assert "plain" not in found
    assert found["number"] > 0.95
    assert found["serial"] < 0.2


def test_a_word_that_marks_a_class():
    texts = [f"[SPAM] offer {i}" if c else f"hello you {i}" for i, c in enumerate(CODES)]
    best = {rule["word"]: rule for rule in word_rules(texts, LABELS)}
    assert best["[spam]"]["label"] == "spam" and best["[spam]"]["first"]
    assert best["[spam]"]["recall"] == 1 and best["[spam]"]["rows"] == N // 2
    assert not best["offer"]["first"]
    some = [f"offer {i}" if c and i % 3 else f"hello {i}" for i, c in enumerate(CODES)]
    assert word_rules(some, LABELS) == []
    assert word_rules(texts[:30], LABELS[:30]) == []


def test_rows_in_order_of_their_label():
    assert sorted_by_label(np.repeat([0, 1, 2], 30))
    assert not sorted_by_label(CODES)
    assert not sorted_by_label(np.zeros(N, int))
