"""What the figures mean, in plain sentences: the same in the terminal, the report and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.formatting import counted
from warmstart.metrics.bootstrap import FEWEST, MACRO, Difference

FEW_ROWS = 100  # test rows below which every interval is wide
FEW_OF_CLASS = 10  # test rows below which a class's figures are rough
NOT_SHOWN = "the difference cannot be told from noise with so few test rows"
NOT_TOLD = "on so few texts that cannot be told from chance"
NARROW = 0.02  # two points: an interval within them says that there is no difference to speak of
DISPUTED = (
    "the difference cannot be told from chance with so few test rows, as the two tests disagree"
)
NAMED = 6  # class names listed before "and n more"


def verdict(result: Difference, other: str, name: str, scale: float = 1.0, unit: str = "") -> str:
    """A comparison in words: "better than <other> by 9.8 points of macro-F1 (95 % interval …)".

    `name` is that of the figure, `scale` makes it a share; a figure that is no share has a `unit`.
    """
    if unit:
        return _verdict_in(result, other, unit)
    sign = -1 if result.outcome == "worse" else 1
    low, high = sorted((sign * scale * result.low, sign * scale * result.high))
    evidence = f"{percent(result.level)} interval {points(low)} to {points(high)}"
    evidence += f", {p_words(result.p_value)}"
    if result.outcome == "noise":
        gap = f"{points(scale * result.difference, sign=True)} points of {name}"
        most = max(abs(low), abs(high))
        if most <= NARROW and not result.disputed:
            return (
                f"no difference of more than {points(most)} points: {gap} against {other} "
                f"({evidence})"
            )
        return f"{DISPUTED if result.disputed else NOT_SHOWN}: {gap} against {other} ({evidence})"
    gap = f"{points(abs(scale * result.difference))} points of {name}"
    return f"{result.outcome} than {other} by {gap} ({evidence})"


def _verdict_in(result: Difference, other: str, unit: str) -> str:
    """The comparison of a figure that is no share, in its own unit."""
    low, high = sorted((abs(result.low), abs(result.high)))
    evidence = f"{percent(result.level)} interval {low:.3f} to {high:.3f}"
    if result.low < 0 < result.high:
        evidence = f"{percent(result.level)} interval {result.low:.3f} to {result.high:.3f}"
    evidence += f", {p_words(result.p_value)}"
    gap = f"{abs(result.difference):.3f} {unit}"
    if result.outcome == "noise":
        return f"{DISPUTED if result.disputed else NOT_SHOWN}: {gap} from {other} ({evidence})"
    return f"{result.outcome} than {other} by {gap} ({evidence})"


def verdict_sentence(metrics: Mapping[str, Any]) -> str:
    """The whole result in one sentence: score, interval, rows, and against the best baseline."""
    main, level = metrics["main"], percent(metrics["confidence_level"])
    value, low, high = (metrics[main][key] for key in ("value", "low", "high"))
    interval = between(low, high) if low is None else f"{level} interval {between(low, high)}"
    text = f"{title(metrics['titles'].get(main, main))} {figure(value)} ({interval})"
    text += f" on {counted(metrics['rows'], metrics.get('row_name', 'test row'))}"
    comparison = metrics["comparison"]
    if comparison is None:
        return f"{text}; no baseline was computed, so it stands alone."
    return f"{text}: {comparison['sentence']}."


def calibration_sentence(measured: Mapping[str, Any]) -> str:
    """Whether the stated confidence can be believed, from `calibration.calibrate`."""
    sure, right, before = measured["confidence"], measured["accuracy"], measured["before"]
    after, text = measured["after"], f"It is {share(sure)} sure on average and right in "
    text += f"{share(right)} of the rows"
    if before["leans"]:
        text += f", so it is {'too sure of itself' if sure > right else 'not sure enough'}"
    off = f"{text}. A stated confidence is off by {points(before['ece'])} points on average, where "
    off += f"chance alone would make it {points(before['chance'])}"
    if measured["rows"] < FEW_ROWS:
        text = (
            f"Too few test rows ({measured['rows']}) to say whether its confidence can be taken at "
            "its word."
        )
    elif not measured["alarm"]:
        text += ": its confidence can be taken at its word, as far as so many rows can tell."
    elif not measured["fitted"]:
        text = f"{off}."
    elif after["ece"] < before["ece"] - 0.002:
        temperature = f"temperature {measured['temperature']:.2f}"
        text = f"{off}; corrected ({temperature}), it is off by {points(after['ece'])}"
        text += "." if after["off"] else ", no more than chance."
    else:
        text = f"{off}; correcting it with a temperature did not help."
    reason = "" if measured["fitted"] else f" No temperature was fitted: {measured['reason']}."
    return text + reason


def notes(metrics: Mapping[str, Any], single_label: bool) -> list[str]:
    """What a careful reader should know before trusting the figures."""
    count, classes = metrics["rows"], metrics["per_class"]
    absent = [row for row in classes if not row["support"]]
    wrong = {row["label"]: counted(row["predicted"]) for row in absent if row["predicted"]}
    few = [row["label"] for row in classes if 0 < row["support"] < FEW_OF_CLASS]
    silent = [row["label"] for row in classes if row["support"] and not row["predicted"]]
    texts: list[str] = []
    if count < FEW_ROWS:
        texts.append(
            f"The figures rest on {counted(count, 'test row')}, so every interval is wide: a "
            "difference of a few points says nothing."
        )
    if metrics.get("units", count) < count:
        texts.append(
            f"The {counted(count, 'test row')} are {metrics['units']:,} groups of rows that belong "
            "together (copies or nearly, one value of the group column, one passage): each counts "
            "as one in the intervals and tests."
        )
    if apart := metrics.get("without_near_copies"):
        main = metrics["titles"].get(metrics["main"], metrics["main"])
        text = f"{counted(apart['near'], 'test row')} ({share(apart['near'] / count)}) nearly "
        text += "repeat a text of train"
        if (score := apart["score"]) is not None:
            text += f"; without them {main} is {figure(score['value'])} "
            text += f"({between(score['low'], score['high'])}) on {counted(apart['rows'])}"
        texts.append(f"{text}. To take such rows out of train: --data.near_copies drop.")
    if single_label and metrics["accuracy"]["value"] == 1.0:
        texts.append(
            f"No test row was wrong. That does not make the model perfect: {counted(count)} cannot "
            f"rule out an accuracy of {metrics['accuracy']['low']:.3f}."
        )
    if absent:
        text = f"Not in the test rows, so not judged: {listed([row['label'] for row in absent])}."
        also = f" Wrongly predicted all the same: {listed(list(wrong), wrong)}." if wrong else ""
        if wrong and MACRO in metrics:
            judged = len(classes) - len(absent)
            other = metrics[MACRO]["value"] * judged / (judged + len(wrong))
            also += " With an F1 of 0 for each of these, as scikit-learn counts, macro-F1 is "
            also += f"{figure(other)}."
        texts.append(text + also)
    if metrics.get(MACRO, {"low": 0})["low"] is None:
        judged = len(classes) - len(absent)
        rows = "rows" if single_label else "rows that have it"
        texts.append(
            f"No interval of macro-F1 is given, as none would hold the true one: {counted(count)} "
            f"are too few for {counted(judged, 'class', 'classes')}. It takes {FEWEST} test {rows} "
            f"a class on average, {FEWEST * judged:,} in all."
        )
    if single_label and few:
        texts.append(f"Fewer than {FEW_OF_CLASS} test rows, so rough figures: {listed(few)}.")
    if single_label and silent:
        texts.append(f"Never predicted by the model: {listed(silent)}.")
    return texts + [
        f"The baseline {row['title']}: {note[:1].lower()}{note[1:]}"
        for row in metrics["baselines"]
        for note in row["notes"]
    ]


def unseen_texts(name: str) -> str:
    """What is said of a figure that gives the references themselves 0."""
    return (
        f"{name} gives the references themselves 0, so it says nothing here: it cannot count words "
        "of their script, or they are too short. Go by the other figures."
    )


def listed(names: Sequence[str], remarks: Mapping[str, str] | None = None) -> str:
    """Names, some with a remark, as a list that stays short: "a, b (3 rows), c and 4 more"."""
    beside = {name: f" ({remark})" for name, remark in (remarks or {}).items()}
    shown = [f"“{name}”{beside.get(name, '')}" for name in names[:NAMED]]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown) + more


def points(value: float, sign: bool = False) -> str:
    """A share as points (hundredths), one decimal, a real minus sign: -0.012 -> "−1.2"."""
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    text = "0.0" if text in {"-0.0", "+0.0"} else text
    return text.replace("-", "−")


def share(value: float) -> str:
    """A share of 1 in per cent: 0.774 -> "77 %"."""
    return f"{100 * value:.0f} %"


def percent(level: float) -> str:
    """A confidence level: 0.95 -> "95 %", 0.999 -> "99.9 %"."""
    return f"{100 * level:g} %"


def p_words(p: float) -> str:
    """A p-value as one writes it: "p < 0.001", "p = 0.013", "p = 0.42"."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def sentence(text: str) -> str:
    """A clause as a sentence of its own."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def title(text: str) -> str:
    """The name of a figure at the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def between(low: float | None, high: float | None) -> str:
    """The bounds of an interval: "0.714 to 0.802", or that there are none."""
    if low is None or high is None:
        return "no interval"
    return f"{figure(low)} to {figure(high)}"


def figure(value: float) -> str:
    """A score as one reads it: 0.774, or 41.2 where it counts to 100; never -0.000."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{round(value, 3) + 0.0:.3f}"
