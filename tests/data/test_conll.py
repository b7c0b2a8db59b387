"""CoNLL files of all kinds: sentences as lists, columns by name, errors with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.settings import Reading
from warmstart.errors import DataError

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP I-NP B-ORG
rejects VBZ I-VP O
# . O O

Peter NNP I-NP B-PER
"""
UNIVERSAL = """# sent_id = 1
# text = Don't go
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
"""


def rows(path: Path, text: str) -> list[dict[str, object]]:
    path.write_text(text, encoding="utf-8")
    return read(path, ledger=Ledger()).drop_columns("_file").to_pylist()


def test_spaces_and_docstart(tmp_path: Path) -> None:
    found = rows(tmp_path / "eng.conll", CONLL_2003)
    assert [row["_line"] for row in found] == [3, 7]
    assert found[0]["tokens"] == ["EU", "rejects", "#"], "the word # is no comment"
    assert found[0]["tags"] == ["B-ORG", "O", "O"]
    assert found[0]["column_2"] == ["NNP", "VBZ", "."]
    assert found[1] == {"tokens": ["Peter"], "column_2": ["NNP"], "column_3": ["I-NP"],
                        "tags": ["B-PER"], "_line": 7}  # fmt: skip


@pytest.mark.parametrize("ending", ["bio", "iob", "iob2", "conll"])
def test_tabs_keep_spaces_in_words(tmp_path: Path, ending: str) -> None:
    found = rows(tmp_path / f"a.{ending}", "New York\tB-LOC\r\nis\tO\r\n\r\n\r\nbig\tO")
    assert [row["tokens"] for row in found] == [["New York", "is"], ["big"]]
    assert [row["_line"] for row in found] == [1, 5]


def test_universal_dependencies(tmp_path: Path) -> None:
    (found,) = rows(tmp_path / "en.conllu", UNIVERSAL)
    assert found["tokens"] == ["Do", "n't", "go"]
    assert found["upos"] == ["AUX", "PART", "VERB"]
    assert found["deprel"] == ["aux", "advmod", "root"]
    assert found["_line"] == 3 and "id" not in found


def test_named_columns_and_comments(tmp_path: Path) -> None:
    plus = "# global.columns = ID FORM NER\n1\tEU\tB-ORG\n\n"
    (found,) = rows(tmp_path / "a.conllup", plus)
    assert found == {"tokens": ["EU"], "ner": ["B-ORG"], "_line": 2}
    text = "# id 7 domain=en\nEU _ _ B-ORG\n\n#begin document (a); part 000\n# O O O\n"
    assert [row["tokens"] for row in rows(tmp_path / "b.conll", text)] == [["EU"], ["#"]]


def test_packed_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress(CONLL_2003.encode()))
    assert len(read(path, ledger=Ledger(), how=Reading(limit=1))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("EU B-ORG\nrejects\n", r"a\.conll:2: 'rejects' has no tag"),
        ("EU B-ORG\nrejects VBZ O\n", r"a\.conll:2: 3 columns, and the first line has 2"),
        ("\n\n", r"a\.conll has no rows"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(tmp_path / "a.conll", text)


def test_universal_needs_ten_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"en\.conllu:1: 3 columns, and their names are id form"):
        rows(tmp_path / "en.conllu", "1\tEU\tPROPN\n")


def test_sentences_with_a_broken_line_are_left_out(tmp_path: Path) -> None:
    ledger, path = Ledger(), tmp_path / "a.conll"
    lines = ["EU B-ORG", "rejects O", "", "German", "call O", "", "Peter B-PER x", "", "now O", ""]
    path.write_bytes("\n".join(lines).encode() + b"\ncaf\xe9 O\n\nend O\n")
    table = read(path, ledger=ledger, how=Reading(bad_rows="skip", encoding="utf-8"))
    assert table["tokens"].to_pylist() == [["EU", "rejects"], ["now"], ["end"]]
    assert [line for _, line, _, _ in ledger.bad_rows] == [4, 7, 11]
    with pytest.raises(DataError, match="a.conll:4"):
        read(path, ledger=Ledger(), how=Reading(encoding="latin-1"))
