"""Texts found by meaning: vectors of texts, an index of them, exact search by cosine.

    import warmstart

    answers = warmstart.retrieval.index("runs/faq-full", "answers.csv", out="answers-index")
    answers.search("how do I send it back?")[0].text

A model is a run or folder of task embedding, a folder of sentence-transformers, or the name of a
base model such as minilm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from warmstart.data.readers.arrow import DAMAGED
from warmstart.data.readers.files import check_text
from warmstart.data.readers.spreadsheet import sheet_of
from warmstart.data.readers.text import PLAIN
from warmstart.data.settings import Data
from warmstart.errors import DataError, RecipeError, RunError, shown
from warmstart.files import write_json
from warmstart.formatting import counted
from warmstart.inference.engine import Engine
from warmstart.inference.predictor import Predictor, open_predictor, own_form
from warmstart.metrics.retrieval import nearest
from warmstart.models.base import resolve
from warmstart.models.saving import whole_folder
from warmstart.part import allow_named
from warmstart.pipelines.reading.rows import AT_ONCE, AsTrained, parts_of, source_of
from warmstart.pipelines.request import engine_of, settings_of
from warmstart.run import check_free, folder_named, read_json

__all__ = ["Found", "Index", "embed", "index", "search"]
PROBE = "The quick brown fox jumps over the lazy dog."
ALIKE = 0.999
"""Cosine of the probe's two vectors from which the model is the one that made the index."""


@dataclass(frozen=True, slots=True)
class Found:
    """A text that was found, its cosine with the query, and where it stood."""

    text: str
    similarity: float
    row: int
    file: str
    line: int


