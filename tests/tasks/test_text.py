"""Summarization, translation and text2text: columns, prompts, settings, results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from learning import base_of
from warmstart import part as parts
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError, RecipeError
from warmstart.evaluation.baselines import Baseline, fit_baselines
from warmstart.evaluation.evaluate import evaluate
from warmstart.evaluation.settings import Evaluate
from warmstart.models.checks import read_json
from warmstart.models.generation import GenerationOutput
from warmstart.models.loading import load_tokenizer
from warmstart.tasks.base import Examples
from warmstart.tasks.generation import references

Folder = Callable[[str], Path]
DECODER, ENCODER = {"model_type": "gpt2", "n_positions": 64}, {
    "model_type": "bart", "max_position_embeddings": 64, "is_encoder_decoder": True,
}  # fmt: skip
T5 = {"model_type": "t5", "is_encoder_decoder": True, "relative_attention_num_buckets": 32}


def task_of(name: str, **settings: Any) -> Any:
    return parts.make("task", name, settings)


def rows_of(task: Any, rows: Any) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Raw rows in the task's own form, and those that it dropped."""
    lost: list[tuple[int, str]] = []
    raw = rows if isinstance(rows, pa.Table) else read(list(rows), ledger=Ledger())
    table = map_roles(raw, task.roles, {}, task.required or set(), task.nested)
    return task.rows(table, lambda row, why: lost.append((row, why))), lost


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("summarization", "document", "summary"),
        ("summarization", "article", "highlights"),
        ("translation", "src", "tgt"),
        ("text2text", "input", "output"),
        ("text2text", "prompt", "response"),
    ],
)
def test_columns_by_their_usual_names(name: str, source: str, target: str) -> None:
    table, lost = rows_of(task_of(name), [{source: "a b", target: "c"}])
    assert table.select(["source", "target"]).to_pylist() == [{"source": "a b", "target": "c"}]
    assert not lost


def test_pairs_by_language() -> None:
    rows = [
        {"translation": {"en": "a man", "de": "ein Mann"}},
        {"translation": {"en": "b", "de": ""}},
    ]
    table, lost = rows_of(task_of("translation"), rows)
    assert table.select(["source", "target"]).to_pylist() == [
        {"source": "a man", "target": "ein Mann"}
    ]
    assert lost == [(1, "empty target")]
    back, _ = rows_of(task_of("translation", source_language="de"), rows[:1])
    assert back["source"].to_pylist() == ["ein Mann"] and back["target"].to_pylist() == ["a man"]
    three = [{"translation": {"en": "a", "de": "b", "fr": "c"}}]
    with pytest.raises(DataError, match=r"en, de, fr; say which with --task.source_language"):
        rows_of(task_of("translation"), three)


