"""Data sets of the hub, by id, through the `datasets` library; code of others never runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.data.readers.files import FORMATS, PICKLES, SPREADSHEETS, suffix
from warmstart.errors import HubError, shown

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(path: str) -> bool:
    """Whether `path` can only be meant as owner/name: no such file, and no file extension."""
    known = FORMATS.keys() | PICKLES | SPREADSHEETS
    local = Path(path)
    if not ID.fullmatch(path) or local.exists() or local.parent.is_dir():
        return False
    return suffix(local) not in known


def load_hub(name: str) -> Mapping[str, Any]:
    """Split name to `datasets.Dataset`. Raises HubError if the hub does not give it."""
    import datasets

    try:
        found: Any = datasets.load_dataset(name)
    except Exception as error:  # noqa: BLE001 - whatever its transport raises
        raise HubError(
            f"no data set '{name}': there is no such file or folder, and the hub did not give it "
            f"({type(error).__name__}: {shown(error, 120)}). Check the name, the connection and "
            "HF_TOKEN"
        ) from None
    if not isinstance(found, Mapping):
        raise HubError(f"the hub gave '{name}' as one part; give a data set with named splits")
    return found
