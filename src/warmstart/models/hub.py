"""Base models from a hub: safetensors and JSON only, by `huggingface_hub`.

The address, the cache, the token and the offline switch are those of `huggingface_hub`
(`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`).
"""

from __future__ import annotations

import errno
import hashlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warmstart.errors import BaseModelError, HubError, shown
from warmstart.models.checks import CONVERT, INDEX, WEIGHTS, file_sha256
from warmstart.models.hf_calls import quiet

ON_THE_WIRE = ("httpx", "httpcore", "h11")
SHARDS = "model-*-of-*.safetensors"
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "*.model", "chat_template.jinja", "README.md", "LICENSE*", "warmstart.json", INDEX,
)  # fmt: skip
TRIES = 3
PATIENCE = 30.0  # seconds for an answer about a model
COMMIT = re.compile(r"[0-9a-f]{40}")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def on_the_wire(error: BaseException) -> bool:
    """Whether the connection failed, and not what came over it."""
    return type(error).__module__.startswith(ON_THE_WIRE) or isinstance(error, ConnectionError)


def broke_off(error: BaseException) -> bool:
    """Whether trying again may help."""
    status = _status(error)
    return (
        on_the_wire(error)
        or (status is not None and status >= 500)
        or (isinstance(error, OSError) and "Consistency check failed" in str(error))
    )


def explained(error: BaseException, repo_id: str, revision: str | None) -> HubError:
    """One line that says what happened and what to do."""
    from huggingface_hub import constants, errors

    login = "log in with `hf auth login` or set HF_TOKEN"
    status = _status(error)
    match error:
        case errors.HFValidationError():
            why = "is neither an existing folder nor the id of a model on the hub"
        case errors.GatedRepoError():
            why = f"is gated: accept its terms on its page, then {login}"
        case errors.RevisionNotFoundError():
            why = f"has no revision '{shown(revision)}'"
        case errors.RepositoryNotFoundError() if status == 404:
            why = f"is not on {constants.ENDPOINT}: check the name"
        case errors.RepositoryNotFoundError():
            why = f"does not exist or is private: check the name, or {login}"
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            why = "is not (wholly) in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        case errors.LocalEntryNotFoundError() if not isinstance(
            error.__cause__, errors.HfHubHTTPError
        ):
            why = f"is not (wholly) in the cache, and {constants.ENDPOINT} cannot be reached"
        case _ if status in (401, 403) or _status(error.__cause__) in (401, 403):
            why = f"may not be read: {login}"
        case _ if broke_off(error):
            why = "broke off several times on its way: try again"
        case OSError() if error.errno == errno.ENOSPC:
            why = f"does not fit on the disk that holds {constants.HF_HUB_CACHE}"
        case _:
            why = f"could not be fetched: {shown(error, 160)}"
    return HubError(f"the model '{shown(repo_id)}' {why}")


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a model in the local cache, fetched from the hub as far as it is not there.

    Raises `HubError` when it does not exist, may not be read, cannot be reached, broke off more
    than `TRIES` times or came damaged, and `BaseModelError` when it has no safetensors.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with quiet(bars=sys.stderr.isatty()), guarded():
                return _download(repo_id, revision)
        except BaseModelError:
            raise
        except Exception as error:
            if attempt == TRIES or not broke_off(error):
                raise explained(error, repo_id, revision) from error
            again = f"trying again ({attempt + 1} of {TRIES})"
            print(f"warmstart: '{shown(repo_id)}' broke off on its way; {again}", file=sys.stderr)
            time.sleep(attempt)
    raise AssertionError("unreachable")


# A hub is somebody else's machine, or stands behind one. What it names becomes the name of a file
# in the cache; what it sends goes on until it says so.

NAMED = ("etag", "x-linked-etag", "x-repo-commit")
"""Headers whose values huggingface_hub makes names of files and folders of."""
SAFE = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]*")
MOST_SAID = 100_000_000  # bytes of an answer whose size was not announced
SLACK, BEGINNING, LEAST_SPEED = 1 << 20, 30.0, 1_000
"""Bytes over what was announced, seconds that are not judged, and bytes a second after them."""


@contextmanager
def guarded() -> Iterator[None]:
    """Inside, an answer of a hub that names a file elsewhere, holds more than was announced, or
    hardly moves, is a `HubError`."""
    from huggingface_hub.utils import get_session

    client: Any = get_session()
    before, sizes = client.event_hooks, dict[str, int]()
    library: Any = sys.modules[type(client).__module__.partition(".")[0]]  # httpx, or its successor
    stream = type("Stream", (_Bounded, library.SyncByteStream), {})

    def check(response: Any) -> None:
        _check_names(response.headers)
        path, length = response.request.url.path, _size(response.headers)
        if response.request.method == "HEAD":
            if length is not None:
                sizes[path] = length
                if place := response.headers.get("location"):
                    sizes[urlsplit(place).path] = length
            return
        most = sizes.get(path, MOST_SAID if length is None else length)
        response.stream = stream(response.stream, most + SLACK, path)

    client.event_hooks = {**before, "response": [*before.get("response", []), check]}
    try:
        yield
    finally:
        client.event_hooks = before


