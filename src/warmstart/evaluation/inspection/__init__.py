"""An inspection of data: a list of checks, each of which looks at a `Context` and gives a
`CheckResult`. A new check is a function in this list; its findings, facts and tables are shown by
the page, the terminal and the JSON without more ado."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from warmstart.evaluation.inspection.base import SEVERITIES, CheckResult, Context
from warmstart.evaluation.inspection.duplicates import (
    check_conflicts,
    check_leakage,
    check_repeats,
)
from warmstart.evaluation.inspection.labels import (
    check_balance,
    check_label_errors,
    check_labels,
    check_learning_curve,
    check_shortcuts,
)
from warmstart.evaluation.inspection.texts import (
    check_characters,
    check_columns,
    check_files,
    check_language,
    check_lengths,
    check_pii,
)

CHECKS: tuple[Callable[[Context], CheckResult], ...] = (
    check_labels,
    check_leakage,
    check_shortcuts,
    check_conflicts,
    check_label_errors,
    check_pii,
    check_repeats,
    check_balance,
    check_learning_curve,
    check_lengths,
    check_characters,
    check_language,
    check_columns,
    check_files,
)
"""In the order in which findings of one severity stand."""


def run_checks(context: Context) -> CheckResult:
    """The results of all checks in one, the gravest findings first."""
    result = CheckResult({"rows": len(context.source.table), "splits": context.source.sizes})
    for check in CHECKS:
        part = check(context)
        result.facts |= part.facts
        result.findings += part.findings
        result.tables |= part.tables
        result.lines |= part.lines
        result.files |= part.files
    result.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    result.tables["findings"] = pa.Table.from_pylist([f._asdict() for f in result.findings])
    return result
