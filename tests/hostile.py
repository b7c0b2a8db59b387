"""Hostile and damaged folders and files, made by rule: what `test_walk.py` shows to every verb.

A case changes a copy of the room (`build`) and names the commands that meet it. Everything is drawn
with a fixed seed, so a case is the same one wherever it runs.
"""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

FEW = 2  # verbs that meet a case
CANARY = "was_run"
CODE = "strange_parts"
EVIL = f"open({CANARY!r}, 'w').close()\n"

MODEL_VERBS = (
    "predict {run} 'a good film' --out o.jsonl",
    "evaluate {run} m.csv --out scores --evaluate.bootstrap 100",
    "index {run} m.csv --out i",
    "tokenizer show 'a text' --tokenizers {model}",
    "py warmstart.Run({run!r}).predict(['a good film'])",
)
BASE_VERBS = (
    "tune m.csv --base {model} --dry-run",
    "inspect m.csv --base {model} --out look",
    "pretrain m.csv --base {model} --dry-run",
    "tokenizer extend {model} --corpus m.csv --out o",
)
ADAPTER_VERBS = (
    "adapters merge {run} --out o",
    "adapters add {run} {run} --out o",
    "adapters average {run} {run} --out o",
    "adapters list {run}",
    "py warmstart.adapters.Adapters('base').load('a', {run!r})",
    "py warmstart.retrieval.embed({run!r}, ['text'])",
    "py warmstart.adapters.listing({run!r})",
    "py warmstart.adapters.merge({run!r}, out='o')",
    "py warmstart.adapters.add([{run!r}, {run!r}], out='o')",
    "py warmstart.adapters.average([{run!r}, {run!r}], out='o')",
    "py warmstart.retrieval.index({run!r}, ['text'], out='i')",
)
RUN_VERBS = (
    "tune --resume {run}",
    "recipe --recipe {run}/recipe.toml --dry-run",
    "py warmstart.Run({run!r}).recipe",
    "py warmstart.plan(resume={run!r})",
    "predict {run} 'a good film'",
)
DATA_VERBS = (
    "tune {file} --base base --dry-run",
    "inspect {file} --base base --out look",
    "predict whole {file} --out o.csv",
    "evaluate whole {file} --out scores",
    "tokenizer train --corpus {file} --vocab_size 300 --out o",
    "py warmstart.plan({file!r}, base='base')",
)
INDEX_VERBS = ("search index 'a text'", "py warmstart.retrieval.search('index', 'a text')")


@dataclass(frozen=True)
class Case:
    """One damage. `damage` works in the current folder; `like` is the command whose answer, where
    there is one, has to be that of the whole folder."""

    name: str
    damage: Callable[[], None]
    verbs: tuple[str, ...]
    like: str = ""


