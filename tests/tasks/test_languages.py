"""Bases that mark the language of a text by a token: they read and write as in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import warmstart
from learning import base_of
from tiny import BART_LIKE, WORDS
from warmstart import part as parts
from warmstart.errors import RecipeError
from warmstart.inference.predictor import open_predictor
from warmstart.models.checks import read_json
from warmstart.models.fast.forward import forward_for
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_tokenizer
from warmstart.training.datasets import WrittenRows

KINDS = {
    "NllbTokenizer": ("m2m_100", "deu_Latn", "fra_Latn"),
    "MBart50Tokenizer": ("mbart", "de_DE", "fr_XX"),
    "MBartTokenizer": ("mbart", "de_DE", "fr_XX"),
    "PreTrainedTokenizerFast": ("m2m_100", "de", "fr"),
}
"""Class of the tokenizer (the last as M2M100's stands in a tokenizer.json) → family, languages."""
SOURCES = ["the film is good", "red green", "money back again please"]
TARGETS = ["good film", "green red blue", "late"]


def tokenizer_of(kind: str) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "PreTrainedTokenizerFast":
        backend = Tokenizer(
            models.WordLevel({w: i for i, w in enumerate([*special, *WORDS])}, unk_token="<unk>")
        )
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]
        )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
            extra_special_tokens=["__de__", "__en__", "__fr__"], model_max_length=60,
        )  # fmt: skip
    words: Any = [*special, *(f"▁{word}" for word in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocab = {word: i for i, word in enumerate(words)}
    if kind != "NllbTokenizer":
        vocab = [(word, -float(i)) for i, word in enumerate(words)]
    return getattr(transformers, kind)(vocab=vocab, model_max_length=60)


@pytest.fixture(params=KINDS)
def it(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, str]:
    """The folder of a tiny base, and the names of two languages."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    family, source, target = KINDS[request.param]
    with quiet():
        tokenizer = tokenizer_of(request.param)
        config = AutoConfig.for_model(
            family, **BART_LIKE, vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0,
            eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
        )  # fmt: skip
        torch.manual_seed(0)
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base", source, target


def task_of(folder: Path, source: str | None, target: str | None) -> Any:
    settings = {"source_language": source, "target_language": target, "max_new_tokens": 20}
    made: Any = parts.make("task", "translation", settings)
    return made.resolve_for_base(read_json(folder / "config.json"), 60)


def test_ids_loss_and_answers_are_those_of_transformers(it: tuple[Path, str, str]) -> None:
    folder, source, target = it
    task, tokenizer = task_of(folder, source, target), load_tokenizer(base_of(folder))
    table = pa.table({"source": SOURCES, "target": TARGETS})
    store = task.encode(table, [], tokenizer, 60)
    theirs: Any = load_tokenizer(base_of(folder))
    own = hasattr(theirs, "src_lang")
    if own:
        theirs.src_lang, theirs.tgt_lang = source, target
        read = [theirs(text).input_ids for text in SOURCES]
        wanted = [theirs(text_target=text).input_ids for text in TARGETS]
    else:  # what transformers' own class of M2M100 makes, which needs sentencepiece
        first = {key: theirs.convert_tokens_to_ids(f"__{key}__") for key in (source, target)}
        read = [[first[source], *theirs(text).input_ids] for text in SOURCES]
        wanted = [[first[target], *theirs(text).input_ids] for text in TARGETS]
    assert [store.row(i).tolist() for i in range(3)] == read
    assert store.answers is not None
    assert [store.answers.row(i).tolist() for i in range(3)] == wanted
    again = task.encode(table, [], tokenizer, 60)
    assert again.ids.tolist() == store.ids.tolist(), "the same when it is asked again"

    model: Any = task.build_model(base_of(folder), [], 0)
    forward = forward_for(model)
    rows = WrittenRows(store, forward.language, 1, torch.device("cpu"))
    scores = rows.predict(forward)
    token = theirs.convert_tokens_to_ids(target if own else f"__{target}__")
    first = {"forced_bos_token_id": token}
    if wanted[0][-1] == token:  # mBART, whose decoder begins with the language
        first = {"decoder_start_token_id": token}
    for i in range(3):
        ids = torch.tensor([read[i]])
        with torch.no_grad(), quiet():
            loss = model(input_ids=ids, labels=torch.tensor([wanted[i]])).loss
            answer = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=4,
                max_new_tokens=20, **first,
            )[0].tolist()  # fmt: skip
        assert scores.nll[i] / scores.tokens[i] == pytest.approx(float(loss), rel=1e-4)
        assert scores.ids[i] == answer[1 : 1 + len(scores.ids[i])]
        assert token in answer[:2]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_is_proven_and_its_folder_keeps_the_languages(
    it: tuple[Path, str, str], method: str, tmp_path: Path
) -> None:
    folder, source, target = it
    lines = [
        {"source": f"{a} {word}", "target": f"{word} {b}"}
        for word in WORDS for a, b in zip(SOURCES, TARGETS, strict=True)
    ]  # fmt: skip
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = warmstart.tune(
        data, base=str(folder), task="translation", method=method, out=str(tmp_path / "run"),
        **{"task.source_language": source, "task.target_language": target, "train.max_steps": 3,
           "task.max_new_tokens": 6, "evaluate.bootstrap": 100, "data.similarity": 0.0},
    )  # fmt: skip
    assert run.status == "done"
    predictor: Any = open_predictor(run.model)
    ids = predictor.task.encode(pa.table({"source": SOURCES[:1]}), [], predictor.tokenizer, 60).ids
    tokenizer = predictor.tokenizer
    marks = [name for name in tokenizer.convert_ids_to_tokens(ids) if source in name]
    assert len(marks) == 1
    assert tokenizer(SOURCES[0]).input_ids == ids.tolist(), "and so reads whoever loads it alone"
    assert predictor.predict(SOURCES)[0].value is not None


@pytest.mark.parametrize("which", [(None, None), ("de", None), (None, "fr"), ("xx", "yy")])
def test_both_languages_have_to_be_known(
    it: tuple[Path, str, str], which: tuple[str | None, str | None]
) -> None:
    folder, source, target = it
    named = {"de": source, "fr": target, "xx": "xxx_Xxxx", "yy": "yyy_Yyyy", None: None}
    task = task_of(folder, *(named[key] for key in which))
    with pytest.raises(RecipeError, match="token"):
        task.encode(pa.table({"source": SOURCES}), [], load_tokenizer(base_of(folder)), 60)


PAIR = {"en": "a film", "de": "ein Film"}


@pytest.mark.parametrize(
    ("languages", "read"),
    [((None, None), "a film"), (("en", None), "a film"), (("de", None), "ein Film"),
     (("deu_Latn", "eng_Latn"), "ein Film"), (("German", "English"), "ein Film"),
     ((None, "en_XX"), "ein Film")],
)  # fmt: skip
def test_codes_and_names_find_the_languages_of_pairs(
    languages: tuple[str | None, str | None], read: str, tmp_path: Path
) -> None:
    settings = dict(zip(("source_language", "target_language"), languages, strict=True))
    task: Any = parts.make("task", "translation", settings)
    table = pa.table({"pair": [PAIR], "_file": ["a"], "_line": [1]})
    assert task.rows(table, lambda *_: None)["source"].to_pylist() == [read]


def test_a_trimmed_vocabulary_marks_languages_alike(it: tuple[Path, str, str]) -> None:
    from warmstart.compression.base import Source
    from warmstart.compression.vocabulary import Vocabulary

    folder, source, target = it
    task, tokenizer = task_of(folder, source, target), load_tokenizer(base_of(folder))
    model: Any = task.build_model(base_of(folder), [], 0)
    table = pa.table({"source": SOURCES, "target": TARGETS})
    store = task.encode(table, [], tokenizer, 60)
    assert store.answers is not None
    ids = [store.ids, store.answers.ids]
    names = ("forced_bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")

    def said(model: Any, tokenizer: Any, store: Any) -> list[Any]:
        own = [getattr(model.generation_config, name) for name in names]
        rows = [[*part.row(row)] for part in (store, store.answers) for row in range(3)]
        return [tokenizer.convert_ids_to_tokens([number for number in row if number is not None])
                for row in (own, *rows)]  # fmt: skip

    wanted, tokens = said(model, tokenizer, store), len(tokenizer)
    start = Vocabulary().begin(Source(folder, model, tokenizer, task, lambda: ids))
    assert len(start.tokenizer) < tokens
    fresh = task.encode(table, [], start.tokenizer, 60)
    assert said(start.model, start.tokenizer, fresh) == wanted
