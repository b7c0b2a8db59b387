"""CTranslate2 writes as torch does: decoders and encoder-decoders, alone and in bulk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import writer
from warmstart import part
from warmstart.errors import BaseModelError, DataError, RecipeError
from warmstart.inference.writer import Writer, open_writer
from warmstart.models.sampling import Completion, Sampling, Token

pytest.importorskip("ctranslate2", reason="pip install 'warmstart[ctranslate2]'")

TEXTS = ["the film was good", "a", "never again , but i liked the song !"]
FAMILIES = ["llama", "gpt2", "t5", "bart", "pegasus"]
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("mistral", "qwen3", "mbart")]
Opened = Callable[[str], tuple[Writer, Writer]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A tiny model of a family by this engine and by torch; opened once."""
    made = dict[str, tuple[Writer, Writer]]()

    def get(family: str) -> tuple[Writer, Writer]:
        if family not in made:
            folder = writer(tmp_path_factory.mktemp("ctranslate2") / family, family)
            engine = part.make("engine", "ctranslate2")
            made[family] = open_writer(folder, engine), open_writer(folder)
        return made[family]

    return get


def write(
    by: Writer, sampling: Sampling | Sequence[Sampling], texts: Sequence[str] = TEXTS, **how: Any
) -> list[Completion]:
    return by.write([by.encode(text, raw=True) for text in texts], sampling, **how)


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_what_draws_nothing_is_written_as_torch_writes_it(family: str, opened: Opened) -> None:
    ours, theirs = opened(family)
    for settings in (
        {"temperature": 0},
        {"temperature": 0, "stop": ("it", "but")},
        {"num_beams": 3, "num_return_sequences": 2},
    ):
        sampling = Sampling(max_new_tokens=9, **settings)  # pyright: ignore[reportArgumentType]
        for own, wanted in zip(write(ours, sampling), write(theirs, sampling), strict=True):
            assert (own.ids, own.text, own.finish_reason) == (
                wanted.ids, wanted.text, wanted.finish_reason
            )  # fmt: skip
            assert np.abs(own.log_probs - wanted.log_probs).max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_whole_files_and_likelihood_of_answers_are_those_of_torch(
    family: str, opened: Opened
) -> None:
    from dataclasses import replace

    from warmstart.data.tokens.dataset import store_of

    ours, theirs = opened(family)

    def of(rows: list[list[int]]) -> Any:
        return store_of(rows, ours.tokenizer.backend_tokenizer)

    runners: list[Any] = [ours.predictor.runner, theirs.predictor.runner]
    prompts = of([[7, 8, 9], [11, 12], [20], [9, 7]])
    (texts, sure), (wanted, known) = (runner.generate(prompts) for runner in runners)
    assert texts == wanted and np.allclose(sure, known, atol=1e-4)
    dataset = replace(prompts, answers=of([[5, 6], [9, 9, 9], [30], [4]]))
    own, scores = (runner.log_probs(dataset) for runner in runners)
    assert np.allclose(own.nll, scores.nll, atol=1e-4) and np.allclose(own.sure, scores.sure)
    assert own.tokens.tolist() == [2, 3, 1, 1]


def test_seed_gives_the_same_text_alone_and_beside_others(opened: Opened) -> None:
    ours, _ = opened("llama")
    settings = [Sampling(temperature=1.5, seed=n, max_new_tokens=12) for n in range(3)]
    together = [text.ids for text in write(ours, settings)]
    alone = [write(ours, [own], [text])[0].ids for own, text in zip(settings, TEXTS, strict=True)]
    assert together == alone
    again = write(ours, Sampling(temperature=1.5, num_return_sequences=4, max_new_tokens=12))
    assert len({tuple(text.ids) for text in again[:4]}) == 4