def whole_files(path: Path) -> dict[str, Callable[[], None]]:
    """What can befall any file, whatever it holds."""

    def write(content: bytes) -> Callable[[], None]:
        return lambda: (path.unlink(missing_ok=True), path.write_bytes(content), None)[-1]

    def cut(share: float) -> Callable[[], None]:
        def change() -> None:
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])

        return change

    def changed(seed: int) -> Callable[[], None]:
        def change() -> None:
            rng, content = random.Random(f"{path} {seed}"), bytearray(path.read_bytes())
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            path.write_bytes(content)

        return change

    def link(target: str) -> Callable[[], None]:
        return lambda: (path.unlink(missing_ok=True), path.symlink_to(target), None)[-1]

    def pipe() -> None:
        path.unlink()
        os.mkfifo(path)

    def folder() -> None:
        path.unlink()
        path.mkdir()

    return {
        "missing": path.unlink,
        "empty": write(b""),
        "half": cut(0.5),
        "almost whole": cut(0.99),
        "a changed byte or some": changed(0),
        "other changed bytes": changed(1),
        "random bytes": write(random.Random(7).randbytes(5_000)),
        "a list": write(b"[]"),
        "an empty object": write(b"{}"),
        "deep": write(b"[" * 100_000 + b"]" * 100_000),
        "deep objects": write(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "pickle": write(b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06sys"
                        b"tem\x94\x93\x94\x8c\x06touch \x94\x85\x94R\x94."),
        "a device": link("/dev/zero"),
        "out of the folder": link("/etc/passwd"),
        "a loop": link(path.name),
        "a pipe": pipe,
        "a folder": folder,
    }  # fmt: skip


ODD: tuple[Any, ...] = (
    None, -1, 0, 10**9, 10**30, 1e308, float("nan"), "x", "", [], {}, [[]], True, "a" * 100_000,
    {"a": {"b": 1}}, ["x", 1, None], f"{CODE}.Head", "../../../etc/passwd", "\x1b[2J",
)  # fmt: skip


def keys_of(content: Any, below: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of a JSON object, without those of long tables such as a vocabulary."""
    if isinstance(content, dict) and len(content) < 60:
        for key, value in content.items():
            yield (*below, key)
            yield from keys_of(value, (*below, key))


def odd_values(path: Path, room: Path, per_key: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each key of a JSON file with a value that nobody means."""
    for place in keys_of(json.loads((room / path).read_text())):
        rng = random.Random(f"{path} {place}")
        for value in rng.sample(ODD, per_key):

            def change(place: tuple[str, ...] = place, value: Any = value) -> None:
                content = json.loads(path.read_text())
                at = content
                for key in place[:-1]:
                    at = at[key]
                at[place[-1]] = value
                path.write_text(json.dumps(content))

            yield f"{'.'.join(place)} = {str(value)[:20]!r}", change


def tokenizer_bombs(path: Path) -> dict[str, Callable[[], None]]:
    def put(part: str, value: Any) -> Callable[[], None]:
        def change() -> None:
            content = json.loads(path.read_text())
            content[part] = value
            path.write_text(json.dumps(content))

        return change

    def swap(pattern: dict[str, str], content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": pattern, "content": content}

    def chain(kind: str, *steps: Any) -> dict[str, Any]:
        return {"type": "Sequence", kind: list(steps)}

    doubled = swap({"String": "a"}, "aa")
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    slow = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    nested: Any = doubled
    for _ in range(100):
        nested = chain("normalizers", nested, doubled)
    template = {
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 10_000,
    }  # fmt: skip
    fixed = {"strategy": {"Fixed": 10**11}, "direction": "Right", "pad_to_multiple_of": None,
             "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    return {
        "doubled 40 times": put("normalizer", chain("normalizers", *[doubled] * 40)),
        "doubled in chains": put("normalizer", nested),
        "empty matches": put(
            "normalizer", chain("normalizers", *[swap({"Regex": "x*"}, "x")] * 60)
        ),
        "a long text for each letter": put("normalizer", swap({"Regex": "."}, "ab" * 10**6)),
        "a million steps": put("normalizer", chain("normalizers", *[{"type": "NFC"}] * 10**5)),
        "bytes of bytes": put("pre_tokenizer", chain("pretokenizers", *[level] * 60)),
        "a slow pattern": put("pre_tokenizer", slow),
        "a text 10,000 times": put("post_processor", template),
        "padded without end": put("padding", fixed),
        "a step that is none": put("normalizer", {"type": "Evil", "module": f"{CODE}.Head"}),
    }


def headers(path: Path) -> dict[str, Callable[[], None]]:
    """Headers of safetensors that hold too much, or lie."""

    def put(tensors: Callable[[], str], data: bytes = b"") -> Callable[[], None]:
        def change() -> None:
            text = tensors().encode()
            path.write_bytes(struct.pack("<Q", len(text)) + text + data)

        return change

    def one(shape: str, ends: str, dtype: str = "F32") -> str:
        return f'{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{ends}}}}}'

    empty = '"{:07d}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    return {
        "1.5 million tensors": put(
            lambda: "{" + ",".join(empty.format(n) for n in range(1_500_000)) + "}"
        ),
        "150,000 tensors": put(
            lambda: "{" + ",".join(empty.format(n) for n in range(150_000)) + "}"
        ),
        "a length without end": lambda: (path.write_bytes(b"\xff" * 8 + b"{}"), None)[-1],
        "a shape without end": put(lambda: one("[1000000000,1000000000]", "[0,4]"), bytes(4)),
        "a negative shape": put(lambda: one("[-1]", "[0,4]"), bytes(4)),
        "places that overlap": put(lambda: one("[1]", "[4,0]"), bytes(4)),
        "a kind of number that is none": put(lambda: one("[1]", "[0,4]", "X9"), bytes(4)),
        "no places": put(lambda: '{"a":{"dtype":"F32","shape":[1]}}'),
        "a number in the place of a tensor": put(lambda: '{"a":1}'),
        "metadata of another kind": put(lambda: '{"__metadata__":[1]}'),
        "deep object": put(lambda: '{"a":' * 20_000 + "1" + "}" * 20_000),
    }


def data_files() -> dict[str, Callable[[Path], None]]:
    """File name → what writes it."""
    rows = [(f"a {word} film {n}", label) for n, (word, label) in
            enumerate([("good", "good"), ("bad", "bad")] * 30)]  # fmt: skip
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    csv = ("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)).encode()
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows).encode()
    conll = ("".join(f"{word} O\n" for word in "a good film of its year".split()) + "\n") * 30
    long = "a" * 900_000
    made: dict[str, bytes] = {
        "nul.csv": csv.replace(b"film 3,", b"film\x003,"),
        "quotes.csv": csv.replace(b"a good film 4,", b'"a good film 4,'),
        "ragged.csv": csv + b"one,two,three,four\nfive\n",
        "bom16.csv": csv.decode().encode("utf-16"),
        "bom-half.csv": csv.decode().encode("utf-16")[:-1],
        "latin.csv": csv.replace(b"film 7", b"f\xefl\xe9m"),
        "mixed.csv": csv.replace(b"film 7", b"f\xefl\xe9m").replace(b"film 9", "é".encode()),
        "escapes.csv": csv.replace(b"film 5", b"\x1b]0;title\x07\x1b[2J"),
        "formula.csv": csv.replace(b"a bad film 5", b"=HYPERLINK(1)"),
        "header.csv": b"text,label\n",
        "twice.csv": csv.replace(b"text,label", b"text,text", 1),
        "one-column.csv": b"text\n" + b"a film\n" * 50,
        "long.csv": csv + long.encode() + b",good\n",
        "too-long.csv": csv + b"a" * 3_000_000 + b",good\n",
        "label-long.csv": csv + b"a text," + long.encode() + b"\n",
        "one-label.csv": b"text,label\n" + b"a film,good\n" * 50,
        "labels.csv": b"text,label\n" + b"".join(b"film %d,%d x\n" % (n, n) for n in range(60)),
        "spaces.csv": b"text,label\n" + b" ,good\n" * 50,
        "surrogate.jsonl": lines.replace(b"film 3", b"\\ud800"),
        "numbers.jsonl": lines.replace(b'"a good film 4"', b"1" * 5_000),
        "nan.jsonl": lines.replace(b'"a good film 4"', b"NaN"),
        "nested.jsonl": lines + b"\n" + b"[" * 50_000,
        "deep.jsonl": lines + b'\n{"text": ' + b"[" * 900 + b"]" * 900 + b', "label": "good"}',
        "array.json": b"[" + lines.replace(b"\n", b","),
        "scalar.json": b"17",
        "empty.json": b"",
        "keys.jsonl": lines + b'\n{"text": "a", "text": "b", "label": "good"}',
        "kinds.jsonl": lines + b'\n{"text": {"a": 1}, "label": ["x"]}\n[1]\n"x"\nnull',
        "module.jsonl": lines.replace(b'"label"', b'"strange_parts.Head"'),
        "pickle.csv": b"\x80\x04cposix\nsystem\n(S'touch was_run'\ntR.",
        "zip.csv": b"PK\x03\x04" + random.Random(3).randbytes(500),
        "gzip.csv.gz": b"\x1f\x8b\x08\x00" + random.Random(4).randbytes(500),
        "not-gzip.csv.gz": csv,
        "words.conll": conll.encode(),
        "bad.conll": (conll + "word\n\nword B-X more fields here\n").encode(),
        "random.txt": random.Random(5).randbytes(20_000),
        "zeros.csv": bytes(100_000),
        "newlines.csv": b"\n" * 100_000,
        "commas.csv": b"," * 4_000 + b"\n" + b"," * 4_000,
        "separators.csv": b"sep=\x00\ntext\x00label\n",
        "line-ends.csv": csv.replace(b"\n", b"\r"),
        "unicode-lines.csv": csv.replace(b"film 3", "\u2028\u0085\x0b".encode()),
    }
    written: dict[str, Callable[[Path], None]] = {
        name: lambda path, content=content: (path.write_bytes(content), None)[-1]
        for name, content in made.items()
    }
    binary: dict[str, Callable[[Path], None]] = {
        "parquet": lambda path: pq.write_table(table, path),
        "arrow": lambda path: feather.write_feather(table, str(path), compression="uncompressed"),
        "csv": lambda path: (path.write_bytes(csv), None)[-1],
        "jsonl": lambda path: (path.write_bytes(lines), None)[-1],
    }
    for end, write in binary.items():
        for seed in range(9):

            def damaged(path: Path, write: Any = write, seed: int = seed) -> None:
                write(path)
                rng, content = random.Random(f"{path.suffix}{seed}"), bytearray(path.read_bytes())
                for _ in range(rng.randint(1, 5)):
                    content[rng.randrange(len(content))] = rng.randrange(256)
                path.write_bytes(content if seed % 3 else content[: rng.randrange(len(content))])

            written[f"changed-{seed}.{end}"] = damaged
    return written


RECIPES: tuple[str, ...] = (
    "", "\x00", "[", "a = [", "base = 1", "base = []", 'base = "../../etc"', 'base = "/dev/zero"',
    "seed = -1", "seed = 1e400", "seed = 99999999999999999999999", "[data]\npath = 3",
    '[data]\npath = "/dev/zero"', '[data]\npath = "/etc"', '[data]\npath = "m.csv"\nlimit = -1',
    '[task]\nname = "strange_parts.Task"', '[task]\nname = "custom"\nmodule = "strange_parts.Head"',
    '[method]\nname = "strange_parts.Method"', '[objective]\nname = "strange_parts.Objective"',
    "[train]\nepochs = 1e18", "[train]\nbatch_size = 0", "[train]\nbatch_size = 1000000000000",
    "[train]\nlearning_rate = nan", "[train]\nepochs = -1", "[task]\nmax_length = 10000000000",
    "[task]\nmax_length = 0", "[task]\nlabels = 3", "[data.columns]\ntext = 3",
    '[data.columns]\ntext = "no such column"', '[data]\ndelimiter = "abc"',
    '[data]\nencoding = "no such encoding"', '[data]\nencoding = "rot13"', "[strange]\na = 1",
    "train = 3", "a.b.c.d.e = 1", "[evaluate]\nbootstrap = 100000000000", 'out = "/"',
    'out = ""', 'out = "m.csv"', 'out = "m.csv/below"', "x = 1\n" * 2, "a" * 100_000,
    "[" * 20_000 + "]" * 20_000, "a = " + "[" * 5_000 + "]" * 5_000,
)  # fmt: skip


def gguf(path: Path) -> dict[str, Callable[[], None]]:
    def put(content: bytes) -> Callable[[], None]:
        return lambda: (path.write_bytes(content), None)[-1]

    start = b"GGUF" + struct.pack("<I", 3)
    key = struct.pack("<Q", 1) + b"a"
    return {
        "no header": put(b"GGUF"),
        "random": put(start + random.Random(6).randbytes(2_000)),
        "tensors without end": put(start + struct.pack("<QQ", 2**60, 0)),
        "keys without end": put(start + struct.pack("<QQ", 0, 2**60)),
        "a text without end": put(
            start + struct.pack("<QQ", 0, 1) + key + struct.pack("<IQ", 8, 2**60)
        ),
        "a list without end": put(
            start + struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 4, 2**60)
        ),
        "an old version": put(b"GGUF" + struct.pack("<I", 99) + bytes(100)),
        "empty": put(b""),
    }


def some(verbs: tuple[str, ...], first: int) -> tuple[str, ...]:
    return tuple(verbs[(first + more) % len(verbs)] for more in range(min(FEW, len(verbs))))


def in_turn(cases: Iterable[Case]) -> list[Case]:
    """Cases, each with some of its verbs in turn, so that every verb meets every kind."""
    return [
        replace(case, verbs=some(case.verbs, number * FEW)) for number, case in enumerate(cases)
    ]


def cases(room: Path) -> list[Case]:
    """Every case, with all of its verbs."""
    made = list[Case]()
    for run, verbs in (("whole", MODEL_VERBS + BASE_VERBS), ("lora", MODEL_VERBS + ADAPTER_VERBS)):
        model = Path(run, "model")
        words = tuple(verb.format(run=run, model=str(model)) for verb in verbs)
        for file in sorted((room / model).iterdir()):
            path = model / file.name
            for what, damage in whole_files(path).items():
                made.append(Case(f"{path}: {what}", damage, words, like=words[0]))
            if file.suffix == ".json":
                few = 1 if file.name.startswith("tokenizer") else 2
                for what, damage in odd_values(path, room, few):
                    made.append(Case(f"{path}: {what}", damage, words))
            if file.suffix == ".safetensors":
                for what, damage in headers(path).items():
                    made.append(Case(f"{path}: {what}", damage, words, like=words[0]))
        for what, damage in tokenizer_bombs(model / "tokenizer.json").items():
            made.append(Case(f"{model}/tokenizer.json: {what}", damage, words, like=words[0]))
        resumed = tuple(verb.format(run=run) for verb in RUN_VERBS)
        for name in ("recipe.toml", "run.json"):
            for what, damage in whole_files(Path(run, name)).items():
                made.append(Case(f"{run}/{name}: {what}", damage, resumed))
        for what, damage in odd_values(Path(run, "run.json"), room, 1):
            made.append(Case(f"{run}/run.json: {what}", damage, resumed))
    for file in sorted((room / "index").iterdir()):
        for what, damage in whole_files(Path("index", file.name)).items():
            made.append(Case(f"index/{file.name}: {what}", damage, INDEX_VERBS))
    for what, damage in odd_values(Path("index", "index.json"), room, 2):
        made.append(Case(f"index/index.json: {what}", damage, INDEX_VERBS))
    for name, write in data_files().items():
        words = tuple(verb.format(file=name) for verb in DATA_VERBS)
        made.append(Case(name, lambda name=name, write=write: write(Path(name)), words))
    asks = ("tune m.csv --recipe r.toml --dry-run", "recipe --recipe r.toml --dry-run")
    for text in RECIPES:

        def written(text: str = text) -> None:
            Path("r.toml").write_text(text)

        made.append(Case(f"recipe {text[:40]!r}", written, asks))
    for what, damage in gguf(Path("base.gguf")).items():
        made.append(Case(f"base.gguf: {what}", damage, ("tune m.csv --base base.gguf --dry-run",)))
    return made
