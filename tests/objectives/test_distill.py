"""A student learns to answer like its teacher: DistilBERT's three losses, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_embedding_loss, cross_entropy, kl_div

from learning import base_of
from pretraining import Tiny, tiny_base, tokenizer_folder
from warmstart.errors import RecipeError
from warmstart.models.from_config import new_base
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_language, load_tokenizer
from warmstart.objectives import distill
from warmstart.objectives.distill import Distill
from warmstart.training.loop import compute_gradients


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Path:
    """A BERT of four layers under its masked-language head, with the words of the tiny one."""
    words = tokenizer_folder("bert", folder / "bert-words")
    body = new_base("bert", words, folder / "body", hidden_size=32, layers=4, heads=2,
                    positions=65, seed=7)  # fmt: skip
    model: Any = load_language(base_of(body), "AutoModelForMaskedLM", 3)
    for parameter in model.parameters():  # biases too
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(0)
        )
    with quiet():
        model.save_pretrained(folder / "teacher")
        load_tokenizer(base_of(body)).save_pretrained(folder / "teacher")
    return folder / "teacher"


@pytest.fixture(scope="module")
def it(folder: Path, teacher: Path) -> Tiny:
    return Tiny("bert", folder, "distill", teacher=str(teacher))


def test_the_losses_are_those_of_the_paper(it: Tiny, teacher: Path) -> None:
    """KL · T² and the cosine loss of all tokens (as the script of the authors has them), and the
    masked loss, each of torch's own functions; 5, 2 and 1 of them."""
    from transformers import AutoModelForMaskedLM

    batch = it.batch(np.arange(8))
    ids, chosen = batch.inputs["ids"], batch.inputs["chosen"]
    mask = (torch.arange(ids.shape[1]) < batch.inputs["lengths"][:, None]).long()
    outputs = list[Any]()
    with torch.no_grad():
        for model in (it.model.eval(), AutoModelForMaskedLM.from_pretrained(teacher).eval()):
            outputs.append(model(input_ids=ids, attention_mask=mask, output_hidden_states=True))
    real = mask.bool()
    ours, theirs = [o.logits[real] / 2 for o in outputs]
    soft = kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="batchmean") * 4
    hard = cross_entropy(outputs[0].logits[chosen], batch.targets[0])
    states = [o.hidden_states[-1][real] for o in outputs]
    angle = cosine_embedding_loss(*states, torch.ones(len(ours)))
    loss = it.loss(batch)
    weight = float(loss.weight)
    assert weight == int(real.sum())
    assert float(loss.metrics["soft_loss"]) / weight == pytest.approx(float(soft), rel=1e-4)
    assert float(loss.metrics["cosine_loss"]) / weight == pytest.approx(float(angle), rel=1e-4)
    scale = it.objective._per_hidden
    assert float(loss.metrics["mlm_loss"]) / scale / int(chosen.sum()) == pytest.approx(
        float(hard), rel=1e-5
    )
    parts = [
        5 * loss.metrics["soft_loss"],
        2 * loss.metrics["mlm_loss"],
        loss.metrics["cosine_loss"],
    ]
    assert float(loss.total) == pytest.approx(float(sum(parts)), rel=1e-6)
    every = it.batch(np.arange(len(it.rows)))
    hidden = float(every.inputs["chosen"].sum())
    assert float(every.weight) / hidden == pytest.approx(scale, rel=0.1), "all three are means"


def test_a_hand_computed_case() -> None:
    """Two tokens, a vocabulary of two, T = 2: teacher (ln 3 · 2, 0) → (3/4, 1/4), student (0, 0)
    → (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2, times 4, for each."""
    aim = Distill(teacher="any", temperature=2.0)

    def model(logits: list[float]) -> Any:
        values = torch.tensor(logits)
        config = SimpleNamespace(vocab_size=2)
        return SimpleNamespace(
            model=SimpleNamespace(config=config),
            vocabulary=lambda s: values.expand(1, s.shape[1], 2),
        )

    states: Any = torch.zeros(2, 3)
    total = aim._divergence(model([0.0, 0.0]), model([2 * math.log(3), 0.0]), states, states)
    by_hand = 4 * 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(total) == pytest.approx(by_hand, rel=1e-6)


def test_in_parts_it_is_the_same(it: Tiny, monkeypatch: Any) -> None:
    """Logits in parts, made again for the gradient; and trap 21: 1 x 4 is 4 x 1."""
    rows = np.argsort(it.store.lengths)[[0, 10, 20, -1]]

    def gradients(batches: list[Any]) -> tuple[float, dict[str, torch.Tensor]]:
        it.forward.after_step()
        it.forward.begin_step(0)
        mean, _, _ = compute_gradients(it.objective, it.forward, batches)
        return float(mean), {n: p.grad.clone() for n, p in it.model.named_parameters()
                             if p.grad is not None}  # fmt: skip

    mean, theirs = gradients([it.batch(rows)])
    for limit, batches in ((1 << 23, [[row] for row in rows]), (len(it.tokenizer) * 5, [rows])):
        monkeypatch.setattr(distill, "LOGITS", limit)
        value, ours = gradients([it.batch(own) for own in batches])
        assert value == pytest.approx(mean, rel=1e-5)
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, atol=1e-5, rtol=1e-3)


