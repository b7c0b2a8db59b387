"""A short text for a long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from warmstart.tasks.base import Examples
from warmstart.tasks.generation.base import REFERENCES, TextTask

if TYPE_CHECKING:
    from warmstart.metrics.base import Measure
    from warmstart.metrics.text import References


class Summarization(TextTask):
    """Abstractive summaries, judged by ROUGE beside the first sentences of the text."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "source": (
            "source", "document", "article", "text", "dialogue", "content", "report", "body",
            "input",
        ),
        "target": ("target", "summary", "highlights", "abstract", "tldr", "headline", "output"),
        "references": (*REFERENCES, "summaries"),
    }  # fmt: skip
    main_score: ClassVar[str] = "rougeL"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "rougeL": "ROUGE-L",
        "rouge1": "ROUGE-1",
        "rouge2": "ROUGE-2",
        "rougeLsum": "ROUGE-Lsum",
        "length_ratio": "length beside the reference",
        "repeated": "repeated word pairs",
        "empty": "empty answers",
    }
    default_separator: ClassVar[str] = "\nTL;DR:"
    row_title: ClassVar[str] = "ROUGE-L"

    rouge_words: Literal["ascii", "unicode"] = Field(
        default="ascii",
        description="what ROUGE counts: ascii as in published figures (English), unicode the words "
        "of any script with spaces",
    )

    def default_prefix(self) -> str:
        return "summarize: "

    def measure(self) -> Measure:
        from warmstart.metrics.combined import Joined
        from warmstart.metrics.text import Lengths, Rouge

        return Joined(Rouge(split="sentences", words=self.rouge_words), Lengths())

    def signatures(self, golds: References) -> dict[str, str]:
        from warmstart.metrics.text import Rouge

        return {"ROUGE": Rouge(split="sentences", words=self.rouge_words).signature}

    def row_scores(self, measure: Measure, rows: Any) -> Any:
        return measure.score(rows)["rougeL"]

    def rivals(self, sources: Sequence[str], train: Examples) -> list[tuple[str, str, list[str]]]:
        from warmstart.metrics.text import sentences

        cut = [sentences(text) for text in sources]
        return [
            ("lead_1", "the first sentence", [" ".join(parts[:1]) for parts in cut]),
            ("lead_3", "the first three sentences", [" ".join(parts[:3]) for parts in cut]),
        ]
