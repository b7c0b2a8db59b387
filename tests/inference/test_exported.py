"""Engines that compute an exported graph answer as torch does, alone and beside others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import warmstart
from tiny import classifier
from warmstart import part
from warmstart.errors import BaseModelError, RecipeError
from warmstart.inference import exported
from warmstart.inference.predictor import open_predictor
from warmstart.pipelines.measuring.engines import CANDIDATES, _fastest
from warmstart.pipelines.measuring.trials import Measured

TEXTS = ["good film", "", "the bad book was not very great , but i liked it !", "never again"]
BOTH = ["onnx", "openvino"]


def probabilities(folder: Path, name: str, **settings: Any) -> np.ndarray:
    """What an engine makes of the texts, together and one by one."""
    predictor = open_predictor(folder, part.make("engine", name, settings))
    table = predictor.table(TEXTS)
    whole = predictor.outputs(table)[0]
    single = [predictor.outputs(table.slice(row, 1))[0] for row in range(len(TEXTS))]
    return np.stack([whole, np.concatenate(single)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier whose forms are made once."""
    return classifier("bert", tmp_path_factory.mktemp("exported") / "model")


@pytest.mark.parametrize("name", BOTH)
def test_it_answers_as_torch_does_and_a_row_answers_alone_as_beside_others(
    saved: Path, name: str
) -> None:
    ours, wanted = probabilities(saved, name), probabilities(saved, "torch")
    assert np.abs(ours - wanted).max() < 1e-5
    assert np.abs(ours[0] - ours[1]).max() < 1e-5


@pytest.mark.parametrize("name", BOTH)
def test_a_form_is_made_once_for_the_same_weights(
    saved: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_predictor(saved, part.make("engine", name))
    monkeypatch.setattr(exported, "export", lambda *_: pytest.fail("exported again"))
    open_predictor(saved, part.make("engine", name))


def test_other_weights_or_a_changed_form_are_not_answered_from(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    open_predictor(saved, part.make("engine", "onnx"))
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    graph = folder / "engines" / "onnx" / "fp32" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BaseModelError, match="is not the file that was built"):
        open_predictor(folder, part.make("engine", "onnx"))
    weights = load_file(folder / "model.safetensors")
    save_file({k: v * 1.5 for k, v in weights.items()}, folder / "model.safetensors")
    monkeypatch.setattr(exported, "export", lambda *_: (_ for _ in ()).throw(KeyError("again")))
    with pytest.raises(BaseModelError, match="again"):
        open_predictor(folder, part.make("engine", "onnx"))
    assert not list(graph.parents[1].glob(".*")), "nothing half-made is left"


def test_graph_with_weights_outside_its_folder_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(np.ones(4, np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    output = helper.make_tensor_value_info("outputs", TensorProto.FLOAT, [4])
    node = helper.make_node("Identity", ["w"], ["outputs"])
    graph = helper.make_graph([node], "g", [], [output], [tensor])
    form = tmp_path / "form"
    form.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (form / "model.onnx").write_bytes(model.SerializeToString())
    assert onnx.load(form / "model.onnx", load_external_data=False).graph.initializer
    with pytest.raises(Exception, match=r"(?i)extern|escape|outside|path"):
        part.make("engine", "onnx").start(form, 1)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", BOTH)
def test_what_writes_texts_is_refused_by_name(name: str, tmp_path: Path) -> None:
    engine: Any = part.make("engine", name)
    task: Any = part.make("task", "summarization")
    with pytest.raises(RecipeError, match=f"engine {name} computes labels.*take engine torch"):
        engine.build(tmp_path, tmp_path / "out", task, 0)


def test_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(RecipeError, match=r"needs onnxruntime.*pip install 'warmstart\[onnx\]'"):
        part.make("engine", "onnx").require(("onnxruntime",))  # pyright: ignore[reportAttributeAccessIssue]


def test_full_int8_says_that_it_has_to_be_calibrated(saved: Path) -> None:
    engine = part.make("engine", "openvino", {"precision": "int8_full"})
    with pytest.raises(RecipeError, match="warmstart build RUN --engine openvino"):
        open_predictor(saved, engine)


def test_auto_needs_a_choice_and_then_keeps_to_it(saved: Path) -> None:
    from warmstart.inference.auto import choose

    with pytest.raises(RecipeError, match="warmstart build RUN --engine auto"):
        open_predictor(saved, part.make("engine", "auto"))
    choose(saved, saved / "engines" / "auto", "onnx", {}, "tried")
    ours = open_predictor(saved, part.make("engine", "auto"))
    assert type(ours.runner).__name__ == "OnnxRunner"
    choose(saved, saved / "engines" / "auto", "os.system", {}, "hostile")
    with pytest.raises(RecipeError, match="no engine has been chosen"):
        open_predictor(saved, part.make("engine", "auto"))


def test_fastest_is_taken_of_those_that_are_certainly_not_worse() -> None:
    def row(name: str, speed: float, **values: Any) -> Measured:
        kept = {"same": 1.0, "gap": 0.0, "difference": {"worst": -0.02}} | values
        return Measured(name, "fp32", score=0.9, rows_per_second=speed, **kept)

    torch, exact = row("torch", 100), row("onnx", 150)
    unsure = row("openvino", 400, gap=0.02, same=0.99)
    sure = row("openvino", 300, gap=0.02, same=0.99, difference={"worst": -0.004})
    failed = Measured("openvino", "bf16", failure="crashed")
    assert _fastest([torch, exact, unsure, failed]) is exact
    assert _fastest([torch, exact, unsure, sure, failed]) is sure
    assert not any(name == "onnx" and values for name, values in CANDIDATES)


@pytest.mark.slow
def test_build_measures_and_int8_weights_take_a_quarter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.csv"
    rows = [f"{'good' if i % 2 else 'bad'} film {'one two three'.split()[i % 3]},{i % 2}"
            for i in range(120)]  # fmt: skip
    data.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run = warmstart.tune(data, method="frozen", out=tmp_path / "run", **{"evaluate.bootstrap": 100})
    made = warmstart.build(run, engine="openvino", **{"engine.precision": "int8"})
    full, small = made["engines"]
    assert small["same"] == 1.0 and small["size_mb"] < 0.3 * full["size_mb"]
    made = warmstart.build(run, engine="auto")
    assert made["chosen"]["engine"] in ("torch", "onnx", "openvino")
    assert json.loads((run.model / "engines" / "auto" / "choice.json").read_text())["reason"]
    plain = warmstart.predict(run, ["good film", "bad film"])
    quick = warmstart.predict(run, ["good film", "bad film"], engine="auto")
    assert isinstance(plain, list) and isinstance(quick, list)
    assert [row.value for row in plain] == [row.value for row in quick]


FAMILIES = ["roberta", "distilbert", "electra", "albert", "modernbert", "gpt2", "llama"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, name: str, tmp_path: Path) -> None:
    """But for a text without a token, of which a decoder says nothing."""
    folder = classifier(family, tmp_path / "model")
    rows = np.array([bool(text) for text in TEXTS])
    ours, wanted = probabilities(folder, name)[:, rows], probabilities(folder, "torch")[:, rows]
    assert np.abs(ours - wanted).max() < 1e-4
    assert np.abs(ours[0] - ours[1]).max() < 1e-4
