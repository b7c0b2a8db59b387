"""T5: spans are cut out, and written behind their sentinels."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining import Tiny
from warmstart.objectives.span_corruption import cut_spans, noise_mask

WORDS = "Thank you for inviting me to your party last week".split()
SENTINELS = [101, 100, 99]
X, Y, Z = SENTINELS


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny("t5", tmp_path_factory.mktemp("t5"), "span_corruption")


def test_the_example_of_the_paper() -> None:
    """Raffel et al. 2020, figure 2: "Thank you <X> me to your party <Y> week" → "<X> for inviting
    <Y> last <Z>"."""
    ids = np.arange(len(WORDS))
    noise = np.array([word in ("for", "inviting", "last") for word in WORDS])
    read, wanted = cut_spans(ids, noise, SENTINELS)
    assert read.tolist() == [0, 1, X, 4, 5, 6, 7, Y, 9]
    assert wanted.tolist() == [X, 2, 3, Y, 8, Z]


def filled(read: list[int], wanted: list[int], sentinels: list[int]) -> list[int]:
    """The text, with what was written behind each sentinel in its place."""
    spans: dict[int, list[int]] = {}
    for token in wanted:
        if token in sentinels:
            spans[token] = own = []
        else:
            own.append(token)  # pyright: ignore[reportPossiblyUnbound]
    assert list(spans) == sentinels[: len(spans)], "in their order"
    assert not spans.pop(list(spans)[-1]), "the last one ends it"
    return [t for token in read for t in spans.get(token, [token])]


def test_filled_back_a_thousand_rows_are_the_originals() -> None:
    rng = np.random.default_rng(0)
    sentinels = list(range(2_000, 1_900, -1))
    hidden = tokens = count = 0
    for _ in range(1_000):
        ids = rng.integers(0, 1_900, int(rng.integers(2, 600)))
        noise = noise_mask(len(ids), 0.15, 3.0, rng, len(sentinels) - 1)
        read, wanted = cut_spans(ids, noise, sentinels)
        assert filled(read.tolist(), wanted.tolist(), sentinels) == ids.tolist()
        assert noise.sum() == max(1, round(0.15 * len(ids))) and not noise[0]
        hidden, tokens = hidden + noise.sum(), tokens + len(ids)
        count += (np.diff(noise.astype(int)) == 1).sum()
    assert hidden / tokens == pytest.approx(0.15, abs=0.002)
    assert hidden / count == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("share", "span"), [(0.15, 3.0), (0.5, 3.0), (0.9, 1.0), (0.15, 20.0)])
def test_rows_of_a_real_tokenizer_filled_back(it: Tiny, share: float, span: float) -> None:
    aim = it.objective.model_copy(update={"share": share, "span": span})
    sentinels = [*it.objective._words.sentinels]
    assert it.tokenizer.convert_ids_to_tokens(sentinels[:2]) == ["<extra_id_0>", "<extra_id_1>"]
    batch = aim.collate(it.rows, np.arange(len(it.rows)), np.random.default_rng(1))
    for row in range(len(it.rows)):
        read = batch.inputs["ids"][row][batch.inputs["mask"][row].bool()].tolist()
        wanted = batch.targets[row][batch.targets[row] != -100].tolist()
        end = it.tokenizer.eos_token_id
        assert read.pop() == wanted.pop() == end
        assert [*filled(read, wanted, sentinels), end] == it.store.row(row).tolist()


def test_the_loss_is_that_of_transformers(it: Tiny) -> None:
    """`T5ForConditionalGeneration(labels)`, which makes the decoder's inputs itself."""
    batch = it.batch(np.arange(6))
    assert it.mean(batch) == pytest.approx(it.loss_of_transformers(batch), rel=1e-5)
    assert int(batch.weight) == int((batch.targets != -100).sum())
