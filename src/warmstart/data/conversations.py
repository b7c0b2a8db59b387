"""Conversations, preferences and prompts, in every form in which people keep them, in one form.

A conversation is a list of messages: `role` (system, user, assistant or tool), `content` (a text)
and, where they are there, `tool_calls`, `tool_call_id`, `name`, `reasoning_content` and `weight`.
It is kept as JSON text, never as an Arrow struct: Arrow gives every object the keys of all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from warmstart.data.cells import parse_cell
from warmstart.errors import RowError, shown

if TYPE_CHECKING:
    import pyarrow as pa

Message = dict[str, Any]
Tool = dict[str, Any]
Drop = Callable[[int, str], None]

CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat")
"""Names of a column of messages."""
PROMPTS = ("prompt", "instruction", "question", "query")
ANSWERS = ("completion", "response", "output", "answer")
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tools", "functions")
CHAT_ROLES: Mapping[str, Sequence[str]] = {
    "messages": (*CHATS, "instruction,input", *PROMPTS), "completion": ANSWERS,
    "system": SYSTEMS, "tools": TOOLS,
}  # fmt: skip
"""Roles of columns for `read_conversations`: messages, or a prompt (Alpaca's is an instruction and
its input) and a completion."""
PREFERENCE_ROLES: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt", "instruction,input", *PROMPTS, "messages"),
    "chosen": ("chosen", "preferred"), "rejected": ("rejected", "dispreferred"),
    "system": SYSTEMS, "tools": TOOLS,
}  # fmt: skip
PROMPT_ROLES: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt", "instruction,input", *PROMPTS, *CHATS),
    "answer": ("answer", "solution", "target", *ANSWERS), "system": SYSTEMS, "tools": TOOLS,
}  # fmt: skip
NESTED = frozenset({*CHAT_ROLES, *PREFERENCE_ROLES, *PROMPT_ROLES})
"""Roles whose values may be lists or objects."""

SPEAKERS = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "bot": "assistant", "function_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
"""What a speaker is called, in OpenAI's form, in ShareGPT's and others → the role."""
KEPT = ("name", "tool_call_id")
REASONING = "reasoning_content"
THINKING = (REASONING, "thinking", "reasoning")
"""Keys of what was thought before an answer; transformers hands it to a template by its own."""
ASSISTANT, USER = "assistant", "user"
CHUNK = 1000  # rows
SPEECH = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
"""Where somebody begins to speak in the texts of Anthropic's hh-rlhf."""


def write(value: Any) -> str:
    """A conversation, or tools, as JSON text."""
    return json.dumps(value, ensure_ascii=False)


def read(text: str | None) -> list[Message]:
    """What `write` wrote; an empty list of nothing."""
    return cast("list[Message]", json.loads(text)) if text else []


def messages_of(value: Any, speaker: str = USER) -> list[Message]:
    """A conversation of whatever stands in a cell: a list of messages (OpenAI's or ShareGPT's) or
    such a list as JSON, or a text, which `speaker` says. Raises `RowError` with the reason."""
    parsed = parse_cell(value)
    if isinstance(parsed, str) and parsed:
        several = spoken(parsed) if speaker == USER else []
        return several or [{"role": speaker, "content": parsed}]
    turns: list[Any] = parsed if isinstance(parsed, list) else [parsed]
    if not turns or parsed is None or parsed == "":
        raise RowError("no messages")
    if not isinstance(value, str):  # of Arrow: what is null was not there
        turns = _without_nulls(turns)
    if all(isinstance(turn, dict) and _speaker(turn) is not None for turn in turns):
        return [_message(turn) for turn in turns]
    if isinstance(value, str):  # a text that happens to be JSON
        return [{"role": speaker, "content": value}]
    raise RowError("a message without role, or that is no object")


def opened(messages: Sequence[Message]) -> list[Message]:
    """A conversation without the answer that it ends with, if it does."""
    ends = len(messages) > 1 and messages[-1]["role"] == ASSISTANT
    return [*messages[:-1]] if ends else [*messages]


def as_message(text: str, speaker: str = ASSISTANT) -> str:
    """One message as JSON, whatever its text looks like: for a cell whose text is not to be read as
    a list or an object."""
    return write([{"role": speaker, "content": text}])


