"""`predict` and `evaluate` with a saved model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.errors import DataError, RecipeError, RunError, nearest, shown
from warmstart.recipe import Recipe
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.data.settings import Data
    from warmstart.engines.torch import TorchPredictor

Keys = Mapping[str, Any]
AT_ONCE, LIVE = 4096, 32  # texts; fewer where they come as they are written


@dataclass
class _Noted:
    """What is worth telling about the texts: those that are empty, those that were cut."""

    names: Any = None
    empty: list[int] = field(default_factory=lambda: [0, 0])
    cut: list[int] = field(default_factory=lambda: [0, 0])

    def see(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass the texts on, counting the empty ones."""
        for number, text in enumerate(texts):
            if not text.strip():
                self.count(self.empty, number)
            yield text

    def see_cut(self, number: int, tokens: int) -> None:
        """Count a text that was too long."""
        self.count(self.cut, number)

    def count(self, what: list[int], number: int) -> None:
        """One more; the first is remembered."""
        what[1] = what[1] if what[0] else number
        what[0] += 1

    def tell(self, notes: list[str] | None, longest: int) -> None:
        """In words."""
        said = {
            "no text: their labels mean nothing": self.empty,
            f"more than {longest} tokens: only the beginning was read": self.cut,
        }
        for what, (count, first) in said.items():
            if count and notes is not None:
                notes.append(f"{count:,} texts have {what} (first: {self._name(first)})")

    def _name(self, number: int) -> str:
        if self.names is None:
            return f"text {number + 1}"
        return f"{self.names['_file'][number].as_py()}:{self.names['_line'][number].as_py()}"


def answers(
    model: Path, data: Any, keys: Keys, notes: list[str] | None
) -> Iterator[tuple[str, Prediction]]:
    """See `api.answers`."""
    settings = _settings(keys, ("data",)).data
    source = _source(data)
    predictor = _open(model)
    noted = _Noted()
    if isinstance(source, str | Path) or not _are_texts(source):
        noted.names, source = _rows(source, settings, predictor)
    size = LIVE if isinstance(source, Iterator) else AT_ONCE
    start = 0
    for texts, logits in predictor.chunks(noted.see(_strings(source)), noted.see_cut, size):
        yield from zip(texts, predictor.decode(logits, start), strict=True)
        start += len(texts)
    noted.tell(notes, predictor.task.max_length)


def label_file(model: Path, data: Any, out: Path, keys: Keys, notes: list[str] | None) -> int:
    """See `api.predict`: the rows go to `out` as they are labelled; returns their number."""
    from warmstart.verbs.labelled import Writer, check_out

    settings = _settings(keys, ("data",)).data
    source = _source(data)
    check_out(out, source)
    predictor = _open(model)
    if isinstance(source, str | Path) or not _are_texts(source):
        table, texts = _rows(source, settings, predictor)
        noted = _Noted(table)
    else:
        texts = pa.chunked_array([pa.array(_strings(source), pa.string())])
        table, noted = pa.table({"text": texts}), _Noted()
    rows = table.drop_columns([c for c in ("_file", "_line") if c in table.column_names])
    names = [_free(name, rows.column_names) for name in ("prediction", "confidence")]
    done = 0
    with Writer(out) as writer:
        for part, logits in predictor.chunks(noted.see(_strings(texts)), noted.see_cut):
            labels, confidence = predictor.best(logits)
            slice_ = rows.slice(done, len(part))
            done += len(part)
            slice_ = slice_.append_column(names[0], pa.array(labels, pa.string()))
            writer.write(slice_.append_column(names[1], pa.array(confidence.round(6))))
    noted.tell(notes, predictor.task.max_length)
    return done


def evaluate(model: Path, data: Any, out: Path | None, keys: Keys) -> dict[str, Any]:
    """See `api.evaluate`."""
    import pyarrow.parquet as pq

    from warmstart.evaluate.harness import evaluate as judge
    from warmstart.evaluate.predictions import Scored
    from warmstart.run import why, write_json

    recipe = _settings(keys, ("seed", "data", "evaluate"))
    if out is not None and out.exists() and not out.is_dir():
        raise RunError(f"cannot write to {out}: it is a file; give --out a folder")
    predictor = _open(model)
    table = _labelled(data, recipe.data, predictor)
    number = {label: index for index, label in enumerate(predictor.labels)}
    targets = np.array([number[value] for value in table["label"].to_pylist()], dtype=np.int64)
    logits = np.concatenate([part for _, part in predictor.chunks(_strings(table["text"]))])
    scored = Scored(logits, targets, table["text"], table["_file"], table["_line"])
    nothing = Scored(logits[:0], targets[:0], table["text"][:0])
    plain = recipe.evaluate.model_copy(update={"baselines": False})
    found = judge(plain, predictor.labels, scored, nothing, [], targets[:0], seed=recipe.seed)
    if out is not None:
        fresh = out / f".predictions.{os.getpid()}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            pq.write_table(found.predictions, fresh)
            fresh.replace(out / "predictions.parquet")
            write_json(out / "metrics.json", found.metrics)
        except OSError as error:
            raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error
        finally:
            fresh.unlink(missing_ok=True)
    return found.metrics