class Index:
    """Texts and their vectors in memory. Open a folder that `index` wrote with `Index(path)`.

    Raises `RunError` where there is none, or where its model is missing or another by now.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "index.json").is_file():
            raise RunError(f"{path} is no index: it has no index.json; make one: warmstart index")
        self.facts: dict[str, Any] = read_json(self.path / "index.json")
        for name in ("vectors.safetensors", "texts.arrow"):
            if not (self.path / name).is_file():
                raise RunError(f"the index {path} has no file {name}; make it again")
        try:
            self.probe = np.array(self.facts["probe"], np.float32).reshape(-1)
            self.model = os.fspath(self.facts["model"])
            self.vectors: np.ndarray = load_file(self.path / "vectors.safetensors")["vectors"]
            with pa.memory_map(str(self.path / "texts.arrow")) as source:
                self.texts: pa.Table = pa.ipc.open_file(source).read_all()
            self.texts.validate(full=True)
            self.texts = self.texts.select(["text", "file", "line"])
        except (*DAMAGED, SafetensorError) as error:
            raise RunError(f"the index {path} cannot be read: {shown(error, 120)}") from error
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.texts):
            raise RunError(f"the index {path} is damaged: vectors and texts differ; make it again")
        self._predictor: Predictor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: str, top: int = 10) -> list[Found]:
        """The `top` texts nearest to a query, best first; every text is compared."""
        return self.search_all([query], top)[0]

    def search_all(self, queries: Sequence[str], top: int = 10) -> list[list[Found]]:
        """As `search`, for many queries at once."""
        if self._predictor is None:
            self._predictor = self._open()
        nearest_rows, cosines = nearest(self.vectors, _vectors(self._predictor, queries), top)
        answers: list[list[Found]] = []
        for rows, similarities in zip(nearest_rows.tolist(), cosines.tolist(), strict=True):
            texts = self.texts.take(rows).to_pylist()
            answers.append(
                [Found(similarity=similarity, row=row, **text)
                 for text, row, similarity in zip(texts, rows, similarities, strict=True)]
            )  # fmt: skip
        return answers

    def _open(self) -> Predictor:
        """The model of the index. Raises `RunError` where it answers in another way by now."""
        predictor = _encoder(self.model)
        probe, before = _vectors(predictor, [PROBE])[0], self.probe
        alike = len(probe) == len(before) and float(probe @ before) >= ALIKE
        if not alike or self.vectors.shape[1] != len(probe):
            raise RunError(
                f"the model {self.model} is not the one that made the index {self.path}; "
                "make the index again"
            )
        return predictor


def embed(model: str | os.PathLike[str], texts: str | Sequence[str]) -> np.ndarray:
    """The vectors [n, H] of texts, in float32 and of length 1."""
    return _vectors(_encoder(model), [texts] if isinstance(texts, str) else list(texts))


def index(
    model: str | os.PathLike[str],
    data: Any,
    *,
    out: str | Path,
    notes: list[str] | None = None,
    **keys: Any,
) -> Index:
    """Make an index of texts in the new folder `out`, and open it.

    Args:
        data: a file or table with a column of texts, a plain text file with a text on each line,
            a list of texts, or a folder of `.txt` and `.md` files, of which each paragraph is a
            text.
        notes: is told of texts that had to be cut.
        keys: `data.*` keys, as in `tune`, and `engine`.

    Raises `WarmstartError`; nothing is written before the texts are known to be good.
    """
    folder = Path(out)
    settings = settings_of("index", keys).data
    allow_named(keys)
    engine = engine_of(keys)
    check_free(folder)
    predictor = _encoder(model, engine)
    cut: list[int] = []
    parts: list[np.ndarray] = []
    tables: list[pa.Table] = []
    for table in _texts(data, predictor, settings):
        parts.append(_outputs(predictor, table, lambda row, _: cut.append(row)))
        tables.append(table)
    texts = pa.concat_tables(tables).combine_chunks()
    if cut and notes is not None:
        longest = predictor.task.max_length
        texts_have = counted(len(cut), "text has", "texts have")
        notes.append(f"{texts_have} more than {longest} tokens: the rest was not read")
    name = str(Path(model).resolve()) if os.path.exists(model) else os.fspath(model)
    probe = [round(value, 6) for value in _vectors(predictor, [PROBE])[0].tolist()]
    with whole_folder(folder, "the index") as fresh:
        vectors = np.concatenate(parts)
        save_file({"vectors": vectors}, fresh / "vectors.safetensors")
        columns = {"text": texts["text"], "file": texts["_file"].cast(pa.string()),
                   "line": texts["_line"]}  # fmt: skip
        plain = pa.table(columns)
        with pa.ipc.new_file(str(fresh / "texts.arrow"), plain.schema) as writer:
            writer.write_table(plain)
        facts = {"model": name, "texts": len(plain), "width": int(vectors.shape[1])}
        write_json(fresh / "index.json", {**facts, "probe": probe})
    return Index(folder)


def search(where: str | Path, query: str, *, top: int = 10) -> list[Found]:
    """The `top` texts of an index nearest to a query; keep an `Index` open for many queries."""
    return Index(where).search(query, top)


def _encoder(model: str | os.PathLike[str], engine: Engine | None = None) -> Predictor:
    """The model that makes the vectors. Raises `RecipeError` for one that makes none."""
    named = folder_named(model)
    folder = Path(named) if os.path.exists(named) else resolve(named).path
    predictor = open_predictor(folder, engine)
    if not predictor.task.head.gives_vectors:
        raise RecipeError(
            f"{named} was trained for task {predictor.task.part_name()} and makes no vectors; take "
            "a base model, or train one: warmstart tune DATA --task embedding"
        )
    return predictor


def _vectors(predictor: Predictor, texts: Sequence[str]) -> np.ndarray:
    return _outputs(predictor, predictor.table(texts), None)


def _outputs(predictor: Predictor, table: pa.Table, cut: Any) -> np.ndarray:
    """The vectors [n, H] of a table's texts, of length 1."""
    vectors = np.ascontiguousarray(predictor.outputs(table, 0, cut)[0][:, 0])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def _texts(data: Any, predictor: Predictor, settings: Data) -> Iterator[pa.Table]:
    """Tables of `text`, `_file` and `_line`, a few thousand rows at a time."""
    if isinstance(data, str | Path) and os.path.isdir(data):
        whole = _paragraphs(Path(data))
        for start in range(0, len(whole), AT_ONCE):
            yield own_form(predictor.task, whole.slice(start, AT_ONCE))
        return
    if isinstance(data, str | Path) and not os.path.exists(sheet_of(Path(data))[0]):
        raise DataError(f"there is no file or folder {data}")
    reader = AsTrained(settings, predictor)
    for _, table in parts_of(source_of(data), reader, lambda _: None, every=False):
        yield table


def _paragraphs(folder: Path) -> pa.Table:
    """The paragraphs of the text files of a folder, as a table."""
    inside = folder.resolve()
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PLAIN]
    paths = [path for path in paths if path.is_file() and path.resolve().is_relative_to(inside)]
    if not paths:
        raise DataError(f"{folder} has no {' or '.join(PLAIN)} files; name a file with texts")
    rows: list[dict[str, Any]] = []
    for path in paths:
        begun, lines = 1, list[str]()
        check_text(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate([*text.splitlines(), ""], 1):
            if line.strip():
                begun = begun if lines else number
                lines.append(line.strip())
            elif lines:
                rows.append({"text": " ".join(lines), "_file": str(path), "_line": begun})
                lines = []
    return pa.Table.from_pylist(rows)
