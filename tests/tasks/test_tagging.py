"""Tags on tokens as transformers aligns them, answers with characters, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from learning import base_of, loss_of, supervised
from tiny import tiny_tokenizer
from warmstart import part as parts
from warmstart.data.tokens.encoding import tokenise_windows
from warmstart.errors import DataError
from warmstart.evaluation.baselines import fit_baselines
from warmstart.evaluation.settings import Evaluate
from warmstart.models.base import resolve
from warmstart.models.heads import TOKENS
from warmstart.models.loading import load_tokenizer
from warmstart.tasks.base import Examples

SENTENCES = [
    ["The", "Kathmandu-based", "U.N.", "office", "isn't", "in", "Ouagadougou", "."],
    ["x-rays", "(", "Röntgenstrahlen", ")", "🙂", "!"],
]
TAGS = [
    ["O", "B-LOC", "B-ORG", "I-ORG", "O", "O", "B-LOC", "O"],
    ["B-X", "O", "B-X", "O", "O", "O"],
]
LABELS = ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-X", "I-X"]


def task_of(**settings: Any) -> Any:
    return parts.make("task", "tagging", settings)


def table(rows: list[dict[str, Any]], **settings: Any) -> pa.Table:
    from warmstart.data.columns import map_roles
    from warmstart.data.ledger import Ledger
    from warmstart.data.readers.read import read
    from warmstart.inference.predictor import own_form

    task = task_of(**settings)
    raw = read(rows, ledger=Ledger())
    return own_form(task, map_roles(raw, task.roles, {}, task.required, task.nested))


def given() -> pa.Table:
    rows = zip(SENTENCES, TAGS, strict=True)
    return table([{"tokens": words, "ner_tags": tags} for words, tags in rows])


def examples(
    rows: pa.Table, tokenizer: Any, labels: list[str], longest: int = 64, **settings: Any
) -> Examples:
    store = task_of(**settings).encode(rows, labels, tokenizer, longest)
    return Examples(rows, store, labels, tokenizer)


@pytest.fixture(scope="module")
def minilm() -> Any:
    return load_tokenizer(resolve("minilm"))


@pytest.fixture(scope="module")
def byte_level() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(words) for words in SENTENCES] * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("which", ["minilm", "byte_level"])
def test_first_pieces_are_labelled_as_by_word_ids(
    which: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(which)
    found = examples(given(), tokenizer, LABELS)
    for row, (words, tags) in enumerate(zip(SENTENCES, TAGS, strict=True)):
        theirs = tokenizer(words, is_split_into_words=True)
        assert found.store.row(row).tolist() == theirs["input_ids"]
        seen: set[int | None] = {None}
        wanted: list[int] = []
        for word in theirs.word_ids():
            wanted.append(-100 if word in seen else LABELS.index(tags[word]))
            seen.add(word)
        a, b = found.store.offsets[row], found.store.offsets[row + 1]
        assert found.store.targets[a:b].tolist() == wanted


def test_which_pieces_are_labelled(minilm: Any) -> None:
    rows = table([{"tokens": ["Kathmandu-based", "x"], "ner_tags": ["B-LOC", "O"]}])
    pieces = minilm.convert_ids_to_tokens(examples(rows, minilm, LABELS).store.ids.tolist())
    assert pieces == ["[CLS]", "kathmandu", "-", "based", "x", "[SEP]"]

    def labelled(**settings: Any) -> str:
        targets = examples(rows, minilm, LABELS, **settings).store.targets
        return " ".join(LABELS[i] if i >= 0 else "." for i in targets)

    assert labelled(pieces="first") == ". B-LOC . . O ."
    assert labelled(pieces="parts") == ". B-LOC I-LOC I-LOC O ."
    assert labelled(pieces="all") == ". B-LOC I-LOC I-LOC O ."
    rows = table([{"tokens": ["Ouagadougou", "x"], "ner_tags": ["B-LOC", "O"]}])
    assert labelled(pieces="first") == labelled(pieces="parts")
    assert labelled(pieces="parts").count("LOC") == 1 < labelled(pieces="all").count("LOC")


def logits_of(found: Examples, tags: list[list[str]], strength: float = 9.0) -> np.ndarray:
    """Outputs that say the given tag at the first piece of every word, and noise elsewhere."""
    from warmstart.tasks.tagging.decoding import first_tokens, flat
    from warmstart.tasks.tagging.reading import words_in

    texts = found.table["text"].to_pylist()
    tokens = first_tokens(found.store, texts, flat(words_in(found.table), texts))
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(len(found.store.ids), len(found.labels))).astype(np.float32) * 9
    for token, tag in zip(tokens, [tag for row in tags for tag in row], strict=True):
        if token >= 0:
            outputs[token] = 0
            outputs[token, found.labels.index(tag)] = strength
    return outputs


def test_answers_have_characters_and_scores(minilm: Any) -> None:
    found = examples(given(), minilm, LABELS)
    first, second = task_of().decode(logits_of(found, TAGS), found)
    text = " ".join(SENTENCES[0])
    assert [(one["type"], one["text"]) for one in first.value] == [
        ("LOC", "Kathmandu-based"), ("ORG", "U.N. office"), ("LOC", "Ouagadougou")]  # fmt: skip
    assert all(text[one["start"] : one["end"]] == one["text"] for one in first.value)
    sure = np.exp(9) / (np.exp(9) + len(LABELS) - 1)
    assert first.value[1]["score"] == pytest.approx(sure, abs=1e-5)
    assert first.confidence == pytest.approx(sure, abs=1e-5)
    assert [one["text"] for one in second.value] == ["x-rays", "Röntgenstrahlen"]
    columns = task_of().columns([first, second])
    assert columns["entities"].to_pylist()[0] == first.value
    assert columns["confidence"].to_pylist() == pytest.approx([sure, sure], abs=1e-5)


@pytest.mark.parametrize("scheme", ["iob2", "iob1", "bioes", "bilou"])
def test_every_scheme_answers_alike(scheme: str, minilm: Any) -> None:
    from warmstart.metrics.entities import spans_of_tags
    from warmstart.tasks.tagging.schemes import tags_of

    task = task_of(scheme=scheme)
    rows = given()
    labels = task.fit_labels(rows)
    found = examples(rows, minilm, labels, scheme=scheme)
    tags = [tags_of(spans_of_tags(row), len(row), scheme) for row in TAGS]
    outputs = logits_of(found, tags)
    assert task.score(outputs, found)["f1_micro"] == 1
    learnt = [labels[i] for i in found.store.targets if i >= 0]
    assert learnt == [tag for row in tags for tag in row]


def test_constrained_answers_are_well_formed(minilm: Any) -> None:
    rows = table([{"tokens": ["a", "b", "c"], "ner_tags": ["O", "B-X", "I-X"]}])
    found = examples(rows, minilm, LABELS)
    outputs = np.zeros((len(found.store.ids), len(LABELS)), np.float32)
    outputs[1, 0], outputs[2, LABELS.index("I-X")], outputs[3, LABELS.index("I-X")] = 9, 5, 9
    outputs[2, LABELS.index("B-X")] = 4
    outputs[2, LABELS.index("B-LOC")] = 4.5
    free, kept = (task_of(constrained=c).decode(outputs, found)[0] for c in (False, True))
    assert [(one["type"], one["text"]) for one in free.value] == [("X", "b c")]
    assert [(one["type"], one["text"]) for one in kept.value] == [("X", "b c")]
    assert free.value[0]["score"] > kept.value[0]["score"], "the tag B-X was less sure than I-X"


def test_a_long_text_is_answered_from_the_windows(minilm: Any) -> None:
    words = ["w" + "x" * (i % 3) for i in range(90)]
    tags = ["B-X" if i % 7 == 0 else "I-X" if i % 7 == 1 else "O" for i in range(90)]
    rows = table([{"tokens": words, "ner_tags": tags}])
    found = examples(rows, minilm, LABELS, 24)
    assert len(found.store) > 4
    labelled = found.store.targets[found.store.targets >= 0]
    assert [LABELS[i] for i in labelled] == tags, "each word is learnt once"
    assert task_of().score(logits_of(found, [tags]), found)["f1_micro"] == 1


def test_words_that_vanish_are_no_entity(minilm: Any) -> None:
    rows = table([{"tokens": ["a", "\u200b", "b"], "ner_tags": ["B-X", "I-X", "O"]}])
    found = examples(rows, minilm, LABELS)
    (answer,) = task_of().decode(logits_of(found, [["B-X", "I-X", "O"]]), found)
    assert [one["text"] for one in answer.value] == ["a"]


def test_learn_knows_what_there_is() -> None:
    assert task_of().fit_labels(given()) == LABELS
    single = table([{"tokens": ["a", "b"], "upos": ["X", "DET"]}])
    assert task_of().fit_labels(single) == ["DET", "X"]
    with pytest.raises(DataError, match="no word of train is tagged as anything but O"):
        task_of().fit_labels(table([{"tokens": ["a"], "tags": ["O"]}]))
    with pytest.raises(DataError, match=r"no column of tags or spans.*--data.columns.tags"):
        task_of().fit_labels(table([{"tokens": ["a"]}]))


def test_the_result_says_what_is_wrong(minilm: Any) -> None:
    found = examples(given(), minilm, LABELS)
    said = [["O", "B-ORG", "B-ORG", "O", "O", "O", "O", "O"], ["B-X", "O", "O", "B-X", "O", "O"]]
    task = task_of()
    result = task.evaluate({"test": logits_of(found, said)}, {"test": found, "train": found})
    total = result.measure.total(result.statistics)
    assert total["precision_micro"] == pytest.approx(1 / 4)
    assert total["recall_micro"] == pytest.approx(1 / 5)
    assert result.facts["mistakes"] == {
        "missed": 2, "invented": 1, "wrong type": 1, "wrong borders": 1}  # fmt: skip
    (kinds,) = result.facts["sections"]
    assert result.facts["counts"]["X"] == {"right": 1, "predicted": 2, "actual": 2}
    assert [row[:2] for row in kinds["rows"]] == [
        [k, n] for k, n in (("missed", 2), ("invented", 1), ("wrong type", 1), ("wrong borders", 1))
    ]
    assert result.facts["wrong"] == 2
    by_note = {one["note"]: one for one in result.mistakes}
    assert by_note["wrong type"]["label"] == "LOC: Kathmandu-based"
    assert by_note["wrong type"]["prediction"] == "ORG: Kathmandu-based"
    assert by_note["wrong borders"]["label"] == "ORG: U.N. office"
    assert by_note["wrong borders"]["prediction"] == "ORG: U.N."
    assert "[U.N. office]" in by_note["wrong borders"]["text"]
    assert by_note["invented"]["label"] == "(none)"
    fitted = fit_baselines(Evaluate(), task, result.baselines, {}, {"train": found}, 0)
    scores = {one.name: result.score(one.predict(found)) for one in fitted}
    figures = {name: result.measure.total(rows)["f1_micro"] for name, rows in scores.items()}
    assert figures == {"majority": 0.0, "dictionary": 1.0}, "train and test are the same here"
    assert result.table["correct"].to_pylist() == [False, False]
    truth = json.loads(result.table["label"][1].as_py())
    assert truth[0] == {"type": "X", "text": "x-rays", "start": 0, "end": 6}


def test_single_labels_are_scored_by_word(minilm: Any) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    truth, said = ["X", "DET", "X", "VERB"], ["X", "X", "X", "VERB"]
    rows = table([{"tokens": ["aa", "bb", "cc", "dd"], "upos": truth}])
    labels = task_of().fit_labels(rows)
    found = examples(rows, minilm, labels)
    outputs = logits_of(found, [said])
    score = task_of().score(outputs, found)
    assert score["f1_micro"] == score["accuracy"] == accuracy_score(truth, said)
    assert score["f1_macro"] == pytest.approx(f1_score(truth, said, average="macro"))
    result = task_of().evaluate({"test": outputs}, {"test": found})
    assert task_of().resolve_for_data(rows).metric_titles["f1_micro"] == "accuracy"
    assert task_of().resolve_for_data(given()).metric_titles["f1_micro"] == "entity F1"
    (wrong,) = result.mistakes
    assert (wrong["label"], wrong["prediction"], wrong["note"]) == ("DET", "X", "wrong label")
    (answer,) = task_of().decode(outputs, found)
    assert answer.value[0] == {"tag": "X", "text": "aa", "start": 0, "end": 2,
                               "score": answer.value[0]["score"]}  # fmt: skip
    assert list(task_of().columns([answer])) == ["tags", "confidence"]


def test_types_that_the_model_does_not_know_count_as_missed(minilm: Any) -> None:
    found = examples(given(), minilm, LABELS[:5])
    tags = [TAGS[0], ["O"] * 6]
    result = task_of().evaluate({"test": logits_of(found, tags)}, {"test": found})
    total = result.measure.total(result.statistics)
    assert (total["precision_micro"], total["recall_micro"]) == (1, pytest.approx(3 / 5))
    assert result.notes[0].startswith("The model does not know X")


def test_loss_is_that_of_torch(minilm: Any) -> None:
    from torch.nn.functional import cross_entropy

    found = examples(given(), minilm, LABELS)
    outputs = logits_of(found, TAGS, strength=1.0)
    wanted = cross_entropy(torch.from_numpy(outputs), torch.from_numpy(found.store.targets))
    targets = torch.from_numpy(found.store.targets)[None]
    total, weight = loss_of(supervised(TOKENS), torch.from_numpy(outputs)[None], targets)
    assert float(total / weight) == pytest.approx(float(wanted), rel=1e-5)


def test_tokenizers_of_whole_words_agree_with_the_store() -> None:
    tokenizer = tiny_tokenizer("xlnet")
    store = tokenise_windows(["the film"], tokenizer.backend_tokenizer, 20)
    assert store.spans is not None
    assert store.spans.tolist() == [[0, 3], [4, 8], [0, 0], [0, 0]]


def test_a_run_from_files_to_answers(
    tiny_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tune, predict texts, tokens and files, evaluate; and transformers' own pipeline."""
    import transformers

    import warmstart
    from warmstart.models.hf_calls import quiet

    data = tmp_path / "data"
    data.mkdir()
    lines: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    fillers = "the a is was not very it this that again money back late early".split()
    rng = np.random.default_rng(0)
    for number in range(120):
        words = [str(w) for w in rng.choice(fillers, rng.integers(2, 9))]
        words.insert(int(rng.integers(0, len(words))), ["film", "song", "book"][number % 3])
        words.insert(int(rng.integers(0, len(words))), ["red", "blue"][number % 2])
        tags = {"film": "B-WORK", "song": "B-WORK", "book": "B-WORK", "red": "B-HUE",
                "blue": "B-HUE"}  # fmt: skip
        split = "train" if number < 80 else "validation" if number < 100 else "test"
        lines[split] += [*(f"{w}\t{tags.get(w, 'O')}" for w in words), ""]
    for split, found in lines.items():
        (data / f"{split}.conll").write_text("\n".join(found))
    base = base_of(tiny_of("bert"))
    run = warmstart.tune(
        data, task="tagging", base=str(base.path), out=str(tmp_path / "run"),
        **{"train.epochs": 12, "train.learning_rate": 5e-3, "train.precision": "fp32",
           "evaluate.bootstrap": 100},
    )  # fmt: skip
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["f1_micro"]["value"] > 0.95
    assert {rival["name"] for rival in metrics["baselines"]} == {"majority", "dictionary"}
    assert (run.path / "report.html").stat().st_size > 10_000

    text = "this Film was not blue"
    (answer,) = run.predict([text])
    wanted = [("WORK", 5, 9), ("HUE", 18, 22)]
    assert [(one["type"], one["start"], one["end"]) for one in answer.value] == wanted
    with quiet():
        pipe = transformers.pipeline(
            "token-classification", model=str(run.model), aggregation_strategy="simple"
        )
        theirs = pipe(text)
    assert [(one["entity_group"], one["start"], one["end"]) for one in theirs] == wanted
    for ours, other in zip(answer.value, theirs, strict=True):
        assert ours["score"] == pytest.approx(float(other["score"]), abs=1e-4)

    new = tmp_path / "new.jsonl"
    new.write_text(json.dumps({"tokens": text.split(), "id": 7}) + "\n")
    warmstart.predict(run.path, new, out=tmp_path / "out.jsonl")
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["id"] == 7 and [one["text"] for one in row["entities"]] == ["Film", "blue"]
    warmstart.predict(run.path, new, out=tmp_path / "out.csv")
    assert '""type"": ""WORK""' in (tmp_path / "out.csv").read_text()

    again = warmstart.evaluate(run.path, data / "test.conll")
    assert again["f1_micro"] == metrics["f1_micro"]
