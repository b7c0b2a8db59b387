"""Any text for any text, as T5 does all its tasks (Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from warmstart.metrics.text import Chrf, Exact, Joined, Lengths, Rouge
from warmstart.tasks.generation import REFERENCES, TextTask


class Text2Text(TextTask):
    """An answer that is a text: a label, a number, a correction. Judged by exact match."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "source": (
            "instruction,input", "instruction,context", "source", "input", "inputs", "input_text",
            "prompt", "question", "instruction", "text",
        ),
        "target": (
            "target", "output", "outputs", "target_text", "answer", "response", "completion",
            "label",
        ),
        "references": REFERENCES,
    }  # fmt: skip
    main_score: ClassVar[str] = "exact_match"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "exact_match": "exact match",
        "rougeL": "ROUGE-L",
        "chrf": "chrF",
        "length_ratio": "length beside the reference",
        "repeated": "repeated word pairs",
        "empty": "empty answers",
    }
    baselines: ClassVar[tuple[str, ...]] = ("commonest_text", "copy")

    num_beams: int = Field(
        default=1, ge=1, le=64, description="answers followed at once (beam search); 1: greedy"
    )

    def measure(self) -> Joined:
        return Joined(Exact(), Rouge(words="unicode"), Chrf(), Lengths())
