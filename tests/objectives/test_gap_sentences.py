"""PEGASUS: the sentences that tell most of a text are left out, and written."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining import Tiny
from warmstart.objectives.gap_sentences import overlap, principal

PAPER = ["Pegasus is mythical.", "It is pure white.", "It names the model."]
"""The example of Zhang et al. 2020, figure 1."""


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny("pegasus", tmp_path_factory.mktemp("pegasus"), "gap_sentences",
                texts=[" ".join(PAPER)], longest=60)  # fmt: skip


def test_the_scores_are_rouge_1() -> None:
    """By hand: F1 of the common tokens, each as often as both have it."""
    first, second, third = np.array([1, 2, 3]), np.array([2, 3, 3, 4]), np.array([5, 6])
    # common of the first and the rest {2,3,3,4,5,6}: 2 and 3, so P 2/3, R 2/6, F1 = 2·2/(3+6)
    assert overlap(first, [second, third]) == pytest.approx(4 / 9)
    # {1,2,3,5,6} with 2,3,3,4: P 2/4, R 2/5
    assert overlap(second, [first, third]) == pytest.approx(4 / 9)
    assert overlap(third, [first, second]) == 0
    assert principal([first, second, third], 1) == [0]
    assert principal([third, second, first], 2) == [1, 2], "in the order of the text"


def test_the_shape_of_the_example_of_the_paper(it: Tiny) -> None:
    """ "Pegasus is mythical. [MASK1] It names the model." → "It is pure white."."""
    batch = it.batch([0])
    gap = it.tokenizer.convert_tokens_to_ids("<mask_1>")
    assert it.objective._gap == gap
    read = batch.inputs["ids"][0].tolist()
    assert read.count(gap) == 1 and read[-1] == it.tokenizer.eos_token_id
    place = read.index(gap)
    wanted = batch.targets[0].tolist()
    assert wanted[-1] == it.tokenizer.eos_token_id
    assert [*read[:place], *wanted[:-1], *read[place + 1 :]] == it.store.row(0).tolist()
    assert wanted[-2] in np.flatnonzero(it.objective._words.ends), "a whole sentence"


def test_as_many_sentences_are_left_out_as_is_said(it: Tiny) -> None:
    words = it.objective._words
    for share, choose, count in ((0.3, "principal", 1), (0.6, "random", 2), (0.99, "random", 2)):
        aim = it.objective.model_copy(update={"share": share, "choose": choose})
        seen = set[tuple[int, ...]]()
        for seed in range(20):
            batch = aim.collate(it.rows, np.array([0]), np.random.default_rng(seed))
            ids = batch.inputs["ids"][0]
            assert int((ids == it.objective._gap).sum()) == count, "and one stays"
            target = batch.targets[0].numpy()
            assert int(words.sentence_ends(target).sum()) == count
            seen.add(tuple(target.tolist()))
        assert len(seen) == (1 if choose == "principal" else 3)


def test_of_one_sentence_a_half_is_left_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    it = Tiny("pegasus", tmp_path_factory.mktemp("pegasus"), "gap_sentences", texts=["the film"])
    batch = it.batch([0])
    wanted, length = batch.targets[0].tolist(), int(it.store.lengths[0])
    assert 1 < len(wanted) < length and it.objective._gap in batch.inputs["ids"][0].tolist()


def test_the_loss_is_that_of_transformers(it: Tiny) -> None:
    """`PegasusForConditionalGeneration(labels)`."""
    batch = it.batch([0])
    assert it.mean(batch) == pytest.approx(it.loss_of_transformers(batch), rel=1e-5)
