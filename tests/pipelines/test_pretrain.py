"""Pretraining as its user has it: from raw text to a folder that transformers loads."""

from __future__ import annotations

import json
import math
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import warmstart
from warmstart.config.recipe import Recipe
from warmstart.data.tokens import shards
from warmstart.errors import BaseModelError, DataError, RecipeError
from warmstart.models.fast.loss import score_targets
from warmstart.models.forward import Batch
from warmstart.models.head_layers import given_states
from warmstart.objectives.base import Position
from warmstart.pipelines.finish import padding_of
from warmstart.pipelines.prepare import prepare
from warmstart.pipelines.session import Session
from warmstart.run import Run

Folder = Callable[[str], Path]
Job = Callable[..., int]
WORDS = "the river ran past an old stone house where nobody had lived for many years and".split()
FAST: dict[str, Any] = {
    "layers": 2, "hidden_size": 32, "heads": 2, "vocabulary_size": 400, "task.max_length": 32,
    "train.max_steps": 6, "train.batch_size": 8, "evaluate.bootstrap": 100,
    "train.precision": "fp32", "train.device": "cpu",
}  # fmt: skip


def write_corpus(folder: Path, documents: int = 24, seed: int = 0) -> Path:
    rng = random.Random(seed)
    for number in range(documents):
        sentences = [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))).capitalize() + "."
                     for _ in range(rng.randint(6, 20))]  # fmt: skip
        place = folder / f"{number:02}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(" ".join(sentences) + "\n")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path_factory.getbasetemp() / "pretraining-cache"
    monkeypatch.setenv("WARMSTART_CACHE", str(place))


