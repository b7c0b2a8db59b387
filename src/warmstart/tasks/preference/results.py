"""What is said of a model that prefers one of two answers: how often it is the one that people
chose, what its length has to do with it, and what training has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.tasks.preference.pairs import ANSWERS, readable
from warmstart.tasks.results import list_mistakes, prediction_table, shortened

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats

BRIEF = 300  # characters of a text in a table of the report
LONGER = 0.1
"""By how much more often than people a model may prefer the longer answer without a note."""
FALLEN = 0.0
"""Nats by which the chosen answers may become less likely without a note."""


def pair_table(table: pa.Table, scores: Floats, names: Sequence[str]) -> pa.Table:
    """One row a pair, with its answers and what the model says of each (`scores` [n, 2, S])."""
    gaps = scores[:, 0, 0] - scores[:, 1, 0]
    columns: dict[str, Any] = {name: readable(table[name]) for name in ("prompt", *ANSWERS)}
    for place, name in enumerate(names):
        columns |= {f"{name}_{a}": scores[:, k, place] for k, a in enumerate(ANSWERS)}
    columns |= {"margin": gaps, "correct": gaps > 0}
    return prediction_table(table, columns)


def wrong_pairs(table: pa.Table) -> list[dict[str, Any]]:
    """The pairs of a prediction table whose rejected answer has the higher score, the surest
    first."""
    gaps = np.asarray(table["margin"])
    order = np.argsort(gaps, kind="stable")

    def describe(row: int) -> Mapping[str, Any]:
        values = {name: table[name][row].as_py() for name in ("prompt", *ANSWERS)}
        return {
            "text": shortened(values["prompt"], BRIEF),
            "label": shortened(values["chosen"], BRIEF),
            "prediction": shortened(values["rejected"], BRIEF),
            "note": f"ahead by {-gaps[row]:.3g}",
        }

    return list_mistakes(table, order[gaps[order] <= 0], describe)


def length_section(table: pa.Table, now: Floats, before: Floats | None) -> dict[str, Any]:
    """How often the longer answer is the chosen one, and the preferred one; `now` and `before`
    [n, 2] are scores."""
    sizes = np.array([[len(text) for text in readable(table[name])] for name in ANSWERS], float).T
    longer = np.sign(sizes[:, 0] - sizes[:, 1])
    rows = [["people", _share(longer > 0, longer)]]
    for who, scores in (("this model", now), ("the model before training", before)):
        if scores is not None:
            gaps = np.sign(scores[:, 0] - scores[:, 1])
            rows.append([who, _share(gaps * longer > 0, longer)])
    return {
        "title": "Length",
        "lead": "How often the longer answer is preferred, of the pairs of unequal length. A model "
        "that prefers it far more often than people do has learned length.",
        "columns": ["Who", "Prefers the longer answer"],
        "rows": rows,
        "longer": [share for _, share in rows],
    }


def length_notes(section: Mapping[str, Any]) -> list[str]:
    """A note where the model prefers longer, or shorter, answers far more often than people."""
    people, model = section["longer"][:2]
    if people is None or model is None or abs(model - people) <= LONGER:
        return []
    which = "longer" if model > people else "shorter"
    shares = [value if which == "longer" else 1 - value for value in (model, people)]
    return [
        f"It prefers the {which} answer in {100 * shares[0]:.0f} % of the pairs, people in "
        f"{100 * shares[1]:.0f} %: part of what it has learned is length. Compare it with the "
        "baseline of length, and give pairs of about equal length."
    ]


def _share(marks: np.ndarray, longer: np.ndarray) -> float | None:
    unequal = longer != 0
    return float(marks[unequal].mean()) if unequal.any() else None


def change_section(now: Floats, before: Floats, sizes: Floats, drift: Floats) -> dict[str, Any]:
    """How likely the answers were before training and are now, a token, and how far the model has
    gone; log-probabilities, tokens and divergences are [n, 2]."""
    rows: list[list[Any]] = []
    for k, name in enumerate(ANSWERS):
        tokens = max(sizes[:, k].sum(), 1.0)
        old, new = before[:, k].sum() / tokens, now[:, k].sum() / tokens
        rows.append([name, old, new, new - old, drift[:, k].sum() / tokens])
    return {
        "title": "What training changed",
        "lead": "Log-probability of a token of the test answers, in nats, and the divergence from "
        "the model before training, KL(now ‖ before), exact over the vocabulary at each token.",
        "columns": ["Answer", "Before", "Now", "Change", "KL of a token"],
        "rows": rows,
    }


def sample_section(samples: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What the model wrote to a few prompts before training, and writes now."""
    return {
        "title": "What it writes",
        "lead": "To some test prompts at equal distances, the likeliest token each time.",
        "columns": ["Prompt", "Before", "Now"],
        "rows": [[shortened(text.strip(), BRIEF) for text in row] for row in samples],
    }


def change_notes(now: Floats, before: Floats) -> list[str]:
    """A note where the margin grows while the chosen answers themselves become less likely."""
    chosen, rejected = (now - before).mean(0)
    if chosen >= -FALLEN or chosen - rejected <= 0:
        return []
    return [
        f"The margin grows, and yet the chosen answers themselves became less likely, by "
        f"{-chosen:.3g} nats an answer (the rejected ones by {-rejected:.3g}): the model learns "
        "what not to write more than what to write. Add the chosen answer's own loss "
        "(--objective.nll_weight 0.5), raise --objective.beta, or train less."
    ]
