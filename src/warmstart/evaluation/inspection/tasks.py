"""Checks of what belongs to a text, by the task that the rows are for: entities, answers, pairs,
numbers, labels, other texts; and of rows that no task learns from yet."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.cells import parse_cell
from warmstart.data.profiling.language import find_languages, name_of
from warmstart.errors import shown
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.evaluation.inspection.conversations import check_conversations
from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted
from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.embedding.evaluation import texts_in
from warmstart.tasks.extractive_qa.answers import mended, texts_of
from warmstart.tasks.multilabel.labels import sets_in
from warmstart.tasks.regression import numbers
from warmstart.tasks.tagging.reading import tags_in, words_in

FEW = 5  # rows of a kind below which it can hardly be learned and judged
MUCH = 0.02  # share of the rows from which a fault is more than a note
REPEATED = 0.1  # share of the rows that have one and the same target
LANGUAGE_ROWS = 2_000
LONGER = 0.6  # share of the preferred answers that are the longer ones, from which length decides

Tables = Mapping[str, pa.Table]


def check_task(context: Context) -> CheckResult:
    """What the rows hold beside the text, and what tune would leave out."""
    result = CheckResult({"task": {"name": context.kind, "left_out": dict(context.left_out)}})
    result.tables["kinds"] = pa.table({"kind": pa.nulls(0, pa.string())})
    for reason, rows in context.left_out.items():
        much = rows > MUCH * (len(context.source.table) + rows)
        result.add(
            "left_out", SEVERE if much else WORTH, rows,
            f"{n_rows(rows, 'is', 'are')} of no use to task {context.kind}: {reason}; tune leaves "
            "them out.",
            "mend these rows, or name other columns with --data.columns.ROLE NAME")  # fmt: skip
    check = KINDS.get(context.kind)
    if check is not None and context.own:
        check(context.own, result)
    if context.kind == "chat":
        check_conversations(context, result)
    result.facts["task"]["figures"] = dict(result.lines)
    return result


def _count(result: CheckResult, counts: Mapping[str, Counter[str]]) -> None:
    """The table of kinds by split, the commonest first, and kinds that are rare or unknown."""
    total: Counter[str] = sum(counts.values(), Counter())
    order = [kind for kind, _ in total.most_common()]
    rows = {"kind": order, **{name: [own[k] for k in order] for name, own in counts.items()}}
    result.tables["kinds"] = pa.table(rows)
    train = counts["train"]
    if rare := [kind for kind in order if 0 < train[kind] < FEW]:
        result.add(
            "rare_kind", NOTE, sum(train[kind] for kind in rare),
            f"{counted(len(rare), 'label has', 'labels have')} fewer than {FEW} rows or entities "
            f"in train: {listed(rare)}.",
            "add rows of them, or merge them into others")  # fmt: skip
    if unknown := [kind for kind in order if not train[kind]]:
        result.add(
            "unknown_kind", SEVERE, sum(total[kind] for kind in unknown),
            f"{counted(len(unknown), 'label')} of validation or test, but not of train: "
            f"{listed(unknown)}.",
            "add rows of them to train, or correct them")  # fmt: skip


def _entities(own: Tables, result: CheckResult) -> None:
    """Entities by type, tags that break their scheme, spans within words, texts without any."""
    if "tags" not in own["train"].column_names:
        return
    counts: dict[str, Counter[str]] = {}
    types: dict[str, Counter[str]] = defaultdict(Counter)
    lengths, none, rows, broken, widened = list[int](), 0, 0, 0, 0
    for split, table in own.items():
        counts[split] = Counter()
        texts, places = table["text"].to_pylist(), words_in(table)
        for text, words, tags in zip(texts, places, tags_in(table), strict=True):
            single = any("-" not in tag and tag != "O" for tag in tags)  # labels of words
            spans = [] if single else spans_of_tags(tags)
            counts[split].update(kind for _, _, kind in spans or _plain(tags))
            lengths += [last - first for first, last, _ in spans]
            none, rows = none + (not spans), rows + 1
            for first, last, kind in spans:
                types[text[words[first][0] : words[last - 1][1]].casefold()][kind] += 1
        broken += _filled(table, "mended")
        widened += _filled(table, "widened")
    _count(result, counts)
    if not lengths:
        return
    result.lines["entities"] = (
        f"{len(lengths):,} of {len(sum(counts.values(), Counter()))} types, "
        f"{statistics.mean(lengths):.1f} words each; {none:,} of {counted(rows)} have none"
    )
    mixed = {text: kinds for text, kinds in types.items() if len(kinds) > 1}
    if mixed:
        text, kinds = max(mixed.items(), key=lambda item: item[1].total())
        each = ", ".join(f"{n} × {kind}" for kind, n in kinds.most_common())
        result.add(
            "mixed_types", NOTE, sum(kinds.total() for kinds in mixed.values()),
            f"{counted(len(mixed), 'text is', 'texts are')} tagged with more than one type, as "
            f"“{shown(text, 40)}”: {each}.",
            "look whether each is meant so")  # fmt: skip
    if broken:
        result.add(
            "broken_tags", WORTH, broken,
            f"{n_rows(broken)} tags that do not follow their scheme, such as I- after O.",
            "mend them; tune reads what cannot go on as the begin of an entity")  # fmt: skip
    if widened:
        result.add(
            "widened", WORTH, widened,
            f"{n_rows(widened)} spans that begin or end within a word; they are widened to whole "
            "words.",
            "mend their ends, or learn them as they are: --task.pieces characters")  # fmt: skip


def _plain(tags: Iterable[str]) -> list[str]:
    return [tag for tag in tags if tag != "O"]


def _filled(table: pa.Table, name: str) -> int:
    return sum(map(bool, table[name].to_pylist())) if name in table.column_names else 0


def _questions(own: Tables, result: CheckResult) -> None:
    """Answers, where they stand, questions without any, and passages on both sides of a split."""
    tables = [table for table in own.values() if "answers" in table.column_names]
    if not tables:
        return
    answers = [texts for table in tables for texts in texts_of(table["answers"])]
    words = [len(text.split()) for texts in answers for text in texts[:1]]
    none = sum(not texts for texts in answers)
    passages = {split: set(table["context"].to_pylist()) for split, table in own.items()}
    result.lines["questions"] = (
        f"{len(answers):,} on {counted(len(set.union(*passages.values())), 'passage')}, "
        f"{none:,} without an answer; an answer has {statistics.median(words or [0]):g} words"
    )
    moved = sum(sum(mended(table["answers"])) for table in tables)
    if moved:
        result.add(
            "moved_answer",
            WORTH if moved > MUCH * len(answers) else NOTE,
            moved,
            f"{n_rows(moved)} an answer that does not stand at its answer_start, or none where it "
            "stands more than once.",
            "tune takes the place where it stands, the first of several; write answer_start anew",
        )
    for split, contexts in passages.items():
        both = contexts & passages["train"] if split != "train" else set()
        if both:
            result.add(
                "shared_passage", WORTH, len(both),
                f"{counted(len(both), 'passage stands', 'passages stand')} in {split} and in "
                "train, with other questions.",
                "cut the splits by passage: give train alone")  # fmt: skip


def _pairs(own: Tables, result: CheckResult) -> None:
    """Pairs of one text with itself, and pairs that stand there both ways round."""
    pairs = [
        pair
        for table in own.values()
        for pair in zip(*(_texts(table, n) for n in ("sentence1", "sentence2")), strict=True)
    ]
    lengths = [
        statistics.median(len(text.split()) for text in side) for side in zip(*pairs, strict=True)
    ]
    result.lines["pairs"] = f"{len(pairs):,}; {lengths[0]:g} and {lengths[1]:g} words in the middle"
    same = sum(left.strip().casefold() == right.strip().casefold() for left, right in pairs)
    known = set(pairs)
    turned = sum((right, left) in known for left, right in pairs if left != right)
    if same:
        result.add("equal_pair", NOTE, same, f"{n_rows(same)} the same text twice.",
                   "look whether they are meant so")  # fmt: skip
    if turned:
        result.add(
            "turned_pair", NOTE, turned,
            f"{n_rows(turned, 'stands', 'stand')} there the other way round as well.",
            "keep both on one side of a split")  # fmt: skip


def _scores(own: Tables, result: CheckResult) -> None:
    """The numbers: their range, and how many have the commonest one."""
    if "sentence1" in own["train"].column_names:
        _pairs(own, result)
    if "score" not in own["train"].column_names:
        return
    values = np.concatenate([numbers(table) for table in own.values()])
    low, middle, high = np.percentile(values, [0, 50, 100])
    result.lines["scores"] = f"{low:g} to {high:g}, median {middle:g}, spread {values.std():.3g}"
    (value, n), *_ = Counter(values.tolist()).most_common(1)
    if n > 0.5 * len(values):
        result.add(
            "one_score", WORTH, n, f"{n_rows(n)} the score {value:g}.",
            "a model that always says so is hard to beat; look whether that is meant")  # fmt: skip
    far = int((np.abs(values - values.mean()) > 6 * max(values.std(), 1e-12)).sum())
    if far:
        result.add("far_score", WORTH, far, f"{n_rows(far)} a score far from all others.",
                   "look for a wrong unit or a slip of the decimal point")  # fmt: skip


def _label_sets(own: Tables, result: CheckResult) -> None:
    """Labels a row, rows without any, labels that always come together."""
    if "labels" not in own["train"].column_names:
        return
    sets = {split: sets_in(table) for split, table in own.items()}
    _count(result, {split: Counter(n for row in rows for n in row) for split, rows in sets.items()})
    rows = [labels for own_rows in sets.values() for labels in own_rows]
    each, none = sum(map(len, rows)) / len(rows), sum(not labels for labels in rows)
    different = len({tuple(sorted(labels)) for labels in rows})
    result.lines["label sets"] = (
        f"{each:.2f} labels a row, {none:,} of {counted(len(rows))} without any; {different:,} "
        "different sets"
    )


def _generation(own: Tables, result: CheckResult) -> None:
    """Targets beside their sources: lengths, copies, languages, one target for many."""
    tables = [table for table in own.values() if "target" in table.column_names]
    pairs = [
        pair for table in tables
        for pair in zip(_texts(table, "source"), _texts(table, "target"), strict=True)
    ]  # fmt: skip
    if not pairs:
        return
    sides = [list(side) for side in zip(*pairs, strict=True)]
    words = [[len(text.split()) for text in side] for side in sides]
    ratio = statistics.median(b / max(a, 1) for a, b in zip(*words, strict=True))
    result.lines["targets"] = (
        f"{statistics.median(words[1]):g} words in the middle, {ratio:.2f} times their sources' "
        f"{statistics.median(words[0]):g}"
    )
    codes = [find_languages(side[:LANGUAGE_ROWS]) for side in sides]
    names = [name_of(own_codes.majority) or "unknown" for own_codes in codes]
    result.lines["language"] = f"sources {names[0]}, targets {names[1]}"
    copied = sum(a.strip() == b.strip() for a, b in pairs)
    if copied:
        result.add(
            "copied_target", WORTH if copied > MUCH * len(pairs) else NOTE, copied,
            f"{n_rows(copied)} a target that is its source.",
            "take them out, unless a copy is the right answer")  # fmt: skip
    text, n = Counter(sides[1]).most_common(1)[0]
    if n > max(FEW, REPEATED * len(pairs)):
        result.add(
            "one_target",
            NOTE,
            n,
            f"{n_rows(n)} the target “{shown(text, 40)}”.",
            "if there are few different targets, --task classification learns them better",
        )
    if len(codes[1].shares) > 1 and (others := len(codes[1].rows)):
        result.add(
            "target_language", NOTE, others,
            f"{n_rows(others)} a target in another language than {names[1]}.",
            "look whether they are meant so")  # fmt: skip


def _embedding(own: Tables, result: CheckResult) -> None:
    """Pairs of one text with itself, negatives that are positives, scores."""
    there = own["train"].column_names
    if "score" in there:
        _scores(own, result)
    if "other" not in there or "label" in there:
        return
    names = texts_in(own["train"])
    rows = [
        [text.strip() for text in row]
        for table in own.values()
        for row in zip(*(_texts(table, name) for name in texts_in(table)), strict=True)
    ]
    result.lines["pairs"] = f"{len(rows):,} of {' and '.join(names)}"
    same = sum(row[0] == row[1] for row in rows)
    wrong = sum(bool({*row[2:]} & {*row[:2]}) for row in rows)
    if same:
        result.add("equal_pair", WORTH, same, f"{n_rows(same)} the same text twice.",
                   "take them out: nothing is learned from them")  # fmt: skip
    if wrong:
        result.add(
            "wrong_negative", SEVERE, wrong,
            f"{n_rows(wrong)} a negative that is the text itself or its positive.",
            "take another negative for each")  # fmt: skip


def _preferences(own: Tables, result: CheckResult) -> None:
    """Answers that are the same, and whether the longer one is always the better."""
    rows = [
        [_flat(row[name]) for name in ("chosen", "rejected")]
        for table in own.values()
        for row in table.rename_columns([n.lower() for n in table.column_names]).to_pylist()
    ]
    same = sum(chosen.strip() == rejected.strip() for chosen, rejected in rows)
    longer = sum(len(chosen) > len(rejected) for chosen, rejected in rows) / max(len(rows), 1)
    result.lines["pairs"] = f"{len(rows):,}; the better answer is the longer one in {share(longer)}"
    if same:
        result.add("equal_pair", WORTH, same, f"{n_rows(same)} one answer as both.",
                   "take them out: nothing is learned from them")  # fmt: skip
    if not 1 - LONGER <= longer <= LONGER:
        word = "longer" if longer > LONGER else "shorter"
        result.add(
            "length_bias", NOTE, len(rows),
            f"The better answer is the {word} one in {share(max(longer, 1 - longer))} of the rows.",
            "a model may learn the length alone; compare it with that rule")  # fmt: skip


def _flat(value: Any) -> str:
    """The text of an answer, a turn, or a list of turns."""
    value = parse_cell(value)
    if isinstance(value, Mapping):
        return str(value.get("content") or value.get("value") or "")
    if isinstance(value, list):
        return "\n".join(map(_flat, value))
    return "" if value is None else str(value)


def _texts(table: pa.Table, name: str) -> Sequence[str]:
    return [value or "" for value in table[name].to_pylist()]


def flat_text(row: Mapping[str, Any]) -> str:
    """All texts of a row that no task learns from, one after the other."""
    return "\n".join(filter(None, map(_flat, row.values())))


KINDS: Mapping[str, Callable[[Tables, CheckResult], None]] = {
    "tagging": _entities,
    "extractive_qa": _questions,
    "pairs": _pairs,
    "regression": _scores,
    "multilabel": _label_sets,
    "summarization": _generation,
    "translation": _generation,
    "text2text": _generation,
    "embedding": _embedding,
    "preferences": _preferences,
}
