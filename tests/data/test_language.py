"""Languages: sure where it says so, silent on what could be anything."""

from __future__ import annotations

import csv
from pathlib import Path

from warmstart.data.profiling.language import find_languages, name_of

ENGLISH = [
    "My parcel has not come yet, where is it?",
    "Please cancel the subscription before the next payment.",
    "The kettle stopped working after two days.",
]


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_foreign_rows_among_english_ones():
    foreign = {
        3: "Guten Tag, die Lampe kam leider mit zerbrochenem Schirm bei uns an.",
        4: "Hola, quiero cancelar mi suscripción mensual de café, por favor.",
        5: "我昨天收到的水壶坏了，请问怎么退货？",
        6: "لم يصل الطرد الخاص بي حتى الآن، أين هو؟",
    }
    found = find_languages([*ENGLISH, *foreign.values()])
    assert name_of(found.majority) == "English"
    said = {row: name_of(code) for row, code, _ in found.rows}
    assert said == {3: "German", 4: "Spanish", 5: "Chinese", 6: "Arabic"}
    assert abs(sum(found.shares.values()) - 1) < 1e-9


def test_short_and_strange_texts_count_for_nothing():
    texts = [*ENGLISH, "ok", "", "@user #fail http://a.b/c", "lol omg", "1234 5678", "???"]
    found = find_languages(texts)
    assert found.rows == [] and found.unsure == 6
    assert find_languages(["ok", "?"]).majority == ""


def test_few_false_alarms_on_short_english(shared_data: Path):
    texts = column(shared_data / "tweet_emotion" / "test.csv", "text")
    texts += column(shared_data / "sms_spam" / "test.csv", "text")
    assert len(find_languages(texts).rows) <= 0.001 * len(texts)


def test_sentences_of_other_languages_are_found(shared_data: Path):
    texts = column(shared_data / "sib200" / "validation.csv", "text")
    codes = column(shared_data / "sib200" / "validation.csv", "language")
    right = {"eng": "en", "deu": "de", "arb": "ar", "zho": "zh", "swh": "sw"}
    found = find_languages(texts)
    said = dict.fromkeys(range(len(texts)), found.majority) | {r: c for r, c, _ in found.rows}
    hits = sum(said[i] == right[code[:3]] for i, code in enumerate(codes))
    assert hits >= 0.97 * len(texts)
