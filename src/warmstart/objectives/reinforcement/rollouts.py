"""Answers that a model wrote while it learns, as arrays, and what is noticed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from warmstart.errors import RunError, shown
from warmstart.metrics.rewards import Answered, are_right
from warmstart.objectives.reinforcement.policy import Estimator, kl_estimate

RECORD = (
    "step", "reward", "accuracy", "entropy", "kl", "distinct", "dead_groups", "clipped", "length",
)  # fmt: skip
"""What is kept of each time that answers are written; see `Rollouts.facts`."""


@dataclass(eq=False)
class Rollouts:
    """Answers to the prompts of some steps: N of them, `copies` to each prompt side by side.

    Args:
        begin: steps that were done when they were written.
        parts: in how many parts the steps learn from them.
        copies: answers to each prompt.
        prompts: the number of each one's prompt among the rows of train [N].
        offsets: where the tokens of each begin, and where the last ones end [N + 1].
        answers: by name, a value of each answer [N]: `reward`; `ended` where the model ended it.
        tokens: by name, a value of each token [T]: `ids`; `old`, its log-probability as it was
            drawn; `reference`, that under the model as it was before; `advantages`; whatever else
            `credit` adds.
        facts: figures of all of them, as they go to the log.
    """

    begin: int
    parts: int
    copies: int
    prompts: np.ndarray
    offsets: np.ndarray
    answers: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    facts: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each answer [N]."""
        return np.diff(self.offsets)

    @property
    def groups(self) -> np.ndarray:
        """The rewards of each prompt's answers [G, copies]."""
        return self.answers["reward"].reshape(-1, self.copies)

    def of_token(self, values: np.ndarray) -> np.ndarray:
        """A value of each answer [N] for each of its tokens [T]."""
        return np.repeat(values, self.lengths)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values of tokens [T] summed by answer [N]."""
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return np.bincount(owner, values, minlength=len(self.lengths))

    def part(self, place: int) -> np.ndarray:
        """The answers that the step at this place learns from; all answers of a prompt together."""
        chunks = np.array_split(np.arange(len(self.prompts) // self.copies), self.parts)
        groups = chunks[place % self.parts]
        return (groups[:, None] * self.copies + np.arange(self.copies)).reshape(-1)

    def divergence(self, estimator: Estimator) -> np.ndarray:
        """What each token says of the distance from the reference [T]."""
        import torch

        old, reference = (
            torch.from_numpy(self.tokens[name])[None] for name in ("old", "reference")
        )
        return kl_estimate(old, reference, torch.ones_like(old, dtype=torch.bool), estimator)[
            0
        ].numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for a checkpoint."""
        arrays = {"shape": np.array([self.begin, self.parts, self.copies])}
        arrays |= {"prompts": self.prompts, "offsets": self.offsets}
        for kind in ("answers", "tokens", "facts"):
            values: Mapping[str, Any] = getattr(self, kind)
            arrays |= {f"{kind}.{name}": np.asarray(value) for name, value in values.items()}
        return arrays

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """What `arrays` gave, put together again."""
        kinds: dict[str, dict[str, Any]] = {"answers": {}, "tokens": {}, "facts": {}}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            if rest:
                kinds[kind][rest] = float(array) if kind == "facts" else array
        begin, parts, copies = arrays["shape"].tolist()
        return cls(begin, parts, copies, arrays["prompts"], arrays["offsets"], **kinds)


def facts_of(rollouts: Rollouts, answered: Answered, task: Any) -> dict[str, float]:
    """Figures of answers that have been rewarded, means of all: reward, share that was cut, length
    of those that ended; where the task knows what is right, the share of right ones; of several
    answers to a prompt, how many differ, and the share of prompts that teach nothing."""
    reward, ended, lengths = rollouts.answers["reward"], answered.ended, answered.tokens
    facts = {
        "reward": float(reward.mean()),
        "clipped": float(1 - ended.mean()),
        "length": float(lengths[ended].mean()) if ended.any() else 0.0,
    }
    if getattr(task, "answers_known", False):
        right = are_right(task.verify, answered.texts, answered.answers, task.pattern)
        facts["accuracy"] = float(right.mean())
    if rollouts.copies > 1:
        groups = np.array(answered.texts, object).reshape(-1, rollouts.copies)
        facts["distinct"] = float(np.mean([len({*row}) for row in groups]))
        facts["dead_groups"] = float((rollouts.groups == rollouts.groups[:, :1]).all(1).mean())
    return facts


def extremes(answered: Answered, rewards: np.ndarray) -> list[str]:
    """The best and the worst answer by reward, in words: a wrong sign is seen here."""
    places = {"best": int(rewards.argmax()), "worst": int(rewards.argmin())}
    return [
        f"{word} answer by reward before the first step, {rewards[place]:g}: "
        f"“{shown(answered.prompts[place], 200)}” → “{shown(answered.texts[place], 200)}”"
        for word, place in places.items()
    ]


def check_ends(record: Sequence[Sequence[float]], limit: int) -> None:
    """Raise `RunError` where the answers of the first two rounds were all cut at so many tokens."""
    if [row[RECORD.index("clipped")] for row in record] != [1.0, 1.0]:
        return
    raise RunError(
        f"every answer of the first two rounds was cut at task.max_new_tokens ({limit}): the model "
        "does not end its answers here, and there is nothing to learn from. Raise "
        "task.max_new_tokens, let an instruct model have its chat template (task.template own), or "
        "first teach a base how an answer looks: warmstart tune DATA --task chat"
    )
