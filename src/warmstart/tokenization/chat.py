"""Conversations as token ids: by the chat template of the model, or one of ours, saved with it.

A template writes the whole of a conversation, and nothing else is put around it: what is trained
on, what is generated from and what transformers makes of the saved folder are the same ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from warmstart.data.conversations import ASSISTANT, REASONING, Message
from warmstart.errors import RecipeError, RowError, UnknownNameError, shown
from warmstart.tokenization.rendering import RENDERER, Rendered

FOLDER = Path(__file__).parent / "templates"
NEEDS: Mapping[str, Sequence[str]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama-3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
}
"""Named template → the tokens that it writes, each of which must be one token."""
FALLBACK = "plain"
USER, CALL = "What is two and two?", {"city": "Bern"}
PROBE: Sequence[Message] = (
    {"role": "user", "content": USER}, {"role": ASSISTANT, "content": "Four"},
)  # fmt: skip
TOOL: Mapping[str, Any] = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}}  # fmt: skip
TOOL_PROBE: Sequence[Message] = (
    {"role": "user", "content": USER},
    {"role": ASSISTANT, "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": CALL}}]},
    {"role": "tool", "name": "weather", "content": "sleet"},
    {"role": ASSISTANT, "content": "Four"},
)  # fmt: skip
THOUGHT = "Two pairs"
OPENED = re.compile(
    r"(<\|?[\w:]*think\w*\|?>|\[THINK\])\s*(<\|?/[\w:]*think\w*\|?>\s*|\[/THINK\]\s*)?$"
)
"""At the end of an opening for an answer: thinking that begins there, or that there is none of."""
UNTHOUGHT = re.compile(r"\s*(<\|?/[\w:]*think\w*\|?>|\[/THINK\])\s*")
"""What follows such a beginning where nothing was thought."""
Turns = Literal["all", "last"]
NOT_SHOWN = {"weight"}  # what a message says of itself, and no template reads


def names() -> list[str]:
    """The templates that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.jinja"))


