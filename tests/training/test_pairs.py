"""Two answers behind one prompt: computed once, as if each stood alone; and rated by a head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preferences import CPU, PAIRS, Aligned, decoder, store
from tiny import tiny
from warmstart.models.fast.pairs import answer_log_probs, pair_inputs, shares_prompts
from warmstart.models.forward import Forward
from warmstart.tasks.reward import set_padding
from warmstart.training.pairs import PairRows, RatedPairs

TOGETHER = 1e-5
"""Of sums of up to five log-probabilities of about -4; a wrong mask or position moves them by 0.1
and more."""


def grown(name: str, folder: Path, times: float = 8.0, **settings: Any) -> Any:
    """A tiny model whose weights are large enough that its tokens look at each other."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny(name, folder / name, **settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(times)
    return model


def log_probs(model: Any, *, shared: bool, pad: int = 0) -> torch.Tensor:
    forward = Forward(model)
    forward.training = False
    pairs = [[np.array(text) for text in row] for row in PAIRS]
    with torch.no_grad():
        return answer_log_probs(forward, pair_inputs(pairs, pad, CPU, shared=shared))


def by_hand(model: Any) -> torch.Tensor:
    """Each row alone, by transformers, without padding."""
    sums: list[list[float]] = []
    for prompt, *answers in PAIRS:
        sums.append([])
        for answer in answers:
            ids = torch.tensor([[*prompt, *answer]])
            with torch.no_grad():
                logs = model(input_ids=ids).logits[0].float().log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            sums[-1].append(sum(float(logs[p, t]) for p, t in zip(places, answer, strict=True)))
    return torch.tensor(sums)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "qwen3"])
def test_a_shared_prompt_gives_what_single_rows_give(name: str, tmp_path: Path) -> None:
    model = grown(name, tmp_path)
    assert shares_prompts(Forward(model), 16)
    wanted = by_hand(model)
    for shared in (True, False):
        assert torch.allclose(log_probs(model, shared=shared), wanted, atol=TOGETHER)


@pytest.mark.parametrize("fault", ["the other answer is seen", "positions run on"])
def test_a_wrong_mask_or_position_would_be_noticed(fault: str, tmp_path: Path) -> None:
    model = grown("gpt2", tmp_path)
    pairs = [[np.array(text) for text in row] for row in PAIRS]
    inputs = pair_inputs(pairs, 0, CPU, shared=True)
    if "seen" in fault:
        inputs["segments"] = inputs["segments"].clamp(max=0)
    else:
        inputs["positions"] = torch.arange(inputs["ids"].shape[1]).expand_as(inputs["ids"])
    forward = Forward(model)
    forward.training = False
    with torch.no_grad():
        wrong = answer_log_probs(forward, inputs)
    assert float((wrong - by_hand(model)).abs().max()) > 0.05


@pytest.mark.parametrize("name", ["bloom", "xlnet"])
def test_a_model_that_counts_positions_itself_has_a_row_for_each_answer(
    name: str, tmp_path: Path
) -> None:
    """ALiBi is made from the mask; XLNet reads in another order."""
    forward = Forward(grown(name, tmp_path))
    assert not shares_prompts(forward, 16)
    rows = PairRows(store(), forward, 0)
    assert len(rows.collate(np.arange(2)).inputs["ids"]) == 4


def test_rows_longer_than_a_sliding_window_are_not_shared(tmp_path: Path) -> None:
    forward = Forward(grown("mistral", tmp_path, sliding_window=8))
    assert shares_prompts(forward, 8) and not shares_prompts(forward, 9)


@pytest.mark.parametrize("shared", [True, False])
def test_padding_does_not_move_a_likelihood(shared: bool) -> None:
    """Trap 29: ten pads more, and another pad."""
    model = decoder()
    forward = Forward(model)
    forward.training = False
    pairs = [[np.array(text) for text in row] for row in PAIRS]
    inputs = pair_inputs(pairs, 0, CPU, shared=shared)
    fills = {"ids": 7, "positions": 0, "segments": -1}
    wider = {name: torch.nn.functional.pad(inputs[name], (0, 10), value=fill)
             for name, fill in fills.items() if name in inputs}  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(answer_log_probs(forward, {**inputs, **wider}),
                              answer_log_probs(forward, inputs), atol=1e-6)  # fmt: skip


