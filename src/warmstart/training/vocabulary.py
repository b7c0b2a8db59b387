"""Train only the embedding rows that the data use.

A batch touches a few hundred of 30,522 rows, yet a dense optimizer steps them all. Rows whose
token never occurs have no gradient and no weight decay, so leaving them out changes nothing; they
are put back when training ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.forward import Compute


def narrow(
    compute: Compute, stores: Mapping[str, TokenizedDataset], pad_id: int
) -> tuple[dict[str, TokenizedDataset], int]:
    """The same rows under the ids of the active vocabulary, and the padding token's new id."""
    used = {int(pad_id)}
    for store in stores.values():
        for part in _parts(store):
            used.update(np.unique(part.ids).tolist())
    table = compute.narrow_vocabulary(np.array(sorted(used)))
    if table is None:
        return dict(stores), pad_id
    narrowed = {name: _under(table, store) for name, store in stores.items()}
    return narrowed, int(table[pad_id])


def _parts(store: TokenizedDataset) -> list[TokenizedDataset]:
    """The store and those behind it."""
    return [store, *(_parts(store.answers) if store.answers is not None else [])]


def _under(table: np.ndarray, store: TokenizedDataset) -> TokenizedDataset:
    """The same rows under the ids of a table."""
    behind = None if store.answers is None else _under(table, store.answers)
    return replace(store, ids=table.astype(store.ids.dtype)[store.ids], answers=behind)
