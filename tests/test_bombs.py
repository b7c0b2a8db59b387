"""Files that are small and hold very much, never end, or have a few bytes changed: each is read or
refused in one line, within seconds and a memory that is limited."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GIGABYTES, SECONDS = 3, 60
READ = """
import resource, sys, json
from pathlib import Path
import pyarrow
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import WarmstartError
before = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (before + int(sys.argv[1]),) * 2)
for name in sys.argv[2:]:
    try:
        table = read(Path(name), ledger=Ledger())
        table.to_pylist() if len(table) < 10_000 else None
        print(json.dumps(f"rows {len(table)}"))
    except WarmstartError as error:
        print(json.dumps(str(error)))
"""


def said(files: Iterable[Path], preloaded: dict[str, str]) -> list[str]:
    """What reading each file gives, in a process of its own with 3 GB beside its own memory."""
    done = subprocess.run(
        ["python", "-c", READ, str(GIGABYTES << 30), *map(str, files)],
        env=preloaded, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    answers: list[str] = [json.loads(line) for line in done.stdout.splitlines()]
    assert not any("\n" in answer for answer in answers)
    return answers


def gz(path: Path, piece: bytes, times: int, head: bytes = b"text,label\n") -> Path:
    """A gzip file with a piece so many times, packed as one stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(head))
        block = piece * max(1, (1 << 20) // len(piece))
        for _ in range(times * len(piece) // len(block)):
            file.write(packer.compress(block))
        file.write(packer.flush())
    return path


def one_long_line(folder: Path) -> Path:
    return gz(folder / "line.csv.gz", b"a", 1 << 28)


def many_short_lines(folder: Path) -> Path:
    return gz(folder / "lines.csv.gz", b"a,b\n", 64_000_000)


def parquet_of_one_text(folder: Path) -> Path:
    text = pa.array(["a" * 1_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(54_000, np.int32)), text)
    pq.write_table(pa.table({"text": column, "label": column}), folder / "text.parquet",
                   compression="zstd")  # fmt: skip
    return folder / "text.parquet"


def arrow_of_one_text(folder: Path) -> Path:
    text = pa.array(["a" * 1_000_000])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(54_000, np.int32)), text)
    table = pa.table({"text": column, "label": column})
    with pa.ipc.new_file(str(folder / "text.arrow"), table.schema) as writer:
        writer.write_table(table)
    return folder / "text.arrow"


def parquet_of_nothing(folder: Path) -> Path:
    schema = pa.schema([("text", pa.null()), ("label", pa.null())])
    with pq.ParquetWriter(folder / "nulls.parquet", schema) as writer:
        part = pa.table({"text": pa.nulls(10_000_000), "label": pa.nulls(10_000_000)})
        for _ in range(20):
            writer.write_table(part)
    return folder / "nulls.parquet"


def conll_line(folder: Path) -> Path:
    (folder / "x.conll").write_text("word tag " * 10_000_000)
    return folder / "x.conll"


def json_keys(folder: Path) -> Path:
    (folder / "keys.jsonl").write_text(json.dumps({f"k{i}": i for i in range(200_000)}) + "\n")
    return folder / "keys.jsonl"


def keys_of_their_own(folder: Path) -> Path:
    lines = (json.dumps({"text": "a", "label": "b", f"k{i}": 1}) for i in range(8_000))
    (folder / "own.jsonl").write_text("\n".join(lines))
    return folder / "own.jsonl"


def many_columns(folder: Path) -> Path:
    line = ",".join(f"c{i}" for i in range(100_000)) + "\n"
    (folder / "wide.csv").write_text(line * 3)
    return folder / "wide.csv"


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "gzip of one long line": (one_long_line, "unpacks to more than 100 times its size"),
    "gzip of short lines": (many_short_lines, "unpacks to more than 100 times its size"),
    "one text in Parquet": (parquet_of_one_text, "the same texts over and over"),
    "one text in Arrow": (arrow_of_one_text, "the same texts over and over"),
    "nulls in Parquet": (parquet_of_nothing, "hold next to nothing"),
    "a line of CoNLL": (conll_line, "a line of more than"),
    "keys of an object": (json_keys, "200,000 columns"),
    "a key for each row": (keys_of_their_own, "columns"),
    "columns": (many_columns, "100,000 columns"),
}


