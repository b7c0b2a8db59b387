"""Preferences as rows: how they are read, dropped, encoded, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.ledger import Ledger
from warmstart.data.tokens.lost import Cut
from warmstart.errors import DataError
from warmstart.evaluation.baselines.rules import BagOfWords, Length
from warmstart.metrics.preference import PairAccuracy
from warmstart.models.generation import TokenScores
from warmstart.models.loading import load_tokenizer
from warmstart.tasks.base import Examples
from warmstart.tasks.preference.results import change_notes, length_notes
from warmstart.tasks.preference.task import Preference
from warmstart.tasks.reward import Reward

Folder = Callable[[str], Path]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(rows[0])
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    columns |= {"_file": ["a.jsonl"] * len(rows), "_line": [*range(1, len(rows) + 1)]}
    return pa.table(columns)


ROWS = [
    {"prompt": "the film", "chosen": "was great .", "rejected": "bad"},
    {"prompt": "the song was", "chosen": "good", "rejected": "awful food never again"},
    {"prompt": "this book", "chosen": "i liked it", "rejected": "i hated it ."},
]


def read(rows: list[dict[str, Any]], task: Any = None) -> tuple[pa.Table, list[tuple[int, str]]]:
    dropped: list[tuple[int, str]] = []
    formed = (task or Preference()).rows(table(rows), lambda row, why: dropped.append((row, why)))
    return formed, dropped


def tokenizer_of(tiny_of: Folder, family: str = "llama") -> Any:
    path = tiny_of(family)
    return load_tokenizer(SimpleNamespace(path=path, name=family))  # pyright: ignore[reportArgumentType]


def test_pairs_of_every_form_are_one() -> None:
    user, answer = (
        {"role": "user", "content": "the film"},
        [{"role": "assistant", "content": "bad"}],
    )
    chat = {"prompt": json.dumps([user]), "chosen": "was great .", "rejected": json.dumps(answer)}
    first, second = (read([row])[0].select(["prompt", "chosen", "rejected"]).to_pylist()
                     for row in (ROWS[0], chat))  # fmt: skip
    assert first == second


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "both answers are the same"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "no prompt"),
    ],
)
def test_a_row_that_says_nothing_is_dropped_with_the_reason(
    row: dict[str, Any], reason: str
) -> None:
    formed, dropped = read([*ROWS, row])
    assert len(formed) == 3 and dropped[0][0] == 3 and reason in dropped[0][1]


def test_only_the_answers_count_and_each_ends(tiny_of: Folder) -> None:
    tokenizer = tokenizer_of(tiny_of)
    formed, _ = read(ROWS)
    store = Preference().encode(formed, [], tokenizer, 64)
    chosen = store.answers
    assert chosen is not None and chosen.answers is not None
    prompt = tokenizer.decode(store.row(0))
    assert prompt.split()[-2:] != ["was", "great"] and "film" in prompt
    for answers, name in ((chosen, "chosen"), (chosen.answers, "rejected")):
        for row, own in enumerate(ROWS):
            ids = answers.row(row).tolist()
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(ids[:-1]).split() == own[name].split()


def test_a_prompt_that_is_too_long_is_dropped_in_training(tiny_of: Folder) -> None:
    """Trap 12: and cut, from its beginning, where a saved model is asked."""
    tokenizer = tokenizer_of(tiny_of)
    long = {"prompt": "the film " * 30, "chosen": "was great .", "rejected": "bad"}
    formed, _ = read([ROWS[0], long])
    ledger = Ledger()
    ledger.read("a.jsonl", 2)
    ledger.keep("train", 2)
    cut = Cut(formed, ledger)
    store = Preference(max_length=24).encode(formed, [], tokenizer, 24, cut)
    left, store = cut.left("train", formed, store)
    assert len(left) == len(store) == 1
    (reason,) = ledger.summary()["dropped"]
    assert "more than task.max_length 24" in reason and ledger.summary()["splits"] == {"train": 1}
    lost: list[tuple[int, int]] = []
    store = Preference().encode(formed, [], tokenizer, 24, lambda *what: lost.append(what))
    assert lost[0][0] == 1 and int(store.sizes[1]) <= 24


def test_nothing_left_is_said(tiny_of: Folder) -> None:
    formed, _ = read([{"prompt": "the film " * 30, "chosen": "was great .", "rejected": "bad"}])
    ledger = Ledger()
    cut = Cut(formed, ledger)
    store = Preference().encode(formed, [], tokenizer_of(tiny_of), 24, cut)
    with pytest.raises(DataError, match="its only row was left out: a prompt and an answer of"):
        cut.left("train", formed, store)


def test_a_margin_is_read_and_a_word_in_its_place_refused() -> None:
    formed, _ = read([{**row, "margin": value} for row, value in zip(ROWS, "124", strict=True)])
    assert Reward().targets(formed, []).tolist() == [1, 2, 4]  # pyright: ignore[reportOptionalMemberAccess]
    formed, _ = read([{**ROWS[0], "margin": "much"}])
    with pytest.raises(DataError, match="a.jsonl:1: the margin is no number"):
        Reward().targets(formed, [])


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_reward_model_reads_prompt_and_answer(family: str, tiny_of: Folder) -> None:
    tokenizer = tokenizer_of(tiny_of, family)
    config = {"model_type": family}
    task = Reward().resolve_for_base(config, 64)
    formed, _ = read(ROWS, task)
    store = task.encode(formed, ["reward"], tokenizer, 64)
    assert store.answers is not None and store.answers.answers is None
    alone, _ = read([{"prompt": r["prompt"], "answer": r["rejected"]} for r in ROWS], task)
    single = task.encode(alone, ["reward"], tokenizer, 64)
    assert single.answers is None and single.ids.tolist() == store.answers.ids.tolist()
    if family == "llama":
        assert store.row(0)[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id


def test_ties_count_half_and_a_model_that_says_nothing_has_a_half() -> None:
    figures = PairAccuracy()(np.array([[1.0, 0], [0, 1], [2, 2], [3, 1]]), None)
    assert figures["accuracy"] == 2.5 / 4 and figures["ties"] == 1 / 4
    assert PairAccuracy()(np.zeros((5, 2)), None)["accuracy"] == 0.5


def test_sum_and_mean_of_a_token_may_disagree() -> None:
    """Trap 26: lengths 2 and 5."""
    nothing = np.zeros((1, 2))
    scores = TokenScores(np.array([[3.0, 5.0]]), nothing, nothing, np.array([[2, 5]]))
    by_sum, by_token = (Preference(normalise=how).score(scores, None)  # pyright: ignore[reportArgumentType]
                        for how in ("sum", "token"))  # fmt: skip
    assert by_sum["accuracy"] == by_token["accuracy_sum"] == 1
    assert by_sum["accuracy_token"] == by_token["accuracy"] == 0


def test_baselines_of_words_and_length() -> None:
    formed, _ = read(ROWS)
    examples: Any = Examples(formed, None, [], None)  # pyright: ignore[reportArgumentType]
    words, length = BagOfWords(None, 0, 0).fit(examples), Length(None, 0, 0).fit(examples)
    assert length.title == "the shorter answer"  # two of three
    assert PairAccuracy()(length.predict(examples), None)["accuracy"] == pytest.approx(2 / 3)
    assert PairAccuracy()(words.predict(examples), None)["accuracy"] == 1
    (unseen,) = words.predict(Examples(read([{"prompt": "a", "chosen": "x", "rejected": "y"}])[0],
                                       None, [], None))  # fmt: skip  # pyright: ignore[reportArgumentType]
    assert unseen.tolist() == [0, 0]


def test_a_chosen_answer_that_becomes_less_likely_is_said() -> None:
    """Trap 28."""
    before = np.array([[-10.0, -10.0], [-12.0, -11.0]])
    (note,) = change_notes(before + np.array([[-2, -9], [-1, -8]]), before)
    assert "chosen answers themselves became less likely, by 1.5 nats" in note
    assert not change_notes(before + np.array([[1, -9], [1, -8]]), before)


def test_a_model_that_likes_length_is_said() -> None:
    (note,) = length_notes({"longer": [0.5, 0.9]})
    assert "prefers the longer answer in 90 % of the pairs, people in 50 %" in note
    (note,) = length_notes({"longer": [0.5, 0.1]})
    assert "prefers the shorter answer in 90 %" in note
    assert not length_notes({"longer": [0.5, 0.55]})


@pytest.mark.parametrize(
    ("name", "length", "words"),
    [("politeness_pref", 0.528, 0.931), ("qa_feedback_pref", 0.5, 0.557),
     ("hh_harmless", 0.561, 0.606)],
)  # fmt: skip
def test_the_baselines_of_real_data(
    name: str, length: float, words: float, shared_data: Path
) -> None:
    parts: dict[str, Any] = {}
    for split in ("train", "test"):
        lines = (shared_data / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            row["prompt"] = row["prompt"] if isinstance(row["prompt"], str) else json.dumps(
                row["prompt"])  # fmt: skip
        parts[split] = Examples(read(rows)[0], None, [], None)  # pyright: ignore[reportArgumentType]
    for baseline, wanted in ((Length, length), (BagOfWords, words)):
        scores = baseline(None, 0, 0).fit(parts["train"]).predict(parts["test"])
        assert PairAccuracy()(scores, None)["accuracy"] == pytest.approx(wanted, abs=6e-4)
