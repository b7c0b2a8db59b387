"""Reports of runs from plain facts, as tests change them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.reporting import model_card as cards
from warmstart.reporting import page as pages
from warmstart.types import RunReport


def render(facts: Mapping[str, Any]) -> str:
    return pages.render(RunReport.from_json(facts))


def write_report(path: Path, facts: Mapping[str, Any]) -> None:
    pages.write_report(path, RunReport.from_json(facts))


def model_card(facts: Mapping[str, Any]) -> str:
    return cards.model_card(RunReport.from_json(facts))
