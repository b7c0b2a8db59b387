"""How many and how long in words, and texts that cannot steer a terminal."""

from __future__ import annotations

import re

CONTROL = re.compile(r"\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
"""Control characters of a text, but for line ends, tabs and colours."""


def harmless(text: str) -> str:
    """The text with its control characters as numbers: \\u001b."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def counted(n: int, noun: str = "row", plural: str | None = None) -> str:
    """A number with its noun: "1 row", "3 rows"; `noun` may go on: "row has" beside "rows have"."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Seconds as one reads them: "8.4 s", "2 min 05 s", "1 h 20 min"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
