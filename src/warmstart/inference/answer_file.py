"""Answers that were paid for, kept in a file of JSON lines, so that nothing is asked twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from warmstart.errors import RunError, shown


class AnswerFile:
    """Key of a request → its reply. Every reply is on the disk when `put` returns.

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
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
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
