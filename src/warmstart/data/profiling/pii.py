"""Personal data and secrets that should not be in training text, found by pattern and checksum.

A model can repeat what it was trained on. Patterns find what has a form (an address, a number, a
key); names and street addresses have none, so no hit is no promise.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

MIGHT = re.compile(
    r"@|\d[\d ()./-]{5,}\d|[A-Z]{2}\d\d|\d\.\d+\.\d+\.\d|[_-][A-Za-z0-9]{8}|AKIA|AIza|eyJ"
    r"|PRIVATE KEY|(?i:passw|pwd|secret|token|api.?key)"
)

WINDOW = 4_000
"""Characters on each side of a hit in which others are looked for."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A piece of personal data: its kind, where it stands, and itself with its middle hidden."""

    kind: str
    start: int
    end: int
    masked: str


def luhn(digits: str) -> bool:
    """The check sum of payment cards (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2
        total += digit if place % 2 == 0 else doubled - 9 * (doubled > 9)
    return total % 10 == 0


def iban_holds(text: str) -> bool:
    """The length and the check sum of an IBAN (ISO 13616, mod 97)."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    is_serial = re.fullmatch(r"\d{4}-\d{4}(/\d+)?", text)  # the ISSN of a journal
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2 and not is_serial


def _is_ip_address(text: str) -> bool:
    """An address of the internet, not a version or a section number: one part is above 30."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified) and max(address.packed) > 30


PATTERNS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool] | None], ...] = (
    ("key", re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
        r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}|\bgh[pousr]_[A-Za-z0-9]{30,}"
        r"|\bgithub_pat_\w{40,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{30,}"
        r"|\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{20,}"
        r"|(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"
        r"|\b(?i:password|passwd|pwd|api[_ -]?key|secret|access[_ -]?token)\s*[:=]\s*"
        r"(?=\S{0,200}\d)(?=\S{0,200}[A-Za-z])[^\s,;]{6,}"), None),
    ("e-mail address", re.compile(
        r"(?<![\w.+-])[\w.+-]+@[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
     None),
    ("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"),
     iban_holds),
    ("card number", re.compile(
        r"(?<![\w.-])[2-6](?:\d{12,18}|\d{3}(?:[ -]\d{4}){3}(?:[ -]\d{3})?"
        r"|\d{3}[ -]\d{6}[ -]\d{4,5})(?![\w-])"), _is_card),
    ("IP address", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"), _is_ip_address),
    ("phone number", re.compile(
        r"(?<![\w.,+-])(?:\+|(?<!\d )00)[1-9]\d{0,2}(?:[ ()./-]{0,2}\d){6,13}(?![\w-])"
        r"|(?<![\w.,+-])(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?![\w-])"
        r"|(?<![\w.,+-])(?<!\d )\(?0[1-9]\d{1,4}\)?(?:[ /-]?\d){5,8}(?![\w-])"), _is_phone),
)  # fmt: skip


def find_pii(text: str) -> list[Hit]:
    """What looks like personal data or a secret in a text, in order, without overlaps."""
    if not MIGHT.search(text):
        return []
    hits: list[Hit] = []
    for kind, pattern, is_valid in PATTERNS:
        starts, fresh = [hit.start for hit in hits], list[Hit]()
        for match in pattern.finditer(text):
            start, end = match.span()
            place = bisect_left(starts, start)
            free = (place == len(hits) or end <= hits[place].start) and (
                place == 0 or hits[place - 1].end <= start
            )
            if free and (is_valid is None or is_valid(match[0])):
                fresh.append(Hit(kind, start, end, hide(kind, match[0])))
        hits = sorted([*hits, *fresh], key=lambda hit: hit.start)
    return hits


def hide(kind: str, value: str) -> str:
    """The value with all but its ends replaced: j***@e***.com, 4*** **** **** **42."""
    if kind == "e-mail address":
        name, _, host = value.partition("@")
        return f"{name[0]}***@{host[0]}***.{host.rpartition('.')[2]}"
    if kind == "key":
        return value[:4] + "***"
    places = [place for place, c in enumerate(value) if c.isalnum()]
    visible = {*places[:2], *places[-2:]} if kind != "IP address" else {*places[:1]}
    return "".join("*" if c.isalnum() and i not in visible else c for i, c in enumerate(value))


def mask(text: str) -> str:
    """The text with all personal data hidden; other text as it is."""
    parts: list[str] = []
    end = 0
    for hit in find_pii(text):
        parts += [text[end : hit.start], hit.masked]
        end = hit.end
    return "".join([*parts, text[end:]])


def excerpt(text: str, hit: Hit, around: int = 40) -> str:
    """The hit, hidden, with a little of what stands around it; other hits are hidden too."""
    before = mask(text[max(hit.start - WINDOW, 0) : hit.start])
    after = mask(text[hit.end : hit.end + WINDOW])
    left = before if len(before) <= around else "…" + before[-around:]
    right = after if len(after) <= around else after[:around] + "…"
    return " ".join(f"{left}{hit.masked}{right}".split())
