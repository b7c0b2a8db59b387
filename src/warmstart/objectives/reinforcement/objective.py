"""Answers that a model writes while it learns: what `grpo` and `ppo` share.

Every few steps answers are written to the prompts of these steps (`_write`), rewarded, and credited
(`credit`); the steps then learn from them (`loss`). What was written is a function of the weights,
the seed and the number of the step, and it stands in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr, field_validator, model_validator

from warmstart.data.tokens.batching import micro, pad_rows
from warmstart.data.tokens.dataset import TokenizedDataset, offsets_of
from warmstart.errors import RecipeError
from warmstart.metrics.rewards import Answered, Rewards, check_names
from warmstart.models.architectures import family_of
from warmstart.objectives.base import Dataset, Loss, Objective, PlannedStep, Position, Source
from warmstart.objectives.reinforcement.policy import Estimator, dead_groups, kl_estimate
from warmstart.objectives.reinforcement.rollouts import (
    RECORD,
    Rollouts,
    check_ends,
    extremes,
    facts_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward
    from warmstart.models.generation import GenerationOutput
    from warmstart.objectives.base import Setting

TRUNCATED = ("top_k", "top_p", "min_p", "repetition_penalty")
"""Settings of generation under which an answer is not drawn from what the model says."""


class RolloutObjective(Objective):
    """Why a decoder's weights move that learns from its own answers. A subclass says what each
    token is credited with, and what the loss is."""

    heads: ClassVar[frozenset[str]] = frozenset({"text"})
    tasks: ClassVar[frozenset[str] | None] = frozenset({"prompts"})
    aligns: ClassVar[bool] = True

    reward: tuple[str, ...] = Field(
        default=(),
        description="what an answer is rewarded for: exact, numeric or regex (it is compared with "
        "the row's answer), length, ended, the dotted path of a function, or the folder of a "
        "reward model; several with commas; unset: what the task verifies",
    )
    reward_weights: tuple[float, ...] = Field(
        default=(), description="of several rewards, in their order; unset: 1 each"
    )
    num_generations: int = Field(
        default=8, ge=1, le=4096, description="answers that are written to each prompt"
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="logits are divided by it, in writing and in learning",
    )
    steps_per_generation: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="steps that learn from answers written at once; the later ones learn from "
        "answers of slightly older weights",
    )
    iterations: int = Field(
        default=1,
        ge=1,
        le=64,
        description="how often each answer is learned from, within the steps_per_generation",
    )
    clip: float = Field(
        default=0.2, gt=0, lt=1, description="the ratio of probabilities stays above 1 - clip"
    )
    clip_high: float | None = Field(
        default=None, gt=0, description="and below 1 + clip_high; unset: as clip"
    )
    kl_loss: float = Field(
        default=0.0, ge=0, description="weight of the divergence from the base, in the loss"
    )
    kl_reward: float = Field(
        default=0.0,
        ge=0,
        description="weight of the divergence from the base, taken off the reward",
    )
    kl_estimator: Estimator | None = Field(
        default=None,
        description="how the divergence is estimated of each token; unset: k3 in the loss, k1 in "
        "the reward",
    )
    mask_clipped: bool = Field(
        default=False, description="learn nothing from answers that were cut at max_new_tokens"
    )

    _session: Any = PrivateAttr(default=None)
    _limit: int = PrivateAttr(default=0)
    """Tokens that an answer may have."""
    _rewards: Any = PrivateAttr(default=None)
    _reference: Any = PrivateAttr(default=None)
    _rollouts: Rollouts | None = PrivateAttr(default=None)
    _record: list[list[float]] = PrivateAttr(default_factory=list[list[float]])

    @field_validator("reward", "reward_weights", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        value = value.split(",") if isinstance(value, str) else value
        value = [value] if isinstance(value, int | float) else value
        return [v.strip() if isinstance(v, str) else v for v in value]

    @model_validator(mode="before")
    @classmethod
    def _whole_distribution(cls, values: Any) -> Any:
        cut = [name for name in TRUNCATED if isinstance(values, Mapping) and name in values]
        if cut:
            raise ValueError(
                f"{cut[0]} does not go with reinforcement learning: the answers would be drawn "
                "from another distribution than the one that is trained, and the ratios of "
                "probabilities would be wrong; leave it out, and take temperature"
            )
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_names(self.reward or ("",), self.reward_weights)
        if self.kl_loss and self.kl_reward:
            raise ValueError(
                "kl_loss and kl_reward both hold the model to its base, and it would be held "
                "twice; set one of them"
            )
        if self.kl_loss and self.kl_estimator == "k1":
            raise ValueError(
                "kl_estimator k1 in the loss holds nothing: its gradient is 0 on average; take k3 "
                "or k2, or kl_reward"
            )
        if self.steps_per_generation % self.iterations:
            raise ValueError(
                f"iterations {self.iterations} does not divide steps_per_generation "
                f"{self.steps_per_generation}: each answer is learned from equally often; take a "
                "multiple"
            )
        return self

    @property
    def estimator(self) -> Estimator:
        """How the divergence is estimated."""
        return self.kl_estimator or ("k1" if self.kl_reward else "k3")

    def setup(self, session: Setting) -> None:
        """Open the rewards, and the reference where the divergence counts. Raises `RecipeError` for
        a model that is no decoder."""
        kind = family_of(session.model.config).kind
        if kind != "decoder":
            raise RecipeError(
                f"objective {self.part_name()} trains a decoder, and "
                f"'{session.model.config.model_type}' is an {kind}; take a --base that is one"
            )
        self._session = session
        session.forward.without_dropout()  # else the weights that write are not those that learn
        task = session.prepared.task
        names = self.reward or (task.verify,)
        self._rewards = Rewards(names, self.reward_weights, task.pattern, session.reward_model)
        self._reference = session.reference() if self.kl_loss or self.kl_reward else None
        self._limit = int(task.max_new_tokens or 0)

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """In validation the rows with the answers that are wanted, which weigh nothing: what is
        followed there is the reward; in training, before anything is written, their numbers."""
        import torch

        from warmstart.models.forward import Batch

        own: Any = dataset
        if not hasattr(own, "dataset") or own.dataset.answers is None:
            nothing = torch.zeros(0, dtype=torch.long)
            return Batch({}, nothing, torch.tensor(float(len(rows))), rows, 0)
        return replace(dataset.collate(rows), weight=torch.tensor(0.0))

    def steps(self, source: Source, done: Position) -> Iterator[PlannedStep]:
        """Passes over the prompts; what is learned from in a step is written when it is made."""
        every, group = self.steps_per_generation, list[PlannedStep]()
        for planned in source.steps(done):
            group.append(planned)
            if planned.after.step % every == 0:
                yield from self._group(group, source)
                group = []
        if group:
            yield from self._group(group, source)

    def _group(self, group: Sequence[PlannedStep], source: Any) -> Iterator[PlannedStep]:
        every, group = self.steps_per_generation, [*group]
        begin = (group[0].after.step - 1) // every * every
        for planned in group:
            place = planned.after.step - 1 - begin
            batches = partial(self._batches, group, begin, place, source.settings)
            yield replace(planned, batches=batches)

    def _batches(
        self, group: Sequence[PlannedStep], begin: int, place: int, settings: Any,
        rng: np.random.Generator,
    ) -> list[Batch]:  # fmt: skip
        """The micro-batches of a step, whose answers are written if they are not there yet."""
        if self._rollouts is None or self._rollouts.begin != begin:
            rows = np.concatenate([b.rows for planned in group for b in planned.batches(rng)])
            parts = max(1, len(group) // self.iterations)
            seed = int(rng.integers(2**32))
            self._rollouts = self._write(rows, begin, parts, seed, settings.micro_batch_tokens)
        rollouts = self._rollouts
        chosen = rollouts.part(place)
        sizes = rollouts.lengths + self._prompts.lengths[rollouts.prompts]
        batches = [self.batch(rollouts, part)
                   for part in micro(chosen, sizes, settings.micro_batch_tokens)]  # fmt: skip
        whole = sum(float(batch.weight) for batch in batches)
        tokens = sum(int(batch.inputs["real"].sum()) for batch in batches)
        shared = {"share": whole / max(tokens, 1), "fresh": place == 0}
        return [replace(batch, inputs={**batch.inputs, **shared}) for batch in batches]

    @property
    def _prompts(self) -> TokenizedDataset:
        """The prompts of train."""
        return self._session.datasets["train"]

    def _write(self, rows: np.ndarray, begin: int, parts: int, seed: int, most: int) -> Rollouts:
        """Answers to the prompts in these rows, rewarded and credited."""
        from warmstart.models.sampling import Sampling, generate

        session, prompts = self._session, [self._prompts.row(int(row)).tolist() for row in rows]
        sampling = Sampling(
            max_new_tokens=self._limit, temperature=self.temperature, seed=seed,
            num_return_sequences=self.num_generations,
        )  # fmt: skip
        end = session.prepared.task.end_token(session.tokenizer)
        ends = () if end is None else (end,)
        written = generate(
            session.forward, prompts, sampling, tokenizer=session.tokenizer, ends=ends
        )
        owners = np.repeat(rows, self.num_generations)
        ended = np.array([text.finish_reason == "stop" for text in written])
        lengths = np.array([len(text.ids) for text in written])
        answered = self._answered("train", owners, [text.text for text in written], ended, lengths)
        rollouts = Rollouts(
            begin, parts, self.num_generations, owners, offsets_of(lengths),
            {"reward": self._rewards(answered), "ended": ended},
            {"ids": np.concatenate([np.asarray(text.ids, np.int64) for text in written]),
             "old": np.concatenate([text.log_probs for text in written]).astype(np.float32)},
        )  # fmt: skip
        if self._reference is not None:
            scores = self.scores(self._reference, rollouts, most)
            rollouts.tokens["reference"] = scores["log_probs"]
        rollouts.facts |= facts_of(rollouts, answered, session.prepared.task)
        if not begin:
            for note in extremes(answered, rollouts.answers["reward"]):
                self.tell(note)
        self._note(rollouts)
        self.credit(rollouts, most)
        return rollouts

    def credit(self, rollouts: Rollouts, most: int) -> None:
        """Put `advantages`, and what else the loss needs, beside the tokens; at most so many tokens
        are computed at once."""
        raise NotImplementedError

    def batch(self, rollouts: Rollouts, chosen: np.ndarray) -> Batch:
        """Some of the answers as a batch; what is of a token stands in [B, T]."""
        import torch

        from warmstart.models.forward import Batch

        session, device = self._session, self._session.device
        lengths, starts = rollouts.lengths[chosen], rollouts.offsets[chosen]
        places = np.arange(int(lengths.max(initial=1)))
        real = places < lengths[:, None]
        at = np.where(real, starts[:, None] + places, 0)
        own = [self._prompts.row(int(row)) for row in rollouts.prompts[chosen]]
        ids = rollouts.tokens["ids"]
        rows = [np.concatenate([prompt, ids[start : start + n]]).astype(np.int64)
                for prompt, start, n in zip(own, starts, lengths, strict=True)]  # fmt: skip
        padded, mask = pad_rows(rows, session.pad_id)
        first = np.array([len(prompt) for prompt in own]) - 1

        def sent(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        tokens = {name: sent(np.where(real, values[at], values.dtype.type(0)))
                  for name, values in rollouts.tokens.items()}  # fmt: skip
        counts = real & (rollouts.answers["ended"][chosen][:, None] | (not self.mask_clipped))
        inputs = {
            "by": self.compute, "ids": sent(padded), "mask": sent(mask), "real": sent(real),
            "at": sent(np.where(real, first[:, None] + places, 0)), "tokens": tokens,
            "counts": sent(counts), "facts": rollouts.facts,
            "alive": sent(~dead_groups(torch.from_numpy(rollouts.groups)).numpy()
                          [chosen // rollouts.copies]),
        }  # fmt: skip
        total = int(sum(map(len, rows)))
        batch = Batch(inputs, tokens["ids"], torch.tensor(0.0), rollouts.prompts[chosen], total)
        return replace(batch, weight=self.weigh(batch))

    def weigh(self, batch: Batch) -> Tensor:
        """Its tokens."""
        return batch.inputs["counts"].sum().float()

    def compute(self, forward: Forward, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Of each token of the answers [B, T]: its log-probability at the temperature, and the
        entropy of what the model says at its place."""
        from warmstart.models.fast.loss import token_log_probs

        outputs: Any = forward.language.forward(
            inputs["ids"], inputs["mask"], training=forward.training
        )
        real, at = inputs["real"], inputs["at"]
        rows = real.nonzero()[:, 0]
        states = outputs.at((rows, at[real])) if hasattr(outputs, "at") else outputs[rows, at[real]]
        targets = inputs["tokens"]["ids"][real]
        pair = token_log_probs(states, targets, self.temperature)
        nothing = pair[0].new_zeros(real.shape)
        names = ("log_probs", "entropy")
        values = {n: nothing.masked_scatter(real, v) for n, v in zip(names, pair, strict=True)}
        return values | self.beside(forward, states, nothing, real)

    def beside(
        self, forward: Forward, states: Any, nothing: Tensor, real: Tensor
    ) -> dict[str, Tensor]:
        """More of each token [B, T], from what the output matrix reads at its place."""
        return {}

    def scores(self, model: Forward, rollouts: Rollouts, most: int) -> dict[str, np.ndarray]:
        """What `compute` says of each token of all answers [T], without gradient."""
        sizes = rollouts.lengths + self._prompts.lengths[rollouts.prompts]
        total: dict[str, np.ndarray] = {}
        with model.evaluating():
            for part in micro(np.arange(len(sizes)), sizes, most):
                batch = self.batch(rollouts, part)
                outputs: Any = model.forward(batch)
                real = batch.inputs["real"].cpu().numpy()
                places = rollouts.offsets[part][:, None] + np.arange(real.shape[1])
                for name, values in outputs.items():
                    flat = total.setdefault(name, np.zeros(int(rollouts.offsets[-1]), np.float32))
                    flat[places[real]] = values.float().cpu().numpy()[real]
        return total

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The loss of a batch of its own answers; rows of validation have none."""
        if "tokens" not in batch.inputs:
            return Loss(batch.weight, batch.weight)
        outputs: Any = model.forward(batch)
        total, metrics = self.policy_loss(outputs, batch)
        inputs, share = batch.inputs, batch.inputs["share"]
        tokens, real = inputs["tokens"], inputs["real"]
        log_probs = outputs["log_probs"].detach()
        metrics["entropy"] = outputs["entropy"].masked_fill(~real, 0.0).sum() * share
        if "reference" in tokens:
            gap = kl_estimate(log_probs, tokens["reference"], real, self.estimator)
            metrics["kl"] = gap.sum() * share
        if inputs["fresh"]:
            apart = (log_probs - tokens["old"]).abs().masked_fill(~real, 0.0)
            metrics["generator_gap"] = apart.sum() * share
        metrics |= {name: value * batch.weight for name, value in inputs["facts"].items()}
        return Loss(total, batch.weight, metrics)

    def policy_loss(
        self, outputs: Mapping[str, Tensor], batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss of a batch of answers, and figures as sums over its weight."""
        raise NotImplementedError

    def _answered(
        self, split: str, rows: np.ndarray, texts: Sequence[str], ended: np.ndarray,
        tokens: np.ndarray,
    ) -> Answered:  # fmt: skip
        """Answers to the prompts in some rows of a split, for rewards."""
        prepared = self._session.prepared
        table = prepared.examples[split].table
        prompts = prepared.task.as_text(table).to_pylist()
        messages, wanted = (table[name].to_pylist() if name in table.column_names else None
                            for name in ("prompt", "target"))  # fmt: skip
        return Answered(
            [prompts[row] for row in rows], [text.strip() for text in texts],
            [wanted[row] if wanted else None for row in rows], ended, tokens,
            [messages[row] for row in rows] if messages else (),
        )  # fmt: skip

    def _note(self, rollouts: Rollouts) -> None:
        """Keep what happened; stop where the first answers all run into the limit. Raises
        `RunError`."""
        old = rollouts.tokens["old"]
        own = {**rollouts.facts, "step": float(rollouts.begin), "entropy": -float(old.mean())}
        if "reference" in rollouts.tokens:
            own["kl"] = float((old - rollouts.tokens["reference"]).mean())
        self._record.append([own.get(name, float("nan")) for name in RECORD])
        check_ends(self._record, self._limit)

    def state(self) -> dict[str, Tensor]:
        """The answers that are learned from, and what happened so far."""
        import torch

        arrays = {"record": np.array(self._record, float).reshape(-1, len(RECORD))}
        if self._rollouts is not None:
            arrays |= self._rollouts.arrays()
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        self._record = arrays.pop("record").tolist()
        self._rollouts = Rollouts.of(arrays) if arrays else None

    def figures(self, outputs: GenerationOutput) -> Mapping[str, float]:
        """The mean reward of the answers that were written."""
        done = sum(ids is not None for ids in outputs.ids)
        rewards = self.rewards_of(outputs, "validation", done) if done else np.zeros(1)
        return {"reward": float(rewards.mean())}

    def judged(self, session: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The final answers' rewards, those of the base before training, and what happened in
        between: `rewards`, `untuned`, `training`."""
        import torch

        written: dict[str, Any] = {"test": outputs["test"]}
        if session.prepared.recipe.evaluate.baselines:
            untuned = session.reference(torch.float32)
            written["untuned"] = session.rows("test", last=True).predict(untuned)
        record = np.array(self._record, float).reshape(-1, len(RECORD)).T
        rewards = {name: self.rewards_of(output) for name, output in written.items()}
        training = dict(zip(RECORD, record.tolist(), strict=True))
        return {**written, "rewards": rewards, "training": training}

    def rewards_of(
        self, output: GenerationOutput, split: str = "test", first: int | None = None
    ) -> np.ndarray:
        """The reward of each answer [n] to the rows of a split, or to the first of them."""
        tokenizer = self._session.tokenizer
        ends = {tokenizer.eos_token_id, self._session.prepared.task.end_token(tokenizer)}
        ids = [row or [] for row in output.ids[:first]]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        ended = np.array([bool(row) and row[-1] in ends for row in ids], bool)
        lengths = np.array([len(row) for row in ids], np.int64)
        return self._rewards(self._answered(split, np.arange(len(ids)), texts, ended, lengths))
