"""What data are for: the task is taken from their columns where these are unmistakable, and said.

A request that names a task is left alone, and so is one that names columns. What no task learns
from (preferences, plain text) is refused by what it is, with the verb that takes it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.config.keys import nested, plain
from warmstart.config.recipe import Recipe
from warmstart.data.cells import parse_cell
from warmstart.data.columns import headless, no_header
from warmstart.data.conversations import ANSWERS, CHATS, PROMPTS
from warmstart.data.ledger import Ledger
from warmstart.data.profiling.language import find_languages
from warmstart.data.readers.read import only_file, read_splits
from warmstart.data.readers.text import has_header, is_plain
from warmstart.data.settings import Data
from warmstart.data.tables import RESERVED
from warmstart.errors import DataError, HubError, RecipeError, WarmstartError, shown, typed
from warmstart.models.base import resolve
from warmstart.models.checks import read_json
from warmstart.tasks.base import Task
from warmstart.tasks.choice.task import FORMS, Choice
from warmstart.tasks.classification import Classification
from warmstart.tasks.embedding.task import Embedding
from warmstart.tasks.extractive_qa.task import ExtractiveQA
from warmstart.tasks.multilabel.task import Multilabel
from warmstart.tasks.pairs import FIRST, SECOND, Pairs
from warmstart.tasks.regression import Regression
from warmstart.tasks.summarization import Summarization
from warmstart.tasks.tagging.reading import are_spans
from warmstart.tasks.tagging.task import Tagging
from warmstart.tasks.text2text import Text2Text
from warmstart.tasks.translation import Translation

SAMPLE = 200  # rows that are looked at
CHOICES = ("choices", "options", "endings")
SOURCES = (*Text2Text.roles["source"], *Summarization.roles["source"], *Translation.roles["source"])
TARGETS = (*Text2Text.roles["target"], *Summarization.roles["target"], *Translation.roles["target"])
SUMMARIES = {"summary", "highlights", "tldr", "abstract", "headline", "summaries"}
LONG, SHORT = 300, 0.5  # characters of a text that wants a summary; its share of them
MOSTLY = 0.6  # share of the rows in one language
IN_CONTEXT = 0.8  # share of the answers that stand in their context
WRITERS = {"summarization", "translation", "text2text", "chat"}
TEXTS = 0.9  # share of the values of a column of texts that are no lists or objects
NOTES, DOCUMENT = ("type",), 2_000
"""Columns that often only describe a document, and the characters from which a text is one."""
CLASSES = 0.5  # different values a row above which a column holds no classes
FEW_KINDS = 0.1  # the same, up to which it holds no texts

TEMPLATE, TOKENIZER = "chat_template.jinja", "tokenizer_config.json"

PLAIN = "plain text"
NO_TASK = {
    PLAIN: "`warmstart pretrain {data}` goes on with the training of a base on it; a task needs a "
    "table of texts with what belongs to each",
    "preferences": "`warmstart align {data} --base smollm2 --objective dpo` learns from them, and "
    "--objective reward makes a model that rates answers",
    "multiple choice": "nothing is trained for them; `warmstart evaluate smollm2 {data} --task "
    "choice` has a language model choose. A question and its right answer in words, as the columns "
    "question and answer, are learned with --task text2text",
    "minimal pairs": "nothing is trained for them; `warmstart evaluate smollm2 {data} --task "
    "choice` counts how often a language model finds the right sentence likelier",
}
"""What the rows are → why no task is taken, and what to do."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What the rows are for: a task, or one of the words of `NO_TASK`; and the columns that say
    so."""

    task: str
    columns: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The columns in words."""
        names = [f"'{shown(name, 30)}'" for name in self.columns]
        return ", ".join(names[:-1]) + " and " * (len(names) > 1) + "".join(names[-1:])


