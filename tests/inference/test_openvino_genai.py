"""OpenVINO GenAI writes as torch does; texts join, leave and are refused meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import writer
from warmstart import part
from warmstart.errors import BaseModelError, DataError, RecipeError
from warmstart.inference.writer import Writer, open_writer
from warmstart.models.sampling import Completion, Sampling, Token

pytest.importorskip("openvino_genai", reason="pip install 'warmstart[genai]'")

GREEDY = Sampling(temperature=0, max_new_tokens=9)
DRAWN = Sampling(temperature=1.2, top_k=20, seed=7, max_new_tokens=12)
TEXTS = ["the film was good", "a", "never again , but i liked the song !"]
SMALL = 0.001
"""Gigabytes for the keys and values of about 3,900 tokens of a tiny model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder whose form is made once."""
    return writer(tmp_path_factory.mktemp("genai") / "model", num_hidden_layers=1)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Writer:
    return open_writer(folder, part.make("engine", "openvino_genai", {"cache_gb": SMALL}))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Writer:
    return open_writer(folder)


def write(
    by: Writer, sampling: Sampling | Sequence[Sampling], texts: Sequence[str] = TEXTS, **how: Any
) -> list[Completion]:
    return by.write([by.encode(text, raw=True) for text in texts], sampling, **how)


def used(by: Writer) -> float:
    """Share of the memory that one short text needs, when nothing else is kept."""
    batcher: Any = by.predictor.runner.batcher(by.tokenizer)
    batcher.add(by.encode("one", raw=True), Sampling(temperature=0, max_new_tokens=1))
    batcher.step()
    return batcher.used


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"temperature": 0, "repetition_penalty": 1.4},
        {"num_beams": 3, "num_return_sequences": 2},
        {"temperature": 0, "stop": ("it",)},
    ],
)
def test_what_draws_nothing_is_written_as_torch_writes_it(
    ours: Writer, theirs: Writer, settings: dict[str, Any]
) -> None:
    sampling = Sampling(max_new_tokens=9, **settings)
    for own, wanted in zip(write(ours, sampling), write(theirs, sampling), strict=True):
        assert (own.ids, own.text, own.finish_reason) == (
            wanted.ids, wanted.text, wanted.finish_reason
        )  # fmt: skip
        assert np.abs(own.log_probs - wanted.log_probs).max() < 1e-4


def test_seed_gives_the_same_text_alone_beside_others_and_in_another_order(ours: Writer) -> None:
    settings = [Sampling(temperature=1.5, seed=n, max_new_tokens=12) for n in range(3)]
    together = [text.ids for text in write(ours, settings)]
    alone = [write(ours, [own], [text])[0].ids for own, text in zip(settings, TEXTS, strict=True)]
    turned = [text.ids for text in write(ours, settings[::-1], TEXTS[::-1])][::-1]
    assert together == alone == turned
    again = write(ours, Sampling(temperature=1.5, num_return_sequences=4, max_new_tokens=12))
    assert len({tuple(text.ids) for text in again[:4]}) == 4


def test_draws_keep_to_the_likeliest_tokens(ours: Writer, theirs: Writer) -> None:
    import torch

    model: Any = theirs.predictor.runner
    for own in write(ours, DRAWN.model_copy(update={"top_k": 3, "max_new_tokens": 30})):
        ids = [*ours.encode(TEXTS[own.prompt], raw=True), *own.ids]
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([ids])).logits[0, -len(own.ids) - 1 : -1]
        assert all(token in row for token, row in
                   zip(own.ids, logits.topk(3).indices.tolist(), strict=True))  # fmt: skip


def test_texts_come_token_by_token_and_are_cancelled_one_by_one(ours: Writer) -> None:
    come: list[Token] = []
    texts = write(
        ours, GREEDY.model_copy(update={"max_new_tokens": 30}), on_token=come.append,
        cancelled=lambda row: row == 1 and sum(token.row == 1 for token in come) >= 4,
    )  # fmt: skip
    assert [text.finish_reason for text in texts] == ["length", "cancelled", "length"]
    assert len(texts[1].ids) == 4 and len(texts[0].ids) == 30
    for text, number in zip(texts, range(3), strict=True):
        mine = [token for token in come if token.row == number]
        assert "".join(token.text for token in mine) == text.text
        assert [token.finish_reason for token in mine if token.finish_reason] == [
            text.finish_reason
        ]


def test_texts_join_and_leave_while_others_are_written(ours: Writer) -> None:
    batcher: Any = ours.predictor.runner.batcher(ours.tokenizer)
    wanted = {text: write(ours, [DRAWN], [text])[0].text for text in TEXTS}
    numbers, texts = dict[int, str](), dict[int, str]()
    lost = batcher.add(ours.encode("book", raw=True), Sampling(temperature=0, max_new_tokens=50))

    def join() -> None:
        for text in TEXTS:
            (number,) = batcher.add(ours.encode(text, raw=True), DRAWN)
            numbers[number] = text

    threads = [threading.Thread(target=join) for _ in range(3)]
    for thread in threads:
        thread.start()
    steps = 0
    while batcher.busy or any(thread.is_alive() for thread in threads):
        if not batcher.busy:  # the threads have not been given the processor yet
            time.sleep(0.001)
            continue
        for token in batcher.step():
            texts[token.row] = texts.get(token.row, "") + token.text
            if token.row == lost[0]:
                assert steps <= 6, "the cancelled text went on"
        steps += 1
        if steps == 5:
            batcher.cancel(lost[0])
        assert steps < 1000
    assert len(numbers) == 9
    for number, text in numbers.items():
        assert texts[number] == wanted[text]


def test_memory_returns_after_refused_and_cancelled_texts(ours: Writer) -> None:
    runner: Any = ours.predictor.runner
    before, drawn = used(ours), Sampling(temperature=2.0, max_new_tokens=10)
    long = ours.encode("the film was good , but the book was great " * 5, raw=True)[:50]
    for turn in range(40):  # 320 blocks of memory, where there are 122
        batcher = runner.batcher(ours.tokenizer)
        numbers = [batcher.add(long[turn % 7 :], drawn, n)[0] for n in range(4)]
        for _ in range(turn % 4):
            batcher.step()
        with pytest.raises(DataError, match="none of the 50 of the model"):
            batcher.add([1, 5000], GREEDY)
        with pytest.raises(RecipeError, match="shorten it"):
            batcher.add([7] * 80, GREEDY)
        for number in numbers:
            batcher.cancel(number)
        batcher.step()
        assert not batcher.busy
    assert used(ours) == before


def test_what_there_is_no_memory_for_is_refused_before_it_begins(folder: Path) -> None:
    small = open_writer(folder, part.make("engine", "openvino_genai", {"cache_gb": 1e-5}))
    with pytest.raises(RecipeError, match=r"engine\.cache_gb has it for 64: raise it") as refused:
        write(small, Sampling(num_beams=4, max_new_tokens=20))
    assert "jenkins" not in str(refused.value).lower() and "\n" not in str(refused.value)
    assert [text.finish_reason for text in write(small, GREEDY)] == ["length"] * 3
    with pytest.raises(RecipeError, match="give at least"):
        open_writer(folder, part.make("engine", "openvino_genai", {"cache_gb": 1e-9}))


LIKELIHOOD = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from warmstart import part
from warmstart.data.tokens.dataset import store_of
from warmstart.inference.writer import open_writer

folder = Path(sys.argv[1])
ours = open_writer(folder, part.make("engine", "openvino_genai", {"cache_gb": 0.001}))
theirs = open_writer(folder)

def of(rows):
    return store_of(rows, ours.tokenizer.backend_tokenizer)

dataset = replace(of([[7, 8, 9], [11, 12], [20]]), answers=of([[5, 6], [9, 9, 9], [30]]))
own, wanted = (by.predictor.runner.log_probs(dataset) for by in (ours, theirs))
assert np.allclose(own.nll, wanted.nll, atol=1e-4) and np.allclose(own.sure, wanted.sure)
assert own.hits.tolist() == wanted.hits.tolist() and own.tokens.tolist() == [2, 3, 1]
"""


