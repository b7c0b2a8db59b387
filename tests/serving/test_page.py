"""The page for people: what is sent, and what it does in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from browser import Tab, browser, browser_path
from served import Running, running, slowed
from warmstart.serving.app import PAGE
from warmstart.serving.auth import new_key

TEXT = "the film was good 😀 and <b>late</b>"


@dataclass(frozen=True)
class Hit:
    text: str
    similarity: float
    file: str = "notes.csv"
    line: int = 7


class Index:
    def search(self, query: str, top: int = 10) -> list[Hit]:
        return [Hit(f"near {query}", 0.875), Hit("far", 0.25)][:top]


def policy_of(answer: httpx.Response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in
             answer.headers["content-security-policy"].split(";"))  # fmt: skip
    return {name: value for name, _, value in parts}


def test_the_page_is_one_piece_that_may_load_nothing(server: Running):
    answer = httpx.get(server.url)
    assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
    policy = policy_of(answer)
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in str(policy) and "http" not in str(policy)
    for kind in ("style", "script"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "//" not in re.sub(r"^\s*//.*$", "", answer.text, flags=re.MULTILINE)  # no address
    assert not re.findall(r"\s(?:src|style|on\w+)=", answer.text.partition("<script>")[0])
    assert set(re.findall(r'href="([^"]*)"', answer.text)) == {"data:,", "/docs"}
    docs = httpx.get(f"{server.url}/docs")
    assert policy_of(docs)["default-src"] == "'none'"


def test_no_text_ever_becomes_a_part_of_the_page():
    script = (PAGE / "page.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "localStorage", "sessionStorage", "document.cookie"):  # fmt: skip
        assert word not in script, word


def test_everything_that_the_script_reaches_for_is_there():
    page, script = ((PAGE / name).read_text() for name in ("index.html", "page.js"))
    there = set(re.findall(r'id="([\w-]+)"', page))
    assert len(there) == len(re.findall(r'id="', page))
    used = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert used and used <= there
    labelled = set(re.findall(r'for="([\w-]+)"', page))
    fields = re.findall(r'<(?:textarea|select|input)[^>]*id="([\w-]+)"', page)
    assert set(fields) <= labelled, "every field has a label"


def test_who_has_no_key_is_shown_the_page_with_401(tmp_path: Path):
    _, known = new_key()
    with running({}, [known]) as started:
        answer = httpx.get(started.url)
        assert answer.status_code == 401 and 'id="key-form"' in answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")  # no window of the browser's
        assert policy_of(answer)["default-src"] == "'none'"
        assert httpx.get(f"{started.url}/v1/models").status_code == 401


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    path = browser_path()
    if path is None:
        pytest.skip("there is no chromium on this machine")
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    with browser(path, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(tab: Tab, server: Running) -> Iterator[Tab]:
    """The page, freshly opened; whatever is done there, it asks this server alone, and nothing
    breaks."""
    tab.urls.clear()
    tab.faults.clear()
    tab.look()
    server.models.indexes["notes"] = Index()
    tab.go("about:blank")
    tab.go(server.url)
    tab.wait("!document.getElementById('tabs').hidden")
    yield tab
    del server.models.indexes["notes"]
    outside = [url for url in tab.urls if not url.startswith((server.url, "about:", "data:"))]
    assert not outside and tab.urls, outside
    assert not tab.faults, tab.faults


@contextmanager
def decided(server: Running) -> Iterator[None]:
    """The tagger of random weights made to see entities, for a while."""
    layer = server.models.named("tags").predictor.runner.model.classifier
    weights = layer.weight.detach().clone()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer.weight.normal_(0, 3)
        yield
        layer.weight.copy_(weights)


def shown(page: Tab, place: str, what: str = "*") -> str:
    page.wait(f"document.querySelector('#{place}-results {what}')")
    page.wait(f"!document.querySelector('#{place}').classList.contains('busy')")
    assert page.run(f"document.querySelector('#{place} .alarm').hidden"), page.text(f"#{place}")
    return page.text(f"#{place}-results")


def test_labels_entities_answers_and_numbers(page: Tab, server: Running):
    page.choose("#ask-model", "classes")
    page.fill("#ask-text", TEXT)
    page.press("Enter", 2)  # Ctrl
    text = shown(page, "ask", "table")
    answer = server.post("/v1/classify", model="classes", input=TEXT).json()["data"][0]
    assert text.startswith(answer["label"])
    for value in answer["scores"].values():
        assert f"{100 * value:.1f} %" in text
    assert re.fullmatch(r"Answered in [\d.]+ m?s\.", page.text("#ask .status"))

    page.choose("#ask-model", "tags")
    with decided(server):
        page.click("#ask button.main")
        page.wait("document.querySelector('#ask-results mark')")
        found = server.post("/v1/tag", model="tags", input=TEXT).json()["data"][0]["spans"]
    marks = page.run(
        "[...document.querySelectorAll('#ask-results mark')].map("
        "(m) => [m.firstChild.data, m.querySelector('.kind').textContent])"
    )
    assert marks == [[TEXT[span["start"] : span["end"]], span["label"]] for span in found]
    assert page.text("#ask-results .text").count("<b>") == 1  # as text

    page.choose("#ask-model", "spans")
    page.fill("#ask-question", "what was it")
    page.fill("#ask-context", TEXT)
    page.click("#ask button.main")
    page.wait("document.querySelector('#ask-results .hero')")
    row = {"question": "what was it", "context": TEXT}
    best = server.post("/v1/answer", model="spans", input=row).json()["data"][0]
    assert page.text("#ask-results .hero strong") == (best["text"] or "No answer")
    if best["text"]:
        assert page.text("#ask-results mark") == best["text"]

    page.choose("#ask-model", "value")
    page.fill("#ask-text", TEXT)
    page.click("#ask button.main")
    page.wait("document.querySelector('#ask-results .hero') && "
              "!document.querySelector('#ask-results .text')")  # fmt: skip
    number = server.post("/v1/score", model="value", input=TEXT).json()["data"][0]["value"]
    assert float(page.text("#ask-results .hero")) == pytest.approx(number, rel=1e-5)

    page.choose("#ask-model", "vectors")
    page.fill("#ask-query", "good film")
    page.fill("#ask-documents", "bad\nthe film was good\n\nmoney")
    page.click("#ask button.main")
    page.wait("document.querySelectorAll('#ask-results li').length === 3")


def test_texts_side_by_side_and_stopped(page: Tab, server: Running):
    page.click("#tab-generate")
    page.choose("#generate-model", "talk")
    page.fill("#generate-prompt", "the film")
    for name, value in {"max_tokens": "6", "temperature": "0, 1", "n": "2", "seed": "3"}.items():
        page.fill(f"#generate-{name}", value)
    page.click("#generate button.main")
    page.wait("document.querySelector('#generate .status').textContent.includes('second')")
    titles = page.run(
        "[...document.querySelectorAll('#generate-results h3')].map((h) => h.innerText)"
    )
    assert titles == ["Temperature 0", "Temperature 1, answer 1", "Temperature 1, answer 2"]
    texts = page.run("[...document.querySelectorAll('#generate-results .written')]"
                     ".map((p) => p.textContent)")  # fmt: skip
    asked: dict[str, Any] = {"model": "talk", "messages": [{"role": "user", "content": "the film"}],
                             "max_tokens": 6, "seed": 3}  # fmt: skip
    first = server.client().chat.completions.create(**asked, temperature=0)
    rest = server.client().chat.completions.create(**asked, temperature=1, n=2)
    wanted = [choice.message.content for choice in [*first.choices, *rest.choices]]
    assert texts == [text or "(nothing)" for text in wanted]

    page.fill("#generate-temperature", "3")
    page.click("#generate button.main")
    page.wait("!document.querySelector('#generate .alarm').hidden")
    assert "from 0 to 2" in page.text("#generate .alarm")
    page.fill("#generate-temperature", "1")
    page.fill("#generate-max_tokens", "60")
    with slowed(server.models, "talk", 0.1):
        page.click("#generate button.main")
        page.wait("document.querySelector('#generate-results .written').textContent")
        page.press("Escape")
        page.wait("document.querySelector('#generate .status').textContent === 'Stopped.'", 5)


def test_a_conversation_by_keyboard_alone(page: Tab, server: Running):
    page.run("document.getElementById('tab-ask').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.run("document.activeElement.id") == "tab-chat"
    assert page.run("location.hash") == "#chat"
    page.choose("#chat-model", "talk")
    for _ in range(12):  # on to the message
        if page.run("document.activeElement.id") == "chat-text":
            break
        page.press("Tab")
    assert page.run("document.activeElement.id") == "chat-text"
    page.write("one")
    page.press("Enter", 8)  # Shift
    page.write("two")
    page.press("Enter")
    page.wait("document.querySelector('#chat .status').textContent.includes('second')")
    said = page.run("[...document.querySelectorAll('#chat-log li')].map((l) => l.className)")
    assert said == ["user", "assistant"]
    assert page.run("document.querySelector('#chat-log .written').textContent") == "one\ntwo"
    page.write("more")
    page.press("Enter")
    page.wait("document.querySelectorAll('#chat-log li').length === 4")
    page.wait("!document.querySelector('#chat').classList.contains('busy')")
    page.click("#chat-undo")
    assert page.run("document.getElementById('chat-text').value") == "more"
    assert page.run("document.querySelectorAll('#chat-log li').length") == 2
    page.click("#chat-new")
    assert page.run("document.querySelectorAll('#chat-log li').length") == 0


def test_two_models_and_an_index(page: Tab, server: Running):
    page.click("#tab-compare")
    page.choose("#compare-first", "classes")
    page.choose("#compare-second", "adapter-1")
    page.fill("#compare-text", "bad")
    page.click("#compare button.main")
    page.wait("document.querySelectorAll('#compare-results .column').length === 2")
    labels = [server.post("/v1/classify", model=name, input="bad").json()["data"][0]["label"]
              for name in ("classes", "adapter-1")]  # fmt: skip
    heads = page.run("[...document.querySelectorAll('#compare-results .hero strong')]"
                     ".map((s) => s.innerText)")  # fmt: skip
    assert heads == labels
    same = labels[0] == labels[1]
    assert page.text("#compare .status").startswith("Both give" if same else "They do not")
    page.click("#tab-search")
    page.fill("#search-query", "money")
    page.press("Enter")
    assert shown(page, "search", "li").splitlines()[0] == "0.875near money"
    assert "notes.csv, line 7" in page.text("#search-results")


def test_on_a_phone_in_the_dark_nothing_is_cut_off(page: Tab):
    page.look(width=360, height=740, dark=True, phone=True)
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", dark))) < 120
    for name in ("ask", "generate", "chat", "compare", "search"):
        page.click(f"#tab-{name}")
        assert page.run("document.documentElement.scrollWidth") <= 360, name
        within = f"[...document.getElementById('{name}').querySelectorAll"
        small = page.run(
            f"{within}('button, select')].filter("
            "(e) => e.offsetParent && e.offsetHeight < 40).length"
        )
        assert not small, "what a thumb hits is large enough"
        fonts = page.run(
            f"{within}('input:not([type=checkbox]), textarea')]"
            ".filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).length"
        )
        assert not fonts, "a phone zooms into smaller fields"


def test_a_key_is_asked_for_and_errors_are_words(tab: Tab, server: Running, tmp_path: Path):
    from tiny import classifier

    key, known = new_key()
    tab.faults.clear()
    folder = classifier("bert", tmp_path / "classes")
    with running({"classes": folder}, [known], key=key, max_request_tokens=64) as own:
        tab.look()
        tab.go("about:blank")
        tab.go(own.url)
        tab.wait("!document.getElementById('key-form').hidden")
        tab.fill("#key", "wrong")
        tab.press("Enter")
        tab.wait("!document.getElementById('key-alarm').hidden")
        assert "does not know this key" in tab.text("#key-alarm")
        tab.fill("#key", key)
        tab.press("Enter")
        tab.wait("!document.getElementById('tabs').hidden")
        assert tab.run("document.getElementById('key-form').hidden")
        tab.fill("#ask-text", "bad film " * 60)
        tab.click("#ask button.main")
        tab.wait("document.querySelector('#ask-results').children.length || "
                 "!document.querySelector('#ask .alarm').hidden")  # fmt: skip
        assert "beginning was read" in tab.text("#ask") or "tokens" in tab.text("#ask .alarm")
    tab.click("#ask button.main")
    tab.wait("document.querySelector('#ask .alarm').innerText.includes('does not answer')")
