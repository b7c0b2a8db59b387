"""Documents in windows: tokens in are tokens out, for every kind of tokenizer and model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pretraining import documents, tokenizer_folder
from warmstart.data.tokens.windows import affixes, document_windows, separator_of
from warmstart.errors import RecipeError

TEXTS = [*documents(12, seed=2), "", "the", " ".join(documents(6, seed=4))]
KINDS = {
    "bert": "WordPiece", "roberta": "BPE", "albert": "Unigram", "gpt2": "BPE", "llama": "BPE",
    "t5": "Unigram", "bart": "BPE", "xlnet": "Unigram",
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("words") / request.param
    made: Any = AutoTokenizer.from_pretrained(tokenizer_folder(request.param, folder))
    assert type(made.backend_tokenizer.model).__name__ == KINDS[request.param]
    return made


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def windows(tokenizer: Any, longest: int, **how: Any) -> Any:
    return document_windows(pa.chunked_array([TEXTS[:5], TEXTS[5:]]), tokenizer, longest, **how)


def inside(tokenizer: Any, store: Any, row: int) -> list[int]:
    """What a window has of its document: of a decoder what it predicts."""
    before, behind = affixes(tokenizer)
    ids = store.row(row).tolist()
    if not behind:
        return ids[1:]
    assert ids[: len(before)] == before and ids[len(ids) - len(behind) :] == behind
    return ids[len(before) : len(ids) - len(behind)]


def test_split_windows_are_the_documents(tokenizer: Any) -> None:
    store = windows(tokenizer, 24)
    decodes = not affixes(tokenizer)[1]
    assert store.lengths.max() == 24 + decodes
    for number, text in enumerate(TEXTS):
        rows = np.flatnonzero(store.of_row == number)
        own = [token for row in rows for token in inside(tokenizer, store, int(row))]
        assert own == ids_of(tokenizer, text) + [separator_of(tokenizer)] * decodes
        for row, after in pairwise(rows) if decodes else ():
            assert store.row(row)[-1] == store.row(after)[0], "goes on where the last one ended"


def test_joined_windows_are_the_documents_one_after_the_other(tokenizer: Any) -> None:
    store = windows(tokenizer, 24, joined=True)
    decodes = not affixes(tokenizer)[1]
    full = store.lengths[:-1]
    assert (full == full.max()).all() and full.max() == 24 + decodes, "all but the last are full"
    stream = [token for row in range(len(store)) for token in inside(tokenizer, store, row)]
    before, behind = affixes(tokenizer)
    end = [separator_of(tokenizer)] if decodes else behind[:1]
    begin = before if decodes else []
    expected, owner = list[int](), list[int]()
    for number, text in enumerate(TEXTS):
        own = [*(begin if number else []), *ids_of(tokenizer, text), *end]
        expected, owner = expected + own, owner + [number] * len(own)
    whole = expected if decodes else expected[:-1]  # the last window's own end
    assert stream == whole
    room = len(inside(tokenizer, store, 0))
    assert store.of_row.tolist() == [owner[at] for at in range(0, len(whole), room)]


@pytest.mark.parametrize("long", ["crop", "drop"])
def test_what_is_cut_is_told(tokenizer: Any, long: Any) -> None:
    told = dict[int, int]()
    store = windows(tokenizer, 24, long=long, on_cut=told.__setitem__)
    decodes = not affixes(tokenizer)[1]
    assert all(tokens > 0 for tokens in told.values()) and len(told) > 2
    ends = separator_of(tokenizer) if decodes else -1
    for number, text in enumerate(TEXTS):
        ids, rows = ids_of(tokenizer, text), np.flatnonzero(store.of_row == number)
        kept = [t for row in rows for t in inside(tokenizer, store, int(row)) if t != ends]
        assert kept == ids[: len(kept)]
        assert len(kept) + told.get(number, 0) == len(ids)
        assert len(rows) <= 1
        if long == "drop" and number in told:
            assert not kept


def test_a_document_that_just_fits(tokenizer: Any) -> None:
    """Of a decoder its end has no room: cropped, nothing but the end is lost, and nothing told."""
    ids = ids_of(tokenizer, TEXTS[0])
    before, behind = affixes(tokenizer)
    longest = len(ids) + len(before) + len(behind) if behind else len(ids)
    told: list[int] = []
    store = document_windows(pa.chunked_array([TEXTS[:1]]), tokenizer, longest, long="crop",
                             on_cut=lambda _, tokens: told.append(tokens))  # fmt: skip
    assert len(store) == 1 and not told and inside(tokenizer, store, 0) == ids


def test_no_room_is_refused(tokenizer: Any) -> None:
    before, behind = affixes(tokenizer)
    if behind:
        with pytest.raises(RecipeError, match="leaves no room"):
            windows(tokenizer, len(before) + len(behind))


def test_positions_begin_anew_in_each_window(tmp_path: Path) -> None:
    """Trap 15: a window that is read alone says what it says beside others."""
    import torch

    from pretraining import Tiny

    it = Tiny("gpt2", tmp_path, "clm")
    batch = it.batch([0, 5])
    assert set(batch.inputs) == {"ids", "mask"}
    with it.forward.evaluating():
        both: Any = it.forward.forward(batch)
        alone: Any = it.forward.forward(it.batch([5]))
    length = alone.hidden.shape[1]
    torch.testing.assert_close(both.hidden[1, :length], alone.hidden[0], atol=1e-5, rtol=1e-4)
    positions = torch.arange(length)
    with torch.no_grad():
        shifted = it.model.transformer(
            input_ids=it.batch([5]).inputs["ids"], position_ids=positions[None] + 7
        ).last_hidden_state
    assert not torch.allclose(shifted[0], alone.hidden[0], atol=1e-3), "and they matter"


def test_a_decoder_whose_tokenizer_ends_texts_reads_one_stream(tokenizer: Any) -> None:
    """What decides is the model, not whether the tokenizer puts something behind a text."""
    store = document_windows(pa.chunked_array([TEXTS]), tokenizer, 24, decodes=True)
    before, behind = affixes(tokenizer)
    end = behind[0] if behind else separator_of(tokenizer)
    for number, text in enumerate(TEXTS):
        rows = [store.row(int(row)).tolist() for row in np.flatnonzero(store.of_row == number)]
        predicted = [token for row in rows for token in row[1:]]
        begun = (before or [end])[1:]
        assert predicted == [*begun, *ids_of(tokenizer, text), end]
