"""Prompts that a model answers, and whose answers can be judged: the task of reinforcement
learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import DataError, RecipeError
from warmstart.formatting import counted
from warmstart.metrics.rewards import Means, are_right, needed, number_in
from warmstart.tasks.base import Drop, Examples, without
from warmstart.tasks.generation import REFERENCES, TextTask, texts_of
from warmstart.tasks.results import TaskResult, list_mistakes, prediction_table, shortened

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats
    from warmstart.models.generation import GenerationOutput

Json = Mapping[str, Any]
TITLES: Mapping[str, str] = {
    "accuracy": "right answers",
    "reward": "mean reward",
    "ended": "answers that end by themselves",
    "length": "tokens of an answer",
}
SAMPLES, BRIEF = 8, 300
COLLAPSED = 0.05
"""Share of its first entropy below which a policy has collapsed."""
WINDOW, ERRORS = 5, 2.0
"""Rounds at the beginning and at the end that are compared, and standard errors that are no noise.
"""


class Prompts(TextTask):
    """A text is written for each prompt, and judged: beside the answer that is wanted, or by the
    reward that it was trained for."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "source": ("prompt", "question", "problem", "instruction", "query", "source", "input",
                   "text"),
        "target": ("answer", "target", "solution", "ground_truth", "output", "response",
                   "completion", "label"),
        "references": REFERENCES,
    }  # fmt: skip
    objective: ClassVar[str] = "grpo"
    metric_titles: ClassVar[Mapping[str, str]] = TITLES
    row_figure: ClassVar[str] = "accuracy"
    default_batch: ClassVar[int | None] = 16

    num_beams: int = Field(
        default=1, ge=1, le=64, description="answers followed at once (beam search); 1: greedy"
    )
    verify: Literal["exact", "numeric", "regex"] = Field(
        default="exact",
        description="when an answer is right: exact, but for spaces; numeric: its last number is "
        "the one that is wanted; regex: `pattern` matches it",
    )
    pattern: str | None = Field(
        default=None,
        description="regular expression (RE2) of verify regex; what its group `answer` matches has "
        "to be the answer that is wanted",
    )
    validation_texts: int = Field(
        default=200,
        ge=0,
        description="write answers for so many validation rows after each epoch and choose the "
        "epoch by them; 0: by the mean probability of the target's tokens",
    )
    answers_known: bool = Field(
        default=True, description="whether the data say what is right; found out from them"
    )

    @property
    def main_score(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Right answers, where the data say which are; else the reward."""
        return "accuracy" if self.answers_known else "reward"

    @property
    def score_span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        table = super().rows(table, drop)
        if "target" not in table.column_names or self.verify != "numeric":
            return table
        missing = [number_in(text or "") is None for text in table["target"].to_pylist()]
        return without(table, np.array(missing, bool), drop, "no number in the answer")

    def resolve_for_data(self, table: pa.Table) -> Prompts:
        """With whether the data say what is right. Raises `RecipeError`."""
        known = "target" in table.column_names
        if self.verify == "regex":
            pattern = needed(self.pattern)
            are_right("regex", [], [], pattern)
            known = known or "(?P<answer>" not in pattern
        elif self.pattern:
            raise RecipeError(
                f"task.pattern goes with task.verify regex, and verify is {self.verify}"
            )
        return self.model_copy(update={"answers_known": known})

    def default_rate(self, method: Any, width: int) -> float:
        """A tenth of what learning from labels takes: each step is made of few answers."""
        return super().default_rate(method, width) / 10

    def score(self, outputs: GenerationOutput, examples: Examples) -> dict[str, float]:
        figures = {"token_probability": outputs.probability}
        done = sum(ids is not None for ids in outputs.ids)
        if done and self.answers_known:
            some = replace(examples, table=examples.table.slice(0, done))
            right = self.right(texts_of(outputs, examples.tokenizer)[:done], some)
            figures["accuracy"] = float(right.mean())
        return figures

    def right(self, texts: Sequence[str], examples: Examples) -> np.ndarray:
        """Which answers are right [n]."""
        return are_right(self.verify, texts, wanted(examples.table), self.pattern)

    def encode(
        self, table: pa.Table, labels: Sequence[str], tokenizer: Any, longest: int,
        on_cut: Any = None,
    ) -> TokenizedDataset:  # fmt: skip
        if self.separator is None:
            raise RecipeError(
                "task prompts is for decoders, and this base is an encoder-decoder; take task "
                "text2text"
            )
        return super().encode(table, labels, tokenizer, longest, on_cut)

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, answers = examples["test"], outputs["test"]
        rewards: Mapping[str, Floats] = outputs.get("rewards", {})
        texts = texts_of(answers, test.tokenizer)
        if not self.answers_known and "test" not in rewards:
            raise DataError(
                "the rows say no answer that would be right, and the reward that the model was "
                "trained for is known only while it is trained; name the answers with "
                "--data.columns.target NAME"
            )
        names = ["ended", "length"]
        names += ["accuracy"] * self.answers_known + ["reward"] * ("test" in rewards)
        right = "accuracy" if self.answers_known else ""
        measure = Means(names, ["ended", "accuracy"], right)

        def statistics(written: GenerationOutput, which: str) -> Floats:
            ids = [row or [] for row in written.ids]
            columns: dict[str, Floats] = {
                "ended": np.array(
                    [row[-1:] == [test.tokenizer.eos_token_id] for row in ids], float
                ),
                "length": np.array([len(row) for row in ids], float),
            }
            if self.answers_known:
                own = texts_of(written, test.tokenizer)
                columns["accuracy"] = self.right(own, test).astype(float)
            if which in rewards:
                columns["reward"] = np.asarray(rewards[which], float)
            return measure.rows(columns)

        rows = statistics(answers, "test")
        columns: dict[str, Any] = {"prompt": test.table["source"], "prediction": texts}
        if self.answers_known and "target" in test.table.column_names:
            columns["answer"] = test.table["target"]
        for name in ("accuracy", "reward"):
            if name in names:
                column = rows[:, 1 + names.index(name)]
                columns["correct" if name == "accuracy" else name] = (
                    column > 0 if name == "accuracy" else column.astype(np.float32)
                )
        columns["confidence"] = answers.confidence.astype(np.float32)
        table = prediction_table(test.table, columns)
        training: Json = outputs.get("training", {})
        before = texts_of(outputs["untuned"], test.tokenizer) if "untuned" in outputs else None
        return TaskResult(
            measure=measure,
            statistics=rows,
            score=lambda written: statistics(written, "untuned"),
            table=table,
            mistakes=_mistakes(table, rows[:, 1 + names.index(self.main_score)]),
            facts={"sections": [_samples(table, before), *_course(training)],
                   **({} if self.answers_known else {"wrong": None})},
            notes=[*alarms(training), *_limits(rows, names)],
        )  # fmt: skip


def wanted(table: pa.Table) -> list[str | None]:
    """The answer of each row that would be right."""
    known = "target" in table.column_names
    return table["target"].to_pylist() if known else [None] * len(table)


def alarms(training: Json) -> list[str]:
    """What went wrong in training by its own figures: the reward was had otherwise than by right
    answers, or the answers became all alike.

    Args:
        training: figure → its value each time that answers were written.
    """
    found: list[str] = []
    reward = _change(training, "reward")
    for name, what in (("accuracy", "the share of right answers"),):
        truth = _change(training, name)
        if reward and truth and reward.rose and truth.fell:
            found.append(
                f"Reward hacking: the reward rose from {reward.first:.3g} to {reward.last:.3g} "
                f"while {what} fell from {truth.first:.1%} to {truth.last:.1%}. The model is paid "
                "for something else than right answers; reward these, or stop earlier."
            )
    entropy, accuracy = _change(training, "entropy"), _change(training, "accuracy")
    if entropy and entropy.last < COLLAPSED * entropy.first:
        sure = " Nearly all of its answers are right, so that it may be." if (
            accuracy and accuracy.last > 1 - 2 * COLLAPSED) else (
            " What it does not try it cannot learn: a higher temperature, a lower "
            "train.learning_rate or a kl_loss keeps answers apart.")  # fmt: skip
        found.append(
            f"Collapse: the entropy of a token fell to {entropy.last / entropy.first:.1%} of its "
            f"start ({entropy.first:.3g} to {entropy.last:.3g} nats): the answers to a prompt have "
            f"become nearly alike.{sure}"
        )
    return found


class _Change:
    """How a figure went from the first rounds to the last ones."""

    def __init__(self, values: np.ndarray) -> None:
        size = max(1, min(WINDOW, len(values) // 2))
        ends = values[:size], values[-size:]
        self.first, self.last = (float(part.mean()) for part in ends)
        spread = sum(float(part.var(ddof=1)) / size for part in ends if size > 1) ** 0.5
        self.rose = self.last - self.first > ERRORS * spread
        self.fell = self.first - self.last > ERRORS * spread


def _change(training: Json, name: str) -> _Change | None:
    values = np.array(training.get(name, []), float)
    return _Change(values) if len(values) > 1 and np.isfinite(values).all() else None


COURSE: Mapping[str, str] = {
    "step": "step", "reward": "reward", "accuracy": "right", "entropy": "entropy", "kl": "KL",
    "distinct": "distinct answers", "dead_groups": "dead groups", "clipped": "cut at the limit",
    "length": "tokens of those that ended",
}  # fmt: skip


def _course(training: Json) -> list[dict[str, Any]]:
    """A section of the report: what the answers of training were like, at about ten times."""
    if not training or not training.get("step"):
        return []
    names = [name for name in COURSE if np.isfinite(training[name]).all()]
    places = np.unique(np.linspace(0, len(training["step"]) - 1, 10).round().astype(int))
    return [{
        "title": "The answers in training",
        "lead": "Means of the answers that were written at a step. Entropy and KL (the divergence "
        "from the base) are nats a token; a group is dead where all answers to a prompt have the "
        "same reward.",
        "columns": [COURSE[name] for name in names],
        "rows": [
            [f"{int(training['step'][place]) + 1}" if name == "step"
             else f"{training[name][place]:.3g}" for name in names]
            for place in places.tolist()
        ],
    }]  # fmt: skip


def _samples(table: pa.Table, before: list[str] | None) -> dict[str, Any]:
    """A section of the report: a few answers, beside those of the base before training."""
    places = np.unique(np.linspace(0, len(table) - 1, SAMPLES).round().astype(int)).tolist()
    rows = [table.slice(place, 1).to_pylist()[0] for place in places]
    columns = ["prompt", "answer wanted", "before", "now"]
    kept = [True, "answer" in table.column_names, before is not None, True]
    cells = [
        [row["prompt"], row.get("answer", ""), before[place] if before else "", row["prediction"]]
        for place, row in zip(places, rows, strict=True)
    ]
    return {
        "title": "Some of its answers",
        "lead": f"{counted(len(places), 'test row')} at equal distances, neither best nor worst.",
        "columns": [name for name, keep in zip(columns, kept, strict=True) if keep],
        "rows": [[shortened(text, BRIEF) for text, keep in zip(row, kept, strict=True) if keep]
                 for row in cells],
    }  # fmt: skip


def _mistakes(table: pa.Table, scores: Floats) -> list[dict[str, Any]]:
    """The answers with the lowest score that are not right, as the report lists them."""
    order = np.argsort(scores, kind="stable")
    if "correct" in table.column_names:
        order = order[scores[order] <= 0]

    def describe(row: int) -> dict[str, Any]:
        values = table.slice(row, 1).to_pylist()[0]
        return {
            "text": shortened(values["prompt"]), "label": shortened(values.get("answer", "")),
            "prediction": shortened(values["prediction"]), "confidence": values["confidence"],
            "note": f"score {scores[row]:.3g}", "written": True,
        }  # fmt: skip

    return list_mistakes(table, order, describe)


def _limits(rows: Floats, names: Sequence[str]) -> list[str]:
    """A note where many answers were cut."""
    ended = float(rows[:, 1 + names.index("ended")].mean())
    if ended > 0.8:
        return []
    return [
        f"{1 - ended:.0%} of the answers were cut at task.max_new_tokens: raise it, or teach the "
        "model to end its answers."
    ]
