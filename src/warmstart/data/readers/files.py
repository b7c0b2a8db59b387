"""Opening a data file: does it exist, may it be read, what is in it, and in which encoding."""

from __future__ import annotations

import codecs
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
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv", ".txt"), "delimited"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    **dict.fromkeys((".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob2"), "conll"),
    ".parquet": "parquet",
}
SPREADSHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth"}
SUPPORTED = "CSV, TSV, JSONL, CoNLL (each also .gz), Parquet and Arrow"
TEXT_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)


def suffix(path: Path) -> str:
    """The lower-case extension that says the format, without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


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
    head, ending = next(_blocks(path))[:8192], suffix(path)
    if not head:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    _refuse(path, ending, head)
    if head.startswith((b"PAR1", b"ARROW1")):
        return "parquet" if head.startswith(b"PAR1") else "arrow"
    kind = "json" if head.lstrip()[:1] in (b"{", b"[") else "delimited"
    if ending and ending not in FORMATS:
        raise RecipeError(f"{path}: '{ending}' files are not read; save it as {SUPPORTED}")
    kind = FORMATS.get(ending, kind)
    if kind == "parquet":
        raise DataError(f"{path} is not a Parquet file, whatever its name says: write it again")
    if kind != "arrow" and encoding is None:
        _refuse_binary(path, head)
    return kind


def check_text(path: Path) -> None:
    """Raises DataError for a file that is no text by its first bytes."""
    _refuse_binary(path, next(_blocks(path))[:8192])


def _refuse(path: Path, ending: str, head: bytes) -> None:
    """Formats that are known and not read, each with the way out."""
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


BLOCK = 1 << 20  # bytes
SMALL, MOST_PACKED = 1 << 26, 100
"""Bytes that any file may unpack to, and how many times its size a larger one."""
SAMPLE = 1 << 18  # bytes given to the statistics
WESTERN = 0.25  # largest share of bytes over 127 in text of a western language
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def detect(path: Path, encoding: str | None = None) -> str:
    """The encoding in which every byte of the file can be read; `encoding` is only checked.

    Byte order mark, then UTF-8, then cp1252 where the bytes are those of a western language, then
    charset-normalizer. Raises DataError with the line of the first byte that cannot be decoded,
    RecipeError for an encoding that does not exist.
    """
    head = next(_blocks(path))
    named = encoding or next((name for mark, name in MARKS if head.startswith(mark)), None)
    known = named or "utf-8"
    bad = first_bad_line(path, known)
    if bad is None:
        return known
    for guess in () if named or _mostly_utf8(path) else _guesses(path):
        if first_bad_line(path, guess) is None:
            return guess
    raise DataError(
        f"{path}:{bad}: bytes that are not {known}; mend the line, or name the encoding of the "
        "file with --data.encoding (for instance cp1252 or utf-16)"
    )


def first_bad_line(path: Path, encoding: str) -> int | None:
    """The 1-based line of the first byte that cannot be decoded; None if there is none."""
    try:
        inner = codecs.getincrementaldecoder(encoding)("strict")
    except LookupError:
        raise RecipeError(f"no encoding '{encoding}'; try utf-8, utf-16 or cp1252") from None
    decoder = io.IncrementalNewlineDecoder(inner, translate=True)
    line = 1
    try:
        for block in _blocks(path):
            line += decoder.decode(block, final=not block).count("\n")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "ignore")
        return line + len(re.findall(r"\r\n|\r|\n", before))
    except UnicodeError:
        return line
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in blocks, with an empty one to close. Raises DataError where it unpacks to far
    more than a packed text does."""
    unpacked, most = 0, max(SMALL, MOST_PACKED * path.stat().st_size)
    try:
        with open_bytes(path) as stream:
            while block := stream.read(BLOCK):
                unpacked += len(block)
                if unpacked > most:
                    raise DataError(
                        f"{path} unpacks to more than {MOST_PACKED} times its size, which no text "
                        "does; if you trust it, unpack it (gunzip), and give the file inside"
                    )
                yield block
    except DAMAGED_GZIP:
        raise DataError(f"{path} is a damaged gzip file: pack or download it again") from None
    yield b""


def _mostly_utf8(path: Path) -> bool:
    """Whether more characters beyond ASCII are sound UTF-8 than broken ones: damaged UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    sound = broken = 0
    for block in _blocks(path):
        text = decoder.decode(block, not block)
        bad = text.count("\ufffd")
        broken += bad
        sound += len(text) - len(text.encode("ascii", "ignore")) - bad
    return sound > broken


def _guesses(path: Path) -> Iterator[str]:
    """cp1252 if it looks western, then what charset-normalizer makes of the lines beyond ASCII."""
    sample = bytearray()
    with open_bytes(path) as stream:
        for line in stream:
            if not line.isascii():
                sample += line[:BLOCK]
            if len(sample) > SAMPLE:
                break
    high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    if high <= WESTERN * len(sample) and not re.search(rb"[\xc0-\xff]{4}", sample):
        yield "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(bytes(sample)).best()
    if best is not None:
        yield best.encoding
