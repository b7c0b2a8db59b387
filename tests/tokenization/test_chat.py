"""Templates: what they write, which tokens are trained, and what they must not do."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chats import SMOLLM2, TALK, bytes_with, smollm2_like
from tiny import tiny_tokenizer
from warmstart.data.conversations import messages_of, tools_of
from warmstart.errors import BaseModelError, RecipeError, RowError, UnknownNameError
from warmstart.models.base import resolve
from warmstart.models.loading import load_tokenizer
from warmstart.tokenization import rendering
from warmstart.tokenization.chat import ChatTemplate, names
from warmstart.tokenization.rendering import RENDERER


def written(template: ChatTemplate, *args: Any, **more: Any) -> str:
    """A conversation with what is trained in brackets."""
    ids, mask = template.trained(*args, **more)
    text, before = "", False
    for token, now in zip([*ids.tolist(), None], [*mask.tolist(), False], strict=True):
        text += "⟦" if now and not before else "⟧" if before and not now else ""
        text += template.tokenizer.decode([token]) if token is not None else ""
        before = now
    return text


SMOLLM2_SHORT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n"
)
SMOLLM2_LONG = SMOLLM2_SHORT + (
    "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n⟦Well, this.<|im_end|>⟧\n"
)


def test_the_mask_of_smollm2s_template_as_marked_by_hand() -> None:
    template = ChatTemplate.of(smollm2_like())
    assert written(template, TALK[:2]) == SMOLLM2_SHORT
    assert written(template, TALK) == SMOLLM2_LONG
    only = SMOLLM2_LONG.replace("⟦Yo<|im_end|>⟧", "Yo<|im_end|>")
    assert written(template, TALK, train="last") == only
    weighed = [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]
    assert written(template, weighed) == only
    own = [{"role": "system", "content": "Be brief."}, *TALK[:2]]
    assert written(template, own) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n"
        "<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n"
    )


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """SmolLM2's tokenizer; skipped where it was not fetched."""
    try:
        return load_tokenizer(resolve("smollm2"))
    except BaseModelError:
        pytest.skip("smollm2 was not fetched on this machine (warmstart models fetch smollm2)")


def test_the_mask_of_smollm2_itself(smollm2: Any, shared_data: Path) -> None:
    template = ChatTemplate.of(smollm2)
    assert smollm2.chat_template == SMOLLM2
    assert not template.tools
    assert smollm2.pad_token == smollm2.eos_token == "<|im_end|>"
    assert written(template, TALK[:2]) == SMOLLM2_SHORT
    assert written(template, TALK) == SMOLLM2_LONG
    by_hand = 0
    for line in (shared_data / "tool_chat" / "test.jsonl").read_text().splitlines():
        row = json.loads(line)
        messages, tools = messages_of(row["messages"]), tools_of(row["tools"])
        uses = tools or any("tool_calls" in m for m in messages)
        if uses:
            with pytest.raises(RecipeError, match=r"data have tools.*--task.template chatml"):
                template.trained(messages, tools)
        marked = SMOLLM2_SHORT.partition("<|im_start|>user")[0] if not uses else ""
        for message in messages:
            answers = message["role"] == "assistant"
            said = f"{message['content']}<|im_end|>"
            if message.get("tool_calls"):
                function = message["tool_calls"][0]["function"]
                said = (f'<tool_call>\n{{"name": "{function["name"]}", "arguments": '
                        f"{json.dumps(function['arguments'], ensure_ascii=False)}}}\n</tool_call>"
                        "<|im_end|>")  # fmt: skip
            if message["role"] == "tool":
                said = f"<tool_response>\n{message['content']}\n</tool_response><|im_end|>"
            role = "user" if message["role"] == "tool" else message["role"]
            said = f"⟦{said}⟧" if answers else said
            marked += f"<|im_start|>{role}\n{said}\n"
        used = ChatTemplate.of(smollm2, "chatml") if uses else template
        assert written(used, messages, tools).endswith(marked)
        by_hand += 1
    assert by_hand == 25


@pytest.mark.parametrize("name", names())
def test_named_templates(name: str) -> None:
    tokenizer = bytes_with("<|im_start|><|im_end|><|start_header_id|><|end_header_id|><|eot_id|>")
    tokenizer.chat_template = None
    template = ChatTemplate.of(tokenizer, name)
    assert template.name == name
    ids, mask = template.trained(TALK)
    end = {"chatml": "<|im_end|>", "llama-3": "<|eot_id|>"}.get(name, "</s>")
    opening = " " if name in ("plain", "vicuna") else ""
    assert tokenizer.decode(ids[mask]) == f"{opening}Yo{end}{opening}Well, this.{end}"
    assert template.end == tokenizer.convert_tokens_to_ids(end)
    assert template.tools == (name in ("chatml", "llama-3"))
    asked = template.render(TALK[:1], open=True)
    assert asked == ids[: len(asked)].tolist()
    assert mask[len(asked)]
    assert ids.tolist() == tokenizer.apply_chat_template(
        TALK, chat_template=template.source, tokenize=True, return_dict=False)  # fmt: skip


