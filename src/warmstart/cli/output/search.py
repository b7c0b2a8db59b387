"""An index, and what was found in it, on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from warmstart.errors import typed
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.pipelines.search import Found, Index


def indexed(made: Index, *, as_json: bool) -> None:
    """What an index holds, and what to type next."""
    if as_json:
        facts = {key: value for key, value in made.facts.items() if key != "probe"}
        print(json.dumps({"index": str(made.path), **facts}, indent=2))
        return
    print(f"{counted(len(made), 'text')} indexed: {made.path}")
    print(f'\nNext:\n  warmstart search {typed(made.path)} "your question"')


def found(query: str, texts: Sequence[Found], *, as_json: bool) -> None:
    """One line a text: cosine, where it stands, its beginning; as JSON one line a query."""
    if as_json:
        print(json.dumps({"query": query, "found": [asdict(one) for one in texts]}))
        return
    for one in texts:
        print(f"{one.similarity:.3f}\t{one.file}:{one.line}\t{' '.join(one.text.split())}")
