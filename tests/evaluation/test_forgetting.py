"""The forgetting figure: against transformers' own perplexity, on whole runs, and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import warmstart
from learning import base_of, classifier, messages, write_messages
from warmstart.evaluation.forgetting import (
    HalvesRetrieval,
    Perplexity,
    compared,
    fewer,
    section,
    statistics,
)
from warmstart.evaluation.settings import Evaluate
from warmstart.models import loading as backbone
from warmstart.models.heads import TEXT
from warmstart.training.regularization.language_model import reader_for
from warmstart.training.regularization.text import SHIPPED, halves, shipped

Folder = Callable[[str], Path]
KEYS: dict[str, Any] = {
    "train.epochs": 1, "train.precision": "fp32", "evaluate.baselines": False,
    "evaluate.bootstrap": 100, "train.learning_rate": 1e-2,
}  # fmt: skip


def reading(folder: Path, model: Any) -> Any:
    tokenizer = backbone.load_tokenizer(base_of(folder))
    return reader_for(base_of(folder), model, tokenizer, writes=False)


def test_perplexity_is_that_of_transformers(tiny_of: Folder) -> None:
    """A tiny GPT-2, passage by passage, each token after the end-of-text token in front."""
    folder, texts = tiny_of("gpt2"), shipped().held[:10]
    rows = statistics(reading(folder, classifier(folder)), texts)
    found = Perplexity().total(rows)
    lm: Any = backbone.load_headed(base_of(folder), TEXT, [], seed=0)
    tokenizer: Any = backbone.load_tokenizer(base_of(folder))
    nll = tokens = 0.0
    for text in texts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            nll += float(lm(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    words = sum(len(text.split()) for text in texts)
    assert found["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert found["word_perplexity"] == pytest.approx(math.exp(nll / words), rel=1e-4)


def test_recall_is_of_nearest_mean_states(tiny_of: Folder) -> None:
    folder, texts = tiny_of("bert"), shipped().held[:12]
    model = classifier(folder)
    rows = statistics(reading(folder, model), texts)
    tokenizer: Any = backbone.load_tokenizer(base_of(folder))

    def vector(text: str) -> torch.Tensor:
        batch = tokenizer(text, return_tensors="pt")
        return model.bert(**batch).last_hidden_state.mean(1)[0].detach()

    first, second = ([vector(halves(text)[side]) for text in texts] for side in (0, 1))
    near = [[float(torch.cosine_similarity(one, other, 0)) for other in second] for one in first]
    ranks = [sorted(row, reverse=True).index(row[at]) + 1 for at, row in enumerate(near)]
    found = HalvesRetrieval().total(rows)
    assert found["recall"] == pytest.approx(np.mean([rank == 1 for rank in ranks]))
    assert found["reciprocal_rank"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_a_figure_says_what_is_noise_and_what_is_not(tiny_of: Folder) -> None:
    folder = tiny_of("gpt2")
    reader = reading(folder, classifier(folder))
    rng = np.random.default_rng(0)
    nll = rng.uniform(100, 200, 60)
    before = np.stack([nll, np.full(60, 50.0), np.full(60, 30.0)], 1)

    def said(factor: np.ndarray | float, **more: Any) -> dict[str, Any]:
        after = before.copy()
        after[:, 0] *= factor
        return compared(reader, before, after, Evaluate(bootstrap=200), 0, "a text", **more)

    worse, better = said(1.2), said(0.8)
    noise = said(1 + 0.05 * rng.standard_normal(60))
    assert [one["outcome"] for one in (worse, better, noise)] == ["worse", "better", "noise"]
    assert worse["advice"] and not better["advice"] and not said(1.2, kept=True)["advice"]
    assert "has forgotten" in worse["sentence"] and "without the adapter" in said(
        1.2, changes="beside")["sentence"]  # fmt: skip
    assert said(1.0)["difference"]["difference"] == 0 and said(1.0)["outcome"] == "noise"
    assert len(section(worse)["rows"]) == 2 and worse["sentence"] in section(worse)["lead"]


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_base_that_knows_nothing_has_nothing_to_forget(family: str, tiny_of: Folder) -> None:
    """Random weights: better or worse than them says nothing."""
    reader = reading(tiny_of(family), classifier(tiny_of(family)))
    if family == "gpt2":
        vocabulary = reader.body.config.vocab_size
        before = np.tile([50 * math.log(0.9 * vocabulary), 50, 30], (60, 1))
        knowing = np.tile([50 * math.log(0.2 * vocabulary), 50, 30], (60, 1))
    else:
        before = np.tile([0.0, 0.05, 1.0], (60, 1))
        knowing = np.tile([1.0, 1.0, 1.0], (60, 1))
    settings = Evaluate(bootstrap=200)
    for start, other in ((before, knowing), (knowing, before)):
        found = compared(reader, start, other, settings, 0, "a text")
        if start is before:
            assert found["outcome"] == "nothing known" and not found["advice"]
            assert "nothing to forget" in found["sentence"]
        else:
            assert found["outcome"] == "worse" and found["advice"]


def test_fewer_passages_for_larger_models() -> None:
    texts = shipped().held
    assert fewer(texts, 1000) == texts
    assert len(fewer(texts, 50_000_000)) == 60 and len(fewer(texts, 10**12)) == 40
    assert set(fewer(texts, 10**12)) <= set(texts)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 60)


@pytest.mark.parametrize(
    ("family", "method", "more"),
    [
        ("bert", "full", {"forgetting.text": "own"}),
        ("gpt2", "full", {"forgetting.text": str(SHIPPED), "forgetting.penalty": "ewc"}),
        ("gpt2", "lora", {"forgetting.text": str(SHIPPED), "forgetting.rehearsal": 0.3}),
        ("distilbert", "partial", {"forgetting.text": "own", "forgetting.rehearsal": 0.3}),
        ("bert", "layernorm", {"forgetting.text": "own", "forgetting.penalty": "l2_sp"}),
        ("bert", "frozen", {}),
        ("t5", "full", {"forgetting.penalty": "l2_sp"}),
        ("xlnet", "prompt_tuning", {}),
    ],
)
def test_every_report_has_it(
    family: str, method: str, more: dict[str, Any], tiny_of: Folder, data: Path, tmp_path: Path
) -> None:
    if more.get("forgetting.text") == "own":  # in the words that tiny models know
        (tmp_path / "own.txt").write_text("\n".join(messages(2000)[0]))
        more = {**more, "forgetting.text": str(tmp_path / "own.txt")}
    run: Any = warmstart.tune(
        data, base=str(tiny_of(family)), method=method, out=str(tmp_path / "run"), **KEYS, **more
    )
    found = run.metrics["forgetting"]
    if method in ("frozen", "prompt_tuning"):
        assert "Nothing is forgotten" in found["sentence"] and "figure" not in found
    else:
        main = "perplexity" if family in ("gpt2", "t5") else "recall"
        assert found["figure"] == main and found["before"] != found["after"]
        for when in ("before", "after"):
            one = found[when][main]
            assert one["low"] <= one["value"] <= one["high"]
    assert found["sentence"].split(":")[0] in run.report.read_text()
    notes = [note for note in json.loads((run.path / "ledger.json").read_text())["notes"]
             if note["kind"] == "forgetting"]  # fmt: skip
    assert len(notes) == ("forgetting.text" in more)
    if "figure" in found:
        assert (found["passages"] == len(shipped().held)) == ("forgetting.text" not in more)


def test_measuring_changes_nothing(tiny_of: Folder, data: Path, tmp_path: Path) -> None:
    """With the figure and without it, a run ends with the same bytes."""
    runs: list[Any] = []
    for asked in (True, False):
        keys: dict[str, Any] = {**KEYS, "evaluate.forgetting": asked}
        out = str(tmp_path / str(asked))
        runs.append(warmstart.tune(data, base=str(tiny_of("bert")), out=out, **keys))
    one, other = ((run.model / "model.safetensors").read_bytes() for run in runs)
    assert one == other
    assert "forgetting" not in runs[1].metrics


def test_other_general_text_is_not_resumed(tiny_of: Folder, data: Path, tmp_path: Path) -> None:
    text = tmp_path / "general.txt"
    text.write_text(SHIPPED.read_text())
    keys: dict[str, Any] = {**KEYS, "forgetting.text": str(text), "forgetting.penalty": "ewc"}
    run: Any = warmstart.tune(data, base=str(tiny_of("bert")), out=str(tmp_path / "run"), **keys)
    run.update(status="stopped")
    text.write_text(SHIPPED.read_text().replace("river", "rivers"))
    with pytest.raises(warmstart.RunError, match=r"forgetting\.text has changed"):
        warmstart.tune(resume=run.path)
