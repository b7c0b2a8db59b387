"""`chat`: a conversation with a model, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmstart.config.validation import checked
from warmstart.data.conversations import ASSISTANT, USER, Message
from warmstart.errors import RecipeError
from warmstart.inference.writer import Writer, open_writer
from warmstart.models.sampling import Finish, Sampling, Token
from warmstart.pipelines.writing.generate import parted

SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Args:
        text: the answer.
        tokens: how many it has.
        finish_reason: "stop", "length" (it was cut) or "cancelled".
        left_out: messages at the beginning of the conversation that the model could not read any
            more, because there is no room for them.
    """

    text: str
    tokens: int
    finish_reason: Finish
    left_out: int


@dataclass(eq=False)
class Chat:
    """A conversation. `messages` has all of it, also what the model cannot read any more."""

    writer: Writer
    sampling: Sampling
    messages: list[Message] = field(default_factory=list[Message])

    def __post_init__(self) -> None:
        self._template = self.writer.conversation()

    @property
    def template(self) -> str:
        """By which chat template it is written: `own`, or the name of one of ours."""
        return self._template.name

    def say(
        self,
        text: str,
        on_text: Callable[[str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Answer:
        """Say something, and have it answered; both join the conversation, an answer that was
        broken off as far as it came.

        Args:
            on_text: is told each piece of the answer as it comes.
            cancelled: is asked before each token; the answer ends where it is true.

        Raises `RecipeError` where the message alone is longer than the model can read; it has then
        not been said.
        """
        self.messages.append({"role": USER, "content": text})
        try:
            return self._answer(on_text, cancelled)
        except BaseException:
            self.messages.pop()
            raise

    def again(
        self,
        on_text: Callable[[str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Answer:
        """Another answer to what was said last, in the place of the one before."""
        if not any(message["role"] == USER for message in self.messages):
            raise RecipeError("nothing was said yet that could be answered again")
        if self.messages[-1]["role"] == ASSISTANT:
            self.messages.pop()
        self.set("seed", str((self.sampling.seed + 1) % 2**32))
        return self._answer(on_text, cancelled)

    def undo(self) -> bool:
        """Take back what was said last, with its answer; whether there was something."""
        last = next((place for place in reversed(range(len(self.messages)))
                     if self.messages[place]["role"] == USER), None)  # fmt: skip
        if last is not None:
            del self.messages[last:]
        return last is not None

    def reset(self) -> None:
        """Begin anew; the system message stays."""
        self.messages = [message for message in self.messages[:1] if message["role"] == SYSTEM]

    def set(self, name: str, value: str) -> None:
        """Change a setting. Raises `RecipeError`."""
        known = self.sampling.model_dump(exclude_unset=True)
        self.sampling = checked(Sampling, {**known, name.replace("-", "_"): value})

    def set_system(self, text: str) -> None:
        """What the model is told before the conversation; "" takes it away."""
        if self.messages and self.messages[0]["role"] == SYSTEM:
            self.messages.pop(0)
        if text:
            self.messages.insert(0, {"role": SYSTEM, "content": text})

    def _answer(
        self, on_text: Callable[[str], None] | None, cancelled: Callable[[], bool] | None
    ) -> Answer:
        ids, left_out = self._read()
        number = sum(message["role"] == ASSISTANT for message in self.messages)
        own = self.sampling.model_copy(update={"seed": (self.sampling.seed + number) % 2**32})

        def tell(token: Token) -> None:
            if on_text is not None and token.text:
                on_text(token.text)

        (completion,) = self.writer.write(
            [ids], own, ends=[self._template.end], on_token=tell,
            cancelled=None if cancelled is None else lambda row: cancelled(),
        )  # fmt: skip
        self.messages.append({"role": ASSISTANT, "content": completion.text.strip()})
        return Answer(completion.text.strip(), len(completion.ids), completion.finish_reason,
                      left_out)  # fmt: skip

    def _read(self) -> tuple[list[int], int]:
        """The tokens that the model reads, with room for an answer, and how many of the oldest
        messages are not among them; a question and its answer go together."""
        head = [message for message in self.messages[:1] if message["role"] == SYSTEM]
        turns = self.messages[len(head) :]
        room = self.writer.positions - min(self.sampling.max_new_tokens, self.writer.positions // 2)
        begins = [n for n, message in enumerate(turns) if message["role"] == USER]
        for begin in begins:
            ids = self._template.render([*head, *turns[begin:]], open=True)
            if len(ids) <= room:
                return ids, begin
        raise RecipeError(
            f"this message is too long: the model reads {self.writer.positions:,} tokens, of which "
            f"{self.writer.positions - room:,} are kept for the answer; shorten it, or set "
            "max_new_tokens lower"
        )


def open_chat(model: str | Path, keys: Mapping[str, Any], *, system: str = "") -> Chat:
    """See `api.chat`."""
    engine, settings = parted(keys, [model])
    sampling: Sampling = checked(Sampling, settings)
    if sampling.num_return_sequences > 1:
        raise RecipeError(
            "num_return_sequences has no meaning in a conversation, which goes on with one answer; "
            "leave it out, or compare several with warmstart generate"
        )
    chat = Chat(open_writer(model, engine), sampling)
    chat.set_system(system)
    return chat
