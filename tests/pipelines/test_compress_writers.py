"""`compress` of models that write: each product beside its source by what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warmstart
from tiny import tiny
from warmstart import api
from warmstart.errors import RecipeError

pytestmark = pytest.mark.usefixtures("tried_here")

QUICK = {"evaluate.bootstrap": 100, "evaluate.baselines": False}
ALL = {**QUICK, "train.epochs": 1, "compress.allowed_loss": 100}
"""Whatever is lost is allowed."""
KINDS, NOUNS, COLOURS = "good bad fine".split(), "film book song food".split(), "red blue".split()


def sentences(folder: Path, task: str = "text2text") -> Path:
    """A file of sentences, and what is to be written for each: its colour and its noun."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(f"the {extra}{kind} {noun} is {colour}", f"{colour} {noun}") for kind in KINDS
             for noun in NOUNS for colour in COLOURS for extra in ("", "very ")]  # fmt: skip
    order = np.random.default_rng(0).permutation(len(pairs))
    if task == "chat":
        path = folder / "rows.jsonl"
        rows = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}]
                for a, b in (pairs[n] for n in order)]  # fmt: skip
        path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
        return path
    path = folder / "rows.csv"
    path.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in (pairs[n] for n in order)))
    return path


def tuned(folder: Path, base: Path, epochs: int, task: str = "text2text") -> Any:
    data = sentences(folder, task)
    return warmstart.tune(
        data, out=folder / "run", task=task, base=str(base), **QUICK,
        **{"train.epochs": epochs, "train.learning_rate": 5e-3, "data.near_copies": "keep",
           "task.max_new_tokens": 6},
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny T5 that knows a little."""
    folder = tmp_path_factory.mktemp("writers")
    return tuned(folder, tiny("t5", folder / "t5"), 8)


@pytest.fixture(scope="module")
def made(source: Any) -> Any:
    return warmstart.compress(source, method="distill,prune,vocabulary", **ALL,
                              **{"train.learning_rate": 5e-3})  # fmt: skip


def test_products_write_beside_their_source(source: Any, made: Any) -> None:
    assert [*made.runs] == ["distill", "prune", "vocabulary"] and not made.lost
    summary, page = made.summary, made.report.read_text(encoding="utf-8")
    assert summary["main"] == "exact_match" and "Exact match" in page and "Tokens/s" in page
    assert source.metrics["exact_match"]["value"] > 0.2, "the source knows something"
    for row in summary["products"]:
        assert row["tokens_per_second"] > 0 and row["difference"]["unit"] == "points"
        assert row["parameters"] < summary["source"]["parameters"]
        run = made.runs[row["name"]]
        assert run.status == "done" and run.proof["passed"]
        assert isinstance(run.predict(["the good film is red"])[0].value, str)
    distill, prune, vocabulary = (
        json.loads((run.model / "config.json").read_text()) for run in made.runs.values()
    )
    assert (distill["num_layers"], distill["num_decoder_layers"]) == (2, 1), "its encoder stays"
    assert prune["d_ff"] == 32 and vocabulary["vocab_size"] < distill["vocab_size"]
    log = (made.runs["distill"].path / "log.jsonl").read_text().splitlines()
    step = json.loads(log[0])
    total = step["soft_loss"] + 0.5 * step["hard_loss"] + step["hidden_loss"]
    assert step["loss"] == pytest.approx(total, rel=1e-3)


def test_a_trimmed_model_writes_the_very_same_texts(source: Any, made: Any) -> None:
    row = made.summary["products"][2]
    assert row["same"] == 1.0 and row["outcome"] == "not worse"
    assert row["sentence"].startswith("vocabulary gives the same answers")
    texts = [f"the {kind} {noun} is {colour}" for kind in KINDS for noun in NOUNS
             for colour in COLOURS]  # fmt: skip
    before, after = (run.predict(texts) for run in (source, made.runs["vocabulary"]))
    assert [answer.value for answer in before] == [answer.value for answer in after]
    settings = json.loads((made.runs["vocabulary"].model / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == 6, "a number that is no token"


@pytest.mark.parametrize(
    ("method", "keys", "message"),
    [
        ("prune", {"compress.heads": 0.5}, "heads cannot be taken out of a 't5'"),
        ("prune", {"compress.layers": "2-2"}, "compress.layers = 2-2: the model has 2-2 layers"),
        ("distill", {"compress.layers": "3"}, "has 2-2 layers.*give 1 or fewer"),
        ("distill", {"compress.layers": "few"}, "is no number of layers.*as in 12-6"),
        ("distill", {"compress.layers": "1-2"}, "encoder has fewer layers"),
        ("quantize", {"compress.precision": "int8_full"}, "for task text2text take int8"),
        ("quantize", {"compress.engine": "openvino_genai"}, "writes with decoders, and 't5' is"),
        ("quantize", {"compress.engine": "openvino"}, "openvino.*text2text"),
        ("vocabulary", {"compress.recovery": True}, "its tokens would be others; leave it out"),
        ("distill", {"compress.teacher": "openai:x"}, "name a file of texts without labels"),
        ("distill", {"engine.price_input": 1}, "--compress.teacher openai:MODEL"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    method: str, keys: Any, message: str, source: Any, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        warmstart.compress(source, method=method, out=tmp_path / "out", **keys)
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)


def test_layers_of_both_stacks_or_of_the_decoder(source: Any) -> None:
    planned = api.plan_compression(
        source, method="prune", **{"compress.layers": "1-1,1", "compress.recovery": "false"}
    )
    notes = [row["notes"][0] for row in planned["products"]]
    assert notes == [
        "layers 1 of 2 of the encoder and layers 1 of 2 of the decoder are left",
        "all 2 layers of the encoder and layers 1 of 2 of the decoder are left",
    ]


def test_answers_become_what_is_learned() -> None:
    import pyarrow as pa

    from warmstart.data.conversations import read, write
    from warmstart.tasks.chat import Chat
    from warmstart.tasks.text2text import Text2Text
    from warmstart.types import Prediction

    answers = [Prediction("0", "red", 0.9), Prediction("1", " ", 0.0)]
    table = Text2Text().answered(pa.table({"source": ["a", "b"]}), answers)
    assert table.to_pylist() == [{"source": "a", "target": "red"}]
    said = [{"role": "user", "content": "hello"}]
    ended = [*said, {"role": "assistant", "content": "no"}]
    rows = pa.table({"messages": [write(ended), write(said)], "tools": ["", ""],
                     "source": ["", ""], "target": ["", ""]})  # fmt: skip
    (row,) = Chat().answered(rows, answers).to_pylist()
    assert read(row["messages"]) == [*said, {"role": "assistant", "content": "red"}]
    assert row["target"] == "red" and "hello" in row["source"]


@pytest.mark.slow
def test_prompts_without_answers_are_learned_by_the_word_of_the_teacher(
    source: Any, tmp_path: Path
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("the great film is red\nthe poor song is blue\n", encoding="utf-8")
    made = warmstart.compress(source, method="distill", out=tmp_path / "out", **ALL,
                              **{"compress.texts": str(more)})  # fmt: skip
    notes = made.summary["products"][0]["notes"]
    assert notes[1] == f"learns from 2 more texts of {more}, by the teacher's word"
    assert made.runs["distill"].facts["speed"]["rows"] == source.facts["rows"]["train"] + 2


@pytest.mark.slow
def test_a_teacher_with_another_tokenizer_is_refused(source: Any, tmp_path: Path) -> None:
    base = tiny("t5", tmp_path / "other", vocab_words="the a good bad film is red blue".split())
    other = tuned(tmp_path, base, 1)
    keys = {**ALL, "compress.teacher": str(other.path), "out": tmp_path / "out"}
    with pytest.raises(RecipeError, match="give one with the same tokenizer"):
        warmstart.compress(source, method="distill", **keys)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "task"), [("gpt2", "text2text"), ("llama", "text2text"), ("bart", "summarization")]
)
def test_decoders_and_others_are_compressed(
    family: str, task: str, tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    run = tuned(tmp_path, tiny_of(family), 8, task)
    made = warmstart.compress(run, method="distill,prune,vocabulary", **ALL)
    assert [*made.runs] == ["distill", "prune", "vocabulary"] and not made.lost
    assert made.summary["products"][2]["same"] == 1.0


@pytest.mark.slow
def test_an_adapter_is_merged_and_written_by_an_engine(
    tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    pytest.importorskip("ctranslate2")
    data = sentences(tmp_path)
    run = warmstart.tune(data, out=tmp_path / "run", task="text2text", base=str(tiny_of("llama")),
                         method="lora", **QUICK, **{"train.epochs": 1})  # fmt: skip
    keys = {**ALL, "compress.engine": "ctranslate2", "compress.layers": 1}
    made = warmstart.compress(run, method="prune,quantize", **keys)
    assert not made.lost and not any(row["failure"] for row in made.summary["products"])
    text = (made.runs["prune"].model / "generation_config.json").read_text(encoding="utf-8")
    assert "trust_remote_code" not in text


@pytest.mark.slow
def test_a_model_that_talks_is_compressed(tmp_path: Path) -> None:
    from chats import talker

    run = tuned(tmp_path, talker(tmp_path / "talker"), 2, "chat")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "the fine film is red"}\n' * 2 + '{"prompt": "hello"}\n')
    keys = {**ALL, "compress.texts": str(prompts)}
    made = warmstart.compress(run, method="distill,prune", **keys)
    assert [*made.runs] == ["distill", "prune"] and not made.lost
    row = made.summary["products"][0]
    assert row["difference"]["unit"] == "%" and row["difference"]["span"] > 0
    assert "more text" in row["notes"][1]
    assert "Change in %" in made.report.read_text(encoding="utf-8")
    small = warmstart.compress(run, method="vocabulary", out=tmp_path / "small", **ALL)
    row = small.summary["products"][0]
    assert row["same"] == 1.0 and "counted over the tokens" in row["notes"][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "engine", "precision"),
    [("t5", "ctranslate2", "int8"), ("llama", "openvino_genai", "int8"),
     ("llama", "ctranslate2", "int8"), ("t5", "torch", "bf16")],
)  # fmt: skip
def test_forms_of_fewer_bits_write(
    family: str, engine: str, precision: str, tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    run = tuned(tmp_path, tiny_of(family), 8)
    keys = {"compress.engine": engine} if (family, engine) == ("llama", "ctranslate2") else {}
    made = warmstart.compress(run, method="quantize", **ALL, **keys,
                              **{"compress.precision": precision})  # fmt: skip
    row = made.summary["products"][0]
    assert (row["engine"], row["precision"]) == (engine, precision) and not row["failure"]
    assert row["same"] > 0.6 and row["tokens_per_second"] > 0
    if engine == "ctranslate2":  # the graph of the other is larger than so few weights
        assert row["size_mb"] < 0.6 * made.summary["source"]["size_mb"]
