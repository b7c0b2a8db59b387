"""What a base has forgotten: how it reads general text before and after it was tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from warmstart.evaluation import sentences as words
from warmstart.evaluation.settings import Evaluate
from warmstart.metrics.base import Floats, Measure, Scores, ratio
from warmstart.metrics.bootstrap import Difference, difference, disputed, intervals
from warmstart.models.head_layers import unwrap
from warmstart.training.regularization.language_model import Reader
from warmstart.training.regularization.text import evenly, halves

FEWEST = 40
GUESSED = 0.5  # of the tokens that there are, as a perplexity: not told from guessing
WORK = 3_000_000_000  # weights times passages that are read, of the text that comes along
TITLES = {
    "perplexity": "perplexity of a token",
    "word_perplexity": "perplexity of a word",
    "recall": "second halves found",
    "reciprocal_rank": "mean reciprocal rank of the second half",
}
HOLD = (
    "To hold it: learn general text along (--forgetting.text FILE --forgetting.rehearsal 0.1), a "
    "penalty (--forgetting.penalty l2_sp), lower rates, at least below (--method.layer_decay 0.8), "
    "or an adapter such as lora, without which the base is as it was."
)


class Perplexity(Measure):
    """exp(nats / tokens), and by words where all of a text's tokens are said.

    Statistics of a passage: nats, tokens, words.
    """

    lower_is_better = frozenset({"perplexity", "word_perplexity"})

    def score(self, sums: Floats) -> Scores:
        scores = {"perplexity": np.exp(ratio(sums[..., 0], sums[..., 1]))}
        if np.all(sums[..., 2] > 0):
            scores["word_perplexity"] = np.exp(ratio(sums[..., 0], sums[..., 2]))
        return scores

    def highest(self, name: str) -> float | None:
        return None


class HalvesRetrieval(Measure):
    """How near a passage's second half is to its first, among all second halves.

    Statistics of a passage: whether it is the nearest, 1 / its rank, 1.
    """

    def score(self, sums: Floats) -> Scores:
        return {
            "recall": ratio(sums[..., 0], sums[..., 2]),
            "reciprocal_rank": ratio(sums[..., 1], sums[..., 2]),
        }


def statistics(reader: Reader, texts: Sequence[str]) -> Floats:
    """What a measure needs of each passage [n, 3]: `Perplexity` with a language-model head.

    Without one, `HalvesRetrieval`: by the cosine of mean states, which of all second halves
    goes with a passage's first half. No label is needed.
    """
    with torch.no_grad(), reader.resting():
        if reader.lm is not None:
            pieces = reader.pieces(texts)
            rows = np.zeros((len(pieces), 3))
            for part in reader.parts(pieces):
                nll, tokens = reader.nll([pieces[at] for at in part])
                rows[part, 0], rows[part, 1] = nll.double().cpu(), tokens.cpu()
            rows[:, 2] = [piece.words for piece in pieces]
            return rows
        states = [reader.all_states(reader.pieces(side))
                  for side in zip(*map(halves, texts), strict=True)]  # fmt: skip
        first, second = (normalize(side, dim=-1).cpu().numpy() for side in states)
    near = first @ second.T
    ranks = 1.0 + (near > np.diag(near)[:, None]).sum(1)
    return np.stack([ranks == 1, 1 / ranks, np.ones(len(texts))], 1).astype(float)


def fewer(texts: Sequence[str], weights: int) -> list[str]:
    """Evenly some of the passages: so many that a large model takes seconds, too; 40 at least."""
    return evenly(texts, max(FEWEST, WORK // max(weights, 1)))


def compared(
    reader: Reader,
    before: Floats,
    after: Floats,
    settings: Evaluate,
    seed: int,
    text: str,
    *,
    changes: str = "weights",
    kept: bool = False,
) -> dict[str, Any]:
    """The forgetting figure: before, after, their paired difference, and what it means in words."""
    by_states = reader.lm is None
    measure = HalvesRetrieval() if by_states else Perplexity()
    main = "recall" if by_states else "perplexity"
    level, draws = settings.confidence_level, settings.bootstrap
    figures: dict[str, Any] = {}
    for when, rows in (("before", before), ("after", after)):
        table = intervals(measure, rows, draws, level, seed)
        figures[when] = {name: interval.as_dict() for name, interval in table.items()}
    against = difference(measure, after, before, main, draws, level, seed)
    blind = _blind(reader, figures["before"][main], len(before))
    outcome = "nothing known" if blind else against.outcome
    return {
        "figure": main,
        "title": TITLES[main],
        "text": text,
        "passages": len(before),
        **figures,
        "difference": against.as_dict(),
        "outcome": outcome,
        "sentence": blind or _sentence(figures, against, len(before), changes),
        "advice": HOLD if outcome == "worse" and not kept else "",
    }


def of_corpora(
    measure: Measure,
    before: Mapping[str, Floats],
    after: Mapping[str, Floats],
    settings: Evaluate,
    seed: int,
    *,
    kept: bool = False,
) -> dict[str, Any]:
    """What a language model that went on gained of its own corpus, the first one, and lost of the
    others: bits per byte where they are known, else the loss, by held-out document."""
    level, draws = settings.confidence_level, settings.bootstrap
    corpora: dict[str, Any] = {}
    for name, rows in after.items():
        figures = {"after": intervals(measure, rows, draws, level, seed)}
        main = "bits_per_byte" if "bits_per_byte" in figures["after"] else "loss"
        facts: dict[str, Any] = {"figure": main, "parts": len(rows)}
        if name in before:
            figures["before"] = intervals(measure, before[name], draws, level, seed)
            gap = difference(measure, rows, before[name], main, draws, level, seed)
            facts |= {"difference": gap.as_dict(), "outcome": gap.outcome}
        for when, table in figures.items():
            facts[when] = {key: own.as_dict() for key, own in table.items()}
        corpora[name] = facts
    others = [name for name in corpora if name != "test"]
    outcomes = [corpora[name].get("outcome", "") for name in others]
    worse = "worse" in outcomes
    return {
        "outcome": "worse" if worse else next(filter(None, outcomes), "nothing known"),
        "sentence": " ".join(_of_corpus(name, corpora[name]) for name in corpora),
        "advice": HOLD if worse and not kept else "",
        "corpora": corpora,
    }


def _of_corpus(name: str, facts: Mapping[str, Any]) -> str:
    """One corpus in a sentence: "Held-out general: 1.204 bits per byte, before 1.190 …"."""
    unit = "bits per byte" if facts["figure"] == "bits_per_byte" else "nats a token"
    now = facts["after"][facts["figure"]]["value"]
    what = "Its own held-out documents" if name == "test" else f"Those of {name}"
    if "before" not in facts:
        return f"{what}: {now:.3f} {unit}."
    then, gap = facts["before"][facts["figure"]]["value"], facts["difference"]
    share = f"{(now - then) / (then or 1):+.1%}".replace("-", "\u2212")
    verdict = {"worse": "it rose", "better": "it fell"}.get(facts["outcome"], words.NOT_TOLD)
    if verdict == words.NOT_TOLD and disputed(gap["low"], gap["high"], gap["p_value"]):
        verdict = f"{words.NOT_TOLD}, as the test disagrees ({words.p_words(gap['p_value'])})"
    level = words.percent(gap["level"])
    between = f"{gap['low']:+.3f} to {gap['high']:+.3f}".replace("-", "\u2212")
    return (f"{what}: {now:.3f} {unit}, before {then:.3f} ({share}; {level} interval of the "
            f"difference {between}): {verdict}.")  # fmt: skip


def unchanged() -> dict[str, Any]:
    """What is said, unmeasured, of a method that leaves the base's weights as they were."""
    text = "Nothing is forgotten: the method leaves the base's weights as they were."
    return {"outcome": "nothing changed", "sentence": text, "advice": ""}


