"""Texts in windows: every token once, with its characters, where it has most context."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tiny import tiny_tokenizer
from warmstart.data.tokens.encoding import owners, tokenise_windows, window_starts
from warmstart.errors import RecipeError

TEXTS = ["the film was good", "", "i liked this great movie !", "one two three four " * 20]
BERT = tiny_tokenizer("bert").backend_tokenizer


def trained(kind: str) -> Tokenizer:
    """A byte-level or a SentencePiece-like tokenizer that splits words into pieces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["naïve Paris 🙂 parser parsing, the the the"] * 3, trainer)
    return tokenizer


def test_short_texts_are_as_the_tokenizer_gives_them() -> None:
    store = tokenise_windows(TEXTS[:3], BERT, 64)
    assert [store.row(i).tolist() for i in range(3)] == [BERT.encode(t).ids for t in TEXTS[:3]]
    assert store.of_row is not None and store.of_row.tolist() == [0, 1, 2]
    assert store.by_token and (store.targets == -100).all()
    assert len(store.targets) == len(store.ids) == len(store.spans)


@pytest.mark.parametrize("kind", ["bytes", "spaces"])
def test_spans_are_the_characters_without_leading_space(kind: str) -> None:
    text = " the  parser in Paris 🙂\tnaïve"
    store = tokenise_windows([text], trained(kind), 100)
    pieces = [text[a:b] for a, b in store.spans if b > a]
    assert not any(piece[0].isspace() for piece in pieces)
    assert {c for piece in pieces for c in piece} == {c for c in text if not c.isspace()}
    assert any(piece == "🙂" for piece in pieces)


@pytest.mark.parametrize("stride", [None, 0, 3, 8])
def test_a_long_text_stands_in_windows_exactly_once(stride: int | None) -> None:
    store = tokenise_windows(TEXTS, BERT, 20, stride)
    assert store.lengths.max() == 20
    assert store.spans is not None and store.of_row is not None
    for row, text in enumerate(TEXTS):
        windows = [i for i in range(len(store)) if store.of_row[i] == row]
        whole = BERT.encode(text)
        spans = [
            tuple(span)
            for i in windows
            for span in store.spans[store.offsets[i] : store.offsets[i + 1]].tolist()
            if span[1] > span[0]
        ]
        assert spans == whole.offsets[1:-1]
        for i in windows:
            ids = store.row(i).tolist()
            assert (ids[0], ids[-1]) == (whole.ids[0], whole.ids[-1])
    assert len(store) > len(TEXTS)


@given(st.integers(2, 400), st.integers(2, 60), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_every_token_is_answered_where_it_has_most_context(
    tokens: int, room: int, stride: int
) -> None:
    stride = min(stride, room - 1)
    starts = window_starts(tokens, room, stride)
    ends = [min(tokens, int(start) + room) for start in starts]
    assert starts[0] == 0 and ends[-1] == tokens
    assert all(end - nxt >= stride for end, nxt in zip(ends, starts[1:], strict=False))

    def context(token: int, window: int) -> float:
        left = token - starts[window] if window else float("inf")
        right = ends[window] - 1 - token if window < len(starts) - 1 else float("inf")
        return min(left, right)

    for token, window in enumerate(owners(tokens, starts, room)):
        assert starts[window] <= token < ends[window]
        there = [i for i in range(len(starts)) if starts[i] <= token < ends[i]]
        assert context(token, window) == max(context(token, i) for i in there)


def test_no_room_is_refused() -> None:
    with pytest.raises(RecipeError, match="max_length 2 leaves no room"):
        tokenise_windows(["good film"], BERT, 2)
    with pytest.raises(RecipeError, match="task.stride 18 leaves a window of 18 tokens nothing"):
        tokenise_windows(["short"], BERT, 20, 18)


def test_the_tokenizer_keeps_its_settings() -> None:
    tokenizer = tiny_tokenizer("bert").backend_tokenizer
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding(length=9)
    before = (tokenizer.truncation, tokenizer.padding)
    tokenise_windows(TEXTS, tokenizer, 20)
    assert (tokenizer.truncation, tokenizer.padding) == before
