"""A text in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from warmstart.data.cells import parse_cell
from warmstart.data.ledger import place
from warmstart.errors import DataError, shown
from warmstart.metrics.text import Bleu, Chrf, Exact, Joined, Lengths, script_of
from warmstart.tasks.base import Drop
from warmstart.tasks.generation import REFERENCES, TextTask, seen
from warmstart.tasks.results import column
from warmstart.tokenization.languages import set_languages

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
        default=None,
        description="key of a `translation` column, English name for T5's prefix, or the code of "
        "a base that marks languages by a token, as eng_Latn (NLLB), en (M2M100), en_XX (mBART)",
    )
    target_language: str | None = Field(default=None, description="as source_language")
    bleu_words: Literal["13a", "intl", "zh", "char", "none"] | None = Field(
        default=None,
        description="how BLEU cuts words: 13a for most languages, zh Chinese, char without spaces; "
        "unset: by the script of the references",
    )

    def default_prefix(self) -> str:
        if not (self.source_language and self.target_language):
            return ""
        return f"translate {self.source_language} to {self.target_language}: "

    def set_languages(self, tokenizer: Any) -> str | None:
        return set_languages(tokenizer, self.source_language, self.target_language)

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
        source, target = (_key(name, known) for name in self._languages)
        if len(known) == 2 and not any(self._languages):
            source, target = known
        elif len(known) == 2:  # one of two says which is the other
            source = source or next((key for key in known if target and key != target), None)
            target = target or next((key for key in known if source and key != source), None)
        if source is None or target is None or source == target:
            raise DataError(
                f"{table['_file'][0].as_py()}: the pairs have the languages {', '.join(known)}; "
                "say which with --task.source_language and --task.target_language, or give two "
                "columns"
            )
        return {
            "source": [(pair or {}).get(source) or "" for pair in pairs],
            "target": [(pair or {}).get(target) or "" for pair in pairs],
        }

    def resolve_for_data(self, table: pa.Table) -> TextTask:
        task = super().resolve_for_data(table)
        if self.bleu_words is not None:
            return task
        words = {"zh": "zh", "unspaced": "char"}.get(script_of(seen(table)), "13a")
        return task.model_copy(update={"bleu_words": words})

    def measure(self) -> Joined:
        return Joined(Bleu(words=self.bleu_words or "13a"), Chrf(), Exact(), Lengths())

    @property
    def _languages(self) -> tuple[str | None, str | None]:
        return self.source_language, self.target_language


def _key(language: str | None, known: Sequence[str]) -> str | None:
    """The key of a `translation` column that a language means: itself, or the one that its name or
    code begins with (`en` of en_XX, eng_Latn and English); None where that is not clear."""
    if language in known:
        return language
    begun = [key for key in known if language and language.lower().startswith(key.lower())]
    return begun[0] if len(begun) == 1 else None
