"""Written texts on the test rows: figures, baselines, the table and the worst answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from warmstart.formatting import counted
from warmstart.tasks.base import Examples, Result, Rival
from warmstart.tasks.generation.texts import references, texts_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.models.generation import GenerationOutput

LISTED, SHOWN = 200, 2_000  # mistakes; characters of one text
SAMPLE, BRIEF = 6, 400
REPEATS, EMPTY, SAME = 0.1, 0.02, 0.1


def result(
    task: Any, outputs: GenerationOutput, examples: Mapping[str, Examples], *, baselines: bool
) -> Result:
    """See `Task.result`."""
    import math

    import numpy as np

    test = examples["test"]
    golds = references(test.table)
    written = texts_of(outputs, test.tokenizer)
    measure = task.measure()
    rows = measure.rows(written, golds)
    rivals: list[Rival] = []
    if baselines:
        sources: list[str] = test.table["source"].to_pylist()
        for name, title, answers in task.rivals(sources, examples["train"]):
            rivals.append(Rival(name, title, measure.rows(answers, golds)))
    scores = np.asarray(task.row_scores(measure, rows), float)
    equal = [t.split() in [g.split() for g in g_] for t, g_ in zip(written, golds, strict=True)]
    table = _table(test.table, written, outputs.confidence, scores)
    figures = measure.total(rows)
    signatures = task.signatures(golds)
    facts: dict[str, Any] = {
        "wrong": len(equal) - sum(equal),
        "signatures": signatures,
        "sections": [_some(table, golds), _counted(signatures)],
    }
    worst = _worst(table, golds, np.array(equal), scores, task.row_title)
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
    return Result(
        measure=measure,
        rows=rows,
        rivals=rivals,
        table=table,
        mistakes=worst,
        facts=facts,
        notes=[*_notes(figures), *_same(written, [row[0] for row in golds])],
    )


def _table(table: pa.Table, written: list[str], sure: np.ndarray, scores: np.ndarray) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    columns: dict[str, Any] = {
        "id": pa.array([str(i) for i in range(len(written))], pa.string()),
        "file": table["_file"].cast(pa.string()),
        "line": table["_line"].cast(pa.int64()),
        "source": table["source"],
        "target": table["target"],
        "prediction": pa.array(written, pa.string()),
        "confidence": pa.array(sure.astype(np.float32)),
        "score": pa.array(scores.astype(np.float32)),
    }
    return pa.table(columns)


def _worst(
    table: pa.Table, golds: list[list[str]], equal: np.ndarray, scores: np.ndarray, title: str
) -> list[dict[str, Any]]:
    """The answers that are not right, the lowest score first, beside source and reference."""
    import numpy as np
    import pyarrow as pa

    order = [int(i) for i in np.argsort(scores, kind="stable") if not equal[i]][:LISTED]
    names = ["id", "file", "line", "source", "prediction", "confidence"]
    chosen = table.select(names).take(pa.array(order, pa.int64()))
    found: list[dict[str, Any]] = []
    for place, row in zip(order, chosen.to_pylist(), strict=True):
        row["text"], row["label"] = _short(row.pop("source")), _short(" / ".join(golds[place]))
        row["prediction"] = _short(row["prediction"])
        found.append({**row, "note": f"{title} {scores[place]:.2f}", "written": True})
    return found


def _short(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _some(table: pa.Table, golds: list[list[str]]) -> dict[str, Any]:
    """A few answers from all over the test rows, good ones and bad ones."""
    import numpy as np

    places = np.unique(np.linspace(0, len(table) - 1, SAMPLE).round().astype(int)).tolist()
    chosen = [(place, table.slice(place, 1).to_pylist()[0]) for place in places]
    return {
        "title": "Some of its answers",
        "lead": f"{counted(len(places), 'test row')} at equal distances, neither best nor worst.",
        "columns": ["source", "reference", "what the model wrote"],
        "rows": [
            [_short(row["source"], BRIEF), _short(golds[place][0], BRIEF), row["prediction"]]
            for place, row in chosen
        ],
    }


def _counted(signatures: Mapping[str, str]) -> dict[str, Any]:
    return {
        "title": "How it was counted",
        "lead": "Figures of these measures can be compared where their signatures are the same.",
        "columns": ["measure", "signature"],
        "rows": [[name, how] for name, how in signatures.items()],
    }


def _same(written: list[str], golds: list[str]) -> list[str]:
    """A note where one text is written far more often than any is right."""
    (text, count), (_, usual) = (Counter(texts).most_common(1)[0] for texts in (written, golds))
    if count < SAME * len(written) + 2 * usual:
        return []
    return [
        f"{count:,} of {len(written):,} answers are the same, '{_short(text, 80)}': the model says "
        "what is common and not yet what the source says. Train longer, or begin with a "
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
