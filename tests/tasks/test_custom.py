"""A head of one's own over a pretrained body: trained, saved, proven, and never run unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import warmstart
from learning import LABELS, write_messages
from preloaded import ENVIRONMENT
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError


class Wrong(nn.Module):
    """One output too many."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, labels + 1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return self.out(hidden[:, 0])


def keys_of(base: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "base": str(base), "task": "custom", "out": str(out),
        "task.module": "own_heads.Attending",
        "train.epochs": 2, "evaluate.bootstrap": 100, "train.learning_rate": 3e-3, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "full"), ("distilbert", "lora"), ("gpt2", "full"), ("xlnet", "frozen")],
)
def test_a_whole_run(family: str, method: str, tiny_of: Any, tmp_path: Path) -> None:
    from transformers import AutoModel

    data = write_messages(tmp_path / "m.csv", 90)
    more = {"method": method, "task.module_settings": {"hidden": 8}}
    run = warmstart.tune(data, **keys_of(tiny_of(family), tmp_path / "run", **more))
    assert run.status == "done" and run.proof["passed"]
    texts = ["good film", "it was awful and bad , the book", "red"]
    answers = run.predict(texts)
    again = warmstart.predict(run.path, texts)
    assert [a.scores for a in answers] == [a.scores for a in again]
    assert set(answers[0].scores) == set(LABELS)
    if method == "full":  # the folder is a plain one: transformers finds the body in it
        assert AutoModel.from_pretrained(run.model).config.model_type == family


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_the_head_learns_beside_an_adapter(method: str, tiny_of: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    data = write_messages(tmp_path / "m.csv", 60)
    keys = keys_of(tiny_of("bert"), tmp_path / "run", method=method)
    run = warmstart.tune(data, **keys)
    assert run.proof["passed"]
    (file,) = run.model.glob("adapter*.safetensors")
    head = {name: value for name, value in load_file(file).items() if "own_head" in name}
    (shift,) = (value for name, value in head.items() if name.endswith("norm.bias"))
    assert shift.any(), "it begins with zeros"


def test_settings_in_another_form_are_told_the_form_that_works() -> None:
    keys = {"task": "custom", "task.module": "own_heads.Attending"}
    with pytest.raises(RecipeError, match=r"give a table, as in \{dropout = 0\.2\}"):
        Recipe.of({**keys, "task.module_settings": '{"dorp":1}'})
    task: Any = Recipe.of({**keys, "task.module_settings": "{dropout = 0.2}"}).task
    assert task.module_settings == {"dropout": 0.2}


def test_padding_changes_nothing(tiny_of: Any, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "m.csv", 60)
    run = warmstart.tune(data, **keys_of(tiny_of("bert"), tmp_path / "run"))
    together = run.predict(["good", "the a is was not very it this that again money back late"])
    alone = run.predict(["good"])
    np.testing.assert_allclose(
        list(together[0].scores.values()), list(alone[0].scores.values()), atol=1e-6
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "needs a head: --task.module"),
        ("nowhere.heads.Mine", "there is no nowhere.heads.Mine"),
        ("json.JSONDecoder", "no torch.nn.Module class"),
        (f"{__name__}.Wrong", "one number for each label"),
        ("torch.nn.Bilinear", "cannot be made by Bilinear|fails when called"),
    ],
)
def test_a_head_that_does_not_fit(path: str, says: str, tiny_of: Any, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "m.csv", 60)
    with pytest.raises(RecipeError, match=says):
        warmstart.tune(data, **keys_of(tiny_of("bert"), tmp_path / "run", **{"task.module": path}))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # tests/test_trust.py tries it in this process
def test_no_code_is_run_because_a_folder_names_it(tiny_of: Any, tmp_path: Path) -> None:
    heads = tmp_path / "lib"
    heads.mkdir()
    (heads / "my_heads.py").write_text(
        "import pathlib\nfrom torch import nn\n"
        f"pathlib.Path({str(tmp_path / 'was_run')!r}).write_text('x')\n"
        "class Mean(nn.Module):\n"
        "    def __init__(self, width, labels):\n"
        "        super().__init__()\n"
        "        self.out = nn.Linear(width, labels)\n"
        "    def forward(self, hidden, mask):\n"
        "        mask = mask[..., None].float()\n"
        "        return self.out((hidden * mask).sum(1) / mask.sum(1))\n"
    )
    data = write_messages(tmp_path / "m.csv", 60)
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{heads}"}

    def warm(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "warmstart", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    named = ["--task.module", "my_heads.Mean"]
    options = ["--base", str(tiny_of("bert")), "--train.epochs", "1"]
    options += ["--evaluate.bootstrap", "100"]
    made = warm(
        "tune", str(data), "--task", "custom", *named, *options, "--out", str(tmp_path / "r")
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "was_run").unlink()
    refused = warm("predict", str(tmp_path / "r"), "good film")
    assert refused.returncode == 2 and "--task.module my_heads.Mean" in refused.stderr
    assert not (tmp_path / "was_run").exists()
    answered = warm("predict", str(tmp_path / "r"), "good film", *named)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.split("\t")[0] in LABELS
