"""What hosted models answered, what it took, and a file in which paid answers are kept."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from warmstart.errors import RunError, shown
from warmstart.files import read_text


@dataclass(frozen=True, slots=True)
class Reply:
    """What the host answered.

    Args:
        text: of the message; "" where there is none.
        finish: "stop", "length", "content_filter" or what else the host says; "refused".
        tokens: each with its log-probability, where the host gives them.
        read, written: tokens, as the host counts them.
        seconds: from the request to the end of the answer; 0 of one that was kept.
    """

    text: str
    finish: str
    tokens: Sequence[tuple[str, float]] = ()
    read: int = 0
    written: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Usage:
    """What was asked so far. `cost` is None without prices."""

    requests: int = 0
    kept: int = 0
    retries: int = 0
    read: int = 0
    written: int = 0
    cost: float | None = None
    seconds: list[float] = field(default_factory=list[float])

    def figures(self) -> Mapping[str, Any]:
        """As JSON; the seconds of a request as median and 95 %."""
        times = self.seconds
        late = quantiles(times, n=20)[-1] if len(times) > 1 else sum(times)
        return {
            "requests": self.requests, "kept": self.kept, "retries": self.retries,
            "input_tokens": self.read, "output_tokens": self.written,
            "cost": None if self.cost is None else round(self.cost, 8),
            "seconds_median": round(median(times), 4) if times else None,
            "seconds_95": round(late, 4) if times else None,
        }  # fmt: skip


def reply_of(answer: Any, seconds: float) -> Reply:
    """The first choice of an answer. Raises `ValueError` for one of another form."""
    choice, usage = answer.choices[0], getattr(answer, "usage", None)
    message = choice.message
    refused = getattr(message, "refusal", None)
    logged: Any = getattr(getattr(choice, "logprobs", None), "content", None) or []
    tokens = [(str(token.token), float(token.logprob)) for token in logged]
    return Reply(
        str(message.content or ""), "refused" if refused else str(choice.finish_reason), tokens,
        usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0, seconds,
    )  # fmt: skip


class AnswerFile:
    """A file of JSON lines, so that nothing is paid for twice: key of a request → its reply.

    Every reply is on the disk when `put` returns.
    A last line that was broken off (the disk was full, the machine went down) is not read; any
    other line of another form raises `RunError`. The file holds the answers and sums of the
    requests, and none of the texts that were sent.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._lock = path, threading.Lock()
        self._known: dict[str, Mapping[str, Any]] = {}
        if path is None:
            return
        try:
            lines = read_text(path).split("\n") if path.exists() else []
            path.open("a", encoding="utf-8").close()
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(
                f"cannot keep answers in {path}: {shown(error, 100)}; give --engine.keep another "
                "name"
            ) from None
        for number, line in enumerate(lines, 1):
            if line.strip() and number < len(lines):
                self._read(line, number)
        if lines and lines[-1]:
            path.write_text("\n".join(lines[:-1]) + "\n" * (len(lines) > 1), encoding="utf-8")

    def _read(self, line: str, number: int) -> None:
        try:
            row = json.loads(line)
            self._known[row["key"]] = row["reply"]
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"{self.path}:{number} is no line of kept answers; give --engine.keep another name"
            ) from None

    @staticmethod
    def key(*request: Any) -> str:
        """The sum of everything that a reply depends on."""
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The reply that was kept, if there is one."""
        return self._known.get(key)

    def put(self, key: str, reply: Any) -> None:
        """Keep a reply (a dataclass)."""
        if self.path is None:
            return
        row = {"key": key, "reply": {**asdict(reply), "seconds": 0.0}}
        with self._lock:
            self._known[key] = row["reply"]
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            except OSError as error:
                raise RunError(f"cannot keep answers in {self.path}: {shown(error, 100)}") from None
