"""Forms in which annotation tools and scripts write their rows, brought to rows of texts.

Read are tables with a word a row (the usual form of named entities in CSV), exports of Label Studio
(labelstud.io/guide/export: JSON, JSON-MIN) and Prodigy (prodi.gy/docs/api-interfaces), and the
tuples of spaCy 2 (`("text", {"entities": [(0, 3, "PER")]})`). Those of doccano need nothing: their
spans are read by the task that wants some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.cells import parse_cell
from warmstart.data.ledger import Ledger
from warmstart.data.tables import Record, objects_to_table, pc, with_file
from warmstart.errors import DataError, shown
from warmstart.formatting import counted

SENTENCES = re.compile(r"(sentence|sent)(id|idx|index|no|nr|num|number)?")
WORDS = re.compile(r"(word|token)s?|form")
TAGS = re.compile(r"(ner|pos|bio|iob|entity|x|u)?_?(tag|label|ner|pos|iob|entity)s?")
ID = re.compile(r"\D{0,20}\d+(\.0)?")
SINGLE = 0.98  # share of the rows that hold one word, from which a table is one of words
ANSWERS = {"accept", "reject", "ignore"}
PRODIGY = {"_input_hash", "_task_hash", "spans", "options", "accept", "label"}
PLACES = ("_file", "_line")


def brought(table: pa.Table, file: str, ledger: Ledger) -> pa.Table:
    """The table (with `_file` and `_line`) as rows of texts, and the note that says so; as it is
    where it is none of these. Raises `DataError`."""
    names = set(table.column_names)
    if {"data", "annotations"} <= names or {"data", "completions"} <= names:
        return _label_studio(table, file, ledger)
    if "answer" in names and names & PRODIGY and _values(table["answer"]) <= ANSWERS:
        return _prodigy(table, file, ledger)
    return _choices(_passages(_sentences(table, file, ledger), file, ledger))


def spacy_row(value: Any) -> Record | None:
    """`("text", {"entities": …})` and `("text", {"cats": …})` as a row; None for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    text, known = value
    if not isinstance(text, str) or not isinstance(known, Mapping):
        return None
    row: Record = {"text": text}
    spans = known.get("entities")
    if isinstance(spans, list) and all(len(span) >= 3 for span in spans):
        row["spans"] = [{"start": s[0], "end": s[1], "label": s[2]} for s in spans]
    if isinstance(known.get("cats"), Mapping):
        row["labels"] = [str(name) for name, value in known["cats"].items() if float(value) >= 0.5]
    return row if len(row) > 1 else None


# A word a row.


def _sentences(table: pa.Table, file: str, ledger: Ledger) -> pa.Table:
    """A row a sentence, with lists `tokens` and of each column of tags, where the rows are words;
    what is the same in all words of each sentence stays one value."""
    plain = {name: re.sub(r"[\W_]+", "", name.lower()) for name in table.column_names}
    names = [name for name in table.column_names if name not in PLACES]
    numbered = next((name for name in names if SENTENCES.fullmatch(plain[name])), None)
    word = next((name for name in names if WORDS.fullmatch(plain[name])), None)
    tags = [name for name in names if TAGS.fullmatch(plain[name]) and name != word]
    if numbered is None or word is None or not tags or pa.types.is_nested(table[word].type):
        return table
    ids, last = list[str](), ""
    for value in table[numbered].to_pylist():  # where it stands beside the first word alone
        last = last if value is None or not str(value).strip() else str(value).strip()
        ids.append(last)
    words = [str(value or "").strip() for value in table[word].to_pylist()]
    single = sum(len(value.split()) <= 1 for value in words)
    if single < SINGLE * len(words) or not all(ID.fullmatch(value) for value in set(ids)):
        return table
    starts = np.array([i for i, value in enumerate(ids) if not i or value != ids[i - 1]], np.int64)
    if len(starts) == len(ids):
        return table
    group = np.searchsorted(starts, np.arange(len(ids)), side="right") - 1
    columns: Record = {}
    for name in table.column_names:
        if name == numbered:
            continue
        values = table[name].combine_chunks()
        first = values.take(pa.array(starts))
        if name in PLACES or (name not in (word, *tags) and _same(values, first, group)):
            columns[name] = first
            continue
        offsets = pa.array([*starts, len(ids)], pa.int32())
        columns["tokens" if name == word else name] = pa.ListArray.from_arrays(offsets, values)
    ledger.note(
        "words",
        f"{file}: {counted(len(ids))} of a word each were put together to "
        f"{counted(len(starts), 'sentence')} by the column '{shown(numbered)}'",
        file=file,
    )
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _same(values: pa.Array, first: pa.Array, group: np.ndarray) -> bool:
    """Whether all values of each group are its first one."""
    if pa.types.is_nested(values.type):
        return False
    whole, own = values.to_pylist(), first.to_pylist()
    return all(value == own[number] for value, number in zip(whole, group.tolist(), strict=True))


