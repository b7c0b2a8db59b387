"""Prompts that a model answers, and whose answers can be judged: the task of reinforcement
learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.conversations import (
    ASSISTANT,
    NESTED,
    PROMPT_ROLES,
    Message,
    as_text,
    read,
    read_prompts,
)
from warmstart.data.ledger import place
from warmstart.data.tokens.dataset import TokenizedDataset, store_of
from warmstart.errors import DataError, RecipeError, RowError
from warmstart.formatting import counted
from warmstart.metrics.rewards import Means, are_right, needed, number_in
from warmstart.models.architectures import family_of
from warmstart.tasks.base import Drop, Examples, OnCut, without
from warmstart.tasks.generation import NEW_TOKENS, TextTask, texts_of
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
from warmstart.tokenization.chat import ChatTemplate

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
SMALL = 512
"""Width of a model that learns from its answers at the rate of learning from labels."""
WINDOW, ERRORS = 5, 2.0
"""Rounds that are compared with others, at least, and standard errors that are no noise."""
BY_CHANCE, WORTH = 0.05, 0.05
"""Share of runs that may be named wrongly; of its highest that a score has to lose to be named."""


class Prompts(TextTask):
    """A text is written for each prompt, and judged: beside the answer that is wanted, or by the
    reward that it was trained for."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = PROMPT_ROLES
    required: ClassVar[frozenset[str] | None] = frozenset({"prompt"})
    inputs: ClassVar[tuple[str, ...]] = ("prompt",)
    nested: ClassVar[frozenset[str]] = NESTED
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
    template: str | None = Field(
        default=None,
        description="how the messages of a prompt are written: own (the base's chat template), "
        "chatml, llama-3, zephyr, vicuna, alpaca, plain, or none: the text alone and `separator`; "
        "unset: own, or none where the base has no template",
    )
    answers_known: bool = Field(
        default=True, description="whether the data say what is right; found out from them"
    )

    _templates: dict[int, ChatTemplate] = PrivateAttr(default_factory=dict)

    @property
    def main_score(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Right answers, where the data say which are; else the reward."""
        return "accuracy" if self.answers_known else "reward"

    @property
    def score_span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """Prompts as messages and as one text; answers, where there are some, as `target`."""
        known = "answer" in table.column_names
        table = read_prompts(table, drop)
        texts = [as_text(read(prompt)) for prompt in table["prompt"].to_pylist()]
        table = table.append_column("source", [column(texts, "string")])
        answers: list[str] = table["answer"].to_pylist()
        table = table.drop_columns(["answer"])
        if not known and not any(answers):
            return table
        table = table.append_column("target", [column(answers, "string")])
        wrong = np.array([not text.strip() for text in answers], bool)
        reason = "empty answer"
        if self.verify == "numeric":
            wrong = np.array([number_in(text) is None for text in answers], bool)
            reason = "no number in the answer"
        return without(table, wrong, drop, reason)

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
        """A tenth of what learning from labels takes, as a step is made of few answers; a small
        model, which is far from what it can do, takes all of it."""
        return super().default_rate(method, width) / (1 if width <= SMALL else 10)

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

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> TextTask:
        """With lengths for the base. Raises `RecipeError` for one that is no decoder."""
        if (family := family_of(config)).kind != "decoder":
            raise RecipeError(
                f"task prompts is for decoders, and '{family.name}' is an {family.kind}; take a "
                "--base that is one (smollm2), or task text2text"
            )
        return super().resolve_for_base(config, room)

    def template_of(self, tokenizer: Any) -> ChatTemplate | None:
        """The chat template that prompts are written with, saved with the tokenizer from here on;
        None where there is none. Raises `RecipeError`."""
        if self.template == "none" or (self.template is None and not tokenizer.chat_template):
            return None
        known = self._templates.get(id(tokenizer))
        if known is None or known.tokenizer is not tokenizer:
            known = ChatTemplate.of(tokenizer, self.template)
            tokenizer.chat_template = known.source
            self._templates[id(tokenizer)] = known
        return known

    def end_token(self, tokenizer: Any) -> int | None:
        template = self.template_of(tokenizer)
        return super().end_token(tokenizer) if template is None else template.end

    def encode(
        self, table: pa.Table, labels: Sequence[str], tokenizer: Any, longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:  # fmt: skip
        """Prompts as the model is asked them, with the opening of an answer, and the answers that
        are wanted, with the token that ends them; a prompt without one is learned from as well.
        Raises `DataError` with file and line."""
        store = self._encoded(table, labels, tokenizer, longest, on_cut)
        if store.answers is not None:
            return store
        return replace(store, targets=np.zeros(len(store), np.int64))

    def _encoded(
        self, table: pa.Table, labels: Sequence[str], tokenizer: Any, longest: int,
        on_cut: OnCut | None,
    ) -> TokenizedDataset:  # fmt: skip
        template = self.template_of(tokenizer)
        if template is None:
            return super().encode(table, labels, tokenizer, longest, on_cut)
        new, backend = self.max_new_tokens or NEW_TOKENS, tokenizer.backend_tokenizer
        prompts, answers = list[list[int]](), list[list[int]]()
        columns = (table[name].to_pylist() for name in ("prompt", "tools"))
        for number, (prompt, tools, answer) in enumerate(zip(*columns, wanted(table), strict=True)):
            try:
                ids, own = _written(template, read(prompt), read(tools), answer)
            except RowError as error:
                raise DataError(f"{place(table, number)}: {error}; mend the row") from None
            if (extra := max(0, len(ids) - (longest - new))) and on_cut is not None:
                on_cut(number, extra)
            prompts.append(ids[extra:])
            answers.append([*own[: new - 1], *own[-1:]] if len(own) > new else own)
        store = store_of(prompts, backend)
        if "target" not in table.column_names:
            return store
        return replace(store, answers=store_of(answers, backend))

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, answers = examples["test"], outputs["test"]
        rewards: Mapping[str, Floats] = outputs.get("rewards", {})
        texts = texts_of(answers, test.tokenizer)
        if not self.answers_known and "test" not in rewards:
            raise DataError(
                "the rows say no answer that would be right, and the reward that the model was "
                "trained for is known only while it is trained; name the answers with "
                "--data.columns.answer NAME"
            )
        names = ["ended", "length"]
        names += ["accuracy"] * self.answers_known + ["reward"] * ("test" in rewards)
        right = "accuracy" if self.answers_known else ""
        measure = Means(names, ["ended", "accuracy"], right)

        ends = {self.end_token(test.tokenizer), test.tokenizer.eos_token_id}

        def statistics(written: GenerationOutput, which: str) -> Floats:
            ids = [row or [] for row in written.ids]
            columns: dict[str, Floats] = {
                "ended": np.array([bool(row) and row[-1] in ends for row in ids], float),
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
                values = rows[:, 1 + names.index(name)]
                columns["correct" if name == "accuracy" else name] = (
                    values > 0 if name == "accuracy" else values.astype(np.float32)
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


def _written(
    template: ChatTemplate, messages: list[Message], tools: Any, answer: str | None
) -> tuple[list[int], list[int]]:
    """The ids of a prompt with the opening of an answer, and those of the answer. Raises
    `RowError`."""
    ids = template.render(messages, tools, open=True)
    if answer is None:
        return ids, []
    whole = [*messages, {"role": ASSISTANT, "content": answer}]
    answered = template.conversation(whole, tools, "last")
    begin, end = answered.turns[-1]
    return ids, answered.ids[begin:end].tolist()


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
    notes = [note] if (note := _hacked(training)) else []
    entropy, accuracy = _change(training, "entropy"), _change(training, "accuracy")
    if entropy and entropy.last < COLLAPSED * entropy.first:
        sure = " Nearly all of its answers are right, so that it may be." if (
            accuracy and accuracy.last > 1 - 2 * COLLAPSED) else (
            " What it does not try it cannot learn: a higher temperature, a lower "
            "train.learning_rate or a kl_loss keeps answers apart.")  # fmt: skip
        notes.append(
            f"Collapse: the entropy of a token fell to {entropy.last / entropy.first:.1%} of its "
            f"start ({entropy.first:.3g} to {entropy.last:.3g} nats): the answers to a prompt have "
            f"become nearly alike.{sure}"
        )
    return notes


def _hacked(training: Json) -> str | None:
    """Whether the share of right answers fell from its highest, anywhere in the run, while the
    reward had risen and did not fall with it.

    Rounds are compared as means of several side by side. How far such means waver is taken from
    the rounds: the steps from one to the next (von Neumann 1941), or the spread within the two
    compared, where that is more. As the highest of many is high by chance too, the fall has to be
    the clearer the more windows there are (Bonferroni): at most `BY_CHANCE` are named wrongly.
    """
    figures = [np.array(training.get(name, []), float) for name in ("reward", "accuracy")]
    count = len(figures[0])
    size = max(min(WINDOW, count // 4), count // 12)
    if size < 2 or len(figures[1]) != count or not np.isfinite(figures).all():
        return None
    (reward, truth) = (np.convolve(v, np.full(size, 1 / size), "valid") for v in figures)
    peak = int(truth[: count - 2 * size + 1].argmax())

    def noise(values: Floats) -> float:
        spread = np.stack([values[peak : peak + size], values[-size:]]).var(1, ddof=1).mean()
        return (max(float((np.diff(values) ** 2).mean()) / 2, float(spread)) * 2 / size) ** 0.5

    wavers = [noise(values) for values in figures]
    clear = NormalDist().inv_cdf(1 - BY_CHANCE * size / (2 * count))
    fall = float(truth[peak] - truth[-1])
    paid = reward[-1] > reward[0] + ERRORS * wavers[0]
    paid = paid and reward[-1] > reward[peak] - ERRORS * wavers[0]
    if not paid or fall < max(clear * wavers[1], WORTH * truth[peak]):
        return None
    step = int(training["step"][peak + size - 1]) + 1
    low, high = (100 * (fall + sign * NormalDist().inv_cdf(0.975) * wavers[1]) for sign in (-1, 1))
    return (
        f"Reward hacking: the reward rose from {reward[0]:.3g} to {reward[-1]:.3g} while the share "
        f"of right answers fell from {truth[peak]:.1%}, at about step {step:,}, to {truth[-1]:.1%} "
        f"(by {100 * fall:.1f} points; 95 % interval {low:.1f} to {high:.1f}). The model is paid "
        "for something else than right answers; reward these, or stop earlier."
    )


class _Change:
    """How a figure went from the first rounds to the last ones."""

    def __init__(self, values: np.ndarray) -> None:
        size = max(1, min(WINDOW, len(values) // 4))
        ends = values[:size], values[-size:]
        self.first, self.last = (float(part.mean()) for part in ends)


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
