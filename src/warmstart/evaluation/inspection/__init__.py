"""An inspection of data: a list of checks, each of which looks at a `Context` and gives a
`CheckResult`. A new check is a function in this list; its findings, facts and tables are shown by
the page, the terminal and the JSON without more ado."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from warmstart.evaluation.inspection import labels, tasks, texts
from warmstart.evaluation.inspection.base import SEVERITIES, CheckResult, Context

CHECKS: tuple[Callable[[Context], CheckResult], ...] = (
    labels.check_labels,
    tasks.check_task,
    texts.check_leakage,
    labels.check_shortcuts,
    texts.check_conflicts,
    labels.check_label_errors,
    texts.check_pii,
    texts.check_repeats,
    labels.check_balance,
    labels.check_learning_curve,
    texts.check_lengths,
    texts.check_characters,
    texts.check_language,
    texts.check_columns,
    texts.check_files,
)
"""In the order in which findings of one severity stand."""


def run_checks(context: Context) -> CheckResult:
    """The results of all checks in one, the gravest findings first."""
    source = context.source
    result = CheckResult({"data": context.data, "out": str(context.out)})
    result.facts |= {"clean_name": context.clean_name, "base": context.base.name}
    result.facts |= {"rows": len(source.table), "splits": source.sizes}
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