def recipe_of(source: Any, *layers: Mapping[str, Any]) -> Recipe:
    """The recipe of layers, as `Recipe.of` reads them; where they have settings of a task and name
    none, they are settings of the one that the columns say. It stays unnamed (`with_task` says it).
    Raises `RecipeError`, and as `sample` does.
    """
    tables = [nested(layer) for layer in layers]
    own = [plain("task", table["task"]) for table in tables if "task" in table]
    named = any("name" in task for task in own) or any("objective" in table for table in tables)
    if not own or named:
        return Recipe.of(*layers)
    without = Recipe.of(*({k: v for k, v in table.items() if k != "task"} for table in tables))
    table = sample_for(without, source)
    known = None if table is None else recognise(table)
    if known is None or known.task in NO_TASK:
        return Recipe.of(*layers)
    recipe = Recipe.of({"task": for_base(known, without).task}, *layers)
    recipe.__pydantic_fields_set__.difference_update({"task", "objective"})
    return recipe


def with_task(recipe: Recipe, source: Any, ledger: Ledger) -> Recipe:
    """The recipe with the task that the columns say, where it names none; noted in the ledger.

    Raises `DataError` where the rows are for no task, and `RecipeError` for a task that writes
    texts where no base is named that can.
    """
    table = sample_for(recipe, source)
    if table is None:
        return recipe
    path = recipe.data.path or recipe.data.train or "DATA"
    known, data = recognise(table), typed(only_file(path) or path)
    if known is None:
        check_columns(table, data)
        return recipe
    if known.task in NO_TASK:
        columns = f" ({known.reason})" if known.columns else ""
        advice = NO_TASK[known.task]
        raise DataError(
            f"{table['_file'][0].as_py()} holds {known.task}{columns}: {advice.format(data=data)}"
        )
    if known.task in WRITERS and "base" not in recipe.model_fields_set:
        tasks = (Summarization, Text2Text, Translation)
        fit = [task.part_name() for task in tasks if _fits(task, known.columns)]
        others = f" (or {' or '.join(sorted({*fit} - {known.task}))})" if len(fit) > 1 else ""
        more = [name for name in _Columns(table).names.values()
                if name.lower() in TARGETS and name not in known.columns]  # fmt: skip
        flag = f" (to learn '{more[0]}' instead: --data.columns.target {more[0]})" if more else ""
        raise RecipeError(
            f"the columns {known.reason} are for task {known.task}{others}, and the usual base, "
            f"{recipe.base}, writes no texts; take one that does, as in: warmstart tune {data} "
            f"--task {known.task} --base smollm2{flag}"
        )
    known = for_base(known, recipe)
    message = f"task {known.task}, by the columns {known.reason}; for another say --task NAME"
    ledger.note("recognised", message, loud=True, task=known.task, roles=list(known.columns))
    return taking(known.task, recipe)


def taking(task: str, recipe: Recipe) -> Recipe:
    """The recipe with a task, of which it may have settings already (see `recipe_of`)."""
    own = recipe.task if recipe.task.part_name() == task else None
    settings = own.model_dump(exclude_unset=True) if own else {}
    below = recipe.model_dump(exclude_unset=True)
    return Recipe.of({"task": {**settings, "name": task}}, below, quiet=True)


def for_base(known: Recognised, recipe: Recipe) -> Recognised:
    """Prompts with their answers are conversations, also for the usual base, which writes nothing;
    for one without a chat template, and where they are no lists of messages, a text for a text."""
    usual = recipe.base == Recipe.model_fields["base"].default
    if known.task != "chat" or len(known.columns) == 1 or usual:
        return known
    with suppress(WarmstartError):
        folder = resolve(recipe.base, revision=recipe.revision).path
        if (folder / TEMPLATE).is_file() or "chat_template" in read_json(folder / TOKENIZER):
            return known
    return replace(known, task="text2text")


