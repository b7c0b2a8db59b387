"""`prefer`: pairs shown blind, judgements kept, agreement, and the page."""

from __future__ import annotations

import csv
import io
import json
import threading
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import krippendorff
import numpy as np
import pytest

import warmstart
from tiny import writer
from warmstart.cli.main import main
from warmstart.errors import DataError, RecipeError, RunError
from warmstart.pipelines.writing.page import Page
from warmstart.pipelines.writing.prefer import Pair, agreement

PROMPTS = ["the film was", "a good book", "red green", "i liked the", "my order came", "never late"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(writer(folder / "a")), str(writer(folder / "b", "gpt2"))


class Judge:
    """Chooses the answer of one model, whichever side it is on; remembers what was shown."""

    def __init__(self, wants: str, most: int = 100) -> None:
        self.wants, self.most = wants, most
        self.shown: list[Pair] = []

    def __call__(self, pair: Pair) -> str:
        if len(self.shown) == self.most:
            return "end"
        self.shown.append(pair)
        return "1" if pair.models[0] == self.wants else "2"


def test_judgements_are_kept_added_to_and_agree(models: tuple[str, str], tmp_path: Path):
    out, keys = tmp_path / "p.jsonl", {"max_new_tokens": 6, "temperature": 0.9}
    first = Judge(models[0], most=2)
    result = warmstart.prefer(*models, PROMPTS, first, out=out, annotator="ann", **keys)
    assert (result.added, result.total, result.agreement) == (2, 2, None)
    rest = Judge(models[0])
    result = warmstart.prefer(*models, PROMPTS, rest, out=out, annotator="ann", **keys)
    assert (result.added, result.total) == (4, 6)
    assert [pair.prompt for pair in first.shown + rest.shown] == PROMPTS
    assert result.wins == {models[0]: 6, models[1]: 0}
    sides = {pair.models[0] for pair in first.shown + rest.shown}
    assert sides == set(models)  # in random order
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS
    for row, pair in zip(rows, first.shown + rest.shown, strict=True):
        assert row["chosen"] == pair.answers[pair.models.index(models[0])]
        assert row["annotator"] == "ann" and row["time"] and row["chosen_model"] == models[0]
    # another person sees the same answers
    again = Judge(models[0])
    result = warmstart.prefer(*models, PROMPTS, again, out=out, annotator="bob", seed=5, **keys)
    assert {frozenset(p.answers) for p in again.shown} == {
        frozenset((r["chosen"], r["rejected"])) for r in rows
    }
    assert (result.annotators, result.shared, result.agreement) == (2, 6, 1.0)
    assert warmstart.prefer(*models, PROMPTS, again, out=out, annotator="bob", **keys).added == 0


def test_agreement_is_that_of_krippendorff_on_a_table_of_annotators():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2, (3, 40)).astype(float)
    table[rng.random(table.shape) < 0.2] = np.nan
    units = {
        (f"prompt {n}", "x", "y"): {
            str(who): "xy"[int(value)] for who, value in enumerate(column) if value == value
        }
        for n, column in enumerate(table.T)
    }
    wanted = krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
    assert agreement(units) == pytest.approx(wanted)


def test_the_same_answer_twice_is_not_asked_about(models: tuple[str, str], tmp_path: Path):
    judge = Judge(models[0])
    result = warmstart.prefer(
        models[0], str(Path(models[0], "..", "a")), PROMPTS[:2], judge, out=tmp_path / "p.csv",
        annotator="ann", temperature=0, max_new_tokens=4,
    )  # fmt: skip
    assert (result.same, result.added, judge.shown) == (2, 0, [])
    judge = Judge(models[0])
    result = warmstart.prefer(models[0], models[0], PROMPTS[:2], judge, out=tmp_path / "p.csv",
                              annotator="ann", temperature=3, max_new_tokens=8)  # fmt: skip
    assert result.added == 2
    assert all(pair.answers[0] != pair.answers[1] for pair in judge.shown)
    with (tmp_path / "p.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


def test_what_is_refused(models: tuple[str, str], tmp_path: Path):
    judge = Judge(models[0])
    with pytest.raises(RecipeError, match=r"ending in \.jsonl"):
        warmstart.prefer(*models, PROMPTS, judge, out=tmp_path / "p.parquet", annotator="ann")
    with pytest.raises(RunError, match="no folder"):
        warmstart.prefer(*models, PROMPTS, judge, out=tmp_path / "no" / "p.csv", annotator="ann")
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="row 1: this is no file of judgements"):
        warmstart.prefer(*models, PROMPTS, judge, out=tmp_path / "other.jsonl", annotator="ann")
    with pytest.raises(RecipeError, match="who judges"):
        warmstart.prefer(*models, PROMPTS, judge, out=tmp_path / "p.csv", annotator=" ")
    with pytest.raises(RecipeError, match="are the same"):
        warmstart.prefer(models[0], models[0], "a", judge, out=tmp_path / "p.csv",
                         annotator="a", temperature=0)  # fmt: skip
    assert not judge.shown


