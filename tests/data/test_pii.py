"""Personal data: found by form and check sum, never shown whole."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.profiling.pii import excerpt, find_pii, iban_holds, luhn, mask

KEY = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
FINDS = {
    "e-mail address": ["marta.fenwick@example.com", "a+b@mail.example.co.uk"],
    "phone number": ["+1 202-555-0143", "020 7946 0958", "(202) 555-0143", "+49 30 901820"],
    "card number": ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "IP address": ["203.0.113.77"],
    "key": [KEY, "AKIAIOSFODNN7EXAMPLE", "password: hunter2x", "-----BEGIN RSA PRIVATE KEY-----"],
}
FINE = [
    "@user thanks for the #follow",
    "Order 39117 of 2026-11-21, 3 for 2",
    "firmware 3.2.1.0 and section 1.2.3.4",
    "4111 1111 1111 1112 fails the check",
    "1,234,567.89 and 0.123456789",
    "in 1998-2004 ( Nagao and Mori , 1994 )",
    "ISSN 0255-2701",
    "my password: it does not work",
    "DE89 3704 0044 0532 0130 01 fails as well",
]


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, some in FINDS.items() for v in some])
def test_each_kind_is_found_and_hidden(kind: str, value: str):
    text = f"Please note {value} for later."
    (hit,) = find_pii(text)
    assert hit.kind == kind
    assert text[hit.start : hit.end] == value
    digits = "".join(c for c in value if c.isalnum())
    for shown in (hit.masked, mask(text), excerpt(text, hit)):
        assert value not in shown
        assert digits not in "".join(c for c in shown if c.isalnum())
        assert "*" in shown


@pytest.mark.parametrize("text", FINE)
def test_what_only_looks_like_it(text: str):
    assert find_pii(text) == []
    assert mask(text) == text


def test_an_excerpt_hides_its_neighbours_too():
    text = "write to ann@example.com or bob@example.com"
    first, second = find_pii(text)
    assert "bob@" not in excerpt(text, first) and "ann@" not in excerpt(text, second)
    assert find_pii("x") == []


@given(st.integers(10**11, 10**15))
def test_one_digit_completes_a_card_number(body: int):
    assert sum(luhn(f"{body}{digit}") for digit in range(10)) == 1


def test_the_check_sum_of_an_iban():
    assert iban_holds("DE89370400440532013000")
    assert not iban_holds("DE88370400440532013000")


@given(st.text(max_size=200))
def test_any_text_is_left_whole_around_its_finds(text: str):
    hits = find_pii(text)
    assert all(a.end <= b.start for a, b in pairwise(hits))
    if not hits:
        assert mask(text) == text


HOSTILE = (
    "password=", "-eyJabcdefgh", "a@b.co ", "123.45.67.89 ", "+49 30 1234567 ", "0 1", "xoxb-1",
    "4111 1111 1111 1111 ", "DE89 3704 0044 0532 0130 00 ", "a", "1", " ", ".", "-", "_", "@",
    "a@", "a.b", "a@b.", "eyJ", "0", "00", "1.", "1 ", "(0", "+1", "AB12", "AB12 ", "sk-",
    "hf_a1", "secret: a", "é", "\n", "a1b2-", "-----BEGIN ", "PRIVATE KEY", "api key = 1", "1-",
)  # fmt: skip
"""Pieces that, repeated, made a search through a text take time by the square of its length."""
QUICK, TIMES = 0.1, 2.6


def seconds(text: str) -> float:
    """The best of a few searches, in the time of this process alone."""
    took: list[float] = []
    for _ in range(3):
        begun = time.process_time()
        find_pii(text)
        took.append(time.process_time() - begun)
    return min(took)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "!", "a@", "="])
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_search_is_linear_in_the_length(piece: str, end: str) -> None:
    """Twice the text takes at most 2.6 times as long, where it takes any time worth measuring."""
    length = 100_000
    whole = seconds(piece * (2 * length // len(piece)) + end)
    assert whole < QUICK or whole <= TIMES * seconds(piece * (length // len(piece)) + end)
