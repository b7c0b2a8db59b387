"""Texts that are right for a row, and texts that were written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.models.generation import GenerationOutput


def texts_of(outputs: GenerationOutput, tokenizer: Any) -> list[str]:
    """What was written, without special tokens and spaces at the ends; "" where nothing was."""
    rows = [ids or [] for ids in outputs.ids]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def listed(values: Sequence[Any]) -> pa.Array:
    """References in any form as lists in JSON."""
    import pyarrow as pa

    return pa.array([json.dumps(_listed(value)) for value in values], pa.string())


def firsts(table: pa.Table) -> pa.Array:
    """The first reference of each row as its target; empty where it has none."""
    import pyarrow as pa

    golds = [json.loads(value) for value in table["references"].to_pylist()]
    return pa.array([gold[0] if gold else "" for gold in golds], pa.string())


def references(table: pa.Table) -> list[list[str]]:
    """The texts that would be right for each row: its references, else its target."""
    targets: list[str] = table["target"].to_pylist()
    if "references" not in table.column_names:
        return [[target] for target in targets]
    listed = [json.loads(value) for value in table["references"].to_pylist()]
    return [golds or [target] for golds, target in zip(listed, targets, strict=True)]


def _listed(value: Any) -> list[str]:
    """References given as a list, as a list in JSON, or as one text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None and str(one).strip()]
