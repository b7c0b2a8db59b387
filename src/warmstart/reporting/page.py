"""`report.html`: one file that says how good the model is, how far to trust it, what to do next.

It loads nothing: style, script and charts are inside. A content security policy forbids network
and any script but ours (by its hash), and every text from the data is escaped besides.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from warmstart.evaluation import sentences as words
from warmstart.files import write_text
from warmstart.formatting import counted
from warmstart.reporting import charts
from warmstart.reporting.view import BRIEF, view
from warmstart.types import RunReport, Score

TEMPLATES = Path(__file__).parent / "templates"
LONG = 60  # characters of a label from which it stands on a line of its own, or is cut in a table


def write_report(path: Path, report: RunReport) -> None:
    """Write the page of a run to `path`, whole or not at all. What the report lacks is left out."""
    write_text(path, render(report))


def render(report: RunReport) -> str:
    """The page as HTML text."""
    return page("report.html.j2", view(report))


def page(template: str, facts: Mapping[str, Any], filters: Mapping[str, Any] | None = None) -> str:
    """A page of any kind in the look of the report, with style and script inside."""
    style, script = ((TEMPLATES / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    look = environment(autoescape=True)
    look.globals.update(BRIEF=BRIEF, LONG=LONG)
    look.filters.update(
        count="{:,}".format, tight=_tight, plain=_plain, place=_place, soft=_soft, sure=_sure,
        share=lambda value: _tight(words.share(value)),
        level=lambda value: _tight(words.percent(value)),
        capital=words.title, bar=_bar, **(filters or {}),
    )  # fmt: skip
    return look.get_template(template).render(
        facts, style=Markup(style), script=Markup(script), script_hash=f"sha256-{digest}"
    )


_compiled: dict[tuple[str, str], Any] = {}


class Compiled(BytecodeCache):
    """Templates as this process first compiled them, which takes longer than to fill them."""

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = _compiled.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        _compiled[bucket.key, bucket.checksum] = bucket.code


def environment(*, autoescape: bool) -> Environment:
    """Jinja with missing names refused, and what every kind of report writes alike."""
    look = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        bytecode_cache=Compiled(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    look.filters.update(score=words.figure, counted=counted, between=_between)
    return look


def _between(score: Score) -> str:
    """The interval of a score in words."""
    return words.between(score.low, score.high)


def _sure(value: float) -> str:
    """A confidence, never rounded up to certainty."""
    return _tight("over 99.9 %" if value >= 0.9995 else f"{100 * value:.1f} %")


def _bar(score: Score, main: bool = True) -> Markup:
    """A score with its interval as a drawn bar."""
    return charts.interval_bar(score.value, score.low, score.high, main)


def _tight(text: str) -> str:
    """A sentence whose figures do not break from their signs at the end of a line."""
    text = re.sub(r"(?<=\d) %", "\u00a0%", text)
    return re.sub(r"\bp ([<=]) (?=\d)", "p\u00a0\\1\u00a0", text)


def _soft(label: str, most: int = LONG) -> Markup:
    """A label that may break after an underscore, slash or dash; escaped.

    Of a label of more than `most` characters the beginning, with all of it as its title.
    """
    short = label if len(label) <= most else label[: most - 1] + "…"
    text = Markup(re.sub(r"([_/.-])(?=\w)", r"\1<wbr>", str(escape(short))))
    return text if short == label else Markup('<span title="{}">{}</span>').format(label, text)


def _plain(value: Any) -> str:
    """Any value as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def _place(row: Mapping[str, Any]) -> str:
    """Where a row came from: "tickets.csv, line 17"."""
    file, line = row.get("file"), row.get("line")
    where = str(file) if file else f"row {row.get('id', '')}"
    return f"{where}, line {line:,}" if line is not None else where
