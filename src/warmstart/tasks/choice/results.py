"""What became of the choices: credit, perplexities, figures of each group, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from warmstart.formatting import counted
from warmstart.metrics.base import Floats, Measure, softmax
from warmstart.metrics.language import Cloze, Likeliest, credit
from warmstart.tasks.base import Examples
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened

Way = Literal["sum", "token", "byte"]
GROUPS = ("phenomenon", "paradigm")
SHOWN = 400  # characters of a context in the report


class Scored(NamedTuple):
    """What a model says of all candidates [C], row by row one after the other.

    Args:
        row: [C] the row of each.
        text: [C] the text.
        nll: [C] nats of the text behind its context.
        tokens: [C] tokens of the text.
        hits: [C] those of them than which none was likelier.
    """

    row: np.ndarray
    text: Sequence[str]
    nll: Floats
    tokens: np.ndarray
    hits: np.ndarray

    def values(self, way: Way) -> Floats:
        """[C] log-probabilities in nats: summed, or the mean of a token or of a UTF-8 byte."""
        if way == "sum":
            return -self.nll
        sizes = [len(text.strip().encode()) for text in self.text]
        return -self.nll / np.maximum(self.tokens if way == "token" else np.array(sizes), 1)

    def by_row(self, values: np.ndarray) -> list[np.ndarray]:
        """Values [C] as those of each row."""
        return np.split(values, np.flatnonzero(np.diff(self.row)) + 1)


def scored(outputs: Any, examples: Examples) -> Scored:
    """The likelihoods of all candidates; of a row's equal texts the same, to the bit."""
    table, owner = examples.table, examples.store.of_row
    assert owner is not None
    texts = [json.loads(cell) for cell in table["texts"].to_pylist()]
    contexts = [text for cell in table["contexts"].to_pylist() for text in json.loads(cell)]
    flat = [text for several in texts for text in several]
    row = np.repeat(np.arange(len(texts)), [len(several) for several in texts])

    def summed(values: np.ndarray) -> Floats:
        return np.bincount(owner, values, minlength=len(flat)).astype(np.float64)

    nll, first = summed(outputs.nll), dict[Any, int]()
    for number, key in enumerate(zip(row.tolist(), contexts, flat, strict=True)):
        nll[number] = nll[first.setdefault(key, number)]
    return Scored(row, flat, nll, summed(outputs.tokens), summed(outputs.hits))


def result_of(outputs: Any, test: Examples, normalise: Way, notes: Sequence[str]) -> TaskResult:
    """The result on the test rows; `notes` say how the model was asked."""
    form = str(test.table["form"][0].as_py())
    candidates = scored(outputs, test)
    if form == "cloze":
        return _cloze(candidates, test, notes)
    right = np.array(test.table["right"].to_pylist(), np.int64)
    ways: list[Way] = [normalise, *(("sum", "byte") if form == "choices" else ())]
    ways = list(dict.fromkeys(ways))
    names = ["accuracy", *(f"accuracy_{way}" for way in ways[1:])]
    values = {way: candidates.by_row(candidates.values(way)) for way in ways}
    statistics = np.ones((len(right), len(ways) + 2))
    for place, way in enumerate(ways):
        for number, own in enumerate(values[way]):
            worth, tie = credit(own, int(right[number]))
            statistics[number, place] = worth
            if not place:
                statistics[number, -2] = tie
    chance = float(np.mean([1 / len(own) for own in values[normalise]]))
    facts = {"chance": chance}
    return _result(
        Likeliest(names), statistics, test, values[normalise],
        candidates, {**facts, "wrong": int((statistics[:, 0] < 1).sum())},
        [*notes, *_about_chance(chance, statistics)],
    )  # fmt: skip


def _about_chance(chance: float, statistics: Floats) -> list[str]:
    ties = int(statistics[:, -2].sum())
    notes = [f"Guessing would get {chance:.3f}."]
    if ties:
        notes.append(
            f"{counted(ties, 'row is a tie', 'rows are ties')} between texts that are equally "
            "likely: each counts its share (of two texts a half)."
        )
    return notes


