"""How many of something, in words."""

from __future__ import annotations


def counted(n: int, one: str = "row", many: str | None = None) -> str:
    """A number with its noun: "1 row", "3 rows"; `one` may go on: "row has" beside "rows have"."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"
