"""Conversations from the file to the saved model, on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import warmstart
from chats import TALK, bytes_with, smollm2_like, talker, talks, write_rows
from tiny import tiny
from warmstart.cli.main import main
from warmstart.data.conversations import read, write
from warmstart.errors import ProofError, RecipeError
from warmstart.tasks.base import Examples
from warmstart.tasks.chat import NOTHING, TOO_LONG, Chat

QUICK = {"task.max_new_tokens": 6, "train.epochs": 30, "train.learning_rate": 1e-2,
         "train.batch_size": 16, "evaluate.bootstrap": 100, "evaluate.baselines": False,
         "method": "full", "task": "chat"}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talker(tmp_path_factory.mktemp("talker") / "base")


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("run")
    data = write_rows(folder / "chat.jsonl", talks(64))
    report = warmstart.tune(data, base=str(base), out=folder / "run", **QUICK)
    return folder / "run", report


def test_a_run_learns_ends_and_proves(run: tuple[Path, Any]) -> None:
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = metrics
    assert scores["ended"]["value"] > 0.9
    assert scores["loss"]["value"] < 1.2  # half of ln 8, which is the end without the letter
    proof = json.loads((folder / "proof.json").read_text())
    assert proof["same_conversations"] >= 5
    page = (folder / "report.html").read_text()
    assert "Some of its answers" in page


def test_the_end_is_learned_with_padding_that_is_the_end(run: tuple[Path, Any]) -> None:
    """transformers#23530: its probability behind an answer exceeds 0.9."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run[0] / "model"
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    messages = [{"role": "user", "content": "blue 2"}, {"role": "assistant", "content": "B"}]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    end = len(ids) - 1 - ids[::-1].index(tokenizer.eos_token_id)
    with torch.no_grad():
        chances = model(torch.tensor([ids[:end]])).logits[0, -1].softmax(-1)
    assert chances[tokenizer.eos_token_id] > 0.9


def test_the_ids_of_training_are_those_of_answering(run: tuple[Path, Any]) -> None:
    from warmstart.inference.predictor import open_predictor

    predictor = open_predictor(run[0])
    task: Any = predictor.task
    assert task.template == "own"
    table = predictor.table(["red 8"])
    asked = task.encode(table, [], predictor.tokenizer, task.max_length)
    said = {"messages": [{"role": "user", "content": "red 8"},
                         {"role": "assistant", "content": "R"}]}  # fmt: skip
    learned = pa.table({"messages": [write(said["messages"])], "tools": [""]})
    store = task.encode(learned, [], predictor.tokenizer, task.max_length)
    assert asked.ids.tolist() == store.ids.tolist()
    assert store.answers is not None
    assert predictor.tokenizer.decode(store.answers.ids) == "R<|im_end|>"
    answers = [answer.value for answer in predictor.predict(["red 8", "blue 10"])]
    assert set(answers) <= set("RGBPTM")
    answer = predictor.predict([said["messages"][:1]])[0]
    assert answer.value == answers[0]
    data = write_rows(run[0].parent / "asked.jsonl", [{**said, "system": None}] * 2)
    assert [a.value for a in warmstart.predict(run[0], data)] == answers[:1] * 2


def usable(tokenizer: Any, rows: list[Any], **settings: Any) -> tuple[pa.Table, list[str]]:
    task, lost = Chat.model_validate(settings), list[str]()
    table = pa.table({"messages": [write(row) for row in rows], "tools": [""] * len(rows),
                      "source": [""] * len(rows), "target": [""] * len(rows)})  # fmt: skip
    return task.usable(table, tokenizer, lambda _, reason: lost.append(reason)), lost


def test_what_cannot_be_learned_is_dropped_with_its_reason() -> None:
    """trl#5826: a prompt without room for an answer is dropped, and never a loss of NaN."""
    long = {"role": "user", "content": "x" * 300}
    rows = [TALK, TALK[:1], [TALK[0], {**TALK[1], "weight": 0}], [long, TALK[1]]]
    table, lost = usable(smollm2_like(), rows, max_length=260)
    assert len(table) == 1
    assert lost == [NOTHING, NOTHING, TOO_LONG]