@dataclass(frozen=True, slots=True)
class Conversation:
    """The token ids of a conversation.

    Args:
        ids: int64 [L], of all messages.
        mask: bool [L], whether a token is trained.
        turns: of each of the assistant's turns the first token that it writes and the one after
            its last, which is the end of the turn; those that are not trained as well.
        messages: the number of the message that each turn is.
    """

    ids: np.ndarray
    mask: np.ndarray
    turns: Sequence[tuple[int, int]]
    messages: Sequence[int]

    @property
    def learned(self) -> set[int]:
        """The numbers of the messages that are trained."""
        pairs = zip(self.messages, self.turns, strict=True)
        return {message for message, (begin, _) in pairs if self.mask[begin]}


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """How the messages of a conversation are written for a model.

    Args:
        source: the template (Jinja).
        name: `own`, or that of one of ours.
        end: the id of the token that ends a turn of the assistant.
        tools: whether it writes tools, calls of them and what they gave.
        thinking: where it reads what was thought before an answer: `reasoning_content`, or
            `content` between `<think>` and `</think>`.
        opens: the thinking that it opens an answer with, such as `<think>`.
    """

    source: str
    name: str
    tokenizer: Any
    end: int = -1
    tools: bool = False
    thinking: frozenset[str] = frozenset()
    opens: str = ""
    _ends: frozenset[int] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, tokenizer: Any, named: str | None = None) -> ChatTemplate:
        """The template of a tokenizer, or a named one; `plain` where there is neither.

        Raises `RecipeError` for a template that cannot be trained with: it does not run, writes the
        beginning of a text twice, shows no answer, or ends none with a token that could be learned.
        """
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        if named in (None, "own") and own:
            source, name = str(own), "own"
        elif named == "own":
            raise RecipeError(
                f"task.template own: the base has no chat template; take one of {_listed()}"
            )
        else:
            name = named or FALLBACK
            if name not in names():
                raise UnknownNameError("template", name, ["own", *names()], "task.template")
            source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        vocabulary = tokenizer.get_vocab()
        lacks = [token for token in NEEDS.get(name, ()) if token not in vocabulary]
        if lacks:
            raise RecipeError(
                f"task.template {name} writes {' and '.join(lacks)}, which the tokenizer of the "
                f"base does not have as tokens; take plain or another of {_listed()}"
            )
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}  # stands for any sign
        ends = frozenset({*special, *tokenizer.all_special_ids} - unknown)
        return cls(source, name, tokenizer, _ends=ends)._checked()

    def _checked(self) -> ChatTemplate:
        """The same with what a first conversation shows. Raises `RecipeError`."""
        what = "the chat template of the base" if self.name == "own" else f"template {self.name}"
        try:
            conversation = self._conversation(PROBE, None, "all")
        except RowError as error:
            raise RecipeError(
                f"{what} cannot be used: {error}; take another: {_listed()}"
            ) from None
        ids, begin = conversation.ids.tolist(), self.tokenizer.bos_token_id
        if begin is not None and any(pair == (begin, begin) for pair in pairwise(ids)):
            raise RecipeError(
                f"{what} begins a conversation with two {self.tokenizer.bos_token}, and no model "
                f"was trained so; mend it, or take another: {_listed()}"
            )
        text = self._rendered(PROBE, None, ()).text
        if left_out := [m["role"] for m in PROBE if m["content"] not in text]:
            raise RecipeError(
                f"{what} leaves out what the {left_out[0]} says; mend it, or take another: "
                f"{_listed()}"
            )
        end = ids[conversation.turns[0][1] - 1]
        opening = self._rendered(PROBE[:1], None, (), opened=True).text
        opened = OPENED.search(opening)
        opens = opened[0].strip() if opened else ""
        return replace(self, end=end, tools=self._writes_tools(), opens=opens,
                       thinking=frozenset(key for key in (REASONING, "content")
                                          if self._writes_thinking(key)))  # fmt: skip

    def _writes_tools(self) -> bool:
        """Whether everything that belongs to a call stands in what it writes."""
        try:
            text = self._rendered(TOOL_PROBE, [TOOL], ()).text
        except RowError:
            return False
        return all(word in text for word in ("The weather of", "city", CALL["city"], "sleet"))

    def _writes_thinking(self, key: str) -> bool:
        thought = {"content": f"<think>\n{THOUGHT}\n</think>\n\nFour"}
        answer = {**PROBE[1], **(thought if key == "content" else {key: THOUGHT})}
        try:
            return THOUGHT in self._rendered([PROBE[0], answer], None, ()).text
        except RowError:
            return False

    def forgets(self, messages: Sequence[Message]) -> bool:
        """Whether messages have thinking that the template writes nowhere."""
        return any(
            (REASONING in m and REASONING not in self.thinking)
            or ("</think>" in m["content"] and "content" not in self.thinking)
            for m in messages
        )

    def lessons(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[Sequence[Message]]:
        """The conversations that teach every answer of one where the model would write it: itself,
        and where an answer is written otherwise once another follows (what was thought is dropped)
        that up to it, with weight 0 for what another teaches. Raises as `conversation` does."""
        learned = self.conversation(messages, tools).learned
        wanted = {i for i, m in enumerate(messages)
                  if i > 0 and m["role"] == ASSISTANT and m.get("weight", 1)}  # fmt: skip
        lessons = [messages]
        while rest := wanted - learned:
            part = [{**m, "weight": 0} if i in learned else m
                    for i, m in enumerate(messages[: max(rest) + 1])]  # fmt: skip
            learned |= self.conversation(part, tools).learned | {max(rest)}
            lessons.append(part)
        return lessons

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        open: bool = False,
    ) -> list[int]:
        """The ids of a conversation; `open`: with the opening of an answer that is to be written.

        Raises `RowError` where the template refuses it, `RecipeError` where it has to be stopped.
        """
        text = self._rendered(messages, tools, (), opened=open).text
        backend = self.tokenizer.backend_tokenizer
        return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def trained(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        train: Turns = "all",
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids [L] of a conversation, and which of them are trained [L]: what the assistant
        writes, with the token that ends its turn. See `conversation`."""
        conversation = self.conversation(messages, tools, train)
        return conversation.ids, conversation.mask

    def conversation(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        train: Turns = "all",
    ) -> Conversation:
        """A conversation as ids, a mask and turns.

        A turn begins where the messages before it end, with the opening for an answer, and ends
        with the token that ends it, even where the template writes that before the next message.
        Where the template marks what is generated, both have to agree. A turn whose `weight` is 0
        is not trained, nor is one that nothing comes before, nor one that stands there otherwise
        than it was written (see `lessons`); `train` "last": only the last.

        Raises `RowError` for a conversation that cannot be trained on (with the reason),
        `RecipeError` for a template that cannot.
        """
        if (tools or any("tool_calls" in m or m["role"] == "tool" for m in messages)) and (
            not self.tools
        ):
            raise RecipeError(
                f"the data have tools, and {self._called} does not write them: what a tool is, how "
                f"it was called and what it gave would be lost; take --task.template chatml, or "
                "leave these conversations out with --task.tools drop"
            )
        return self._conversation(messages, tools, train)

    @property
    def _called(self) -> str:
        return "the chat template of the base" if self.name == "own" else f"template {self.name}"

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        turns: Sequence[int],
        *,
        opened: bool = False,
    ) -> Rendered:
        shown_of = [{k: v for k, v in m.items() if k not in NOT_SHOWN} for m in messages]
        tokens = {k: v for k, v in self.tokenizer.special_tokens_map.items() if isinstance(v, str)}
        return RENDERER.render(self.source, shown_of, tools, tokens=tokens, opened=opened,
                               turns=turns)  # fmt: skip

    def _conversation(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, train: Turns
    ) -> Conversation:
        turns = [i for i, m in enumerate(messages) if m["role"] == ASSISTANT and i > 0]
        rendered = self._rendered(messages, tools, turns)
        encoding = self.tokenizer.backend_tokenizer.encode(rendered.text, add_special_tokens=False)
        ids = np.asarray(encoding.ids, np.int64)
        spans = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
        tokens = _Tokens(rendered.text, ids, spans, self._ends, self.end)
        places: dict[int, tuple[int, int]] = {}
        for turn, *texts in zip(turns, rendered.before, rendered.through, rendered.closed,
                                strict=True):  # fmt: skip
            if (place := self._place(tokens, *texts)) is not None:
                places[turn] = place
        mask, last = np.zeros(len(ids), bool), turns[-1] if turns else 0
        if turns and last not in places and not rendered.marks:
            before = rendered.before[-1]
            raise RecipeError(
                f"{self._called} asks for an answer in another way than it writes one "
                f"({_difference(before, rendered.text)}), and does not mark what is generated, so "
                "that what is trained would not be what is written later; take another with "
                "--task.template NAME"
            )
        if turns and last not in places:  # prefixes say nothing: the marks do
            marked = [tokens.turn(first, stop, exact=False) for first, stop in rendered.marks]
            places = dict(zip(turns[-len(marked) :], marked[-len(turns) :], strict=False))
            written = set(places)
        else:
            through = dict(zip(turns, rendered.through, strict=True))
            written = {turn for turn, place in places.items()
                       if tokens.stands_in(through[turn], *place)}  # fmt: skip
            if rendered.marks:
                self._agree(tokens, rendered, turns, places, written)
        for turn in written & set(turns[-1:] if train == "last" else turns):
            mask[slice(*places[turn])] = bool(messages[turn].get("weight", 1))
        return Conversation(ids, mask, list(places.values()), list(places))

    @staticmethod
    def _place(
        tokens: _Tokens, before: str | None, through: str | None, closed: str | None
    ) -> tuple[int, int] | None:
        """The tokens of a turn, by what stands before it, up to it, and before it without an
        opening; None where the messages before it are written otherwise now. Raises `RowError`."""
        text = tokens.text
        if before is not None and text.startswith(before):
            begin = len(before)
            opened = OPENED.search(before)
            if opened and not opened[2] and (nothing := UNTHOUGHT.match(text, begin)):
                begin = nothing.end()  # the opening has begun to think, and nothing was thought
        elif before is not None and closed is not None and text.startswith(closed):
            short = OPENED.sub("", before)
            if len(short) <= len(closed) or not text.startswith(short):
                return None
            begin = len(short)
        else:
            return None
        whole = through is not None and text.startswith(through) and len(through) > begin
        return tokens.turn(begin, len(through) if whole and through else None)

    def _agree(
        self,
        tokens: _Tokens,
        rendered: Rendered,
        turns: Sequence[int],
        places: Mapping[int, tuple[int, int]],
        written: set[int],
    ) -> None:
        """Hold what the template's own marks say against what its prefixes say. Raises
        `RecipeError`."""
        by_marks, by_prefix, open = (np.zeros(len(tokens.ids), bool) for _ in range(3))
        for turn, closed in zip(turns, rendered.closed, strict=True):
            if turn not in places:
                return  # what stands before it is written otherwise: only its own lesson can say
            place = places[turn]
            by_prefix[slice(*place)] = True
            if turn not in written:
                open[slice(*place)] = True
            if closed is not None:  # the opening may be marked too
                begin = int(np.searchsorted(tokens.spans[:, 0], len(closed)))
                open[begin : place[0]] = True
        for first, last in rendered.marks:
            by_marks |= (tokens.spans[:, 0] < last) & (tokens.spans[:, 1] > first)
        for at in np.flatnonzero((by_marks != by_prefix) & ~open).tolist():
            text = tokens.text[slice(*tokens.spans[at].tolist())]
            if text.strip() and not tokens.special(at):
                says = "its marks" if by_marks[at] else "its prefixes"
                raise RecipeError(
                    f"{self._called} contradicts itself: by {says} alone the assistant writes "
                    f"'{shown(text, 30)}'; mend its {{% generation %}}, or take another with "
                    "--task.template NAME"
                )


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a text, and where each stands in it."""

    text: str
    ids: np.ndarray
    spans: np.ndarray
    ends: frozenset[int]
    end: int

    def turn(self, first: int, last: int | None, *, exact: bool = True) -> tuple[int, int]:
        """The tokens of a turn that stands between two places of the text: from its first token to
        the one that ends it, and not what is only written after it. `last` None: up to the first
        such token. Raises `RowError`."""
        starts, stops = self.spans[:, 0], self.spans[:, 1]
        if exact and ((starts < first) & (stops > first)).any():
            raise RowError(
                "the beginning of an answer is one token with what stands before it, as a space or "
                "a new line at its beginning is"
            )
        inside = np.flatnonzero((starts >= first) & (stops > starts))
        if last is not None:
            inside = inside[starts[inside] < last]
        if not len(inside):
            raise RowError("a template that leaves an answer out")
        begin, stop = int(inside[0]), int(inside[-1]) + 1
        if last is None:
            ends = [at for at in inside.tolist() if self._ends(at)]
            stop = ends[0] + 1 if ends else stop
        at = stop
        while at > begin and (self._blank(at - 1) or self.special(at - 1)):
            at -= 1
        while at < len(self.ids) and self._blank(at) and not self.special(at):
            at += 1  # where the end is written before the next message, or after a space
        after = at
        while after < len(self.ids) and self.special(after):
            after += 1
            if self._ends(after - 1) and self.end >= 0:
                break
        if after == at or (self.end >= 0 and not self._ends(after - 1)):
            raise RowError(
                "no token that ends an answer: a model that learns from it would never stop"
            )
        return begin, after

    def stands_in(self, through: str | None, begin: int, stop: int) -> bool:
        """Whether a turn stands, as it does here, in the text that ends with it: what it says, not
        how it ends."""
        first = int(self.spans[begin, 0])
        if through is None or not through.startswith(self.text[:first]):
            return True
        while stop > begin and (self.special(stop - 1) or self._blank(stop - 1)):
            stop -= 1
        words = self.text[first : int(self.spans[stop - 1, 1])] if stop > begin else ""
        return through.startswith(words, first)

    def _ends(self, at: int) -> bool:
        return int(self.ids[at]) == self.end

    def special(self, at: int) -> bool:
        return int(self.ids[at]) in self.ends

    def _blank(self, at: int) -> bool:
        return not self.text[slice(*self.spans[at].tolist())].strip()


def _difference(before: str | None, text: str) -> str:
    """What an opening says where the whole conversation goes on otherwise."""
    if before is None:
        return "it refuses the messages before it"
    pairs = enumerate(zip(before, text, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(len(before), len(text)))
    return f"'{shown(before[at:], 20)}' is not '{shown(text[at : at + 20], 20)}'"


def _listed() -> str:
    return ", ".join(names())
