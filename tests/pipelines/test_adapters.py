"""`warmstart adapters`: from the command line and from Python, and many adapters in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import LABELS, base_of
from tiny import tiny
from warmstart import part as parts
from warmstart.cli.main import main
from warmstart.errors import BaseModelError, RecipeError, RunError, UnknownNameError
from warmstart.inference.predictor import open_predictor
from warmstart.models import loading as backbone
from warmstart.models.heads import HEADS
from warmstart.pipelines import adapters
from warmstart.pipelines.adapters import Adapters
from warmstart.types import Prediction

Folder = Callable[[str], Path]
TEXTS = [
    "the film was good",
    "awful , awful book",
    "never again ! the order was late and cold",
    "red",
]
NOTES = {"head": "classes", "task": {"name": "classification", "max_length": 60}}


def made(base: Path, out: Path, method: str = "lora", seed: int = 1, **more: Any) -> Path:
    """The run of an adapter as training leaves it."""
    labels: Any = more.pop("labels", LABELS)
    head: Any = more.pop("head", "classes")
    chosen: Any = parts.make("method", method, more)
    plain = backbone.load_headed(base_of(base), HEADS[head], labels, 0)
    model = chosen.attach(plain, 0)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.2 * torch.randn(p.shape, generator=rng)
    notes = {**NOTES, "head": head} if head == "classes" else {"head": head}
    tokenizer = backbone.load_tokenizer(base_of(base))
    chosen.save(model, tokenizer, out / "model", base_of(base), notes=notes)
    return out


@pytest.fixture(scope="module")
def runs(tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two LoRAs `a` and `b` of one shape, and one of bottlenecks."""
    folder = tmp_path_factory.mktemp("runs")
    made(tiny_of("bert"), folder / "a", seed=1, rank=4)
    made(tiny_of("bert"), folder / "b", seed=2, rank=4)
    made(tiny_of("bert"), folder / "bottle", "adapter", size=4)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert main(["adapters", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def alone(folder: Path) -> list[Prediction]:
    return open_predictor(folder).predict(TEXTS)


def close(ours: list[Prediction], theirs: list[Prediction]) -> None:
    assert [one.value for one in ours] == [one.value for one in theirs]
    found = [(a.confidence, b.confidence) for a, b in zip(ours, theirs, strict=True)]
    assert found == [(pytest.approx(b, abs=1e-5), b) for _, b in found]


def test_listed(runs: Path, tiny_of: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, "list", runs, tiny_of("bert"))
    assert [Path(row["folder"]).name for row in rows] == ["a", "b", "bottle", "bert"]
    first = rows[0]
    assert (first["method"], first["rank"], first["base_state"]) == ("lora", 4, "present")
    assert first["base"] == tiny_of("bert").name and first["labels"] == list(LABELS)
    weights = runs / "a" / "model" / "adapter_model.safetensors"
    assert first["bytes"] == weights.stat().st_size
    assert 0 < first["bytes"] - 4 * first["parameters"] < 20_000
    assert [row["method"] for row in rows[2:]] == ["adapter", "whole model"]

    assert main(["adapters", "list", str(runs)]) == 0
    assert "bottle" in capsys.readouterr().out


def test_what_cannot_be_read_is_told_beside_the_rest(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "a", tmp_path / "a")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{}")
    rows = told(capsys, "list", tmp_path)
    assert "error" not in rows[0] and "has no adapter_model" in rows[1]["error"]


def test_merged(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged = tmp_path / "merged"
    found = told(capsys, "merge", runs / "a", "--out", merged)
    assert found["out"] == str(merged) and found["proof"]["max_difference"] < 1e-4
    close(alone(merged), alone(runs / "a"))
    assert main(["adapters", "merge", str(runs / "a"), "--out", str(tmp_path / "m2")]) == 0
    assert "loaded afresh it answers as base and adapter did" in capsys.readouterr().out


def test_added_and_averaged(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = runs / "a", runs / "b"
    found = told(capsys, "add", one, other, "--weights", "1,0", "--out", tmp_path / "first")
    assert found["rank"] == 8 and found["weights"] == [1.0, 0.0]
    close(alone(tmp_path / "first"), alone(one))
    found = told(capsys, "average", one, one, one, "--out", tmp_path / "mean")
    close(alone(tmp_path / "mean"), alone(one))
    assert main(["adapters", "average", str(one), str(other), "--out", str(tmp_path / "m")]) == 0
    said = capsys.readouterr()
    assert "off the mean" in said.out and "the heads differ by" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["merge", "{a}"], "needs --out FOLDER"),
        (["merge", "--out", "x"], "needs ADAPTER"),
        (["add", "--out", "x"], "needs ADAPTER..."),
        (["merge", "{a}", "--out", "{a}"], "exists already"),
        (["merge", "{bottle}", "--out", "x"], "cannot be merged"),
        (["merge", "nothing", "--out", "x"], "there is no folder nothing"),
        (["merge", "{a}", "--out", "x", "--rank", "3"], "no option '--rank' of adapters merge"),
        (["add", "{a}", "{b}", "--out", "x", "--weights", "1"], "1 number for 2 adapters"),
        (["add", "{a}", "{b}", "--out", "x", "--weights", "1,y"], "give numbers with commas"),
        (["add", "{a}", "{b}", "--out", "x", "--weights", "nan,1"], "finite numbers"),
        (["add", "{a}", "{b}", "--out", "x", "--combination", "sum"], "cat, linear or svd"),
        (["add", "{a}", "{b}", "--out", "x", "--rank", "3"], "--combination svd alone"),
        (["average", "{a}", "{bottle}", "--out", "x"], "different methods: lora and adapter"),
        (["average", "{a}", "--out", "x"], "at least two"),
        (["list", "."], "no adapters and no models"),
        (["list", "nowhere"], "there is no folder nowhere"),
        (["lst"], "Did you mean 'list'"),
    ],
)
def test_refused(
    words: list[str], said: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {name: str(runs / name) for name in ("a", "b", "bottle")}
    assert main(["adapters", *(word.format(**places) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_many_on_one_base(runs: Path, tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of("bert")
    made(base, tmp_path / "two", "prompt_tuning", tokens=3, labels=["no", "yes"])
    made(base, tmp_path / "norms", "layernorm", labels=["x", "y", "z", "w"])
    folders = {"a": runs / "a", "b": runs / "b", "bottle": runs / "bottle",
               "two": tmp_path / "two", "norms": tmp_path / "norms"}  # fmt: skip
    many = Adapters(base)
    for name, folder in folders.items():
        many.load(name, folder)
    assert many.names == list(folders) and many.active == "a"
    for _ in range(2):
        for name, folder in folders.items():
            close(many.use(name).predict(TEXTS), alone(folder))
    close(many.predict(TEXTS, adapter="two"), alone(tmp_path / "two"))
    assert many.active == "norms" and many.labels("two") == ["no", "yes"]
    assert many.predict(TEXTS[0], adapter="a")[0].value in LABELS

    many.remove("norms")
    assert many.active == "a" and "norms" not in many.names
    close(many.predict(TEXTS), alone(runs / "a"))


def test_the_base_is_in_memory_once(runs: Path, tiny_of: Folder) -> None:
    many = Adapters(tiny_of("bert")).load("a", runs / "a").load("bottle", runs / "bottle")
    one, other = (
        {n.replace(".base_layer", ""): p.data_ptr() for n, p in model.named_parameters()}
        for model in (many.model(name).get_base_model() for name in ("a", "bottle"))
    )
    layers = [n for n in one.keys() & other.keys() if ".layer." in n or "embeddings" in n]
    assert len(layers) > 30
    assert all(one[name] == other[name] for name in layers)
    head = "classifier.modules_to_save.default.weight"
    assert one[head] != other[head]


def test_swapping_refuses(runs: Path, tiny_of: Folder, tmp_path: Path) -> None:
    many = Adapters(tiny_of("bert"))
    with pytest.raises(RunError, match="no adapter is loaded"):
        many.predict(TEXTS)
    many.load("a", runs / "a")
    with pytest.raises(RecipeError, match="already"):
        many.load("a", runs / "b")
    with pytest.raises(UnknownNameError, match="Did you mean 'a'"):
        many.use("aa")
    other = tiny("bert", tmp_path / "base", seed=9)
    with pytest.raises(BaseModelError, match="was trained on the base"):
        Adapters(other).load("a", runs / "a")
    made(tiny_of("bert"), tmp_path / "rounded", base_bits=8)
    with pytest.raises(RunError, match="rounded to 8 bits"):
        many.load("rounded", tmp_path / "rounded")
    assert many.names == ["a"]


def test_an_adapter_of_peft_in_memory(tiny_of: Folder, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from warmstart.models.hf_calls import quiet

    base = tiny_of("roberta")
    with quiet():
        plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4)
        config = LoraConfig(r=2, task_type="SEQ_CLS", init_lora_weights=False)
        model = get_peft_model(plain, config).eval()
        model.save_pretrained(str(tmp_path / "a"))
    many = Adapters(base).load("theirs", tmp_path / "a")
    assert many.labels() == [f"LABEL_{i}" for i in range(4)]
    tokenizer: Any = backbone.load_tokenizer(base_of(base))
    for text, answer in zip(TEXTS, many.predict(TEXTS), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            shares = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.softmax(-1)[0]
        assert answer.value == f"LABEL_{int(shares.argmax())}"
        assert answer.confidence == pytest.approx(float(shares.max()), abs=1e-5)


def test_one_name_in_the_package() -> None:
    import warmstart

    assert warmstart.adapters.merge is adapters.merge
    assert warmstart.adapters.Adapters is Adapters
