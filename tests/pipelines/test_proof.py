"""What was not saved, or was altered, cannot pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from learning import base_of, fit, messages, predict, prove, store_of
from warmstart.errors import ProofError, WarmstartError
from warmstart.methods.base import Method
from warmstart.methods.full import Full
from warmstart.methods.lora import LoRA
from warmstart.metrics.base import softmax
from warmstart.models import loading as backbone
from warmstart.pipelines.verify import ROWS, choose_rows

Folder = Callable[[str], Path]
TEXTS = messages(20, seed=9)[0]


def saved(folder: Path, out: Path, method: Method) -> tuple[Path, np.ndarray]:
    """A trained model on disk, and its probabilities for `TEXTS`."""
    from learning import classifier

    model = method.attach(classifier(folder), 0)
    run = fit(folder, out / "run", model=model, rows=24, epochs=4, learning_rate=5e-3)
    run.run()
    store, pad = store_of(folder, TEXTS)
    logits = predict(store, run.forward, pad)
    base = base_of(folder)
    method.save(model, backbone.load_tokenizer(base), out / "model", base)
    return out / "model", softmax(logits)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "xlnet"])
@pytest.mark.parametrize("method", [Full(), LoRA()], ids=lambda m: m.part_name())
def test_a_faithful_folder_passes(
    method: Method, family: str, tiny_of: Folder, tmp_path: Path
) -> None:
    folder, expected = saved(tiny_of(family), tmp_path, method)
    figures = prove(folder, TEXTS, expected, 60)
    assert figures["passed"] and figures["same_label"] == figures["rows"] == 20
    assert figures["max_probability_difference"] < 1e-5
    assert json.loads(json.dumps(figures)) == figures
    assert ("PeftModel" in figures["loaded_with"]) == (method.part_name() == "lora")


def change(folder: Path, harm: Callable[[dict[str, Any]], None]) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    harm(tensors)
    save_file(tensors, path, {"format": "pt"})


def without_head(tensors: dict[str, Any]) -> None:
    gone = [name for name in tensors if name.split(".")[-2] in ("classifier", "score")]
    assert gone
    for name in gone:
        del tensors[name]


def with_another_head(tensors: dict[str, Any]) -> None:
    for name, values in list(tensors.items()):
        if name.split(".")[-2] in ("classifier", "score") and name.endswith("weight"):
            tensors[name] = values.flip(0).contiguous()


def with_a_nudged_body(tensors: dict[str, Any]) -> None:
    name = next(n for n in sorted(tensors) if "layer.1" in n and tensors[n].ndim == 2)
    tensors[name] = tensors[name] * 1.5


@pytest.mark.parametrize("harm", [without_head, with_another_head, with_a_nudged_body])
@pytest.mark.parametrize("method", [Full(), LoRA()], ids=lambda m: m.part_name())
def test_a_harmed_folder_fails(
    method: Method, harm: Callable[[dict[str, Any]], None], tiny_of: Folder, tmp_path: Path
) -> None:
    folder, expected = saved(tiny_of("bert"), tmp_path, method)
    change(folder, harm)
    with pytest.raises(ProofError, match="does not answer as the trained one|cannot be loaded"):
        prove(folder, TEXTS, expected, 60)


def test_swapped_labels_fail(tiny_of: Folder, tmp_path: Path) -> None:
    folder, expected = saved(tiny_of("bert"), tmp_path, Full())
    with pytest.raises(ProofError):
        prove(folder, TEXTS, expected[:, ::-1], 60)


def test_another_tokenizer_fails(tiny_of: Folder, tmp_path: Path) -> None:
    folder, expected = saved(tiny_of("bert"), tmp_path, Full())
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    names = [word for word in words if not word.startswith("<")]
    words |= dict(zip(names, [words[name] for name in reversed(names)], strict=True))
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ProofError):
        prove(folder, TEXTS, expected, 60)


def test_numbers_that_are_none_fail(tiny_of: Folder, tmp_path: Path) -> None:
    folder, expected = saved(tiny_of("bert"), tmp_path, Full())
    expected[3, 1] = np.nan
    with pytest.raises(ProofError):
        prove(folder, TEXTS, expected, 60)


def test_a_run_whose_model_was_not_saved_well_stops(
    tiny_of: Folder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole verb: no report, no `done`, one clear error."""
    import warmstart
    from warmstart.run import Run

    real = Full.save

    def forgetful(self: Full, model: Any, tokenizer: Any, folder: Path, *more: Any) -> None:
        real(self, model, tokenizer, folder, *more)
        change(folder, without_head)

    monkeypatch.setattr(Full, "save", forgetful)
    with pytest.raises(WarmstartError, match="does not answer as the trained one"):
        warmstart.tune(
            data, base=str(tiny_of("bert")), out=str(tmp_path / "run"),
            **{"train.epochs": 2, "train.learning_rate": 5e-3, "evaluate.baselines": False},
        )  # fmt: skip
    assert Run(tmp_path / "run").status == "stopped"
    assert not (tmp_path / "run" / "report.html").exists()


def test_rows_that_are_compared() -> None:
    """The longest and the shortest text are among them."""
    texts = [f"text {'x' * (i % 90)}" for i in range(500)]
    rows = choose_rows(texts, 0)
    assert len(rows) == len(set(rows.tolist())) == ROWS
    sizes = [len(texts[i]) for i in rows]
    assert min(sizes) == 5 and max(sizes) == 94
    assert choose_rows(["one"], 0).tolist() == [0]
    assert choose_rows(["same", "same"], 0).tolist() == [0, 1]
