"""Numbers with their nouns, and no "1 rows" anywhere in the package."""

from __future__ import annotations

import re
from pathlib import Path

from warmstart.formatting import counted

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "warmstart"


def test_one_is_not_many() -> None:
    assert [counted(n) for n in (0, 1, 2, 1_234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert counted(1, "class has", "classes have") == "1 class has"
    assert counted(2, "class has", "classes have") == "2 classes have"
    assert counted(1, "test row") == "1 test row"


def test_counts_with_thousands_are_put_into_words_in_one_place() -> None:
    """`{n:,} rows` says "1 rows"; shares ("3 of 10 rows") and constants are not counted here."""
    plain = re.compile(r"\{[a-z][^{}]*:,\} (?:test )?(?:rows|texts|pairs|labels|classes|values)\b")
    faults = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if plain.search(line)
    ]
    allowed = (
        "data/labels.py",
        "data/ledger.py",
        "evaluation/inspection/labels.py",
    )
    assert [fault for fault in faults if not fault.startswith(allowed)] == []