def test_gradients_of_shared_prompts_are_those_of_single_rows() -> None:
    grads: list[torch.Tensor] = []
    for shared in (True, False):
        model = decoder()
        forward = Forward(model)
        pairs = [[np.array(text) for text in row] for row in PAIRS]
        weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [1.0, 1.0], [-1.0, 0.1]])
        (answer_log_probs(forward, pair_inputs(pairs, 0, CPU, shared=shared)) * weights).sum(
        ).backward()  # fmt: skip
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # pyright: ignore[reportOptionalMemberAccess]
    assert float((grads[0] - grads[1]).abs().max()) < 1e-5 * float(grads[1].abs().max())


@pytest.mark.parametrize("frozen", [True, False])
def test_the_loss_of_each_token_in_chunks_is_that_of_whole_logits(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warmstart.models.fast import loss

    monkeypatch.setattr(loss, "CHUNK_LOGITS", 3 * VOCAB)
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 8, generator=rng, requires_grad=True)
    weight = torch.randn(VOCAB, 8, generator=rng, requires_grad=not frozen)
    targets, shares = torch.arange(7), torch.randn(7, generator=rng)
    (loss.target_nll(loss.Unprojected(hidden, weight), targets) * shares).sum().backward()
    ours = [hidden.grad, weight.grad]
    hidden.grad = weight.grad = None
    logs = (hidden @ weight.T).log_softmax(-1)
    (-logs[torch.arange(7), targets] * shares).sum().backward()
    for mine, theirs in zip(ours, [hidden.grad, weight.grad], strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert torch.allclose(mine, theirs, atol=1e-6)


VOCAB = 11


def test_the_divergence_is_exact_and_none_from_itself() -> None:
    first, second = decoder(0), decoder(1)
    rows = PairRows(store(), Forward(first), 0)
    assert np.abs(rows.beside(Forward(first), Forward(first))["drift"]).max() < 1e-6
    beside = rows.beside(Forward(first), Forward(second))
    drift, untuned = beside["drift"], rows.predict(Forward(second))
    assert beside["untuned"].nll == pytest.approx(untuned.nll, abs=TOGETHER)
    assert (beside["untuned"].tokens == untuned.tokens).all()
    prompt, answer = PAIRS[0][0], PAIRS[0][1]
    with torch.no_grad():
        p, q = (m(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
                for m in (first, second))  # fmt: skip
    gaps = (p.exp() * (p - q)).sum(-1)[len(prompt) - 1 : -1]
    assert drift[0, 0] == pytest.approx(float(gaps.sum()), rel=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_reward_does_not_depend_on_the_rows_beside_it(
    family: str, tiny_of: Callable[[str], Path]
) -> None:
    """Traps 30, 31: of a base whose padding is its EOS, with an EOS inside the prompt too, the
    score is that of the last real token, as if the row stood alone."""
    from dataclasses import replace

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from warmstart.models.fast.forward import forward_for

    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_of(family), num_labels=1)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_of(family))
    end = tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.eos_token
    pad = model.config.pad_token_id = set_padding(tokenizer)
    assert pad == tokenizer.pad_token_id != end
    forward = forward_for(model.eval())
    forward.training = False
    pairs = [((5, end, 6), (9, 10, 11, 12, 13, end), (9, end)), ((7, end, 8), (11, end), (12, end))]
    whole = [((*p, *a), (*p, *b), ()) for p, a, b in pairs]
    dataset = store([(first, second, ()) for first, second, _ in whole])
    assert dataset.answers is not None
    rows = RatedPairs(replace(dataset, answers=replace(dataset.answers, answers=None)), pad, CPU)
    found = rows.predict(forward)
    for row, texts in enumerate(whole):
        for side in (0, 1):
            ids = torch.tensor([texts[side]])
            with torch.no_grad():
                alone = forward.logits(ids, torch.tensor([ids.shape[1]]), training=False)
                state = model.base_model(input_ids=ids).last_hidden_state[0, -1]
            assert float(model.score(state).detach()) == pytest.approx(float(alone), abs=1e-6)
            assert found[row, side, 0] == pytest.approx(float(alone), abs=1e-6)


def test_a_part_of_a_step_is_that_part_alone() -> None:
    it = Aligned("dpo", decoder())
    batch = it.batches([2, 0])[0]
    assert batch.rows.tolist() == [2, 0] and batch.inputs["sizes"].tolist() == [[2, 4], [3, 2]]
