"""`generate` and `chat`, from Python and in the terminal."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import warmstart
from tiny import tiny, writer
from warmstart.cli.main import main
from warmstart.errors import DataError, RecipeError
from warmstart.models.hf_calls import quiet

TEMPLATE = (
    "{% for m in messages %}{{ 'red ' if m.role == 'assistant' else 'blue ' }}{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}{{ 'red ' }}{% endif %}"
)
SETTINGS: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writer(tmp_path_factory.mktemp("writers") / "plain")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writer(tmp_path_factory.mktemp("writers") / "talker", template=TEMPLATE)


def test_a_text_is_what_transformers_writes(plain: Path):
    model = AutoModelForCausalLM.from_pretrained(plain)
    tokenizer: Any = AutoTokenizer.from_pretrained(plain)
    ids = tokenizer("the film was", return_tensors="pt")
    with quiet():
        wanted = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
    (written,) = warmstart.generate(plain, "the film was", **SETTINGS)
    ids_of = written.completion.ids
    assert ids_of == wanted[0, 3:].tolist()
    assert written.text.strip() == tokenizer.decode(ids_of, skip_special_tokens=True)
    assert written.to_row()["finish_reason"] in ("stop", "length")


def test_a_prompt_is_put_into_the_models_own_template(talker: Path):
    tokenizer: Any = AutoTokenizer.from_pretrained(talker)
    messages = [{"role": "user", "content": "the film"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    model = AutoModelForCausalLM.from_pretrained(talker)
    with quiet():
        wanted = model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)
    notes: list[str] = []
    (written,) = warmstart.generate(talker, "the film", notes=notes, **SETTINGS)
    assert written.completion.ids == wanted[0, len(ids) :].tolist()
    assert "chat template" in notes[0]
    (same,) = warmstart.generate(talker, [messages], **SETTINGS)
    assert same.completion.ids == written.completion.ids and same.question == "the film"
    (raw,) = warmstart.generate(talker, "the film", raw=True, notes=notes, **SETTINGS)
    assert raw.completion.ids != written.completion.ids and "--raw" in notes[1]


def test_a_tokenizer_that_pads_and_cuts_by_itself_does_neither(plain: Path, tmp_path: Path):
    folder = shutil.copytree(plain, tmp_path / "padded")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
                             "stride": 0}  # fmt: skip
    content["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_id": 0,
        "pad_token": "<pad>",
        "pad_type_id": 0,
        "pad_to_multiple_of": None,
    }
    file.write_text(json.dumps(content))
    both = [warmstart.generate(f, "the film was", **SETTINGS)[0] for f in (folder, plain)]
    assert both[0].completion.ids == both[1].completion.ids


def test_settings_and_models_are_columns(plain: Path, talker: Path):
    texts = warmstart.generate([plain, talker], ["the film", "a book"], temperature=[0, "0.9"],
                               max_new_tokens=4)  # fmt: skip
    assert [(t.prompt, t.column.title) for t in texts] == [
        (prompt, f"{model}, temperature {heat}")
        for model in (plain, talker) for heat in (0.0, 0.9) for prompt in (0, 1)
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="at most 24"):
        warmstart.generate(plain, "a", seed=list(range(30)))


def test_prompts_come_from_files(plain: Path, talker: Path, tmp_path: Path):
    (tmp_path / "p.txt").write_text("the film\n\na book\n")
    assert [t.question for t in warmstart.generate(plain, tmp_path / "p.txt", **SETTINGS)] == [
        "the film", "a book",
    ]  # fmt: skip
    rows = [
        {
            "messages": [
                {"role": "user", "content": "the film"},
                {"role": "assistant", "content": "was good"},
            ],
            "system": "the",
        }
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "texts.jsonl"
    (text,) = warmstart.generate(talker, str(tmp_path / "p.jsonl"), out=out, **SETTINGS)
    assert text.question == "the film"
    row = json.loads(out.read_text())
    assert row["prompt"] == "the film" and row["temperature"] == 0 and row["text"] == text.text
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column of prompts"):
        warmstart.generate(plain, tmp_path / "no.csv")
    with pytest.raises(DataError, match="prompt 2 is empty"):
        warmstart.generate(plain, ["a", " "])


def test_a_run_of_a_text_task_reads_its_own_prompts(tmp_path: Path):
    base = tiny("gpt2", tmp_path / "base")
    rows = [{"source": f"the {w} film", "target": w} for w in ("good", "bad", "fine", "nice") * 6]
    run = warmstart.tune(
        rows, base=base, task="text2text", out=tmp_path / "run",
        **{"train.max_steps": 1, "evaluate.bootstrap": 100, "task.max_new_tokens": 4,
           "data.validation_fraction": 0.2, "data.test_fraction": 0.2},
    )  # fmt: skip
    notes: list[str] = []
    (text,) = warmstart.generate(run, "the good film", notes=notes, num_beams=4, max_new_tokens=4)
    assert "task text2text" in notes[0] and "Answer:" in notes[0]
    texts = ["good", "good " * 500]
    warmstart.generate(run, texts, notes=notes, max_new_tokens=4)
    assert "only the beginning was read (first: text 2)" in notes[-1]
    assert text.text.strip() == run.predict(["the good film"])[0].value


def test_encoder_decoders_write_and_keep_no_conversation(tmp_path: Path):
    folder = writer(tmp_path / "t5", "t5")
    assert len(warmstart.generate(folder, ["the film", "a good book"], **SETTINGS)) == 2
    with pytest.raises(RecipeError, match="warmstart generate"):
        warmstart.chat(folder)


def test_models_that_do_not_write_say_what_they_do(
    tmp_path: Path, tiny_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    from transformers import AutoModelForMaskedLM

    folder = tiny("bert", tmp_path / "masked")
    with quiet():
        AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    assert main(["generate", str(folder), "a"]) == 2
    assert "masked language model" in (error := capsys.readouterr().err) and "fill-mask" in error
    assert main(["generate", str(tiny_of("bert")), "a"]) == 2
    assert "encoder" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "nowhere"), "a"]) == 2
    assert main(["generate", str(folder), "a", "--temprature", "1"]) == 2
    assert "Did you mean 'temperature'" in capsys.readouterr().err


def test_the_command_prints_texts_tables_and_streams(
    plain: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["generate", str(plain), "the film", "--max-new-tokens", "6", "--temperature", "0"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "--stream"]) == 0
    assert capsys.readouterr().out == text
    assert main([*words, "a book", "--stream", "--seed", "1,2"]) == 0
    streamed = capsys.readouterr().out
    assert streamed.count("---") == 4 and "--- 2: a book (seed 2)" in streamed
    assert text in streamed
    assert main([*words, "a book", "--seed", "1,2"]) == 0
    table = capsys.readouterr().out
    assert table.split("\n")[0].split() == ["prompt", "seed", "1", "seed", "2"]
    assert text.strip() in table
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["text"] == text[:-1]


# Conversations.


def test_a_conversation_grows_and_is_read_whole(talker: Path):
    chat = warmstart.chat(talker, system="the", **SETTINGS)
    pieces: list[str] = []
    first = chat.say("the film", pieces.append)
    assert "".join(pieces).strip() == first.text and not first.left_out
    chat.say("a book")
    assert [m["role"] for m in chat.messages] == ["system"] + ["user", "assistant"] * 2
    by_hand = warmstart.generate(talker, [chat.messages[:-1]], **SETTINGS)[0]
    assert by_hand.text.strip() == chat.messages[-1]["content"]
    assert chat.undo() and len(chat.messages) == 3
    chat.reset()
    assert [m["role"] for m in chat.messages] == ["system"] and not chat.undo()
    with pytest.raises(RecipeError, match="nothing was said"):
        chat.again()


def test_another_answer_is_another_one(talker: Path):
    chat = warmstart.chat(talker, max_new_tokens=6, temperature=2)
    first = chat.say("the film").text
    assert chat.again().text != first
    assert [m["role"] for m in chat.messages] == ["user", "assistant"]


def test_what_does_not_fit_is_left_out_and_counted(talker: Path):
    chat = warmstart.chat(talker, system="the", max_new_tokens=16, temperature=0)
    left = [chat.say("the film was very good and i liked it").left_out for _ in range(5)]
    assert left[0] == 0 and left[-1] > 0 and left == sorted(left)
    assert left[-1] % 2 == 0  # a question goes with its answer
    kept = [chat.messages[0], *chat.messages[1 + left[-1] : -1]]
    again = warmstart.generate(talker, [kept], max_new_tokens=16, temperature=0)[0]
    assert again.text.strip() == chat.messages[-1]["content"]
    before = list(chat.messages)
    with pytest.raises(RecipeError, match="too long"):
        chat.say("good " * 80)
    assert chat.messages == before


def test_a_base_without_a_template_talks_by_the_plain_one(plain: Path):
    chat = warmstart.chat(plain, **SETTINGS)
    assert chat.template == "plain"
    assert chat.say("the film").tokens > 0


def talk(lines: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["chat", *words])


def test_the_terminal_does_what_is_typed(
    talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    file = tmp_path / "talk.jsonl"
    lines = (
        "/system the\nthe film \\\nwas good\n/set temperature 0\n/set temprature 1\n/again\n"
        f"/save {file}\n/show\n/undo\n/nothing\n/reset\n/help\n/exit\na book\n"
    )
    assert talk(lines, [str(talker), "--max_new_tokens", "5"], monkeypatch) == 0
    told = capsys.readouterr()
    saved = json.loads(file.read_text())["messages"]
    assert saved[:2] == [{"role": "system", "content": "the"},
                         {"role": "user", "content": "the film \nwas good"}]  # fmt: skip
    assert f"assistant: {saved[2]['content']}" in told.out
    assert "Did you mean 'temperature'" in told.err and "no command '/nothing'" in told.err
    assert "taken back" in told.err and "temperature 0.0" in told.err
    assert talk("a film\n", [str(talker), "--json", "--max_new_tokens", "5"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "assistant"
    assert talk("", [str(talker), "--num_return_sequences", "2"], monkeypatch) == 2


def test_ctrl_c_ends_the_answer_only(
    talker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from warmstart.models.sampling.completion import Text

    add, count = Text.add, [0]

    def interrupted(self: Text, token: int) -> str:
        count[0] += 1
        if count[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return add(self, token)

    monkeypatch.setattr(Text, "add", interrupted)
    words = [str(talker), "--max_new_tokens", "30", "--temperature", "3", "--json"]
    assert talk("the film\na book\n", words, monkeypatch) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["finish_reason"] == "cancelled" and first["tokens"] <= 4
    assert second["finish_reason"] != "cancelled"