def test_marks_and_prefixes_are_held_against_each_other() -> None:
    """TRL ships templates as published and again with marks: by prefixes of the one and by marks
    of the other the same tokens are trained."""
    trl = pytest.importorskip("trl")
    folder = Path(trl.__file__).parent / "chat_templates"
    for name in ("cohere", "gemma", "gemma3", "lfm2", "llama3", "qwen2_5", "qwen3_vl", "phi3"):
        answers: list[str] = []
        for kind in ("", "_training"):
            tokenizer = bytes_with((folder / f"{name}{kind}.jinja").read_text())
            ids, mask = ChatTemplate.of(tokenizer).trained(TALK)
            answers.append(tokenizer.decode(ids[mask]))
        assert answers[0] == answers[1], name
        assert re.fullmatch(r"Yo<[^<>]+>Well, this\.<[^<>]+>", answers[0]), name


def test_marks_that_contradict_are_refused() -> None:
    wrong = ("{% for m in messages %}{% generation %}{{ '<|' + m.role + '|>' + m.content + "
             "'<|end|>' }}{% endgeneration %}{% endfor %}{% if add_generation_prompt %}"
             "{{ '<|assistant|>' }}{% endif %}")  # fmt: skip
    tokenizer = bytes_with(wrong, "<|user|>", "<|assistant|>", "<|end|>")
    with pytest.raises(RecipeError, match="contradicts itself"):
        ChatTemplate.of(tokenizer)


LINE = "{% for m in messages %}{{ m.role + ': ' + m.content + END }}{% endfor %}".replace
OPEN = "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("{{ bos_token + bos_token }}" + LINE("END", "eos_token") + OPEN, "two <s>"),
        (LINE("END", "'\n'") + OPEN, "never stop"),
        (LINE("m.content + END", "'x' + eos_token") + OPEN, "leaves out what the user says"),
        (LINE("END", "eos_token") + "{% if add_generation_prompt %}{{ '<think>' }}{% endif %}",
         "asks for an answer in another way"),
        ("{{ messages.__class__ }}", "__class__"),
        ("{{ messages['__cla' ~ 'ss__'].mro() }}", "cannot be run: SecurityError"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ 'a' * 10**11 }}", "too much memory"),
        ("{{ raise_exception('only in Latin') }}", "only in Latin"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_trained_with(source: str, match: str) -> None:
    with pytest.raises(RecipeError, match=match) as refused:
        ChatTemplate.of(bytes_with(source))
    assert "\n" not in str(refused.value)


def test_a_template_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop in a loop, also from a thread that is not the main one; and the next one runs."""
    monkeypatch.setattr(rendering, "SECONDS", 0.5)
    endless = ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
               + LINE("END", "eos_token"))  # fmt: skip
    doubling = ("{% set n = namespace(x='abcdefgh') %}{% for i in range(60) %}"
                "{% set n.x = n.x ~ n.x %}{% endfor %}")  # fmt: skip
    for source in (endless, doubling):
        begun = time.perf_counter()
        with ThreadPoolExecutor(1) as pool, pytest.raises(RecipeError, match=r"stopped|memory"):
            pool.submit(ChatTemplate.of, bytes_with(source)).result()
        assert time.perf_counter() - begun < 30
    assert ChatTemplate.of(bytes_with(LINE("END", "eos_token") + OPEN)).end >= 0


def test_text_and_object_arguments_have_the_same_ids() -> None:
    """oumi#2599, flama#258."""
    template = ChatTemplate.of(bytes_with("<|im_start|><|im_end|>"), "chatml")
    ids: list[Any] = []
    for arguments in ({"a": 1, "b": "é"}, '{"a": 1, "b": "é"}'):
        calls = [{"function": {"name": "clock", "arguments": arguments}}]
        told = [TALK[0], {"role": "assistant", "content": None, "tool_calls": calls}]
        ids.append(template.trained(messages_of(told), tools_of([{"name": "clock"}]))[0].tolist())
    assert ids[0] == ids[1]


def test_an_answer_that_grows_together_with_its_opening_is_refused(smollm2: Any) -> None:
    template = ChatTemplate.of(smollm2)
    with pytest.raises(RowError, match="one token with what stands before"):
        template.trained([TALK[0], {"role": "assistant", "content": "\n\nYo"}])


def test_a_conversation_may_begin_with_the_assistant() -> None:
    template = ChatTemplate.of(smollm2_like())
    ids, mask = template.trained([{"role": "assistant", "content": "Welcome"}, *TALK[:2]])
    assert template.tokenizer.decode(ids[mask]) == "Yo<|im_end|>"


def test_a_sign_that_is_unknown_ends_no_answer() -> None:
    tokenizer = tiny_tokenizer("gpt2", ["answer", ":", "hi", "there", "yo", "?", "four", "two"])
    template = ChatTemplate.of(tokenizer)
    ids, mask = template.trained(TALK[:2])
    assert template.end == tokenizer.eos_token_id
    assert tokenizer.decode(ids[mask]).strip().endswith("</s>")


def test_names_and_what_they_need() -> None:
    tokenizer = bytes_with()
    assert ChatTemplate.of(tokenizer).name == "plain"
    with pytest.raises(RecipeError, match="has no chat template"):
        ChatTemplate.of(tokenizer, "own")
    with pytest.raises(UnknownNameError, match="Did you mean 'chatml'"):
        ChatTemplate.of(tokenizer, "chatlm")
    with pytest.raises(RecipeError, match=r"<\|im_start\|> and <\|im_end\|>, which the tokenizer"):
        ChatTemplate.of(tokenizer, "chatml")


def test_a_process_that_ended_is_begun_anew() -> None:
    template = ChatTemplate.of(smollm2_like())
    first = template.render(TALK)
    RENDERER.close()
    assert np.array_equal(template.render(TALK), first)
