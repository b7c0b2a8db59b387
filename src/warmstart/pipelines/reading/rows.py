"""Rows for a saved model to answer, read a part at a time; and rows with answers, written so.

Read: texts, rows, files or objects, as tables of the task's inputs. Written: CSV, TSV, JSONL or
Parquet, whole or not at all.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from warmstart import part as parts
from warmstart.data.cells import one_name_a_value
from warmstart.data.columns import columns_in, map_roles
from warmstart.data.corpus import read_documents
from warmstart.data.dedup.clusters import group_values
from warmstart.data.labels import seen
from warmstart.data.ledger import Ledger, place
from warmstart.data.readers import files
from warmstart.data.readers.objects import is_series, listed
from warmstart.data.readers.read import Files, one_table, read
from warmstart.data.readers.spreadsheet import sheet_of
from warmstart.data.readers.text import has_header, is_plain, lines_of
from warmstart.data.settings import Data
from warmstart.data.splitting import units_of, with_units
from warmstart.errors import DataError, RecipeError, RunError, nearest, shown
from warmstart.files import write_atomically
from warmstart.formatting import counted
from warmstart.inference.predictor import Instead, Predictor, own_form
from warmstart.models.architectures import family_of
from warmstart.pipelines.request import read_task, task_of
from warmstart.run import why
from warmstart.tasks.base import Task
from warmstart.tasks.choice.task import FORMS, Choice

AT_ONCE, LIVE = 4096, 32  # rows; fewer where they come as they are written
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
WINDOW = 1024
"""Tokens that a language model from elsewhere reads of a text at once, if it can."""


def source_of(data: Any) -> Any:
    """A file, a list of texts, or an object; a string that is no file is a text.

    One that ends as the name of a data file does is taken for a file that is missing, unless it
    has a space, as in "see report.csv", and names no folder that exists.
    """
    if is_series(data) and not isinstance(data, list | tuple):  # of pandas, or an array
        return listed(data)
    if not isinstance(data, str | Path) or os.path.exists(sheet_of(Path(data))[0]):
        return data
    known = files.FORMATS.keys() | files.PICKLES | files.SPREADSHEETS
    folder = os.path.dirname(data)
    sentence = len(str(data).split()) > 1 and not (folder and os.path.isdir(folder))
    if isinstance(data, Path) or (files.suffix(Path(data)) in known and not sentence):
        files.check_local(data)
        if isinstance(several := one_table(data), Files):
            return several
        files.check_exists(Path(data))
    return [data]


class AsTrained:
    """How rows are read for a saved model: as those that it was trained on, unless `settings` say
    otherwise."""

    def __init__(self, settings: Data, predictor: Predictor) -> None:
        self.settings, self.predictor, self.ledger = settings, predictor, Ledger()
        self.trained, self._notes = predictor.reading, list[str]()
        self.merges = settings.merge_labels or self.trained.get("merge_labels") is True

    @property
    def notes(self) -> list[str]:
        """What belongs on the screen."""
        columns = [note for note in self.ledger.notes if note["kind"] == "columns"]
        how = [note["message"] for note in columns if note["unused"] or not note["plain"]]
        return [*how, *self._notes, *(text for text in self.ledger.warnings if text not in how)]

    def table(self, data: Any) -> pa.Table:
        """All columns of a source."""
        how, header = self.settings.reading, self.trained.get("header")
        if how.header is None and header is False:
            how = how._replace(header=False)
        kept = [self.trained.get(name) for name in ("encoding", "delimiter")]
        encoding, delimiter = (value if isinstance(value, str) else None for value in kept)
        how = how._replace(usual_encoding=encoding, usual_delimiter=delimiter)
        return read(data, ledger=self.ledger, how=how)

    def columns_of(self, table: pa.Table, roles: Mapping[str, Sequence[str]]) -> pa.Table:
        """The columns of some roles, all of which the model needs; see `map_roles`."""
        task, named = self.predictor.task, dict[str, str]()
        trained = self.trained.get("columns")
        file = table["_file"][0].as_py() if len(table) else "the data"
        for role in roles:
            usual = trained.get(role) if isinstance(trained, dict) else None
            if role in self.settings.columns:
                named[role] = self.settings.columns[role]
            elif isinstance(usual, str) and _is_there(usual, table.column_names):
                named[role] = usual
            elif usual is not None and role.isidentifier():
                self._notes.append(
                    f"{file} has no column '{shown(usual)}', from which the model learned its "
                    f"{role}; name the one to read with --data.columns.{role} NAME"
                )
        needed = set(task.roles) if task.required is None else task.required
        return map_roles(table, roles, named, needed & set(roles), task.nested, self.ledger)


def _is_there(column: str, columns: list[str]) -> bool:
    """Whether there is this column, or each of several with commas between."""
    return set(columns_in(column, columns)) <= set(columns)


def parts_of(
    source: Any,
    reader: AsTrained,
    on_table: Callable[[pa.Table], None],
    *,
    every: bool = True,
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """All columns as they were, beside the task's inputs, a part at a time.

    `on_table` is called with the table of a file, whose rows have lines. Of a plain text file
    `every` line is a row as it stands, as of stdin; else those that hold something are.
    """
    predictor, settings = reader.predictor, reader.settings
    task, live = predictor.task, isinstance(source, Iterator)
    texts = isinstance(source, list | tuple) and all(
        isinstance(item, str | tuple | list) for item in source
    )
    if live or texts:
        rest = iter(source)
        while rows := list(islice(rest, LIVE if live else AT_ONCE)):
            table = predictor.table([_record(task, row) for row in rows])
            yield table.select(list(task.inputs)), table
        return
    whole = _lines_as_texts(source, settings, task, every)
    whole = reader.table(source) if whole is None else whole
    inputs = reader.columns_of(whole, {r: task.roles[r] for r in (*task.inputs, *task.beside)})
    on_table(whole)
    extra = [name for name in ("_file", "_line") if name in whole.column_names]
    for start in range(0, len(whole), AT_ONCE):
        part = whole.slice(start, AT_ONCE).drop_columns(extra)
        yield part, own_form(task, inputs.slice(start, AT_ONCE))


def _record(task: Task, row: Any) -> Any:
    """A row of a task with several inputs may come as JSON, as from a command line."""
    if len(task.inputs) == 1 or not isinstance(row, str):
        return row
    try:
        record = json.loads(row)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        example = json.dumps(dict.fromkeys(task.inputs, "…"), ensure_ascii=False)
        raise RecipeError(
            f"'{shown(row, 60)}' is one text, and this model is asked with "
            f"{' and '.join(task.inputs)}; give them as JSON: '{example}'"
        )
    return record


def _lines_as_texts(data: Any, settings: Data, task: Task, every: bool) -> pa.Table | None:
    """The lines of a plain text file without header, each a text; None for anything else."""
    if not isinstance(data, str | Path) or not is_plain(Path(data)) or len(task.inputs) != 1:
        return None
    role = task.inputs[0]
    known = {role, *task.roles[role], *settings.columns.values()}
    if has_header(Path(data), known, settings.encoding):
        return None
    table = lines_of(Path(data), settings.encoding, settings.limit, every=every)
    return table.rename_columns([role if name == "text" else name for name in table.column_names])


def labelled(data: Any, reader: AsTrained) -> pa.Table:
    """The columns of every row, all of which the model can be scored on. Raises `DataError`."""
    own: Any = reader.predictor.task
    if own.reads_documents:
        return read_documents(data, reader.settings, own.documents_of._replace(quality=False))
    predictor, task, settings = reader.predictor, reader.predictor.task, reader.settings
    whole = reader.table(one_table(_test_file(data)))
    table = reader.columns_of(whole, task.roles)
    if settings.group:
        table = table.append_column("_group", group_values(whole, settings.group))
    labels: list[str] = []
    if task.label is not None:
        labels = _known_names(table[task.label].to_pylist(), predictor.labels, reader.merges)
        at = table.column_names.index(task.label)
        table = table.set_column(at, task.label, pa.chunked_array([pa.array(labels, pa.string())]))
    for role in (*task.texts, *([task.label] if task.label else [])):
        values = table[role].to_pylist() if role in table.column_names else []
        empty = [row for row, value in enumerate(values) if not str(value or "").strip()]
        if empty:
            raise DataError(
                f"{place(table, empty[0])}: no {role}; missing in {len(empty):,} of "
                f"{counted(len(table))}: fill in or delete"
            )
    known = set(predictor.labels)
    if strange := [row for row, label in enumerate(labels) if label not in known]:
        label, many = labels[strange[0]], counted(len(strange), "row has a label",
                                                  "rows have labels")  # fmt: skip
        raise DataError(
            f"{place(table, strange[0])}: the model does not know the label '{shown(label)}' "
            f"({many} that it does not know).{nearest(label, predictor.labels)}"
        )
    table = own_form(task, table)
    if task.texts:
        table = with_units(table, units_of(table, task.texts, settings, task.together))
    return table.drop_columns("_group") if settings.group else table


def _known_names(labels: list[str | None], known: list[str], merges: bool) -> list[str]:
    """Labels without outer spaces, in the spelling of the model: 1.0 for 1, true for True; and,
    where spellings are merged, those that look alike."""
    distinct = {(label or "").strip() for label in labels}
    to = {name: name for name in distinct}
    shapes = [lambda name: one_name_a_value([name]).get(name, name)]
    shapes += [seen] if merges else []
    for shape in shapes:
        alike = {shape(name): name for name in known}
        to |= {x: alike.get(shape(to[x]), to[x]) for x in distinct if to[x] and to[x] not in known}
    return [to[(label or "").strip()] for label in labels]


def _test_file(data: Any) -> Any:
    """Of a folder its test split, where it has one; all else as it is."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        paths = sorted(path for path in Path(data).glob("test.*") if path.is_file())
        return paths[0] if paths else data
    return data


