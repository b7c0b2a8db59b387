"""Several stages in one file: all are checked first, each begins with what another made, and what
was killed goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chats import talker, write_rows
from learning import write_messages
from warmstart.cli.main import main
from warmstart.errors import RecipeError, RunError
from warmstart.pipelines.stages.result import Row, Stages, along_the_way
from warmstart.pipelines.stages.run import Verb, run_stages

Folder = Callable[[str], Path]
FILE = """
[[stages]]
name = "read"
verb = "pretrain"
data = "texts.csv"
base = "{base}"
train.max_steps = 4

[[stages]]
name = "reward"
verb = "align"
data.path = "pairs.csv"
data.columns.text = "body"
base = "stage:read"
method = "lora, full"

[[stages]]
name = "best"
verb = "align"
data = ["a", "b"]
base = "stage:read"
seed = [0, 1]
objective = {{ name = "ppo", reward = "stage:reward" }}
"""


class Helper:
    """Verbs that write down what they were called with, and make what a run makes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.dies = ""

    def run(
        self, data: Any, *, resume: Path | None = None, listeners: Any = (), **keys: Any
    ) -> None:
        """As `tune`."""
        place = Path(resume or keys["out"])
        self.calls.append((place.name, data, resume, keys))
        place.mkdir(parents=True, exist_ok=True)
        if self.dies == f"{place.name} at once":
            raise KeyboardInterrupt
        facts = {"status": "running", "speed": {"seconds": 1.0}}
        (place / "run.json").write_text(json.dumps(facts))
        if self.dies == place.name:
            raise RunError(f"no room; go on with it: warmstart tune --resume {place}")
        (place / "run.json").write_text(json.dumps({**facts, "status": "done"}))
        (place / "metrics.json").write_text(json.dumps({"tasks": {}, "verdict": "fine"}))

    def plan(self, data: Any, **keys: Any) -> dict[str, Any]:
        """As `plan`."""
        self.calls.append(("plan", data, None, keys))
        return {"steps": 1}

    @property
    def verbs(self) -> dict[str, Verb]:
        """What the stages may name."""
        return {name: Verb(self.run, self.plan) for name in ("pretrain", "tune", "align")}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "life.toml").write_text(FILE.format(base="some/base"))
    return tmp_path / "life.toml"


def test_each_stage_begins_with_what_another_made(file: Path) -> None:
    """And its settings are a recipe; only what may be several is handed over as typed."""
    helper = Helper()
    done = run_stages(file, helper.verbs, out="life")
    assert [name for name, *_ in helper.calls] == ["plan"] * 3 + ["read", "reward", "best"]
    plans = [keys["recipe"]["base"] for _, _, _, keys in helper.calls[:3]]
    assert plans == ["some/base"] * 3, "what stands in for a base that is not there yet"
    read, reward, best = (call[1:] for call in helper.calls[3:])
    assert read[0] == "texts.csv" and read[2]["recipe"]["train"] == {"max_steps": 4}
    assert reward[2]["recipe"]["data"] == {"path": "pairs.csv", "columns": {"text": "body"}}
    assert reward[2]["recipe"]["base"] == "life/read" and reward[2]["method"] == "lora, full"
    assert best[0] == ["a", "b"] and best[2]["seed"] == [0, 1]
    assert best[2]["recipe"]["objective"] == {"name": "ppo", "reward": "life/reward"}
    assert done.summary["status"] == "done"
    assert "| best | align | stage:read | fine |" in done.report.read_text()
    assert run_stages(None, helper.verbs, resume=Path("life")).summary == done.summary
    assert len(helper.calls) == 6


