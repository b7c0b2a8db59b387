"""What a folder from elsewhere may not do: have its code run, or answer while it is not whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warmstart
from learning import write_messages
from tiny import tiny
from warmstart.cli.main import VERBS, Terminal, main
from warmstart.errors import WarmstartError
from warmstart.models.checks import NOTE
from warmstart.run import held

CODE = "strange_parts"
EVIL = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("was_run").touch()
class Head(nn.Module):
    def __init__(self, width, labels):
        super().__init__()
        self.out = nn.Linear(width, labels)
    def forward(self, hidden, mask):
        return self.out(hidden[:, 0])
class Task: ...
class Method: ...
class Objective: ...
"""
TASKS: dict[str, Any] = {
    "head": {"name": "custom", "module": f"{CODE}.Head", "module_settings": {}},
    "task": {"name": f"{CODE}.Task"},
}


QUICK: dict[str, Any] = {"train.epochs": 1, "evaluate.baselines": False, "evaluate.bootstrap": 100,
                         "train.precision": "fp32"}  # fmt: skip


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, a whole model, an adapter and a run that was stopped."""
    folder = tmp_path_factory.mktemp("made")
    base = tiny("bert", folder / "base")
    data = write_messages(folder / "m.csv", 90)
    keys: dict[str, Any] = {"base": str(base), "train.epochs": 1, "evaluate.bootstrap": 100,
                            "evaluate.baselines": False}  # fmt: skip
    warmstart.tune(data, out=str(folder / "whole"), **keys)
    warmstart.tune(data, out=str(folder / "lora"), method="lora", **keys)
    return folder


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, which is the current folder and where Python looks for modules."""
    shutil.copytree(made, tmp_path / "room")
    monkeypatch.chdir(tmp_path / "room")
    monkeypatch.syspath_prepend(str(tmp_path / "room"))
    return tmp_path / "room"


def poison(room: Path, kind: str) -> None:
    """Have every folder name code that lies beside it."""
    (room / f"{CODE}.py").write_text(EVIL)
    for run in (room / "whole", room / "lora"):
        edit(run / "model" / NOTE, lambda note: note.update(task=TASKS[kind]))
        lines = (
            (run / "recipe.toml").read_text().replace('name = "lora"', f'name = "{CODE}.Method"')
        )
        before, _, after = lines.partition("[task]")
        rest = after[after.index("\n[") :]
        own = "\n".join(
            f"{key} = {json.dumps(value)}" for key, value in TASKS[kind].items() if value != {}
        )
        (run / "recipe.toml").write_text(f"{before}[task]\n{own}\n{rest}")
        edit(run / "run.json", lambda facts: (facts.update(status="stopped"), facts.pop("recipe")))
    stage = '[[stages]]\nname = "a"\nverb = "tune"\ndata = "m.csv"\n[stages.task]\n'
    (room / "stages.toml").write_text(stage + own + "\n")
    index = room / "index"
    if index.exists():
        edit(index / "index.json", lambda facts: facts.update(model=str(room / "whole" / "model")))