# Lists of positives and negatives.

ANCHORS = {"query", "anchor", "question"}
POSITIVES, NEGATIVES = ("positives", "positive", "pos"), ("negatives", "negative", "neg")
MOST_NEGATIVES = 16  # of a row


def _passages(table: pa.Table, file: str, ledger: Ledger) -> pa.Table:
    """A row for each text in a list of positives, with `negative_1`, `negative_2` and so on of the
    list of negatives, as of FlagEmbedding ({"query": …, "pos": […], "neg": […]})."""
    if not ANCHORS & {name.strip().lower() for name in table.column_names}:
        return table
    positives, negatives = _texts(table, POSITIVES), _texts(table, NEGATIVES)
    if positives is not None:
        column, rows = positives
        numbers = np.repeat(np.arange(len(table)), [len(row) for row in rows])
        for row in (number for number, row in enumerate(rows) if not row):
            ledger.drop(file, table["_line"][row].as_py(), f"empty {column}")
        table = table.drop_columns([column]).take(pa.array(numbers))
        flat = [text for row in rows for text in row]
        table = table.append_column("positive", pa.array(flat, pa.string()))
        ledger.note("lists", f"{file}: a row for each text in '{shown(column)}'", file=file)
    else:
        numbers = np.arange(len(table))
    if negatives is not None:
        column, rows = negatives
        table = table.drop_columns([column])
        for place in range(min(max(map(len, rows), default=0), MOST_NEGATIVES)):
            own = [row[place] if place < len(row) else "" for row in rows]
            cells = pa.array(own, pa.string()).take(pa.array(numbers))
            table = table.append_column(f"negative_{place + 1}", cells)
    return table


def _texts(table: pa.Table, names: Sequence[str]) -> tuple[str, list[list[str]]] | None:
    """The column of one of these names and its lists of texts; None where it holds no lists."""
    known = {name.strip().lower(): name for name in table.column_names}
    column = next((known[name] for name in names if name in known), None)
    if column is None:
        return None
    cells = [parse_cell(cell) for cell in table[column].to_pylist()]
    if not any(isinstance(c, list) for c in cells) or any(isinstance(c, dict) for c in cells):
        return None
    lists = [cell if isinstance(cell, list) else [cell] if cell else [] for cell in cells]
    return column, [[str(text) for text in row if text] for row in lists]


# Label Studio.


def _label_studio(table: pa.Table, file: str, ledger: Ledger) -> pa.Table:
    """The keys of `data` as columns, with `spans`, `label` or `labels`, and `target`."""
    source = "annotations" if "annotations" in table.column_names else "completions"
    records = [parse_cell(cell) for cell in table["data"].to_pylist()]
    answers = [parse_cell(cell) or [] for cell in table[source].to_pylist()]
    if not all(isinstance(record, Mapping) for record in records):
        return table  # of something else
    known, kinds, several = list[tuple[int, Record]](), set[str](), 0
    for record, answer, line in zip(records, answers, table["_line"].to_pylist(), strict=True):
        done = [a for a in answer if isinstance(a, Mapping) and not a.get("was_cancelled")]
        if not done:
            ledger.refuse(file, line, "not annotated, or skipped, in Label Studio")
            continue
        several += len(done) > 1
        results = [entry for entry in done[0].get("result") or [] if isinstance(entry, Mapping)]
        kinds |= {str(entry.get("type")) for entry in results}
        kept = {str(key): value for key, value in record.items() if not str(key).startswith("_")}
        known.append((line, kept | _results(results)))
    if not known:
        raise ledger.nothing_left(file)
    made = {name for _, row in known for name in row if row[name] is not None}
    if not made & {"spans", "choices", "target"}:
        raise DataError(
            f"{file} is an export of Label Studio with results of the kinds "
            f"{', '.join(sorted(kinds)) or 'none'}; spans (labels), choices and texts (textarea) "
            "are read"
        )
    single = all(len(row["choices"] or ()) <= 1 for _, row in known)
    for _, row in known:
        chosen = row.pop("choices")
        if "choices" in made:
            row |= {"label": (chosen or [None])[0]} if single else {"labels": chosen or []}
        if "spans" in made:
            row["spans"] = row["spans"] or []
        for name in {"spans", "target"} - made:
            row.pop(name)
    note = f"{file} is read as an export of Label Studio: " + " and ".join(
        sorted({*made & {"spans", "target"}, *({"choices"} & made)})
    )
    note += f"; of {counted(several)} with several annotations the first is taken" * bool(several)
    ledger.note("export", note, file=file)
    return with_file(objects_to_table(file, known), file)


