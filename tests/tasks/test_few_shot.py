"""Two steps end in a plain classifier that answers as it did in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import warmstart
from learning import (
    CPU,
    LABELS,
    base_of,
    classifier,
    messages,
    predict,
    ready,
    source_of,
    store_of,
    write_messages,
)
from warmstart.errors import RecipeError
from warmstart.models.fast.forward import forward_for
from warmstart.models.head_layers import FEATURES, HEAD
from warmstart.models.loading import load_tokenizer
from warmstart.tasks.classification import Classification
from warmstart.tasks.few_shot import FewShot
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import TokenRows

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("few")
    write_messages(folder / "train.csv", 24)
    write_messages(folder / "test.csv", 30, seed=9)
    return warmstart.tune(
        folder, base=str(tiny_of("bert")), task="few_shot", out=str(folder / "run"),
        **{"train.epochs": 12, "train.learning_rate": 3e-3, "data.validation_fraction": 0,
           "evaluate.bootstrap": 100, "data.similarity": 0},
    )  # fmt: skip


def test_it_learns_and_is_proven(run: Any) -> None:
    assert run.status == "done" and run.proof["passed"]
    assert run.metrics["accuracy"]["value"] > 0.8
    assert run.proof["same_label"] == run.proof["rows"] == 30


def test_the_folder_is_a_plain_classifier(run: Any) -> None:
    from transformers import AutoConfig, pipeline

    config: Any = AutoConfig.from_pretrained(run.model)
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.num_hidden_layers == 3  # one more, that makes the mean
    texts = messages(6, seed=4)[0]
    classify: Any = pipeline("text-classification", str(run.model), device="cpu")
    assert [one["label"] for one in classify(texts)] == [one.value for one in run.predict(texts)]
    found = warmstart.evaluate(run.path, run.path.parent / "test.csv")
    assert found["accuracy"]["value"] == run.metrics["accuracy"]["value"]


def test_all_passes_are_one_epoch(run: Any) -> None:
    assert len(run.facts["history"]) == 1
    assert run.facts["speed"]["rows"] == 12 * 24


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert",
                                    "xlnet", "gpt2", "llama"])  # fmt: skip
def test_features_are_what_the_last_layer_reads(family: str, tiny_of: Folder) -> None:
    base = base_of(tiny_of(family))
    model = FewShot().build_model(base, LABELS, 0).requires_grad_(True)
    compute: Any = FewShot().forward(model)
    compute.prepare(torch.float32, CPU, checkpointing=False)
    tokenizer: Any = load_tokenizer(base)
    import pyarrow as pa

    table = pa.table({"text": messages(9, seed=3)[0]})
    store = Classification().encode(table, LABELS, tokenizer, 60)
    rows = TokenRows(store, tokenizer.pad_token_id, CPU)
    compute.readout = FEATURES
    features = torch.from_numpy(rows.predict(compute))
    compute.readout = HEAD
    logits = rows.predict(compute)
    bias = compute.output_layer.bias
    with torch.no_grad():
        own = features @ compute.output_layer.weight.T + (0 if bias is None else bias)
    np.testing.assert_allclose(logits, own.numpy(), atol=1e-5)
    plain: Any = forward_for(model)
    plain.prepare(torch.float32, CPU, checkpointing=False)
    again = predict(store, plain, tokenizer.pad_token_id)
    np.testing.assert_allclose(logits, again, atol=1e-5)
    still = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert any("classifier" in n or "score" in n or "logits_proj" in n for n in still)


def test_what_does_not_go_together(tiny_of: Folder, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "data.csv", 60)
    for keys, said in (
        ({"method": "lora"}, "saves an adapter"),
        ({"method": "frozen"}, "leaves the body as it is"),
        ({"base": str(tiny_of("t5"))}, "needs an encoder or a decoder"),
    ):
        keys = {"base": str(tiny_of("bert")), **keys}
        with pytest.raises(RecipeError, match=said):
            warmstart.tune(data, task="few_shot", out=str(tmp_path / "run"), **keys)
    assert not (tmp_path / "run").exists()


def test_many_rows_are_remarked() -> None:
    import pyarrow as pa

    few, many = (pa.table({"label": ["a"] * n + ["b"] * n}) for n in (64, 65))
    assert FewShot().data_notes(few) == []
    assert "task classification" in FewShot().data_notes(many)[0]


def test_passes(tiny_of: Folder) -> None:
    """Several passes over the rows are one epoch, each in an order of its own."""
    store, pad = store_of(tiny_of("bert"), *messages(20))
    single = source_of(store, ready(classifier(tiny_of("bert"))), pad)
    together = BatchSource(single.dataset, single.objective, single.settings, 0, passes=3)
    plans = [rows.tolist() for epoch in range(3) for rows in single.plan(epoch)]
    assert [rows.tolist() for rows in together.plan(0)] == plans
    assert len(together) == 20 and together.steps_in(0) == len(plans) == 9
