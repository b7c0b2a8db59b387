"""Base models from a hub: safetensors and JSON only, resumed where a download broke off.

The address, the cache, the token and the offline switch are those of `huggingface_hub`
(`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`).
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

from warmstart.errors import BaseModelError, HubError, shown
from warmstart.models.checks import CONVERT, INDEX, WEIGHTS, file_sha256

# What goes wrong between us and a hub, each in one line that says what to do.

ON_THE_WIRE = ("httpx", "httpcore", "h11")


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
            why = "broke off several times on its way: try again, it goes on from there"
        case OSError() if error.errno == errno.ENOSPC:
            why = f"does not fit on the disk that holds {constants.HF_HUB_CACHE}"
        case _:
            why = f"could not be fetched: {shown(error, 160)}"
    return HubError(f"the model '{shown(repo_id)}' {why}")


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


SHARDS = "model-*-of-*.safetensors"
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "*.model", "chat_template.jinja", "README.md", "LICENSE*", "warmstart.json", INDEX,
)  # fmt: skip
TRIES = 3
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def download(
    repo_id: str, revision: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The folder of a model in the local cache, fetched from the hub as far as it is not there.

    Raises `HubError` when it is not found, not allowed, not reachable, or broken off more than
    `TRIES` times; what had come stays and the next call goes on from there. Raises
    `BaseModelError` when the model has no safetensors.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with _no_chatter():
                return _download(repo_id, revision, cache_dir)
        except BaseModelError:
            raise
        except Exception as error:
            if attempt == TRIES or not broke_off(error):
                raise explained(error, repo_id, revision) from error
            time.sleep(attempt)
    raise AssertionError("unreachable")


def _download(repo_id: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import constants, snapshot_download

    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    commit, files = _listing(repo_id, revision)
    if commit is not None:
        for name in _weights_among(files, repo_id):
            _fetch(repo_id, name, commit, cache)
    path = snapshot_download(
        repo_id,
        revision=revision,
        cache_dir=cache,
        allow_patterns=[*SMALL, WEIGHTS, SHARDS],
        ignore_patterns=["*/*"],
    )
    return Path(path)


def _listing(repo_id: str, revision: str | None) -> tuple[str | None, list[str]]:
    """Commit and file names; nothing where the hub does not say, since the cache may hold it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repo_id, revision=revision)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return None, []
    except Exception as error:
        if on_the_wire(error):
            return None, []
        raise
    return info.sha, [file.rfilename for file in info.siblings or []]


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


def _fetch(repo_id: str, name: str, commit: str, cache: Path) -> None:
    """Bring one weight file into the cache, going on where an earlier call broke off.

    huggingface_hub throws a partial file away at the end of a call. Files of Xet repositories
    are left to it, since they come in pieces.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    folder = repo_folder_name(repo_id=repo_id, repo_type="model")
    if (cache / folder / "snapshots" / commit / name).exists():
        return
    url = hf_hub_url(repo_id, name, revision=commit)
    told = get_hf_file_metadata(url)
    if told.xet_file_data is not None or not told.etag or not told.size:
        return
    blob = cache / folder / "blobs" / told.etag
    lock = cache / ".locks" / folder / f"{told.etag}.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{told.etag}.part")
    with WeakFileLock(lock):
        if blob.exists():
            return
        have = part.stat().st_size if part.exists() else 0
        if have > told.size:
            part.unlink()
            have = 0
        elsewhere = urlsplit(told.location).netloc != urlsplit(url).netloc
        headers = build_hf_headers(token=False if elsewhere else None)
        with part.open("ab") as file:
            http_get(
                told.location, file, resume_size=have, headers=headers, expected_size=told.size
            )
        _check_sum(part, told.etag, f"'{repo_id}' {name}")
        os.replace(part, blob)


def _check_sum(path: Path, expected: str, what: str) -> None:
    """Compare a downloaded file with the sum in its ETag, if that is a sha256."""
    if len(expected) != 64:
        return
    found = file_sha256(path)
    if found != expected:
        path.unlink()
        raise HubError(
            f"{what} came damaged (sha256 {found[:12]}… instead of {expected[:12]}…): "
            "try again, or ask whoever runs the hub"
        )


def check_blob(path: Path, sha256: str) -> None:
    """Refuse a file of the cache whose content is not what its name there says."""
    blob = path.resolve()
    if len(blob.name) == 64 and blob.name != sha256:
        raise HubError(f"{path.name} is damaged in the cache: delete {blob} and try again")


@contextmanager
def _no_chatter() -> Iterator[None]:
    """The hub's progress bars only for somebody who watches, and no warnings."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    if bars and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            enable_progress_bars()
