"""What is found is what the vectors say; an index and its model belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warmstart
from learning import base_of, messages
from warmstart.cli.main import main
from warmstart.errors import DataError, RecipeError, RunError
from warmstart.models.saving import write_modules
from warmstart.pipelines.search import Index
from warmstart.training.frozen_features import features

Folder = Callable[[str], Path]
TEXTS = messages(40, seed=8)[0]


@pytest.fixture
def model(tiny_of: Folder, tmp_path: Path) -> Path:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_of("bert"), folder)
    write_modules(folder, "mean", True, 60)
    return folder


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Index:
    return warmstart.retrieval.index(model, TEXTS, out=tmp_path / "index")


def test_the_nearest_by_cosine(made: Index, tiny_of: Folder) -> None:
    means = features(base_of(tiny_of("bert")), TEXTS, precision="fp32")
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors, unit, atol=1e-5)
    found = made.search(TEXTS[7], 5)
    assert found[0].text == TEXTS[7] and found[0].row == 7
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5)
    cosines = unit @ unit[7]
    assert [one.row for one in found] == np.argsort(-cosines, kind="stable")[:5].tolist()
    again = warmstart.retrieval.search(made.path, TEXTS[7], top=5)
    assert again == found
    both = Index(made.path).search_all([TEXTS[7], TEXTS[3]], 50)
    assert [len(one) for one in both] == [40, 40] and both[1][0].row == 3


def test_embed(model: Path) -> None:
    one = warmstart.retrieval.embed(model, TEXTS[0])
    assert one.shape == (1, 32) and np.linalg.norm(one) == pytest.approx(1.0)


def test_a_run_is_a_model_too(model: Path, tmp_path: Path) -> None:
    run = warmstart.Run.create(tmp_path / "run", warmstart.Recipe(), {})
    model.rename(run.model)
    vectors = warmstart.retrieval.embed(run, TEXTS)
    assert (vectors == warmstart.retrieval.embed(str(run.path), TEXTS)).all()
    assert len(warmstart.retrieval.index(run, TEXTS, out=tmp_path / "of-a-run")) == len(TEXTS)


def test_a_file_keeps_its_lines(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "faq.csv"
    data.write_text("text,page\ngood film,1\nred order,2\n")
    found = warmstart.retrieval.index(model, data, out=tmp_path / "i").search("red order", 1)[0]
    assert (found.text, found.file, found.line) == ("red order", str(data), 3)


def test_a_folder_of_texts_by_paragraph(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("\ngood film\nnice movie\n\n\nbad food\n")
    (folder / "below" / "b.md").write_text("red order")
    (folder / "c.bin").write_bytes(b"\x00")
    texts = warmstart.retrieval.index(model, folder, out=tmp_path / "i").texts.to_pylist()
    assert [(Path(row["file"]).name, row["line"], row["text"]) for row in texts] == [
        ("a.txt", 2, "good film nice movie"), ("a.txt", 6, "bad food"), ("b.md", 1, "red order"),
    ]  # fmt: skip


def test_blank_lines_of_a_plain_file_are_no_texts(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good film\n\n red order\n")
    found = warmstart.retrieval.index(model, tmp_path / "a.txt", out=tmp_path / "i").texts
    assert found.select(["text", "line"]).to_pylist() == [
        {"text": "good film", "line": 1}, {"text": "red order", "line": 3},
    ]  # fmt: skip


def test_long_texts_are_told(model: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    warmstart.retrieval.index(model, ["good " * 90, "red"], out=tmp_path / "i", notes=notes)
    assert notes == ["1 text has more than 64 tokens: the rest was not read"]


def test_another_model_is_noticed(made: Index, model: Path, tmp_path: Path) -> None:
    write_modules(model, "first", True, 60)
    with pytest.raises(RunError, match="is not the one that made the index"):
        Index(made.path).search("red")


def test_what_is_refused(made: Index, model: Path, tiny_of: Folder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not empty"):
        warmstart.retrieval.index(model, TEXTS, out=made.path)
    with pytest.raises(RunError, match="is no index"):
        Index(tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        warmstart.retrieval.index(model, tmp_path / "nothing.csv", out=tmp_path / "i")
    with pytest.raises(RecipeError, match="does not apply"):
        warmstart.retrieval.index(model, TEXTS, out=tmp_path / "i", method="lora")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt or \.md"):
        warmstart.retrieval.index(model, tmp_path / "empty", out=tmp_path / "i")
    assert not (tmp_path / "i").exists()
    (made.path / "vectors.safetensors").write_bytes(b"rubbish")
    with pytest.raises(RunError, match="cannot be read"):
        Index(made.path)


def test_on_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "faq.csv"
    data.write_text("text\ngood film\nred order\nblue order\n")
    out = str(tmp_path / "i")
    assert main(["index", str(model), str(data), "--out", out]) == 0
    assert "3 texts indexed" in capsys.readouterr().out
    assert main(["search", out, "red order", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(f"{data}:3\tred order")
    assert main(["search", out, "red order", "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["query"] == "red order" and len(found["found"]) == 3
    assert main(["search", out, "red", "--top", "none"]) == 2
    assert main(["index", str(model), str(data)]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
