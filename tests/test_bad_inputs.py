"""What people get wrong: each is one clear line, exit code 2, and nothing is written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import warmstart
from tiny import tiny
from warmstart.cli.main import main

ROWS = [
    f"the {word} {thing} {i},{label}"
    for i in range(12)
    for word, label in (("good", "pos"), ("bad", "neg"))
    for thing in ("film",)
]
GOOD = "\n".join(["text,label", *ROWS]) + "\n"
RUN = "runs/good-full"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base and a finished run on it."""
    folder = tmp_path_factory.mktemp("made")
    tiny("bert", folder / "base")
    (folder / "good.csv").write_text(GOOD)
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["tune", "good.csv", "--base", "base", "--train.epochs", "1"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them to spoil, which is the current folder."""
    shutil.copytree(made, tmp_path / "room")
    monkeypatch.chdir(tmp_path / "room")
    return tmp_path / "room"


def listing(folder: Path) -> dict[str, int]:
    """Every file with the time it was written, and every folder."""
    return {str(p): p.stat().st_mtime_ns if p.is_file() else 0 for p in folder.rglob("*")}


@dataclass(frozen=True)
class Bad:
    """A bad input: what stands there, what is typed, what the line must say."""

    name: str
    words: str
    says: tuple[str, ...]
    make: Callable[[Path], Any] = lambda room: None


def data(content: str | bytes, name: str = "bad.csv") -> Callable[[Path], Any]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda room: (room / name).write_bytes(raw)


def rows(*lines: str) -> Callable[[Path], Any]:
    return data("\n".join([GOOD.rstrip("\n"), *lines]) + "\n")


def fewer_layers(room: Path) -> None:
    path = room / "base" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] - 1}))


def truncated(room: Path) -> None:
    path = room / "base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(room: Path) -> None:
    (room / "base" / "model.safetensors").rename(room / "base" / "pytorch_model.bin")


def wrong_tokenizer(room: Path) -> None:
    tiny("bert", room / "other", vocab_words=[f"word{i}" for i in range(99)])
    shutil.copy(room / "other" / "tokenizer.json", room / "base" / "tokenizer.json")


def stopped(room: Path) -> None:
    path = room / "runs" / "good-full" / "run.json"
    path.write_text(path.read_text().replace('"status": "done"', '"status": "stopped"'))


def baseless(room: Path) -> None:
    path = room / RUN / "run.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "status": "stopped", "base": {"name": "base"}}))


def changed(room: Path) -> None:
    stopped(room)
    (room / "good.csv").write_text(GOOD.replace("film 3", "book 3"))


def pipe(room: Path) -> None:
    os.mkfifo(room / "pipe.csv")


def facts(text: str) -> Callable[[Path], Any]:
    return lambda room: (room / RUN / "run.json").write_text(text)


def saved(state: str) -> Callable[[Path], Any]:
    def make(room: Path) -> None:
        (room / "saved").mkdir()
        (room / "saved" / "state.json").write_text(state)

    return make


def split_folder(train: str, test: str) -> Callable[[Path], Any]:
    def make(room: Path) -> None:
        (room / "splits").mkdir()
        (room / "splits" / "train.csv").write_text(train)
        (room / "splits" / "test.csv").write_text(test)

    return make


TUNE = "tune bad.csv --base base"
CASES = [
    # the file
    Bad("empty file", TUNE, ("bad.csv is empty",), data("")),
    Bad("header only", TUNE, ("bad.csv", "header but no rows"), data("text,label\n")),
    Bad("missing file", "tune god.csv --base base", ("no file 'god.csv'", "'good.csv'")),
    Bad("missing folder", "tune no/god.csv --base base", ("no/god.csv", "folder does not exist")),
    Bad("a link to nothing", TUNE, ("'bad.csv' is a link to 'nothing.csv'", "nothing is there"),
        lambda room: (room / "bad.csv").symlink_to("nothing.csv")),
    Bad("a link to itself", TUNE, ("'bad.csv'", "leads back to itself"),
        lambda room: (room / "bad.csv").symlink_to("bad.csv")),
    Bad("a link to itself, asked", f"predict {RUN} bad.csv", ("'bad.csv'", "back to itself"),
        lambda room: (room / "bad.csv").symlink_to("bad.csv")),
    Bad("a name too long", f"tune {'a' * 300}.csv --base base", ("aaa…", "longer than the system")),
    Bad("a name too long, asked", f"evaluate {RUN} {'a' * 300}.csv",
        ("aaa…", "longer than the system")),
    Bad("a name that is not UTF-8", "tune caf\udce9.csv --base base",
        ("'caf\\udce9.csv'", "not UTF-8"), data(GOOD, "caf\udce9.csv")),
    Bad("a text that is not UTF-8", f"predict {RUN} caf\udce9", ("'caf\\udce9'", "not UTF-8")),
    Bad("no index of datasets", "tune saved --base base",
        ("saved/state.json", "not what `datasets` writes"), saved("[]")),
    Bad("an index of no files", "tune saved --base base",
        ("saved/state.json", "not what `datasets` writes"), saved('{"_data_files": [1]}')),
    Bad("nothing to answer", f"predict {RUN} bad.csv", ("bad.csv", "no rows; add some"),
        data("text,label\n")),
    Bad("spreadsheet", "tune bad.xlsx --base base", ("bad.xlsx", "save it as CSV"),
        data(b"PK\x03\x04", "bad.xlsx")),
    Bad("pickle", "tune bad.pkl --base base", ("bad.pkl is a pickle", "run code"),
        data(b"\x80\x04", "bad.pkl")),
    Bad("binary called csv", TUNE, ("bad.csv is not text", "Export"),
        data(bytes(range(1, 9)) * 300)),
    Bad("NUL bytes", TUNE, ("bad.csv:26", "NUL", "tr -d"), rows("a\0b,pos")),
    Bad("10 MB cell", TUNE, ("bad.csv:26", "column 'text'", "1,000,000", "shorten"),
        rows("x" * 10_000_000 + ",pos")),
    Bad("ragged row", TUNE, ("bad.csv:26", "3 fields", "header has 2", "quote"), rows("a,b,pos")),
    Bad("unclosed quote", TUNE, ("bad.csv:26", "quote opened here"), rows('"never, closed,pos')),
    Bad("invalid JSONL", "tune bad.jsonl --base base", ("bad.jsonl:2", "not valid JSON", "mend"),
        data('{"text": "a", "label": "b"}\n{"text": \n', "bad.jsonl")),
    Bad("wrong encoding named", "tune bad.csv --base base --data.encoding ascii",
        ("bad.csv:2", "ascii"), data("text,label\ndéjà vu,pos\n")),
    Bad("unknown encoding", "tune good.csv --base base --data.encoding utf-9",
        ("data.encoding", "utf-9", "cp1252")),
    Bad("empty folder", "tune empty --base base", ("empty holds no train.csv", "nothing"),
        lambda room: (room / "empty").mkdir()),
    Bad("no data at all", "tune --base base", ("no data", "--data.train FILE")),
    # columns and labels
    Bad("missing column", TUNE, ("bad.csv has no column for label", "txet", "--data.columns.label"),
        data("txet,text\na,b\n")),
    Bad("no such column", "tune good.csv --base base --data.columns.text txt",
        ("no column 'txt'", "'text'")),
    Bad("one column for two roles", "tune good.csv --base base --data.columns.text label",
        ("no column for label", "is taken as text already", "--data.columns.label NAME")),
    Bad("one class", TUNE, ("bad.csv", "'pos'", "at least two classes"),
        data("text,label\na,pos\nb,pos\n")),
    Bad("one row per class", TUNE, ("bad.csv:2", "at least two rows", "merge"),
        data("text,label\n" + "".join(f"word {i},c{i}\n" for i in range(8)))),
    Bad("all text empty", TUNE, ("bad.csv", "text of every row is empty", "--data.columns.text"),
        data("text,label\n,a\n,b\n,a\n,b\n")),
    Bad("all labels null", TUNE, ("bad.csv", "label of every row is empty"),
        data("text,label\na,\nb,\nc,\n")),
    Bad("label typos in case", TUNE, ("'Pos' (1 row)", "bad.csv:26", "--data.merge_labels true"),
        rows("a fine film,Pos")),
    Bad("label typos in spaces", TUNE, ("'pos '", "bad.csv:26", "--data.merge_labels true"),
        rows("a fine film,pos ")),
    Bad("continuous label", f"{TUNE} --task classification",
        ("bad.csv", "40 different values", "measurement"),
        data("text,label\n" + "".join(f"word {i},{i / 7}\n" for i in range(40)))),
    Bad("too many rows dropped", TUNE, ("would be lost", "bad.csv:26", "--data.max_dropped"),
        rows(*[",pos"] * 5)),
    Bad("one file as train and test", "tune good.csv --base base --data.test good.csv",
        ("good.csv", "train", "test", "Leave --data.test out")),
    Bad("two sources", "tune good.csv --base base --data.path more.csv",
        ("two sources of data, 'good.csv' and data.path 'more.csv'", "leave one out")),
    Bad("demo on other data", "demo --data.path good.csv",
        ("data.path has no meaning for demo", "warmstart tune good.csv")),
    Bad("test label unseen in train", "tune splits --base base",
        ("splits/test.csv:2", "'meh'", "never occurs in train"),
        split_folder(GOOD, "text,label\nso so,meh\n")),
    Bad("labels of two Unicode forms", TUNE,
        ("'caf\\xe9' (2 rows)", "'cafe\\u0301' (1 row)", "bad.csv:28", "--data.merge_labels true"),
        rows("a,caf\xe9", "b,caf\xe9", "c,cafe\u0301")),
    Bad("labels with what cannot be seen", TUNE, ("'pos\\u200b' (1 row)", "bad.csv:26"),
        rows("a fine film,pos\u200b")),
    Bad("one text in every row", TUNE,
        ("bad.csv: 40 rows in 1 group that stay together (those of one text", "rows of other"),
        data("text,label\n" + "one and the same,pos\none and the same,neg\n" * 20)),
    Bad("one value of the group", "tune bad.csv --base base --data.group author",
        ("bad.csv: 24 rows in 1 group", "one value of 'author'", "--data.validation_fraction 0"),
        data(GOOD.replace("\n", ",me\n").replace("label,me", "label,author"))),
    Bad("a pipe that nobody writes to", "tune pipe.csv --base base",
        ("pipe.csv is no file but a pipe", "write them to a file first"), pipe),
    Bad("a pipe, asked", f"predict {RUN} pipe.csv", ("pipe.csv is no file but a pipe",), pipe),
    Bad("a pipe, judged", f"evaluate {RUN} pipe.csv", ("pipe.csv is no file but a pipe",), pipe),
    Bad("a pipe, looked at", "inspect pipe.csv --base base", ("no file but a pipe",), pipe),
    Bad("an address", "tune https://example.com/x.csv --base base",
        ("'https://example.com/x.csv' is an address", "download it first")),
    Bad("an address, asked", f"predict {RUN} https://example.com/x.csv", ("is an address",)),
    Bad("an address to test on", "tune good.csv --base base --data.test https://example.com/x.csv",
        ("'https://example.com/x.csv' is an address",)),
    Bad("a key twice in a row", "tune bad.jsonl --base base",
        ("bad.jsonl:2", "'text' has two values", "mend"),
        data('{"text": "a", "label": "b"}\n{"text": "a", "label": "b", "text": "c"}\n',
             "bad.jsonl")),
    Bad("a key twice in a list", "tune bad.json --base base", ("bad.json:2", "'text' has two"),
        data('[{"text": "a", "label": "b"},\n{"text": "a", "text": "c"}]\n', "bad.json")),
    Bad("half of a character", "tune bad.jsonl --base base",
        ("bad.jsonl:1: column 'text' holds half of a character",),
        data('{"text": "a\\ud83d", "label": "b"}\n', "bad.jsonl")),
    # the recipe
    Bad("a recipe in another encoding", "tune good.csv --recipe bad.toml",
        ("cannot read the recipe bad.toml", "save it as UTF-8"),
        data(b'base = "caf\xe9"\n', "bad.toml")),
    Bad("a recipe that is a folder", "tune good.csv --recipe .", ("is a folder; name the file",)),
    Bad("too many epochs", "tune good.csv --base base --train.epochs 99999999999999999999",
        ("train.epochs = 99999999999999999999", "at most 1,000,000")),
    Bad("too large a batch", "tune good.csv --base base --train.batch_size 99999999999999999999",
        ("train.batch_size", "at most 1,000,000")),
    Bad("a limit beyond all", "tune good.csv --base base --data.limit 99999999999999999999",
        ("data.limit", "at most")),
    Bad("a rank above the matrices",
        "tune good.csv --base base --method lora --method.rank 10000",
        ("method.rank = 10,000", "32 wide", "--method full")),
    Bad("no name for the results", "tune good.csv --base base --out ",
        ("out: it is empty; name a folder",)),
    Bad("no name for the answers", f"predict {RUN} good.csv --out ", ("--out is empty",)),
    Bad("no name for the scores", f"evaluate {RUN} good.csv --out ", ("--out is empty",)),
    Bad("no name for the report", "inspect good.csv --base base --out ", ("--out is empty",)),
    Bad("unknown key", "tune good.csv --base base --train.epoch 3",
        ("unknown key 'train.epoch'", "'train.epochs'")),
    Bad("key without its section", "tune good.csv --base base --epochs 3",
        ("unknown key 'epochs'", "'train.epochs'")),
    Bad("key of another tool", "tune good.csv --base base --lr 1e-4", ("'train.learning_rate'",)),
    Bad("setting of another method", "tune good.csv --base base --method.rank 16",
        ("method full has no setting 'rank'", "add --method lora")),
    Bad("unknown setting of a method", "tune good.csv --base base --method lora --method.rnk 16",
        ("method lora has no setting 'rnk'", "'rank'")),
    Bad("unknown method", "tune good.csv --base base --method lroa", ("'lroa'", "'lora'", "full")),
    Bad("wrong type", "tune good.csv --base base --train.epochs three",
        ("train.epochs = three", "a whole number, at least 1")),
    Bad("out of range", "tune good.csv --base base --data.test_fraction 1.5",
        ("data.test_fraction = 1.5", "at least 0 and below 1")),
    Bad("not one of the choices", "tune good.csv --base base --train.schedule liner",
        ("train.schedule = liner", "'linear'")),
    Bad("value missing", "tune good.csv --base base --train.epochs", ("--train.epochs needs",)),
    Bad("section for a value", "tune good.csv --base base --train 3", ("train = 3", "--train.")),
    Bad("parts that do not fit",
        "tune good.csv --base base --train.optimizer muon --method frozen", ("muon", "take adamw")),
    Bad("recipe file missing", "tune good.csv --recipe rcp.toml",
        ("no recipe rcp.toml", "`warmstart recipe`")),
    Bad("bad TOML", "tune good.csv --recipe bad.toml", ("bad.toml is not TOML", "line 2"),
        data("seed = 1\nbase = \n", "bad.toml")),
    Bad("a recipe nested too deeply", "tune good.csv --recipe bad.toml",
        ("bad.toml is no recipe", "nested too deeply"),
        data("a = " + "[" * 5_000 + "]" * 5_000, "bad.toml")),
    Bad("unknown key in a file", "tune good.csv --recipe bad.toml",
        ("unknown key 'train.epoch'", "'train.epochs'"), data("[train]\nepoch = 3\n", "bad.toml")),
    Bad("a number in quotes", "tune good.csv --recipe bad.toml",
        ('train.epochs = "3"', "a whole number", "without quotes"),
        data('[train]\nepochs = "3"\n', "bad.toml")),
    # the base
    Bad("no such folder", "tune good.csv --base ./bsae", ("no folder './bsae'", "'base'")),
    Bad("unknown base, offline", "tune good.csv --base nobody/nothing",
        ("nobody/nothing", "HF_HUB_OFFLINE")),
    Bad("misspelt base", "tune good.csv --base miniml", ("miniml", "'minilm'")),
    Bad("revision of a folder", "tune good.csv --base base --revision main",
        ("revision 'main' has no meaning for 'base', which is a folder", "leave it out")),
    Bad("base without config", TUNE.replace("bad", "good"), ("no config.json",),
        lambda room: (room / "base" / "config.json").unlink()),
    Bad("base without tokenizer", TUNE.replace("bad", "good"), ("no tokenizer.json", "Make one"),
        lambda room: (room / "base" / "tokenizer.json").unlink()),
    Bad("pickled base", TUNE.replace("bad", "good"), ("only pickled weights", "Convert"), pickled),
    Bad("truncated base", TUNE.replace("bad", "good"),
        ("model.safetensors is cut off", "expected", "again"), truncated),
    Bad("wrong tokenizer", TUNE.replace("bad", "good"),
        ("tokenizer", "disagrees", "rows in the embedding"), wrong_tokenizer),
    # the run
    Bad("out exists", f"tune good.csv --base base --out {RUN}",
        ("exists and is not empty", "another --out", "--resume")),
    Bad("out is a file", "tune good.csv --base base --out good.csv", ("good.csv", "another --out")),
    Bad("out under a file", "tune good.csv --base base --out good.csv/run",
        ("good.csv is not a folder", "another --out")),
    Bad("resume of no run", "tune --resume base", ("base is no run", "run.json")),
    Bad("resume of nothing", "tune --resume runs/good-ful",
        ("no run runs/good-ful", "'good-full'")),
    Bad("resume with other keys", f"tune --resume {RUN} --train.epochs 9",
        ("leave out train.epochs",)),
    Bad("resume with other data", f"tune good.csv --resume {RUN}", ("leave out the data",)),
    Bad("resume with changed data", f"tune --resume {RUN}",
        ("cannot resume", "data have changed", "new run"), changed),
    Bad("a record that is empty", f"tune --resume {RUN}",
        (f"{RUN}/run.json is damaged", "has no 'status'", "begin a new run"), facts("{}")),
    Bad("a record cut off", f"tune --resume {RUN}", (f"{RUN}/run.json is damaged", "new run"),
        facts('{"status": "done", "la')),
    Bad("a record that is a list", f"tune --resume {RUN}", ("run.json is damaged", "no JSON"),
        facts("[]")),
    Bad("a record nested too deeply", f"tune --resume {RUN}", ("run.json is damaged",),
        facts("[" * 100_000)),
    Bad("a record of wrong types", f"tune --resume {RUN}",
        ("run.json is damaged", "base = minilm"), facts('{"status": "stopped", "base": "minilm"}')),
    Bad("a record without its data", f"tune --resume {RUN}",
        ("run.json is damaged", "has no 'fingerprint'"), facts('{"status": "stopped"}')),
    Bad("a record without its base", f"tune --resume {RUN}", ("run.json is damaged", "'sha256'"),
        baseless),
    # answers
    Bad("predict with no model", "predict empty text", ("empty holds no model",),
        lambda room: (room / "empty").mkdir()),
    Bad("predict with a base", "predict base text",
        ("a model without a head", "warmstart tune DATA --base base")),
    Bad("predict with no such run", "predict runs/good-ful text", ("runs/good-ful", "'good-full'")),
    Bad("predict with a missing file", f"predict {RUN} god.csv", ("no file 'god.csv'", "good.csv")),
    Bad("predict over a file", f"predict {RUN} good.csv --out old.csv",
        ("old.csv exists", "choose another --out"), data("mine", "old.csv")),
    Bad("predict to a spreadsheet", f"predict {RUN} good.csv --out x.xlsx",
        ("x.xlsx", ".csv", ".parquet")),
    Bad("predict onto its input", f"predict {RUN} good.csv --out good.csv",
        ("is the file that is read",)),
    Bad("out too long", f"tune good.csv --base base --out {'a' * 300}",
        ("cannot write to aaa", "longer than the system allows", "another --out")),
    Bad("out too long, rehearsed", f"tune good.csv --base base --dry-run --out {'a' * 300}",
        ("cannot write to aaa", "longer than the system allows")),
    Bad("predict into a name too long", f"predict {RUN} good.csv --out {'a' * 300}.csv",
        ("cannot write to aaa", "longer than the system allows")),
    Bad("predict into no folder", f"predict {RUN} good.csv --out no/x.csv", ("no folder no",)),
    Bad("predict with a training key", f"predict {RUN} good.csv --train.epochs 3",
        ("'train.epochs' does not apply",)),
    Bad("predict with a file in a key", f"predict {RUN} --data.path good.csv",
        ("data.path has no meaning for predict", "warmstart predict MODEL DATA")),
    Bad("predict with a test file", f"predict {RUN} --data.test good.csv",
        ("data.test has no meaning for predict", "warmstart predict MODEL DATA")),
    Bad("predict with a key of the splits", f"predict {RUN} good.csv --data.similarity 0.3",
        ("data.similarity has no meaning for predict", "takes data.columns, data.delimiter")),
    Bad("predict with an unknown key", f"predict {RUN} good.csv --data.limt 3", ("'data.limit'",)),
    Bad("evaluate with a key of training", f"evaluate {RUN} good.csv --data.sampling over",
        ("data.sampling has no meaning for evaluate", "leave it out")),
    Bad("index with a key of the splits", "index base good.csv --out x --data.group text",
        ("data.group has no meaning for index", "leave it out")),
    Bad("evaluate with an unknown label", f"evaluate {RUN} bad.csv",
        ("bad.csv:26", "does not know the label 'pso'", "'pos'"), rows("a film,pso")),
    Bad("evaluate without labels", f"evaluate {RUN} bad.csv", ("bad.csv:26", "no label"),
        rows("a film,")),
    # the words
    Bad("evaluate over a run", f"evaluate {RUN} good.csv --out {RUN}",
        (f"{RUN} exists and is not empty", "another --out")),
    Bad("evaluate over a model", f"evaluate {RUN} good.csv --out base",
        ("base exists and is not empty",)),
    Bad("a seed too large", "tune good.csv --base base --seed 4294967296",
        ("seed = 4294967296", "at most 4,294,967,295")),
    Bad("no rows to test on", "tune good.csv --base base --data.test_fraction 0",
        ("no rows to test on", "--data.test FILE")),
    Bad("fewer layers than weights", "tune good.csv --base base --out made",
        ("more layers than its config.json says", "left over"), fewer_layers),
    Bad("unknown verb", "tun good.csv", ("no verb 'tun'", "'tune'")),
    Bad("a file for a verb", "good.csv", ("no verb 'good.csv'", "warmstart tune FILE")),
    Bad("a flag for a verb", "--base base tune good.csv", ("no flag before the verb",)),
    Bad("a word too many", "tune good.csv more.csv --base base", ("what is 'more.csv'?",)),
    Bad("a word too few", "evaluate", ("evaluate needs MODEL and DATA",)),
]  # fmt: skip


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_bad_input_is_one_clear_line(
    bad: Bad, room: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    bad.make(room)
    before = listing(room)
    capsys.readouterr()
    assert main(bad.words.split(" ")) == 2
    out, err = capsys.readouterr()
    assert_one_line(err, bad.says)
    assert out == ""
    assert listing(room) == before


def assert_one_line(err: str, says: tuple[str, ...]) -> None:
    assert err.startswith("warmstart: ")
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert len(err) < 600
    assert "Traceback" not in err
    missing = [words for words in says if words not in err]
    assert not missing, f"{missing} not in: {err}"


@pytest.mark.parametrize(
    "bad", [b for b in CASES if b.name in ("one class", "misspelt base", "out exists")],
    ids=lambda bad: bad.name,
)  # fmt: skip
def test_so_it_is_in_a_process_of_its_own(bad: Bad, room: Path, preloaded: dict[str, str]):
    bad.make(room)
    before = listing(room)
    done = subprocess.run(
        ["warmstart", *bad.words.split(" ")], capture_output=True, text=True, env=preloaded
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, bad.says)
    assert done.stdout == ""
    assert listing(room) == before


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("tune <(cat good.csv) --base base", 2, "warmstart: /dev/fd/63 is no file but a pipe"),
        ("tune /dev/stdin --base base < <(cat good.csv)", 2, "warmstart: /dev/stdin is no file"),
        (f"predict {RUN} - < <(printf 'caf\\xe9\\n')", 2, "warmstart: stdin:1: bytes that are not"),
        (f"predict {RUN} - < <(printf 'a\\0b\\n')", 2, "warmstart: stdin:1: NUL byte"),
        (f"predict {RUN} - <&-", 2, "warmstart: there is no stdin to read texts from; give"),
        (f"predict {RUN} 'a film' >&-", 1, ""),
        ("recipe >/dev/full", 1, "warmstart: cannot write the output: No space left on device"),
        ("tune --base base 2>&-", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(
    line: str, code: int, said: str, room: Path, preloaded: dict[str, str]
):
    before = listing(room)
    done = subprocess.run(
        ["bash", "-c", f"warmstart {line}"], capture_output=True, text=True, env=preloaded
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(said), done.stderr
    assert listing(room) == before


@pytest.mark.parametrize("bad", ["a\0b.csv", "a" * 300 + ".csv"])
def test_names_that_no_file_can_have(bad: str, room: Path):
    for ask in (
        lambda: warmstart.tune(bad, base="base"),
        lambda: warmstart.tune("good.csv", base="base", out=bad),
        lambda: warmstart.predict(RUN, bad),
        lambda: warmstart.predict(RUN, "good.csv", out=bad),
        lambda: warmstart.evaluate(RUN, bad),
        lambda: warmstart.evaluate(RUN, "good.csv", out=bad),
        lambda: warmstart.inspect(bad, base="base"),
        lambda: warmstart.inspect("good.csv", base="base", out=bad),
    ):
        with pytest.raises(warmstart.WarmstartError, match="its name "):
            ask()


@pytest.mark.parametrize("wrong", [None, 3, b"runs/good-full", ["runs/good-full"]])
def test_what_is_no_folder_is_no_run(wrong: Any, room: Path):
    for ask in (
        lambda: warmstart.Run(wrong),
        lambda: warmstart.Comparison(wrong),
        lambda: warmstart.predict(wrong, "a film"),
        lambda: warmstart.predict(wrong, "good.csv", out="x.csv"),
        lambda: warmstart.evaluate([wrong] if isinstance(wrong, list) else wrong, "good.csv"),
        lambda: warmstart.retrieval.embed(wrong, "a film"),
        lambda: warmstart.retrieval.index(wrong, "good.csv", out="x"),
    ):
        with pytest.raises(warmstart.RunError, match="is no run: give the path of its folder"):
            ask()
    for go_on in (warmstart.tune, warmstart.plan):
        if wrong is not None:
            with pytest.raises(warmstart.RunError, match="is no run: give the path"):
                go_on(resume=wrong)


def test_a_long_name_of_data_gives_a_run_a_shorter_one(room: Path, capsys):
    long = f"{'b' * 245}.csv"
    (room / "good.csv").rename(room / long)
    assert main(["tune", long, "--base", "base", "--train.epochs", "1"]) == 0
    assert (room / "runs" / ("b" * 200) / "run.json").is_file()


def test_a_recipe_may_begin_with_a_mark(room: Path, capsys):
    (room / "r.toml").write_bytes(b"\xef\xbb\xbfseed = 7\n")
    assert main(["recipe", "--recipe", "r.toml"]) == 0
    assert "\nseed = 7\n" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_recipe_may_be_as_powershell_writes_it(encoding: str, room: Path, capsys):
    mark = "" if encoding == "utf-16" else "\ufeff"
    (room / "r.toml").write_bytes(f"{mark}seed = 7\r\n".encode(encoding))
    assert main(["recipe", "--recipe", "r.toml"]) == 0
    assert "\nseed = 7\n" in capsys.readouterr().out


def test_half_of_a_character_is_said_with_its_row(room: Path):
    texts = ["a film", "a\ud800"]
    run = warmstart.Run(RUN)
    frame = pytest.importorskip("pandas").DataFrame(
        {"text": texts, "label": ["a", "b"]}, dtype=object
    )
    rows = frame.to_dict("records")
    for ask, where in (
        (lambda: run.predict(texts), "row 2: text holds half of a character"),
        (lambda: warmstart.predict(run, texts), "row 2: text holds"),
        (lambda: warmstart.tune(rows, base="base"), "<list>:2: column 'text' holds"),
        (lambda: warmstart.tune(frame, base="base"), "<DataFrame>:2: column 'text' holds"),
    ):
        with pytest.raises(warmstart.DataError, match=where):
            ask()


def test_a_sentence_that_ends_like_a_file_is_a_text(room: Path):
    (room / "my data").mkdir()
    for text in ("please send report.csv", "see docs/report.csv", "all in .csv"):
        assert len(warmstart.predict(RUN, text)) == 1
    for name in ("report.csv", "my data/report.csv", "runs/report.csv"):
        with pytest.raises(warmstart.DataError, match="no file"):
            warmstart.predict(RUN, name)


def test_no_file_is_proposed_that_is_hidden(room: Path):
    (room / ".nope.csv").write_text("")
    with pytest.raises(warmstart.DataError) as said:
        warmstart.tune("nope.csv", base="base")
    assert ".nope" not in str(said.value)
    with pytest.raises(warmstart.DataError, match=r"'\.nope\.csv'"):
        warmstart.tune(".nop.csv", base="base")


def test_a_run_is_gone_on_with_where_it_began(
    made: Path, room: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    stopped(room)
    (room / "else").mkdir()
    monkeypatch.chdir(room / "else")
    for more in ([], ["--dry-run"]):
        capsys.readouterr()
        assert main(["tune", "--resume", str(room / RUN), *more]) == 2
        says = (f"cannot resume {room / RUN}", "names 'good.csv'", f"cd {made}")
        assert_one_line(capsys.readouterr().err, says)


def test_ctrl_c_before_the_first_step_says_how_to_go_on(
    room: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    words = "tune good.csv --base base --method frozen --out".split()
    with monkeypatch.context() as patch:
        patch.setattr("warmstart.pipelines.session.Session.fit", stop)
        assert main([*words, "runs/my x"]) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("go on with it: warmstart tune --resume 'runs/my x'")
    assert main(["tune", "--resume", "runs/my x"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("warmstart.pipelines.session.Session.begin", stop)
        capsys.readouterr()
        assert main([*words, "runs/y"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "warmstart: interrupted"
    assert not (room / "runs" / "y").exists()


def test_a_read_only_place(room: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    before = listing(room)
    for words in ("tune good.csv --base base", f"predict {RUN} good.csv --out x.csv"):
        capsys.readouterr()
        assert main(words.split()) == 2
        assert_one_line(capsys.readouterr().err, ("cannot write", "read-only", "another --out"))
    assert listing(room) == before


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["a checkpoint", "the model", "the log"])
def test_a_full_disk_says_how_to_go_on(
    where: str, room: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    target = {
        "a checkpoint": "warmstart.training.checkpoint.save_file",
        "the model": "transformers.PreTrainedModel.save_pretrained",
        "the log": "warmstart.training.progress.Log.write",
    }[where]
    words = "tune good.csv --base base --train.epochs 1 --train.checkpoint_seconds 0 --out runs/x"
    with monkeypatch.context() as patch:
        patch.setattr(target, full)
        capsys.readouterr()
        assert main(words.split()) == 2
    err = capsys.readouterr().err.splitlines()[-1] + "\n"
    assert_one_line(err, ("No space left on device", "warmstart tune --resume runs/x"))
    left = [p.name for p in (room / "runs" / "x").rglob("*") if p.name.startswith(".")]
    assert left == []
    assert not (room / "runs" / "x" / "model").exists()
    assert main(["tune", "--resume", "runs/x"]) == 0
    assert (room / "runs" / "x" / "model" / "model.safetensors").is_file()


def test_a_disk_that_is_full_at_once_leaves_nothing(room: Path, capsys, monkeypatch):
    before = set(listing(room))
    monkeypatch.setattr("warmstart.run.write_json", full)
    capsys.readouterr()
    assert main("tune good.csv --base base --out runs/x".split()) == 2
    assert_one_line(capsys.readouterr().err, ("cannot write", "No space left on device"))
    assert set(listing(room)) == before


def test_a_disk_that_fills_up_while_labelling(room: Path, capsys, monkeypatch):
    before = set(listing(room))
    monkeypatch.setattr("warmstart.pipelines.reading.rows._cells", full)
    capsys.readouterr()
    assert main(f"predict {RUN} good.csv --out x.csv".split()) == 2
    assert_one_line(capsys.readouterr().err, ("cannot write x.csv", "No space left on device"))
    assert set(listing(room)) == before


LONG = "x" * 5_000


@pytest.mark.parametrize("call", [
    lambda: warmstart.predict(LONG, "a text"),
    lambda: warmstart.evaluate(LONG, "a.csv"),
    lambda: warmstart.pipeline("text-classification", LONG),
    lambda: warmstart.pipeline("fill-mask", LONG),
    lambda: list(warmstart.generate(LONG, "a text")),
    lambda: warmstart.chat(LONG),
    lambda: warmstart.build(LONG, engine="onnx"),
    lambda: warmstart.compress(LONG, method="distill"),
    lambda: warmstart.serve(LONG, dry_run=True),
    lambda: warmstart.serve([LONG], dry_run=True),
    lambda: warmstart.adapters.merge(LONG, out="o"),
    lambda: warmstart.retrieval.index(LONG, ["a text"], out="o"),
])  # fmt: skip
def test_a_name_longer_than_a_file_may_have_is_no_model(call) -> None:
    with pytest.raises(warmstart.errors.WarmstartError):
        call()