def test_the_teacher_stands_still_and_is_no_part_of_the_model(it: Tiny, tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    it.loss(it.batch([0, 1]))
    teacher = it.objective._loaded
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    assert not {id(p) for p in it.model.parameters()} & {id(p) for p in teacher.parameters()}
    it.model.save_pretrained(tmp_path)
    _, info = BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_all_layers_of_the_teacher_are_the_teacher(
    family: str, folder: Path, teacher: Path, tmp_path: Path
) -> None:
    """Every part goes where it belongs: with all layers the student says what the teacher says.
    Of half of them every second one is taken."""
    ids = torch.tensor([[2, 20, 21, 22, 23, 3]])
    words = tokenizer_folder("bert", folder / "bert-words")
    whole: Any = load_language(base_of(teacher), "AutoModelForMaskedLM", 0)
    for layers in (4, 2):
        place = tmp_path / f"{layers}"
        new_base(family, words, place, hidden_size=32, layers=layers, heads=2, positions=65)
        aim = Distill(teacher=str(teacher), init="teacher_layers").model_copy()
        student = aim.build_model(None, base_of(place), [], 0)
        with torch.no_grad():
            same = torch.allclose(student(ids).logits, whole(ids).logits, atol=1e-5)
        assert same == (layers == 4)
        if layers == 4:
            continue
        blocks = student.bert.encoder.layer if family == "bert" else (
            student.distilbert.transformer.layer
        )  # fmt: skip
        for number, block in enumerate(blocks):
            source = whole.bert.encoder.layer[2 * number]
            for own, other in zip(block.parameters(), source.parameters(), strict=True):
                assert torch.equal(own, other)


def test_the_student_comes_near_its_teacher(folder: Path, teacher: Path) -> None:
    it = Tiny("bert", folder, "distill", teacher=str(teacher))
    optimizer = torch.optim.AdamW(it.model.parameters(), 3e-3)
    before = it.mean(it.batch(np.arange(16)))
    for step in range(30):
        it.forward.after_step()
        it.forward.begin_step(step)
        compute_gradients(it.objective, it.forward, [it.batch(np.arange(16), step)])
        optimizer.step()
    assert it.mean(it.batch(np.arange(16))) < 0.8 * before


def refusal(folder: Path, **settings: Any) -> str:
    base = base_of(tiny_base("bert", folder))
    aim = Distill(**settings).model_copy()
    config: Any = base.path / "config.json"

    with pytest.raises(RecipeError) as caught:
        aim.check_base(json.loads(config.read_text()), "encoder", load_tokenizer(base))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_weight_of_the_teacher_is_read_before_training(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(teacher)
    monkeypatch.setattr(Distill, "_model", lambda _: pytest.fail("read"))
    config = json.loads((teacher / "config.json").read_text())
    Distill(teacher=str(teacher)).model_copy().check_base(config, "encoder", load_tokenizer(base))


def test_what_cannot_teach_is_refused(folder: Path, teacher: Path, tmp_path: Path) -> None:
    assert "needs a teacher" in refusal(folder)
    body = str(tiny_base("bert", folder))
    assert "has no masked-language head" in refusal(folder, teacher=body)
    words = tokenizer_folder("bert", tmp_path / "words", 100)
    with quiet():
        for name, source, width in (("other", words, 32), ("wide", folder / "bert-words", 64)):
            place = new_base("bert", source, tmp_path / f"{name}-body", hidden_size=width,
                             layers=1, heads=2, positions=65)  # fmt: skip
            model = load_language(base_of(place), "AutoModelForMaskedLM", 0)
            model.save_pretrained(tmp_path / name)
            load_tokenizer(base_of(place)).save_pretrained(tmp_path / name)
    assert "has another tokenizer" in refusal(folder, teacher=str(tmp_path / "other"))
    assert "64 wide and those of the base 32" in refusal(folder, teacher=str(tmp_path / "wide"))
    base = base_of(tiny_base("bert", folder))
    aim = Distill(teacher=str(tmp_path / "wide"), cosine_weight=0.0).model_copy()
    aim.check_base({"model_type": "bert", "hidden_size": 32}, "encoder", load_tokenizer(base))
    short = Distill(teacher=str(teacher), init="teacher_layers").model_copy()
    long = new_base("bert", folder / "bert-words", tmp_path / "long", hidden_size=32, layers=6,
                    heads=2, positions=65)  # fmt: skip
    with pytest.raises(RecipeError, match="6 layers and the teacher 4; give --layers 4 or fewer"):
        short.build_model(None, base_of(long), [], 0)