def test_a_long_conversation_ends_with_the_last_answer_that_fits() -> None:
    long = {"role": "assistant", "content": "y" * 300}
    rows = [[*TALK[:3], long], [TALK[0], long], [*TALK, TALK[2]]]
    table, lost = usable(smollm2_like(), rows, max_length=260)
    assert not lost
    whole = [read(value) for value in table["messages"].to_pylist()]
    assert whole == [TALK[:2], [TALK[0], long], TALK]
    table, lost = usable(smollm2_like(), rows[:1], max_length=120, train="last")
    assert lost == [TOO_LONG]


def test_bases_that_cannot_are_refused(tmp_path: Path, base: Path) -> None:
    data = write_rows(tmp_path / "chat.jsonl", talks())
    for family, match in (("bert", "writes texts, and 'bert' is an encoder"),
                          ("t5", "task chat continues a conversation")):  # fmt: skip
        folder = tiny(family, tmp_path / family)
        with pytest.raises(RecipeError, match=match):
            warmstart.plan(data, base=str(folder), task="chat")
    with pytest.raises(RecipeError, match="prefix and separator belong to"):
        warmstart.plan(data, base=str(base), task="chat", **{"task.separator": "x"})
    called = [{"messages": [
        TALK[0], {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "clock", "arguments": {"n": n}}}]},
        {"role": "tool", "content": str(n)}, TALK[1]]} for n in range(40)]  # fmt: skip
    tools = write_rows(tmp_path / "tools.jsonl", called)
    with pytest.raises(RecipeError, match=r"data have tools.*--task\.template chatml"):
        warmstart.plan(tools, base=str(base), task="chat")
    plan = warmstart.plan(tools, base=str(base), **{"task": "chat", "task.template": "chatml"})
    assert plan["rows"]["train"] > 10


def test_a_folder_with_another_template_fails_its_proof(tmp_path: Path) -> None:
    """LlamaFactory#5834: read by plain transformers it has to give the ids that were trained on."""
    task, tokenizer = Chat(), smollm2_like()
    table = pa.table({"messages": [write(TALK)], "tools": [""]})
    examples = Examples(table, task.encode(table, [], tokenizer, 600), [], tokenizer)
    tokenizer.save_pretrained(tmp_path / "same")
    assert task.prove(tmp_path / "same", examples) == {"same_conversations": 1}
    other = smollm2_like()
    other.chat_template = other.chat_template.replace("SmolLM", "Smol")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ProofError, match="transformers does not make the ids"):
        task.prove(tmp_path / "other", examples)


def test_a_base_without_template_is_given_one(tmp_path: Path) -> None:
    folder = talker(tmp_path / "plain", bytes_with())
    data = write_rows(tmp_path / "a.jsonl", talks(32))
    out = tmp_path / "run"
    warmstart.tune(data, base=str(folder), out=out, **{**QUICK, "train.epochs": 1})
    saved = (out / "model" / "chat_template.jinja").read_text()
    assert "Answer:" in saved


def test_packed_is_the_same_run_and_says_how_full(base: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "chat.jsonl", talks(32))
    losses: list[float] = []
    for packing in (False, True):
        out = tmp_path / str(packing)
        keys = {**QUICK, "train.epochs": 1, "objective": "sft", "objective.packing": packing}
        warmstart.tune(data, base=str(base), out=out, **keys)
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses.append(next(line["loss"] for line in log if "loss" in line))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert 0.5 < next(line["fill"] for line in log if "fill" in line) <= 1
    assert main(["tune", str(data), "--base", str(base), "--task", "chat", "--dry-run"]) == 0


def test_the_mask_is_shown_before_a_step(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "chat.jsonl", talks(32))
    words = ["tune", str(data), "--base", str(base), "--show-mask", "--dry-run"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "task chat, by the columns 'messages'" in told
    assert told.count("<|im_start|>assistant\n⟦") == 3
    assert "<|im_end|>⟧" in told
    table = tmp_path / "labels.csv"
    table.write_text("text,label\n" + "".join(f"a {n},{n % 2}\n" for n in range(40)))
    assert main(["tune", str(table), "--show-mask", "--dry-run"]) == 2
    assert "this task learns none" in capsys.readouterr().err
