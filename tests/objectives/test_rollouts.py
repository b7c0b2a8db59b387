"""Learning from answers that a model writes itself: what is written, counted, kept, stopped."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import warmstart
from rl import decoder, gradients, session, written
from warmstart import part
from warmstart.cli.progress import Bars
from warmstart.errors import RecipeError, RunError
from warmstart.models.forward import Batch
from warmstart.models.sampling import Sampling, generate
from warmstart.objectives.base import Position
from warmstart.objectives.grpo import GRPO
from warmstart.objectives.ppo import PPO
from warmstart.reporting.view import training
from warmstart.run import Run
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import WrittenRows
from warmstart.training.loop import compute_gradients
from warmstart.training.settings import Train
from warmstart.types import Listener

Folder = Callable[[str], Path]


def ready(objective: Any, model: Any, **more: Any) -> Any:
    """A session's own copy of the objective, set up on this model."""
    own = objective.model_copy()
    own.setup(session(model, **more))
    return own


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"top_k": 50}, "top_k does not go with reinforcement learning"),
     ({"top_p": 0.9}, "top_p does not go with reinforcement learning"),
     ({"min_p": 0.1}, "min_p does not go with"),
     ({"kl_loss": 0.1, "kl_reward": 0.1}, "held twice"),
     ({"kl_loss": 0.1, "kl_estimator": "k1"}, "its gradient is 0 on average"),
     ({"steps_per_generation": 3, "iterations": 2}, "does not divide"),
     ({"num_generations": 1}, "or objective ppo"),
     ({"reward": "exact,length", "reward_weights": [1, 2, 3]}, "one weight for each"),
     ({"beta": 0.1}, "beta")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str):
    with pytest.raises((ValueError, RecipeError), match=words):
        part.make("objective", "grpo", settings)


def test_rewards_come_as_words_with_commas():
    objective = GRPO.model_validate({"reward": "exact, length", "reward_weights": "1, 0.1"})
    assert objective.reward == ("exact", "length") and objective.reward_weights == (1.0, 0.1)


def test_an_encoder_decoder_is_refused(tiny_of: Folder):
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_of("t5"))
    with pytest.raises(RecipeError, match="trains a decoder, and 't5' is an encoder-decoder"):
        ready(GRPO(), model)


# What is written is what is trained


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_generator_and_the_trainer_agree(family: str, temperature: float, tiny_of: Folder):
    """Trap 39: log-probabilities of what was drawn are the trainer's to 1e-5, the first ratio 1."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_of(family))
    with torch.no_grad():  # opinions
        for weights in model.parameters():
            weights.mul_(3.0)
    objective = ready(GRPO(temperature=temperature, num_generations=2), model)
    own = objective._session
    prompts = [own.datasets["train"].row(n).tolist() for n in range(2)]
    sampling = Sampling(max_new_tokens=8, temperature=temperature, num_return_sequences=2)
    texts = generate(own.forward, prompts, sampling, tokenizer=own.tokenizer)
    rollouts = written(objective, model, answers=[text.ids for text in texts])
    old = np.concatenate([text.log_probs for text in texts])
    ours = objective.scores(own.forward, rollouts, 10_000)["log_probs"]
    assert len({round(float(value), 3) for value in ours}) > 4
    assert float(np.abs(ours - old).max()) < 1e-5
    assert float(np.exp(ours - old).max()) == pytest.approx(1.0, abs=1e-5)


def test_dropout_is_off(tiny_of: Folder):
    """Else the answers would be drawn from another model than the one that learns."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_of("gpt2"), resid_pdrop=0.5, attn_pdrop=0.5)
    objective = ready(GRPO(), model)
    objective._session.forward.set_mode(True)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, model(ids).logits)


# The loss of a step