def _results(results: Sequence[Mapping[str, Any]]) -> Record:
    """What the results of one annotation say: spans, choices and a text, None for each of them
    that none does."""
    values = [entry.get("value") for entry in results]
    values = [value for value in values if isinstance(value, Mapping)]
    spans = [
        {"start": value.get("start"), "end": value.get("end"), "label": kind}
        for value in values
        for kind in value.get("labels") or []
    ]
    choices = [str(name) for value in values for name in value.get("choices") or []]
    texts = [value["text"] for value in values if isinstance(value.get("text"), list)]
    target = " ".join(map(str, texts[0])) if texts else None
    return {"spans": spans or None, "choices": choices or None, "target": target}


def _choices(table: pa.Table) -> pa.Table:
    """Cells {"choices": [a, b]} of Label Studio's JSON-MIN as lists of labels."""
    for name in table.column_names:
        kind = table[name].type
        if not (pa.types.is_struct(kind) or pa.types.is_string(kind)):
            continue
        if (
            pa.types.is_string(kind)
            and not pc.any(
                pc.fill_null(pc.match_substring(table[name], '"choices"'), False)
            ).as_py()
        ):
            continue
        cells = [parse_cell(cell) for cell in table[name].to_pylist()]
        objects = [cell for cell in cells if isinstance(cell, Mapping)]
        if not objects or not all(set(cell) == {"choices"} for cell in objects):
            continue
        lists = [cell["choices"] if isinstance(cell, Mapping) else cell for cell in cells]
        lists = [[cell] if isinstance(cell, str) else cell for cell in lists]
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(lists, pa.list_(pa.string())))
    return table


# Prodigy.


def _prodigy(table: pa.Table, file: str, ledger: Ledger) -> pa.Table:
    """The rows that were accepted; of one label alone (binary text classification) the rejected
    ones are of the class "not" that label."""
    answers = np.array([value or "accept" for value in table["answer"].to_pylist()])
    names, keep = set(table.column_names), answers == "accept"
    note = f"{file} is read as an export of Prodigy: "
    labels = _values(table["label"]) if "label" in names and "spans" not in names else set[str]()
    if len(labels) == 1 and (answers == "reject").any():
        (label,) = labels
        keep |= answers == "reject"
        values = [label if answer == "accept" else f"not {label}" for answer in answers]
        table = _set(table, "label", pa.array(values, pa.string()))
        note += f"a rejected row is of the class 'not {shown(label)}', "
    if "accept" in names and "options" in names:
        chosen = [[str(name) for name in cell or []] for cell in table["accept"].to_pylist()]
        single = all(len(row) == 1 for row, kept in zip(chosen, keep, strict=True) if kept)
        if single:
            table = _set(table, "label", pa.array([(row or [None])[0] for row in chosen]))
        else:
            table = _set(table, "labels", pa.array(chosen, pa.list_(pa.string())))
        table = table.drop_columns(["accept", "options"])
    for row in np.flatnonzero(~keep).tolist():
        ledger.refuse(file, table["_line"][row].as_py(), f"answer {answers[row]} in Prodigy")
    ledger.note("export", f"{note}{counted(int((~keep).sum()))} left out", file=file)
    return table.filter(pa.array(keep)).drop_columns(["answer"])


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _values(column: pa.ChunkedArray) -> set[str]:
    if pa.types.is_nested(column.type):
        return {"?"}
    return {str(value) for value in pc.unique(column).to_pylist() if value is not None}
