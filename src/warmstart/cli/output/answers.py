"""Answers of a model on the terminal: of any task, and out of an index; as lines or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from warmstart.cli.output.tables import notes, plain, print_json, put
from warmstart.errors import typed
from warmstart.evaluation.sentences import between, figure, percent
from warmstart.formatting import counted
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.pipelines.search import Found, Index

NOTHING = "(none)"
SHOWN = 3  # numbers of a vector; JSON has all


def predictions(answers: Iterable[tuple[str, Prediction]], *, as_json: bool) -> None:
    """One line an answer, as they come: label, confidence, text."""
    for text, answer in answers:
        if as_json:
            print_json(as_row(answer), indent=None)
        else:
            print(as_line(text, answer))


def labelled(rows: int, out: Any, notes: Sequence[str], *, as_json: bool) -> None:
    """How many rows were labelled, and where they are."""
    if as_json:
        print_json({"rows": rows, "out": str(out), "notes": list(notes)})
    else:
        print(f"{counted(rows)} labelled: {out}")


def leaderboard(made: Mapping[str, Any], out: Any) -> None:
    """A row for each model, the best first; and how each stands beside it."""
    level = f"{percent(made['confidence_level'])} interval"
    table = plain(counted(made["rows"], "test row"), "model", made["title"], level, "outcome",
                  "ms for one", "rows/s", "cost of 1,000 rows")  # fmt: skip
    for row in made["models"]:
        score, cost = row["score"], row["cost_per_1000"]
        table.add_row(
            escape(row["model"]), figure(score["value"]), between(score["low"], score["high"]),
            row["outcome"], f"{row['milliseconds']:,.1f}", f"{row['rows_per_second']:,.1f}",
            "-" if cost is None else f"{cost:.4g}",
        )  # fmt: skip
    put(table)
    for row in made["models"][1:]:
        print(f"{row['model']}: {row['sentence']}")
    if out is not None:
        print(f"written    {out}/leaderboard.json, and a folder for each model")
    notes(made["notes"])


def indexed(index: Index, *, as_json: bool) -> None:
    """What an index holds, and what to type next."""
    if as_json:
        facts = {key: value for key, value in index.facts.items() if key != "probe"}
        print_json({"index": str(index.path), **facts})
        return
    print(f"{counted(len(index), 'text')} indexed: {index.path}")
    print(f'\nNext:\n  warmstart search {typed(index.path)} "your question"')


def matches(query: str, texts: Sequence[Found], *, as_json: bool) -> None:
    """One line a text: cosine, where it stands, its beginning; as JSON one line a query."""
    if as_json:
        print(json.dumps({"query": query, "found": [asdict(text) for text in texts]}))
        return
    for text in texts:
        print(f"{text.similarity:.3f}\t{text.file}:{text.line}\t{' '.join(text.text.split())}")


def as_line(text: str, answer: Prediction) -> str:
    """Answer, confidence and text, with tabs between them; a number and a vector have no
    confidence: nobody knows how sure they are."""
    confidence = [f"{answer.confidence:.3f}"] if _is_sure(answer) else []
    return "\t".join([in_words(answer.value), *confidence, " ".join(text.split())])


def as_row(answer: Prediction) -> dict[str, Any]:
    """What `--json` prints; an answer out of a passage has its place there."""
    row: dict[str, Any] = {"id": answer.id, "label": answer.value}
    if _is_sure(answer):
        row["confidence"] = answer.confidence
    for name in ("start", "end"):
        if hasattr(answer, name):
            row[name] = getattr(answer, name)
    scores = {label: round(score, 6) for label, score in answer.scores.items()}
    return {**row, "scores": scores} if scores else row


def in_words(value: Any) -> str:
    """A label, text or number as it is; labels, entities and the answers of several tasks each
    after the other."""
    if isinstance(value, str):
        return " ".join(value.split()) or NOTHING
    if isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        return "; ".join(f"{name}: {in_words(item)}" for name, item in named.items()) or NOTHING
    if _is_vector(value):
        return f"[{', '.join(f'{x:.3f}' for x in value[:SHOWN])}, … {len(value)} numbers]"
    if not isinstance(value, list | tuple) or not all(
        isinstance(part, str) or (isinstance(part, dict) and "text" in part) for part in value
    ):
        return json.dumps(value, ensure_ascii=False, default=str)
    words = [  # labels, or pieces of the text with their type or tag
        part if isinstance(part, str)
        else f"{' '.join(part['text'].split())} [{part.get('type', part.get('tag'))}]"
        for part in value
    ]  # fmt: skip
    return ", ".join(words) or NOTHING


def _is_sure(answer: Prediction) -> bool:
    """Whether the answer comes with a confidence."""
    return not isinstance(answer.value, float) and not _is_vector(answer.value)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)
