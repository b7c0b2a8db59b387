"""Rewards: a number for each answer that a model wrote. Answers that can be verified, functions of
one's own, models; several of them with weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from warmstart import part as parts
from warmstart.errors import RecipeError, RunError, UnknownNameError, shown
from warmstart.metrics.base import Floats, Measure, Scores

Check = Literal["exact", "numeric", "regex"]
CHECKS: tuple[Check, ...] = ("exact", "numeric", "regex")
NAMES = (*CHECKS, "length", "ended")
NUMBER = re.compile(r"[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-\u2212]?\.\d+")
GROUP = "answer"
"""The group of a regular expression whose text is compared with the answer that is wanted."""
CLOSE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Answers that are to be rewarded, one entry each.

    Args:
        prompts: the texts that were asked.
        texts: what was written, without special tokens.
        answers: what would be right; None where the data do not say.
        ended: whether the model ended the text by itself.
        tokens: tokens that were written.
        messages: the prompts as lists of messages (JSON), for a model that knows conversations.
    """

    prompts: Sequence[str]
    texts: Sequence[str]
    answers: Sequence[str | None]
    ended: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    messages: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.texts)


Reward = Callable[[Answered], Floats]
OpenModel = Callable[[Path], Callable[[Sequence[str], Sequence[str]], Sequence[float]]]
"""Opens a run's folder, for a number for each of several prompts and their answers."""


def number_in(text: str) -> float | None:
    """The last number of a text, without commas between thousands; None where there is none."""
    numbers = NUMBER.findall(text)
    return float(numbers[-1].replace(",", "").replace("\u2212", "-")) if numbers else None


def is_exact(text: str, answer: str) -> bool:
    """Whether a text is the answer, but for spaces at the ends or doubled."""
    return text.split() == answer.split()


def is_numeric(text: str, answer: str) -> bool:
    """Whether the last number of a text is the last one of the answer."""
    written, wanted = number_in(text), number_in(answer)
    if written is None or wanted is None:
        return False
    return math.isclose(written, wanted, rel_tol=CLOSE, abs_tol=CLOSE)


def matches(pattern: str, texts: Sequence[str], answers: Sequence[str | None]) -> NDArray[np.bool_]:
    """Which texts a regular expression matches somewhere; where it has a group `answer`, whether
    what this matches is the answer that is wanted.

    The expressions are those of RE2, which takes time in proportion to the text whatever the
    expression: there are no look-arounds and no back-references, and none that takes for ever.
    Raises `RecipeError` for one that is none.
    """
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    column = pa.array(texts, pa.string())
    try:
        if f"(?P<{GROUP}>" not in pattern:
            return np.asarray(compute.match_substring_regex(column, pattern), bool)
        groups = compute.extract_regex(column, pattern).to_pylist()
    except pa.ArrowInvalid as error:
        raise RecipeError(
            f"the regular expression {shown(pattern)} cannot be read ({shown(error, 100)}); it is "
            "one of RE2, without look-arounds and back-references"
        ) from None
    return np.array([
        match is not None and answer is not None and is_exact(match[GROUP], answer)
        for match, answer in zip(groups, answers, strict=True)
    ], bool)  # fmt: skip


def are_right(
    check: Check, texts: Sequence[str], answers: Sequence[str | None], pattern: str | None = None
) -> NDArray[np.bool_]:
    """Which answers are right [n]. Raises `RecipeError` where `regex` has no good pattern."""
    if check == "regex":
        return matches(needed(pattern), texts, answers)
    right = is_exact if check == "exact" else is_numeric
    pairs = zip(texts, answers, strict=True)
    return np.array([answer is not None and right(text, answer) for text, answer in pairs], bool)


def needed(pattern: str | None) -> str:
    """The pattern of a verification by regular expression. Raises `RecipeError` without one."""
    if not pattern:
        raise RecipeError(
            "verify regex needs a regular expression: --task.pattern 'answer is (?P<answer>[0-9]+)'"
        )
    return pattern