def step_gradients(objective: Any, model: Any, rollouts: Any, parts: int) -> dict[str, Any]:
    own = objective._session.forward
    batches = [objective.batch(rollouts, rows) for rows in np.array_split(np.arange(4), parts)]
    for batch in batches:
        batch.inputs.update(share=1.0, fresh=True)
    own.after_step()
    loss, _, _ = compute_gradients(objective, own, batches)
    return {"": loss, **gradients(own)}


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("drop", [False, True])
def test_a_step_in_parts_is_the_whole_step(loss: Any, drop: bool):
    """Traps 19, 20: of unequal token counts, and with groups that count nothing."""
    model = decoder()
    objective = ready(
        GRPO(num_generations=2, loss_type=loss, drop_dead_groups=drop, kl_loss=0.1,
             mask_clipped=True), model,
    )  # fmt: skip
    rollouts = written(objective, model, rewards=[1.0, 0.0, 0.5, 0.5])
    whole, parts = (step_gradients(objective, model, rollouts, n) for n in (1, 4))
    assert max(float(value.abs().max()) for value in whole.values()) > 1e-3
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6), name


def test_dropping_dead_groups_changes_the_denominator_alone():
    model = decoder()
    results: list[dict[str, Any]] = []
    for drop in (False, True):
        objective = ready(GRPO(num_generations=2, drop_dead_groups=drop), model)
        rollouts = written(objective, model, rewards=[1.0, 0.0, 0.5, 0.5])
        results.append(step_gradients(objective, model, rollouts, 1))
    for name, value in results[0].items():
        assert torch.allclose(2 * value, results[1][name], atol=1e-6), name


def test_answers_that_were_cut_can_be_left_out():
    model = decoder()
    objective = ready(GRPO(num_generations=2, mask_clipped=True, loss_type="dapo"), model)
    rollouts = written(objective, model)
    batch = objective.batch(rollouts, np.arange(4))
    assert batch.inputs["counts"].sum(1).tolist() == [3, 2, 0, 4]
    assert float(batch.weight) == 9
    plain = objective.model_copy(update={"mask_clipped": False})
    assert float(plain.batch(rollouts, np.arange(4)).weight) == 13


@pytest.mark.parametrize("filling", [100.0, float("nan")])
@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_padding_is_never_read(filling: float, name: str):
    """Trap 32: what stands in the places of padding changes nothing."""
    model = decoder()
    kinds: dict[str, Any] = {"grpo": GRPO(num_generations=2, kl_loss=0.1),
                             "ppo": PPO(num_generations=2)}  # fmt: skip
    objective = ready(kinds[name], model)
    rollouts = written(objective, model)
    losses: list[float] = []
    for fill in (None, filling):
        batch = objective.batch(rollouts, np.arange(4))
        batch.inputs.update(share=1.0, fresh=True)
        for own, values in batch.inputs["tokens"].items():
            if fill is not None and own != "ids":
                values[~batch.inputs["real"]] = fill
        loss = objective.loss(objective._session.forward, batch)
        metrics = [float(value.detach()) for value in loss.metrics.values()]
        assert np.isfinite(metrics).all()
        losses.append(float(loss.total.detach()))
    assert losses[0] == losses[1]


def test_what_teaches_nothing_says_so():
    """Trap 37."""
    model = decoder()
    objective = ready(GRPO(num_generations=2), model)
    dead = written(objective, model, rewards=[1.0, 1.0, 0.0, 0.0])
    batch = objective.batch(dead, np.arange(4))
    assert objective.skips([batch]) == "all answers to each of its prompts have the same reward"
    live = written(objective, model)
    assert not objective.skips([objective.batch(live, np.arange(4))])
    held = ready(GRPO(num_generations=2, kl_loss=0.1), model)
    assert not held.skips([batch])  # the divergence is still to be lost


# PPO


def test_the_credit_of_ppo_by_hand():
    """A value head that says 0: the reward stands on the last token, the divergence is taken off
    every one, and lambda 1 gives each token what is still to come."""
    model = decoder()
    objective = ready(
        PPO(num_generations=2, kl_reward=0.5, gae_lambda=1.0, whiten_advantages=False), model
    )
    rollouts = written(objective, model)
    own, costs = rollouts.tokens, rollouts.tokens["old"] - rollouts.tokens["reference"]
    assert not own["values"].any()
    for number, reward in enumerate((1.0, 0.0, 0.25, 2.0)):
        places = slice(rollouts.offsets[number], rollouts.offsets[number + 1])
        to_come = np.cumsum(costs[places][::-1])[::-1]
        assert own["advantages"][places] == pytest.approx(reward - 0.5 * to_come, abs=1e-5)
        assert own["returns"][places] == pytest.approx(own["advantages"][places])


