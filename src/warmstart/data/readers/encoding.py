"""Which encoding a text file is in, by plain rules first and by statistics only where they fail."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.readers.files import DAMAGED_GZIP, open_bytes
from warmstart.errors import DataError, RecipeError

BLOCK = 1 << 20  # bytes
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
    named = encoding or _marked(path)
    if named:
        _require(path, named)
        return named
    bad = first_bad_line(path, "utf-8")
    if bad is None:
        return "utf-8"
    if _mostly_utf8(path):
        raise _undecodable(path, bad, "utf-8")
    for guess in _guesses(path):
        if first_bad_line(path, guess) is None:
            return guess
    raise _undecodable(path, bad, "utf-8")


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
    """The file in blocks, with an empty one to close."""
    try:
        with open_bytes(path) as stream:
            while block := stream.read(BLOCK):
                yield block
    except DAMAGED_GZIP:
        raise DataError(f"{path} is a damaged gzip file: pack or download it again") from None
    yield b""


def _marked(path: Path) -> str | None:
    with open_bytes(path) as stream:
        head = stream.read(4)
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def _require(path: Path, encoding: str) -> None:
    bad = first_bad_line(path, encoding)
    if bad is not None:
        raise _undecodable(path, bad, encoding)


def _undecodable(path: Path, line: int, encoding: str) -> DataError:
    return DataError(
        f"{path}:{line}: bytes that are not {encoding}; mend the line, or name the encoding of the "
        "file with --data.encoding (for instance cp1252 or utf-16)"
    )


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
    """cp1252 if it looks western, then what charset-normalizer says of the lines beyond ASCII."""
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