def test_texts_come_token_by_token_and_are_cancelled_one_by_one(opened: Opened) -> None:
    for family in ("llama", "t5"):
        ours, _ = opened(family)
        come: list[Token] = []
        texts = write(
            ours, Sampling(temperature=0, max_new_tokens=30), on_token=come.append,
            cancelled=lambda row, come=come: row == 1 and sum(t.row == 1 for t in come) >= 4,
        )  # fmt: skip
        assert [text.finish_reason for text in texts] == ["length", "cancelled", "length"]
        assert [len(text.ids) for text in texts] == [30, 4, 30]
        for number, text in enumerate(texts):
            mine = [token for token in come if token.row == number]
            assert "".join(token.text for token in mine) == text.text


def test_what_it_does_not_have_is_refused_by_name(opened: Opened, tmp_path: Path) -> None:
    ours, _ = opened("llama")
    for settings in ({"min_p": 0.1}, {"repetition_penalty": 1.2}):
        with pytest.raises(RecipeError, match=f"no setting {next(iter(settings))}; leave it out"):
            write(ours, Sampling(**settings))
    with pytest.raises(DataError, match="none of the 50 of the model"):
        ours.write([[1, 5000]], Sampling())
    engine: Any = part.make("engine", "ctranslate2")
    with pytest.raises(RecipeError, match="'bert' is an encoder"):
        engine.check_model({"model_type": "bert"})
    with pytest.raises(RecipeError, match="writes texts, and task classification"):
        engine.check_task(part.make("task", "classification"))
    strange = writer(tmp_path / "model", "gpt_neo")
    with pytest.raises(BaseModelError, match="cannot compute this 'gpt_neo' model; take engine to"):
        open_writer(strange, engine)
    assert not [*(strange / "engines" / "ctranslate2").iterdir()], "nothing half-made is left"


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_weights_in_8_bits_take_a_quarter(family: str, tmp_path: Path) -> None:
    folder = writer(tmp_path / "model", family, hidden_size=64, d_model=64, n_embd=64)
    for precision in ("fp32", "int8"):
        settings = {"precision": precision}
        by = open_writer(folder, part.make("engine", "ctranslate2", settings))
        assert all(len(text.ids) == 9 for text in
                   write(by, Sampling(temperature=0, max_new_tokens=9)))  # fmt: skip
    whole, small = (
        (folder / "engines" / "ctranslate2" / name / "model.bin").stat().st_size
        for name in ("fp32", "int8")
    )
    assert small < 0.4 * whole


@pytest.mark.slow
def test_build_measures_engines_on_texts(tmp_path: Path) -> None:
    import warmstart
    from tiny import tiny

    pairs = [(a, b) for a in "film movie book song".split() for b in "good bad great".split()]
    rows = [{"source": f"the {a} was {b}", "target": f"{b} {a}"} for a, b in pairs]
    run = warmstart.tune(
        rows, task="summarization", base=str(tiny("t5", tmp_path / "t5")), out=tmp_path / "run",
        **{"train.epochs": 1, "task.max_new_tokens": 6, "evaluate.bootstrap": 100},
    )  # fmt: skip
    torch, ours = warmstart.build(run, rows, engine="ctranslate2")["engines"]
    assert ours["same"] == torch["same"] == 1.0 and ours["score"] == torch["score"]
    assert ours["gap"] < 1e-4 and ours["beside"] < 1e-5 and ours["rows_per_second"] > 0


def test_texts_are_the_same_when_they_have_been_in_a_file() -> None:
    from warmstart.models.generation import GenerationOutput
    from warmstart.pipelines.measuring.trials import packed, unpacked

    one, two = GenerationOutput.nothing(2), GenerationOutput.nothing(1)
    one.ids[:] = [[5, 6, 7], None]
    one.confidence[:], two.nll[:] = [0.5, 0.25], 3.0
    again = unpacked("outputs", packed("outputs", [one, two]))
    assert again.ids == [[5, 6, 7], [], []] and len(again) == 3
    assert again.confidence.tolist() == [0.5, 0.25, 0.0] and again.nll.tolist() == [0, 0, 3]
    values = np.ones((2, 3), np.float32)
    assert unpacked("alone", packed("alone", [values, values])).shape == (4, 3)