def sample_for(recipe: Recipe, source: Any) -> pa.Table | None:
    """As `sample`, where the recipe names no task, no objective of a task's own and no columns."""
    keys = recipe.model_fields_set
    own = "objective" in keys and recipe.objective.part_name() != "supervised"
    named = "task" in keys or own or recipe.data.columns
    return None if named else sample(recipe.data, source)


def sample(data: Data, source: Any) -> pa.Table | None:
    """The first rows to train on with all of their columns; None where they cannot be read, which
    whoever reads them all tells better. Plain text has the one column `PLAIN`. Raises `HubError`.
    """
    path = Path(data.path or data.train or "") if source is None else None
    if path is not None and any(texts_in(path)):
        columns: dict[str, Any] = {PLAIN: [""], "_file": [str(path)], "_line": [1]}
        return pa.table(columns)
    if path is not None and (file := only_file(path)) is not None:
        data = data.model_copy(update={"path": str(file)})
    if isinstance(source, list):
        source = source[:SAMPLE]
    elif source is not None and hasattr(source, "iloc"):  # of pandas
        source = source.iloc[:SAMPLE]
    try:
        few = {"limit": min(SAMPLE, data.limit or SAMPLE), "bad_rows": "skip"}
        fewer = data.model_copy(update=few)
        for _, _, table in read_splits(fewer, source, Ledger()):
            return table
    except HubError:
        raise  # asked once, not twice
    except WarmstartError:
        pass
    return None


def texts_in(path: Path) -> Iterator[Path]:
    """The files of plain text that a path names: itself, or those in a folder that holds nothing
    else that is read."""
    names = {name for task in (Classification, Text2Text, Tagging, Regression, ExtractiveQA)
             for role in task.roles.values() for name in role}  # fmt: skip
    if path.is_file():
        with suppress(WarmstartError):
            if is_plain(path) and not has_header(path, names):
                yield path
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if files and all(file.suffix.lower() in (".txt", ".md", "") for file in files):
            for file in files:
                yield from texts_in(file)


class _Columns:
    """The columns of a sample by their names in lower case, and their values."""

    def __init__(self, table: pa.Table) -> None:
        names = [name for name in table.column_names if name not in RESERVED]
        self.names = {name.strip().lower(): name for name in names}
        self.table = table

    def first(self, *names: str) -> str | None:
        """The first of these that there is."""
        return next((self.names[name] for name in names if name in self.names), None)

    def values(self, name: str) -> list[Any]:
        """The values that are there, lists and objects in cells read."""
        cells = (parse_cell(cell) for cell in self.table[name].to_pylist())
        return [cell for cell in cells if cell is not None and cell != ""]

    def all_are(self, name: str, kind: type | tuple[type, ...]) -> bool:
        """Whether every value is of this type, and there are some."""
        values = self.values(name)
        return bool(values) and all(isinstance(value, kind) for value in values)

    def is_text(self, name: str) -> bool:
        """Whether next to all values are texts; a list or an object may stand in one."""
        values = self.values(name)
        texts = sum(isinstance(value, str) for value in values)
        return pa.types.is_string(self.table[name].type) and texts > TEXTS * len(values)

    def is_measured(self, name: str) -> bool:
        """Whether the values are numbers, and not all whole ones."""
        try:
            numbers = [float(value) for value in self.values(name)]
        except (TypeError, ValueError):
            return False
        return any(number != int(number) for number in numbers if abs(number) < 1e15)


def recognise(table: pa.Table) -> Recognised | None:
    """What the rows are for, where their columns are unmistakable; None where they are for
    classification, or nothing says what for."""
    if PLAIN in table.column_names:
        return Recognised(PLAIN)
    columns = _Columns(table)
    rules: tuple[Callable[[_Columns], Recognised | None], ...] = (
        _no_task, _words, _answers, _translations, _anchors, _two_texts, _labels, _texts,
    )  # fmt: skip
    return next((known for rule in rules if (known := rule(columns)) is not None), None)