def test_a_bomb_is_refused(tmp_path: Path, preloaded: dict[str, str]) -> None:
    answers = said([make(tmp_path) for make, _ in BOMBS.values()], preloaded)
    for (bomb, (_, reason)), answer in zip(BOMBS.items(), answers, strict=True):
        assert reason in answer, bomb


def test_packed_and_repeated_files_that_are_honest_are_read(
    tmp_path: Path, preloaded: dict[str, str]
) -> None:
    rows = [("a fine film of its year", "good"), ("a poor book", "bad")] * 40_000
    with gzip.open(tmp_path / "rows.csv.gz", "wt") as file:
        file.write("text,label\n" + "".join(f"{i} {text},{label}\n" for i, (text, label) in
                                            enumerate(rows)))  # fmt: skip
    labels = pa.array([label for _, label in rows]).dictionary_encode()
    table = pa.table({"text": [text for text, _ in rows], "label": labels})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    files = [tmp_path / name for name in ("rows.csv.gz", "rows.parquet", "rows.arrow")]
    assert said(files, preloaded) == ["rows 80000"] * 3


KINDS = ("file.arrow", "stream.arrow", "table.parquet", "zstd.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_crash_nothing(kind: str, tmp_path: Path, preloaded: dict[str, str]) -> None:
    """60 files of each kind with 1 to 5 bytes changed."""
    texts = [f"text number {i} of some" for i in range(50)]
    table = pa.table({
        "text": texts, "label": pa.array(["a", "b"] * 25).dictionary_encode(),
        "tags": [["x", "y"]] * 50, "number": pa.array(range(50), pa.int32()),
        "part": [{"a": i, "b": text} for i, text in enumerate(texts)],
    })  # fmt: skip
    path = tmp_path / kind
    if kind == "file.arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    elif kind == "stream.arrow":
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path, compression="zstd" if kind == "zstd.parquet" else "none")
    whole, rng, files = path.read_bytes(), np.random.default_rng(len(kind)), list[Path]()
    for number in range(60):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            changed[place] = int(rng.integers(256))
        files.append(tmp_path / f"{number}-{kind}")
        files[-1].write_bytes(changed)
    answers = said(files, preloaded)
    assert len(answers) == len(files)
    assert all(answer.startswith("rows ") or str(tmp_path) in answer for answer in answers)


COMMANDS: dict[str, tuple[str, str]] = {
    "an endless line on stdin": (
        "tr '\\0' a < /dev/zero | warmstart predict base -",
        "a line of more than"),
    "a folder of texts with no files": (
        "warmstart index minilm texts --out i", "control characters"),
    "a recipe that is a device": (
        "warmstart tune m.csv --recipe /dev/zero", "no file but a pipe or a device"),
    "a recipe that is a pipe": (
        "warmstart tune m.csv --recipe pipe", "no file but a pipe or a device"),
}  # fmt: skip


@pytest.mark.parametrize("what", COMMANDS)
def test_what_never_ends_is_refused(what: str, tmp_path: Path, preloaded: dict[str, str]) -> None:
    from learning import write_messages
    from tiny import classifier

    if "stdin" in what:
        classifier("bert", tmp_path / "base")
    write_messages(tmp_path / "m.csv", 30)
    texts = tmp_path / "texts"
    texts.mkdir()
    os.mkfifo(texts / "x.txt")
    os.mkfifo(tmp_path / "pipe")
    (texts / "zero.txt").symlink_to("/dev/zero")
    (texts / "random.txt").write_bytes(np.random.default_rng(0).bytes(1 << 20))
    words, reason = COMMANDS[what]
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 8000000; {words}"], cwd=tmp_path, env=preloaded,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert reason in done.stderr and done.stderr.count("\n") == 1
