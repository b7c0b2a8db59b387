"""Tables that need no parsing: Parquet, Arrow, saved `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.tables import CHUNK, concatenate, freed
from warmstart.errors import DataError, shown
from warmstart.files import read_json


def read_parquet(path: Path, limit: int | None) -> pa.Table:
    """All columns of a Parquet file. Raises DataError if it is damaged."""
    import pyarrow.parquet as pq

    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for batch in file.iter_batches(batch_size=CHUNK):
                batches.append(batch)
                rows += len(batch)
                if limit is not None and rows >= limit:
                    break
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
        return freed(table).slice(0, limit)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, "Parquet", error) from None


def read_arrow(path: Path, limit: int | None) -> pa.Table:
    """All columns of an Arrow IPC file, in file or stream format. Raises DataError if damaged."""
    try:
        with pa.OSFile(str(path)) as file:
            if file.read(6) == b"ARROW1":
                table = pa.ipc.open_file(file).read_all()
            else:
                file.seek(0)
                table = pa.ipc.open_stream(file).read_all()
        table.validate(full=True)  # offsets may point anywhere
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _damaged(path, "Arrow", error) from None
    return freed(table).slice(0, limit)


def is_dataset(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` wrote this folder."""
    return (folder / "state.json").is_file()


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Split name to folder if `DatasetDict.save_to_disk` wrote this one, else None."""
    index = folder / "dataset_dict.json"
    if not index.is_file():
        return None
    return {str(name): folder / str(name) for name in _listed(index, "splits")}


def read_dataset(folder: Path, limit: int | None) -> pa.Table:
    """The table of a saved `datasets.Dataset`, with the names of its ClassLabels in its schema."""
    index = folder / "state.json"
    tables: list[pa.Table] = []
    for entry in _listed(index, "_data_files"):
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise _no_index(index)
        tables.append(read_arrow(folder / name, limit))
    if not tables:
        raise DataError(f"{folder}/state.json names no data files: save the data set again")
    return freed(concatenate(tables)).slice(0, limit)


def _damaged(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is a damaged or incomplete {kind} file ({shown(error)}): write or download it "
        "again"
    )


def _listed(path: Path, key: str) -> list[Any]:
    """A list in a JSON file that `datasets` wrote; empty where the key is not there."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({shown(error)}): save the data set again"
        ) from None
    entries = content.get(key, []) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise _no_index(path)
    return entries


def _no_index(path: Path) -> DataError:
    return DataError(f"{path} is not what `datasets` writes there: save the data set again")
