"""Answers on the test rows beside those of baselines, as a table, and the mistakes among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import log1p
from typing import TYPE_CHECKING, Any

from warmstart.tasks.base import Examples, Result, Rival

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats
    from warmstart.metrics.squad import Answers
    from warmstart.types import Prediction


# Answers without a model: by the words that a passage shares with the question.

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]*\s*")

Answer = Callable[[str, str], str]
"""(question, context) → answer."""


def sentence(question: str, context: str) -> str:
    """The sentence that holds most of the question's words, weighed by how rare they are."""
    words, weights = _words(question), _weights(context)
    sentences = [found.group().strip() for found in SENTENCE.finditer(context)]
    kept = [one for one in sentences if one] or [context]
    return max(kept, key=lambda one: sum(weights.get(w, 0.0) for w in words & _words(one)))


def window(words_wanted: int) -> Answer:
    """The span of so many words that stands nearest to the question's words and holds none: the
    distance-based window over a passage (Richardson et al. 2013), each word weighed by how rare it
    is and by its distance."""

    def answer(question: str, context: str) -> str:
        asked, weights = _words(question), _weights(context)
        places = list(WORD.finditer(context))
        heard = [word.group().lower() for word in places]
        anchors = [(at, weights[word]) for at, word in enumerate(heard) if word in asked]
        size = min(words_wanted, len(places))
        begins = range(len(places) - size + 1)
        if not size or not anchors:
            return context[places[0].start() : places[size - 1].end()] if size else ""
        best = max(begins, key=lambda begin: _nearness(anchors, begin, begin + size - 1))
        return context[places[best].start() : places[best + size - 1].end()]

    return answer


