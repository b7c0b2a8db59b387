"""Loading and saving: the head is ours and repeatable, the rest is the checkpoint's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from learning import load_classifier
from tiny import tiny
from warmstart.errors import BaseModelError, RunError
from warmstart.models import base as catalog
from warmstart.models import loading as backbone
from warmstart.models.architectures import FAMILIES
from warmstart.models.base import Base
from warmstart.models.saving import save_model

LABELS = ["bad", "fine", "good"]
TEXTS = ["The film is great !", "a very very bad song , i hated it"]


def base_of(folder: Path) -> Base:
    return catalog.resolve(str(folder))


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "pegasus"])
def test_there_and_back(name: str, tiny_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Saved, the model answers alike for us and for transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = base_of(tiny_of(name))
    model = load_classifier(base, LABELS, seed=3)
    tokenizer = backbone.load_tokenizer(base)
    save_model(model, tokenizer, tmp_path / "out", base)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    expected = model(**batch).logits
    again = base_of(tmp_path / "out")
    assert again.tokenizer_sha256 == base.tokenizer_sha256
    ours = load_classifier(again, LABELS, seed=99)
    assert torch.equal(ours(**batch).logits, expected)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert torch.equal(theirs(**batch).logits, expected)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    plain = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert plain(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_pegasus_cannot_classify(tiny_of: Callable[[str], Path]) -> None:
    with pytest.raises(BaseModelError, match="no classification model for 'pegasus'"):
        load_classifier(base_of(tiny_of("pegasus")), LABELS, seed=0)


def test_head_depends_on_the_seed_alone(tiny_of: Callable[[str], Path]) -> None:
    base = base_of(tiny_of("roberta"))
    first = load_classifier(base, LABELS, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    second = load_classifier(base, LABELS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(first, second)
    other = load_classifier(base, LABELS, seed=2)
    assert not torch.equal(other.classifier.dense.weight, first.classifier.dense.weight)
    assert not torch.equal(other.classifier.out_proj.weight, first.classifier.out_proj.weight)
    assert equal(other.roberta, first.roberta)


def test_settings_of_the_model(tiny_of: Callable[[str], Path]) -> None:
    model = load_classifier(base_of(tiny_of("bert")), LABELS, seed=0, dropout=0.25)
    assert not model.training
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    assert model.config.problem_type == "single_label_classification"
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


def test_decoder_pads_with_its_last_token(tiny_of: Callable[[str], Path]) -> None:
    base = base_of(tiny_of("gpt2"))
    tokenizer = backbone.load_tokenizer(base)
    assert tokenizer.pad_token == tokenizer.eos_token
    model = load_classifier(base, LABELS, seed=0)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    alone = tokenizer(TEXTS[:1], return_tensors="pt")
    torch.testing.assert_close(model(**batch).logits[:1], model(**alone).logits)


def test_own_head_is_kept_for_the_same_labels_only(
    tiny_of: Callable[[str], Path], tmp_path: Path
) -> None:
    base = base_of(tiny_of("bert"))
    model = load_classifier(base, LABELS, seed=1)
    save_model(model, backbone.load_tokenizer(base), tmp_path / "out", base)
    again = base_of(tmp_path / "out")
    assert equal(load_classifier(again, LABELS, seed=2), model)
    turned = load_classifier(again, LABELS[::-1], seed=2)
    assert not torch.equal(turned.classifier.weight, model.classifier.weight)
    assert equal(turned.bert, model.bert)
    more = load_classifier(again, [*LABELS, "new"], seed=2)
    assert more.classifier.weight.shape[0] == 4


def test_body_must_be_whole(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    lost = "encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in tensors.items() if k != lost}, bert / "model.safetensors")
    with pytest.raises(BaseModelError, match=rf"missing or of another shape are bert\.{lost}"):
        load_classifier(base_of(bert), LABELS, seed=0)
    tensors[lost] = tensors[lost][:, :-1].contiguous()
    save_file(tensors, bert / "model.safetensors")
    with pytest.raises(BaseModelError, match="missing or of another shape"):
        load_classifier(base_of(bert), LABELS, seed=0)


def test_missing_pooler_is_part_of_the_head(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if "pooler" not in k}
    save_file(kept, bert / "model.safetensors")
    model = load_classifier(base_of(bert), LABELS, seed=0)
    assert equal(model, load_classifier(base_of(bert), LABELS, seed=0))


def test_tokenizer_neither_cuts_nor_pads_and_follows_the_file(bert: Path) -> None:
    path = bert / "tokenizer.json"
    file = json.loads(path.read_text())
    file["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    path.write_text(json.dumps(file))
    (bert / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "unk_token": "<unk>", "pad_token": "<pad>"})
    )
    tokenizer = backbone.load_tokenizer(base_of(bert))
    assert len(tokenizer.backend_tokenizer.encode("the film is great").ids) == 6
    assert tokenizer("the film")["input_ids"] == [1, 5, 18, 2]
    assert tokenizer.pad_token_id == 0


def test_embedded_tokenizer_is_whole() -> None:
    tokenizer = backbone.load_tokenizer(catalog.resolve("minilm"))
    assert len(tokenizer.backend_tokenizer.encode("word " * 300).ids) == 302
    assert tokenizer("hi there")["input_ids"] == [101, 7632, 2045, 102]


def test_saving_is_all_or_nothing(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(bert)
    model = load_classifier(base, LABELS, seed=0)
    tokenizer = backbone.load_tokenizer(base)
    out = save_model(model, tokenizer, tmp_path / "run" / "model", base)
    before = catalog.resolve(str(out)).sha256
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in out.iterdir()} == names | {"warmstart.json"}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    torch.nn.init.ones_(model.classifier.weight)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(RunError, match=r"cannot write the model to .*No space left"):
        save_model(model, tokenizer, out, base)
    assert catalog.resolve(str(out)).sha256 == before
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    monkeypatch.undo()
    save_model(model, tokenizer, out, base)
    assert catalog.resolve(str(out)).sha256 != before
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_saving_below_a_file(bert: Path, tmp_path: Path) -> None:
    base = base_of(bert)
    model, tokenizer = load_classifier(base, LABELS, 0), backbone.load_tokenizer(base)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the model"):
        save_model(model, tokenizer, tmp_path / "file" / "model")


def test_bfloat16_base_becomes_float32(tmp_path: Path) -> None:
    folder = tiny("bert", tmp_path / "b")
    tensors = load_file(folder / "model.safetensors")
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(half, folder / "model.safetensors")
    model = load_classifier(base_of(folder), LABELS, seed=0)
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pipeline_of_transformers(tiny_of: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import pipeline

    base = base_of(tiny_of("bert"))
    model = load_classifier(base, LABELS, seed=3)
    save_model(model, backbone.load_tokenizer(base), tmp_path / "out")
    answer = pipeline("text-classification", str(tmp_path / "out"))("great film")
    assert answer[0]["label"] in LABELS
