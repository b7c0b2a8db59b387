"""Files and folders that are there whole or not at all, and JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_JSON = 300_000_000


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A free name beside `path`, for a file or a folder that takes the place of `path` in one step
    when the block ends well; nothing of it stays when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(part)  # of a killed process that had our number
    try:
        yield part
        os.replace(part, path)
    finally:
        _remove(part)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with plain line feeds, whole or not at all; the folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all. Of a name that is no UTF-8 the stray bytes are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def check_plain(path: Path) -> None:
    """Raise `OSError` for a pipe or a device: to open one may wait for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no plain file")


def read_text(path: Path) -> str:
    """The UTF-8 text of a plain file. Raises `OSError` and `UnicodeDecodeError`."""
    check_plain(path)
    return path.read_text(encoding="utf-8")


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file. Raises `OSError`, or `ValueError` where it is none, or too large."""
    check_plain(path)
    with path.open(encoding="utf-8") as file:  # a buffer of the size that is asked for is made
        text = file.read(min(path.stat().st_size, LARGEST_JSON) + 1)
    if len(text) > LARGEST_JSON:
        raise ValueError(f"{path.name} has more than {LARGEST_JSON:,} characters")
    try:
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None


def usual_mode(folder: Path) -> int:
    """The mode of a new file beside `folder`, as the user's umask has it."""
    return folder.stat().st_mode & 0o666


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
