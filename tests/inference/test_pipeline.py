"""Task names, arguments and output shapes that people know from transformers.pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

import warmstart
from tiny import WORDS, classifier, tiny, tiny_tokenizer, writer
from warmstart.errors import RecipeError
from warmstart.models.hf_calls import quiet

TEXTS = ["good film", "the bad book was not very great"]


def saved(family: str, folder: Path, auto: str, **settings: Any) -> Path:
    """A tiny model under a head of transformers, as transformers saves it."""
    import torch

    tiny(family, folder)
    config = transformers.AutoConfig.from_pretrained(folder, **settings)
    torch.manual_seed(0)
    with quiet():
        getattr(transformers, auto).from_config(config).save_pretrained(folder)
    return folder


def theirs(task: Any, folder: Path) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.pipeline(task, model=str(folder), tokenizer=tokenizer)


def same(ours: Any, wanted: Any) -> None:
    """Equal in shape, keys and texts, and in scores but for rounding."""
    assert type(ours) is type(wanted)
    if isinstance(wanted, list):
        assert len(ours) == len(wanted)
        for a, b in zip(ours, wanted, strict=True):
            same(a, b)
    elif isinstance(wanted, dict):
        assert ours.keys() == wanted.keys()
        for key in wanted:
            same(ours[key], wanted[key])
    elif isinstance(wanted, float):
        assert ours == pytest.approx(wanted, abs=1e-5)
    else:
        assert ours == wanted


def _unspaced(rows: Any) -> Any:
    if isinstance(rows, list):
        return [_unspaced(row) for row in rows]
    return {key: text.replace(" ", "") for key, text in rows.items()}


@pytest.mark.parametrize("top_k", [1, 2, None])
@pytest.mark.parametrize("inputs", [TEXTS[0], TEXTS])
def test_text_classification_is_that_of_transformers(
    inputs: Any, top_k: int | None, tmp_path: Path
) -> None:
    folder = classifier("bert", tmp_path)
    how = {} if top_k == 1 else {"top_k": top_k}
    for name in ("text-classification", "sentiment-analysis"):
        ours = warmstart.pipeline(name, folder)
        same(ours(inputs, **how), theirs("text-classification", folder)(inputs, **how))


def test_text_generation_is_that_of_transformers(tmp_path: Path) -> None:
    folder = saved("gpt2", tmp_path, "AutoModelForCausalLM")
    ours = warmstart.pipeline("text-generation", folder)
    wanted = theirs("text-generation", folder)
    how: dict[str, Any] = {"max_new_tokens": 6}
    for inputs in (TEXTS[0], TEXTS):  # the space between whole words is lost in transformers
        same(_unspaced(ours(inputs, **how)), _unspaced(wanted(inputs, do_sample=False, **how)))
    alone = ours(TEXTS[0], return_full_text=False, **how)
    assert TEXTS[0] + alone[0]["generated_text"] == ours(TEXTS[0], **how)[0]["generated_text"]
    drawn = ours(TEXTS[0], do_sample=True, temperature=1.5, top_k=20, num_return_sequences=3, **how)
    assert len(drawn) == 3 and all(row["generated_text"].startswith(TEXTS[0]) for row in drawn)


def test_what_version_5_took_away_is_there(tmp_path: Path) -> None:
    folder = saved("t5", tmp_path, "AutoModelForSeq2SeqLM", decoder_start_token_id=0)
    keys = {"summarization": "summary_text", "translation_en_to_de": "translation_text",
            "text2text-generation": "generated_text"}  # fmt: skip
    for task, key in keys.items():
        answers = warmstart.pipeline(task, folder)(TEXTS, max_new_tokens=5)
        assert [list(row) for row in answers] == [[key], [key]]


def test_fill_mask_is_answered_by_transformers_itself(tmp_path: Path) -> None:
    folder = saved("bert", tmp_path, "AutoModelForMaskedLM")
    text = f"good {tiny_tokenizer('bert', WORDS).mask_token}"
    same(warmstart.pipeline("fill-mask", folder)(text), theirs("fill-mask", folder)(text))
    with pytest.raises(RecipeError, match="is no masked language model"):
        warmstart.pipeline("fill-mask", classifier("bert", tmp_path / "other"))


def test_question_answering_and_entities_have_the_known_shapes(tmp_path: Path) -> None:
    folder = saved("bert", tmp_path / "qa", "AutoModelForQuestionAnswering")
    answer = warmstart.pipeline("question-answering", folder)
    row = answer(question="good ?", context="the bad book was not very great")
    assert row.keys() == {"score", "start", "end", "answer"}
    assert row["answer"] == "the bad book was not very great"[row["start"] : row["end"]]
    alone = answer(question="good ?", context="bad book")
    same(answer([{"question": "good ?", "context": "bad book"}] * 2), [alone, alone])
    labels = {0: "O", 1: "B-THING", 2: "I-THING"}
    folder = saved("bert", tmp_path / "ner", "AutoModelForTokenClassification", id2label=labels)
    for span in warmstart.pipeline("ner", folder)("the bad book was not very great"):
        assert span.keys() == {"entity_group", "score", "word", "start", "end"}
    with pytest.raises(RecipeError, match="entities are whole"):
        warmstart.pipeline("ner", folder)("bad", aggregation_strategy="none")


def test_classic_sentiment_of_tweets_with_confidence(tmp_path: Path) -> None:
    classify = warmstart.pipeline("sentiment-analysis", classifier("roberta", tmp_path))
    tweets = ["@user what a great song !", "the service was late again # bad", ""]
    for answer in classify(tweets):
        assert answer.keys() == {"label", "score"} and answer["label"] in ("no", "maybe", "yes")
        assert 1 / 3 <= answer["score"] <= 1.0
    for ranked in classify(tweets, top_k=None):
        assert sum(row["score"] for row in ranked) == pytest.approx(1.0, abs=1e-5)
        assert [row["score"] for row in ranked] == sorted(r["score"] for r in ranked)[::-1]


def test_classic_samples_of_a_decoder_with_temperature_and_top_p(tmp_path: Path) -> None:
    write = warmstart.pipeline("text-generation", writer(tmp_path, "gpt2"))
    how: dict[str, Any] = {"max_length": 20, "num_return_sequences": 4, "temperature": 0.8}
    texts = write("the film was", top_p=0.9, seed=3, **how)
    assert len({row["generated_text"] for row in texts}) > 1
    assert texts == write("the film was", top_p=0.9, seed=3, **how)
    assert texts != write("the film was", top_p=0.9, seed=4, **how)
    nearly = write("the film was", top_p=1e-6, seed=3, **how)  # the likeliest token alone is left
    (greedy,) = write("the film was", max_length=20)
    assert nearly == [greedy] * 4


def test_classic_summaries_of_pegasus(tmp_path: Path) -> None:
    folder = writer(tmp_path, "pegasus")
    texts = ["the film was not very great and the book was bad .", "good food !"]
    for engine in ("torch", "ctranslate2"):
        if engine == "ctranslate2":
            pytest.importorskip("ctranslate2", reason="pip install 'warmstart[ctranslate2]'")
        summarise = warmstart.pipeline("summarization", folder, engine=engine)
        short, long = (summarise(texts, num_beams=2, max_new_tokens=n) for n in (3, 8))
        assert [list(row) for row in short] == [["summary_text"]] * 2
        assert all(len(a["summary_text"].split()) <= 3 for a in short)
        assert all(len(a["summary_text"].split()) <= 8 for a in long)
        single = summarise(texts[1], num_beams=2, max_new_tokens=8)
        assert single == [long[1]]


def test_errors_name_what_would_do(tmp_path: Path) -> None:
    folder = classifier("bert", tmp_path)
    with pytest.raises(RecipeError, match="Did you mean 'summarization'"):
        warmstart.pipeline("sumarization", folder)
    with pytest.raises(RecipeError, match="take pipeline 'text-classification'"):
        warmstart.pipeline("question-answering", folder)
    with pytest.raises(RecipeError, match="no argument 'topk'.*top_k"):
        warmstart.pipeline("text-classification", folder)(TEXTS[0], topk=3)
