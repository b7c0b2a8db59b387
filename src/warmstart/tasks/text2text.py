"""Any text for any text, as T5 does all its tasks (Raffel et al. 2020)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.tasks.base import Examples
from warmstart.tasks.generation.base import REFERENCES, TextTask

if TYPE_CHECKING:
    from warmstart.metrics.base import Measure
    from warmstart.metrics.text import References


class Text2Text(TextTask):
    """An answer that is a text: a label, a number, a correction. Judged by exact match."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "source": (
            "source", "input", "inputs", "input_text", "prompt", "question", "instruction", "text",
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
    row_title: ClassVar[str] = "chrF"

    num_beams: int = Field(
        default=1, ge=1, le=64, description="answers followed at once (beam search); 1: greedy"
    )

    def measure(self) -> Measure:
        from warmstart.metrics.combined import Exact, Joined
        from warmstart.metrics.text import Chrf, Lengths, Rouge

        return Joined(Exact(), Rouge(words="unicode"), Chrf(), Lengths())

    def signatures(self, golds: References) -> dict[str, str]:
        from warmstart.metrics.text import Chrf, Rouge

        return {"ROUGE": Rouge(words="unicode").signature, "chrF": Chrf().signature(golds)}

    def row_scores(self, measure: Measure, rows: Any) -> Any:
        return measure.score(rows)["chrf"]

    def rivals(self, sources: Sequence[str], train: Examples) -> list[tuple[str, str, list[str]]]:
        counts = Counter[str](train.table["target"].to_pylist())
        common = counts.most_common(1)[0][0]
        return [
            ("most_frequent", "the commonest answer", [common] * len(sources)),
            ("copy", "the untouched source", list(sources)),
        ]
