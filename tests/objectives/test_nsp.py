"""Pairs of texts: BERT's next sentence and ALBERT's sentence order, against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretraining import Tiny, documents
from warmstart.objectives.nsp import split_place, stranger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nsp")


@pytest.fixture(scope="module", params=[("bert", "nsp"), ("albert", "sop"), ("bert", "sop")],
                ids=["nsp-bert", "sop-albert", "sop-bert"])  # fmt: skip
def it(request: Any, folder: Path) -> Tiny:
    return Tiny(request.param[0], folder, request.param[1], longest=40)


def test_the_losses_are_those_of_transformers(it: Tiny) -> None:
    """`BertForPreTraining(labels, next_sentence_label)`, `AlbertForPreTraining(labels,
    sentence_order_label)`: the mean of the hidden tokens plus that of the pairs."""
    batch = it.batch(np.arange(12))
    inputs, chosen = batch.inputs, batch.inputs["chosen"]
    labels = torch.full_like(inputs["ids"], -100)
    labels[chosen] = batch.targets[0]
    mask = (torch.arange(labels.shape[1]) < inputs["lengths"][:, None]).long()
    label = "sentence_order_label" if hasattr(it.model, "sop_classifier") else "next_sentence_label"
    with torch.no_grad():
        theirs = it.model(
            input_ids=inputs["ids"], attention_mask=mask, token_type_ids=inputs["types"],
            labels=labels, **{label: inputs["pairs"]},
        )  # fmt: skip
    loss = it.loss(batch)
    hidden, rows = int(chosen.sum()), len(labels)
    scale = it.objective._hidden_per_row
    assert float(loss.weight) == hidden
    tokens = float(loss.metrics["mlm_loss"])
    pairs = (float(loss.total) - tokens) / scale
    assert tokens / hidden + pairs / rows == pytest.approx(float(theirs.loss), rel=1e-5)
    # both are means: a row hides as many tokens as is reckoned with
    every = it.batch(np.arange(len(it.rows)))
    assert float(every.weight) / len(it.rows) == pytest.approx(scale, rel=0.1)


def test_one_means_that_the_second_part_is_another_or_the_first(it: Tiny) -> None:
    """As transformers has it: 0 is a continuation (or the original order), 1 is none."""
    sep = it.tokenizer.sep_token_id
    counts = [0, 0]
    for row in range(len(it.rows)):
        own = it.store.row(row)[1:-1].tolist()
        for seed in range(4):
            batch = it.batch([row], seed)
            ids = batch.inputs["ids"].clone()
            ids[batch.inputs["chosen"]] = batch.targets[0]
            types = batch.inputs["types"][0]
            line = ids[0].tolist()
            assert line[0] == it.tokenizer.cls_token_id and line.count(sep) == 2
            cut = line.index(sep)
            first, second = line[1:cut], line[cut + 1 : -1]
            assert types.tolist() == [0] * (cut + 1) + [1] * (len(line) - cut - 1)
            label = int(batch.inputs["pairs"][0])
            counts[label] += 1
            if not label:
                assert first + second == own
            elif it.objective.part_name() == "sop":
                assert second + first == own
            else:
                assert own[: len(first)] == first
                assert len(second) <= len(own) - len(first)
    assert min(counts) / sum(counts) > 0.4


def test_no_token_is_lost_where_there_is_room_for_one_more(it: Tiny) -> None:
    whole = int(np.argmax(it.store.lengths))
    length = int(it.store.lengths[whole])
    seed = next(s for s in range(20) if not it.batch([whole], s).inputs["pairs"][0])
    assert int(it.batch([whole], seed).inputs["lengths"][0]) == length + 1
    room, it.objective._room = it.objective._room, length
    assert int(it.batch([whole], seed).inputs["lengths"][0]) == length
    it.objective._room = room


def test_strangers_are_of_other_documents() -> None:
    owner, rng = np.array([0, 0, 0, 1, 2, 2]), np.random.default_rng(0)
    for row in range(6):
        drawn = {stranger(row, owner, rng) for _ in range(200)}
        assert drawn == {i for i in range(6) if owner[i] != owner[row]}
    alone = np.zeros(4, np.int64)
    assert {stranger(1, alone, rng) for _ in range(100)} == {0, 2, 3}, "of one document any other"
    assert stranger(0, np.zeros(1, np.int64), rng) == 0


def test_one_window_is_never_called_strange(folder: Path) -> None:
    it = Tiny("bert", folder, "nsp", texts=["The film liked every book. The song again!"])
    assert not any(it.batch([0], seed).inputs["pairs"][0] for seed in range(20))


def test_the_length_does_not_tell_the_label(folder: Path) -> None:
    """Of full windows a pair of strangers is as long as one that belongs together."""
    it = Tiny("bert", folder, "nsp", texts=[" ".join(documents(8, s)) for s in range(4)],
              longest=40)  # fmt: skip
    full = np.flatnonzero(it.store.lengths == 40)
    sizes: dict[int, set[int]] = {0: set(), 1: set()}
    for seed in range(6):
        batch = it.batch(full, seed)
        for label, length in zip(batch.inputs["pairs"], batch.inputs["lengths"], strict=True):
            sizes[int(label)].add(int(length))
    longest = sum(len(row) == 40 for row in map(it.store.row, full.tolist()))
    assert longest > 10 and sizes[0] == {41} and 41 in sizes[1]
    assert len(sizes[1]) <= 3, "but for strangers that are short themselves"


def test_a_text_is_cut_behind_the_sentence_nearest_to_its_middle() -> None:
    ends = np.zeros(10, bool)
    ends[[1, 5, 9]] = True
    assert split_place(ends, 10) == 6
    assert split_place(ends, 5) == 2
    assert split_place(np.zeros(10, bool), 10) == 5
    assert split_place(np.zeros(1, bool), 1) == 0