def _no_task(columns: _Columns) -> Recognised | None:
    chosen, rejected = columns.first("chosen"), columns.first("rejected")
    if chosen and rejected:
        return Recognised("preferences", (chosen, rejected))
    for name in CHATS:
        column = columns.first(name)
        if column and columns.all_are(column, list) and _are_objects(columns.values(column)):
            return Recognised("chat", (column,))
    prompt, answer = columns.first(*PROMPTS), columns.first(*ANSWERS)
    if prompt and answer and columns.all_are(prompt, list):
        if _are_objects(columns.values(prompt)):
            return Recognised("chat", (prompt, answer))
    good, bad = (columns.first(*Choice.roles[role]) for role in FORMS["pairs"])
    if good and bad:
        return Recognised("minimal pairs", (good, bad))
    choices = columns.first(*CHOICES)
    if choices and columns.first("question", "context", "prompt"):
        if columns.all_are(choices, (list, dict)):
            return Recognised("multiple choice", (choices,))
    return None


def _are_objects(lists: list[Any]) -> bool:
    return all(isinstance(item, dict) for row in lists for item in row)


def _words(columns: _Columns) -> Recognised | None:
    text = columns.first(*Tagging.roles["text"])
    for name in (*Tagging.roles["spans"], *Tagging.roles["tags"]):
        column = columns.first(name)
        if column and text and are_spans(columns.values(column)):
            return Recognised("tagging", (text, column))
    tokens, tags = (columns.first(*Tagging.roles[role]) for role in ("tokens", "tags"))
    if tokens and tags and columns.all_are(tokens, list) and columns.all_are(tags, list):
        return Recognised("tagging", (tokens, tags))
    return None


def _answers(columns: _Columns) -> Recognised | None:
    roles = ExtractiveQA.roles
    context, question = columns.first(*roles["context"]), columns.first(*roles["question"])
    answers = columns.first(*roles["answers"], *roles["answer_text"])
    if not (context and question and answers):
        return None
    names = (context, question, answers)
    if columns.first(*roles["answers"], *roles["answer_start"]):
        return Recognised("extractive_qa", names)
    rows = columns.table.select([context, answers]).to_pylist()
    inside = sum(str(row[answers]) in str(row[context]) for row in rows)
    return Recognised("extractive_qa", names) if inside >= IN_CONTEXT * len(rows) else None


def _translations(columns: _Columns) -> Recognised | None:
    column = columns.first(*Translation.roles["pair"])
    if column and columns.all_are(column, dict):
        return Recognised("translation", (column,))
    return None


def _anchors(columns: _Columns) -> Recognised | None:
    anchor, positive = columns.first(*Embedding.roles["text"]), columns.first("positive")
    return Recognised("embedding", (anchor, positive)) if anchor and positive else None


def _two_texts(columns: _Columns) -> Recognised | None:
    pairs = zip(FIRST, SECOND, strict=True)
    two = next((p for p in pairs if columns.first(p[0]) and columns.first(p[1])), None)
    if two is None:
        return None
    first, second = (columns.names[name] for name in two)
    score = columns.first(*Embedding.roles["score"])
    label = columns.first(*Pairs.roles["label"])
    if score or (label and columns.is_measured(label)):
        return Recognised("regression", (first, second, score or label or ""))
    return Recognised("pairs", (first, second, label)) if label else None


def _labels(columns: _Columns) -> Recognised | None:
    text = columns.first(*Classification.roles["text"])
    label = columns.first(*Classification.roles["label"])
    several = columns.first(*Multilabel().roles["labels"])
    score = columns.first(*(name for name in Regression.roles["score"] if name != "target"))
    if text and several and columns.all_are(several, list):
        return Recognised("multilabel", (text, several))
    if text and score and columns.is_measured(score) and score in (label, score):
        return Recognised("regression", (text, score))
    return None


