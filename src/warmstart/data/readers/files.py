"""Opening a data file: does it exist, may it be read, what is in it."""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from warmstart.errors import DataError, RecipeError, nearest, shown

FORMATS = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".psv": "delimited",
    ".txt": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".conll": "conll",
    ".conllu": "conll",
    ".conllup": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
SPREADSHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth"}
SUPPORTED = "CSV, TSV, JSONL, CoNLL (each also .gz), Parquet and Arrow"
TEXT_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)


def suffix(path: Path) -> str:
    """The lower-case extension that says the format, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def data_files(folder: Path) -> list[Path]:
    """The files of a folder whose extension is one that can be read, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and suffix(p) in FORMATS)


def open_bytes(path: Path) -> BinaryIO:
    """The file as bytes, unpacked if it is gzip. Raises DataError if it may not be read."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")
    except PermissionError:
        raise DataError(f"{path} may not be read: change its permissions (chmod +r)") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def lines(path: Path, encoding: str) -> Iterator[str]:
    """The physical lines of a text file with their line ends. Raises DataError at a NUL byte."""
    with io.TextIOWrapper(open_bytes(path), encoding, newline="") as text:
        for number, line in enumerate(text, 1):
            if "\0" in line:
                raise DataError(
                    f"{path}:{number}: NUL byte; the file is damaged or not text. Export it again, "
                    "or delete the NUL bytes (tr -d '\\000')"
                )
            yield line.removeprefix("\ufeff") if number == 1 else line


def unusable(path: str | os.PathLike[str]) -> str | None:
    """Why no file can be reached under this name, whatever stands on the disk; None if one can."""
    try:
        os.stat(path)
    except ValueError:
        return "its name holds a character that no name can have"
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "its name is longer than the system allows"
        if error.errno == errno.ELOOP:
            return "it is a link that leads back to itself"
    return None


def check_local(source: Any) -> None:
    """Raises RecipeError where an address on the net stands for a file."""
    if isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        raise RecipeError(
            f"'{shown(source, 100)}' is an address, and files of this machine are read; download "
            "it first, and give the file"
        )


def check_exists(path: Path) -> None:
    """Raises DataError with the nearest file name in the folder if there is no such path, and for
    a pipe, which gives its bytes once where data are read several times."""
    if os.path.isfile(path) or os.path.isdir(path):
        return
    if os.path.exists(path):
        raise DataError(
            f"{path} is no file but a pipe or a device, and data are read more than once; write "
            "them to a file first, and give that"
        )
    name = str(path) if str(path).isprintable() else shown(path, 200)
    if reason := unusable(path):
        raise DataError(f"no file '{shown(path, 100)}': {reason}; check the path")
    if os.path.islink(path):
        raise DataError(
            f"'{name}' is a link to '{shown(os.readlink(path), 200)}', and nothing is there; mend "
            "the link, or name the file itself"
        )
    folder = path.parent
    if not os.path.isdir(folder):
        raise DataError(f"no file '{name}': its folder does not exist either; check the path")
    try:
        there = os.listdir(folder)
    except OSError:
        there = []
    there = [other for other in there if other[0] != "." or path.name[:1] == "."]
    raise DataError(f"no file '{name}'.{nearest(path.name, there) or ' Check the path'}")


def format_of(path: Path, encoding: str | None = None) -> str:
    """'delimited', 'json', 'conll', 'parquet' or 'arrow', by content first and extension second.

    Raises DataError for what is missing, empty, unreadable or binary, and RecipeError for formats
    that are not read.
    """
    check_exists(path)
    try:
        with open_bytes(path) as stream:
            head = stream.read(8192)
    except DAMAGED_GZIP:
        raise DataError(f"{path} is a damaged gzip file: pack or download it again") from None
    if not head:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    _refuse(path, head)
    if head.startswith((b"PAR1", b"ARROW1")):
        return "parquet" if head.startswith(b"PAR1") else "arrow"
    kind = FORMATS.get(suffix(path)) or _by_content(path, head)
    if kind == "parquet":
        raise DataError(f"{path} is not a Parquet file, whatever its name says: write it again")
    if kind != "arrow" and encoding is None:
        _refuse_binary(path, head)
    return kind


def _by_content(path: Path, head: bytes) -> str:
    if suffix(path):
        raise RecipeError(f"{path}: '{suffix(path)}' files are not read; save it as {SUPPORTED}")
    return "json" if head.lstrip()[:1] in (b"{", b"[") else "delimited"


def _refuse(path: Path, head: bytes) -> None:
    """Formats that are known and not read, each with the way out."""
    ending = suffix(path)
    if ending in PICKLES or re.match(rb"\x80[\x02-\x05]", head):
        raise RecipeError(
            f"{path} is a pickle, which can run code when it is opened; save it as CSV or Parquet"
        )
    if ending in SPREADSHEETS:
        raise RecipeError(f"{path} is a spreadsheet; save it as CSV (UTF-8) and give that file")
    if head.startswith(b"PK\x03\x04") or ending in {".zip", ".bz2", ".xz", ".zst", ".tar", ".7z"}:
        raise RecipeError(
            f"{path} is a packed archive or a spreadsheet; unpack it, or save it as CSV, and give "
            "the file inside"
        )


def _refuse_binary(path: Path, head: bytes) -> None:
    """Text holds next to no control characters; raises DataError if these bytes do."""
    if head.startswith(TEXT_BOMS):
        return
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 8 and min(even, odd) <= max(even, odd) / 10:
        name = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(f"{path} looks like UTF-16 without a mark: give --data.encoding {name}")
    control = len(re.findall(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", head))
    if control > max(1, len(head) // 50):
        raise DataError(
            f"{path} is not text: {control} control characters in its first {len(head)} bytes. "
            f"Export it as one of {SUPPORTED}"
        )
