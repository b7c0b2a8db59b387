"""Tokens are hidden as for BERT, and what is lost on them is what transformers says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from learning import CPU, base_of, messages, store_of
from pretraining import documents, tokenizer_folder
from warmstart.models.fast.forward import forward_for
from warmstart.models.forward import Forward
from warmstart.models.loading import load_masked, load_tokenizer
from warmstart.objectives.mlm import MLM, choose_words
from warmstart.training.datasets import TokenRows
from warmstart.training.loop import compute_gradients

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlm")


def objective_for(tokenizer: Any, **settings: Any) -> MLM:
    objective = MLM(**settings)
    size = SimpleNamespace(config=SimpleNamespace(vocab_size=len(tokenizer)))
    setting: Any = SimpleNamespace(tokenizer=tokenizer, model=size)
    objective.setup(setting)
    return objective


def tokenizer_of(architecture: str, folder: Path, size: int = 320) -> Any:
    from transformers import AutoTokenizer

    place = folder / f"{architecture}-{size}"
    return AutoTokenizer.from_pretrained(tokenizer_folder(architecture, place, size))


def mixed_rows(tokenizer: Any, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary and special tokens of all kinds, in rows of unequal length."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, len(tokenizer), (rows, length))
    lengths = rng.integers(length // 2, length + 1, rows)
    ids[:, 0] = tokenizer.cls_token_id
    ids[np.arange(rows), lengths - 1] = tokenizer.sep_token_id
    ids[np.arange(length) >= lengths[:, None]] = tokenizer.pad_token_id
    return ids, lengths


def within(count: float, total: float, share: float) -> None:
    """A share that is a chance of so many draws, within three standard deviations."""
    assert abs(count / total - share) <= 3 * math.sqrt(share * (1 - share) / total)


@pytest.mark.parametrize("unit", ["token", "word"])
def test_of_a_million_tokens_the_hidden_ones_are_80_10_10(unit: str, folder: Path) -> None:
    """Trap 51: no special token is chosen, hidden or drawn; all others are."""
    tokenizer = tokenizer_of("bert", folder)
    objective = objective_for(tokenizer, unit=unit)
    ids, lengths = mixed_rows(tokenizer, 2_600 if unit == "word" else 5_200, 260)
    hidden, chosen = objective.masked(ids, lengths, np.random.default_rng(1), np.arange(len(ids)))
    special = [*tokenizer.all_special_ids]
    open_ = ~np.isin(ids, special)
    if unit == "token":
        assert open_.sum() > 950_000
    assert not chosen[~open_].any() and (hidden[~chosen] == ids[~chosen]).all()
    total, mask = chosen.sum(), hidden[chosen] == tokenizer.mask_token_id
    assert total / open_.sum() == pytest.approx(0.15, abs=0.002)
    same = hidden[chosen] == ids[chosen]
    ordinary = len(tokenizer) - len(special)
    within(mask.sum(), total, 0.8)
    within(same.sum(), total, 0.1 + 0.1 / ordinary)  # a token may be drawn in its own place
    drawn = hidden[chosen][~mask & ~same]
    within(len(drawn), total, 0.1 * (1 - 1 / ordinary))
    assert not np.isin(drawn, special).any()
    if unit == "token":
        counts = np.bincount(drawn, minlength=len(tokenizer))
        assert (counts[[i for i in range(len(tokenizer)) if i not in special]] > 0).all()


def test_the_shares_are_those_of_the_collator_of_transformers(folder: Path) -> None:
    from transformers import DataCollatorForLanguageModeling

    tokenizer = tokenizer_of("bert", folder)
    ids, lengths = mixed_rows(tokenizer, 600, 120)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3, seed=0)
    made = collate([{"input_ids": row.tolist()} for row in ids])
    objective = objective_for(tokenizer, share=0.3)
    ours = objective.masked(ids, lengths, np.random.default_rng(3), np.arange(600))
    theirs = made["input_ids"].numpy(), made["labels"].numpy() != -100
    open_ = ~np.isin(ids, tokenizer.all_special_ids)

    def shares(hidden: np.ndarray, chosen: np.ndarray) -> list[float]:
        fate = hidden[chosen]
        return [chosen[open_].mean(), (fate == tokenizer.mask_token_id).mean(),
                (fate == ids[chosen]).mean(), chosen[~open_].mean()]  # fmt: skip

    assert shares(*ours) == pytest.approx(shares(*theirs), abs=0.015)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
def test_words_are_whole(architecture: str, folder: Path) -> None:
    """WordPiece, byte-level BPE and Unigram, by the tokenizer's offsets: letters and digits that
    stand together in the text are one word."""
    tokenizer = tokenizer_of(architecture, folder, 120 if architecture == "bert" else 320)
    words = objective_for(tokenizer)._words
    several = 0
    texts = documents(60, seed=5)
    if architecture == "roberta":  # others know no such letter
        texts.append("größer naïve Ünïcode, 中文\tx 42nd\n\nend")
    for text in texts:
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        starts = words.word_starts(np.array(encoding.ids))
        for word in re.finditer(r"[^\W_]+", text):
            inside = [i for i, (a, b) in enumerate(encoding.offsets)
                      if a < word.end() and b > word.start() and text[a:b].strip()]  # fmt: skip
            assert not starts[inside[1:]].any(), (word[0], encoding.tokens)
            several += len(inside) > 1
        assert starts.sum() >= len(text.split()), "and every word begins one"
    assert several > 100


def test_a_hash_in_the_vocabulary_makes_no_wordpiece_of_bytes() -> None:
    """RoBERTa's vocabulary has ## and ####."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<mask>", "##", "\u0120a", "b", "c", "."]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", mask_token="<mask>"
    )
    starts = objective_for(tokenizer)._words.word_starts(np.array([3, 4, 5, 6, 3, 4, 2]))
    assert starts.tolist() == [True, False, False, True, True, False, True]


