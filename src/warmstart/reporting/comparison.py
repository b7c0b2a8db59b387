"""A comparison of methods in plain sentences: the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.evaluation import sentences as words
from warmstart.evaluation.comparison import NOISE, UNKNOWN, WORSE, Standing
from warmstart.evaluation.sentences import NARROW, p_words, percent, points
from warmstart.formatting import counted, duration
from warmstart.metrics.bootstrap import disputed
from warmstart.reporting.page import page
from warmstart.types import Score

WIDE = 0.05  # half of the width from which the rows are too few to call two methods equal


def score_words(value: float, spread: float | None) -> str:
    """ "0.774 ± 0.011" or, with one seed, "0.774"."""
    return f"{value:.3f}" if spread is None else f"{value:.3f} ± {spread:.3f}"


def verdict(standings: Sequence[Standing], title: str, rows: int, level: float) -> str:
    """Which is best, and whether the runner-up is really behind it."""
    best = standings[0]
    lead = f"{best.method}:" if len(standings) == 1 else f"Best is {best.method}:"
    interval = ""
    if best.low is not None and best.high is not None:
        interval = f" ({percent(level)} interval {best.low:.3f} to {best.high:.3f})"
    seeds = f", the mean of {len(best.seeds)} seeds" if best.spread is not None else ""
    score = f"{title} {score_words(best.value, best.spread)}{interval}"
    text = f"{lead} {score} on {counted(rows, 'test row')}{seeds}."
    if len(standings) == 1:
        return text
    runner = standings[1]
    text += f" The runner-up, {runner.method}, {_gap(runner, title, level)}."
    if worse := [row.method for row in standings[2:] if row.outcome == WORSE]:
        text += f" Really worse than {best.method}: {listed(worse)}."
    if noise := [row.method for row in standings[2:] if row.outcome == NOISE]:
        text += f" Not to be told from it: {listed(noise)}."
    return text


def advice(standings: Sequence[Standing], buy: Standing, level: float) -> str:
    """Which method to take."""
    best = standings[0]
    if len(standings) == 1:
        return ""
    if buy is best:
        if all(row.outcome == WORSE for row in standings[1:]):
            return f"Take {best.method}: every other method is really worse."
        cheaper = [row for row in standings[1:] if row.trainable < best.trainable]
        if not cheaper:
            return f"Take {best.method}: it is best, and none trains fewer weights."
        return (
            f"Take {best.method}: no method that trains fewer weights is within one standard error "
            "of it."
        )
    text = f"Take {buy.method}: not to be told from {best.method}"
    text += f" ({points(buy.against['difference'], sign=True)} points, {percent(level)} interval "
    text += (
        f"{points(buy.against['low'])} to {points(buy.against['high'])}), with {_costs(buy, best)}."
    )
    if buy.against["low"] < -WIDE:
        text += (
            f" Up to {points(-buy.against['low'])} points less cannot be ruled out: more test rows "
            "would tell."
        )
    return text


def notes(standings: Sequence[Standing], tested: bool) -> list[str]:
    """What a careful reader should know."""
    texts: list[str] = []
    seeds = len(standings[0].seeds)
    if seeds == 1:
        texts.append(
            "One seed each: another seed moves every score a little, and this table cannot say how "
            "much. --seed 0,1,2 does."
        )
    elif seeds == 2:
        texts.append("Two seeds say little about the spread; three or more say something.")
    if len(standings) > 2:
        texts.append(
            "The best of several is flattered a little by having been chosen on these rows; on new "
            "ones expect slightly less."
        )
    if tested and len(standings) > 2:
        count = len(standings) - 1
        texts.append(f"The p-values are corrected for {counted(count, 'comparison')} (Holm 1979).")
    if not tested and len(standings) > 1:
        texts.append(
            "There is no paired test for answers of this kind yet; two methods are told apart "
            "where their intervals do not meet, which misses small differences."
        )
    return texts


def outcome_words(outcome: str, against: Mapping[str, Any]) -> str:
    """best, noise, worse, "not tested", or "unclear" where the two tests disagree."""
    if outcome == NOISE and _is_disputed(against):
        return "unclear"
    return "not tested" if outcome == UNKNOWN else outcome


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _gap(row: Standing, title: str, level: float) -> str:
    """How far behind the best: a clause that goes on from the method's name."""
    gap = row.against
    far = f"{points(abs(gap['difference']))} points"
    if row.outcome == UNKNOWN:
        return f"is {far} of {title} lower; whether that is more than noise was not tested"
    evidence = ""
    if gap["p_value"] is not None:
        evidence = f" ({percent(level)} interval of the difference {points(gap['low'])} to "
        evidence += f"{points(gap['high'])}, {p_words(gap['p_value'])})"
    if row.outcome == WORSE:
        return f"is really worse, by {far} of {title}{evidence}"
    if gap["high"] < 0 and gap["worse_seeds"] < gap["seeds"]:
        return (
            f"is {far} lower{evidence}, but only with {gap['worse_seeds']} of {gap['seeds']} "
            "seeds, so it may be the luck of a seed"
        )
    if _is_disputed(gap):
        return (
            f"is {far} lower, which cannot be told from chance with so few test rows, as the two "
            f"tests disagree{evidence}"
        )
    if gap["p_value"] is not None and max(abs(gap["low"]), abs(gap["high"])) <= NARROW:
        return f"is {far} lower: no difference to speak of{evidence}"
    return f"is {far} lower, which cannot be told from noise with so few test rows{evidence}"


