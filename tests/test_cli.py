"""The command line: what is printed where, and what comes out of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import warmstart
from tiny import tiny
from warmstart.cli.main import VERBS, main
from warmstart.config.recipe import Recipe

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(Path(warmstart.__file__).parents[1]),
}
ROWS = [
    f"the {word} {thing} {i},{label}"
    for i in range(8)
    for thing in ("film", "book")
    for word, label in (("good", "pos"), ("bad", "neg"))
]
QUICK = ["--train.epochs", "1", "--evaluate.bootstrap", "100", "--train.precision", "fp32"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, a data file and a finished run."""
    folder = tmp_path_factory.mktemp("made")
    tiny("bert", folder / "base")
    (folder / "data.csv").write_text("\n".join(["text,label", *ROWS]) + "\n")
    words = ["tune", str(folder / "data.csv"), "--base", str(folder / "base"), *QUICK]
    assert main([*words, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("base", "run"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "data.csv", tmp_path / "data.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(room: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in the room that must succeed: (stdout, stderr)."""

    def of(*words: str) -> tuple[str, str]:
        capsys.readouterr()
        assert main(words) == 0
        return capsys.readouterr()

    return of


def shell(line: str, room: Path, environment: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line], cwd=room, env=environment, capture_output=True)


def test_tune_prints_the_result_and_takes_the_next_free_name(run: Any):
    words = ("tune", "data.csv", "--base", "base", *QUICK)
    first, told = run(*words)
    second, _ = run(*words)
    assert "macro-F1" in first and "95 % interval" in first
    assert "runs/data-full/report.html" in first
    assert "runs/data-full-2/report.html" in second
    assert told.startswith("note: data.csv (UTF-8, comma): text = text, label = label\n")
    assert "\nepoch 1: " in told
    assert 'warmstart predict runs/data-full "your text"' in first


def test_rows_that_are_left_out_are_told(run: Any, room: Path):
    with (room / "data.csv").open("a", encoding="utf-8") as file:
        file.write("the good film without a label,\n")
    count = len((room / "data.csv").read_text(encoding="utf-8").splitlines())
    printed, _ = run("tune", "data.csv", "--base", "base", "--data.max_dropped", "0.1", *QUICK)
    assert f"left out   1 row: empty label (first data.csv:{count})\n" in printed


def test_a_dry_run_is_a_recipe_with_comments(run: Any, room: Path):
    before = sorted(os.listdir(room))
    printed, told = run("tune", "data.csv", "--base", "base", "--dry-run", *QUICK)
    assert sorted(os.listdir(room)) == before
    assert told == ""
    recipe = Recipe.from_toml(printed)
    assert (recipe.train.epochs, recipe.data.path) == (1, "data.csv")
    for words in ("rows to train on", "steps at most: 1 epoch, batches of 16 rows",
                  "learning rate 0.0001, fp32, cpu", "neg\n", "pos\n", "read as utf-8",
                  "runs/data-full; nothing has been written"):  # fmt: skip
        assert words in printed


def test_json_is_all_there_is_on_stdout(run: Any, room: Path):
    data = ("data.csv", "--base", "base", *QUICK)
    commands = [
        ("tune", *data, "--dry-run"),
        ("evaluate", "run", "data.csv"),
        ("predict", "run", "data.csv", "--out", "o.csv"),
        ("predict", "run", "good film"),
        ("models",),
        ("recipe",),
    ]
    found = {words[0]: json.loads(run(*words, "--json")[0]) for words in commands}
    assert found["tune"]["recipe"]["train"]["epochs"] == 1
    assert found["evaluate"]["rows"] == len(ROWS)
    assert found["predict"]["label"] in ("neg", "pos")
    assert found["models"][0]["name"] == "minilm"
    assert found["recipe"] == Recipe().model_dump(mode="json")
    tuned = json.loads(run("tune", *data, "--json")[0])
    assert Path(tuned["report"]).is_file()


def test_recipe_and_models(run: Any, room: Path):
    assert Recipe.from_toml(run("recipe")[0]) == Recipe()
    (room / "r.toml").write_text("seed = 3\n")
    printed, _ = run("recipe", "--recipe", "r.toml", "--method", "lora", "method.rank=8")
    assert Recipe.from_toml(printed) == Recipe.of({"seed": 3, "method": "lora", "method.rank": 8})
    assert "minilm" in run("models")[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, run: Any):
    printed, _ = run(verb, "--help")
    assert printed.startswith(f"usage: warmstart {verb}")
    assert run(verb, "-h")[0] == run("help", verb)[0] == printed
    assert max(map(len, printed.splitlines())) <= 100
    if verb == "tune":
        for key in ("epochs", "lora (rank, alpha", "--resume RUN", "--dry-run", "columns"):
            assert key in printed


def test_evaluate_prints_intervals_and_takes_any_model_folder(run: Any, room: Path):
    printed, _ = run("evaluate", "run", "data.csv", "--out", "scores")
    assert "95 % interval" in printed and " to " in printed
    assert sorted(os.listdir("scores")) == ["metrics.json", "predictions.parquet"]
    plain, _ = run("evaluate", "run/model", "data.csv")
    assert plain.splitlines()[:8] == printed.splitlines()[:8]
    (room / "folder").mkdir()
    shutil.copy("data.csv", "folder/test.csv")
    assert run("evaluate", "run", "folder")[0] == plain


def test_predict_says_label_confidence_text(run: Any, monkeypatch: pytest.MonkeyPatch):
    printed, told = run("predict", "run", "a good\tfilm\nindeed")
    label, confidence, text = printed.rstrip("\n").split("\t")
    assert label in ("neg", "pos") and 0 < float(confidence) <= 1
    assert text == "a good film indeed"
    assert told.startswith("note: 16.7% of the tokens of these texts are unknown")  # "indeed"
    printed, told = run("predict", "run", "data.csv")
    assert len(printed.splitlines()) == len(ROWS)


def test_predict_from_stdin_keeps_every_line(room: Path, preloaded: dict[str, str]):
    """Once as a user starts it, from nothing."""
    anew = f"{sys.executable} -m warmstart"
    for line, environment in ((f"{anew} predict run", ENVIRONMENT),
                              ("warmstart predict run -", preloaded)):  # fmt: skip
        done = shell(f"printf 'good\\n\\nschön ☂\\r\\nlast' | {line}", room, environment)
        lines = done.stdout.decode().split("\n")
        assert [line.split("\t")[2] for line in lines[:-1]] == ["good", "", "schön ☂", "last"]
        assert b"note: 1 text has no text" in done.stderr and b"text 2" in done.stderr


def test_a_reader_that_has_seen_enough_is_fine(room: Path, preloaded: dict[str, str]):
    line = "set -o pipefail; yes good film | head -20000 | warmstart predict run - | head -1"
    done = shell(line, room, preloaded)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


def test_a_terminal_that_knows_no_unicode_is_fine(room: Path):
    """One process for all of them: most of the time of each would be its imports."""
    lines = [
        ["predict", "run", "schön ☂", "--json"],
        ["predict", "run", "schön ☂"],
        ["evaluate", "run", "data.csv"],
        ["recipe"],
        ["tune", "--help"],
        ["tune", "☂.csv"],
    ]
    code = (
        "import json, sys; from warmstart.cli.main import main\n"
        "for words in json.loads(sys.argv[1]): print(f'left with {main(words)}')"
    )
    words = shlex.join([sys.executable, "-c", code, json.dumps(lines)])
    done = shell(words, room, ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.stdout.isascii() and done.stderr.isascii()
    told = [line for line in done.stderr.splitlines() if not line.startswith(b"note: ")]
    assert len(told) == 1 and told[0].startswith(b"warmstart: no file"), "the file's error"
    printed = done.stdout.decode().splitlines()
    assert [line[-1] for line in printed if line.startswith("left with ")] == list("000002")
    assert json.loads(printed[0])["label"] in ("neg", "pos")


def test_resume_of_a_run_that_is_done_shows_it(run: Any):
    printed, told = run("tune", "--resume", "run")
    assert "run/report.html" in printed
    assert told == ""


def test_ctrl_c_says_how_to_go_on(room: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    import signal

    from warmstart.cli.progress import Bars

    monkeypatch.setattr(Bars, "step", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["tune", "data.csv", "--base", "base", "--out", "c", *QUICK]) == 130
    assert "; go on with it: warmstart tune --resume c" in capsys.readouterr().err
    monkeypatch.undo()
    os.chdir(room)
    assert main(["tune", "--resume", "c"]) == 0


def test_the_demo_is_tune_on_the_samples(run: Any, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "warmstart.api.training.tune", lambda data, **keys: asked.update(keys, data=data)
    )
    monkeypatch.setattr("warmstart.cli.output.run.tuned", lambda run, as_json: None)
    run("demo", "--train.epochs", "1")
    assert Path(asked["data"]).name == "tickets.csv" and Path(asked["data"]).is_file()
    assert asked["train.epochs"] == "1"


def test_inspect_prints_findings_and_writes_a_clean_copy(run: Any, room: Path):
    (room / "twice.csv").write_text("\n".join(["text,label", *ROWS, *ROWS[:3]]) + "\n")
    words = ("inspect", "twice.csv", "--base", "base", "--features", "false")
    printed, told = run(*words, "--fix", "clean.csv", "--split", "cut", "--out", "seen")
    assert "3 rows repeat the text of another" in printed
    assert "3 × exact copy" in printed and "seen/report.html" in printed
    assert (room / "clean.csv").read_text().splitlines() == ["text,label", *ROWS]
    assert sorted(os.listdir("cut")) == ["test.csv", "train.csv", "validation.csv"]
    assert "languages ..." in told
    found = json.loads(run(*words, "--out", "again", "--json")[0])
    assert found["rows"] == len(ROWS) + 3 and Path(found["report"]).is_file()
    assert {one["kind"] for one in found["findings"]} >= {"duplicates"}


def test_inspect_refuses_in_one_line(room: Path, capsys: pytest.CaptureFixture[str]):
    for words, said in (
        (["--features", "maybe"], "--features = maybe: give true or false"),
        (["--max-rows", "0"], "--max-rows = 0: give a whole number"),
        (["--fix", "data.csv"], "data.csv exists and is not overwritten"),
        (["--train.epochs", "2"], "'train.epochs' does not apply here"),
        (["--split", "a.csv"], "must be a folder"),
    ):
        assert main(["inspect", "data.csv", "--base", "base", *words]) == 2
        assert said in capsys.readouterr().err
    assert not (room / "runs").exists()


def test_a_verb_may_have_verbs_of_its_own():
    from warmstart.cli.parser import Verb, explained, parse
    from warmstart.errors import RecipeError

    verbs = {
        "box": Verb("boxes", verbs={"open": Verb("open it", {"BOX": "which"}, {"by HAND": ""})})
    }
    found = parse(["box", "open", "red", "--by", "left"], verbs)
    assert (found.verb, found.words, found.options["by"]) == ("box open", {"BOX": "red"}, "left")
    assert "open it" in explained("box", parse(["box", "--help"], verbs).spec)
    for words, said in ((["box"], "box needs a verb"), (["box", "opne"], "Did you mean 'open'")):
        with pytest.raises(RecipeError, match=said):
            parse(words, verbs)