def _check_names(headers: Mapping[str, str]) -> None:
    for name in NAMED:
        value = headers.get(name, "").removeprefix("W/").strip('"')
        if value and not SAFE.fullmatch(value):
            raise HubError(
                f"the hub answers with {name} = '{shown(value, 60)}', which is no name of a file; "
                "ask whoever runs it, and the network between"
            )


def _size(headers: Mapping[str, str]) -> int | None:
    """The bytes that an answer announces: of the file it stands for, if it says so."""
    announced = headers.get("x-linked-size") or headers.get("content-length")
    return int(announced) if announced and announced.isdecimal() else None


class _Bounded:
    """The bytes of an answer, so many at most and not too slowly."""

    def __init__(self, stream: Any, most: int, what: str) -> None:
        self.stream, self.most, self.what = stream, most, shown(what, 80)

    def __iter__(self) -> Iterator[bytes]:
        came, begun = 0, time.monotonic()
        for piece in self.stream:
            came += len(piece)
            if came > self.most:
                raise HubError(
                    f"the hub sends more than the {self.most - SLACK:,} bytes that it announced "
                    f"({self.what}); nothing of it was kept"
                )
            seconds = time.monotonic() - begun
            if seconds > BEGINNING and came < LEAST_SPEED * seconds:
                raise HubError(
                    f"the hub sends {came / seconds:.0f} bytes a second ({self.what}): too slow to "
                    "wait for; try again later"
                )
            yield piece

    def close(self) -> None:
        self.stream.close()


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, errors, snapshot_download, try_to_load_from_cache

    fresh: list[str] = []
    try:
        info = HfApi().model_info(repo_id, revision=revision, timeout=PATIENCE)
    except Exception as error:  # the cache may hold it
        refused = isinstance(error, errors.HfHubHTTPError | errors.OfflineModeIsEnabled)
        if not (refused or on_the_wire(error)):
            raise
    else:
        if not COMMIT.fullmatch(str(info.sha)):  # it becomes the name of a folder
            raise HubError(f"the hub names '{shown(info.sha, 60)}' as the commit of '{repo_id}'")
        names = [file.rfilename for file in info.siblings or [] if "/" not in file.rfilename]
        _weights_among(names, repo_id)
        cached = {name: try_to_load_from_cache(repo_id, name, None, info.sha) for name in names}
        fresh = [name for name, path in cached.items() if not isinstance(path, str)]
    path = snapshot_download(
        repo_id,
        revision=revision,
        allow_patterns=[*SMALL, WEIGHTS, SHARDS],
        ignore_patterns=["*/*"],
    )
    for name in fresh:
        blob = (Path(path) / name).resolve()
        if blob.is_file() and (own := _sum_like(blob)) not in (None, blob.name):
            (Path(path) / name).unlink()
            blob.unlink(missing_ok=True)
            raise HubError(
                f"'{repo_id}' {name} came damaged (its sum is {own[:12]}… instead of "
                f"{blob.name[:12]}…): try again, or ask whoever runs the hub"
            )
    return Path(path)


def _sum_like(blob: Path) -> str | None:
    """The sum of a file of the cache, as its name is one: sha256 of a large file, git's of a small
    one; None where the name is none."""
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        return file_sha256(blob)
    if re.fullmatch("[0-9a-f]{40}", blob.name):
        content = blob.read_bytes()
        return hashlib.sha1(
            b"blob %d\0" % len(content) + content, usedforsecurity=False
        ).hexdigest()
    return None


def _weights_among(files: Sequence[str], repo_id: str) -> list[str]:
    """The weight files to fetch. Raises `BaseModelError` where there are only others."""
    shards = [name for name in files if fnmatch(name, SHARDS) and "/" not in name]
    weights = [WEIGHTS] if WEIGHTS in files else shards
    if weights:
        return weights
    if "adapter_config.json" in files:
        raise BaseModelError(f"'{repo_id}' is an adapter, not a base model")
    if any(name.endswith(PICKLES) for name in files):
        raise BaseModelError(
            f"'{repo_id}' has only pickled weights, which are never read. {CONVERT}"
        )
    raise BaseModelError(f"'{repo_id}' holds no {WEIGHTS}")
