"""Texts and answers in batches, against the losses and the generation of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from learning import CPU, base_of, supervised
from warmstart import part as parts
from warmstart.models.checks import read_json
from warmstart.models.fast.forward import forward_for
from warmstart.models.heads import TEXT
from warmstart.models.loading import load_tokenizer
from warmstart.tasks.base import Examples
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import WrittenRows
from warmstart.training.settings import Train

Folder = Callable[[str], Path]
FAMILIES = ("t5", "bart", "pegasus", "gpt2", "llama")
SOURCES = ["the film was very good", "red", "i hated this poor book , it was awful", "late again !"]
TARGETS = ["good film", "one two three", "bad", "money back order late"]


def table(sources: Sequence[str] = SOURCES, targets: Sequence[str] | None = TARGETS) -> pa.Table:
    columns = {"source": pa.chunked_array([list(sources)])}
    if targets is not None:
        columns["target"] = pa.chunked_array([list(targets)])
    return pa.table(columns)


class Case:
    """A tiny model and the feed over its rows."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        settings = {"max_new_tokens": 6, **settings}
        made: Any = parts.make("task", "text2text", settings)
        self.task = made.resolve_for_base(read_json(folder / "config.json"), 60)
        self.tokenizer = load_tokenizer(base_of(folder))
        self.model: Any = self.task.build_model(base_of(folder), [], 0)
        self.sharpen()
        self.forward = forward_for(self.model)
        self.forward.prepare(torch.float32, CPU, checkpointing=False)

    @torch.no_grad()
    def sharpen(self) -> None:
        """Fresh weights hardly tell one token from another; here they do."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for weights in self.model.parameters():
                if weights.ndim > 1:
                    weights.normal_(0.0, 0.3)

    def rows(self, rows: pa.Table | None = None, **more: Any) -> WrittenRows:
        rows = table() if rows is None else rows
        store = self.task.encode(rows, [], self.tokenizer, 60)
        return WrittenRows(store, self.forward.language, self.tokenizer.pad_token_id, CPU, **more)

    def predict(self, rows: pa.Table | None = None, **more: Any) -> Any:
        return self.rows(rows, **more).predict(self.forward)

    def texts(self, rows: pa.Table, written: Any) -> list[str]:
        store = self.task.encode(rows, [], self.tokenizer, 60)
        found = self.task.decode(written, Examples(rows, store, [], self.tokenizer))
        return [one.value for one in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_transformers(family: str, tiny_of: Folder) -> None:
    it = Case(tiny_of(family))
    objective = supervised(TEXT)
    batch = objective.collate(it.rows(), np.arange(4), np.random.default_rng(0))
    with it.forward.evaluating():
        loss = objective.loss(it.forward, batch)
    total, weight = float(loss.total), float(loss.weight)
    sums = [their_loss(it, source, target) for source, target in zip(SOURCES, TARGETS, strict=True)]
    assert weight == sum(tokens for _, tokens in sums)
    assert total == pytest.approx(sum(nll for nll, _ in sums), rel=1e-5)
    said = it.predict()
    np.testing.assert_allclose(said.nll, [nll for nll, _ in sums], rtol=1e-5)
    assert said.tokens.tolist() == [tokens for _, tokens in sums]


def their_loss(it: Case, source: str, target: str) -> tuple[float, int]:
    """The loss of one row as the documentation of transformers computes it, and its tokens."""
    if it.task.separator is None:
        named = dict(it.tokenizer(it.task.prefix + source, return_tensors="pt"))
        named.pop("token_type_ids", None)
        named["labels"] = it.tokenizer(text_target=target, return_tensors="pt").input_ids
    else:
        end = it.tokenizer.eos_token_id
        prompt = it.tokenizer(source + it.task.separator).input_ids
        answer = [*it.tokenizer(" " + target).input_ids, end]
        named = {"input_ids": torch.tensor([prompt + answer])}
        named["labels"] = torch.tensor([[-100] * len(prompt) + answer])
    labels = named["labels"]
    with torch.no_grad():
        loss = it.model(**named).loss
    tokens = int((labels != -100).sum())
    return float(loss) * tokens, tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_written_is_what_transformers_writes(
    family: str, beams: int, tiny_of: Folder
) -> None:
    settings = {"length_penalty": 0.6} if beams > 1 else {}
    it = Case(
        tiny_of(family), num_beams=beams, min_new_tokens=2, no_repeat_ngram_size=2, **settings
    )
    rows = table(targets=None)
    found = it.texts(rows, it.predict(rows))
    theirs: list[str] = []
    for source in SOURCES:
        text = it.task.prefix + source + (it.task.separator or "")
        named = it.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            ids = it.model.generate(
                **named, num_beams=beams, min_new_tokens=2, max_new_tokens=6,
                no_repeat_ngram_size=2, do_sample=False, **settings,
            )[0]  # fmt: skip
        begin = 0 if it.task.separator is None else named["input_ids"].shape[1]
        theirs.append(it.tokenizer.decode(ids[begin:], skip_special_tokens=True).strip())
    assert found == theirs
    assert len(set(found)) > 1, "the texts depend on the sources"


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family: str, tiny_of: Folder) -> None:
    it = Case(tiny_of(family), num_beams=2)
    together = it.predict()
    for row in range(4):
        alone = it.predict(table(SOURCES[row : row + 1], TARGETS[row : row + 1]))
        assert alone.ids[0] == together.ids[row]
        assert alone.confidence[0] == pytest.approx(together.confidence[row], abs=1e-5)
        assert alone.nll[0] == pytest.approx(together.nll[row], rel=1e-5)


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "p_tuning", "lora"])
@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_padding_changes_nothing_behind_virtual_tokens(
    method: str, family: str, tiny_of: Folder
) -> None:
    it = Case(tiny_of(family))
    made: Any = parts.make("method", method)
    it.forward = forward_for(made.attach(it.model, 0))
    it.forward.prepare(torch.float32, CPU, checkpointing=False)
    together = it.predict()
    for row in range(4):
        alone = it.predict(table(SOURCES[row : row + 1], TARGETS[row : row + 1]))
        assert alone.ids[0] == together.ids[row]
        assert alone.nll[0] == pytest.approx(together.nll[row], rel=1e-4)


def test_confidence_is_the_mean_probability_of_what_was_written(tiny_of: Folder) -> None:
    it = Case(tiny_of("t5"))
    found = it.predict(table(SOURCES[:1], None))
    named = it.tokenizer(it.task.prefix + SOURCES[0], return_tensors="pt")
    written = torch.tensor([[0, *(found.ids[0] or [])]])
    with torch.no_grad():
        logits = it.model(input_ids=named.input_ids, decoder_input_ids=written[:, :-1]).logits
    sure = logits.softmax(-1)[0].gather(1, written[0, 1:, None]).mean()
    assert found.confidence[0] == pytest.approx(float(sure), rel=1e-5)
    assert not found.tokens.any() and not found.nll.any(), "there is no target"


def test_only_as_many_texts_are_written_as_asked_for(tiny_of: Folder) -> None:
    it = Case(tiny_of("gpt2"))
    found = it.predict(writes=2)
    assert [ids is not None for ids in found.ids] == [True, True, False, False]
    assert found.tokens.all(), "all targets are judged"
    nothing = it.predict(writes=0)
    assert nothing.ids == [None] * 4
    np.testing.assert_allclose(nothing.nll, found.nll)
    rows = it.rows(table(["a b"] * 6, ["c d e f"] * 6))
    assert rows.unit_count == 6, "a score is a mean over answers, not over their tokens"


def test_batches_are_of_about_one_length(tiny_of: Folder) -> None:
    it = Case(tiny_of("t5"))
    sources = ["red " * (1 + n % 7) for n in range(60)]
    rows = it.rows(table(sources, ["one " * (1 + n % 3) for n in range(60)]))
    epoch = BatchSource(rows, supervised(TEXT), Train(batch_tokens=64)).plan(0)
    assert sorted(np.concatenate(epoch).tolist()) == list(range(60))
    sizes = rows.sizes
    assert all(len(step) * sizes[step].max() <= 64 for step in epoch)
    padded = sum(len(step) * int(sizes[step].max()) for step in epoch)
    assert padded < 1.25 * sizes.sum()