def test_lists_and_pairs_as_pandas_writes_them_to_csv(tmp_path: Path) -> None:
    pairs = [{"en": "a 'big' man", "de": "ein Mann"}, {"en": "b", "de": "c"}]
    frame = pd.DataFrame({"translation": pairs, "references": [["x", "it's y"], ["z"]]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    table, _ = rows_of(task_of("translation"), read(tmp_path / "a.csv", ledger=Ledger()))
    assert table.select(["source", "target"]).to_pylist() == [
        {"source": pair["en"], "target": pair["de"]} for pair in pairs
    ]
    assert references(table) == [["x", "it's y"], ["z"]]


def test_a_column_translation_of_texts_is_the_target() -> None:
    table, _ = rows_of(task_of("translation"), [{"source": "a", "translation": "b"}])
    assert table["target"].to_pylist() == ["b"]
    with pytest.raises(DataError, match=r":1: 'b' is no pair of texts by language"):
        rows_of(task_of("translation"), [{"translation": "b"}])


def test_references_may_be_lists_or_json_or_missing() -> None:
    given = [["x", "y"], '["z"]', "one text", None, []]
    for values in (given[:1], given[1:4], given[3:]):
        rows = [{"source": "a", "target": "t", "references": value} for value in values]
        table, _ = rows_of(task_of("summarization"), rows)
        wanted = [
            {"['x', 'y']": ["x", "y"], '["z"]': ["z"], "one text": ["one text"]}.get(str(v), ["t"])
            for v in values
        ]
        assert references(table) == wanted
    plain, _ = rows_of(task_of("summarization"), [{"source": "a", "target": "t"}])
    assert references(plain) == [["t"]]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match=r"no column for source; name the columns"):
        rows_of(task_of("translation"), [{"en": "a", "de": "b"}])
    for name in ("text2text", "summarization", "translation"):
        table, _ = rows_of(task_of(name), [{"source": "a", "other": "b"}])
        with pytest.raises(DataError, match=r"no column for target.*--data.columns.target"):
            task_of(name).resolve_for_data(table)


def test_the_first_reference_stands_in_for_a_target() -> None:
    rows = [{"source": "a", "references": ["x", "y"]}, {"source": "b", "references": []}]
    table, lost = rows_of(task_of("translation"), rows)
    assert table["target"].to_pylist() == ["x"] and lost == [(1, "empty target")]
    assert references(table) == [["x", "y"]]
    assert task_of("translation").resolve_for_data(table)


def test_choices_that_depend_on_the_base() -> None:
    decoder = task_of("summarization").resolve_for_base(DECODER, 1000)
    assert (decoder.max_length, decoder.max_new_tokens) == (64, 32)
    assert decoder.separator == "\nTL;DR:" and decoder.prefix == ""
    encoder = task_of("summarization", max_length=40).resolve_for_base(ENCODER, 1000)
    assert (encoder.max_length, encoder.max_new_tokens, encoder.separator) == (40, 64, None)
    t5 = task_of("summarization").resolve_for_base(T5, 1000)
    assert (t5.max_length, t5.max_new_tokens, t5.prefix) == (512, 128, "summarize: ")
    assert task_of("summarization", prefix="").resolve_for_base(T5, 1000).prefix == ""
    named = task_of("translation", source_language="English", target_language="German")
    assert named.resolve_for_base(T5, 1000).prefix == "translate English to German: "
    assert named.resolve_for_base(ENCODER, 1000).prefix == ""
    for made, config in ((decoder, DECODER), (encoder, ENCODER), (t5, T5)):
        assert made.resolve_for_base(config, made.max_length) == made, "settled is settled"


@pytest.mark.parametrize(
    ("settings", "config", "said"),
    [
        ({"separator": "=>"}, ENCODER, "task.separator.*reads the source with its encoder"),
        ({"max_new_tokens": 63}, DECODER, "max_new_tokens 63 does not go with the 64 tokens"),
        ({"max_new_tokens": 65}, ENCODER, "max_new_tokens 65 is more than the 64 tokens of 'bart'"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, ENCODER, "min_new_tokens 9 is more than"),
    ],
)
def test_settings_that_do_not_go_with_the_base(
    settings: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        task_of("text2text", **settings).resolve_for_base(config, 64)


@pytest.mark.parametrize("family", ["t5", "bart", "gpt2", "llama"])
def test_a_long_source_is_cut_and_the_separator_stays(family: str, tiny_of: Folder) -> None:
    folder = tiny_of(family)
    tokenizer = load_tokenizer(base_of(folder))
    task = task_of("text2text", max_length=20, max_new_tokens=6)
    task = task.resolve_for_base(read_json(folder / "config.json"), 64)
    long = "good film red " * 12
    table, _ = rows_of(task, [{"source": long, "target": "one two three four five six seven"}])
    cut: list[tuple[int, int]] = []
    store = task.encode(table, [], tokenizer, 20, lambda *what: cut.append(what))
    if task.separator is None:
        wanted = tokenizer(task.prefix + long, truncation=True, max_length=20).input_ids
        answer = tokenizer(table["target"][0].as_py(), truncation=True, max_length=6).input_ids
    else:
        end = tokenizer(task.separator).input_ids
        text = tokenizer("good film red " * 12).input_ids
        wanted = text[: 14 - len(end)] + end
        answer = [*tokenizer("one two three four five").input_ids, tokenizer.eos_token_id]
    assert store.row(0).tolist() == wanted
    assert store.answers is not None and store.answers.row(0).tolist() == answer
    assert [row for row, _ in cut] == [0, 0], "the source and the target"


def test_a_separator_that_the_tokenizer_drops_is_refused(tiny_of: Folder) -> None:
    folder = tiny_of("gpt2")
    task = task_of("text2text", separator="\n").resolve_for_base(
        read_json(folder / "config.json"), 64
    )
    table, _ = rows_of(task, [{"source": "a", "target": "b"}])
    with pytest.raises(RecipeError, match=r"task.separator '\\n' is no token"):
        task.encode(table, [], load_tokenizer(base_of(folder)), 64)


SOURCES = ["the film was very good . I liked it .", "the book was awful", "red green blue"]
TARGETS = ["very good film . good fine nice song", "awful poor bad book", "one two three red"]
HISTORY = [{"epoch": 1.0, "train_loss": 1.0, "validation_loss": 1.0, "validation_score": 0.5}] * 3
WRITTEN = ["very good film . nice song", "awful poor bad book", "blue"]


def result_of(name: str, tiny_of: Folder) -> tuple[Any, Any, list[Baseline], Examples]:
    folder = tiny_of("t5")
    tokenizer = load_tokenizer(base_of(folder))
    task = task_of(name).resolve_for_base(read_json(folder / "config.json"), 64)
    rows = [{"source": s, "target": t} for s, t in zip(SOURCES, TARGETS, strict=True)]
    table, _ = rows_of(task, rows)
    examples = Examples(table, task.encode(table, [], tokenizer, 64), [], tokenizer)
    written = GenerationOutput.nothing(3)
    for row, text in enumerate(WRITTEN):
        written.ids[row] = tokenizer(text).input_ids
    of = {"train": examples, "test": examples}
    result = task.evaluate({"test": written}, of)
    return task, result, fit_baselines(Evaluate(), task, result.baselines, {}, of, 0), examples


def test_summaries_are_judged_beside_the_first_sentences(tiny_of: Folder) -> None:
    _, result, baselines, examples = result_of("summarization", tiny_of)
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for name in ("rouge1", "rougeL"):
        first = result.score(baselines[0].predict(examples))
        for rows, texts in ((result.statistics, WRITTEN), (first, None)):
            texts = texts or ["the film was very good .", *SOURCES[1:]]
            found = [scorer.score(t, w)[name].fmeasure for t, w in zip(TARGETS, texts, strict=True)]
            assert result.measure.total(rows)[name] == pytest.approx(sum(found) / 3)
    assert [one.name for one in baselines] == ["lead_1", "lead_3"]
    assert [one["prediction"] for one in result.mistakes] == ["blue", WRITTEN[0]], "worst first"
    assert (
        result.mistakes[0]["label"] == TARGETS[2] and result.mistakes[0]["note"] == "ROUGE-L 0.00"
    )
    assert result.facts["wrong"] == 2
    some, counted = result.facts["sections"]
    assert [row[2] for row in some["rows"]] == WRITTEN
    assert counted["rows"] == [["ROUGE", result.facts["signatures"]["ROUGE"]]]


def test_translations_are_judged_as_sacrebleu_judges_them(tiny_of: Folder) -> None:
    _, result, baselines, examples = result_of("translation", tiny_of)
    figures = result.measure.total(result.statistics)
    assert figures["bleu"] == pytest.approx(corpus_bleu(WRITTEN, [TARGETS], force=True).score)
    assert figures["chrf"] == pytest.approx(corpus_chrf(WRITTEN, [TARGETS]).score)
    assert figures["exact_match"] == pytest.approx(1 / 3)
    copied = result.measure.total(result.score(baselines[0].predict(examples)))["bleu"]
    assert copied == pytest.approx(corpus_bleu(SOURCES, [TARGETS], force=True).score)
    assert "version:" in result.facts["signatures"]["BLEU"]
    assert result.measure.highest("bleu") == 100.0 and result.measure.highest("exact_match") == 1.0


def test_text2text_is_judged_beside_the_commonest_answer(tiny_of: Folder) -> None:
    task, result, baselines, _ = result_of("text2text", tiny_of)
    assert [one.name for one in baselines] == ["most_frequent", "copy"]
    assert result.measure.total(result.statistics)["exact_match"] == pytest.approx(1 / 3)
    assert task.num_beams == 1
    row = result.table.to_pylist()[1]
    assert (row["source"], row["target"], row["prediction"]) == (SOURCES[1], TARGETS[1], WRITTEN[1])


def test_a_model_that_says_the_same_of_everything_is_told_of() -> None:
    from warmstart.tasks.generation import _same

    golds = [f"gold {n}" for n in range(20)]
    assert _same(["a film"] * 15 + golds[:5], golds)[0].startswith("15 of 20 answers are the same")
    assert not _same(golds, golds)
    labels = ["yes", "no"] * 10
    assert not _same(labels, labels), "answers that are right as often"


def test_columns_of_predict(tiny_of: Folder) -> None:
    from warmstart.types import Prediction

    found = task_of("translation").columns([Prediction("0", "ein Mann", 0.5)])
    plain = {name: column.to_pylist() for name, column in found.items()}
    assert plain == {"prediction": ["ein Mann"], "confidence": [0.5]}
    assert json.dumps(plain)


def test_answers_that_repeat_themselves_are_noticed() -> None:
    from warmstart.tasks.generation import _notes

    (found,) = _notes({"repeated": 0.18, "empty": 0.0})
    assert found.startswith("18 % of the word pairs")
    assert "no_repeat_ngram_size 3" in found
    assert _notes({"repeated": 0.04, "empty": 0.0}) == []


def test_a_figure_that_does_not_see_the_references_condemns_no_model(tiny_of: Folder) -> None:
    """ROUGE of letters a-z gives Russian texts 0, also the references themselves."""
    folder = tiny_of("t5")
    tokenizer = load_tokenizer(base_of(folder))
    task = task_of("summarization", rouge_words="ascii")
    task = task.resolve_for_base(read_json(folder / "config.json"), 64)
    texts = ["фильм был очень хорош", "всё было плохо", "цвет неба"]
    table, _ = rows_of(task, [{"source": "a b", "target": text} for text in texts])
    examples = Examples(table, task.encode(table, [], tokenizer, 64), [], tokenizer)
    result = task.evaluate({"test": GenerationOutput.nothing(3)}, {"test": examples})
    assert result.ceiling == 0
    metrics = evaluate(
        Evaluate(bootstrap=100, baselines=False), task, {"test": GenerationOutput.nothing(3)},
        {"test": examples}, HISTORY,
    ).metrics  # fmt: skip
    assert "gives the references themselves 0" in " ".join(metrics["notes"])
    assert "not learned" not in metrics["curves"]["sentence"]