def _settings(keys: Keys, allowed: tuple[str, ...]) -> Recipe:
    recipe = Recipe.of(keys)
    strange = [key for key in keys if key.partition(".")[0] not in allowed]
    if strange:
        raise RecipeError(
            f"'{strange[0]}' does not apply here: the model is trained; only keys of "
            f"{', '.join(allowed)} do"
        )
    return recipe


def _open(model: Path) -> TorchPredictor:
    from warmstart.engines.torch import Torch

    if not os.path.exists(model):
        siblings = [p.name for p in model.parent.iterdir()] if model.parent.is_dir() else []
        guess = nearest(model.name, [name for name in siblings if name[0] != "."])
        raise RunError(f"there is no run or model folder {model}.{guess or ' Check the path'}")
    return Torch().open(model)


def _source(data: Any) -> Any:
    """A file, a list of texts, or an object; a string that is no file is a text."""
    from warmstart.data import files

    if not isinstance(data, str | Path) or os.path.exists(data):
        return data
    known = files.FORMATS.keys() | files.PICKLES | files.SPREADSHEETS
    if isinstance(data, Path) or files.suffix(Path(data)) in known:
        files.check_exists(Path(data))
    return [data]


def _are_texts(source: Any) -> bool:
    if isinstance(source, Iterator):
        return True
    return isinstance(source, list | tuple) and all(isinstance(item, str) for item in source)


def _strings(texts: Any) -> Iterator[str]:
    """Texts one by one; of an Arrow column, no more than a chunk of them as Python strings."""
    if isinstance(texts, pa.ChunkedArray):
        for chunk in texts.chunks:
            for start in range(0, len(chunk), AT_ONCE):
                yield from (text or "" for text in chunk.slice(start, AT_ONCE).to_pylist())
    else:
        yield from texts


def _free(name: str, taken: list[str]) -> str:
    """`prediction`, or `prediction_2` where there is such a column already."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _rows(data: Any, settings: Data, predictor: TorchPredictor) -> tuple[pa.Table, Any]:
    """All columns as they were, and the texts among them."""
    from warmstart.data.columns import map_roles

    table = _read(data, settings)
    columns = {role: name for role, name in settings.columns.items() if role == "text"}
    roles = {"text": predictor.task.roles["text"]}
    return table, map_roles(table, roles, columns, {"text"})["text"]


def _read(data: Any, settings: Data) -> pa.Table:
    from warmstart.data.sources import read

    return read(
        data,
        delimiter=settings.delimiter,
        encoding=settings.encoding,
        limit=settings.limit,
        ledger=Ledger(),
    )


def _labelled(data: Any, settings: Data, predictor: TorchPredictor) -> pa.Table:
    """Text and label of every row, all of which the model can be scored on. Raises `DataError`."""
    from warmstart.data.columns import map_roles

    table = _read(_test_file(data), settings)
    roles = predictor.task.roles
    table = map_roles(table, roles, settings.columns, set(roles))
    labels = [(label or "").strip() for label in table["label"].to_pylist()]
    known = set(predictor.labels)
    for role, values in (("text", table["text"].to_pylist()), ("label", labels)):
        lost = [row for row, value in enumerate(values) if not (value or "").strip()]
        if lost:
            raise DataError(
                f"{_place(table, lost[0])}: no {role}; {len(lost):,} of {len(table):,} rows have "
                "none: fill them in or delete them"
            )
    strange = [row for row, label in enumerate(labels) if label not in known]
    if strange:
        more = f" ({len(strange):,} rows have labels that it does not know)"
        raise DataError(
            f"{_place(table, strange[0])}: the model does not know the label "
            f"'{shown(labels[strange[0]])}'{more}.{nearest(labels[strange[0]], known)}"
        )
    at = table.column_names.index("label")
    return table.set_column(at, "label", pa.chunked_array([pa.array(labels, pa.string())]))


def _place(table: pa.Table, row: int) -> str:
    return f"{table['_file'][row].as_py()}:{table['_line'][row].as_py()}"


def _test_file(data: Any) -> Any:
    """The test file of a folder that has one; everything else as it is."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        found = sorted(p for p in Path(data).glob("test.*") if p.is_file())
        if found:
            return found[0]
    return data
