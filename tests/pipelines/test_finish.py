"""What is suggested at the end fits the task, and the command line takes it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from warmstart import part as parts
from warmstart.cli.main import VERBS
from warmstart.cli.parser import parse
from warmstart.pipelines.finish import next_steps

RUN = Path("runs/mine")


def steps(name: str, **settings: Any) -> list[tuple[str, str]]:
    task: Any = parts.find("task", name)
    return next_steps(task.model_validate(settings), RUN)


@pytest.mark.parametrize(
    "name",
    ["classification", "multilabel", "regression", "pairs", "tagging", "extractive_qa",
     "summarization", "embedding", "few_shot", "custom", "chat", "preference", "prompts", "reward"],
)  # fmt: skip
def test_every_command_can_be_typed(name: str) -> None:
    for command, does in steps(name):
        program, *words = shlex.split(command)
        assert program == "warmstart" and does
        parse(words, VERBS)


@pytest.mark.parametrize("name", ["classification", "embedding"])
def test_a_folder_of_any_name_can_be_typed(name: str) -> None:
    folder = Path("runs/it's mine & yours")
    task: Any = parts.find("task", name)
    for command, _ in next_steps(task.model_validate({}), folder):
        request = parse(shlex.split(command)[1:], VERBS)
        assert request.verb == "search" or request.words["MODEL"] == str(folder)


def test_a_number_and_a_vector_have_no_confidence() -> None:
    for name in ("regression", "embedding"):
        assert not any("confidence" in does for _, does in steps(name))
    assert "labels a text, with confidence" in dict(steps("classification")).values()
    assert "a pair of texts" in steps("regression", pairs=True)[0][1]


def test_who_answers_prompts_is_talked_with() -> None:
    for name in ("chat", "preference", "prompts"):
        assert steps(name)[0] == (f"warmstart chat {RUN}", "talks with it")
    assert "which answer it prefers" in steps("preference")[1][1]


def test_vectors_are_for_searching() -> None:
    made, asked = (shlex.split(command) for command, _ in steps("embedding")[:2])
    assert made[1:3] == ["index", str(RUN)] and asked[1] == "search"
    assert made[made.index("--out") + 1] == asked[2]


def test_a_head_of_ones_own_is_named_in_every_command() -> None:
    found = steps("custom", module="heads.Plain")
    assert len(found) == 3
    for command, _ in found:
        assert command.endswith(" --task.module heads.Plain")
        parse(shlex.split(command)[1:], VERBS)