def task_for(data: Any, settings: Data, typed: Mapping[str, Any], reasons: list[str]) -> Instead:
    """Which task a language model is evaluated in: the one that `typed` names; else the one that it
    was trained for, if the data have what that needs; else what the data are for. `reasons` takes
    what is worth saying of it. Keys of `task.*` are refused for any other model."""

    def choose(
        own: str, note: Mapping[str, Any], config: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        asked_for, trained = task_of(typed), "task" in note
        head = _task_class(own).head
        if not (head.generates or head.predicts_itself):
            if asked_for:
                raise RecipeError(
                    f"'{next(iter(typed))}' says how a language model is asked, and this model was "
                    f"trained for task {own}; leave it out"
                )
            return None
        name = asked_for.get("name")
        if name is None:
            name, reason = _by_data(data, settings, own, trained, config)
            if name != own:
                reasons.append(f"Evaluated in task {name}: {reason}; --task NAME takes another.")
        if name == own and not asked_for:
            return None
        kind = _task_class(str(name)).head
        if not (kind.generates or kind.predicts_itself):
            raise RecipeError(
                f"a language model is not asked in task {name}; take choice, language_model or "
                "text2text"
            )
        saved = {**note.get("task", {}), "name": own} if name == own else {"name": name}
        if name != own and "trained_by" in note.get("task", {}):
            saved["trained_by"] = note["task"]["trained_by"]
        if name == "language_model" and name != own:
            saved["max_length"] = WINDOW
        table = {**saved, **asked_for, "name": name}
        read_task(table)
        return table

    return choose


def _task_class(name: str) -> type[Task]:
    kind: Any = parts.find("task", name)
    return kind


def _by_data(
    data: Any, settings: Data, own: str, trained: bool, config: Mapping[str, Any]
) -> tuple[str, str]:
    """The task that data are for, and why, for a model of the task `own`."""
    columns = columns_of(data, settings)
    if columns is None:
        return (own, "") if trained else ("language_model", "the data are plain text")
    names = {name.lower() for name in columns}

    def has(task: str, *roles: str) -> bool:
        known = _task_class(task).roles
        return all(names & {role, *known[role]} for role in roles)

    form = Choice.form_of(columns)
    fits = trained and all(has(own, role) for role in _task_class(own).required or ())
    writes = family_of(config).kind == "encoder-decoder" and form == "cloze"
    if form is not None and not (trained and own != "language_model" and fits) and not writes:
        return "choice", f"the data have the columns {', '.join(FORMS[form])}"
    if (
        trained
        or own == "language_model"
        or has(own, "target")
        or not has("language_model", "text")
    ):
        return own, ""
    return "language_model", "the data have texts and nothing to be written for them"


def columns_of(data: Any, settings: Data) -> list[str] | None:
    """The columns of a table, and the roles that are named for some; None for plain text, and for
    rows that can be read only once."""
    data = _test_file(data)
    if isinstance(data, Iterator) or (
        isinstance(data, list) and all(isinstance(text, str) for text in data)
    ):
        return None
    if isinstance(data, str | Path):
        path = Path(data)
        known = {name for role in Choice.roles.values() for name in role}
        if path.is_dir() or (is_plain(path) and not has_header(path, known, settings.encoding)):
            return None
    first = settings.model_copy(update={"limit": 1})
    table = read(one_table(data), ledger=Ledger(), how=first.reading)
    return [*table.column_names, *settings.columns]


def check_out(out: Path, source: Any) -> None:
    """Raises before any work is done if `out` cannot be written, or is what is read."""
    if out.suffix.lower() not in ENDINGS:
        raise RecipeError(f"cannot write {out}: give --out a name ending in {', '.join(ENDINGS)}")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise RunError(f"cannot write {out}: there is no folder {out.parent}; make it first")
    if out.is_dir() or not os.access(parent, os.W_OK):
        what = "it is a folder" if out.is_dir() else f"{out.parent} is read-only"
        raise RunError(f"cannot write {out}: {what}; choose another --out")
    if isinstance(source, str | Path) and os.path.exists(source) and out.exists():
        if os.path.samefile(source, out):
            raise RecipeError(f"--out {out} is the file that is read; give another name")
    if os.path.lexists(out):
        raise RunError(f"{out} exists; choose another --out, or remove it first")


class Writer:
    """A context in which tables of the same columns are written one after the other.

    The file takes its name when the context ends well, and leaves nothing behind otherwise.
    Raises `RunError` when the disk is full or read-only.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._stack = ExitStack()
        self._put: Callable[[pa.Table], None] | None = None

    def __enter__(self) -> Writer:
        return self

    def write(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        try:
            if self._put is None:
                self._put = self._begin(table)
            self._put(table)
        except OSError as error:
            raise RunError(f"cannot write {self.out}: {why(error)}") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except (OSError, pa.ArrowException) as problem:
            if kind is None:
                raise RunError(f"cannot write {self.out}: {shown(problem, 120)}") from problem

    def _begin(self, table: pa.Table) -> Callable[[pa.Table], None]:
        ending = self.out.suffix.lower()
        part = self._stack.enter_context(write_atomically(self.out))
        if ending == ".parquet":
            from pyarrow.parquet import ParquetWriter

            return self._stack.enter_context(ParquetWriter(part, table.schema)).write_table
        file = self._stack.enter_context(part.open("w", encoding="utf-8", newline=""))
        if ending == ".jsonl":
            return lambda chunk: file.writelines(
                json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in chunk.to_pylist()
            )
        rows = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
        rows.writerow(table.column_names)
        return lambda chunk: rows.writerows(zip(*map(_cells, chunk.columns), strict=True))


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Values as they may stand in CSV: lists and structs as JSON, nothing as an empty field."""
    values = column.to_pylist()
    if pa.types.is_nested(column.type):
        return ["" if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in values]
    return ["" if value is None else value for value in values]
