"""The loop that writes texts, against transformers on tiny random models of every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)
from transformers.generation import logits_process

from tiny import DECODERS, SEQ2SEQ
from warmstart.errors import BaseModelError, DataError, RecipeError
from warmstart.models.forward import Batch, Forward
from warmstart.models.hf_calls import quiet
from warmstart.models.sampling import Completion, Sampling, Token, decoding, generate, loop
from warmstart.models.sampling.completion import Text
from warmstart.models.sampling.loop import left, pick

PROMPTS = [[7, 8, 9], [11, 12, 13, 14, 15, 16, 17], [20], [9, 21, 22, 23]]
GREEDY = Sampling(temperature=0, max_new_tokens=9)
TinyOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def model_of(tiny_of: TinyOf) -> Callable[..., Any]:
    """A tiny model that writes, of large weights so that no two tokens are alike; it never ends."""
    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            config = AutoConfig.from_pretrained(tiny_of(family))
            config.eos_token_id = None
            torch.manual_seed(1)
            auto: Any = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
            with quiet():
                model = auto.from_config(config).eval()
            with torch.no_grad():
                for name, weights in model.named_parameters():
                    if weights.ndim == 2:
                        weights.mul_(8.0 if "embed" in name or "wte" in name else 3.0)
            model.generation_config.eos_token_id = None
            model.generation_config.forced_eos_token_id = None  # which ends by force at the limit
            model.config.forced_eos_token_id = None
            made[family] = model
        return made[family]

    return get


def theirs(model: Any, prompt: list[int], **settings: Any) -> list[list[int]]:
    """What transformers writes, prompt by prompt."""
    begin = 1 if model.config.is_encoder_decoder else len(prompt)
    ids = torch.tensor([prompt])
    with quiet():
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
            max_new_tokens=9, pad_token_id=0, **settings,
        )  # fmt: skip
    return written[:, begin:].tolist()


FEW = ("gpt2", "llama", "t5", "bart")
OTHERS = sorted({*DECODERS, *SEQ2SEQ} - {*FEW})


@pytest.mark.parametrize(
    "family", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_greedy_in_a_batch_is_what_transformers_writes_of_each(
    family: str, model_of: Callable[..., Any]
):
    model = model_of(family)
    wanted = [theirs(model, prompt)[0] for prompt in PROMPTS]
    assert [row.ids for row in generate(model, PROMPTS, GREEDY)] == wanted
    assert [generate(model, [p], GREEDY)[0].ids for p in PROMPTS] == wanted


@pytest.mark.parametrize("family", FEW)
def test_the_repetition_penalty_is_that_of_transformers(family: str, model_of: Callable[..., Any]):
    model = model_of(family)
    sampling = GREEDY.model_copy(update={"repetition_penalty": 1.7})
    wanted = [theirs(model, prompt, repetition_penalty=1.7)[0] for prompt in PROMPTS]
    assert [row.ids for row in generate(model, PROMPTS, sampling)] == wanted
    assert wanted != [row.ids for row in generate(model, PROMPTS, GREEDY)]


@pytest.mark.parametrize("family", FEW)
def test_beams_are_those_of_transformers(family: str, model_of: Callable[..., Any]):
    model = model_of(family)
    sampling = Sampling(num_beams=3, num_return_sequences=2, max_new_tokens=9)
    wanted = [row for p in PROMPTS for row in theirs(model, p, num_beams=3, num_return_sequences=2)]
    written = generate(model, PROMPTS, sampling)
    assert [row.ids for row in written] == wanted
    assert [row.prompt for row in written] == [0, 0, 1, 1, 2, 2, 3, 3]
    again = generate(model, PROMPTS, GREEDY.model_copy(update={"max_new_tokens": 1}))
    assert all(len(row.log_probs) == len(row.ids) for row in written + again)


WARPERS = {
    "top_k": (Sampling(top_k=7), [logits_process.TopKLogitsWarper(7)]),
    "top_p": (Sampling(top_p=0.8), [logits_process.TopPLogitsWarper(0.8)]),
    "min_p": (Sampling(min_p=0.1), [logits_process.MinPLogitsWarper(0.1)]),
    "all": (
        Sampling(top_k=20, top_p=0.9, min_p=0.05),
        [logits_process.TopKLogitsWarper(20), logits_process.TopPLogitsWarper(0.9),
         logits_process.MinPLogitsWarper(0.05)],
    ),
    "wide": (Sampling(top_p=0.999), [logits_process.TopPLogitsWarper(0.999)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WARPERS)
def test_what_is_left_to_draw_from_is_what_transformers_leaves(name: str):
    sampling, warpers = WARPERS[name]
    scores = torch.randn(5, 3000, generator=torch.manual_seed(3)) * torch.tensor(
        [[0.1], [1.0], [2.0], [4.0], [8.0]]
    )
    weights, places = left(scores, [sampling] * 5)
    mine = torch.zeros_like(scores).scatter(1, places, weights)
    mine /= mine.sum(1, keepdim=True)
    warped: Any = scores
    for warper in warpers:
        warped = warper(torch.zeros(5, 0, dtype=torch.long), warped)
    assert torch.allclose(mine, warped.softmax(-1), atol=1e-7)
    assert ((mine > 0) == (warped > -torch.inf)).all()


def test_each_row_has_its_own_settings():
    scores = torch.randn(3, 50, generator=torch.manual_seed(3)) * 2
    own = [Sampling(top_k=3), Sampling(top_p=0.5), Sampling()]
    weights, places = left(scores, own)
    for row, sampling in enumerate(own):
        alone, ids = left(scores[row : row + 1], [sampling])
        kept = {int(i) for i, w in zip(places[row], weights[row], strict=True) if w}
        assert kept == {int(i) for i, w in zip(ids[0], alone[0], strict=True) if w}


def test_draws_come_as_often_as_their_probabilities_say():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0, -30.0]])
    chances = torch.from_numpy(np.random.default_rng(0).random(20_000))
    for sampling in (Sampling(), Sampling(top_k=3)):
        drawn = pick(scores.expand(20_000, 5), [sampling] * 20_000, chances)
        share = torch.bincount(drawn, minlength=5) / 20_000
        weights, places = left(scores, [sampling])
        wanted = torch.zeros(5).scatter(0, places[0], weights[0] / weights.sum())
        assert torch.allclose(share, wanted, atol=0.012)
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert pick(scores.expand(2, 5), [Sampling(top_k=2)] * 2, ends).tolist() == [0, 1]
    assert pick(scores.expand(2, 5), [Sampling(top_k=10**30)] * 2, ends).tolist() == [0, 4]


def test_what_is_drawn_does_not_depend_on_the_rows_beside_it(model_of: Callable[..., Any]):
    model, drawn = model_of("llama"), Sampling(seed=7, max_new_tokens=9, temperature=1.3)
    whole = [row.ids for row in generate(model, PROMPTS, drawn)]
    assert [row.ids for row in generate(model, PROMPTS, drawn)] == whole
    assert whole != [r.ids for r in generate(model, PROMPTS, drawn.model_copy(update={"seed": 8}))]
    fewer = [[9, 9], PROMPTS[1]]  # its number is still 1
    assert generate(model, fewer, drawn)[1].ids == whole[1]
    # with settings of its own a prompt is as alone
    alone = generate(model, [PROMPTS[2]], drawn)[0].ids
    mates = [Sampling(seed=n, max_new_tokens=5) for n in range(3)]
    assert generate(model, PROMPTS, [*mates[:2], drawn, mates[2]])[2].ids == alone


def test_several_texts_of_a_prompt_are_different_and_come_again(model_of: Callable[..., Any]):
    model = model_of("gpt2")
    sampling = Sampling(num_return_sequences=4, seed=7, max_new_tokens=9)
    first = generate(model, PROMPTS[:2], sampling)
    assert [row.prompt for row in first] == [0] * 4 + [1] * 4
    assert len({tuple(row.ids) for row in first}) == 8
    assert [r.ids for r in generate(model, PROMPTS[:2], sampling)] == [r.ids for r in first]


def test_sampled_rows_are_those_of_a_loop_without_kept_states(
    model_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    for family in FEW:
        model, sampling = model_of(family), Sampling(seed=3, max_new_tokens=9, top_k=12)
        kept = [row.ids for row in generate(model, PROMPTS, sampling)]
        start = decoding.start_of(model) if model.config.is_encoder_decoder else None
        with monkeypatch.context() as patch:
            patch.setattr(
                loop,
                "decoding",
                lambda model, prompts, room, start=start: decoding.Anew(model, prompts, start),
            )
            assert [row.ids for row in generate(model, PROMPTS, sampling)] == kept


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_log_probs_are_those_of_the_forward_pass_that_trains(
    family: str, temperature: float, model_of: Callable[..., Any]
):
    model = model_of(family)
    sampling = Sampling(temperature=temperature, top_k=5, max_new_tokens=9, repetition_penalty=1.2)
    forward = Forward(model)
    for row in generate(forward, PROMPTS, sampling):
        prompt, written = PROMPTS[row.prompt], row.ids
        ids = torch.tensor([[*prompt, *written]])
        targets = torch.full_like(ids, -100)
        targets[0, len(prompt) - 1 : -1] = torch.tensor(written)
        inputs = {"ids": ids, "mask": torch.ones_like(ids)}
        batch = Batch(inputs, targets, torch.tensor(1.0), np.array([0]), ids.numel())
        with forward.evaluating():
            if temperature == 1.0:
                wanted = forward.log_probs(batch)[targets != -100]
            else:
                logits: Any = forward.forward(batch)
                logits = logits if isinstance(logits, torch.Tensor) else logits.logits()
                chosen = (logits / temperature).log_softmax(-1)[0, len(prompt) - 1 : -1]
                wanted = chosen.gather(1, torch.tensor(written)[:, None])[:, 0]
        assert np.abs(row.log_probs - wanted.numpy()).max() < 1e-5
    assert not model.training


def test_an_end_token_ends_a_row_and_the_others_go_on(model_of: Callable[..., Any]):
    model = model_of("llama")
    whole = [row.ids for row in generate(model, PROMPTS, GREEDY)]
    end = whole[0][2]
    seen: list[Token] = []
    ended = generate(model, PROMPTS, GREEDY, ends=[end], on_token=seen.append)
    for row, ids in zip(ended, whole, strict=True):
        stop = ids.index(end) + 1 if end in ids else len(ids)
        assert row.ids == ids[:stop]
        assert row.finish_reason == ("stop" if end in ids else "length")
        assert [t.id for t in seen if t.row == ended.index(row)] == row.ids
    assert len({len(row.ids) for row in ended}) > 1
    assert sum(token.finish_reason is not None for token in seen) == len(PROMPTS)


def test_a_row_can_be_ended_from_outside(model_of: Callable[..., Any]):
    model, counts = model_of("gpt2"), [0] * 4

    def count(token: Token) -> None:
        counts[token.row] += token.id is not None

    rows = generate(
        model, PROMPTS, GREEDY, on_token=count, cancelled=lambda row: row == 1 and counts[1] == 3
    )
    whole = generate(model, PROMPTS, GREEDY)
    assert [row.finish_reason for row in rows] == ["length", "cancelled", "length", "length"]
    assert rows[1].ids == whole[1].ids[:3] and rows[2].ids == whole[2].ids


def test_an_adapter_writes_as_merged_and_virtual_tokens_do_too(model_of: Callable[..., Any]):
    import copy

    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    base = copy.deepcopy(model_of("llama"))
    torch.manual_seed(0)
    lora: Any = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, lora_alpha=16))
    adapted = [row.ids for row in generate(lora, PROMPTS, GREEDY)]
    merged: Any = copy.deepcopy(lora).merge_and_unload()
    assert adapted == [row.ids for row in generate(merged, PROMPTS, GREEDY)]
    assert adapted != [row.ids for row in generate(model_of("llama"), PROMPTS, GREEDY)]
    prompted: Any = get_peft_model(
        copy.deepcopy(model_of("gpt2")),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    )
    written = [row.ids for row in generate(prompted, PROMPTS, GREEDY)]
    assert written == [generate(prompted, [prompt], GREEDY)[0].ids for prompt in PROMPTS]
    ids = torch.tensor([PROMPTS[1]])
    with quiet():
        theirs = prompted.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=9,
            pad_token_id=0,
        )  # fmt: skip
    assert theirs[0, -9:].tolist() == written[1]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_the_fast_step_is_that_of_transformers(
    family: str, model_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    model = model_of(family)
    model.config.sliding_window = None  # of Mistral: every layer keeps every token
    drawn = Sampling(seed=1, max_new_tokens=9, temperature=1.2)
    fast = decoding.Continuing(model, PROMPTS, 4)
    assert fast._fast is not None
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "fast_decoder", lambda model, cache: None)
        slow = decoding.Continuing(model, PROMPTS, 4)
        wanted = generate(model, PROMPTS, drawn)
    ids = torch.tensor([5, 6, 7, 8])
    with torch.no_grad():
        assert torch.allclose(fast.begin(), slow.begin(), atol=1e-5)
        for rows in ([0, 1, 2, 3], [3, 1, 1]):
            fast.keep(torch.tensor(rows))
            slow.keep(torch.tensor(rows))
            ids = ids[: len(rows)]
            assert torch.allclose(fast.step(ids), slow.step(ids), atol=1e-4)
    written = generate(model, PROMPTS, drawn)
    assert [row.ids for row in written] == [row.ids for row in wanted]
    for mine, theirs in zip(written, wanted, strict=True):
        assert np.abs(mine.log_probs - theirs.log_probs).max() < 1e-4


def test_a_model_that_others_have_changed_takes_no_fast_step(model_of: Callable[..., Any]):
    import copy

    model = copy.deepcopy(model_of("llama"))
    hook = model.model.layers[0].register_forward_hook(lambda *_: None)
    assert decoding.Continuing(model, PROMPTS, 4)._fast is None
    hook.remove()
    assert decoding.Continuing(model, PROMPTS, 4)._fast is not None
    model.model.norm = torch.nn.LayerNorm(32)
    assert decoding.Continuing(model, PROMPTS, 4)._fast is None
    assert decoding.Continuing(model_of("gpt2"), PROMPTS, 4)._fast is None


def test_half_precision_writes_and_a_damaged_model_does_not(model_of: Callable[..., Any]):
    import copy

    from warmstart.errors import RunError

    model = copy.deepcopy(model_of("llama"))
    forward = Forward(model)
    forward.prepare(torch.bfloat16, torch.device("cpu"), checkpointing=False)
    assert len(generate(forward, PROMPTS, GREEDY)) == 4
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(RunError, match="no numbers"):
        generate(model, PROMPTS, GREEDY)


# Text as it comes.


class Bytes:
    """A tokenizer whose tokens are bytes or pairs of them."""

    pieces = [bytes([n]) for n in range(256)] + [b"ab", b" c", "é".encode(), b"STO", b"P!"]
    eos_token_id = None

    def decode(self, ids: list[int], **_: Any) -> str:
        return b"".join(self.pieces[i] for i in ids).decode(errors="replace")


@pytest.mark.parametrize("text", ["žluťoučký kůň 🙂👩‍👩‍👧 漢字", "plain", "�x", ""])
def test_pieces_of_text_together_are_the_whole(text: str):
    written = Text(Bytes(), [97, 195])
    parts = [written.add(byte) for byte in text.encode()]
    parts.append(written.end())
    assert "".join(parts) == written.text == text
    assert text == "�x" or not any("�" in part for part in parts)


def test_a_broken_character_comes_out_at_the_end():
    written = Text(Bytes(), [])
    ids = [104, 105, *"🙂".encode()[:3]]
    assert "".join([*map(written.add, ids), written.end()]) == Bytes().decode(ids) == "hi�"


@pytest.mark.parametrize(
    ("ids", "stop", "text"),
    [
        ([*b"one S", *b"TOP two"], ("STOP",), "one "),
        ([*b"x", 259, 260, *b"y"], ("TOP",), "xS"),  # inside tokens
        ([*b"x", 259, 260], ("STOP!",), "x"),
        ([*"aé€b".encode()], ("é€",), "a"),
        ([*b"STAY STOPP"], ("STOP", "STOPP", "STOPPED"), "STAY "),
        ([*b"ab", *b"cx"], ("bcd", "cx"), "ab"),
        ([*b"tail STO"], ("STOP",), "tail STO"),
    ],
)
def test_nothing_of_a_stop_text_is_given_out(ids: list[int], stop: tuple[str, ...], text: str):
    written, parts = Text(Bytes(), [], stop), list[str]()
    for token in ids:
        parts.append(written.add(token))
        if written.stopped:
            break
    parts.append(written.end())
    assert "".join(parts) == written.text == text


def test_a_stop_text_ends_a_row(model_of: Callable[..., Any], tiny_of: TinyOf):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_of("llama"))
    model = model_of("llama")
    streams = ["", "", "", ""]

    def add(token: Token) -> None:
        streams[token.row] += token.text

    plain = generate(model, PROMPTS, GREEDY, tokenizer=tokenizer)
    word = plain[1].text.split()[3]
    stopping = GREEDY.model_copy(update={"stop": (f"{word}",)})
    rows = generate(model, PROMPTS, stopping, tokenizer=tokenizer, on_token=add)
    assert [row.text for row in rows] == streams
    assert rows[1].finish_reason == "stop" and not any(word in row.text for row in rows)
    assert plain[1].text.startswith(rows[1].text)


# What is refused.


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"max_length": 9, "max_new_tokens": 4}, "counts what is written"),
        ({"num_return_sequences": 2, "temperature": 0}, "the same each time"),
        ({"num_return_sequences": 4, "num_beams": 2}, "more than the 2 beams"),
        ({"num_beams": 2, "top_k": 4}, "have no meaning"),
        ({"stop": ["a", ""]}, "empty text"),
        ({"top_p": 0}, "top_p"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_settings_that_do_not_go_together(keys: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        Sampling(**keys)


def test_max_length_says_what_it_counts(model_of: Callable[..., Any]):
    model = model_of("gpt2")
    rows = generate(model, PROMPTS, Sampling(temperature=0, max_length=8))
    assert [len(row.ids) for row in rows] == [5, 1, 7, 4]
    with pytest.raises(RecipeError, match=r"counts the prompt too, and prompt 2 alone has 7"):
        generate(model, PROMPTS, Sampling(temperature=0, max_length=7))
    with pytest.raises(RecipeError, match=r"prompt 1 has 64 tokens, .* at most 64"):
        generate(model, [[5] * 64], GREEDY)
    assert len(generate(model, [[5] * 60], GREEDY)[0].ids) == 4
    with pytest.raises(DataError, match="prompt 2 is empty"):
        generate(model, [[5], []], GREEDY)


def test_a_model_that_does_not_predict_the_next_token_cannot_write(tiny_of: TinyOf):
    for auto, family in ((AutoModel, "gpt2"), (AutoModelForMaskedLM, "bert")):
        with quiet(), pytest.raises(BaseModelError, match="does not write"):
            generate(auto.from_pretrained(tiny_of(family)), PROMPTS, GREEDY)


def test_many_prompts_go_in_batches(model_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    model = model_of("gpt2")
    wanted: list[Completion] = generate(model, PROMPTS * 3, GREEDY)
    monkeypatch.setattr(loop, "MOST_ROWS", 5)
    assert [r.ids for r in generate(model, PROMPTS * 3, GREEDY)] == [r.ids for r in wanted]
