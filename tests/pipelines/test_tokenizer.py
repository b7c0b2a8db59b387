"""`warmstart tokenizer`: what is typed, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warmstart.cli import commands, verbs
from warmstart.cli.parser import explained, parse
from warmstart.errors import RecipeError, WarmstartError
from warmstart.tokenization.settings import Choice, Comparison, Extension, Training

SAMPLES = Path(commands.__file__).parents[1] / "samples"
VERBS = {"tokenizer": commands.TOKENIZER}
TokenScores = Callable[..., str]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> TokenScores:
    """Run `warmstart tokenizer WORDS` in an empty folder; what stands on stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: str) -> str:
        request = parse(["tokenizer", *words], VERBS)
        capsys.readouterr()
        verbs.tokenizer(request)
        return capsys.readouterr().out

    return run


def test_train_writes_a_folder_and_says_so(said: TokenScores):
    tickets = str(SAMPLES / "tickets.csv")
    out = said("train", tickets, "--kind", "wordpiece", "--vocab_size=1000", "--lowercase",
               "--family", "bert", "--special_tokens", "<order>,<user>")  # fmt: skip
    assert "tokens     1,000" in out
    assert "tokenizers/tickets-wordpiece" in out
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("tokenizers/tickets-wordpiece")
    assert tokenizer.convert_ids_to_tokens(tokenizer("MY <order>").input_ids) == [
        "[CLS]", "my", "<order>", "[SEP]",
    ]  # fmt: skip
    note = json.loads(Path("tokenizers/tickets-wordpiece/warmstart.json").read_text())
    assert note["trained"]["settings"]["lowercase"] is True


def test_show_marks_what_is_unknown_and_goes_on_below_where_it_is_too_wide(said: TokenScores):
    corpus = ("--corpus", str(SAMPLES / "tickets.csv"))
    out = said("show", "my parcel 🙂", *corpus, "--tokenizers", "minilm,word,bpe,unigram,char")
    assert out.count("minilm") == 1 and "?[UNK]" in out and "?<unk>" in out
    assert "? unknown" in out
    assert all(len(line) <= 120 for line in out.splitlines())
    assert "0-2" in out and "my" in out
    rows = json.loads(said("show", "my parcel", "--json"))
    assert [p["piece"] for p in rows[0]["pieces"]] == ["[CLS]", "my", "parcel", "[SEP]"]


def test_show_of_control_characters_leaves_the_terminal_alone(said: TokenScores):
    out = said("show", "a\x1b[31m b[red]c[/red]", "--tokenizers", "minilm")
    assert "\x1b" not in out
    assert "minilm leaves out: \\x1b" in out


def test_compare_prints_a_table_for_each_group(said: TokenScores):
    tickets = str(SAMPLES / "tickets.csv")
    out = said("compare", tickets, "--by", "label", "--tokenizers", "minilm")
    assert "delivery" in out and "all" in out and "a word" in out
    Path("a.txt").write_text("some words\n")
    Path("b.txt").write_text("汉字没有空格分隔的句子比较长一些\n")
    rows = json.loads(said("compare", "a.txt,b.txt", "--tokenizers", "minilm", "--json"))
    assert [row["group"] for row in rows] == ["a.txt", "b.txt", "all"]
    assert rows[1]["fertility"] is None


def test_extend_prints_the_words_and_writes_a_model(said: TokenScores):
    out = said("extend", "minilm", "--words", "kubernetes,etcdctl", "--out", "wider")
    assert "ku ##ber ##net ##es" in out
    assert "30,522 before, 30,524 now" in out
    assert Path("wider/model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        ([], "tokenizer needs a verb after it"),
        (["train"], "needs CORPUS"),
        (["train", "x.txt", "--vocabsize", "9"], "unknown key 'vocabsize'. Did you mean 'vocab_"),
        (["train", "x.txt", "--kind", "bpee"], "Did you mean 'bpe'"),
        (["train", "x.txt", "--vocab_size", "many"], "vocab_size = many: give a whole number"),
        (["train", "y.txt"], "no file 'y.txt'"),
        (["show", "x", "--tokenizers", "minlm"], "Did you mean 'minilm'"),
        (["extend", "minilm"], "either --words"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, said: TokenScores):
    Path("x.txt").write_text("a text\n")
    with pytest.raises(WarmstartError) as caught:
        said(*words)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, RecipeError) or "no file" in message


def test_help_names_every_setting():
    for name, model in (("train", Training), ("show", Choice), ("compare", Comparison),
                        ("extend", Extension)):  # fmt: skip
        text = explained(f"tokenizer {name}", commands.TOKENIZER.verbs[name])
        assert [key for key in model.model_fields if f"--{key}" not in text] == []
