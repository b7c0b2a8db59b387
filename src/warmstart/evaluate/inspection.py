"""`report.html` of an inspection: the look of a run's report, complete in itself, loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.evaluate.inspection_view import inspection_view
from warmstart.evaluate.report import page
from warmstart.evaluate.write import write_whole


def write_inspection(
    path: Path, summary: Mapping[str, Any], tables: Mapping[str, pa.Table]
) -> None:
    """Write the page of an inspection to `path`, whole or not at all."""
    write_whole(path, render_inspection(summary, tables))


def render_inspection(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The page as HTML text. Texts in `tables` are shown as they are, escaped."""
    return page("inspect.html.j2", inspection_view(summary, tables))