@dataclass(eq=False)
class Rewards:
    """Several rewards by name, whose weighted sum an answer is given.

    Args:
        names: of `NAMES`, the dotted path of a function of one's own, or a run's folder.
        weights: one for each; none: 1 each.
        pattern: of the reward `regex`.
        open_model: opens a run's folder.
    """

    names: Sequence[str]
    weights: Sequence[float] = ()
    pattern: str | None = None
    open_model: OpenModel | None = None
    _rewards: list[Reward] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = tuple(self.weights) or (1.0,) * len(self.names)
        self._rewards = [self._reward(name) for name in self.names]

    def __call__(self, answered: Answered) -> Floats:
        """The reward of each answer [n]. Raises `RunError` where a function fails, or gives what is
        no number."""
        total = np.zeros(len(answered))
        for weight, reward in zip(self.weights, self._rewards, strict=True):
            total += weight * reward(answered)
        return total

    def _reward(self, name: str) -> Reward:
        if name in CHECKS:
            check: Any = name
            are_right(check, [], [], self.pattern)
            return lambda own: are_right(check, own.texts, own.answers, self.pattern).astype(float)
        if name == "length":
            return lambda own: own.tokens.astype(float)
        if name == "ended":
            return lambda own: own.ended.astype(float)
        if Path(name).is_dir():
            return self._of_model(Path(name))
        if "." not in name or "/" in name:
            raise UnknownNameError("reward", name, [*NAMES])
        return _own_reward(name)

    def _of_model(self, folder: Path) -> Reward:
        if self.open_model is None:
            raise RecipeError(f"the reward {folder} is a model, which cannot be opened here")
        ask = self.open_model(folder)

        def reward(own: Answered) -> Floats:
            return _numbers(str(folder), ask(own.messages or own.prompts, own.texts), len(own))

        return reward


def check_names(names: Sequence[str], weights: Sequence[float]) -> None:
    """Raise `ValueError` where the weights do not belong to the rewards, by number."""
    if weights and len(weights) != len(names):
        raise ValueError(
            f"reward_weights has {len(weights)} numbers and reward {len(names)} names; give one "
            "weight for each reward, in the same order"
        )


def _own_reward(path: str) -> Reward:
    """A function of the user's own: it is called with the lists `prompts`, `completions` and
    `answer`, as TRL calls it, and gives a number for each."""
    function: Any = parts.own_class(
        path, "objective.reward",
        f"give one of {', '.join(NAMES)}, a run's folder, or the path of a function, as in "
        "my_package.rewards.polite",
    )  # fmt: skip
    if not callable(function):
        raise RecipeError(f"objective.reward: {shown(path)} is no function")

    def reward(own: Answered) -> Floats:
        try:
            numbers = function(
                prompts=[*own.prompts], completions=[*own.texts], answer=[*own.answers]
            )
        except Exception as error:
            name = type(error).__name__
            raise RunError(f"the reward {path} failed: {name}: {shown(error, 160)}") from error
        return _numbers(path, numbers, len(own))

    return reward


def _numbers(name: str, values: Any, count: int) -> Floats:
    """What a reward gave, as one finite number for each answer. Raises `RunError`."""
    try:
        numbers = np.asarray(values, float).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.full(count, np.nan)
    if len(numbers) != count:
        raise RunError(
            f"the reward {name} gave {len(numbers)} numbers for {count} answers; it has to give "
            "one for each, in their order"
        )
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise RunError(
            f"the reward {name} gave something that is no number for answer {place + 1} of "
            f"{count}; it has to give a finite number for every answer"
        )
    return numbers


class Means(Measure):
    """The mean of each of some columns. Statistics [n, 1 + K]: 1, and the values of a row.

    Args:
        names: of the columns; those in `shares` lie between 0 and 1.
        right: the column that says whether a row is right, if there is one.
    """

    def __init__(self, names: Sequence[str], shares: Sequence[str] = (), right: str = "") -> None:
        self.names, self.shares, self.right = tuple(names), frozenset(shares), right

    def rows(self, predictions: Mapping[str, Floats], references: Any = None) -> Floats:
        """Statistics of columns by name."""
        columns = [np.asarray(predictions[name], float) for name in self.names]
        return np.stack([np.ones(len(columns[0])), *columns], 1)

    def score(self, sums: Floats) -> Scores:
        count = sums[..., 0]
        return {name: ratio_of(sums[..., 1 + n], count) for n, name in enumerate(self.names)}

    def highest(self, name: str) -> float | None:
        return 1.0 if name in self.shares else None

    def correct(self, rows: Floats) -> NDArray[np.bool_] | None:
        return rows[:, 1 + self.names.index(self.right)] > 0 if self.right else None


def ratio_of(sums: Floats, count: Floats) -> Floats:
    """Means of sums, which may be negative."""
    return np.divide(sums, count, out=np.zeros(np.shape(sums)), where=np.asarray(count) > 0)