def test_the_weight_of_the_divergence_is_adapted_and_kept():
    model = decoder()
    objective = ready(PPO(num_generations=2, kl_reward=0.1, kl_target=1e-6, kl_horizon=4), model)
    rollouts = written(objective, model)
    kl = (rollouts.tokens["old"] - rollouts.tokens["reference"]).sum() / 4
    factor = 1.2 if kl > 0 else 0.8
    assert objective._coefficient == pytest.approx(0.1 * factor)
    again = ready(PPO(), model)
    again.load_state(objective.state())
    assert again._coefficient == objective._coefficient


def test_the_value_head_is_taken_off():
    model = decoder()
    objective = ready(PPO(), model)
    assert model.value_head.weight.requires_grad
    assert objective.detach(model) == {} and not hasattr(model, "value_head")


# Whole runs


class Notes(Listener):
    def __init__(self, stop: int | None = None) -> None:
        self.notes: list[tuple[int, str]] = []
        self.done, self.stop = 0, stop

    def step(self, step: Any, total: int) -> None:
        self.done = step.index
        if step.index == self.stop:
            raise RuntimeError("power cut")

    def note(self, text: str) -> None:
        self.notes.append((self.done, text))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(0)
    names = "red green blue one two three film movie song book".split()
    path = tmp_path_factory.mktemp("words") / "words.csv"
    rows = [f"{rng.choice(names)} {rng.choice(names)}" for _ in range(60)]
    path.write_text("prompt,answer\n" + "".join(f"{r},{r.split()[0]}\n" for r in rows))
    return path


