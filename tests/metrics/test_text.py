"""ROUGE, BLEU and chrF equal their packages' own corpus figures, whole and on every resample."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from warmstart.errors import WarmstartError
from warmstart.metrics.base import Measure
from warmstart.metrics.bootstrap import intervals
from warmstart.metrics.text import Bleu, Chrf, Lengths, Rouge, sentences, several, streams
from warmstart.tasks.summarization import Summarization
from warmstart.tasks.text2text import Text2Text
from warmstart.tasks.translation import Translation

GOLD = [
    ["The cat sat on the mat.", "A cat was sitting on the mat."],
    ["Ein Hund läuft über die grüne Wiese."],
    ["Running dogs\nbarked loudly.\nIt rained."],
    ["short"],
]
GIVEN = [
    "the cat is on a mat .",
    "Ein Hund rennt über eine Wiese.",
    "A dog runs.\nIt barked loud, it rained.",
    "",
]


@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_equals_the_package(stemmer: bool) -> None:
    measure = Rouge(stemmer=stemmer)
    scores = measure(GIVEN, GOLD)
    scorer = RougeScorer(list(measure.names), use_stemmer=stemmer)
    found = [scorer.score_multi(gold, text) for text, gold in zip(GIVEN, GOLD, strict=True)]
    for name in measure.names:
        assert scores[name] == pytest.approx(np.mean([row[name].fmeasure for row in found]))
    assert f"stem:{'yes' if stemmer else 'no'}" in measure.signature()


def test_rouge_lsum_sees_sentences_where_asked() -> None:
    gold = [["One went home. Two stayed out."]]
    given = ["Two stayed out. One went home."]
    lines, cut = Rouge()(given, gold), Rouge(split="sentences")(given, gold)
    assert lines["rougeLsum"] == lines["rougeL"] == pytest.approx(0.5)
    assert cut["rougeLsum"] == 1.0
    assert cut["rougeL"] == lines["rougeL"]


def test_rouge_of_other_scripts() -> None:
    gold, given = [["Привет большой мир"]], ["большой мир"]
    assert Rouge()(given, gold)["rouge1"] == 0.0
    assert Rouge(words="unicode")(given, gold)["rouge1"] == pytest.approx(0.8)
    assert Rouge(words="unicode")(["ÜBER grün"], ["über grün"])["rouge2"] == 1.0


MEASURES = [
    (Bleu(), BLEU(force=True)),
    (Bleu(lowercase=True, words="intl"), BLEU(lowercase=True, tokenize="intl", force=True)),
    (Chrf(), CHRF()),
    (Chrf(word_order=2), CHRF(word_order=2)),
]


@pytest.mark.parametrize(("measure", "package"), MEASURES)
def test_bleu_and_chrf_equal_the_package(measure: Bleu | Chrf, package: BLEU | CHRF) -> None:
    expected = package.corpus_score(GIVEN, streams(GOLD))
    assert measure(GIVEN, GOLD)[measure.name] == pytest.approx(expected.score)
    assert measure.signature(GOLD) == str(package.get_signature())
    assert "nrefs:var" in measure.signature(GOLD)


@pytest.mark.parametrize(("measure", "package"), MEASURES)
def test_resamples_equal_the_package_on_the_rows_repeated(
    measure: Bleu | Chrf, package: BLEU | CHRF
) -> None:
    rows = measure.rows(GIVEN, GOLD)
    weights = np.array([[2, 0, 1, 1], [0, 3, 0, 1], [0, 0, 0, 4]], float)
    found = measure.weighted(rows, weights)[measure.name]
    assert found.shape == (3,)
    for value, times in zip(found, weights.astype(int), strict=True):
        given = [text for text, n in zip(GIVEN, times, strict=True) for _ in range(n)]
        gold = [text for text, n in zip(GOLD, times, strict=True) for _ in range(n)]
        assert value == pytest.approx(package.corpus_score(given, streams(gold)).score)


def test_lengths() -> None:
    scores = Lengths()(["a b a b a b", "", "x"], ["a b", "c d", ["y z", "w"]])
    assert scores == pytest.approx(
        {
            "words": 7 / 3,
            "reference_words": 2.0,
            "length_ratio": 7 / 6,
            "empty": 1 / 3,
            "repeated": 3 / 5,
        }
    )


@pytest.mark.parametrize("measure", [Rouge(), Bleu(), Chrf(), Lengths()])
def test_no_rows_give_no_error_and_perfect_rows_the_highest(measure: Measure) -> None:
    assert len(measure.rows([], [])) == 0
    gold = ["One fine long sentence stands here.", "And here is another one."]
    perfect = measure(gold, gold)
    for name in {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"} & perfect.keys():
        assert perfect[name] == pytest.approx(measure.highest(name))
        assert perfect[name] <= (measure.highest(name) or 0.0)
        found = intervals(measure, measure.rows(gold, gold), draws=20)[name]
        assert found.low < found.high


def test_rows_must_be_as_many() -> None:
    for measure in (Rouge(), Bleu(), Lengths()):
        with pytest.raises(ValueError, match=r"shorter|references"):
            measure.rows(["a"], ["a", "b"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> object:
        if name.startswith(("rouge_score", "sacrebleu")):
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    for make, package in ((Rouge, "rouge-score"), (Bleu, "sacrebleu"), (Chrf, "sacrebleu")):
        with pytest.raises(WarmstartError, match=rf"{package}.*warmstart\[text\]"):
            make()


def test_sentences_and_references() -> None:
    text = 'He said "Stop." Then he left! At 3.5 km it rained.\nNext line. no capital'
    assert sentences(text) == [
        'He said "Stop."',
        "Then he left!",
        "At 3.5 km it rained.",
        "Next line. no capital",
    ]
    assert several(["a", ["b", "c"], []]) == [["a"], ["b", "c"], [""]]
    assert streams(["a", ["b", "c"]]) == [["a", "b"], [None, "c"]]


def test_real_summaries_equal_the_package(shared_data: Path) -> None:
    lines = (shared_data / "scitldr" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    rows = [json.loads(line) for line in lines]
    first = [sentences(row["source"])[0] for row in rows]
    scores = Rouge()(first, [row["references"] for row in rows])
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    best = [
        max(scorer.score(gold, text)["rouge1"].fmeasure for gold in row["references"])
        for text, row in zip(first, rows, strict=True)
    ]
    assert scores["rouge1"] == pytest.approx(np.mean(best))


SCRIPTS = {
    "English": "The committee approved the new budget yesterday.",
    "Russian": "Комитет вчера утвердил новый бюджет города.",
    "Greek": "Η επιτροπή ενέκρινε χθες τον νέο προϋπολογισμό.",
    "Chinese": "委员会昨天批准了新的城市预算。",
    "Japanese": "委員会は昨日、新しい予算を承認しました。",
    "Korean": "위원회는 어제 새 예산을 승인했습니다.",
    "Arabic": "وافقت اللجنة أمس على الميزانية الجديدة.",
    "Hebrew": "הוועדה אישרה אתמול את התקציב החדש.",
    "Hindi": "समिति ने कल नए बजट को मंजूरी दी।",
    "Thai": "คณะกรรมการอนุมัติงบประมาณใหม่เมื่อวานนี้",
    "Khmer": "គណៈកម្មាធិការបានអនុម័តថវិកាថ្មី",
    "Vietnamese": "Ủy ban đã phê duyệt ngân sách mới hôm qua.",
    "mixed": "Комитет approved the новый budget yesterday.",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_text_against_itself_is_perfect_in_every_script(name: str) -> None:
    """By the settings that the tasks choose for such references; a text that shares some of its
    words lies between, and another hardly any."""
    text, table = SCRIPTS[name], pa.table({"source": ["x"], "target": [SCRIPTS[name]]})
    for task in (Summarization(), Translation(), Text2Text()):
        measure = task.resolve_for_data(table).measure()
        figures = measure([text], [text])
        for title in task.metric_titles:
            worst = title in measure.lower_is_better
            best = 0.0 if worst else measure.highest(title) or 1.0
            assert figures[title] == pytest.approx(best), (task, title)
        half = measure([text[: len(text) // 2]], [text])
        for title in {"rouge1", "rougeL", "chrf"} & set(figures):
            assert 0 < half[title] < figures[title], (task, title)
        assert measure(["zzz qqq"], [text])[task.row_figure] < 5


def test_the_words_that_are_counted_follow_the_script_and_can_be_set() -> None:
    def settled(task: Any, *texts: str) -> Any:
        return task.resolve_for_data(pa.table({"source": texts, "target": texts}))

    assert (
        settled(
            Summarization(), "A cat sat.", "Für das Café nebenan gilt dies alles nicht."
        ).rouge_words
        == "ascii"
    )
    assert (
        settled(Summarization(), SCRIPTS["Russian"], *["A cat sat."] * 99).rouge_words == "unicode"
    )
    assert settled(Summarization(rouge_words="ascii"), SCRIPTS["Russian"]).rouge_words == "ascii"
    assert settled(Translation(), SCRIPTS["Chinese"]).bleu_words == "zh"
    assert settled(Translation(), SCRIPTS["Japanese"]).bleu_words == "char"
    assert settled(Translation(bleu_words="intl"), SCRIPTS["Chinese"]).bleu_words == "intl"
