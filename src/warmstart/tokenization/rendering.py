"""Chat templates are programs that a model folder brings along: they are run in a process of their
own, in the sandbox of transformers, for so long and with so much memory.

The sandbox (`ImmutableSandboxedEnvironment`) keeps a template from Python's objects, but lets it
run on for ever: 100,000 items of a loop in a loop are nothing that it counts. A thread cannot be
stopped from outside, and a signal reaches only the main thread; a process can be killed, whoever
waits for it. It starts with the first template, is shared by all, and ends with this process.

    python -m warmstart.tokenization.rendering     reads requests, writes answers, a line of JSON
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmstart.errors import RecipeError, RowError, WarmstartError, shown

Answer = Mapping[str, Any]
"""What the process says, by name."""
SECONDS = 5.0
"""That a template may take for one conversation, where a thousandth is usual."""
START = 120.0
MEMORY = 4 << 30
LONGEST = 32 << 20
"""Characters of a text that a template writes."""
INSIDE = re.compile(
    r"__(class|bases?|mro|subclasses|globals|builtins|init|import|dict|getattribute|code|func)__"
)
"""What only a template reads that wants out of its sandbox."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template makes of a conversation.

    Args:
        text: the whole, without an opening for a further answer.
        marks: first character and the one after the last, of what stands between `{% generation %}`
            and `{% endgeneration %}`.
        before: for each turn that was asked for, the text of all messages before it with an opening
            for an answer; None where the template refuses them.
        through: the text of all messages up to the turn.
        closed: the text of all messages before it without an opening; None where that is not
            needed: of a template without marks whose opening is what the whole begins with.
    """

    text: str
    marks: Sequence[tuple[int, int]] = ()
    before: Sequence[str | None] = ()
    through: Sequence[str | None] = ()
    closed: Sequence[str | None] = ()


class Renderer:
    """The process that runs templates, as this process sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._owner = 0

    def render(
        self,
        template: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        tokens: Mapping[str, str],
        opened: bool = False,
        turns: Sequence[int] = (),
    ) -> Rendered:
        """What a template makes of messages; `tokens` are the special tokens that it can name.

        Raises `RecipeError` for a template that runs on, wants out of its sandbox, or is none, and
        `RowError` where it refuses these messages.
        """
        if match := INSIDE.search(template):
            raise RecipeError(
                f"the chat template reads {match[0]}, which no conversation needs and a program "
                "that wants out of its sandbox does; take another with --task.template NAME"
            )
        answer = self.ask({
            "template": template, "messages": messages, "tools": tools or None, "tokens": tokens,
            "opened": opened, "turns": turns,
        })  # fmt: skip
        if "refused" in answer:
            raise RowError(f"the chat template refuses it: {shown(answer['refused'], 100)}")
        marks = [(first, last) for first, last in answer["marks"]]
        return Rendered(answer["text"], marks, answer["before"], answer["through"],
                        answer["closed"])  # fmt: skip

    def ask(self, request: Mapping[str, Any], seconds: float = 0.0) -> Answer:
        """The answer of the process within so many seconds (0: `SECONDS`). Raises `RecipeError`
        where there is none in time."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            line, why = None, "used too much memory"
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = self._lines.get(timeout=seconds or SECONDS)
            except queue.Empty:
                why = f"ran for more than {seconds or SECONDS:g} seconds"
            except OSError:  # it has ended
                pass
            if line is not None:
                return _checked(json.loads(line))
            self._stop()
        raise RecipeError(
            f"the chat template {why} on one conversation and was stopped: it has a loop without "
            "end, or close to it; take another with --task.template NAME"
        )

    def _running(self) -> subprocess.Popen[str]:
        """The process, begun anew where it ended or belongs to the process that this is a fork
        of."""
        process = self._process
        if process is not None and process.poll() is None and self._owner == os.getpid():
            return process
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-m", "warmstart.tokenization.rendering"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="utf-8", start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                 "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        )  # fmt: skip
        self._owner, self._lines = os.getpid(), queue.Queue()
        threading.Thread(target=_listen, args=(process, self._lines), daemon=True).start()
        try:
            ready = self._lines.get(timeout=START)
        except queue.Empty:
            ready = None
        if ready is None:
            self._stop()
            raise WarmstartError(
                f"the process that runs chat templates did not start ({sys.executable} -m "
                "warmstart.tokenization.rendering); try that command by itself"
            )
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()


def _listen(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as out:
        for line in out:
            lines.put(line)
    lines.put(None)


def _checked(answer: Answer) -> Answer:
    if "error" in answer:
        raise RecipeError(
            f"the chat template cannot be run: {shown(answer['error'], 120)}; mend it, or take "
            "another with --task.template NAME"
        )
    return answer


RENDERER = Renderer()
"""The one of this process."""
atexit.register(RENDERER.close)


# The other side: what runs in the process of its own.


def _answer(request: Mapping[str, Any]) -> Answer:
    import jinja2.exceptions

    try:
        if "folder" in request:
            return {"ids": _plain_ids(request)}
        return _render(request)
    except (jinja2.exceptions.SecurityError, jinja2.exceptions.TemplateSyntaxError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"error": "it wants too much memory"}
    except Exception as error:  # noqa: BLE001 - whatever a template raises
        return {"refused": str(error) or type(error).__name__}


def _render(request: Mapping[str, Any]) -> Answer:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages, turns = request["messages"], request["turns"]

    def render(some: Any, opened: bool, marked: bool = False) -> tuple[str, Any]:
        texts, marks = render_jinja_template(
            [some], tools=request["tools"], chat_template=request["template"],
            add_generation_prompt=opened, return_assistant_tokens_mask=marked, **request["tokens"],
        )  # fmt: skip
        if len(texts[0]) > LONGEST:
            raise MemoryError
        return texts[0], marks[0] if marked else []

    def tried(some: Any, opened: bool) -> str | None:
        try:
            return render(some, opened)[0]
        except Exception:  # noqa: BLE001 - whatever a template raises
            return None

    marked = re.search(r"{%-?\s*generation\s*-?%}", request["template"]) is not None
    text, marks = render(messages, request["opened"], marked)
    before = [tried(messages[:turn], True) for turn in turns]
    last = len(messages) - 1
    through = [text if turn == last else tried(messages[: turn + 1], False) for turn in turns]
    closed = [None if not marked and opening is not None and text.startswith(opening)
              else tried(messages[:turn], False)
              for turn, opening in zip(turns, before, strict=True)]  # fmt: skip
    return {"text": text, "marks": marks, "before": before, "through": through, "closed": closed}


def _plain_ids(request: Mapping[str, Any]) -> list[list[int]]:
    """What transformers alone makes of conversations with the tokenizer of a folder."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(request["folder"], local_files_only=True)
    return [
        list(tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=True, return_dict=False,
        ))
        for messages, tools in request["conversations"]
    ]  # fmt: skip


def main() -> None:
    """Read requests until there are no more."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from transformers.utils import chat_template_utils

    out, sys.stdout = sys.stdout, sys.stderr
    assert chat_template_utils
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