KEYS: dict[str, Any] = {
    "task": "prompts", "objective": "grpo", "objective.reward": "length",
    "objective.num_generations": 4, "task.max_new_tokens": 6, "task.max_length": 32,
    "train.max_steps": 6, "train.batch_size": 4, "train.learning_rate": 5e-3,
    "train.checkpoint_seconds": 0, "train.precision": "fp32", "evaluate.baselines": False,
    "evaluate.bootstrap": 100,
}  # fmt: skip


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_from_prompts_to_report(words: Path, tiny_of: Folder, tmp_path: Path, capsys: Any):
    """The reward that is had by length rises; every figure reaches the log and the report."""
    notes = Notes()
    keys = {**KEYS, "base": str(tiny_of("llama")), "out": str(tmp_path / "run"),
            "train.max_steps": 8, "train.batch_size": 16, "evaluate.baselines": True,
            "train.learning_rate": 2e-2, "objective.kl_reward": 1e-3}  # fmt: skip
    warmstart.tune(str(words), listeners=[notes], **keys)
    before = [text for done, text in notes.notes if not done and "by reward" in text]
    assert [text.split()[0] for text in before] == ["best", "worst"]
    lines = [line for line in log_of(tmp_path / "run") if "reward" in line]
    names = {"reward", "kl", "entropy", "distinct", "dead_groups", "clipped", "length", "accuracy",
             "generator_gap", "clip_ratio"}  # fmt: skip
    assert names <= lines[0].keys() and lines[0]["generator_gap"] < 1e-5
    assert lines[-1]["reward"] > lines[0]["reward"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    row = Run(tmp_path / "run").facts["history"][-1]
    assert "validation_loss" not in row and row["validation_reward"] > 1
    line = [line for line in log_of(tmp_path / "run") if "eval_reward" in line][-1]
    assert line["eval_reward"] == row["validation_reward"] and "eval_loss" not in line
    screen: Any = Bars()
    screen._total = row["step"]
    screen.epoch(row)
    shown = capsys.readouterr().err
    assert "policy loss" in shown and "validation mean reward" in shown
    assert "validation loss" not in shown
    figures = dict(training([row], "reward", None)["figures"])
    assert figures["reward on validation"] == row["validation_reward"]
    assert {"accuracy", "reward", "ended", "length"} <= metrics.keys()
    assert metrics["baselines"][0]["name"] == "untuned"
    assert metrics["reward"]["value"] >= metrics["baselines"][0]["reward"]["value"]
    titles = [section["title"] for section in metrics["sections"]]
    assert {"The answers in training", "Some of its answers"} <= {*titles}
    assert json.loads((tmp_path / "run" / "proof.json").read_text())["passed"]


@pytest.mark.parametrize("way", ["grpo", pytest.param("ppo", marks=pytest.mark.slow)])
def test_a_run_that_dies_goes_on_bit_by_bit(way: str, words: Path, tiny_of: Folder, tmp_path: Path):
    """It dies between two steps that learn from the same answers."""
    own: dict[str, Any] = {"objective.steps_per_generation": 3}
    if way == "ppo":
        own = {"objective": "ppo", "objective.steps_per_generation": 4, "objective.iterations": 2,
               "objective.kl_target": 0.1}  # fmt: skip
    keys = {**KEYS, **own, "base": str(tiny_of("llama"))}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    warmstart.tune(str(words), out=str(whole), **keys)
    with pytest.raises(RuntimeError, match="power cut"):
        warmstart.tune(str(words), out=str(broken), listeners=[Notes(6)], **keys)
    warmstart.tune(resume=str(broken))
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert weights[0] == weights[1]
    left, right = (
        [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in log_of(run)]
        for run in (whole, broken)
    )
    assert left == right


def test_a_batch_of_dead_groups_makes_no_step(words: Path, tiny_of: Folder, tmp_path: Path):
    keys = {**KEYS, "base": str(tiny_of("llama")), "out": str(tmp_path / "run"),
            "objective.reward": "exact", "train.max_steps": 2, "train.guard": False}  # fmt: skip
    warmstart.tune(str(words), **keys)
    lines = log_of(tmp_path / "run")
    assert [line["skipped"] for line in lines if "skipped" in line] == [
        "all answers to each of its prompts have the same reward"
    ] * 2
    from safetensors.torch import load_file

    base, run = (load_file(folder / "model.safetensors")
                 for folder in (tiny_of("llama"), tmp_path / "run" / "model"))  # fmt: skip
    for name, weights in base.items():
        assert torch.equal(weights, run[f"model.{name}"])


def test_answers_that_never_end_stop_the_run(words: Path, tiny_of: Folder, tmp_path: Path):
    """Trap 10: 100 % cut answers in the first two rounds."""
    keys = {**KEYS, "base": str(tiny_of("llama")), "out": str(tmp_path / "run"),
            "task.max_new_tokens": 2}  # fmt: skip
    with pytest.raises(RunError, match=r"cut at task.max_new_tokens \(2\)"):
        warmstart.tune(str(words), **keys, **{"objective.temperature": 0.05})


def test_micro_batches_and_steps_per_generation_change_nothing(tiny_of: Folder):
    """Trap 20, over both settings, through the real source of batches."""
    from transformers import AutoModelForCausalLM

    from warmstart.training.loop import steps
    from warmstart.training.optimizer import Optimizer

    norms: dict[tuple[int, int], list[float]] = {}
    for every in (1, 2):
        for most in (16, 10_000):
            model = AutoModelForCausalLM.from_pretrained(tiny_of("llama"))
            objective = ready(
                GRPO(num_generations=4, steps_per_generation=every, reward=("length",),
                     loss_type="dapo"), model,
            )  # fmt: skip
            own, objective._limit = objective._session, 24
            train = Train(epochs=2, batch_size=1, micro_batch_tokens=most, learning_rate=1e-3)
            rows = WrittenRows(own.datasets["train"], own.forward.language, 0, own.device)
            source = BatchSource(rows, objective, train)
            optimizer = Optimizer(model, train, 4)
            norms[every, most] = [
                float(step.grad_norm)
                for step in steps(source, own.forward, optimizer, objective, seed=0,
                                  done=Position())
            ]  # fmt: skip
    for every in (1, 2):
        assert norms[every, 16] == pytest.approx(norms[every, 10_000], abs=1e-5)
        assert sum(norms[every, 16]) > 0


def test_rows_have_no_loss_of_their_own():
    """A policy's loss is of its own answers; beside it a cross-entropy of others' would be read as
    the same curve."""
    objective: Any = ready(GRPO(), decoder())
    rows = SimpleNamespace(
        dataset=SimpleNamespace(answers=1),
        collate=lambda rows: Batch({}, torch.zeros(2), torch.tensor(7.0), rows, 9),
    )
    batch = objective.collate(rows, np.arange(2), np.random.default_rng(0))
    loss = objective.loss(objective._session.forward, batch)
    assert float(loss.weight) == float(loss.total) == 0
