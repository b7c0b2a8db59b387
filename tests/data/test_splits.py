from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

from warmstart.data.dedup.exact import normalised
from warmstart.data.ledger import Ledger
from warmstart.data.settings import Data
from warmstart.data.splitting import load
from warmstart.errors import DataError, HubError, RecipeError, WarmstartError

NAMES = ("train", "validation", "test")


def texts(splits, name: str) -> list[str]:
    return getattr(splits, name)["text"].to_pylist()


def kinds(found) -> set[str]:
    return {note["kind"] for note in found.ledger.notes}


def test_one_file_is_cut_in_three(put, split, csv_text) -> None:
    path = put("d.csv", csv_text(200, ("a", "a", "a", "b")))
    found = split(path)
    assert [len(getattr(found.splits, name)) for name in NAMES] == [140, 20, 40]
    assert found.splits.test["label"].to_pylist().count("b") == 10
    assert found.splits.given == {"train": True, "validation": False, "test": False}
    assert found.summary["rows"] == {"read": 200, "kept": 200, "dropped": 0}
    everything = [t for name in NAMES for t in texts(found.splits, name)]
    assert len(set(everything)) == 200
    again, other = split(path), split(path, seed=1)
    assert texts(again.splits, "test") == texts(found.splits, "test")
    assert texts(other.splits, "test") != texts(found.splits, "test")
    assert again.splits.fingerprint == found.splits.fingerprint == other.splits.fingerprint


def test_same_texts_stay_on_one_side(split) -> None:
    rows = [
        {"text": f"Text, number {i % 60}{'!' * (i % 3)}", "label": "ab"[i % 60 % 2]}
        for i in range(180)
    ]
    found = split(rows, validation_fraction=0.2, test_fraction=0.2)
    sides = [{normalised(t) for t in texts(found.splits, name)} for name in NAMES]
    assert all(sides) and not any(a & b for a, b in itertools.combinations(sides, 2))
    assert "duplicates" in kinds(found)


def test_fingerprint_follows_the_data_not_the_chunks(split, put, csv_text) -> None:
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "other": i} for i in range(9_000)]
    first = split(rows).splits.fingerprint
    frame = pd.DataFrame(rows)
    assert split(frame[["label", "text"]]).splits.fingerprint == first
    frame.loc[8_999, "text"] = "changed"
    assert split(frame).splits.fingerprint != first
    moved = [{"text": f"t{i}x"[:-1], "label": "ab"[i % 2]} for i in range(8_999)]
    assert split(moved).splits.fingerprint != first


def test_a_folder_with_three_files(put, split, csv_text, tmp_path: Path) -> None:
    put("d/train.csv", csv_text(20))
    put("d/dev.tsv", "text\tlabel\nsomething else\tpos\n")
    put("d/test.jsonl", '{"text": "third", "label": "neg"}\n')
    put("d/README.md", "about")
    found = split(tmp_path / "d")
    assert [len(getattr(found.splits, name)) for name in NAMES] == [20, 1, 1]
    assert all(found.splits.given.values()) and found.splits.leakage == {}


def test_missing_validation_is_cut_from_train_only(put, split, csv_text, tmp_path: Path) -> None:
    train, test = put("a.csv", csv_text(40)), put("b.csv", csv_text(10, word="other"))
    found = split(train=str(train), test=str(test))
    assert [len(getattr(found.splits, name)) for name in NAMES] == [36, 4, 10]
    assert set(found.splits.test["_file"].to_pylist()) == {str(test)}
    assert len(split(train, test=str(test)).splits.train) == 36


def test_fraction_nought_gives_an_empty_split(put, split, csv_text) -> None:
    found = split(put("d.csv", csv_text(10)), validation_fraction=0.0)
    assert len(found.splits.validation) == 0 and len(found.splits.test) == 2
    assert found.splits.validation.column_names == found.splits.train.column_names


