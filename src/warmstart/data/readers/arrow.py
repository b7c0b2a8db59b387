"""Tables that need no parsing: Parquet, Arrow, saved `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.tables import CHUNK, concatenate, freed, pc
from warmstart.errors import DataError, shown
from warmstart.files import read_json
from warmstart.formatting import counted

DAMAGED = (pa.ArrowException, OSError, EOFError, ValueError, LookupError, TypeError, MemoryError)
"""What pyarrow raises where bytes were changed: names that are no text, counts without end."""


def read_parquet(path: Path, limit: int | None) -> pa.Table:
    """All columns of a Parquet file. Raises DataError if it is damaged."""
    import pyarrow.parquet as pq

    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_rows(path, file.metadata.num_rows)
            columns = _repeated(path, file.metadata, schema)
        with pq.ParquetFile(path, read_dictionary=columns) as file:
            for batch in file.iter_batches(batch_size=CHUNK):
                batches.append(batch)
                rows += len(batch)
                if limit is not None and rows >= limit:
                    break
            table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)
        check_size(path, table)
        return freed(table.cast(schema)).slice(0, limit)
    except DAMAGED as error:
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
        check_rows(path, len(table))
        check_size(path, table)
    except DAMAGED as error:
        raise _damaged(path, "Arrow", error) from None
    return freed(table).slice(0, limit)


MOST_TIMES, SMALL, FEW, SMALL_FILE = 100, 1 << 28, 1_000_000, 1 << 26
"""How many times its size a file may hold in memory; bytes and rows that any file may hold; bytes
of a file that is looked at more closely."""


def check_rows(path: Path, rows: int) -> None:
    """Raises DataError for more rows than a file of this size holds texts and labels for."""
    if rows > max(FEW, MOST_TIMES * path.stat().st_size):
        raise DataError(
            f"{path} has {counted(rows)} in {path.stat().st_size:,} bytes, so they hold next to "
            "nothing; write those that hold a text to a new file"
        )


def check_size(path: Path, table: pa.Table) -> None:
    """Raises DataError where the texts, each as often as a row repeats it, are far more than the
    file."""
    held = 0
    for column in table.columns:
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            if is_text(chunk.type.value_type):
                lengths = pc.binary_length(chunk.dictionary)
                held += pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
    if held > max(SMALL, MOST_TIMES * path.stat().st_size):
        raise DataError(
            f"{path} holds {held:,} characters in {path.stat().st_size:,} bytes: the same texts "
            "over and over; write each once to a new file"
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _repeated(path: Path, metadata: Any, schema: pa.Schema) -> list[str]:
    """The columns of texts in a Parquet file that are measured before each row has a text of its
    own: of a small file, which may name one long text again and again."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    most = max((group.num_rows * group.total_byte_size for group in groups), default=0)
    if path.stat().st_size > SMALL_FILE or most <= SMALL:
        return []
    return [field.name for field in schema if is_text(field.type)]


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
