"""A text in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from warmstart.data.cells import parse_cell
from warmstart.data.ledger import place
from warmstart.errors import DataError, shown
from warmstart.metrics.text import Bleu, Chrf, Exact, Joined, Lengths
from warmstart.tasks.base import Drop
from warmstart.tasks.generation import REFERENCES, TextTask
from warmstart.tasks.results import column

if TYPE_CHECKING:
    import pyarrow as pa


class Translation(TextTask):
    """Translation, judged by BLEU and chrF beside the untouched source.

    Columns named after languages are named with `--data.columns.source en --data.columns.target
    de`. A column `translation` of pairs {"en": …, "de": …} is taken apart; its first language is
    the source unless `source_language` says otherwise.
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "source": ("source", "src", "source_text", "source_sentence", "original", "input", "text"),
        "target": (
            "target", "tgt", "target_text", "target_sentence", "translated", "output", "reference",
        ),
        "references": REFERENCES,
        "pair": ("translation", "pair"),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset()
    nested: ClassVar[frozenset[str]] = frozenset({"references", "pair"})
    main_score: ClassVar[str] = "bleu"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "bleu": "BLEU",
        "chrf": "chrF",
        "exact_match": "exact match",
        "length_ratio": "length beside the reference",
        "repeated": "repeated word pairs",
        "empty": "empty answers",
    }
    default_separator: ClassVar[str] = "\n=>"
    baselines: ClassVar[tuple[str, ...]] = ("copy",)

    source_language: str | None = Field(
        default=None, description="key of a `translation` column, or English name for T5's prefix"
    )
    target_language: str | None = Field(default=None, description="as source_language")
    bleu_words: Literal["13a", "intl", "zh", "char", "none"] = Field(
        default="13a",
        description="how BLEU cuts words: 13a for most languages, zh Chinese, char without spaces",
    )

    def default_prefix(self) -> str:
        if not (self.source_language and self.target_language):
            return ""
        return f"translate {self.source_language} to {self.target_language}: "

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        if "pair" in table.column_names:
            pairs = [parse_cell(pair) for pair in table["pair"].to_pylist()]
            plain = "source" in table.column_names and all(isinstance(p, str | None) for p in pairs)
            columns = {"target": pairs} if plain else self._apart(pairs, table)
            table = table.drop_columns("pair")
            for role, values in columns.items():
                if role not in table.column_names:
                    table = table.append_column(role, column(values, "string"))
        if "source" not in table.column_names and len(table):
            raise DataError(
                f"{table['_file'][0].as_py()} has no column for source; name the columns with "
                "--data.columns.source NAME --data.columns.target NAME"
            )
        return super().rows(table, drop)

    def _apart(self, pairs: list[Any], table: pa.Table) -> dict[str, list[str]]:
        """Source and target of pairs by language. Raises `DataError` for what is no pair."""
        odd = next((n for n, pair in enumerate(pairs) if pair and not isinstance(pair, dict)), None)
        if odd is not None:
            raise DataError(
                f"{place(table, odd)}: '{shown(pairs[odd], 40)}' is no pair of texts by language, "
                'such as {"en": "…", "de": "…"}; mend the row, or name two columns with '
                "--data.columns.source NAME --data.columns.target NAME"
            )
        known = [str(key) for key in next((pair for pair in pairs if pair), {})]
        source = self.source_language if self.source_language in known else "".join(known[:1])
        rest = [key for key in known if key != source]
        target = self.target_language if self.target_language in rest else "".join(rest[:1])
        if not target or (len(rest) > 1 and self.target_language not in rest):
            raise DataError(
                f"{table['_file'][0].as_py()}: the pairs have the languages {', '.join(known)}; "
                "say which with --task.source_language and --task.target_language"
            )
        return {
            "source": [(pair or {}).get(source) or "" for pair in pairs],
            "target": [(pair or {}).get(target) or "" for pair in pairs],
        }

    def measure(self) -> Joined:
        return Joined(Bleu(words=self.bleu_words), Chrf(), Exact(), Lengths())
