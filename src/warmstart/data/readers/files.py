"""Opening a data file: does it exist, may it be read, what is in it, and in which encoding."""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from warmstart.errors import DataError, RecipeError, nearest, shown

FORMATS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv", ".txt"), "delimited"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    **dict.fromkeys((".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob2"), "conll"),
    ".parquet": "parquet",
    **dict.fromkeys((".xlsx", ".xlsm"), "spreadsheet"),
}
ANNOTATIONS = {
    ".spacy": "a DocBin of spaCy",
    ".ann": "annotations of brat, apart from their text",
    ".tcf": "annotations of WebLicht",
    ".xmi": "annotations of UIMA",
}
"""What tools for annotation write that is not read → how it is called."""
SPREADSHEETS = {".xls", ".ods", ".numbers"}
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth"}
SUPPORTED = "CSV, TSV, JSONL, CoNLL (each also .gz), Parquet, Arrow and .xlsx"
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


def lines(path: Path, encoding: str, *, lenient: bool = False) -> Iterator[str]:
    """The physical lines of a text file with their line ends. Raises DataError at a NUL byte.

    `lenient`: bytes that are not of the encoding become lone surrogates, and NUL bytes stay; then
    `NOT_TEXT` finds both.
    """
    errors = "surrogateescape" if lenient else "strict"
    with io.TextIOWrapper(open_bytes(path), encoding, errors, newline="") as text:
        for number, line in enumerate(text, 1):
            if "\0" in line and not lenient:
                raise DataError(
                    f"{path}:{number}: NUL byte; the file is damaged or not text. Export it again, "
                    "delete the NUL bytes (tr -d '\\000'), or leave such rows out with "
                    "--data.bad_rows skip"
                )
            yield line.removeprefix("\ufeff") if number == 1 else line


NOT_TEXT = re.compile("[\0\udc80-\udcff]")
"""What `lines` leaves, where it is lenient, of bytes that are no text."""


def why_not_text(line: str, encoding: str) -> str:
    """The reason for leaving out a line that `NOT_TEXT` matches."""
    return "a NUL byte" if "\0" in line else f"bytes that are not {encoding}"


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
    if FORMATS.get(ending) == "spreadsheet":
        return "spreadsheet"
    _refuse(path, ending, head)
    if head.startswith((b"PAR1", b"ARROW1")):
        return "parquet" if head.startswith(b"PAR1") else "arrow"
    kind = "json" if head.lstrip()[:1] in (b"{", b"[") else "delimited"
    if ending and ending not in FORMATS:
        raise RecipeError(f"{path}: '{ending}' files are not read; save it as {SUPPORTED}")
    kind = FORMATS.get(ending, kind)
    if kind == "delimited" and ending != ".csv" and is_conll(head):
        return "conll"
    if kind == "parquet":
        raise DataError(f"{path} is not a Parquet file, whatever its name says: write it again")
    if kind != "arrow" and encoding is None:
        _refuse_binary(path, head)
    return kind


IOB = re.compile(r"(?:\S+[ \t]+)+(?:O|[BIESLU]-\S+)")
MOST = 0.95  # of the lines that hold something


def is_conll(head: bytes) -> bool:
    """Whether the beginning of a file is of words with tags (O, B-PER, I-PER) at the ends of their
    lines, and blank lines between sentences."""
    cut = head.rpartition(b"\n")[0] or head
    rows = [line.strip() for line in cut.decode("utf-8", "replace").splitlines()]
    filled = [line for line in rows if line and not line.startswith(("#", "-DOCSTART-"))]
    tagged = [line for line in filled if IOB.fullmatch(line)]
    widths = {len(line.split()) for line in tagged}
    some = any(line[-1] == "O" for line in tagged) and len(filled) < len(rows)
    return some and len(widths) == 1 and len(tagged) >= MOST * len(filled)


def check_text(path: Path) -> None:
    """Raises DataError for a file that is no text by its first bytes."""
    _refuse_binary(path, next(_blocks(path))[:8192])