def test_a_decoder_from_scratch(corpus: Path, tmp_path: Path) -> None:
    """Every step, the ledger, figures that agree with transformers', and a model that is used."""
    run = warmstart.pretrain(corpus, architecture="gpt2", out=tmp_path / "run", **FAST)
    assert run.status == "done"
    recipe, metrics = run.recipe, run.metrics
    task: Any = recipe.task
    assert recipe.objective.part_name() == "clm" and task.covers_text
    tokens = run.ledger["tokens"]
    assert all(told["cut"] == 0 for told in tokens.values())
    model = AutoModelForCausalLM.from_pretrained(run.model)
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    nll = count = size = 0.0
    for row in pq.read_table(run.path / "predictions.parquet").to_pylist():
        text = Path(row["file"]).read_text()
        end = tokenizer.eos_token_id
        ids = [end, *tokenizer(text)["input_ids"], end]
        for at in range(0, len(ids) - 1, 32):
            window = torch.tensor([ids[at : at + 33]])
            with torch.no_grad():
                logits = model(window[:, :-1]).logits[0]
            nll += float(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum"))
            count += window.shape[1] - 1
        size += len(text.encode())
    assert metrics["loss"]["value"] == pytest.approx(nll / count, abs=1e-4)
    assert metrics["perplexity"]["value"] == pytest.approx(math.exp(nll / count), rel=1e-3)
    assert metrics["bits_per_byte"]["value"] == pytest.approx(nll / math.log(2) / size, abs=1e-4)
    assert metrics["baselines"][0]["name"] == "unigram"
    assert run.proof["passed"] and run.proof["max_difference"] < 1e-4
    assert [row["sample"] for row in run.facts["history"]]
    figures = warmstart.evaluate(run, corpus / "00.txt", **{"evaluate.bootstrap": 100})
    assert figures["loss"]["value"] < 6 and figures["bits_per_byte"]["value"] > 0
    (answer,) = warmstart.predict(run, "The river ran past.")
    assert answer.confidence == pytest.approx(math.exp(-answer.value), rel=1e-4)


def test_what_was_read_is_said(tiny_of: Folder, corpus: Path, tmp_path: Path) -> None:
    """Of plain text what a document is, of a table its columns; and of the few unknown tokens only
    how many there are."""
    base = str(tiny_of("gpt2"))
    notes = warmstart.plan(corpus, verb="pretrain", base=base)["ledger"]["notes"]
    said = [note["message"] for note in notes if note.get("loud")]
    assert f"{corpus}: 24 files of plain text, a document a file" in said
    rows = [json.dumps({"title": "x", "text": file.read_text()}) for file in corpus.glob("*.txt")]
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    notes = warmstart.plan(tmp_path / "c.jsonl", verb="pretrain", base=base)["ledger"]["notes"]
    (columns,) = (note["message"] for note in notes if note["kind"] == "columns")
    assert "text = text; not read: title" in columns


def test_an_encoder_goes_on(tiny_of: Folder, corpus: Path, tmp_path: Path) -> None:
    """A base without its head gets a fresh one; the loss falls; what was learned is the base of a
    fine-tuning."""
    keys = {**FAST, "train.max_steps": 60, "train.learning_rate": 3e-3, "train.validate_every": 20}
    for key in ("layers", "hidden_size", "heads", "vocabulary_size"):
        keys.pop(key)
    run = warmstart.pretrain(corpus, base=str(tiny_of("bert")), out=tmp_path / "run", **keys)
    assert run.recipe.objective.part_name() == "mlm"
    losses = [row["validation_loss"] for row in run.facts["history"]]
    assert losses[-1] < losses[0]
    assert {20, 40, 60} <= {row["step"] for row in run.facts["history"]}
    assert "bits_per_byte" not in run.metrics
    AutoModelForMaskedLM.from_pretrained(run.model)
    plan = warmstart.plan(labelled(), base=str(run.path))
    assert plan["base"]["name"] == str(run.path)


def labelled() -> Any:
    texts = [f"{a} {b} {c}" for a in WORDS[:4] for b in WORDS[4:9] for c in WORDS[9:]]
    return pa.table({"text": texts, "label": ["a", "b"] * (len(texts) // 2)})


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"architecture": "gpt3"}, "scratch.architecture"),
        ({"architecture": "gpt2", "objective": "mlm"}, "objective mlm trains an encoder"),
        ({"architecture": "bert", "objective": "replaced_token"}, "trains electra, and 'bert'"),
        ({"architecture": "bert", "method": "lora"}, "method lora adapts a base that was trained"),
        ({"architecture": "bart", "objective": "span_corruption"}, "<extra_id_0>"),
        ({"architecture": "gpt2", "task": "classification"}, "task classification"),
        ({"architecture": "gpt2", "base": "minilm"}, "makes a new one; give one of them"),
        ({"architecture": "bert", "objective.rate": 0.3}, "has no setting 'rate'"),
        ({"architecture": "bert", "scratch.config": {"hidden_size": 64}},
         "'hidden_size' has a setting of its own: scratch.hidden_size"),
        ({"architecture": "bert", "scratch.config": {"seed": 64}}, "a setting of its own: seed"),
        ({"architecture": "bert", "scratch.config": {"out": "x"}}, "no config has a value 'out'"),
        ({"architecture": "gpt2", "scratch.config": {"vocab_size": 64}},
         "the number of tokens of the tokenizer"),
        ({"architecture": "gpt2", "scratch.config": {"resid_pdrob": 0.1}},
         "no 'resid_pdrob'. Did you mean 'resid_pdrop'"),
        ({"architecture": "llama", "scratch.config": {"num_key_value_heads": 3}},
         "no 'llama' of these sizes can be made"),
        ({"architecture": "gpt2", "task.documents": "joined", "task.long": "drop"},
         "in which none is too long"),
    ],
)  # fmt: skip
def test_what_cannot_be(corpus: Path, tmp_path: Path, keys: dict[str, Any], reason: str) -> None:
    """One line, and nothing is written."""
    with pytest.raises((BaseModelError, RecipeError), match=reason):
        warmstart.pretrain(corpus, out=tmp_path / "run", **FAST, **keys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["gpt2", "bert", "bart"])
