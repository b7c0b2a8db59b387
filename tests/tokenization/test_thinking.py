"""Templates that open an answer with thinking, or drop the thinking of earlier answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from chats import TALK, bytes_with
from warmstart.data.conversations import messages_of, read, write
from warmstart.errors import RecipeError
from warmstart.tasks.chat import Chat
from warmstart.tasks.preference.task import Preference
from warmstart.tokenization.chat import ChatTemplate

QWEN3 = (
    "{%- set ns = namespace(query=messages|length - 1, seeking=true) %}"
    "{%- for m in messages[::-1] %}{%- set at = (messages|length - 1) - loop.index0 %}"
    "{%- if ns.seeking and m.role == 'user' %}{%- set ns.seeking = false %}"
    "{%- set ns.query = at %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- set content = m.content %}"
    "{%- if m.role == 'user' or m.role == 'system' %}"
    "{{- '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' %}{%- set thought = '' %}"
    "{%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}"
    "{%- elif '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.query and (loop.last or (not loop.last and thought)) %}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- content }}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}"
    "{{- '<tool_call>\n' + call.function.name + ' ' + call.function.arguments|tojson "
    "+ '\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + content + '\n</tool_response><|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if tools %}{{- tools|tojson }}{%- endif %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\nOPENING' }}{%- endif %}"
)  # fmt: skip
R1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% endif %}"
    "{% if m.role == 'assistant' %}{% set content = m.content %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)  # fmt: skip
NONE = "<think>\n\n</think>\n\n"
THOUGHT = [{**m, "reasoning_content": "Hm."} if m["role"] == "assistant" else m for m in TALK]
CALLED: Sequence[dict[str, Any]] = [
    TALK[0],
    {"role": "assistant", "content": "", "reasoning_content": "Look it up.",
     "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"at": 1}}}]},
    {"role": "tool", "name": "clock", "content": "noon"},
    {"role": "assistant", "content": "Noon", "reasoning_content": "So."},
    TALK[2], {"role": "assistant", "content": "Later"},
]  # fmt: skip


def qwen3(opening: str = "") -> ChatTemplate:
    return ChatTemplate.of(bytes_with(QWEN3.replace("OPENING", opening.replace("\n", "\\n"))))


def r1() -> ChatTemplate:
    return ChatTemplate.of(bytes_with(R1))


def taught(
    template: ChatTemplate, talk: Sequence[Mapping[str, Any]], *, asked_so: bool = True
) -> list[list[str]]:
    """Of each lesson of a conversation what is trained; its ids are those of transformers, and what
    stands before the answer is what the model is asked later, unless not `asked_so`."""
    lessons = template.lessons([dict(m) for m in talk])
    texts = list[list[str]]()
    for lesson in lessons:
        own = template.conversation(lesson)
        plain = template.tokenizer.apply_chat_template(lesson, tokenize=True, return_dict=False)
        assert own.ids.tolist() == plain
        texts.append([template.tokenizer.decode(own.ids[slice(*place)]) for place in own.turns
                      if own.mask[place[0]]])  # fmt: skip
        for place in own.turns:
            assert own.mask[slice(*place)].all() or not own.mask[slice(*place)].any()
        last = template.render(lesson[:-1], open=True)
        if asked_so:
            assert own.ids[: len(last)].tolist() == last
    return texts


def pairs_of(template: ChatTemplate, *talks: Sequence[Any]) -> tuple[list[str], list[str]]:
    """A prompt and two answers to it, as preferences are learned."""
    row = {"prompt": write(talks[0][:1]), "tools": "", "_file": "a", "_line": 1,
           "chosen": write(talks[0][1:]), "rejected": write(talks[1][1:])}  # fmt: skip
    store = Preference().as_pairs(pa.Table.from_pylist([row]), template.tokenizer, 99, None)
    decode, answers = template.tokenizer.decode, store.answers
    assert answers is not None and answers.answers is not None
    return [decode(store.row(0))], [decode(own.row(0)) for own in (answers, answers.answers)]


def test_an_answer_is_learned_as_the_model_would_write_it() -> None:
    template = qwen3()
    assert template.thinking == {"reasoning_content", "content"}
    assert not template.opens
    assert taught(template, TALK[:2]) == [[f"{NONE}Yo<|im_end|>"]]
    assert taught(template, THOUGHT) == [
        ["<think>\nHm.\n</think>\n\nWell, this.<|im_end|>"],
        ["<think>\nHm.\n</think>\n\nYo<|im_end|>"],
    ]
    half = [{**m, "weight": 0} if m["content"] == "Yo" else m for m in THOUGHT]
    assert len(taught(template, half)) == 1
    inside = [*TALK[:1], {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYo"}]
    assert taught(template, inside) == [["<think>\nHm.\n</think>\n\nYo<|im_end|>"]]


def test_thinking_that_is_dropped_before_an_answer_leaves_it_its_own_lesson() -> None:
    """The prefix before the second answer is none of the whole: the call's thinking is gone."""
    call = '<think>\nLook it up.\n</think>\n\n<tool_call>\nclock {"at": 1}\n</tool_call><|im_end|>'
    assert taught(qwen3(), CALLED) == [
        [f"{NONE}Later<|im_end|>"],
        [call, "<think>\nSo.\n</think>\n\nNoon<|im_end|>"],
    ]