def _nearness(anchors: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """The weights of the question's words about a span, by distance; below 0 if it holds one."""
    if any(first <= at <= last for at, _ in anchors):
        return -1.0
    return sum(weight / (first - at if at < first else at - last) for at, weight in anchors)


def default_size(answers: Sequence[str]) -> int:
    """The median number of words of the training answers."""
    sizes = sorted(len(WORD.findall(answer)) for answer in answers)
    return max(1, sizes[len(sizes) // 2]) if sizes else 1


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}


def _weights(context: str) -> dict[str, float]:
    """The inverse count of each word: log(1 + 1 / occurrences)."""
    counts = Counter(word.lower() for word in WORD.findall(context))
    return {word: log1p(1 / count) for word, count in counts.items()}


LIMIT = 200  # mistakes that are listed
AROUND = 300  # characters of the context shown on each side
NOTHING = "(no answer)"


def result(
    answers: Sequence[Prediction],
    test: Examples,
    train: Examples | None,
    facts: Mapping[str, Any],
) -> Result:
    """Judge the answers; `train` is where baselines learn, None: there are none."""
    import numpy as np

    from warmstart.metrics.squad import Answers
    from warmstart.tasks.extractive_qa.answers import texts_of

    golds = texts_of(test.table["answers"])
    measure = Answers(unanswerable=not all(golds) and any(golds))
    rows = measure.rows([answer.value for answer in answers], golds)
    table = prediction_table(answers, test.table, rows)
    contexts = test.table["context"].to_pylist()
    numbers = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
    return Result(
        measure=measure,
        rows=rows,
        rivals=[] if train is None else rivals(measure, train, test),
        table=table,
        mistakes=mistakes(answers, test.table, rows),
        groups=np.array([numbers[context] for context in contexts], np.int64),
        facts=facts,
    )


def rivals(measure: Answers, train: Examples, test: Examples) -> list[Rival]:
    """The same figures of answers that no model gave."""
    from warmstart.tasks.extractive_qa.answers import texts_of

    golds, learned = texts_of(test.table["answers"]), texts_of(train.table["answers"])
    size = default_size([gold[0] for gold in learned if gold])
    pairs = list(
        zip(
            test.table["question"].to_pylist(), test.table["context"].to_pylist(), strict=True
        )
    )  # fmt: skip
    beside = "the word" if size == 1 else f"{size} words"
    by_words = {
        ("sentence", "sentence with the question's words"): sentence,
        ("window", f"{beside} beside the question's"): window(size),
    }
    found = [
        Rival(name, title, measure.rows([answer(*pair) for pair in pairs], golds))
        for (name, title), answer in by_words.items()
    ]
    if not all(golds) or not all(learned):
        found.insert(
            0, Rival("nothing", "always no answer", measure.rows([""] * len(golds), golds))
        )
    return found


def prediction_table(
    answers: Sequence[Prediction], table: pa.Table, rows: Floats
) -> pa.Table:  # fmt: skip
    """One row for each question: inputs, answers as JSON, the prediction, its score."""
    import pyarrow as pa

    numbers = pa.array([str(row) for row in range(len(table))])
    return pa.table(
        {
            "id": table["id"] if "id" in table.column_names else numbers,
            "file": table["_file"],
            "line": table["_line"],
            "question": table["question"],
            "context": table["context"],
            "answers": table["answers"],
            "prediction": pa.array([answer.value for answer in answers], pa.string()),
            "start": pa.array([getattr(answer, "start", None) for answer in answers], pa.int64()),
            "confidence": pa.array([answer.confidence for answer in answers], pa.float64()),
            "exact_match": pa.array(rows[:, 1]),
            "f1": pa.array(rows[:, 2]),
        }
    )


def mistakes(
    answers: Sequence[Prediction], table: pa.Table, rows: Floats, limit: int = LIMIT
) -> list[dict[str, Any]]:
    """Answers that are not exact, those first that were surest and farthest off; each with its
    passage, the true answer and the given one marked."""
    import numpy as np

    from warmstart.tasks.extractive_qa.answers import read

    sure = np.array([answer.confidence for answer in answers])
    wrong = np.flatnonzero(rows[:, 1] < 1)
    order = wrong[np.argsort(-(sure * (1 - rows[:, 2]))[wrong], kind="stable")][:limit]
    golds = read(table["answers"].take(order))
    found: list[dict[str, Any]] = []
    for row, gold in zip(order.tolist(), golds, strict=True):
        answer, texts = answers[row], dict.fromkeys(one["text"] for one in gold)
        found.append(
            {
                "file": table["_file"][row].as_py(),
                "line": table["_line"][row].as_py(),
                "text": table["question"][row].as_py(),
                "label": " / ".join(texts) or NOTHING,
                "prediction": answer.value or NOTHING,
                "confidence": answer.confidence,
                "note": f"F1 {rows[row, 2]:.2f}",
                "context": marked(table["context"][row].as_py(), gold, answer),
            }
        )
    return found


def marked(context: str, golds: Sequence[Mapping[str, Any]], answer: Any) -> str:
    """The part of the context about both answers: [true: …] and [said: …]."""
    places = [("true", one["start"], one["start"] + len(one["text"])) for one in golds[:1]]
    if getattr(answer, "start", None) is not None:
        places.append(("said", answer.start, answer.end))
    if not places:
        return _shortened(context)
    inserts = [(at, 1, f"[{name}: ", -end) for name, at, end in places]
    inserts += [(end, 0, "]", -at) for _, at, end in places]
    low, high = min(one[1] for one in places), max(one[2] for one in places)
    begin, end = max(0, low - AROUND), min(len(context), high + AROUND)
    parts, done = ["…" if begin else ""], begin
    for at, _, mark, _ in sorted(inserts, key=lambda one: (one[0], one[1], one[3])):
        parts += [context[done:at], mark]
        done = at
    return "".join([*parts, context[done:end], "…" if end < len(context) else ""])


def _shortened(context: str) -> str:
    return context[: 2 * AROUND] + ("…" if len(context) > 2 * AROUND else "")
