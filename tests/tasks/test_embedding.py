"""Rows of every kind; figures; the saved folder elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr

import warmstart
from learning import base_of, messages
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError, ProofError, RecipeError
from warmstart.evaluation.baselines import fit_baselines
from warmstart.evaluation.baselines.tfidf import TfidfVectors
from warmstart.evaluation.settings import Evaluate
from warmstart.models.loading import load_tokenizer
from warmstart.models.saving import read_modules, write_modules
from warmstart.objectives.contrastive import Contrastive
from warmstart.pipelines.verify import prove_task
from warmstart.tasks.base import Examples
from warmstart.tasks.embedding.evaluation import kind_of, quick_scores
from warmstart.tasks.embedding.task import Embedding

Folder = Callable[[str], Path]
KINDS = {
    "pairs": [{"anchor": "good film", "positive": "nice movie"},
              {"anchor": "bad food", "positive": "poor service"},
              {"anchor": "good film", "positive": "great book"}],
    "scored": [{"sentence1": "good film", "sentence2": "nice movie", "score": 5.0},
               {"sentence1": "bad food", "sentence2": "red", "score": 0.5}],
    "triplets": [{"anchor": "good film", "positive": "nice movie", "negative": "bad food"},
                 {"anchor": "red", "positive": "blue", "negative": ""}],
    "labels": [{"text": "good film", "label": "film"}, {"text": "bad food", "label": "food"},
               {"text": "nice movie", "label": "film"}],
}  # fmt: skip


def table(rows: list[dict[str, Any]], task: Embedding | None = None) -> pa.Table:
    task = task or Embedding()
    raw = read(rows, ledger=Ledger())
    return task.rows(map_roles(raw, task.roles, {}, {"text"}), lambda *_: None)


def examples(folder: Path, rows: list[dict[str, Any]]) -> Examples:
    tokenizer, found = load_tokenizer(base_of(folder)), table(rows)
    task = Embedding().resolve_for_data(found)
    return Examples(found, task.encode(found, [], tokenizer, 60), [], tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_say_what_the_rows_are(kind: str, tiny_of: Folder) -> None:
    found = examples(tiny_of("bert"), KINDS[kind])
    task = Embedding().resolve_for_data(found.table)
    assert task.examples == kind == kind_of(found.table)
    assert task.main_score in task.metric_titles
    targets = found.store.targets
    if kind == "scored":
        assert task.full_score == 5.0
        np.testing.assert_allclose(targets, [1.0, 0.1])
    elif kind == "labels":
        assert targets[0] == targets[2] != targets[1]
        assert found.store.answers is None
    else:
        assert targets.shape == (len(found), 2 + (kind == "triplets"))
        assert found.store.answers is not None
    if kind == "pairs":
        assert targets[0, 0] == targets[2, 0] != targets[1, 0]
    if kind == "triplets":
        assert targets[1, 2] == -1 and found.store.answers.answers is not None


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [([{"text": "a", "positive": "b", "label": "x"}], {}, "does not say which pairs"),
     ([{"text": "a", "positive": "b", "score": "high"}], {}, r":1: the score 'high' is no number"),
     ([{"text": "a", "positive": "b"}], {"examples": "scored"}, "no column for score"),
     ([{"text": "a"}], {}, "nothing that a text belongs to")],
)  # fmt: skip
def test_rows_that_say_nothing(rows: Any, settings: dict[str, Any], said: str) -> None:
    task = Embedding(**settings)
    with pytest.raises(DataError, match=said):
        task.resolve_for_data(table(rows, task))


@pytest.mark.parametrize(
    ("rows", "said"),
    [([{"text": f"text {i}", "label": "xX"[i % 2]} for i in range(6)],
      "every text of train has the label 'x', so there is nothing to contrast.*columns.label"),
     ([{"text": f"text {i}", "positive": "one"} for i in range(6)],
      "every text of train is paired with 'one', so .*columns.other")],
)  # fmt: skip
def test_texts_that_all_belong_together_teach_nothing(rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Embedding().fit_labels(table(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_teach_something(kind: str) -> None:
    assert Embedding().fit_labels(table(KINDS[kind])) == []


def test_a_label_beside_pairs_may_be_left_aside() -> None:
    rows = [{"text": "a", "positive": "b", "label": "x"}]
    assert kind_of(table(rows, Embedding(examples="pairs"))) == "pairs"


def test_search_is_counted_by_hand(tiny_of: Folder) -> None:
    """Query 0 and 2 are one text with two right answers; each searches the three others."""
    found = examples(tiny_of("bert"), KINDS["pairs"])
    axes = np.eye(3, dtype=np.float32)
    others = axes  # movie, service, book
    queries = np.stack([[0.9, 0.3, 0.6], [0.5, 0.4, 0.6], [0.9, 0.3, 0.6]]).astype(np.float32)
    outputs = np.stack([queries, others], 1)
    figures = quick_scores(outputs, found)
    assert figures["mrr"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert figures["recall@1"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    result = Embedding().evaluate({"test": outputs}, {"test": found})
    assert [one["note"] for one in result.mistakes] == ["the right text came at place 3"]
    assert result.mistakes[0]["label"] == "poor service"
    assert result.mistakes[0]["prediction"] == "great book"
    assert result.table["rank"].to_pylist() == [1, 3, 1]
    assert result.facts == {"searched": 3}


def test_spearman_is_scipys(tiny_of: Folder) -> None:
    texts, _ = messages(24, seed=1)
    rows = [{"sentence1": a, "sentence2": b, "score": (i * 7) % 11 / 2.0}
            for i, (a, b) in enumerate(zip(texts[:12], texts[12:], strict=True))]  # fmt: skip
    found = examples(tiny_of("bert"), rows)
    outputs = np.random.default_rng(0).normal(size=(12, 2, 5)).astype(np.float32)
    unit = outputs / np.linalg.norm(outputs, axis=-1, keepdims=True)
    wanted = spearmanr((unit[:, 0] * unit[:, 1]).sum(-1), [row["score"] for row in rows])
    assert quick_scores(outputs, found)["spearman"] == pytest.approx(wanted.statistic)
    task, of = Embedding().resolve_for_data(found.table), {"test": found, "train": found}
    result = task.evaluate({"test": outputs}, of)
    fitted = fit_baselines(Evaluate(), task, result.baselines, {"untuned": outputs}, of, 0)
    assert [one.name for one in fitted] == ["tfidf", "untuned"]
    np.testing.assert_allclose(result.score(fitted[1].predict(found)), result.statistics)
    assert len(result.table) == 12


def test_tfidf_cosines_are_scikit_learns(tiny_of: Folder) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = KINDS["pairs"]
    found: Any = Examples(table(rows), None, [], None)  # pyright: ignore[reportArgumentType]
    counted: Any = TfidfVectorizer(sublinear_tf=True)
    counted.fit([row[key] for row in rows for key in ("anchor", "positive")])
    matrix = counted.transform([row["anchor"] for row in rows]).toarray()
    others = counted.transform([row["positive"] for row in rows]).toarray()
    made = TfidfVectors(Embedding(), 100, 0).fit(found).predict(found)
    np.testing.assert_allclose(made[:, 0] @ made[:, 1].T, matrix @ others.T, atol=1e-6)


def data_of(kind: str) -> list[dict[str, Any]]:
    texts, labels = messages(120, seed=2)
    half = [(texts[i], texts[i + 60], labels[i]) for i in range(60)]
    if kind == "labels":
        return [{"text": a, "label": c} for a, c in zip(texts, labels, strict=True)]
    if kind == "scored":
        return [{"sentence1": a, "sentence2": b, "score": i % 6} for i, (a, b, _) in
                enumerate(half)]  # fmt: skip
    extra = {"negative": "late order"} if kind == "triplets" else {}
    return [{"anchor": a, "positive": b, **extra} for a, b, _ in half]


@pytest.fixture(scope="module")
def run_of(tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    made: dict[tuple[str, str], Any] = {}

    def get(kind: str, method: str = "full") -> Any:
        if (kind, method) not in made:
            made[kind, method] = warmstart.tune(
                data_of(kind), base=str(tiny_of("bert")), task="embedding", method=method,
                out=str(tmp_path_factory.mktemp("run") / kind),
                **{"train.epochs": 2, "train.batch_size": 16, "evaluate.bootstrap": 100,
                   "train.precision": "fp32"},
            )  # fmt: skip
        return made[kind, method]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_from_rows_to_a_proven_run(kind: str, run_of: Callable[..., Any]) -> None:
    run = run_of(kind)
    assert run.status == "done" and run.proof["passed"]
    assert {one["name"] for one in run.metrics["baselines"]} == {"tfidf", "untuned"}
    assert run.metrics["main"] == Embedding.model_validate({"examples": kind}).main_score
    answer = run.predict(["a good film"])[0]
    assert np.linalg.norm(answer.value) == pytest.approx(1.0, abs=1e-5)
    found = warmstart.evaluate(run.path, data_of(kind))
    assert found["main"] == run.metrics["main"]


def test_plain_transformers_and_sentence_transformers(run_of: Callable[..., Any]) -> None:
    from transformers import AutoModel, AutoTokenizer

    run, texts = run_of("pairs"), messages(7, seed=9)[0]
    ours = np.array([answer.value for answer in run.predict(texts)])
    model = AutoModel.from_pretrained(run.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(run.model)
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    mask = inputs["attention_mask"][:, :, None]
    means = (hidden * mask).sum(1) / mask.sum(1)
    theirs = torch.nn.functional.normalize(means, dim=-1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    package = pytest.importorskip("sentence_transformers")
    encoder = package.SentenceTransformer(str(run.model), device="cpu", local_files_only=True)
    np.testing.assert_allclose(ours, encoder.encode(texts), atol=1e-5)


def test_an_adapter_is_proven_too(run_of: Callable[..., Any], tmp_path: Path) -> None:
    run = run_of("pairs", "lora")
    assert run.proof["passed"] and "PeftModel" in run.proof["loaded_with"]
    ours = np.array(run.predict(["red"])[0].value)
    assert np.linalg.norm(ours) == pytest.approx(1.0, abs=1e-5)
    warmstart.adapters.merge(run.path, out=tmp_path / "merged")
    merged = warmstart.retrieval.embed(tmp_path / "merged", "red")[0]
    np.testing.assert_allclose(merged, ours, atol=1e-5)
    assert read_modules(tmp_path / "merged") == read_modules(run.model) != {}


def test_a_damaged_folder_does_not_pass(run_of: Callable[..., Any], tmp_path: Path) -> None:
    import shutil

    run = run_of("pairs")
    folder = tmp_path / "model"
    shutil.copytree(run.model, folder)
    task: Any = run.recipe.task
    rows = table(data_of("pairs"))
    tokenizer = load_tokenizer(base_of(run.model))
    found = Examples(rows, task.encode(rows, [], tokenizer, 60), [], tokenizer)
    values = [answer.value for answer in run.predict(rows["text"].to_pylist())]
    outputs = np.array(values, np.float32)[:, None]
    assert prove_task(folder, task, found, outputs, 0)["passed"]
    write_modules(folder, "first", True, 60)
    with pytest.raises(ProofError, match="its outputs differ"):
        prove_task(folder, task, found, outputs, 0)


def test_the_files_of_a_folder_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 32}')
    assert read_modules(tmp_path) == {}
    for pooling in ("mean", "first", "last"):
        write_modules(tmp_path, pooling, pooling != "last", 60)
        assert read_modules(tmp_path) == {"pooling": pooling, "normalise": pooling != "last"}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    assert read_modules(tmp_path)["pooling"] == "first"


def test_what_does_not_go_together(tiny_of: Folder, tmp_path: Path) -> None:
    rows: Any = data_of("pairs")
    for keys, said in (
        ({"method": "frozen"}, "trains a head alone"),
        ({"method": "prompt_tuning"}, "adds virtual tokens"),
        ({"base": str(tiny_of("bart"))}, "needs an encoder or a decoder"),
    ):
        keys = {"base": str(tiny_of("bert")), **keys}
        with pytest.raises(RecipeError, match=said):
            warmstart.tune(rows, task="embedding", out=str(tmp_path / "run"), **keys)
    assert not (tmp_path / "run").exists()


def test_vectors_go_to_a_file(run_of: Callable[..., Any], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "vectors.parquet"
    assert warmstart.predict(run_of("pairs").path, ["good film", "red"], out=out) == 2
    found = pq.read_table(out)
    assert found.column_names == ["text", "vector"]
    assert np.array(found["vector"].to_pylist()).shape == (2, 32)


def test_several_negatives_a_row_are_all_learned_from(tiny_of: Folder, tmp_path: Path) -> None:
    rows = [
        {"anchor": "good film", "positive": "nice movie", "negative_1": "bad food",
         "negative_2": "late order"},
        {"anchor": "red", "positive": "blue", "negative_1": "green", "negative_2": ""},
    ]  # fmt: skip
    found = examples(tiny_of("bert"), rows)
    targets = found.store.targets
    assert kind_of(found.table) == "triplets" and targets.shape == (2, 4)
    assert targets[1, 3] == -1 and len({*targets[0].tolist(), *targets[1, :3].tolist()}) == 7
    vectors = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    with_all = Contrastive().mean(vectors, torch.from_numpy(targets))
    with_first = Contrastive().mean(vectors[:, :3], torch.from_numpy(targets[:, :3].copy()))
    assert float(with_all) > float(with_first)
    texts, _ = messages(90, seed=2)
    pairs = list(zip(texts[:30], texts[30:60], texts[60:], strict=True))
    data = [{"query": a, "pos": [b], "neg": [c, "late order"]} for a, b, c in pairs]
    run = warmstart.tune(
        data, base=str(tiny_of("bert")), out=str(tmp_path / "run"),
        **{"train.epochs": 1, "evaluate.bootstrap": 100, "data.similarity": 0},
    )  # fmt: skip
    assert run.recipe.task.part_name() == "embedding" and run.proof["passed"]
    assert run.metrics["searched"] > run.metrics["rows"] + 1  # positives, and both negatives