def test_rows_of_train_that_are_in_test_are_dropped(put, split, csv_text, tmp_path: Path) -> None:
    put("d/train.csv", csv_text(40) + "Shared  TEXT!,pos\nin dev,neg\n")
    put("d/validation.csv", "text,label\nIn dev.,neg\n")
    put("d/test.csv", 'text,label\n"shared, text",pos\nnew one,neg\n')
    found = split(tmp_path / "d")
    assert len(found.splits.train) == 40 and len(found.splits.test) == 2
    assert found.splits.leakage["train~test"]["rows"] == {"train": 1, "test": 1}
    left, right = found.splits.leakage["train~test"]["pairs"][0]
    assert left.endswith("train.csv:42") and right.endswith("test.csv:2")
    dropped = found.summary["dropped"]
    assert dropped["also in test"]["rows"] == dropped["also in validation"]["rows"] == 1
    assert "leakage" in kinds(found)


def test_train_that_is_all_in_test(put, split, csv_text) -> None:
    train, test = put("a.csv", csv_text(20)), put("b.csv", csv_text(20))
    with pytest.raises(DataError, match=r"a\.csv: every row is also in test"):
        split(train, test=str(test), max_dropped=1.0)


def test_data_without_labels() -> None:
    ledger = Ledger()
    rows = [{"text": f"t{i}"} for i in range(20)]
    found = load(Data(), {"text": ("text",)}, {"text"}, 0, ledger, rows, label=None)
    assert [len(getattr(found, name)) for name in NAMES] == [14, 2, 4]
    assert ledger.summary()["rows"]["kept"] == 20


def test_rows_without_text_or_label_are_dropped(put, split, csv_text) -> None:
    path = put("d.csv", csv_text(100) + " \u00a0 ,pos\nno label,\n,\n")
    found = split(path)
    assert found.summary["rows"] == {"read": 103, "kept": 100, "dropped": 3}
    assert found.summary["dropped"]["empty text"] == {"rows": 2, "first": f"{path}:102"}
    assert found.summary["dropped"]["empty label"]["first"] == f"{path}:103"


def test_too_many_lost_rows_stop_the_run(put, split, csv_text) -> None:
    path = put("d.csv", csv_text(20) + "no label,\n" * 5)
    with pytest.raises(DataError, match=r"5 of 25 rows.*empty label.*d\.csv:22.*max_dropped 0\.2"):
        split(path)
    assert len(split(path, max_dropped=0.2).splits.train) == 14


def test_labels_merged_on_request_and_outer_spaces_lost(put, split) -> None:
    body = "".join(f"text {i},{('Spam', 'spam ', 'ham ', 'spam ')[i % 4]}\n" for i in range(40))
    path = put("d.csv", "text,label\n" + body)
    with pytest.raises(DataError) as caught:
        split(path)
    message = str(caught.value)
    assert "'spam ' (20 rows) and 'Spam' (10 rows)" in message
    assert f"{path}:2" in message and "--data.merge_labels true" in message
    found = split(path, merge_labels=True)
    assert set(found.splits.train["label"].to_pylist()) == {"spam", "ham"}
    assert "labels" in kinds(found)


