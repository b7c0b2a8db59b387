"""Every engine on every task and family: it gives torch's answers within what it states, alone and
beside others, or is refused by name.

The models are those of `test_task_family.py` before they learn, with large weights. Engines that
compute one exported graph share the export, which takes long: whenever tests are run it is tried
with the two heads that `test_exported.py` has not, and what is written on two families a task.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conformance.test_task_family import CELLS, Case, builder
from conformance.test_task_family import quick as chosen
from warmstart import part
from warmstart.errors import BaseModelError, RecipeError
from warmstart.inference import exported
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.models.checks import note_of
from warmstart.models.generation import GenerationOutput

for library in ("onnxruntime", "openvino", "openvino_genai", "ctranslate2"):
    pytest.importorskip(library, reason="pip install 'warmstart[dev]'")

READING, WRITING = ("onnx", "openvino"), ("openvino_genai", "ctranslate2")
SETTINGS: dict[str, dict[str, Any]] = {"openvino_genai": {"cache_gb": 0.001}}
NOT_EXPORTED = {"xlnet", "t5", "bart"}
"""Torch cannot export their classes: they look for values in the ids while they compute."""
EXPORTED = {("tagging", "distilbert"), ("embedding", "distilbert")}


def writes(name: str) -> bool:
    """Whether a task asks for texts."""
    return "t5" in builder(name).FAMILIES


def quick(name: str, family: str) -> bool:
    """Whether a cell is tried whenever tests are run."""
    return chosen(name, family) if writes(name) else (name, family) in EXPORTED


MARKED = [pytest.param(*cell, marks=[] if quick(*cell) else pytest.mark.slow) for cell in CELLS]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _exported_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two engines of one model share its graph."""
    export, made = exported.export, dict[Path, Any]()

    def once(folder: Path, task: Any, pad_id: int, graph: Path) -> Any:
        if folder not in made:
            made[folder] = export(folder, task, pad_id, tmp_path / "graph.onnx")
        shutil.copy(tmp_path / "graph.onnx", graph)
        return made[folder]

    monkeypatch.setattr(exported, "export", once)


def saved(name: str, family: str, folder: Path, out: Path) -> tuple[Case, Path]:
    """A run's model, whose weights are large: no two answers are alike."""
    case = Case(name, family, folder)
    session = case.begun()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in session.model.parameters():
            if weights.ndim == 2:
                weights.mul_(3.0)
                weights.add_(0.02 * torch.randn(weights.shape, generator=generator))
    session.save(out)
    return case, out


def answers(predictor: Predictor, case: Case) -> tuple[list[np.ndarray], list[Any]]:
    """What a model gives for all rows, for each alone, and the answers that come of it."""
    table = case.table(case.made.ROWS, targets=False)
    outputs, examples = predictor.outputs(table)
    alone = [predictor.outputs(table.slice(row, 1))[0] for row in range(len(table))]
    values = [row.value for row in predictor.task.decode(outputs, examples)]
    if isinstance(outputs, GenerationOutput):
        whole = [np.array([*map(float, ids or []), sure]) for ids, sure in
                 zip(outputs.ids, outputs.confidence, strict=True)]  # fmt: skip
        single = [np.array([*map(float, one.ids[0] or []), one.confidence[0]]) for one in alone]
        assert [len(row) for row in whole] == [len(row) for row in single]
        return [np.concatenate(whole), np.concatenate(single)], values
    head = predictor.task.head
    single = np.concatenate(alone)
    return [head.probabilities(outputs), head.probabilities(single)], values


def refused(engine: str, name: str, family: str, folder: Path) -> str:
    """The reason for which an engine has to refuse a cell, as its message has it; or nothing."""
    task = note_of(folder)["task"]["name"]  # what was trained few_shot is asked as a classifier
    if engine in READING:
        if writes(name):
            return f"engine {engine} computes labels.*and task {task} asks for whole texts"
        return "torch cannot export this" if family in NOT_EXPORTED else ""
    if not writes(name):
        return f"engine {engine} writes texts, and task {task} asks for something else"
    decodes = family in ("gpt2", "llama")
    return "" if decodes or engine == "ctranslate2" else f"writes with decoders, and '{family}' is"


def compare(engine_name: str, folder: Path, case: Case, wanted: Any) -> None:
    """Hold an engine's answers against torch's."""
    engine: Any = part.make("engine", engine_name, SETTINGS.get(engine_name, {}))
    (whole, _), values = wanted
    (ours, alone), own = answers(open_predictor(folder, engine), case)
    assert ours.shape == whole.shape, engine_name
    assert np.abs(ours - whole).max() <= 1e-4, f"{engine_name}: other than torch"
    assert np.abs(ours - alone).max() <= engine.batch_tolerance, f"{engine_name}: alone"
    if isinstance(values[0], str):
        assert values == own, engine_name


@pytest.mark.usefixtures("_exported_once")
@pytest.mark.parametrize(("name", "family"), MARKED)
def test_every_engine_answers_as_torch_does_or_is_refused(
    name: str, family: str, tiny_of: Callable[[str], Path], tmp_path: Path
) -> None:
    case, folder = saved(name, family, tiny_of(family), tmp_path / "model")
    wanted = answers(open_predictor(folder), case)
    assert np.abs(wanted[0][0] - wanted[0][1]).max() <= 1e-5, "torch: alone and beside others"
    for engine in (*READING, *WRITING):
        if reason := refused(engine, name, family, folder):
            with pytest.raises((RecipeError, BaseModelError), match=reason):
                open_predictor(folder, part.make("engine", engine))
        elif engine != "openvino_genai":  # whose form takes long to make
            compare(engine, folder, case, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), [cell for cell in CELLS if writes(cell[0])
                                              and cell[1] in ("gpt2", "llama")])  # fmt: skip
def test_openvino_genai_answers_as_torch_does(
    name: str, family: str, tiny_of: Callable[[str], Path], tmp_path: Path
) -> None:
    case, folder = saved(name, family, tiny_of(family), tmp_path / "model")
    compare("openvino_genai", folder, case, answers(open_predictor(folder), case))
