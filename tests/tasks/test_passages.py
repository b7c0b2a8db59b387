"""Questions and contexts in windows, beside what transformers' own tokenizers make of them."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tiny import WORDS, tiny_tokenizer
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import RecipeError
from warmstart.tasks.extractive_qa.encoding import encode, layout_of, tokens_of, windows

LONGEST, STRIDE = 30, 6


def some(family: str) -> Any:
    made = tiny_tokenizer(family)
    made.add_special_tokens({"pad_token": "</s>"} if made.pad_token is None else {})
    return made


def passages(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    contexts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 90))) for _ in range(n)]
    questions = [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) for _ in range(n)]
    return questions, contexts


def store(tokenizer: Any, rows: Any, *, drop: bool = False, cut: Any = None) -> TokenizedDataset:
    questions, contexts, golds = rows
    return encode(questions, contexts, golds, tokenizer, LONGEST, stride=STRIDE, drop=drop,
                  on_cut=cut)  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "xlnet", "t5", "bart"])
def test_the_windows_of_transformers(family: str) -> None:
    tokenizer = some(family)
    questions, contexts = passages(20)
    tokenizer.padding_side = "right"
    theirs = tokenizer(
        questions, contexts, truncation="only_second", max_length=LONGEST, stride=STRIDE,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    ours = store(tokenizer, (questions, contexts, [None] * 20))
    assert ours.of_row is not None and ours.spans is not None
    assert ours.of_row.tolist() == theirs["overflow_to_sample_mapping"]
    for i, ids in enumerate(theirs["input_ids"]):
        assert ours.row(i).tolist() == ids
        parts, here = theirs.sequence_ids(i), slice(ours.offsets[i], ours.offsets[i + 1])
        spans = [
            list(span) if part == 1 else [-1, -1]
            for span, part in zip(theirs["offset_mapping"][i], parts, strict=True)
        ]
        assert ours.spans[here].tolist() == spans
    assert len(ours) > 20, "long contexts have several windows"


def test_token_types_are_the_templates_own() -> None:
    from tokenizers import processors

    tokenizer = some("bert")
    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    found = store(tokenizer, (["the film"], ["it was good"], [None]))
    assert found.types is not None
    assert found.types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert store(tokenizer, (["the film"], ["it was good"], [None])).types is None


@pytest.mark.parametrize(
    ("family", "nothing"), [("bert", 0), ("roberta", 0), ("xlnet", -1), ("gpt2", -1), ("llama", -1)]
)
def test_where_no_answer_points_to(family: str, nothing: int) -> None:
    tokenizer = some(family)
    layout = layout_of(tokenizer)
    assert layout.nothing == nothing
    found = store(tokenizer, (["the film"], ["it was good"], [[]]))
    assert found.targets.tolist() == [[nothing % len(found.ids)] * 2]
    end = found.ids[nothing]
    assert end in tokenizer.all_special_ids


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_reads_question_mark_context_end(family: str) -> None:
    tokenizer = some(family)
    words = tokenizer.convert_ids_to_tokens(
        store(tokenizer, (["the film"], ["it was good"], [None])).ids.tolist()
    )
    assert words == ["the", "film", "</s>", "it", "was", "good", "</s>"]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlnet", "gpt2"])
@pytest.mark.parametrize("drop", [False, True])
def test_targets_lead_back_to_the_answer(family: str, drop: bool) -> None:
    questions, contexts = passages(30, seed=1)
    rng, golds = random.Random(2), list[Any]()
    for context in contexts:
        words = context.split()
        first = rng.randrange(len(words))
        text = " ".join(words[first : first + 3])
        golds.append([{"text": text, "start": len(" ".join(words[:first])) + (first > 0)}])
    tokenizer = some(family)
    found = store(tokenizer, (questions, contexts, golds), drop=drop)
    assert found.of_row is not None and found.spans is not None
    nothing, seen = layout_of(tokenizer).nothing, set[int]()
    for i, (row, target) in enumerate(zip(found.of_row, found.targets, strict=True)):
        begin = found.offsets[i]
        gold = golds[row][0]
        ends = gold["start"], gold["start"] + len(gold["text"])
        spans = found.spans[begin : found.offsets[i + 1]]
        held = [int(np.any(spans[:, side] == ends[side])) for side in (0, 1)]
        if all(held):
            assert (spans[target[0], 0], spans[target[1], 1]) == ends
            seen.add(int(row))
        else:
            wanted = -100 if drop else nothing % len(spans)
            assert target.tolist() == [wanted] * 2
    assert seen == set(range(30)), "every answer of three words stands whole in some window"
    assert (len(found.taught) == len(found)) == (not drop)


def test_the_tokens_of_characters() -> None:
    (tokens,) = tokens_of(["the good film"], some("bert").backend_tokenizer)
    assert tokens.covered(4, 8) == (1, 1)
    assert tokens.covered(5, 11) == (1, 2), "a part of a word is the whole word"
    first, last = tokens.covered(3, 4)
    assert last < first, "a space is no token"


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 37])
@pytest.mark.parametrize("stride", [0, 3, 50])
def test_windows_cover_everything(length: int, stride: int) -> None:
    found = windows(length, 10, stride)
    assert {place for begin, end in found for place in range(begin, end)} == set(range(length))
    assert all(end - begin <= 10 for begin, end in found)
    shared = {one[1] - two[0] for one, two in pairwise(found)}
    assert shared <= {min(stride, 5)}
    assert found[-1][1] == length


def test_a_long_question_leaves_half_of_the_room() -> None:
    cut = list[tuple[int, int]]()
    tokenizer = some("bert")
    rows = (["the film"], ["it was good"], [None])
    long = ([" ".join(["the"] * 40)], rows[1], rows[2])
    found = store(tokenizer, long, cut=lambda row, tokens: cut.append((row, tokens)))
    assert cut == [(0, 40 - 13)]
    assert len(found.ids) == 3 + 13 + 3
    with pytest.raises(RecipeError, match="max_length 9 leaves 6 tokens"):
        encode(*rows, tokenizer, 9, stride=0, drop=False)


def test_the_tokenizer_is_left_as_it_was() -> None:
    backend = some("bert").backend_tokenizer
    backend.enable_truncation(5)
    backend.enable_padding()
    assert len(tokens_of(["the " * 20], backend)[0].ids) == 20
    assert backend.truncation["max_length"] == 5
    assert backend.padding is not None
