"""How a finding is said, and what the findings of an inspection have in common."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from warmstart.counting import counted

SEVERE, WORTH, NOTE = "severe", "worth fixing", "note"

Facts = Mapping[str, Any]
Finding = dict[str, Any]


def one(kind: str, severity: str, rows: int, message: str, remedy: str) -> Finding:
    """One finding; `message` is a sentence, `remedy` what to do or type."""
    return {"kind": kind, "severity": severity, "message": message, "rows": rows, "remedy": remedy}


def command(facts: Facts, *flags: str) -> str:
    """`warmstart inspect DATA --fix …`, as it may be typed."""
    return " ".join(["warmstart inspect", shlex.quote(str(facts["data"])), *flags])


def fix_flag(facts: Facts) -> str:
    """`--fix NAME`, with a name to suggest."""
    return f"--fix {shlex.quote(facts['clean_name'])}"


def rows_that(n: int, singular: str = "has", plural: str = "have") -> str:
    """A number of rows with its verb: 1 row has, 3 rows have."""
    return counted(n, f"row {singular}", f"rows {plural}")