@pytest.mark.parametrize("share", [0.15, 0.3])
@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_the_share_is_exact(architecture: str, unit: str, share: float, folder: Path) -> None:
    """Also where what is hidden together is long; and nothing is hidden in part."""
    tokenizer = tokenizer_of(architecture, folder)
    words = objective_for(tokenizer)._words
    rng, hidden, tokens = np.random.default_rng(0), 0, 0
    for text in documents(200, seed=7):
        ids = np.array(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
        open_, starts = words.maskable[ids], words.word_starts(ids)
        chosen, fate = choose_words(starts, open_, share, rng, spans=unit == "span")
        assert chosen.any()
        for word in np.split(np.arange(len(ids)), np.flatnonzero(starts[1:]) + 1):
            assert chosen[word].all() or not chosen[word].any()
            assert len(set(fate[word])) == 1
        if len(ids) > 40:
            hidden, tokens = hidden + chosen.sum(), tokens + open_.sum()
    assert hidden / tokens == pytest.approx(share, abs=0.005)


def test_spans_are_those_of_spanbert() -> None:
    """Geometric with 0.2 and at most 10 words (3.8 in the mean): of one span a row; all its tokens
    become the mask, or others, or stay."""
    rng, sizes = np.random.default_rng(0), list[int]()
    for _ in range(6_000):
        starts = np.ones(400, bool)
        chosen, fate = choose_words(starts, starts, 0.15, rng, spans=True)
        by_fate = dict[float, int]()
        for value in fate[chosen].tolist():
            by_fate[value] = by_fate.get(value, 0) + 1
        sizes += [by_fate[float(value)] for value in fate[chosen][:1]]
        if len(sizes) >= 3_000:
            break
    expected = np.array([min(int(k), 10) for k in rng.geometric(0.2, 200_000)])
    # that a later span may meet an earlier one makes some shorter
    assert np.mean(sizes) == pytest.approx(expected.mean(), rel=0.12)
    assert max(sizes) == 10 and np.mean(np.array(sizes) == 1) == pytest.approx(0.2, abs=0.05)


def test_static_masks_stay_and_dynamic_ones_do_not(folder: Path) -> None:
    """In every pass, whatever rows and padding stand beside a row."""
    tokenizer = tokenizer_of("bert", folder)
    ids, lengths = mixed_rows(tokenizer, 6, 60)
    for unit in ("token", "word", "span"):
        for dynamic in (False, True):
            objective = objective_for(tokenizer, unit=unit, dynamic=dynamic)
            wide = np.pad(ids, ((0, 0), (0, 9)), constant_values=tokenizer.pad_token_id)
            first = objective.masked(ids, lengths, np.random.default_rng(0), np.arange(6))
            again = objective.masked(
                wide[2:], lengths[2:], np.random.default_rng(5), np.arange(2, 6)
            )
            same = (first[0][2:] == again[0][:, :60]).all() and not again[1][:, 60:].any()
            assert same != dynamic
            beside = objective.masked(
                wide[2:], lengths[2:], np.random.default_rng(0), np.arange(2, 6)
            )
            assert (first[0][2:] == beside[0][:, :60]).all()


def test_a_row_without_words_hides_nothing(folder: Path) -> None:
    tokenizer = tokenizer_of("bert", folder)
    ids = np.array([[tokenizer.cls_token_id, tokenizer.sep_token_id, 0]])
    for unit in ("token", "word", "span"):
        objective = objective_for(tokenizer, unit=unit)
        hidden, chosen = objective.masked(
            ids, np.array([2]), np.random.default_rng(0), np.arange(1)
        )
        assert not chosen.any() and (hidden == ids).all()


class Case:
    """A tiny masked-language model, its rows, and the objective, set up."""

    def __init__(self, folder: Path, share: float = 0.3) -> None:
        self.model: Any = load_masked(base_of(folder), seed=1)
        self.tokenizer: Any = load_tokenizer(base_of(folder))
        store, pad = store_of(folder, messages(9, seed=4)[0])
        self.rows = TokenRows(store, pad, CPU)
        self.forward = Forward(self.model)
        self.objective = MLM(share=share)
        setting: Any = SimpleNamespace(tokenizer=self.tokenizer, model=self.model)
        self.objective.setup(setting)

    def batch(self, rows: np.ndarray, seed: int = 0) -> Any:
        return self.objective.collate(self.rows, rows, np.random.default_rng(seed))


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_the_loss_is_that_of_transformers(family: str, tiny_of: Folder) -> None:
    """`BertForMaskedLM` with labels; the hits are those of its logits."""
    it = Case(tiny_of(family))
    batch = it.batch(np.arange(9))
    with it.forward.evaluating():
        loss = it.objective.loss(it.forward, batch)
    inputs, chosen = batch.inputs, batch.inputs["chosen"]
    labels = torch.full_like(inputs["ids"], -100)
    labels[chosen] = batch.targets[0]
    mask = (torch.arange(labels.shape[1]) < inputs["lengths"][:, None]).long()
    with torch.no_grad():
        theirs = it.model(input_ids=inputs["ids"], attention_mask=mask, labels=labels)
    assert float(loss.weight) == int(chosen.sum()) > 9
    assert float(loss.total / loss.weight) == pytest.approx(float(theirs.loss), rel=1e-5)
    hits = int((theirs.logits.argmax(-1) == labels).sum())
    assert int(loss.metrics["accuracy"]) == hits


def test_accumulation_is_exact(tiny_of: Folder) -> None:
    """Parts with unequally many hidden tokens add up to the whole."""
    it = Case(tiny_of("bert"))
    it.forward.without_dropout()
    batches = [it.batch(rows) for rows in (np.arange(2), np.arange(2, 9))]
    mean, weight, metrics = compute_gradients(it.objective, it.forward, batches)
    losses = [it.objective.loss(it.forward, batch) for batch in batches]
    assert float(weight) == sum(float(loss.weight) for loss in losses)
    total = sum(float(loss.total.detach()) for loss in losses)
    assert float(mean) == pytest.approx(total / float(weight), rel=1e-6)
    hits = sum(int(loss.metrics["accuracy"]) for loss in losses)
    assert float(metrics["accuracy"]) == pytest.approx(hits / float(weight))


def test_a_step_leaves_no_gradient_behind(tiny_of: Folder) -> None:
    """The output matrix is the embedding, so that every row of it has a gradient, of words that are
    in no text too: nothing of it may be left for the next step."""
    base = base_of(tiny_of("bert"))
    tokenizer = load_tokenizer(base)
    model: Any = load_masked(base, 0)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    forward = forward_for(model.requires_grad_(True))
    forward.prepare(torch.float32, CPU, checkpointing=False)
    objective = MLM()
    objective.setup(SimpleNamespace(tokenizer=tokenizer, model=model))  # pyright: ignore[reportArgumentType]
    store, pad = store_of(tiny_of("bert"), *messages(8))
    rows = TokenRows(store, pad, CPU)
    grads: list[torch.Tensor] = []
    for _ in range(2):
        forward.begin_step(0)
        batch = objective.collate(rows, np.arange(8), np.random.default_rng(0))
        compute_gradients(objective, forward, [batch])
        grads.append(model.get_input_embeddings().weight.grad.clone())
        forward.after_step()
    assert (grads[0].abs().sum(1) > 0).all()
    torch.testing.assert_close(*grads, rtol=0, atol=0)
