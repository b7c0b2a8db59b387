"""One label for two texts: entailment, paraphrase, answer and question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from warmstart.errors import DataError
from warmstart.tasks.classification import Classification

if TYPE_CHECKING:
    import pyarrow as pa


# Two texts in a row: what their columns are called, and how people read them.

FIRST = (
    "sentence1", "sentence_1", "sentence_a", "text1", "text_1", "text_a", "premise", "question1",
    "question_1", "s1", "first",
)  # fmt: skip
SECOND = (
    "sentence2", "sentence_2", "sentence_b", "text2", "text_2", "text_b", "hypothesis",
    "question2", "question_2", "s2", "second",
)  # fmt: skip
BETWEEN = " | "


def joined(table: pa.Table) -> pa.ChunkedArray:
    """Both texts of each row as one; null where one is."""
    from warmstart.data.tables import pc

    return pc.binary_join_element_wise(table["sentence1"], table["sentence2"], BETWEEN)


def one_or_two(table: pa.Table, pairs: bool | None) -> pa.Table:
    """The columns of one text a row, or of two and `text`, which joins them.

    `pairs` says which; None: two where there are two. Raises `DataError` where they are not there.
    """
    names = set(table.column_names)
    file = table["_file"][0].as_py() if len(table) else "the data"
    both = [name for name in ("sentence1", "sentence2") if name in names]
    others = [name for name in ("score", "_file", "_line", "_group") if name in names]
    if pairs is not False and len(both) == 2:
        return table.select([*both, *others]).append_column("text", joined(table))
    if not pairs and "text" in names:
        return table.select(["text", *others])
    if both or pairs:
        lost = [name for name in ("sentence1", "sentence2") if name not in both]
        flags = " ".join(f"--data.columns.{name} NAME" for name in lost)
        raise DataError(f"{file} has no column for {' and '.join(lost)}; name it with {flags}")
    raise DataError(
        f"{file} has no column for text, nor for sentence1 and sentence2; name it with "
        "--data.columns.text NAME"
    )


class Pairs(Classification):
    """Single-label classification of two texts, which one model reads together."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "sentence1": (*FIRST, "question", "query", "claim"),
        "sentence2": (*SECOND, "sentence", "answer", "passage", "evidence", "text"),
        "label": (
            "label", "gold_label", "relation", "entailment", "is_duplicate", "is_paraphrase",
            "category", "class", "target", "labels", "y",
        ),
    }  # fmt: skip
    inputs: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2")
    texts: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2")
    max_length: int = Field(
        default=256,
        ge=5,
        description="tokens both texts may have together; the longer one is cut first, and what "
        "is cut stands in the ledger",
    )

    def as_text(self, table: pa.Table) -> pa.ChunkedArray:
        return joined(table)