def _cloze(candidates: Scored, test: Examples, notes: Sequence[str]) -> TaskResult:
    hit = (candidates.hits >= candidates.tokens) & (candidates.tokens > 0)
    ones = np.ones(len(hit))
    statistics = np.stack([hit, candidates.nll, candidates.tokens, ones], 1).astype(np.float64)
    values = candidates.by_row(-candidates.nll)
    facts = {"wrong": int((~hit).sum())}
    return _result(Cloze(), statistics, test, values, candidates, facts, notes)


def _result(
    measure: Measure, statistics: Floats, test: Examples, values: list[Floats],
    candidates: Scored, facts: Mapping[str, Any], notes: Sequence[str],
) -> TaskResult:  # fmt: skip
    table = test.table
    texts = [[text.strip() for text in json.loads(cell)] for cell in table["texts"].to_pylist()]
    contexts = [json.loads(cell)[0] for cell in table["contexts"].to_pylist()]
    right = [int(cell) for cell in table["right"].to_pylist()]
    chosen = [int(own.argmax()) for own in values]
    sure = np.array([softmax(own).max() if len(own) > 1 else np.exp(own[0]) for own in values])
    correct = np.asarray(measure.correct(statistics), bool)
    groups = {name: table[name] for name in GROUPS if name in table.column_names}
    tokens = candidates.by_row(candidates.tokens.astype(int))
    predictions = prediction_table(table, {
        "context": column([shortened(text, SHOWN) for text in contexts], "string"),
        "candidates": column(texts),
        "answer": column([own[i] for own, i in zip(texts, right, strict=True)], "string"),
        "prediction": column([own[i] for own, i in zip(texts, chosen, strict=True)], "string"),
        "confidence": column(sure.astype(np.float32)),
        "correct": column(correct),
        "credit": column(statistics[:, 0]),
        "log_probabilities": column([own.tolist() for own in candidates.by_row(-candidates.nll)]),
        "tokens": column([own.tolist() for own in tokens]),
        **groups,
    })  # fmt: skip
    margin = np.array([own.max() - own[i] if len(own) > 1 else -own[0]
                       for own, i in zip(values, right, strict=True)])  # fmt: skip
    order = np.argsort(-margin, kind="stable")

    def describe(row: int) -> Mapping[str, Any]:
        written = len(texts[row]) == 1
        return {
            "text": shortened(contexts[row], SHOWN) or " / ".join(texts[row]),
            "label": texts[row][right[row]],
            "prediction": "(something else)" if written else texts[row][chosen[row]],
            "confidence": float(sure[row]),
            "note": f"less likely by {margin[row]:.2f} nats" if not written
            else f"{margin[row]:.2f} nats",
        }  # fmt: skip

    by_group = {name: _figures(measure, statistics, values_.to_pylist())
                for name, values_ in groups.items()}  # fmt: skip
    sections = [_section(name, rows) for name, rows in by_group.items()]
    return TaskResult(
        measure=measure, statistics=statistics, score=lambda other: other, table=predictions,
        mistakes=list_mistakes(predictions, order[~correct[order]], describe), notes=notes,
        facts={**facts, **({"groups": by_group, "sections": sections} if by_group else {})},
    )  # fmt: skip


def _figures(
    measure: Measure, statistics: Floats, names: Sequence[str | None]
) -> dict[str, dict[str, float]]:
    """The figures of the rows of each name, in the order in which the names come."""
    own = np.array([name or "" for name in names])
    return {
        name: {"rows": int((own == name).sum()), **measure.total(statistics[own == name])}
        for name in dict.fromkeys(own.tolist())
    }


def _section(name: str, rows: Mapping[str, Mapping[str, float]]) -> Mapping[str, Any]:
    worst = sorted(rows.items(), key=lambda item: item[1]["accuracy"])
    return {
        "title": f"By {name}",
        "lead": f"The accuracy of each {name}, the lowest first.",
        "columns": [name, "rows", "accuracy"],
        "rows": [[key, int(own["rows"]), f"{own['accuracy']:.3f}"] for key, own in worst],
    }
