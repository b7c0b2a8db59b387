"""The base model of an adapter: where it is, and whether it is the one."""

from __future__ import annotations

from pathlib import Path

from warmstart.errors import BaseModelError
from warmstart.models.adapter_files import AdapterFile
from warmstart.models.catalog import Base, listing, resolve
from warmstart.models.embedded import EMBEDDED

MOVED = "base_model_name_or_path of its adapter_config.json, or `warmstart adapters` with --base"


def base_of(file: AdapterFile, base: str | None = None) -> Base:
    """The base model of an adapter, at the place that it names or at `base`.

    Raises `BaseModelError` where it is not there or is another one.
    """
    asked = base or file.base
    if asked is None:
        raise BaseModelError(f"{file.folder} names no base model; say which: --base NAME")
    try:
        found = resolve(str(asked))
    except BaseModelError as error:
        more = f" It is the base of {file.folder}; say where it is now in " + MOVED
        more = "" if base else more
        raise BaseModelError(f"{str(error).rstrip('.')}.{more}") from error
    said = file.note.get("base_sha256")
    if said and said != found.sha256:
        raise BaseModelError(
            f"'{found.name}' is not the base that {file.folder} was trained on "
            f"(sha256 {found.sha256[:12]}… instead of {said[:12]}…)"
        )
    return found


def base_state(file: AdapterFile) -> str:
    """Whether the base is on this machine: present, another, unknown (no sum kept) or absent."""
    place = _place(file.base)
    if place is None:
        return "absent"
    try:
        found = resolve(place).sha256
    except BaseModelError:
        return "absent"
    said = file.note.get("base_sha256")
    return "unknown" if not said else "present" if said == found else "another"


def sum_of_base(file: AdapterFile) -> str | None:
    """The sha256 of the base's weights, kept or found at the place that is named; else None."""
    said, place = file.note.get("base_sha256"), _place(file.base)
    if said or place is None:
        return said
    try:
        return resolve(place).sha256
    except BaseModelError:
        return None


def _place(name: str | None) -> str | None:
    """Where a base stands without asking a hub."""
    if name is None or name in EMBEDDED or Path(name).is_dir():
        return name
    rows = {row["name"]: row["path"] for row in listing() if row["source"] == "hub"}
    return rows.get(name)