def test_documents_do_not_see_each_other(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    """Of windows of unequal length that are computed together: the logits of one stay as they are
    when another is replaced, the losses of all together are those of each alone, and hardly
    anything that is computed is padding."""
    rng = random.Random(0)
    base = tiny_of(family)
    vocabulary = sorted(AutoTokenizer.from_pretrained(base).get_vocab())
    words = [word for word in vocabulary if word.isascii() and word.isalpha()][:20]
    lines = [" ".join(rng.choice(words) for _ in range(rng.randint(3, 60))) for _ in range(900)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    objective = {"gpt2": "clm", "bert": "mlm", "bart": "denoising"}[family]
    keys: dict[str, Any] = {
        "task": "language_model", "objective": objective, "base": str(base),
        "data.path": str(tmp_path / "lines.txt"), "task.document": "line", "task.max_length": 64,
        "train.batch_tokens": 256, "train.epochs": 1, "train.precision": "fp32",
    }  # fmt: skip
    prepared = prepare(Recipe.of(keys))
    assert 0 < padding_of(prepared) < 0.05
    session = Session.begin(prepared)
    source, forward, objective = session.source("train"), session.forward, session.objective
    sizes = source.dataset.sizes
    unequal = (rows for rows in source.plan(0) if len({*sizes[rows]}) > 1)
    rows = next(rows for rows in unequal if sizes[rows].min() > 24)
    (batch,) = source.batches(rows, np.random.default_rng(0))
    count = len(batch.rows)
    assert count > 2

    def told(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each target its row and its log-probability."""
        with torch.no_grad(), forward.evaluating():
            found = objective.predictions(forward.forward(batch), batch)
            return found.rows, score_targets(found.outputs, found.targets).nll

    owner, before = told(batch)
    ids = batch.inputs["ids"].clone()
    ids[0] = ids[0].roll(1) + (ids[0] < 20)
    _, after = told(replace(batch, inputs={**batch.inputs, "ids": ids}))
    assert torch.equal(before[owner != 0], after[owner != 0])
    assert not torch.equal(before[owner == 0], after[owner == 0])
    alone = [told(source.batches(rows[[n]], np.random.default_rng(0))[0])[1] for n in range(count)]
    assert torch.cat(alone).sum() == pytest.approx(float(before.sum()), rel=1e-6)


def test_documents_of_which_the_base_knows_no_word(tiny_of: Folder, tmp_path: Path) -> None:
    """Of all of them: refused before anything is written. Of one: its batch asks for no token."""
    strange = [f"zzqx{n} yyqx{n}" for n in range(60)]
    keys = {"task.document": "line", "task.max_length": 16, "train.max_steps": 2,
            "train.batch_size": 1, "evaluate.bootstrap": 100, "base": str(tiny_of("bert")),
            "data.test_fraction": 0.4, "objective": "nsp", "data.similarity": 0}  # fmt: skip
    (tmp_path / "lines.txt").write_text("\n".join(strange))
    with pytest.raises(DataError, match=r"knows no word of the documents of train \(such as “zzqx"):
        warmstart.pretrain(tmp_path / "lines.txt", out=tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()
    vocabulary = sorted(AutoTokenizer.from_pretrained(tiny_of("bert")).get_vocab())
    words = [word for word in vocabulary if word.isascii() and word.isalpha()][:20]
    some = [" ".join([*words[n % 7 :], *words[: n % 5], *words[: n % 3], f"zz{n}"])
            for n in range(60)]  # fmt: skip
    (tmp_path / "lines.txt").write_text("\n".join([*strange, *some]))
    run = warmstart.pretrain(tmp_path / "lines.txt", out=tmp_path / "run", **keys)
    assert math.isfinite(run.metrics["loss"]["value"])
    model = AutoModelForMaskedLM.from_pretrained(tiny_of("bert"))
    with given_states(model, torch.zeros(1, 0, model.config.hidden_size)):
        assert model(input_ids=torch.zeros(1, 1, dtype=torch.long)).logits.shape[:2] == (1, 0)


def test_documents_that_are_too_long_are_dropped_with_a_reason(
    tiny_of: Folder, tmp_path: Path
) -> None:
    """Of the corpus and of those that are mixed in; where none is left, one line says so."""
    vocabulary = sorted(AutoTokenizer.from_pretrained(tiny_of("gpt2")).get_vocab())
    words = [word for word in vocabulary if word.isascii() and word.isalpha()][:5]
    lines = [" ".join(words[: 1 + i % 4] * (40 if i % 3 == 0 else 1)) + f" {i}" for i in range(60)]
    for name in ("main", "more"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} {line}" for line in lines))
    keys: dict[str, Any] = {
        "verb": "pretrain", "base": str(tiny_of("gpt2")), "task.long": "drop",
        "task.document": "line", "task.duplicates": "keep", "data.similarity": 0,
        "data.mixture": {"more": {"path": str(tmp_path / "more.txt"), "share": 0.3}},
    }  # fmt: skip
    facts = warmstart.plan(tmp_path / "main.txt", **{**keys, "task.max_length": 30})
    dropped = facts["ledger"]["dropped"]["longer than 30 tokens (task.long is drop)"]
    assert dropped["rows"] == 40 and facts["ledger"]["rows"]["dropped"] == 40
    assert not any("are cut" in note["message"] for note in facts["ledger"]["notes"])
    (tmp_path / "long.txt").write_text("\n".join(lines[::3]))
    with pytest.raises(DataError, match=r"left out: longer than 30 tokens"):
        warmstart.plan(tmp_path / "long.txt", **{**keys, "task.max_length": 30})


def test_corpora_are_mixed_and_measured(tiny_of: Folder, tmp_path: Path) -> None:
    """By tokens, each in the ledger; no document that one corpus holds out is learned from another;
    what each gained or lost stands in the report."""
    main, general = write_corpus(tmp_path / "main"), write_corpus(tmp_path / "general", 40, 1)
    more = [json.dumps({"body": file.read_text()}) for file in sorted(general.glob("*.txt"))]
    (tmp_path / "more.jsonl").write_text("\n".join(more[::-1]))
    keys = {**FAST, "data.test_fraction": 0.2, "forgetting.text": str(general),
            "forgetting.rehearsal": 0.25, "train.learning_rate": 1e-3}  # fmt: skip
    for key in ("layers", "hidden_size", "heads", "vocabulary_size"):
        keys.pop(key)
    run = warmstart.pretrain(main, base=str(tiny_of("gpt2")), out=tmp_path / "run", **keys)
    (note,) = (n for n in run.ledger["notes"] if n["kind"] == "mixture")
    share = note["used"] / (note["used"] + run.facts["tokens"]["train"] - note["tokens"])
    assert abs(share - 0.25) < 0.01 and "(25% of all)" in note["message"]
    figures = run.metrics["forgetting"]["corpora"]
    assert list(figures) == ["test", "general"]
    for name, own in figures.items():
        before, after = (own[when]["bits_per_byte"]["value"] for when in ("before", "after"))
        assert own["difference"]["difference"] == pytest.approx(after - before, abs=1e-4), name
    mine = run.metrics["bits_per_byte"]["value"]
    assert figures["test"]["after"]["bits_per_byte"]["value"] == pytest.approx(mine, abs=1e-5)
    assert "Gained and forgotten" in run.report.read_text()
    (row,) = run.facts["history"]
    assert row["validation_score"] == pytest.approx(-row["validation_loss"])
    assert "Minus the loss" not in run.report.read_text()  # which stands there without its sign
    likeliest = run.metrics["baselines"][0]["token_accuracy"]["value"]
    assert 0 < likeliest < 1  # the share of the commonest token
    again = warmstart.evaluate(run.path, main)
    assert any("trained on" in note for note in again["notes"]), again["notes"]
    assert "held-out" not in again["verdict"]
    recipe = (run.path / "recipe.toml").rename(tmp_path / "recipe.toml")
    assert warmstart.evaluate(run.path, main)["loss"] == again["loss"]  # none is needed
    recipe.rename(run.path / "recipe.toml")
    assert not any("trained on" in note for note in warmstart.evaluate(run.path, general)["notes"])
    # as of a flag: --data.mixture.again.share 0.5
    mixture = {"again": {"path": str(tmp_path / "more.jsonl"), "share": "0.5", "text": "body"}}
    plan = warmstart.plan(
        general, verb="pretrain", **{**keys, "base": str(tiny_of("gpt2")), "data.mixture": mixture,
                    "forgetting.text": str(main), "forgetting.rehearsal": 0.1},
    )  # fmt: skip
    reasons = plan["ledger"]["dropped"]
    assert reasons["another corpus holds it out, or nearly"]["rows"] >= 8
    names = [n["message"].split(":")[0] for n in plan["ledger"]["notes"] if n["kind"] == "mixture"]
    assert names == ["corpus again", "corpus general"]


@pytest.mark.parametrize(
    ("mixture", "reason"),
    [
        ({"a": {"path": "x", "share": 1}}, "share = 1: give a share from 0 to below 1"),
        ({"a": {"path": "x", "shore": 0.1}}, "a: unknown key 'shore'. Did you mean 'share'"),
        ({"a": {"share": 0.1}}, "a names no path"),
        ({"a": {"path": "x"}}, "a has no share"),
        ({"a": {"path": "x", "share": "much"}}, "share = much: give a share from 0 to below 1"),
        ({"a": {"path": "x", "share": 0.6}, "b": {"path": "x", "share": 0.5}}, "1 or more"),
        ({"general": {"path": "x", "share": 0.1}}, "two general texts"),
    ],
)  # fmt: skip
def test_mixtures_that_cannot_be(
    corpus: Path, mixture: dict[str, Any], reason: str, tiny_of: Folder
) -> None:
    keys = {"data.mixture": mixture, "forgetting.text": "x", "forgetting.rehearsal": 0.1}
    with pytest.raises(RecipeError, match=reason):
        warmstart.plan(corpus, verb="pretrain", base=str(tiny_of("gpt2")), **keys)
    if reason == "two general texts":
        with pytest.raises(RecipeError, match="for task classification"):
            warmstart.plan(labelled(), **{"data.mixture": mixture})


def test_the_decay_has_a_mixture_of_its_own(tiny_of: Folder, tmp_path: Path) -> None:
    """Its shares hold from the step at which the learning rate goes down, and from any step on the
    rows are those of the whole run."""
    main, more = write_corpus(tmp_path / "main", 40), write_corpus(tmp_path / "more", 40, 1)
    keys: dict[str, Any] = {
        "task": "language_model", "objective": "clm", "base": str(tiny_of("gpt2")),
        "data.path": str(main), "task.max_length": 16, "train.batch_tokens": 200,
        "train.epochs": 2, "train.decay": 0.3, "train.schedule": "wsd",
        "data.mixture": {"more": {"path": str(more), "share": 0.1}},
        "data.decay_mixture": {"more": {"share": 0.8}},
    }  # fmt: skip
    prepared = prepare(Recipe.of(keys))
    notes = [n["message"] for n in prepared.ledger.notes if n["kind"] == "mixture"]
    assert "(10% of all)" in notes[0] and "only measured" not in notes[0]
    late = dict(
        keys,
        **{"data.mixture": {}, "data.decay_mixture": {"more": {"path": str(more), "share": 0.8}}},
    )
    first = prepare(Recipe.of(late)).ledger.notes
    assert any("learned in the last steps alone (80% of" in n["message"] for n in first)
    assert "the last 30% of the steps" in notes[1] and "80% more, and 20% of" in notes[1]
    source = Session.begin(prepared).source("train")
    first = len(prepared.splits.train)
    of_row = np.asarray(prepared.stores["train"].of_row)

    def steps(done: Position) -> list[tuple[Position, np.ndarray]]:
        rng = np.random.default_rng(0)
        return [(planned.after, np.concatenate([b.rows for b in planned.batches(rng)]))
                for planned in source.steps(done)]  # fmt: skip

    whole = steps(Position())
    late = round(0.3 * len(whole))
    assert late > 4
    for part, share in ((whole[:-late], 0.1), (whole[-late:], 0.8)):
        rows = np.concatenate([rows for _, rows in part])
        sizes = prepared.stores["train"].lengths[rows]
        assert abs(sizes[of_row[rows] >= first].sum() / sizes.sum() - share) < 0.06
    for number in (3, len(whole) - late, len(whole) - 2):
        again = steps(whole[number - 1][0])
        assert all((a[1] == b[1]).all() for a, b in zip(again, whole[number:], strict=True))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"train.schedule": "cosine"}, "take --train.schedule wsd"),
        ({"data.mixture": {"b": {"path": "y", "share": 0.1}}}, "give its share alone"),
        ({"data.decay_mixture": {"b": {"share": 0.1}}}, "b names no path"),
        ({"forgetting.text": "x", "forgetting.rehearsal": 0.6}, "1 or more"),
    ],
)  # fmt: skip
def test_mixtures_of_the_decay_that_cannot_be(
    corpus: Path, keys: dict[str, Any], reason: str, tiny_of: Folder
) -> None:
    usual = {"data.decay_mixture": {"b": {"path": "x", "share": 0.5}}, "train.schedule": "wsd"}
    with pytest.raises(RecipeError, match=reason):
        warmstart.plan(corpus, verb="pretrain", base=str(tiny_of("gpt2")), **{**usual, **keys})


DEATHS: dict[str, tuple[dict[str, Any], list[dict[str, int]]]] = {
    "gpt2": (
        {
            "task.documents": "joined",
            "forgetting.text": "other",
            "forgetting.rehearsal": 0.2,
            "train.schedule": "wsd",
            "train.decay": 0.4,
            "data.decay_mixture": {"late": {"path": "other", "share": 0.5}},
        },
        [{"step": 3}, {"save": 16}, {"step": 19}],
    ),
    "bert": ({"train.optimizer": "muon", "objective.unit": "span"}, [{"step": 17}]),
}


@pytest.mark.parametrize("family", DEATHS)
def test_killed_also_in_the_second_pass_and_twice(
    family: str, tiny_of: Folder, corpus: Path, job: Job, tmp_path: Path
) -> None:
    """The weights of the run are those of one that nothing happened to."""
    more, deaths = DEATHS[family]
    if "forgetting.text" in more:
        late = str(write_corpus(tmp_path / "late", 12, 9))
        more = more | {"forgetting.text": str(write_corpus(tmp_path / "other", 20, 7)),
                       "data.decay_mixture": {"late": {"path": late, "share": 0.5}}}  # fmt: skip
    keys: dict[str, Any] = {
        "base": str(tiny_of(family)), "task": {"name": "language_model"},
        "objective": {"name": "clm" if family == "gpt2" else "mlm"}, "task.max_length": 32,
        "train.epochs": 2, "train.batch_tokens": 200, "train.checkpoint_seconds": 0,
        "train.guard": True, "train.validate_every": 4, "evaluate.bootstrap": 100,
        "train.learning_rate": 1e-3, **more,
    }  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert job(data=corpus, out=whole, keys=keys) == 0
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    second = next(line["step"] for line in lines if line["epoch"] > 1 and "loss" in line)
    assert second <= 16 < lines[-1]["step"], "the deaths are not where they should be"
    for number, moment in enumerate(deaths):
        status = job(data=corpus, out=broken, keys=keys, die=moment, resume=number > 0)
        assert status == -signal.SIGKILL
    assert job(out=broken, resume=True) == 0
    (ours,), (theirs,) = ((run / "model").glob("*.safetensors") for run in (broken, whole))
    assert ours.read_bytes() == theirs.read_bytes()
    assert Run(broken).metrics["loss"] == Run(whole).metrics["loss"]
    if family == "bert":
        held = json.loads((whole / "optimizer.json").read_text())
        assert not any("embedding" in name or "cls." in name for name in held["muon"])
        assert all("weight" in name for name in held["muon"]) and held["muon"]


def test_a_corpus_is_tokenised_once(
    tiny_of: Folder, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept on disk, mapped into memory, and read again as it was, what was cut included."""
    monkeypatch.setattr(shards, "LEAST", 1)
    keys = {"base": str(tiny_of("gpt2")), "task.max_length": 16, "task.long": "crop"}
    first = warmstart.plan(corpus, verb="pretrain", **keys)
    monkeypatch.setattr(
        "warmstart.tasks.language_model.document_windows", lambda *_, **__: pytest.fail("again")
    )
    again = warmstart.plan(corpus, verb="pretrain", **keys)
    assert again["tokens"] == first["tokens"] and again["ledger"] == first["ledger"]
    assert first["ledger"]["tokens"]["train"]["cut"] > 0


def test_shards_are_mapped_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    store = shards.TokenizedDataset(
        np.arange(shards.LEAST + 1, dtype=np.uint32), np.array([0, 5, shards.LEAST + 1]),
        np.zeros(2, np.float32), of_row=np.array([0, 3]),
    )  # fmt: skip
    cuts: list[tuple[int, int]] = []

    def make(on_cut: Any) -> Any:
        on_cut(1, 7)
        return store

    def hear(row: int, tokens: int) -> None:
        cuts.append((row, tokens))

    for _ in range(2):
        opened = shards.kept_windows(tmp_path / "kept", hear, make)
        assert isinstance(opened.ids, np.memmap) and (opened.ids == store.ids).all()
        assert (opened.offsets == store.offsets).all() and (opened.of_row == store.of_row).all()
    assert cuts == [(1, 7), (1, 7)]
    ids = tmp_path / "kept" / "ids"
    ids.write_bytes(ids.read_bytes()[:-9])
    with pytest.raises(shards.DataError, match="are damaged .* delete the folder"):
        shards.kept_windows(tmp_path / "kept", hear, make)


@pytest.mark.slow
def test_tiny_shakespeare(shared_data: Path, tmp_path: Path) -> None:
    """nanoGPT's configuration for a laptop: 4 layers, 4 heads, 128 wide, context 64, 1,600 steps of
    12 windows; after 2,000 its README has 1.88 nats a character."""
    run = warmstart.pretrain(
        shared_data / "corpus" / "tinyshakespeare" / "input.txt", architecture="gpt2", size="nano",
        out=tmp_path / "run", **{
            "tokenizer": "char", "scratch.dropout": 0, "task.max_length": 64,
            "train.max_steps": 1600, "train.batch_size": 12, "data.validation_fraction": 0,
            "data.test_fraction": 0.1,
        },
    )  # fmt: skip
    assert run.metrics["loss"]["value"] <= 1.90
