"""A short text for a long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from warmstart.metrics.text import Joined, Lengths, Rouge, script_of
from warmstart.tasks.generation import REFERENCES, TextTask, seen

if TYPE_CHECKING:
    import pyarrow as pa


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
    row_figure: ClassVar[str] = "rougeL"
    baselines: ClassVar[tuple[str, ...]] = ("first_sentence", "first_three_sentences")

    rouge_words: Literal["ascii", "unicode"] | None = Field(
        default=None,
        description="what ROUGE counts: ascii as in published figures (English), unicode the words "
        "of any script; unset: by the script of the references",
    )

    def default_prefix(self) -> str:
        return "summarize: "

    def resolve_for_data(self, table: pa.Table) -> TextTask:
        task = super().resolve_for_data(table)
        if self.rouge_words is not None:
            return task
        words = "ascii" if script_of(seen(table)) == "ascii" else "unicode"
        return task.model_copy(update={"rouge_words": words})

    def measure(self) -> Joined:
        return Joined(Rouge(split="sentences", words=self.rouge_words or "ascii"), Lengths())