def test_likelihood_of_answers_is_that_of_torch(folder: Path, preloaded: dict[str, str]) -> None:
    """In a process of its own: one that has computed likelihoods and is a test run besides was
    killed (SIGSEGV as the kernel wrote the frame) by the next signal that it sent itself."""
    words = ["python", "-c", LIKELIHOOD, str(folder)]
    done = subprocess.run(words, env=preloaded, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("family", "engine"), [("t5", "ctranslate2"), ("bert", "none")])
def test_other_families_are_refused_by_name(family: str, engine: str) -> None:
    chosen: Any = part.make("engine", "openvino_genai")
    with pytest.raises(RecipeError, match=f"'{family}' is none; take engine ctranslate2 or torch"):
        chosen.check_model({"model_type": family})


def test_folder_that_asks_for_more_is_refused_by_name(ours: Writer) -> None:
    from transformers import GenerationConfig

    runner: Any = ours.predictor.runner
    before = runner.generation
    runner.generation = GenerationConfig(suppress_tokens=[3], num_beams=2)
    with pytest.raises(RecipeError, match="asks for suppress_tokens, which engine openvino_genai"):
        runner.settings()
    runner.generation = before


def test_form_that_does_not_answer_as_torch_is_not_kept(
    folder: Path, ours: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warmstart.inference import openvino_genai
    from warmstart.models.saved import saved_model

    form = folder / "engines" / "openvino_genai" / "fp32"
    monkeypatch.setattr(openvino_genai, "CLOSE", -1.0)
    with pytest.raises(BaseModelError, match="does not compute this model as torch does"):
        part.make("engine", "openvino_genai")._check(form, saved_model(folder))  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("family", ["gpt2", "qwen3", "mistral"])
def test_every_family_and_precision(family: str, precision: str, tmp_path: Path) -> None:
    folder = writer(tmp_path / "model", family)
    exact = open_writer(folder, part.make("engine", "openvino_genai", {"cache_gb": SMALL}))
    theirs = write(open_writer(folder), GREEDY)
    assert [t.ids for t in write(exact, GREEDY)] == [t.ids for t in theirs]
    settings = {"cache_gb": SMALL, "precision": precision}
    rounded = write(open_writer(folder, part.make("engine", "openvino_genai", settings)), GREEDY)
    assert all(len(text.ids) == 9 for text in rounded)