@pytest.mark.parametrize("opening", ["<think>\n", NONE])
def test_openings_that_think(opening: str) -> None:
    """Qwen3-Thinking opens with `<think>`; a template without thinking with an empty one."""
    template = qwen3(opening)
    said = {"<think>\n": "Hm.\n</think>\n\nYo<|im_end|>", NONE: "Yo<|im_end|>"}[opening]
    talk = THOUGHT[:2] if opening == "<think>\n" else TALK[:2]
    assert taught(template, talk) == [[said]]
    assert taught(template, TALK[:2], asked_so=opening == NONE) == [["Yo<|im_end|>"]]
    assert template.opens == opening.strip()
    pair = [*TALK[:1], {"role": "assistant", "content": "No"}]
    (prompt,), answers = pairs_of(template, TALK[:2], pair)
    assert prompt.endswith(f"assistant\n{NONE}")
    assert answers == ["Yo<|im_end|>", "No<|im_end|>"]


def test_r1_drops_all_thinking_and_opens_with_it() -> None:
    template = r1()
    assert template.opens == "<think>"
    assert not template.thinking
    end = "<｜end▁of▁sentence｜>"
    assert taught(template, TALK, asked_so=False) == [[f"Yo{end}", f"Well, this.{end}"]]
    assert template.forgets(THOUGHT)
    assert not template.forgets(TALK)
    prompts, _ = pairs_of(template, TALK[:2], [TALK[0], TALK[3]])
    assert prompts == ["<s><｜User｜>Hi there<｜Assistant｜>"]


@pytest.mark.parametrize("key", ["thinking", "reasoning", "reasoning_content"])
def test_thinking_under_any_of_its_names(key: str) -> None:
    told = messages_of([TALK[0], {**TALK[1], key: "Hm."}])
    assert told[1] == {**TALK[1], "reasoning_content": "Hm."}
    assert taught(qwen3(), told) == [["<think>\nHm.\n</think>\n\nYo<|im_end|>"]]


def test_rows_and_notes_of_a_data_set() -> None:
    rows = [{"messages": write(talk), "tools": "", "source": "", "target": "", "_file": "a",
             "_line": i} for i, talk in enumerate((THOUGHT, TALK[:2]))]  # fmt: skip
    notes: list[str] = []

    class Losses:
        def __call__(self, row: int, reason: str) -> None:
            raise AssertionError(reason)

        def note(self, kind: str, remark: str) -> None:
            notes.append(remark)

    table = Chat().usable(pa.Table.from_pylist(rows), qwen3().tokenizer, Losses())
    assert table["_line"].to_pylist() == [0, 0, 1]
    assert [len(read(text)) for text in table["messages"].to_pylist()] == [4, 2, 2]
    assert "2 conversations became 3 rows" in notes.pop()
    table = Chat().usable(pa.Table.from_pylist(rows), r1().tokenizer, Losses())
    assert len(table) == 2
    assert "1 conversation holds thinking" in notes[0]
    assert "opens an answer with <think>" in notes[1]


def test_what_is_really_ambiguous_is_refused_in_one_line() -> None:
    other = QWEN3.replace("assistant\nOPENING", "model\n")
    with pytest.raises(RecipeError, match="asks for an answer in another way") as refused:
        ChatTemplate.of(bytes_with(other))
    assert "\n" not in str(refused.value)
