"""What a person says in the terminal: to a model (lines that begin with / are done), and which of
two answers is better, there or on a page of this machine."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.cli.output.tables import print_json, tell
from warmstart.errors import RecipeError, WarmstartError, nearest, shown
from warmstart.files import write_text
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.pipelines.writing.chat import Answer, Chat
    from warmstart.pipelines.writing.prefer import Pair

COMMANDS = {
    "help": "these commands",
    "set NAME VALUE": "change a setting: /set temperature 0.5",
    "settings": "the settings as they are",
    "system TEXT": "what the model is told before the conversation; without a text: nothing",
    "again": "another answer to what was said last",
    "undo": "take back what was said last, with its answer",
    "reset": "begin a new conversation",
    "show": "the conversation so far",
    "save FILE": "write the conversation as a line of JSON (messages), as tune reads it",
    "exit": "end; so does Ctrl-D",
}


class Talk:
    """Reads what is said and prints what is answered. Ctrl-C ends an answer, and nothing else."""

    def __init__(self, chat: Chat, *, as_json: bool) -> None:
        self._chat, self._as_json = chat, as_json
        self._shows = sys.stdin is not None and sys.stdin.isatty() and not as_json
        self._left_out = 0

    def run(self) -> None:
        """Until the input ends, or /exit."""
        if self._shows:
            self._note(
                f"talking by the {self._chat.template} chat template; /help lists the commands, "
                "Ctrl-C ends an answer, Ctrl-D the conversation"
            )
        while (line := self._line()) is not None:
            if not line.strip():
                continue
            try:
                if line.startswith("/") and not line.startswith("//"):
                    if self._command(line[1:].strip()):
                        return
                else:
                    self._answered(
                        self._chat.say, line.removeprefix("/") if line[0] == "/" else line
                    )
            except WarmstartError as error:
                self._note(str(error))

    def _line(self) -> str | None:
        """What was typed; a line that ends with a backslash goes on. None at the end."""
        lines: list[str] = []
        while True:
            try:
                line = input("> " if self._shows and not lines else "")
            except EOFError:
                return "\n".join(lines) if lines else None
            except KeyboardInterrupt:
                if not self._shows:
                    raise
                print()
                self._note("Ctrl-D or /exit ends the conversation")
                return ""
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _answered(self, ask: Callable[..., Answer], *words: str) -> None:
        stopped: list[bool] = []
        begun = False

        def put(text: str) -> None:
            nonlocal begun
            text = text if begun else text.lstrip()
            begun = begun or bool(text)
            sys.stdout.write(text)
            sys.stdout.flush()

        with _interrupts(lambda: stopped.append(True)):
            answer = ask(*words, None if self._as_json else put, lambda: bool(stopped))
        if self._as_json:
            print_json({"role": "assistant", "content": answer.text, "tokens": answer.tokens,
                        "finish_reason": answer.finish_reason, "left_out": answer.left_out},
                       indent=None)  # fmt: skip
            return
        print()
        if answer.left_out > self._left_out:
            self._note(
                f"the conversation is longer than the model can read: the first "
                f"{counted(answer.left_out, 'message')} were left out of it"
            )
        self._left_out = answer.left_out
        if answer.finish_reason == "length":
            self._note(
                f"cut after {counted(answer.tokens, 'token')}; /set max_new_tokens "
                f"{2 * self._chat.sampling.max_new_tokens} gives the next more room"
            )
        elif answer.finish_reason == "cancelled":
            self._note("broken off; what was said so far stays in the conversation (/undo)")

    def _command(self, text: str) -> bool:
        """Do what a line says that began with /; whether to end."""
        name, _, rest = text.partition(" ")
        chat, rest = self._chat, rest.strip()
        if name in ("exit", "quit", "bye"):
            return True
        if name == "set":
            key, _, value = rest.partition(" ")
            if not value.strip():
                raise RecipeError("say which setting and what: /set temperature 0.5")
            chat.set(key, value.strip())
            name = "settings"
        if name == "settings":
            self._note(", ".join(f"{key} {value}" for key, value in chat.sampling))
        elif name == "system":
            chat.set_system(rest)
        elif name == "again":
            self._answered(chat.again)
        elif name == "undo":
            self._note("taken back" if chat.undo() else "there is nothing to take back")
        elif name in ("reset", "new", "clear"):
            chat.reset()
            self._left_out = 0
        elif name == "show":
            for message in chat.messages:
                print(f"{message['role']}: {message['content']}")
        elif name == "save":
            _save(chat, rest)
            self._note(f"written: {rest}")
        elif name == "help":
            print("\n".join(f"  /{word:<16} {meaning}" for word, meaning in COMMANDS.items()))
        else:
            known = [word.partition(" ")[0] for word in COMMANDS]
            raise RecipeError(f"no command '/{shown(name)}'.{nearest(name, known)}")
        return False

    def _note(self, text: str) -> None:
        tell(f"({text})")


def _save(chat: Chat, name: str) -> None:
    if not name:
        raise RecipeError("say where: /save conversation.jsonl")
    if Path(name).exists():
        raise RecipeError(f"{name} exists; choose another name")
    try:
        write_text(Path(name), json.dumps({"messages": chat.messages}, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RecipeError(f"cannot write {name}: {error.strerror}; choose another name") from None


@contextmanager
def _interrupts(act: Callable[[], Any]) -> Iterator[None]:
    """Inside, Ctrl-C does this instead of ending the program."""
    try:
        before = signal.signal(signal.SIGINT, lambda number, frame: act())
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


KEYS = {"1": "1", "2": "2", "s": "skip", "skip": "skip", "": "skip", "q": "end", "quit": "end",
        "end": "end", "exit": "end"}  # fmt: skip
BROKEN_OFF = "end"


@contextmanager
def judging(*, page: bool, port: int = 0) -> Iterator[Callable[[Pair], str]]:
    """A context that gives the function which shows a pair and says what was chosen."""
    if not page:
        yield in_terminal
        return
    from warmstart.pipelines.writing.page import Page

    with Page(port) as shown:
        print(f"open in the browser of this machine: {shown.address}", file=sys.stderr)
        print("Ctrl-C ends; what was judged is kept", file=sys.stderr, flush=True)

        def choose(pair: Pair) -> str:
            try:
                return shown.choose(pair)
            except KeyboardInterrupt:
                return BROKEN_OFF

        yield choose
        shown.finish()


def in_terminal(pair: Pair) -> str:
    """Print a pair, and read 1, 2, s (skip) or q (end) from stdin."""
    print(f"\n=== prompt {pair.number + 1} of {pair.of}")
    print(pair.prompt)
    for number, text in enumerate(pair.answers, 1):
        print(f"\n--- answer {number}")
        print(text)
    while True:
        print("\nWhich is better? 1, 2, s (skip) or q (end): ", end="", flush=True)
        try:
            typed = sys.stdin.readline()
        except KeyboardInterrupt:
            typed = ""
        if not typed:
            print()
            return BROKEN_OFF
        choice = KEYS.get(typed.strip().lower())
        if choice is not None and typed.strip():
            return choice
        print("type 1, 2, s or q")