def test_data_set_dict_and_saved_folder(split, tmp_path: Path) -> None:
    import datasets

    rows = {"text": [f"t {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    train = datasets.Dataset.from_dict(rows, features)
    test = datasets.Dataset.from_dict({"text": ["u", "v"], "label": [0, 1]}, features)
    both = datasets.DatasetDict({"train": train, "test": test, "extra": test.select([0])})
    both.save_to_disk(str(tmp_path / "saved"))
    for source in (both, tmp_path / "saved"):
        found = split(source)
        assert found.splits.given == {"train": True, "validation": False, "test": True}
        assert found.splits.test["label"].to_pylist() == ["no", "yes"]
        assert "unused" in kinds(found)
    assert found.splits.test["_line"].to_pylist() == [1, 2]
    train.save_to_disk(str(tmp_path / "one"))
    assert len(split(tmp_path / "one").splits.test) == 4


def test_a_mapping_of_frames(split) -> None:
    train = pd.DataFrame({"text": [f"t{i}" for i in range(20)], "label": [1.0, 0.0] * 10})
    test = pd.DataFrame({"text": ["x"], "label": [1]})
    found = split({"train": train, "test": test})
    assert found.splits.test["label"].to_pylist() == ["1"]
    assert found.splits.test["_file"].to_pylist() == ["<DataFrame>[test]"]


def test_limit(put, split, csv_text) -> None:
    found = split(put("d.csv", csv_text(500)), limit=50)
    assert found.summary["rows"]["read"] == 50 and "limit" in kinds(found)


def test_hub_id_goes_to_the_hub(split, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data = datasets.Dataset.from_dict(
        {"text": [f"t{i}" for i in range(20)], "label": ["a", "b"] * 10}
    )
    asked: list[str] = []

    def give(name: str) -> object:
        asked.append(name)
        return datasets.DatasetDict({"train": data})

    monkeypatch.setattr(datasets, "load_dataset", give)
    assert len(split("owner/name").splits.train) == 14 and asked == ["owner/name"]

    def fail(name: str) -> object:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        HubError, match=r"no data set 'owner/other'.*no such file.*HF_TOKEN"
    ) as caught:
        split("owner/other")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("text,label\n" + "same kind,pos\n" * 5, ["every row has the label 'pos'", "two classes"]),
        ("text,label\na,x\nb,y\nc,y\n", ["'x'", "d.csv:2", "at least two rows"]),
        ("text,label\na,x\nb,y\n", ["'x'", "'y'", "at least two rows"]),
        ("text,label\n" + " ,x\n ,y\n" * 4, ["text of every row is empty", "--data.columns.text"]),
        ("text,label\na,\nb,\n", ["label of every row is empty", "--data.columns.label"]),
        (
            "text,label\n" + "".join(f"t{i},{i / 7}\n" for i in range(30)),
            ["30 different values in 30 rows", "--data.columns.label"],
        ),
        ("foo,label\na,x\n", ["no column for text", "foo, label", "--data.columns.text NAME"]),
        ("text,label\n" + "same,x\n" * 4 + "other,y\n" * 4, ["too few", "validation_fraction 0"]),
    ],
)
def test_data_that_cannot_be_used(put, split, content: str, what: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        split(put("d.csv", content))
    message = str(caught.value)
    assert "d.csv" in message and "\n" not in message
    assert all(words in message for words in what), message


def test_label_of_test_unknown_in_train(put, split, csv_text) -> None:
    train, test = put("a.csv", csv_text(20)), put("b.csv", "text,label\nx,pos\ny,neutral\n")
    with pytest.raises(DataError, match=r"b\.csv:3: the label 'neutral' of test never occurs"):
        split(train, test=str(test))


def test_a_rare_class_is_only_noted_when_nothing_is_cut(put, split, csv_text) -> None:
    train, rest = put("a.csv", csv_text(20) + "z,rare\n"), csv_text(4, word="other")
    given = {
        "validation": str(put("b.csv", rest)),
        "test": str(put("c.csv", csv_text(4, word="c"))),
    }
    assert "rare" in kinds(split(train, **given))


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        ({}, RecipeError, "no data were given; name a file"),
        ({"test": "{d}/a.csv"}, RecipeError, "only test data were given"),
        ({"train": "{d}/a.csv", "test": "{d}/./a.csv"}, RecipeError, "given as train and as test"),
        ({"path": "{d}/a.csv", "train": "{d}/b.csv"}, RecipeError, "two sources to train on"),
        ({"path": "{d}/a.csw"}, DataError, "Did you mean 'a.csv'"),
        ({"path": "x" * 5_000}, DataError, "no file 'xxx"),
        ({"path": "{d}/none"}, DataError, "no train.csv.*notes.md"),
        ({"path": "{d}/twice"}, DataError, "both train.csv and train.jsonl"),
        ({"path": "{d}/a.csv", "columns": {"texts": "x"}}, RecipeError, "no role 'texts'"),
    ],
)
def test_requests_that_cannot_be_met(
    put, split, csv_text, tmp_path: Path, settings: dict, error: type[WarmstartError], what: str
) -> None:
    for name in ("a.csv", "b.csv", "twice/train.csv", "twice/train.jsonl", "none/notes.md"):
        put(name, csv_text(20))
    filled = {
        key: value.format(d=tmp_path) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    with pytest.raises(error, match=what) as caught:
        split(**filled)
    assert "\n" not in str(caught.value)


def test_real_splits(shared_data: Path, split) -> None:
    found = split(shared_data / "tweet_emotion")
    assert [len(getattr(found.splits, name)) for name in NAMES] == [3256, 374, 1421]
    with pytest.raises(DataError, match=r"176 of 1,941 rows.*also in test.*citation_intent"):
        split(shared_data / "citation_intent")


LONG = "my parcel with the white desk lamp has not come and nobody answers my letters"


def plain(n: int, classes: str = "ab") -> list[dict[str, str]]:
    """Rows whose texts have nothing in common."""
    return [{"text": f"x{i} y{i} z{i}", "label": classes[i % len(classes)]} for i in range(n)]


def near_family(number: int) -> list[str]:
    """Three texts that are copies of each other, with words of their own."""
    text = " ".join(f"w{number}a{i}" for i in range(14))
    return [text, text.replace(f"w{number}a5 ", ""), f"again {text}"]


def test_nearly_equal_texts_stay_on_one_side(split) -> None:
    rows = [
        {"text": text, "label": "ab"[number % 2]}
        for number in range(60)
        for text in near_family(number)
    ]
    found = split(rows, validation_fraction=0.2, test_fraction=0.2)
    sides = [{t.split()[-1] for t in texts(found.splits, name)} for name in NAMES]
    assert all(sides) and not any(a & b for a, b in itertools.combinations(sides, 2))
    assert any(note.get("near") for note in found.ledger.notes if note["kind"] == "duplicates")
    apart = split(rows, similarity=0.0, validation_fraction=0.2, test_fraction=0.2)
    sides = [{t.split()[-1] for t in texts(apart.splits, name)} for name in NAMES]
    assert any(a & b for a, b in itertools.combinations(sides, 2))


def test_near_copies_of_test_leave_train(put, split, csv_text, tmp_path: Path) -> None:
    put("d/train.csv", csv_text(40) + f"Hello - {LONG},pos\n")
    put("d/test.csv", f"text,label\n{LONG},pos\nnew one,neg\n")
    found = split(tmp_path / "d", near_copies="drop")
    assert len(found.splits.train) == 36 and len(found.splits.test) == 2
    assert "_near" not in found.splits.test.column_names
    dropped = found.summary["dropped"]["nearly also in test"]
    assert dropped["rows"] == 1 and dropped["first"].endswith("train.csv:42")
    near = found.splits.leakage["train~test"]["near"]
    assert near["rows"] == {"train": 1, "test": 1} and 0.8 < near["pairs"][0][2] < 1
    assert near["pairs"][0][1].endswith("test.csv:2")
    note = next(note for note in found.ledger.notes if note["kind"] == "leakage")
    assert "train and test nearly share texts: 1 row of test (50.0%)" in note["message"]
    assert len(split(tmp_path / "d", similarity=0.0).splits.train) == 37
    kept = split(tmp_path / "d").splits
    assert len(kept.train) == 37 and kept.leakage == found.splits.leakage
    assert kept.test["_near"].to_pylist() == [True, False]


def meaning(i: int, other: bool = False) -> dict[str, str]:
    """A row of a data-to-text set: a filled-in form, and a sentence that says it."""
    name = f"The {['Eagle', 'Plough', 'Mill', 'Vaults', 'Wrestlers'][i % 5]}"
    food = ["French", "Italian", "Indian", "English", "Chinese", "Japanese"][i // 5 % 6]
    price = f"{10 + i // 30}-{20 + i // 30}" if not other else f"{60 + i // 30}-{70 + i // 30}"
    form = f"name[{name}], eatType[restaurant], food[{food}], priceRange[{price}], "
    form += "customer rating[average], area[riverside], familyFriendly[yes], near[Café Rouge]"
    return {"text": form, "target": f"{name} serves {food} food for {price} pounds."}


def test_forms_that_differ_in_a_value_and_in_their_target_are_no_copies(split) -> None:
    """Filled-in templates were "nearly also in validation", and the run was refused."""
    source = {
        "train": [meaning(i) for i in range(300)],
        "test": [meaning(i, other=True) for i in range(60)],
    }
    roles = {"text": ("text",), "target": ("target",)}
    for left, copies in ((roles, 0), ({"text": ("text",)}, 60)):
        data = Data(validation_fraction=0)
        found = load(data, left, set(left), 0, Ledger(), source, None, texts=("text",))
        assert len(found.train) == 300
        near = found.test["_near"].to_pylist() if "_near" in found.test.column_names else []
        assert sum(near) == copies and bool(found.leakage) is bool(copies)


def test_validation_rows_that_stand_in_test_are_left_out(put, split, csv_text, tmp_path) -> None:
    put("d/train.csv", csv_text(60))
    put("d/validation.csv", "text,label\n" + "".join(f"own {i},pos\n" for i in range(20))
        + '"Shared, TEXT!",neg\n')  # fmt: skip
    put("d/test.csv", 'text,label\n"shared text",neg\nnew one,pos\n')
    found = split(tmp_path / "d")
    assert len(found.splits.validation) == 20 and len(found.splits.test) == 2
    dropped = found.summary["dropped"]["validation row also in test"]
    assert dropped["rows"] == 1 and dropped["first"].endswith("validation.csv:22")
    with pytest.raises(DataError, match=r"test\.csv: every row of validation is also in test"):
        split(tmp_path / "d/train.csv", validation=str(tmp_path / "d/test.csv"),
              test=str(put("other.csv", "text,label\nNEW one.,pos\nshared text,a\n")))  # fmt: skip


def test_conflicting_labels_are_noted_with_places(put, split) -> None:
    body = "".join(f"{row['text']},{row['label']}\n" for row in plain(20))
    path = put("d.csv", f"text,label\n{body}x0 y0 z0,b\n{LONG},a\n{LONG} hello,b\n")
    notes = [note for note in split(path).ledger.notes if note["kind"] == "conflicts"]
    assert [note["pairs"] for note in notes] == [
        [[f"{path}:2", f"{path}:22"]],
        [[f"{path}:23", f"{path}:24"]],
    ]
    assert notes[0]["count"] == notes[1]["count"] == 1 and f"{path}:22" in notes[0]["message"]


def test_notes_on_repeated_texts_say_where_the_rows_are(put, split) -> None:
    rows = "".join(f"{row['text']},{row['label']}\n" for row in plain(40))
    torn = "".join(f"odd{i} one{i},{label}\n" for i in range(20) for label in "ab")
    near = "".join(f"{text},{label}\n" for i in range(20)
                   for text, label in zip(near_family(i), "aba", strict=True))  # fmt: skip
    path = put("d.csv", f"text,label\n{rows}{torn}{near}")
    found = split(path, validation_fraction=0.25, test_fraction=0.25)
    sides = {name: set(getattr(found.splits, name)["_line"].to_pylist()) for name in NAMES}
    notes = [note for note in found.ledger.notes if note["kind"] in ("duplicates", "conflicts")]
    assert [note["kind"] for note in notes] == ["duplicates", "conflicts"] * 2
    for note in notes:
        assert len(note["splits"]) > 1 and sum(note["splits"].values()) == note.get(
            "count", note.get("rows")
        )
        said = ", ".join(f"{count} in {name}" for name, count in note["splits"].items())
        assert f"({said})" in note["message"]
    for note in notes[1::2]:
        lines = [int(two.rpartition(":")[2]) for _, two in note["pairs"]]
        if len(lines) == note["count"]:
            known = {name: sum(line in own for line in lines) for name, own in sides.items()}
            assert {name: count for name, count in known.items() if count} == note["splits"]


def test_rows_of_one_group_stay_on_one_side(split) -> None:
    rows = [row | {"author": f"author {i // 4}"} for i, row in enumerate(plain(200))]
    rows += [row | {"author": None} for row in [{"text": "q r", "label": "a"}] * 2]
    found = split(rows, group="author", validation_fraction=0.2, test_fraction=0.2)
    sides = [{int(t.split()[0][1:]) // 4 for t in texts(found.splits, name) if t[0] == "x"}
             for name in NAMES]  # fmt: skip
    assert all(sides) and not any(a & b for a, b in itertools.combinations(sides, 2))
    assert found.splits.train.column_names == ["text", "label", "_file", "_line"]
    with pytest.raises(DataError, match=r"no column 'autor'.*Did you mean 'author'"):
        split(rows, group="autor")


def test_groups_that_straddle_given_splits_are_noted_not_dropped(split) -> None:
    train = [row | {"author": f"author {i % 10}"} for i, row in enumerate(plain(40))]
    test = [{"text": f"other {i}", "label": "a", "author": f"author {i + 8}"} for i in range(4)]
    found = split({"train": train, "test": test}, group="author", validation_fraction=0)
    assert len(found.splits.train) == 40 and len(found.splits.test) == 4
    groups = found.splits.leakage["train~test"]["groups"]
    assert (groups["values"], groups["rows"]) == (2, {"train": 8, "test": 2})
    message = next(n["message"] for n in found.ledger.notes if n["kind"] == "leakage")
    assert "train and test share 2 values of the group 'author': 2 rows of test" in message


def test_a_large_family_is_cut_like_other_rows(split) -> None:
    rows = [
        {"text": f"{LONG} says customer number {i} of this shop", "label": "ab"[i % 2]}
        for i in range(200)
    ]
    found = split(rows)
    assert [len(getattr(found.splits, name)) for name in NAMES] == [140, 20, 40]
    assert any(note.get("families") == 2 for note in found.ledger.notes), "one of each label"
    assert found.splits.test["_near"].to_pylist().count(True) > 30, "the report says what it does"


@pytest.mark.parametrize("given", ["path", "test"])
def test_a_task_that_can_use_no_row_says_why(put, csv_text, given: str) -> None:
    """The reasons with their first lines, where every row is dropped."""

    def rows(table, drop):
        spoilt = given == "path" or "bad" in str(table["_file"][0].as_py())
        for row in range(len(table) if spoilt else 0):
            drop(row, "a span lies outside its text" if row else "no tags")
        return table.slice(0, 0) if spoilt else table

    bad, good = put("bad.csv", csv_text(60)), put("good.csv", csv_text(60, word="other"))
    settings = {"path": bad} if given == "path" else {"path": good, "test": bad}
    data = Data(**{name: str(path) for name, path in settings.items()})
    roles = {"text": ("text",), "label": ("label",)}
    said = (
        r"bad\.csv: all 60 rows were left out: a span lies outside its text \(59 rows, first "
        r"\S*bad\.csv:3\); no tags \(1 row, first \S*bad\.csv:2\)"
    )
    with pytest.raises(DataError, match=said):
        load(data, roles, {"text", "label"}, 0, Ledger(), label=None, texts=("text",), rows=rows)


def test_rows_that_lack_now_a_text_and_now_a_label_leave_nothing(put, split) -> None:
    path = put("d.csv", "text,label\n" + "a text,\n,x\n" * 30)
    with pytest.raises(DataError, match=r"all 60 rows .* empty text \(30 rows, first \S+:3\)"):
        split(path)


LONG = "the parcel that was ordered last week came to the wrong house on street number"


def test_rows_that_hang_together_count_as_one_in_the_test_split(split) -> None:
    """Of one author, or nearly the same text; whether the test split is given or cut."""
    rows = [{"text": f"{i} w{i} x{i}", "label": "ab"[i % 2], "author": f"n{i // 5}"}
            for i in range(100)]  # fmt: skip
    for source in (rows, {"train": rows[:60], "test": rows[60:]}):
        test = split(source, group="author", validation_fraction=0).splits.test
        authors = [int(text.split()[0]) // 5 for text in test["text"].to_pylist()]
        units = test["_unit"].to_pylist()
        assert len(set(units)) == len(set(authors)) < len(units)
        assert len(set(zip(units, authors, strict=True))) == len(set(units))
    alone = split(rows, validation_fraction=0).splits
    assert not any("_unit" in getattr(alone, name).column_names for name in NAMES)
    test = [
        *rows[60:],
        {"text": f"{LONG} nine", "label": "a"},
        {"text": f"{LONG}, seven", "label": "a"},
    ]
    units = split({"train": rows[:60], "test": test}).splits.test["_unit"].to_pylist()
    assert len(set(units)) == len(units) - 1 and units[-1] == units[-2]
