"""What holds for every text: round trips, offsets, and what is marked as unknown."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenization.corpora import CASES, trained
from warmstart.tokenization.comparison import look

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WRITTEN = st.text(st.sampled_from("the parcelKäéßçà .,!'()0123 \n\t漢字かな\u0301🙂İﬁ<s>|[]▁Ġ#"),
                  max_size=60)  # fmt: skip
TEXTS = st.one_of(ANY, WRITTEN)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
@pytest.mark.parametrize("normalize", ["nfc", "nfkc", "nfd", None])
def test_byte_level_gives_the_normalised_text_back(normalize: Any, text: str):
    tokenizer = trained("bpe", "level", normalize).backend
    # A spelled-out special token, as <s>, is kept as it stands; there is none in these texts but
    # by the rarest chance, and then its letters are the same.
    ids = tokenizer.encode(text).ids
    wanted = unicodedata.normalize(normalize.upper(), text) if normalize else text
    assert tokenizer.decode(ids, skip_special_tokens=False) == wanted


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_byte_level_gives_small_letters_back(text: str):
    tokenizer = trained("bpe", "level", None, lowercase=True).backend
    back = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    normaliser = tokenizer.normalizer
    assert normaliser is not None
    assert back == normaliser.normalize_str(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_characters_with_bytes_give_the_text_back(text: str):
    tokenizer = trained("char", "fallback", None).backend
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(("kind", "how"), CASES)
@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_offsets_point_into_the_text_and_never_go_back(kind: str, how: str, text: str):
    found = look(text, trained(kind, how))
    last = (0, 0)
    for piece in found.pieces:
        assert 0 <= piece.start <= piece.end <= len(text)
        assert (piece.start, piece.end) >= last or piece.start >= last[0]
        assert piece.end >= last[1]
        assert piece.text == text[piece.start : piece.end]
        last = (piece.start, piece.end)


@pytest.mark.parametrize(("kind", "how"), CASES)
@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_nothing_but_white_space_and_controls_is_left_out(kind: str, how: str, text: str):
    left = look(text, trained(kind, how)).lost
    assert [c for c in left if unicodedata.category(c)[0] != "C"] == []


@pytest.mark.parametrize(("kind", "how"), CASES)
@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_unknown_is_what_has_no_piece_of_its_own(kind: str, how: str, text: str):
    tokenizer = trained(kind, how)
    pieces = look(text, tokenizer).pieces
    for piece in pieces:
        assert not (piece.unknown and piece.special)
        assert piece.unknown == (piece.id == tokenizer.unknown and piece.text != "<unk>")
        if how != "off":
            assert not piece.unknown
    if kind == "char":
        letters = {c for c in tokenizer.backend.get_vocab() if len(c) == 1}
        plain = unicodedata.normalize("NFC", text)
        if "<" not in plain and how == "off":
            assert [piece.unknown for piece in pieces] == [c not in letters for c in plain]