@pytest.mark.parametrize("dies", ["reward", "reward at once"])
def test_goes_on_where_it_was(file: Path, dies: str) -> None:
    """A stage that is done is left alone, one that was begun is resumed, and one that died while
    its folder was made begins anew."""
    helper = Helper()
    helper.dies = dies
    with pytest.raises((RunError, KeyboardInterrupt)) as caught:
        run_stages(file, helper.verbs, out="life")
    if dies == "reward":
        expected = "stage reward: no room; go on with it: warmstart run --resume life"
        assert str(caught.value) == expected
    else:
        (Path("life") / "reward" / "run.json").touch()
    assert json.loads(Path("life/stages.json").read_text())["status"] == "stopped"
    with pytest.raises(RunError, match=r"exists already; go on with it: .* --resume life"):
        run_stages(file, helper.verbs, out="life")
    helper.dies, helper.calls = "", []
    assert run_stages(None, helper.verbs, resume=Path("life")).summary["status"] == "done"
    (name, data, resume, _), (last, source, _, _) = helper.calls[2:]
    assert (name, data, last, source) == ("reward", data, "best", ["a", "b"])
    assert resume == (Path("life/reward") if dies == "reward" else None)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('verb = "pretrain"', 'verb = "pretrian"', "stage read: .*Did you mean 'pretrain'"),
        ('"stage:reward"', '"stage:rewards"', "stage best: objective.reward = .* mean 'reward'"),
        ('"some/base"', '"stage:best"', "stage read: base = stage:best: no stage before it"),
        ('name = "best"', 'name = "read"', "stage read: two stages have this name"),
        ('name = "best"', 'name = "../x"', "stage 3 of .*: give it a name of letters"),
        ('name = "best"', f'name = "{"x" * 500}"', "stage 3 of .*: give it a name of letters"),
        ('"some/base"', '"stage:\\u001b[2J"', r"stage read: base = stage:\\u001b\[2J: no stage"),
        ("[[stages]]\nname = \"read\"", "seeds = 1\n[[stages]]\nname = \"read\"", "key 'seeds'"),
        ("train.max_steps = 4", 'out = "x"', "a stage stands in a folder of its name"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_read(
    file: Path, old: str, new: str, reason: str
) -> None:
    file.write_text(file.read_text().replace(old, new, 1))
    helper = Helper()
    with pytest.raises(RecipeError, match=reason):
        run_stages(file, helper.verbs, out="life")
    assert not helper.calls and not Path("life").exists()


def test_the_folder_of_stages_is_a_text(file: Path) -> None:
    file.write_text("out = 3\n" + file.read_text())
    with pytest.raises(RecipeError, match="out = 3: give the name of a folder"):
        run_stages(file, Helper().verbs)


def test_what_all_stages_together_forgot(tmp_path: Path) -> None:
    """A stage at the end of others is held against what the first of them began with, by a figure
    that is the same under any tokenizer, where another stage has it of the same passages."""

    def row(name: str, base: str, before: float, after: float, text: str = "general") -> Row:
        (tmp_path / name).mkdir()
        figures = {when: {"word_perplexity": {"value": value}}
                   for when, value in (("before", before), ("after", after))}  # fmt: skip
        facts = {"forgetting": {"text": text, "passages": 9, "sentence": "So.", **figures}}
        (tmp_path / name / "run.json").write_text(json.dumps({"status": "done"}))
        (tmp_path / name / "metrics.json").write_text(json.dumps(facts))
        return Row(name, "tune", base, "", "", 1.0, "So.", "")

    words = Row("words", "extend", "gpt2", "", "", None, "", "")
    rows = [words, row("read", "stage:words", 22.0, 24.0), row("tuned", "stage:read", 24.0, 30.0),
            row("alone", "gpt2", 20.0, 21.0), row("other", "stage:read", 9.0, 9.0, "mine"),
            row("far", "bert", 1.0, 1.0)]  # fmt: skip
    told = {own.name: own.forgotten for own in along_the_way(rows, tmp_path)}
    together = "So. All of its stages together: perplexity of a word {}; gpt2 itself has 20.0."
    assert told == {"words": "", "read": together.format("24.0"), "tuned": together.format("30.0"),
                    "alone": "So.", "other": "So.", "far": "So."}  # fmt: skip


REAL = """
out = "life"

[[stages]]
name = "words"
verb = "extend"
base = "{base}"
words = ["parcelshop", "kubernetes"]

[[stages]]
name = "read"
verb = "pretrain"
data.path = "texts.csv"
base = "stage:words"
objective = "mlm"
task.max_length = 16
train.max_steps = 2

[[stages]]
name = "adapted"
verb = "tune"
data = "texts.csv"
base = "stage:read"
train.epochs = 1

[[stages]]
name = "alone"
verb = "tune"
data = "texts.csv"
base = "{base}"
train.epochs = 1
"""


def test_a_domain_in_one_file(
    tiny_of: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Words, raw text, labels, against labels alone; an unknown key of the last stage is refused
    before the first one begins."""
    monkeypatch.chdir(tmp_path)
    write_messages(tmp_path / "texts.csv", 60)
    text = REAL.format(base=tiny_of("bert")).replace(
        "train.epochs = 1", "train.epochs = 1\nevaluate = { baselines = false, bootstrap = 100 }"
    )
    Path("bad.toml").write_text(text.replace("epochs = 1", "epcohs = 1"))
    assert main(["run", "bad.toml"]) == 2
    told = capsys.readouterr().err
    assert "stage adapted: unknown key 'train.epcohs'. Did you mean 'train.epochs'?" in told
    assert not Path("life").exists()
    Path("domain.toml").write_text(text)
    assert main(["run", "domain.toml", "--dry-run"]) == 0
    assert "2 new words" in capsys.readouterr().out and not Path("life").exists()
    assert main(["run", "domain.toml"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"adapted +tune +stage:read +macro-F1 [\d.]+", printed)
    assert "Best is" in printed and "The runner-up" in printed
    stages = Stages("life")
    assert list(stages.runs) == ["read", "adapted", "alone"]
    runs: dict[str, Any] = stages.runs
    assert runs["adapted"].facts["base"]["sha256"] != runs["alone"].facts["base"]["sha256"]
    tokenizer = (Path("life") / "adapted" / "model" / "tokenizer.json").read_text()
    assert "parcelshop" in tokenizer


FEEDBACK = """
out = "life"

[[stages]]
name = "sft"
verb = "tune"
data = "chats.jsonl"
base = "talker"
task = { name = "chat", max_new_tokens = 4 }
train = { epochs = 8, batch_size = 8, learning_rate = 1e-2, precision = "fp32" }
evaluate = { baselines = false, bootstrap = 100 }

[[stages]]
name = "reward"
verb = "align"
data = "pairs.jsonl"
base = "stage:sft"
objective = "reward"
train = { epochs = 12, batch_size = 4, learning_rate = 1e-2, precision = "fp32" }
evaluate = { forgetting = false, bootstrap = 100 }

[[stages]]
name = "ppo"
verb = "align"
data = "prompts.jsonl"
base = "stage:sft"
task = { name = "prompts", max_new_tokens = 4 }
objective = { name = "ppo", reward = "stage:reward", num_generations = 4, kl_reward = 0.01 }
train = { max_steps = 12, batch_size = 8, learning_rate = 3e-3, precision = "fp32", keep = "last" }
evaluate = { forgetting = false, bootstrap = 100 }
"""


@pytest.mark.slow
def test_human_feedback_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are learned, a model learns which are better, and its numbers reward the first one,
    with the real verbs: what PPO is paid for rises."""
    monkeypatch.chdir(tmp_path)
    talker(tmp_path / "talker")
    asked = [(f"{word} {n}", word[0]) for n in range(5) for word in "red green blue pink".split()]
    answers = [(prompt, own) for prompt, letter in asked for own in (letter, letter.upper())]
    write_rows(Path("chats.jsonl"), [{"prompt": p, "answer": answer} for p, answer in answers])
    write_rows(Path("pairs.jsonl"), [{"prompt": prompt, "chosen": letter, "rejected":
                                      letter.upper()} for prompt, letter in asked])  # fmt: skip
    write_rows(Path("prompts.jsonl"), [{"prompt": prompt} for prompt, _ in asked])
    Path("feedback.toml").write_text(FEEDBACK)
    assert main(["run", "feedback.toml"]) == 0
    runs: dict[str, Any] = Stages("life").runs
    assert list(runs) == ["sft", "reward", "ppo"]
    assert runs["reward"].metrics["accuracy"]["value"] > 0.9
    assert runs["ppo"].recipe.objective.reward == ("life/reward",)
    assert all(run.proof["passed"] for run in runs.values())
    before = {row["name"]: row for row in runs["ppo"].metrics["baselines"]}["untuned"]
    assert runs["ppo"].metrics["reward"]["value"] > before["reward"]["value"]