WORDS: dict[str, list[list[str]]] = {
    "tune": [["--resume", "whole"], ["--resume", "lora"], ["m.csv", "--base", "whole/model"],
             ["m.csv", "--resume", "lora", "--dry-run"]],
    "pretrain": [["--resume", "whole"], ["m.csv", "--base", "whole/model", "--dry-run"],
                 ["m.csv", "--base", "lora/model", "--dry-run"]],
    "run": [["stages.toml", "--dry-run"]],
    "evaluate": [["whole", "m.csv"], ["lora", "m.csv"], ["whole/model", "m.csv"]],
    "align": [["--resume", "whole"], ["m.csv", "--base", "whole/model", "--dry-run"]],
    "build": [["whole", "--engine", "onnx"], ["lora/model", "m.csv", "--engine", "auto"]],
    "predict": [["whole", "text"], ["lora", "text"], ["lora/model", "m.csv", "--out", "o.csv"]],
    "generate": [["whole", "text"], ["lora", "text"], ["lora/model", "text", "--raw"]],
    "chat": [["whole"], ["lora/model"]],
    "prefer": [["whole", "lora", "text", "--annotator", "a"]],
    "index": [["whole", "m.csv", "--out", "i"], ["lora/model", "m.csv", "--out", "i"]],
    "search": [["index", "text"]],
    "compress": [["whole", "m.csv", "--method", "vocabulary", "--dry-run"],
                 ["lora", "m.csv", "--method", "distill", "--dry-run"]],
    "serve": [["whole", "lora", "--dry-run", "--port", "0"]],
    "scaling": [["whole", "lora", "whole/model"]],
    "inspect": [["m.csv", "--base", "whole/model"]],
    "models": [[]],
    "recipe": [["--recipe", "whole/recipe.toml", "--dry-run"]],
    "adapters list": [["lora", "whole"]],
    "adapters merge": [["lora", "--out", "o"], ["lora/model", "--out", "o", "--base", "base"]],
    "adapters add": [["lora", "lora", "--out", "o"]],
    "adapters average": [["lora", "lora/model", "--out", "o"]],
    "tokenizer show": [["text", "--tokenizers", "whole/model,lora/model"]],
    "tokenizer compare": [["m.csv", "--tokenizers", "whole/model,lora/model"]],
    "tokenizer extend": [["whole/model", "--corpus", "m.csv", "--out", "o"]],
}  # fmt: skip
"""Every verb that takes a folder → how it is asked."""
NO_FOLDER = {"demo", "tokenizer train"}


def test_every_verb_is_tried() -> None:
    verbs = {
        f"{name} {below}".strip() for name, verb in VERBS.items() for below in (verb.verbs or [""])
    }
    assert verbs == WORDS.keys() | NO_FOLDER


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("verb", WORDS)
def test_no_verb_runs_code_that_a_folder_names(
    verb: str, kind: str, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if verb == "search":
        warmstart.retrieval.index("minilm", ["a text", "another"], out="index")
    poison(room, kind)
    for words in WORDS[verb]:
        code = main([*verb.split(), *words])
        assert code in (0, 2), capsys.readouterr().err
        assert not (room / "was_run").exists(), words
        assert CODE not in sys.modules


CALLS: dict[str, Callable[[], Any]] = {
    "tune": lambda: warmstart.tune(resume="whole"),
    "plan": lambda: warmstart.plan(resume="lora"),
    "tune by the recipe of a run": lambda: warmstart.tune(
        "m.csv", recipe=warmstart.Run("whole").recipe, out="o"
    ),
    "tune by a recipe file": lambda: warmstart.tune("m.csv", recipe="whole/recipe.toml", out="o"),
    "evaluate": lambda: warmstart.evaluate("whole", "m.csv"),
    "predict": lambda: warmstart.predict("lora", ["text"]),
    "generate": lambda: warmstart.generate("whole", ["text"]),
    "chat": lambda: warmstart.chat("lora"),
    "prefer": lambda: warmstart.prefer("whole", "lora", "a", lambda pair: "1", annotator="a"),
    "inspect": lambda: warmstart.inspect("m.csv", base="whole/model"),
    "Run": lambda: warmstart.Run("whole").predict(["text"]),
    "Run.recipe": lambda: warmstart.Run("lora").recipe,
    "Recipe": lambda: warmstart.Recipe.from_toml(Path("lora/recipe.toml").read_text()),
    "adapters.Adapters": lambda: warmstart.adapters.Adapters("base").load("a", "lora"),
    "adapters.listing": lambda: warmstart.adapters.listing("lora"),
    "adapters.merge": lambda: warmstart.adapters.merge("lora", out="o"),
    "adapters.add": lambda: warmstart.adapters.add(["lora", "lora"], out="o"),
    "adapters.average": lambda: warmstart.adapters.average(["lora", "lora"], out="o"),
    "retrieval.index": lambda: warmstart.retrieval.index("whole", ["text"], out="o"),
    "retrieval.embed": lambda: warmstart.retrieval.embed("lora", ["text"]),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(name, kind, marks=[] if (number + other) % 2 else pytest.mark.slow)
     for number, name in enumerate(CALLS) for other, kind in enumerate(TASKS)],
)  # fmt: skip
def test_no_function_runs_code_that_a_folder_names(name: str, kind: str, room: Path) -> None:
    poison(room, kind)
    with contextlib.suppress(WarmstartError):
        CALLS[name]()
    assert not (room / "was_run").exists()