def spoken(text: str) -> list[Message]:
    """The messages of a text of hh-rlhf's (`\\n\\nHuman: …\\n\\nAssistant: …`), or none."""
    if not re.match(r"\n*Human: ", text):
        return []
    parts = SPEECH.split(text.lstrip("\n"))[1:]
    roles = {"Human": USER, "Assistant": ASSISTANT}
    return [{"role": roles[who], "content": what.strip()}
            for who, what in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip


def _speaker(turn: Mapping[str, Any]) -> Any:
    return turn.get("role", turn.get("from"))


def _message(turn: Mapping[str, Any]) -> Message:
    """A message in the one form. Raises `RowError`."""
    who = str(_speaker(turn))
    role = SPEAKERS.get(who.strip().lower())
    if role is None:
        raise RowError(f"a message of the unknown role '{shown(who, 30)}'")
    content = _content(turn.get("content", turn.get("value")))
    message: Message = {"role": role, "content": content}
    calls = parse_cell(turn.get("tool_calls"))
    if not calls and turn.get("function_call"):  # OpenAI's older form
        calls = [parse_cell(turn["function_call"])]
    if not calls and who == "function_call":  # ShareGPT's
        call = parse_cell(content)
        calls, message["content"] = call if isinstance(call, list) else [call], ""
    if calls and not isinstance(calls, list):
        raise RowError("a message whose tool_calls are no list")
    if calls:
        message["tool_calls"] = [_call(call) for call in calls]
    message |= {key: str(turn[key]) for key in KEPT if turn.get(key) is not None}
    if thought := next((turn[key] for key in THINKING if turn.get(key) is not None), None):
        message[REASONING] = _content(thought)
    weight = turn.get("weight", turn.get("train"))
    if weight is not None and role == ASSISTANT:
        if weight not in (0, 1):
            raise RowError("a message whose weight is neither 0 nor 1")
        message["weight"] = int(weight)
    return message


def _content(content: Any) -> str:
    """The text of a message, of which OpenAI's form may have several parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):  # what a tool gave
        return write(content)
    if not isinstance(content, list):
        return str(content)
    texts = [part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
             for part in content]  # fmt: skip
    if any(not isinstance(text, str) for text in texts):
        raise RowError("a message with a part that is no text, such as an image")
    return "".join(cast("list[str]", texts))


def _call(call: Any) -> Message:
    """A call of a tool, its arguments as an object: given as text they would be encoded twice."""
    call = parse_cell(call)
    inner = parse_cell(call.get("function", call)) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise RowError("a tool call without the name of a function")
    arguments = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict | None) or (arguments is None and inner.get("arguments")):
        raise RowError("a tool call whose arguments are no JSON object")
    own = {"name": inner["name"], "arguments": arguments or {}}
    known = {"id": str(call["id"])} if call.get("id") is not None else {}
    return {**known, "type": "function", "function": own}


def tools_of(value: Any) -> list[Tool]:
    """The tools of a conversation, each as `{"type": "function", "function": {…}}`; none of an
    empty cell. Raises `RowError`."""
    tools = parse_cell(value)
    if tools is None or tools == "" or tools == []:
        return []
    if not isinstance(value, str):
        tools = _without_nulls(tools)
    several = [parse_cell(tool) for tool in (tools if isinstance(tools, list) else [tools])]
    if not all(isinstance(tool, dict) and ("name" in tool or "function" in tool)
               for tool in several):  # fmt: skip
        raise RowError("a tool without a name")
    return [tool if "function" in tool else {"type": "function", "function": tool}
            for tool in several]  # fmt: skip


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(own) for key, own in value.items() if own is not None}
    return [_without_nulls(own) for own in value] if isinstance(value, list) else value


# Tables of role columns → tables in the one form. What cannot be used is dropped with its reason.


def read_conversations(table: pa.Table, drop: Drop) -> pa.Table:
    """A table of the columns of `CHAT_ROLES` as the columns messages and tools (JSON), and source
    and target, the last answer and what stands before it, for people.

    A conversation that does not end with an answer has an empty target (see `sides_of`). The file's
    own columns (`_file`, …) stay.
    """

    def canonical(row: Mapping[str, Any]) -> dict[str, str]:
        messages = messages_of(row.get("messages"))
        answer = row.get("completion")
        if answer not in (None, "") and messages[-1]["role"] != ASSISTANT:
            messages += messages_of(answer, ASSISTANT)
        messages = _with_system(messages, row)
        source, target = sides_of(messages)
        return {"messages": write(messages), "tools": _tools(row), "source": source,
                "target": target}  # fmt: skip

    return _formed(table, ("messages", "tools", "source", "target"), canonical, drop)


def read_preferences(table: pa.Table, drop: Drop) -> pa.Table:
    """A table of the columns of `PREFERENCE_ROLES` as prompt, chosen, rejected and tools, all JSON:
    the prompt's messages, and those of each answer alone.

    The answers may repeat the prompt, and then there need be none: it is what both begin with.
    """

    def canonical(row: Mapping[str, Any]) -> dict[str, str]:
        prompt = row.get("prompt")
        before = [] if prompt is None or prompt == "" else messages_of(prompt)
        speaker = ASSISTANT if before else USER  # the whole of a conversation, as a text
        answers = [messages_of(row[name], speaker) for name in ("chosen", "rejected")]
        if all(own[: len(before)] == before for own in answers):
            answers = [own[len(before) :] for own in answers]
        while all(len(own) > 1 for own in answers) and answers[0][0] == answers[1][0]:
            before = [*before, answers[0][0]]
            answers = [own[1:] for own in answers]
        if not before:
            raise RowError("no prompt: the two answers have no message in common")
        if any(not own or own[0]["role"] != ASSISTANT for own in answers):
            raise RowError("an answer that does not begin with the assistant's message")
        if answers[0] == answers[1]:
            raise RowError("both answers are the same")
        chosen, rejected = map(write, answers)
        return {"prompt": write(_with_system(before, row)), "chosen": chosen,
                "rejected": rejected, "tools": _tools(row)}  # fmt: skip

    return _formed(table, ("prompt", "chosen", "rejected", "tools"), canonical, drop)


def read_prompts(table: pa.Table, drop: Drop) -> pa.Table:
    """A table of the columns of `PROMPT_ROLES` as prompt and tools (JSON) and answer, a text, empty
    where there is none. An answer at the end of the prompt is taken off it."""

    def canonical(row: Mapping[str, Any]) -> dict[str, str]:
        messages = _with_system(messages_of(row["prompt"]), row)
        answer = row.get("answer")
        if messages[-1]["role"] == ASSISTANT and len(messages) > 1:
            *messages, last = messages
            answer = text_of(last) if answer is None else answer
        if isinstance(answer, list):
            answer = text_of(messages_of(answer, ASSISTANT)[-1])
        return {"prompt": write(messages), "tools": _tools(row),
                "answer": "" if answer is None else str(answer)}  # fmt: skip

    return _formed(table, ("prompt", "tools", "answer"), canonical, drop)


def _formed(
    table: pa.Table,
    names: Sequence[str],
    form: Callable[[Mapping[str, Any]], dict[str, str]],
    drop: Drop,
) -> pa.Table:
    import pyarrow as pa

    own = [name for name in table.column_names if name.startswith("_")]
    values, columns, kept = table.drop_columns(own), {name: list[str]() for name in names}, []
    rows = (row for batch in values.to_batches(max_chunksize=CHUNK) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        try:
            formed = form(row)
        except RowError as error:
            drop(number, str(error))
            continue
        kept.append(number)
        for name, column in columns.items():
            column.append(formed[name])
    arrays = {name: pa.chunked_array([pa.array(own, pa.string())]) for name, own in columns.items()}
    rest = table.select(own).take(pa.array(kept, pa.int64()))
    return pa.table({**arrays, **{name: rest[name] for name in own}})


def _with_system(messages: list[Message], row: Mapping[str, Any]) -> list[Message]:
    system = row.get("system")
    if not system or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": str(system)}, *messages]


def _tools(row: Mapping[str, Any]) -> str:
    tools = tools_of(row.get("tools"))
    return write(tools) if tools else ""


def text_of(message: Message) -> str:
    """What a message says, its calls of tools below, for people."""
    calls = [write(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join(part for part in (message["content"], *calls) if part)


def sides_of(messages: Sequence[Message]) -> tuple[str, str]:
    """What stands before the last answer, and the answer, for people; without an answer the whole
    and nothing. The system's message is left out: it is the same in many conversations."""
    answered = messages[-1]["role"] == ASSISTANT
    before = messages[:-1] if answered else messages
    others = [message for message in before if message["role"] != "system"]
    return as_text(others or before), text_of(messages[-1]) if answered else ""


def as_text(messages: Sequence[Message]) -> str:
    """A conversation for people: the text alone of a single message, else who says what."""
    if len(messages) == 1:
        return text_of(messages[0])
    return "\n".join(f"{message['role']}: {text_of(message)}" for message in messages)
