"""Prompts: how they are read and written, what is right, what is named in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import warmstart
from tiny import tiny_tokenizer
from warmstart.errors import DataError, RecipeError
from warmstart.methods.full import Full
from warmstart.models.generation import GenerationOutput
from warmstart.tasks.base import Examples
from warmstart.tasks.prompts import Prompts, alarms

Folder = Callable[[str], Path]


def table(**columns: list[Any]) -> pa.Table:
    count = len(next(iter(columns.values())))
    at = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["x.csv"])
    return pa.table({**columns, "_file": at, "_line": pa.array(range(1, count + 1))})


def read(task: Prompts, **columns: list[Any]) -> tuple[pa.Table, list[tuple[int, str]]]:
    dropped: list[tuple[int, str]] = []
    return task.rows(table(**columns), lambda row, why: dropped.append((row, why))), dropped


def test_texts_and_messages_are_one_form():
    said = json.dumps([{"role": "system", "content": "Be short."},
                       {"role": "user", "content": "1+1?"}])  # fmt: skip
    rows, dropped = read(Prompts(), prompt=["2+2?", said], answer=["4", "2"])
    assert not dropped and rows["target"].to_pylist() == ["4", "2"]
    assert rows["source"][0].as_py() == "2+2?" and "1+1?" in rows["source"][1].as_py()


def test_rows_that_cannot_be_judged_are_dropped():
    rows, dropped = read(Prompts(verify="numeric"), prompt=["a", "b"], answer=["12", "twelve"])
    assert len(rows) == 1 and dropped == [(1, "no number in the answer")]
    rows, dropped = read(Prompts(), prompt=["a", "b"], answer=["x", " "])
    assert len(rows) == 1 and dropped == [(1, "empty answer")]


def test_a_pattern_belongs_to_regex():
    rows, _ = read(Prompts(), prompt=["a"])
    assert not Prompts().resolve_for_data(rows).answers_known
    known = Prompts(verify="regex", pattern="^yes").resolve_for_data(rows)
    assert known.answers_known and known.main_score == "accuracy"
    needs = Prompts(verify="regex", pattern="(?P<answer>[0-9]+)").resolve_for_data(rows)
    assert not needs.answers_known and needs.main_score == "reward"
    with pytest.raises(RecipeError, match="goes with task.verify regex"):
        Prompts(pattern="x").resolve_for_data(rows)
    with pytest.raises(RecipeError, match="needs a regular expression"):
        Prompts(verify="regex").resolve_for_data(rows)


def test_only_decoders_answer():
    with pytest.raises(RecipeError, match="'t5' is an encoder-decoder"):
        Prompts().resolve_for_base({"model_type": "t5", "is_encoder_decoder": True}, 64)


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_plain_prompt_goes_through_the_template_of_the_base():
    """Trap 10; and the answer that is wanted ends as the template ends a turn."""
    tokenizer: Any = tiny_tokenizer("qwen2")  # single bytes
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    rows, _ = read(Prompts(), prompt=["red"], answer=["blue"])
    task = Prompts(max_new_tokens=8, separator="=")
    bare = task.encode(rows, [], tokenizer, 128)
    assert tokenizer.decode(bare.row(0)) == "red="
    tokenizer.chat_template = TEMPLATE
    store = task.encode(rows, [], tokenizer, 128)
    opened = "<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(store.row(0)) == opened
    assert store.answers is not None and bare.answers is not None
    assert tokenizer.decode(store.answers.row(0)) == "blue<|im_end|>"
    assert task.end_token(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain = Prompts(max_new_tokens=8, separator="=", template="none")
    assert plain.encode(rows, [], tokenizer, 128).row(0).tolist() == bare.row(0).tolist()


def written(*texts: list[int]) -> GenerationOutput:
    zeros = np.zeros(len(texts))
    return GenerationOutput(zeros, zeros, zeros, np.zeros(len(texts), np.int64), [*texts], zeros)


def test_figures_and_samples():
    tokenizer: Any = tiny_tokenizer("llama")
    red, blue = (tokenizer.convert_tokens_to_ids(word) for word in ("red", "blue"))
    rows, _ = read(Prompts(), prompt=["a", "b", "c"], answer=["red", "red", "blue"])
    task = Prompts(separator="x")
    store = SimpleNamespace(targets=np.zeros(3))
    examples: Any = {"test": Examples(rows, store, [], tokenizer)}  # pyright: ignore[reportArgumentType]
    outputs = {"test": written([red, 2], [blue, 2], [blue]), "untuned": written([2], [2], [2]),
               "rewards": {"test": np.array([1.0, 0, 3]), "untuned": np.zeros(3)}}  # fmt: skip
    result = task.evaluate(outputs, examples)
    figures = result.measure.total(result.statistics)
    assert figures == pytest.approx(
        {"accuracy": 2 / 3, "reward": 4 / 3, "ended": 2 / 3, "length": 5 / 3}
    )
    assert result.measure.total(result.score(outputs["untuned"]))["accuracy"] == 0
    assert [row["prediction"] for row in result.mistakes] == ["blue"]
    (samples,) = result.facts["sections"]
    assert samples["columns"] == ["prompt", "answer wanted", "before", "now"]


def test_without_answers_the_reward_is_what_is_measured():
    tokenizer: Any = tiny_tokenizer("llama")
    rows, _ = read(Prompts(), prompt=["a", "b"])
    task: Any = Prompts(separator="x").resolve_for_data(rows)
    examples: Any = {"test": Examples(rows, SimpleNamespace(), [], tokenizer)}  # pyright: ignore[reportArgumentType]
    outputs: dict[str, Any] = {"test": written([5, 2], [6, 2])}
    with pytest.raises(DataError, match=r"--data.columns.answer NAME"):
        task.evaluate(outputs, examples)
    outputs["rewards"] = {"test": np.array([0.5, 1.5])}
    result = task.evaluate(outputs, examples)
    assert result.measure.total(result.statistics)["reward"] == 1.0
    assert task.main_score == "reward" and "accuracy" not in result.measure.names


# What is named (traps 41, 43)


def course(**figures: list[float]) -> dict[str, list[float]]:
    count = len(next(iter(figures.values())))
    return {"step": [*map(float, range(count))], **figures}


def test_a_small_model_learns_at_the_usual_rate():
    """A larger one at a tenth of it."""
    full: Any = Full()
    assert Prompts().default_rate(full, 192) == full.default_learning_rate(192)
    assert Prompts().default_rate(full, 576) == full.default_learning_rate(576) / 10


def test_reward_hacking_is_named():
    rising = [1.0, 1.2, 0.9, 1.1, 1.0, 3.0, 5.0, 7.0, 8.0, 8.1, 7.9, 8.0, 8.2]
    falling = [0.4, 0.38, 0.41, 0.42, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.05, 0.06, 0.02]
    (text,) = alarms(course(reward=rising, accuracy=falling))
    assert text.startswith("Reward hacking: the reward rose from 1.03 to 8.03")
    assert not alarms(course(reward=rising, accuracy=rising))
    assert not alarms(course(reward=rising, accuracy=[0.4 + 0.01 * (n % 3) for n in range(13)]))
    unknown = [float("nan")] * 13
    assert not alarms(course(reward=rising, accuracy=unknown)) and not alarms({})


def noisy(reward: Any, accuracy: Any, rng: np.random.Generator, answers: int = 64) -> Any:
    """A course around these lines: right answers of so many are counted, rewards waver."""
    accuracy = np.asarray(accuracy, float)
    truth = rng.binomial(answers, accuracy) / answers
    rewards = np.asarray(reward) + rng.normal(0, 0.1, len(accuracy))
    return course(reward=rewards.tolist(), accuracy=truth.tolist())


def test_a_rise_and_fall_inside_a_run_is_named():
    """The score ends where it began; only its highest tells."""
    up = np.linspace(0.3, 0.6, 30)
    hill, paid = np.concatenate([up, up[::-1]]), np.linspace(0, 2, 60)
    noise = np.random.default_rng(0)
    for _ in range(20):
        (text,) = alarms(noisy(paid, hill, noise))
        assert text.startswith("Reward hacking") and "95 % interval" in text
        assert 20 <= int(text.split("at about step ")[1].split(",")[0]) <= 40
        # what falls with its reward is unstable and not hacked
        assert not alarms(noisy(hill * 3, hill, noise))


@pytest.mark.parametrize("count", [12, 60, 300])
def test_noise_is_no_reward_hacking(count: int):
    """At most one run in twenty, also where the reward and the score rise and then stay."""
    rng, grown = np.random.default_rng(1), np.minimum(np.linspace(0, 3, count), 1)
    for reward, truth in ((np.zeros(count), 0.3), (grown, 0.3), (grown, 0.2 + 0.5 * grown)):
        lines = np.broadcast_to(truth, count)
        false = sum(bool(alarms(noisy(reward, lines, rng))) for _ in range(200))
        assert false <= 10


def test_collapse_is_named():
    entropy = [2.0, 2.1, 1.9, 1.0, 0.3, 0.05, 0.04, 0.05]
    (text,) = alarms(course(entropy=entropy, reward=[0.1] * 8))
    assert text.startswith("Collapse: the entropy of a token fell to 2.2% of its start")
    assert "a higher temperature" in text
    (text,) = alarms(course(entropy=entropy, accuracy=[0.1] * 4 + [0.99] * 4))
    assert "Nearly all of its answers are right" in text
    assert not alarms(course(entropy=[2.0, 1.9, 1.5, 1.0, 0.5, 0.3]))


@pytest.mark.slow
def test_a_planted_length_reward_is_named(tiny_of: Folder, tmp_path: Path):
    """A model that was taught the answers is paid for length beside them: the reward rises, the
    true score falls, and the report says so."""
    data = tmp_path / "echo.csv"
    words = "red green blue one two three".split()
    data.write_text("prompt,answer\n" + "".join(f"{a} {b},{a}\n" for a in words for b in words) * 4)
    common: dict[str, Any] = {
        "task.max_new_tokens": 8, "task.max_length": 32, "evaluate.bootstrap":
        100, "train.precision": "fp32", "data.similarity": 1.0, "train.patience": 0,
    }  # fmt: skip
    warmstart.tune(str(data), base=str(tiny_of("llama")), out=str(tmp_path / "start"), **{
        **common, "task": "text2text", "train.max_steps": 150, "train.batch_size": 16,
        "train.learning_rate": 1e-2,
    })  # fmt: skip
    run = warmstart.align(str(data), base=str(tmp_path / "start"), out=str(tmp_path / "rl"), **{
        **common, "task": "prompts", "objective": "grpo", "objective.reward": "exact,length",
        "objective.reward_weights": [1.0, 0.5], "objective.temperature": 2.0,
        "train.max_steps": 60, "train.batch_size": 8,
        "train.learning_rate": 3e-3, "train.keep": "last",
    })  # fmt: skip
    notes = run.metrics["notes"]
    assert any(note.startswith("Reward hacking") for note in notes), notes
    assert "Reward hacking" in (tmp_path / "rl" / "report.html").read_text()