def section(facts: dict[str, Any]) -> dict[str, Any]:
    """The figure as a section of the report."""
    if "corpora" in facts:
        return _table_of(facts)
    if "figure" not in facts:
        return {"title": "Forgetting", "lead": facts["sentence"], "columns": [], "rows": []}
    rows = [[words.title(TITLES[name])] for name in facts["before"]]
    for when in ("before", "after"):
        for row, interval in zip(rows, facts[when].values(), strict=True):
            value, low, high = (words.figure(interval[key]) for key in ("value", "low", "high"))
            row.append(f"{value} ({low} to {high})")
    where = f"On {facts['passages']} passages of {facts['text']}"
    return {
        "title": "Forgetting",
        "lead": f"{facts['sentence']} {facts['advice']}".strip(),
        "columns": [where, "the base", "this model"],
        "rows": rows,
    }


def _table_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The corpora side by side."""
    rows: list[list[str]] = []
    for name, own in facts["corpora"].items():
        title = "the corpus" if name == "test" else name
        cells = [f"{title} ({own['parts']:,} parts)"]
        for when in ("before", "after"):
            score = own.get(when, {}).get(own["figure"])
            cells.append("" if score is None else f"{score['value']:.3f} "
                         f"({score['low']:.3f} to {score['high']:.3f})")  # fmt: skip
        rows.append([*cells, own.get("outcome", "")])
    figure = next(iter(facts["corpora"].values()))["figure"]
    unit = "bits per byte" if figure == "bits_per_byte" else "nats a token"
    return {
        "title": "Gained and forgotten",
        "lead": f"{facts['sentence']} {facts['advice']}".strip(),
        "columns": [f"{unit}, on held-out documents", "the base", "this model", ""],
        "rows": rows,
    }


def _blind(reader: Reader, before: dict[str, float], passages: int) -> str:
    """What is said of a base that reads like random weights, whose change means nothing; or ''."""
    if reader.lm is not None:
        tokens = int(unwrap(reader.model).config.vocab_size)
        knows, guess = before["low"] < GUESSED * tokens, f"one in {tokens:,} tokens"
    else:
        knows, guess = before["low"] > 1 / passages, f"one in {passages:,} passages"
    if knows:
        return ""
    return f"There was nothing to forget: the base read these passages as if it guessed ({guess})."


def _sentence(figures: dict[str, Any], against: Difference, passages: int, changes: str) -> str:
    name = against.metric
    base, tuned = (figures[when][name]["value"] for when in ("before", "after"))
    evidence = f"{words.percent(against.level)} interval of the difference "
    if name == "recall":
        text = f"on {passages} passages it never trained on, it found the second half that goes "
        text += f"with the first in {words.share(tuned)}; its base in {words.share(base)}"
        evidence += f"{words.points(against.low, sign=True)} to "
        evidence += f"{words.points(against.high, sign=True)} points"
    else:
        text = f"on {passages} passages it never trained on, its perplexity of a token is "
        text += f"{words.figure(tuned)}; that of its base was {words.figure(base)}"
        evidence += f"{against.low:+.2f} to {against.high:+.2f}".replace("-", "−")
    evidence += f", {words.p_words(against.p_value)}"
    verdict = {
        "worse": "It has forgotten some of what its base knew",
        "better": "It reads general text better than its base",
        "noise": "No forgetting can be told from noise",
    }[against.outcome]
    if against.outcome == "worse" and changes == "beside":
        evidence += "; without the adapter the base is as it was"
    return f"{verdict}: {text} ({evidence})."
