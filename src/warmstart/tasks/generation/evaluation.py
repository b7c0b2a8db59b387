"""Generated texts on the test rows: the table, the worst answers, and what is worth knowing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.formatting import counted
from warmstart.tasks.base import Examples
from warmstart.tasks.results import TaskResult, list_mistakes, prediction_table, shortened

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.models.generation import GenerationOutput

SAMPLE, BRIEF = 6, 400
REPEATS, EMPTY, SAME = 0.1, 0.02, 0.1


def texts_of(outputs: GenerationOutput, tokenizer: Any) -> list[str]:
    """The generated texts, without special tokens and spaces at the ends; "" where there is
    none."""
    rows = [ids or [] for ids in outputs.ids]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def references(table: pa.Table) -> list[list[str]]:
    """The texts that would be right for each row: its references, else its target."""
    targets: list[str] = table["target"].to_pylist()
    if "references" not in table.column_names:
        return [[target] for target in targets]
    lists = [json.loads(value) for value in table["references"].to_pylist()]
    return [texts or [target] for texts, target in zip(lists, targets, strict=True)]


def evaluate(task: Any, outputs: GenerationOutput, test: Examples) -> TaskResult:
    """See `Task.evaluate`."""
    targets, written = references(test.table), texts_of(outputs, test.tokenizer)
    measure = task.measure()
    statistics = measure.rows(written, targets)
    scores = np.asarray(measure.score(statistics)[task.row_figure], float)
    right = np.array([
        text.split() in [target.split() for target in row]
        for text, row in zip(written, targets, strict=True)
    ])  # fmt: skip
    table = prediction_table(
        test.table,
        {
            "source": test.table["source"],
            "target": test.table["target"],
            "prediction": written,
            "confidence": outputs.confidence.astype(np.float32),
            "score": scores.astype(np.float32),
        },
    )
    signatures = measure.signatures(targets)
    counting = {
        "title": "How it was counted",
        "lead": "Figures of these measures can be compared where their signatures are the same.",
        "columns": ["measure", "signature"],
        "rows": [[name, how] for name, how in signatures.items()],
    }
    facts: dict[str, Any] = {
        "wrong": int((~right).sum()),
        "signatures": signatures,
        "sections": [_some(table, targets), counting],
    }
    worst = _worst(table, targets, right, scores, task.metric_titles[task.row_figure])
    if task.main_score != "exact_match":  # another wording is no mistake
        facts["mistakes_lead"] = (
            f"The {len(worst):,} answers that are farthest from their references, the farthest "
            "first; all answers are in predictions.parquet."
        )
    if task.epoch_score != task.main_score:
        facts["epoch_score"] = "Mean probability of a token of the answer"
    if outputs.tokens.sum():
        facts |= {"loss": outputs.loss, "perplexity": math.exp(min(outputs.loss, 700.0))}
        facts |= {"token_accuracy": outputs.accuracy}
    return TaskResult(
        measure=measure,
        statistics=statistics,
        score=lambda texts: measure.rows(texts, targets),
        table=table,
        mistakes=worst,
        baselines=task.baselines,
        facts=facts,
        notes=[*_notes(measure.total(statistics)), *_same(written, [row[0] for row in targets])],
    )


def _worst(
    table: pa.Table, targets: list[list[str]], right: np.ndarray, scores: np.ndarray, title: str
) -> list[dict[str, Any]]:
    """The answers that are not right, the lowest score first, beside source and reference."""
    order = np.argsort(scores, kind="stable")

    def describe(row: int) -> dict[str, Any]:
        columns = table.select(["source", "prediction", "confidence"]).slice(row, 1).to_pylist()[0]
        return {
            "text": shortened(columns["source"]),
            "label": shortened(" / ".join(targets[row])),
            "prediction": shortened(columns["prediction"]),
            "confidence": columns["confidence"],
            "note": f"{title} {scores[row]:.2f}",
            "written": True,
        }

    return list_mistakes(table, order[~right[order]], describe)


def _some(table: pa.Table, targets: list[list[str]]) -> dict[str, Any]:
    """A few answers from all over the test rows, good ones and bad ones."""
    places = np.unique(np.linspace(0, len(table) - 1, SAMPLE).round().astype(int)).tolist()
    chosen = [(place, table.slice(place, 1).to_pylist()[0]) for place in places]
    return {
        "title": "Some of its answers",
        "lead": f"{counted(len(places), 'test row')} at equal distances, neither best nor worst.",
        "columns": ["source", "reference", "what the model wrote"],
        "rows": [
            [
                shortened(row["source"], BRIEF),
                shortened(targets[place][0], BRIEF),
                row["prediction"],
            ]
            for place, row in chosen
        ],
    }


def _same(written: list[str], targets: list[str]) -> list[str]:
    """A note where one text is written far more often than any is right."""
    (text, count), (_, right) = (Counter(t).most_common(1)[0] for t in (written, targets))
    if count < SAME * len(written) + 2 * right:
        return []
    return [
        f"{count:,} of {len(written):,} answers are the same, '{shortened(text, 80)}': the model "
        "says what is common and not yet what the source says. Train longer, or begin with a "
        "pretrained base."
    ]


def _notes(figures: Mapping[str, float]) -> list[str]:
    notes: list[str] = []
    if figures.get("repeated", 0.0) > REPEATS:
        share = f"{100 * figures['repeated']:.0f} %"
        notes.append(
            f"{share} of the word pairs in the answers repeat an earlier pair of the same answer: "
            "train longer, or set task.no_repeat_ngram_size 3."
        )
    if figures.get("empty", 0.0) > EMPTY:
        notes.append(f"{100 * figures['empty']:.0f} % of the answers are empty.")
    return notes
