"""General text learned along, and weights held near the base's: against plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import base_of, classifier, fit, messages, ready, source_of, store_of, weights_of
from tiny import tiny, tiny_tokenizer
from warmstart.config.recipe import Recipe
from warmstart.errors import DataError, RecipeError
from warmstart.models import loading as backbone
from warmstart.models.heads import TEXT
from warmstart.models.hf_calls import quiet
from warmstart.training.loop import compute_gradients
from warmstart.training.regularization.language_model import Reader, reader_for
from warmstart.training.regularization.regularizer import (
    Penalty,
    Regularizer,
    base_weights,
    fisher,
)
from warmstart.training.regularization.text import SHIPPED, halves, passages, read_general, shipped

Folder = Callable[[str], Path]
TEXTS = [" ".join(messages(3, seed)[0]) for seed in range(12)]


def whole(family: str, folder: Path) -> Path:
    """A tiny model of a family with its language-model head."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(tiny(family, folder))
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(1)
        lm = AutoModelForMaskedLM.from_config(config)
        torch.nn.init.normal_(lm.get_output_embeddings().bias)
        lm.save_pretrained(folder)
        tiny_tokenizer(family).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole("bert", tmp_path_factory.mktemp("lm") / "bert")


def reading(folder: Path, model: Any) -> Reader:
    return reader_for(base_of(folder), model, backbone.load_tokenizer(base_of(folder)),
                      writes=False)  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_with_a_language_model_head_a_text_is_told_as_transformers_does(
    family: str, tiny_of: Folder
) -> None:
    """The sum over a padded batch is transformers' own loss of each passage alone."""
    folder = tiny_of(family)
    reader = reading(folder, classifier(folder))
    assert reader.lm is not None
    pieces = reader.pieces(TEXTS[:4])
    nll, tokens = reader.nll(pieces)
    lm = backbone.load_headed(base_of(folder), TEXT, [], seed=0)
    for at, piece in enumerate(pieces):
        ids, said = torch.tensor(piece.ids)[None], torch.tensor(piece.targets)[None]
        labels = said if family in ("t5", "bart") else ids
        assert int(tokens[at]) == (labels.numel() if labels is said else labels.numel() - 1)
        loss = lm(input_ids=ids, labels=labels).loss  # a decoder's labels it shifts itself
        assert torch.allclose(nll[at] / tokens[at], loss, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_an_encoder_tells_masked_tokens_where_its_checkpoint_can(
    family: str, tmp_path: Path, tiny_of: Folder
) -> None:
    from transformers import AutoModelForMaskedLM

    folder = whole(family, tmp_path / family)
    reader = reading(folder, classifier(folder))
    assert reader.lm is not None
    assert reading(tiny_of(family), classifier(tiny_of(family))).lm is None
    (piece,) = reader.pieces(TEXTS[:1])
    hidden = piece.targets != -100
    assert hidden.sum() == round(0.15 * (len(piece.ids) - 2))
    assert set(piece.ids[hidden]) == {reader.tokenizer.mask_token_id}
    lm: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    loss = lm(
        input_ids=torch.tensor(piece.ids)[None], labels=torch.tensor(piece.targets)[None]
    ).loss
    nll, tokens = reader.nll([piece])
    assert torch.allclose(nll / tokens, loss, atol=1e-5)


def test_states_are_means_over_the_tokens_whatever_the_padding(tiny_of: Folder) -> None:
    model = classifier(tiny_of("bert"))
    reader = reading(tiny_of("bert"), model)
    pieces = reader.pieces(TEXTS[:3])
    together = reader.states(pieces)
    for at, piece in enumerate(pieces):
        alone = model.bert(torch.tensor(piece.ids)[None]).last_hidden_state.mean(1)
        assert torch.allclose(together[at], alone[0], atol=1e-5)


def kept(folder: Path, model: Any, compute: Any, **settings: Any) -> Regularizer:
    reader = reading(folder, model)
    return Regularizer(compute, reader, reader.pieces(TEXTS), **settings)


@pytest.mark.parametrize("rehearsal", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("rows", [[8] * 20, [7, 16, 3, 16, 1, 12] * 4])
def test_the_share_of_general_text_is_exact(
    rehearsal: float, rows: list[int], tiny_of: Folder
) -> None:
    """After every step, to within half a passage; and each pass over the text is whole."""
    model = classifier(tiny_of("gpt2"))
    keeper = kept(tiny_of("gpt2"), model, ready(model), replay=rehearsal)
    keeper.plan(rows, seed=3)
    chosen: list[int] = []
    for index, own in enumerate(rows):
        now = keeper.passages(index)
        assert keeper.share(index) == own / (own + len(now))
        chosen += now
        done = sum(rows[: index + 1])
        assert abs(len(chosen) - done * rehearsal / (1 - rehearsal)) <= 0.5
    for begin in range(0, len(chosen) - len(TEXTS) + 1, len(TEXTS)):
        assert sorted(chosen[begin : begin + len(TEXTS)]) == list(range(len(TEXTS)))


WAYS = [
    ("bert", True, torch.float32), ("bert", True, torch.bfloat16), ("bert", False, torch.float32),
    ("gpt2", True, torch.float32), ("bert_lm", True, torch.float32),
    ("bert_lm", True, torch.bfloat16), ("t5", True, torch.float32),
]  # fmt: skip


@pytest.mark.parametrize(("which", "quick", "dtype"), WAYS)
@pytest.mark.parametrize("penalty", ["none", "l2_sp", "ewc"])
def test_the_gradient_of_a_step_is_that_of_the_whole_loss(
    which: str, quick: bool, dtype: torch.dtype, penalty: str, tiny_of: Folder, bert_lm: Path
) -> None:
    """Micro-batches, 16-bit copies and gradients with a home included: as autograd of the sum."""

    folder = bert_lm if which == "bert_lm" else tiny_of(which)
    model, plain = classifier(folder), classifier(folder)
    compute = ready(model, dtype, fast=quick)
    weights, twins = base_weights(model, writes=False), base_weights(plain, writes=False)
    important = fisher(reading(folder, plain), twins, TEXTS, 0) if penalty == "ewc" else {}
    held = None
    if penalty != "none":
        held = Penalty(list(weights.values()), 0.7, list(important.values()))
    keeper = kept(folder, model, compute, replay=0.4, penalty=held)
    keeper.plan([6], seed=0)
    reference = kept(folder, plain, compute, replay=0.4)
    reference.plan([6], seed=0)
    starts = {name: weight.detach().clone() for name, weight in twins.items()}
    rng = torch.Generator().manual_seed(0)
    for (name, one), other in zip(weights.items(), twins.values(), strict=True):
        step = 0.02 * torch.randn(one.shape, generator=rng)
        one.data.add_(step)
        other.data.add_(step)
        assert one.shape == starts[name].shape
    compute.refresh()
    store, pad = store_of(folder, *messages(6))
    source = source_of(store, compute, pad, micro_batch_tokens=40)
    batches = source.batches(np.arange(6), np.random.default_rng(0))
    mean, _, _ = compute_gradients(source.objective, compute, batches, keeper.share(0))
    keeper.add(0)

    chosen = keeper.passages(0)
    assert len(chosen) == 4 and keeper.share(0) == 0.6
    slow = ready(plain, fast=False)
    (batch,) = source_of(store, slow, pad).batches(np.arange(6), np.random.default_rng(0))
    logits: Any = slow.forward(batch)
    task = torch.nn.functional.cross_entropy(logits, batch.targets)
    plain.eval()
    pieces = [reference.learned[at] for at in chosen]
    reader = reference.reader
    if reader.lm is not None:
        nll, tokens = reader.nll(pieces)
        general = nll.sum() / tokens.sum()
    else:
        assert reader is not None
        known = torch.stack([keeper.known[at] for at in chosen])
        general = (reader.states(pieces) - known).square().sum(1).mean() / keeper.spread
        assert general > 1e-6
    loss = 0.6 * task + 0.4 * general
    for name, weight in twins.items():
        if held is not None:
            factor = important.get(name, torch.tensor(1.0))
            loss = loss + 0.35 * (factor * (weight - starts[name]) ** 2).sum()
    loss.backward()
    low = dtype != torch.float32
    assert torch.allclose(mean, task, atol=0.05 if low else 1e-5)
    ours, theirs = list[torch.Tensor](), list[torch.Tensor]()
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if one.grad is None:
            assert other.grad is None or float(other.grad.abs().max()) < 1e-6, name
            continue
        assert other.grad is not None
        size = max(float(other.grad.norm()), 1e-3)
        assert low or float((one.grad - other.grad).norm()) <= 1e-4 * size, name
        ours.append(one.grad.flatten())
        theirs.append(other.grad.flatten())
    assert len(ours) > 10
    gap = torch.cat(ours) - torch.cat(theirs)
    assert float(gap.norm()) <= 0.03 * float(torch.cat(theirs).norm())
    compute.after_step()
    for weight in model.parameters():
        owned = getattr(compute, "_mixed_precision", None)
        if weight.grad is not None and not (owned and owned.owns(weight)):
            assert not weight.grad.any()


@pytest.mark.parametrize("which", ["gpt2", "bert"])
def test_fisher_information_against_its_definition(which: str, tiny_of: Folder) -> None:
    """gpt2: mean squares of gradients, passage by passage. bert: J'J of the mean state."""
    folder = tiny_of(which)
    model = classifier(folder)
    reader = reading(folder, model)
    weights = base_weights(model, writes=False)
    assert not any("score" in name or "classifier" in name for name in weights)
    name = next(n for n in weights if n.endswith(("ln_f.weight", "1.output.LayerNorm.bias")))
    texts = TEXTS[:2] if which == "gpt2" else [TEXTS[0]] * 100
    found = fisher(reader, weights, texts, seed=0)
    count = sum(values.numel() for values in found.values())
    assert sum(float(values.sum()) for values in found.values()) / count == pytest.approx(1)
    assert all(weight.grad is None for weight in weights.values())
    model.eval()
    expected = torch.zeros_like(weights[name])
    if which == "gpt2":
        for piece in reader.pieces(texts):
            assert reader.lm is not None
            (slope,) = torch.autograd.grad(reader.nll([piece])[0].sum(), [weights[name]])
            expected += slope**2
        tolerance = 1e-4
    else:
        states = reader.states(reader.pieces(texts[:1]))[0]
        for state in states:
            expected += torch.autograd.grad(state, [weights[name]], retain_graph=True)[0] ** 2
        tolerance = 0.5  # of random signs
    one, other = found[name] / found[name].mean(), expected / expected.mean()
    assert torch.allclose(one, other, rtol=tolerance, atol=1e-4)


def test_a_penalty_holds_and_rehearsal_keeps(tiny_of: Folder, tmp_path: Path) -> None:
    """The stronger the penalty, the nearer the end to the start; unset, all is as it was."""
    folder = tiny_of("gpt2")

    def trained(out: str, **settings: Any) -> tuple[float, dict[str, torch.Tensor]]:
        run = fit(folder, tmp_path / out, rows=24, epochs=2, keep="last")
        if settings:
            weights = list(base_weights(run.model, writes=False).values())
            strength = settings.pop("strength", None)
            held = Penalty(weights, strength) if strength else None
            run.regularizer = kept(folder, run.model, run.forward, penalty=held, **settings)
            run.regularizer.plan([8] * run.total, 0)
        start = weights_of(run.model)
        run.run()
        final = weights_of(run.model)
        gap = sum(float((final[n] - start[n]).square().sum()) for n in base_weights(
            run.model, writes=False))  # fmt: skip
        return gap, final

    free, plain = trained("a")
    _, empty = trained("b", replay=0.0)
    assert all(torch.equal(plain[name], empty[name]) for name in plain)
    weak, _ = trained("c", strength=0.1)
    strong, _ = trained("d", strength=100.0)
    assert strong < weak < free
    _, along = trained("e", replay=0.5)
    assert any(not torch.equal(plain[name], along[name]) for name in plain)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"forgetting.rehearsal": 0.2}, "--forgetting.text"),
        ({"forgetting.penalty": "ewc"}, "--forgetting.text"),
        ({"forgetting.penalty": "l2_sp", "method": "frozen"}, "nothing can be forgotten"),
        ({"forgetting.penalty": "l2_sp", "method": "prompt_tuning"}, "nothing can be forgotten"),
        ({"forgetting.penalty": "l2_sp", "method": "lora"}, "weight_decay"),
        ({"forgetting.rehearsal": 0.95, "forgetting.text": "a"}, "forgetting.rehearsal"),
        ({"forgetting.penalti": "l2_sp"}, "forgetting.penalty"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.of(keys)


@pytest.mark.parametrize("method", ["full", "partial", "bitfit", "layernorm"])
def test_what_moves_the_bases_weights_may_be_held(method: str) -> None:
    assert Recipe.of({"forgetting.penalty": "l2_sp", "method": method}).forgetting.acts
    assert Recipe.of(
        {"forgetting.text": "a", "forgetting.rehearsal": 0.2, "method": "lora"}
    ).forgetting.acts


def test_passages_are_cut_between_words_and_held_out(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(8000)]
    found = list(passages([(" ".join(words[:5]), "a"), (" ".join(words[5:]) + "\n", "a")]))
    assert " ".join(found).split() == words and max(map(len, found)) <= 400
    assert "".join(passages([("漢" * 1000, "a")])) == "漢" * 1000
    path = tmp_path / "general.txt"
    path.write_text("\n".join(" ".join(words[at : at + 9]) for at in range(0, 8000, 9)))
    general = read_general(str(path))
    assert not set(general.held) & set(general.learned)
    assert len(general.held) == (len(general.held) + len(general.learned)) // 5
    assert f"{len(general.held)} of them" in general.note
    assert read_general(str(path)).fingerprint == general.fingerprint
    path.write_text("Only a little.\n")
    with pytest.raises(DataError, match="at least 50"):
        read_general(str(path))
    with pytest.raises(DataError):
        read_general(str(tmp_path / "nothing.txt"))


def test_halves_meet_at_a_sentence_and_nothing_is_lost() -> None:
    for text in [*shipped().held, "one two three four", "x" * 9]:
        one, other = halves(text)
        assert one and other and "".join((one + other).split()) == "".join(text.split())
    assert halves("A b c d e f. G h i j k l.") == ("A b c d e f.", "G h i j k l.")
    assert len(shipped().held) == len(SHIPPED.read_text().splitlines()) >= 150
    assert len(set(shipped().held)) == len(shipped().held)