def _texts(columns: _Columns) -> Recognised | None:
    """A text and another one; classification where its columns are there as well."""
    label = columns.first(*(n for n in Classification.roles["label"] if n != "target"))
    text = columns.first(*Classification.roles["text"])
    source, target = columns.first(*SOURCES), columns.first(*TARGETS)
    if text and len(columns.names) == 1 and columns.is_text(text):
        return Recognised(PLAIN, (text,))
    if (text and label) or not source or not target or source == target:
        return None
    if not (columns.is_text(source) and columns.is_text(target)):
        return None
    instruction = columns.first("instruction")
    if instruction and (more := columns.first("input", "context")) not in (None, target):
        return Recognised("chat", (instruction, more or source, target))
    left, right = ([v for v in columns.values(n) if isinstance(v, str)] for n in (source, target))
    if len(set(right)) <= FEW_KINDS * len(right):
        return None  # classes
    if source.strip().lower() in PROMPTS and target.strip().lower() in ANSWERS:
        return Recognised("chat", (source, target))
    names, languages = (source, target), [find_languages(texts) for texts in (left, right)]
    usual = _fits(Translation, names)
    sure = [own.majority and own.shares[own.majority] >= MOSTLY for own in languages]
    if usual and all(sure) and languages[0].majority != languages[1].majority:
        return Recognised("translation", names)
    length = statistics.median(map(len, left))
    shorter = statistics.median(map(len, right)) < SHORT * length
    short = target.lower() in SUMMARIES or (length >= LONG and shorter)
    if short and _fits(Summarization, names):
        return Recognised("summarization", names)
    return Recognised("text2text", names)


def _fits(task: type[Task], names: tuple[str, ...]) -> bool:
    """Whether the task knows a source and a target by these names."""
    roles = (task.roles["source"], task.roles["target"])
    return len(names) == 2 and all(n.lower() in r for n, r in zip(names, roles, strict=True))


def check_columns(table: pa.Table, data: str, verb: str = "tune") -> None:
    """Raise `DataError` with the command that fits where not even texts and labels are named as
    usual, or where long documents stand beside what may only be a note of them; to inspect them,
    texts are enough."""
    columns = _Columns(table)
    if verb == "inspect" and columns.first(*Classification.roles["text"]):
        return
    text, label = (columns.first(*names) for names in Classification.roles.values())
    if text and label:
        size = statistics.median(len(str(value)) for value in columns.values(text) or [""])
        if label.strip().lower() in NOTES and size >= DOCUMENT:
            raise DataError(
                f"{table['_file'][0].as_py()} holds documents ({size:,.0f} characters in the "
                f"middle) in '{text}', and '{label}' beside them may be their class or a mere "
                f"note; say which: `warmstart {verb} {data} --data.columns.label {typed(label)}` "
                f"learns to tell it, `warmstart pretrain {data}` goes on with a base on the texts"
            )
        return
    texts = [name for name in columns.names.values() if columns.is_text(name)]
    size = {name: statistics.mean(len(str(v)) for v in columns.values(name)) for name in texts}
    kinds = {name: len(set(map(str, columns.values(name)))) for name in columns.names.values()}
    classes = [name for name, kind in kinds.items() if 2 <= kind <= CLASSES * len(table)]
    text = text or max(texts, key=size.__getitem__, default=None)
    label = label or min((n for n in classes if n != text), key=kinds.__getitem__, default=None)
    if text is None or label is None:
        return
    if headless(table):
        names = [*columns.names.values()]
        numbers = {"text": names.index(text) + 1, "label": names.index(label) + 1}
        listing = ", ".join(shown(name, 30) for name in names[:30])
        raise no_header(table["_file"][0].as_py(), listing, numbers, f"warmstart {verb} {data} ")
    flags = f"--data.columns.text {typed(text)} --data.columns.label {typed(label)}"
    raise DataError(
        f"{table['_file'][0].as_py()} has the columns {', '.join(columns.names.values())}, which "
        f"do not say what is to be learned; name a task and its columns, as in: warmstart {verb} "
        f"{data} --task classification {flags}"
    )