def test_the_terminal_asks_until_it_knows(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    out = tmp_path / "p.jsonl"
    monkeypatch.setattr("sys.stdin", io.StringIO("x\n1\ns\nq\n"))
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    words = ["prefer", *models, str(tmp_path / "prompts.txt"), "--max_new_tokens", "6"]
    assert main([*words, "--out", str(out), "--annotator", "ann"]) == 0
    printed = capsys.readouterr().out
    assert "=== prompt 3 of 6" in printed and "type 1, 2, s or q" in printed
    assert "1 judgement added" in printed
    asked = printed.partition("judgement added")[0]
    assert not any(model in asked for model in models)  # blind
    assert len(out.read_text().splitlines()) == 1


# The page.


def ask(page: Page, method: str = "GET", path: str | None = None, host: str = "", body: str = ""):
    address = urlsplit(page.address)
    connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=5)
    headers = {"Host": host or address.netloc}
    if body:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path or address.path, body or None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


def pair(number: int, *answers: str) -> Pair:
    return Pair(number, 2, "what <b>now</b>?", (answers[0], answers[1]), ("secret-a", "secret-b"),
                "p")  # fmt: skip


def choose(page: Page, shown: Pair, chosen: list[str]) -> threading.Thread:
    thread = threading.Thread(target=lambda: chosen.append(page.choose(shown)))
    thread.start()
    while f"Prompt {shown.number + 1} of" not in page.html():
        thread.join(0.01)
    return thread


def test_the_page_shows_a_pair_and_takes_one_choice():
    chosen: list[str] = []
    with Page() as page:
        assert "being written" in ask(page)[1]
        thread = choose(page, pair(0, "<script>alert(1)</script>", "two"), chosen)
        response, text = ask(page)
        assert "&lt;script&gt;" in text and "<script" not in text and "&lt;b&gt;now" in text
        assert "secret" not in text and "http" not in text.replace("http-equiv", "")
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        first = urlencode({"pair": 0, "choice": "2"})
        assert ask(page, "POST", body=urlencode({"pair": 7, "choice": "1"}))[0].status == 303
        assert ask(page, "POST", body=first)[0].status == 303
        thread.join(5)
        thread = choose(page, pair(1, "a", "b"), chosen)
        ask(page, "POST", body=first)  # sent twice: not taken for the next pair
        assert chosen == ["2"]
        ask(page, "POST", body=urlencode({"pair": 1, "choice": "end"}))
        thread.join(5)
        assert chosen == ["2", "end"]
        assert "Thank you" in ask(page)[1]


def test_nobody_else_reaches_the_page():
    with Page() as page:
        chosen: list[str] = []
        thread = choose(page, pair(0, "a", "b"), chosen)
        path, port = urlsplit(page.address).path, urlsplit(page.address).port
        assert ask(page, path="/")[0].status == 404
        assert ask(page, path=path[:-1])[0].status == 404
        assert ask(page, host=f"evil.example:{port}")[0].status == 404
        body = urlencode({"pair": 0, "choice": "1"})
        assert ask(page, "POST", path="/", body=body)[0].status == 404
        assert ask(page, "POST", host="evil.example", body=body)[0].status == 404
        assert ask(page, "POST", body="x" * 5000)[0].status == 400
        assert chosen == []
        assert ask(page, host=f"localhost:{port}")[0].status == 200
        ask(page, "POST", body=body)
        thread.join(5)
        assert chosen == ["1"]
    with Page() as page, pytest.raises(RunError, match="no page on port"):
        Page(urlsplit(page.address).port or 0)