def _is_disputed(against: Mapping[str, Any]) -> bool:
    """Whether interval and test disagree on a difference, both of which there must be."""
    if against.get("p_value") is None or against["worse_seeds"] < against["seeds"]:
        return False
    return disputed(against["low"], against["high"], against["p_value"])


def _costs(row: Standing, best: Standing) -> str:
    """ "3 % of the trained weights, 4 % of the file and 90 % of the time"."""
    pairs = [
        ("of the trained weights", row.trainable, best.trainable),
        ("of the saved folder", row.file_bytes, best.file_bytes),
        ("of the training time", row.seconds, best.seconds),
    ]
    texts: list[str] = []
    for what, a, b in pairs:  # in per cent, or how many times, with two figures
        share = a / b if b else 0.0
        number, unit = (share, "times") if share >= 2 else (100 * share, "%")
        if b:
            texts.append(f"{number:.{1 if number < 10 else 0}f} {unit} {what}")
    return listed(texts)


# `comparison.html`: the methods beside each other, in the look of a run's report.

TAGS = {"best": "good", "noise": "info", "worse": "bad", "unknown": "watch"}


def render_comparison(summary: Mapping[str, Any]) -> str:
    """The page of a comparison (`comparison.json`) as HTML text."""
    filters = {
        "millions": millions, "megabytes": megabytes, "mebibytes": mebibytes,
        "duration": duration, "joules": joules, "p": words.p_words, "clause": words.sentence,
        "points": lambda value: words.points(value, sign=True),
        "outcome": outcome_words, "tag": TAGS.__getitem__,
        "drawn": lambda row: Score(row["value"], row["low"], row["high"]),
    }  # fmt: skip
    methods = summary["methods"]
    facts = {
        "s": summary,
        "methods": methods,
        "title": words.sentence(summary["title"])[:-1],
        "several": len(summary["seeds"]) > 1,
        "has_memory": any(row["peak_memory_mb"] is not None for row in methods),
        "has_energy": any(row["energy_joules"] is not None for row in methods),
    }
    return page("comparison.html.j2", facts, filters)


def millions(count: int) -> str:
    """A number of weights: "22.7 M", "0.15 M", "3,456"."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e6:.1f} M" if count >= 1_000_000 else f"{count / 1e6:.2f} M"


def megabytes(size: float) -> str:
    """Bytes as megabytes: "92 MB", "3.4 MB", "0.15 MB"."""
    value = size / 1e6
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f} MB"


def mebibytes(size: float) -> str:
    """MiB of memory: "1,194 MiB"."""
    return f"{size:,.0f} MiB"


def joules(value: float) -> str:
    """Energy: "850 J", "12.3 kJ", "1.20 kWh" from 3.6 MJ on."""
    if value >= 3.6e6:
        return f"{value / 3.6e6:.2f} kWh"
    return f"{value / 1000:.1f} kJ" if value >= 1000 else f"{value:.0f} J"