def _refuse(path: Path, ending: str, head: bytes) -> None:
    """Formats that are known and not read, each with the way out."""
    if ending in PICKLES or re.match(rb"\x80[\x02-\x05]", head):
        raise RecipeError(
            f"{path} is a pickle, which can run code when it is opened; save it as CSV or Parquet"
        )
    if ending in ANNOTATIONS:
        raise RecipeError(
            f"{path} is {ANNOTATIONS[ending]}; save it as JSONL, a text with its spans a line: "
            '{"text": "…", "spans": [{"start": 0, "end": 3, "label": "PER"}]}, or as CoNLL'
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
COMMON = (
    "cp1252", "mac_roman", "cp1250", "iso8859_2", "cp1254", "cp1251", "koi8_r", "cp1253", "cp1255",
    "cp1256", "cp1257", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp874",
)  # fmt: skip
"""Encodings in the order in which they are taken where the statistics do not tell them apart."""
EQUAL, CHAOS, RARE = 0.01, 2.0, 0.15  # in the merit of an encoding
CONTROL = re.compile("[\x80-\x9f]")
"""What no text has, and what other encodings make of dashes and quotes of cp1252."""
WIDE = re.compile(r"utf-?(16|32)")
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Encoding(NamedTuple):
    """`line` is one to check by, where the encoding is a guess."""

    name: str
    line: str | None = None


def detect(
    path: Path, encoding: str | None = None, *, usual: str | None = None, lenient: bool = False
) -> str:
    """See `detected`."""
    return detected(path, encoding, usual=usual, lenient=lenient).name


def detected(
    path: Path, encoding: str | None = None, *, usual: str | None = None, lenient: bool = False
) -> Encoding:
    """The encoding in which every byte of the file can be read; `encoding` is only checked.

    Byte order mark, then UTF-8, then `usual`, then what the statistics of the letters say. Raises
    DataError with the line of the first byte that cannot be decoded, RecipeError for an encoding
    that does not exist. `lenient`: lines may hold other bytes where the encoding is known.
    """
    head = next(_blocks(path))
    named = encoding or next((name for mark, name in MARKS if head.startswith(mark)), None)
    known = named or "utf-8"
    bad = first_bad_line(path, known)
    if bad is None:
        return Encoding(known)
    damaged = named is not None or _mostly_utf8(path)
    if lenient and damaged and not WIDE.match(codecs.lookup(known).name):
        return Encoding(known)
    if not damaged:
        if usual is not None and first_bad_line(path, usual) is None:
            return Encoding(usual)
        sample = _sample(path)
        for guess in _guesses(sample):
            if first_bad_line(path, guess) is None:
                return Encoding(guess, _telling_line(sample, guess))
    raise DataError(
        f"{path}:{bad}: bytes that are not {known}; mend the line, leave such rows out with "
        "--data.bad_rows skip, or name the encoding of the file with --data.encoding (for instance "
        "cp1252 or utf-16)"
    )


def first_bad_line(path: Path, encoding: str) -> int | None:
    """The 1-based line of the first byte that cannot be decoded; None if there is none."""
    try:
        b"a".decode(
            encoding, "ignore"
        )  # only what makes texts of bytes: rot13 makes texts of texts
        inner = codecs.getincrementaldecoder(encoding)("strict")
    except (LookupError, ValueError, TypeError):
        raise RecipeError(
            f"no encoding '{shown(encoding)}' of texts; try utf-8, utf-16 or cp1252"
        ) from None
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


def _sample(path: Path) -> bytes:
    """The first lines that are not ASCII."""
    sample = bytearray()
    with open_bytes(path) as stream:
        for line in stream:
            if not line.isascii():
                sample += line[:BLOCK]
            if len(sample) > SAMPLE:
                break
    return bytes(sample)


def _guesses(sample: bytes) -> list[str]:
    """Encodings by how well their letters make words of a language, the best first; among equals
    the commonest one."""
    from charset_normalizer import from_bytes

    matches = from_bytes(sample)
    names = dict.fromkeys(name for match in matches for name in match.could_be_from_charset)
    merits: dict[str, float] = {}
    for name in names:
        own, text = from_bytes(sample, cp_isolation=[name]).best(), sample.decode(name, "replace")
        if own is not None and not CONTROL.search(text):
            odd = _odd_share(text)
            merits[name] = own.coherence - CHAOS * own.chaos - odd - RARE * (name not in COMMON)
    best = max(merits.values(), default=0.0)
    equal = [name for name in COMMON if merits.get(name, -9.0) > best - EQUAL]
    return [*equal, *sorted(merits, key=lambda name: -merits[name])]


def _odd_share(text: str) -> float:
    """The share of the characters beyond ASCII that stand where no language has them: signs
    between letters, as in ma–ana for mañana, and capitals behind small letters."""
    far = [i for i in range(1, len(text) - 1) if text[i] > "\x7f"]
    odd = 0
    for i in far:
        before, here, behind = text[i - 1 : i + 2]
        is_sign = unicodedata.category(here)[0] in "SPNC" and here not in "’·"
        odd += is_sign and before.isalpha() and behind.isalpha()
        odd += before.islower() and here.isupper()
    return odd / max(len(far), 1)


def _telling_line(sample: bytes, encoding: str) -> str:
    """The words around the first letters beyond ASCII."""
    lines = re.split(r"[\r\n]+", sample.decode(encoding, "replace"))
    line = next(line for line in lines if not line.isascii())
    first = next(i for i, letter in enumerate(line) if not letter.isascii())
    return " ".join(line[max(0, first - 30) : first + 50].split())
