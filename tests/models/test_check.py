"""Damaged, foreign and unwilling folders are refused in one clear line."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hostile import headers as headers_of
from hostile import tokenizer_bombs
from tiny import tiny
from warmstart.data.tokens.tokenizer_steps import repeats_itself
from warmstart.errors import BaseModelError
from warmstart.models import base as catalog
from warmstart.models import checks as check
from warmstart.models import checks as weights
from warmstart.tokenization import comparison


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, **arguments: Any) -> str:
    with pytest.raises(BaseModelError) as caught:
        catalog.resolve(str(folder), **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(bert: Path, name: str) -> None:
    (bert / name).unlink()
    assert f"has no {name}" in refused(bert)


def test_truncated_weights_tell_both_lengths(bert: Path) -> None:
    file = bert / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-7])
    assert f"expected {len(data)} bytes, found {len(data) - 7}" in refused(bert)
    file.write_bytes(data[:20])
    assert "do not even hold its header" in refused(bert)
    file.write_bytes(b"")
    assert "is cut off" in refused(bert)
    file.write_bytes(data + b"more")
    assert "has bytes after its end" in refused(bert)


@pytest.mark.parametrize("garbage", [b"\x02" + bytes(7) + b"[]", b"not safetensors at all"])
def test_garbage_instead_of_weights(bert: Path, garbage: bytes) -> None:
    (bert / "model.safetensors").write_bytes(garbage)
    assert "is not a safetensors file" in refused(bert)


def test_all_shards_must_be_there(bert: Path) -> None:
    shard = "model-00001-of-00001.safetensors"
    (bert / "model.safetensors").rename(bert / shard)
    tensors = dict.fromkeys(weights.header(bert / shard), shard)
    (bert / weights.INDEX).write_text(json.dumps({"weight_map": tensors}))
    assert catalog.resolve(str(bert)).sha256 == weights.file_sha256(bert / shard)
    rewrite(bert / weights.INDEX, weight_map=tensors | {"x": "model-00002-of-00002.safetensors"})
    assert "has no model-00002-of-00002.safetensors" in refused(bert)
    rewrite(bert / weights.INDEX, weight_map={"x": "../elsewhere.safetensors"})
    assert "has no ../elsewhere.safetensors" in refused(bert)


def test_pickle_is_never_read(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    assert "pickled weights, which are never read" in refused(bert)


def test_remote_code_is_never_run(bert: Path) -> None:
    code = {"AutoModel": "modeling_evil.EvilModel", "AutoConfig": "configuration_evil.EvilConfig"}
    rewrite(bert / "config.json", auto_map=code)
    assert catalog.resolve(str(bert)).source == "folder"
    rewrite(bert / "config.json", model_type="evil")
    assert "needs remote code (model_type 'evil'), which is never run" in refused(bert)
    rewrite(bert / "config.json", model_type=None)
    assert "names no model_type" in refused(bert)


def test_config_that_is_no_json(bert: Path) -> None:
    (bert / "config.json").write_bytes(b"\xff\xfe{")
    assert "cannot be read" in refused(bert)
    (bert / "config.json").write_text("[]")
    assert "is not a JSON object" in refused(bert)


def test_tokenizer_with_too_many_tokens(bert: Path, tmp_path: Path) -> None:
    other = tiny("bert", tmp_path / "other", [f"w{i}" for i in range(100)])
    shutil.copy(other / "tokenizer.json", bert)
    assert "disagrees with the model" in refused(bert)


def test_tokenizer_with_too_few_tokens(bert: Path, tmp_path: Path) -> None:
    other = tiny("bert", tmp_path / "other", [f"w{i}" for i in range(1000)])
    shutil.copy(bert / "tokenizer.json", other)
    assert "50 tokens up to id 49, but 1005 rows" in refused(other)


def test_padded_embedding_is_fine(tmp_path: Path) -> None:
    folder = tiny("bert", tmp_path / "padded", vocab_size=64)
    assert catalog.resolve(str(folder)).name == str(folder)


def test_config_must_agree_with_the_embedding(bert: Path) -> None:
    rewrite(bert / "config.json", vocab_size=51)
    assert "says vocab_size 51, the embedding has 50 rows" in refused(bert)


@pytest.mark.parametrize("text", ['{"model": {}}', '{"model": {"vocab": {}}}', "{"])
def test_tokenizer_without_a_vocabulary(bert: Path, text: str) -> None:
    (bert / "tokenizer.json").write_text(text)
    assert "tokenizer.json" in refused(bert)


def test_fingerprint_sees_what_changes_the_ids_only(bert: Path) -> None:
    before = check.fingerprint(bert)
    cut = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    rewrite(bert / "tokenizer.json", truncation=cut)
    assert check.fingerprint(bert) == before
    rewrite(bert / "tokenizer.json", normalizer=None)
    assert check.fingerprint(bert) != before


def test_merges_are_the_same_in_both_spellings() -> None:
    old = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
    new = {"model": {**old["model"], "merges": [["a", "b"]]}}
    assert check.fingerprint_of(old) == check.fingerprint_of(new)


def test_saved_fingerprint_must_hold(bert: Path) -> None:
    (bert / check.NOTE).write_text(json.dumps({"tokenizer_sha256": check.fingerprint(bert)}))
    assert catalog.resolve(str(bert)).tokenizer_sha256 == check.fingerprint(bert)
    tokenizer = json.loads((bert / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "is not the tokenizer that this model was trained with" in refused(bert)


@pytest.mark.parametrize("bomb", [
    "doubled 40 times", "doubled in chains", "empty matches", "a long text for each letter",
    "a million steps", "bytes of bytes", "a slow pattern", "a text 10,000 times",
    "padded without end",
])  # fmt: skip
def test_a_tokenizer_that_lengthens_texts_without_end_is_refused(bert: Path, bomb: str) -> None:
    tokenizer_bombs(bert / "tokenizer.json")[bomb]()
    assert "tokenizer.json" in refused(bert)


@pytest.mark.parametrize(("part", "value"), [
    ("model", True), ("model", {"type": "WordLevel", "vocab": {"film": 10**9}}),
    ("added_tokens", [{"id": 10**9, "content": "film"}]),
    ("post_processor", {"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": 10**9}}}),
])  # fmt: skip
def test_a_tokenizer_of_other_values_is_refused_before_it_is_built(
    bert: Path, part: str, value: Any
) -> None:
    rewrite(bert / "tokenizer.json", **{part: value})
    with contextlib.suppress(BaseModelError):  # nothing else comes of it
        weights.check_fingerprint(bert)
    with pytest.raises(BaseModelError, match=r"tokenizer\.json"):
        comparison.open_one(bert)


def test_a_header_of_very_many_tensors_is_refused(bert: Path) -> None:
    headers_of(bert / "model.safetensors")["1.5 million tensors"]()
    assert "has a header of" in refused(bert) and "at most 10,000,000" in refused(bert)


@pytest.mark.parametrize("pattern", [
    r"\s+", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*"
    r"[\p{Ll}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}", "(abc)?x*", "<unk>",
])  # fmt: skip
def test_patterns_of_tokenizers_in_use_are_taken(pattern: str) -> None:
    assert not repeats_itself(pattern)
    assert repeats_itself(f"({pattern}a+)*")
