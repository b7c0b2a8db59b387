"""How many of something, in words."""

from __future__ import annotations


def counted(n: int, noun: str = "row", plural: str | None = None) -> str:
    """A number with its noun: "1 row", "3 rows"; `noun` may go on: "row has" beside "rows have"."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