# Not whole: refused, never completed with random numbers.


def tensors_of(room: Path, change: Callable[[dict[str, Any]], dict[str, Any]], run: str) -> None:
    """Change the weights of a run as somebody would who keeps no sum of them."""
    from safetensors.torch import load_file, save_file

    name = "adapter_model" if run == "lora" else "model"
    path = room / run / "model" / f"{name}.safetensors"
    save_file(change(dict(load_file(path))), path, {"format": "pt"})
    edit(room / run / "model" / NOTE, lambda note: note.pop("weights_sha256"))


def without(part: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def half(tensors: dict[str, Any]) -> dict[str, Any]:
    lora = sorted(name for name in tensors if "lora_" in name)
    return {name: value for name, value in tensors.items() if name not in lora[::2]}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def swap_ids(room: Path) -> None:
    def swap(tokenizer: dict[str, Any]) -> None:
        words = tokenizer["model"]["vocab"]
        names = sorted(words, key=words.get)
        words[names[-1]], words[names[-2]] = words[names[-2]], words[names[-1]]

    edit(room / "whole/model/tokenizer.json", swap)


def config(room: Path, **more: Any) -> None:
    edit(room / "whole/model/config.json", lambda content: content.update(more))


def alpha(room: Path) -> None:
    edit(room / "lora/model/adapter_config.json", lambda content: content.update(lora_alpha=1e38))


def spoil(tensors: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in tensors if "word_embeddings" in name)
    return {**tensors, name: tensors[name] * float("nan")}


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no tokenizer": (
        "whole", lambda room: (room / "whole/model/tokenizer.json").unlink(), "no tokenizer.json"),
    "another tokenizer": ("whole", swap_ids, "is not the tokenizer"),
    "no head": ("whole", lambda r: tensors_of(r, without("classifier"), "whole"), "not whole"),
    "no last layer": ("whole", lambda r: tensors_of(r, without("layer.1."), "whole"), "not whole"),
    "no embeddings": (
        "whole", lambda r: tensors_of(r, without("word_embeddings"), "whole"), "no word embedding"),
    "other names": (
        "whole",
        lambda r: tensors_of(r, lambda t: {f"x.{name}": v for name, v in t.items()}, "whole"),
        "not whole"),
    "fewer layers in the config": (
        "whole", lambda room: config(room, num_hidden_layers=1), "more layers than"),
    "more layers in the config": (
        "whole", lambda room: config(room, num_hidden_layers=4), "not whole"),
    "half of an adapter": ("lora", lambda r: tensors_of(r, half, "lora"), "not whole"),
    "no head of an adapter": (
        "lora", lambda r: tensors_of(r, without("classifier"), "lora"), "not whole"),
    "no numbers": ("whole", lambda r: tensors_of(r, spoil, "whole"), "no numbers"),
    "an endless scale": ("lora", alpha, "lora_alpha"),
    "one bit": (
        "whole", lambda r: flip(r / "whole/model/model.safetensors"), "their sum"),
    "one bit of an adapter": (
        "lora", lambda r: flip(r / "lora/model/adapter_model.safetensors"), "their sum"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_not_whole_never_answers(
    damage: str, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, spoils, message = DAMAGES[damage]
    spoils(room)
    verbs = [["predict", run, "a text"], ["evaluate", run, "m.csv", "--out", "scores"]]
    if run == "lora" and damage != "an endless scale":
        verbs += [["adapters", "merge", run, "--out", "merged"]]
    for words in verbs:
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert message in error, error
        assert error.count("\n") == 1
    assert not (room / "scores").exists() and not (room / "merged").exists()


# More than a model has, or than a folder may hold: refused before a module is built.


def change(path: str, **more: Any) -> Callable[[Path], None]:
    return lambda room: edit(room / path, lambda content: content.update(more))


def link(path: str, target: str) -> Callable[[Path], None]:
    def make(room: Path) -> None:
        (room / path).unlink(missing_ok=True)
        (room / path).symlink_to(target)

    return make


def pipe(path: str) -> Callable[[Path], None]:
    def make(room: Path) -> None:
        (room / path).unlink(missing_ok=True)
        os.mkfifo(room / path)

    return make


def pickled(room: Path) -> None:
    (room / "lora/model/adapter_model.safetensors").rename(room / "lora/model/adapter_model.bin")


CONFIG, ADAPTER = "whole/model/config.json", "lora/model/adapter_config.json"
ASKS_TOO_MUCH: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "layers": ("whole", change(CONFIG, num_hidden_layers=100_000), "num_hidden_layers"),
    "no heads": ("whole", change(CONFIG, num_attention_heads=-1), "num_attention_heads"),
    "labels": ("whole", change(CONFIG, num_labels=10**9), "num_labels"),
    "a kernel": ("whole", change(CONFIG, _attn_implementation="owner/kernel"), "never run"),
    "rank": ("lora", change(ADAPTER, r=1_000_000), "says rank"),
    "a rank of one layer": ("lora", change(ADAPTER, rank_pattern={"query": 10**6}), "says rank"),
    "layers again": ("lora", change(ADAPTER, layer_replication=[[0, 2]] * 9), "repeats layers"),
    "a slow pattern": ("lora", change(ADAPTER, exclude_modules="(a+)+$"), "pattern"),
    "many rounds": (
        "lora", change(ADAPTER, init_lora_weights="pissa_niter_100000"), "rounds"),
    "a kind that reads files": (
        "lora", change(ADAPTER, peft_type="MULTITASK_PROMPT_TUNING"), "of the kind"),
    "pickles": ("lora", pickled, "pickled weights"),
    "a private file": (
        "whole", link("whole/model/chat_template.jinja", "/etc/hostname"), "out of the model"),
    "a device": ("whole", link(CONFIG, "/dev/zero"), "config.json"),
    "a pipe": ("whole", pipe(CONFIG), "config.json"),
    "a pipe beside it": ("whole", pipe("whole/model/generation_config.json"), "plain file"),
    "a task that is none": ("whole", change("whole/model/warmstart.json", task=[1]), "damaged"),
    "settings of no task": (
        "whole",
        change("whole/model/warmstart.json", task={"name": "classification", "x": 1}),
        "damaged"),
    "depth": (
        "whole", lambda r: (r / CONFIG).write_text("[" * 10**5 + "]" * 10**5), "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ASKS_TOO_MUCH)
def test_a_folder_that_asks_too_much_is_refused(
    fault: str, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, spoils, message = ASKS_TOO_MUCH[fault]
    spoils(room)
    verbs = [["predict", run, "a text"]]
    verbs += [["adapters", "merge", run, "--out", "m"]] if run == "lora" else []
    if run == "whole" and not fault.startswith(("a task", "settings")):
        verbs += [["tune", "m.csv", "--base", "whole/model", "--dry-run"]]
    for words in verbs:
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


@pytest.mark.parametrize("names", [None, [], {}, ["BertModel"], ["BertForTokenClassification"]])
def test_a_config_that_names_no_model_with_the_tasks_head(
    names: Any, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config(room, architectures=names)
    assert main(["predict", "whole", "a text"]) == 2
    error = capsys.readouterr().err
    assert "config.json is damaged" in error and "architectures" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("labels", [float("nan"), ["a"], {"one": "a"}, "x"])
def test_labels_that_are_none(labels: Any, room: Path) -> None:
    change("lora/model/model_config.json", id2label=labels)(room)
    (row,) = warmstart.adapters.listing("lora")
    assert "id2label" in row["error"]


def test_a_name_without_end_is_told_cut_short(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(room / "whole/model" / NOTE, lambda note: note["task"].update(name="a" * 100_000))
    for words in (["index", "whole", "m.csv", "--out", "i"], ["predict", "whole", "a text"]):
        assert main(words) == 2
        assert len(capsys.readouterr().err) < 1_000


def test_what_others_named_is_not_saved_again(room: Path) -> None:
    edit(room / "base/config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Model"}))
    edit(room / "base/tokenizer_config.json",
         lambda c: c.update(auto_map={"AutoTokenizer": ["evil.T", None]}))  # fmt: skip
    keys: dict[str, Any] = {"train.epochs": 1, "evaluate.baselines": False}
    run = warmstart.tune("m.csv", base="base", out="new", **keys)
    for file in run.model.glob("*.json"):
        assert "auto_map" not in file.read_text(), file


def test_files_have_the_mode_that_the_user_set(room: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            warmstart.adapters.average(["lora", "lora"], out=f"mean{mode}")
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o777 for path in (room / f"mean{mode}").iterdir()}
        assert modes == {mode}


def test_the_card_names_no_place_of_this_machine(room: Path) -> None:
    keys: dict[str, Any] = {"train.epochs": 1, "evaluate.baselines": False}
    rows = (room / "m.csv").read_text()
    (room / "m.csv").write_text(rows + "".join(rows.splitlines(keepends=True)[1:4]))
    run = warmstart.tune(room / "m.csv", base=str(room / "base"), out="new", **keys)
    card = (run.model / "README.md").read_text()
    assert "m.csv" in str(run.ledger["notes"]), "a note that names the file"
    assert str(room) not in card.replace("\\", "")
    assert 'path = "m.csv"' in card and 'base = "base"' in card


def test_an_adapter_is_one_for_transformers_and_peft(room: Path) -> None:
    """`AutoModel…` and PEFT take the folder as they take one that PEFT wrote, and answer as we."""
    import torch
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = warmstart.tune("m.csv", base="base", method="lora", out="new", **QUICK)
    assert not (run.model / "config.json").exists()
    ours = run.predict(["a good film"])[0].scores
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    for kind in (AutoModelForSequenceClassification, AutoPeftModelForSequenceClassification):
        model: Any = kind.from_pretrained(run.model, num_labels=len(ours)).eval()
        with torch.no_grad():
            logits = model(**tokenizer("a good film", return_tensors="pt")).logits
        assert logits.softmax(-1)[0].tolist() == pytest.approx(list(ours.values()), abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "prompt_tuning"])
def test_a_model_names_no_place_and_is_opened_wherever_it_stands(
    method: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = warmstart.tune("m.csv", base=str(room / "base"), method=method, out="new", **QUICK)
    for file in run.model.iterdir():
        assert str(room).encode() not in file.read_bytes(), file
        assert str(Path.home()).encode() not in file.read_bytes(), file
    first = warmstart.predict(run.model, ["a good film"])[0]
    moved = shutil.move(run.model, room.parent / "elsewhere")
    (room.parent / "empty").mkdir()
    monkeypatch.chdir(room.parent / "empty")
    assert warmstart.predict(moved, ["a good film"])[0].scores == first.scores


def test_a_base_that_comes_with_us_is_named_as_the_hub_does(room: Path) -> None:
    keys = {**QUICK, "train.epochs": None, "train.max_steps": 1, "evaluate.forgetting": False}
    run = warmstart.tune("m.csv", method="lora", out="new", **keys)
    named = json.loads((run.model / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "site-packages" not in (run.model / NOTE).read_text()
    assert run.predict(["a good film"])[0].value


def test_a_folder_that_is_gone_is_not_asked_for_at_a_hub(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = warmstart.tune("m.csv", base=str(room / "base"), method="lora", out="new", **QUICK)
    (room / "base").rename(room / "other")
    assert main(["predict", str(run.path), "a text"]) == 2
    error = capsys.readouterr().err
    assert "the folder 'base', is not to be found" in error and error.count("\n") == 1


def test_a_run_that_another_process_works_in_is_left_alone(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(room / "whole/run.json", lambda facts: facts.update(status="stopped"))
    before = (room / "whole/run.json").read_text()
    with held(Path("whole")):
        during = (room / "whole/run.json").read_text()
        assert main(["tune", "--resume", "whole"]) == 2
        assert "is at work in whole; wait" in capsys.readouterr().err
        assert (room / "whole/run.json").read_text() == during != before


def test_a_text_cannot_steer_the_terminal() -> None:
    class Stream:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

    stream = Stream()
    Terminal(stream).write("a\x1b[2Jb\x1b[1mbold\x1b[0m\x9b5n\x07\tc\n")
    assert stream.text == "a\\u001b[2Jb\x1b[1mbold\x1b[0m\\u009b5n\\u0007\tc\n"


def test_weights_changed_on_purpose_are_taken_once_the_sum_is_gone(room: Path) -> None:
    tensors_of(room, lambda t: {name: value * 0.9 for name, value in t.items()}, "whole")
    assert warmstart.predict("whole", ["a text"])[0].value
