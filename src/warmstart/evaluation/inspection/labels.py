"""Checks of the labels: their names, balance, shortcuts to them, errors, and whether more help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from warmstart.data.columns import columns_in
from warmstart.data.corrections import write_suspicious
from warmstart.data.labels import seen
from warmstart.data.profiling.shortcuts import column_rules, sorted_by_label, word_rules
from warmstart.errors import shown, typed
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.evaluation.label_quality import find_label_errors, learning_curve
from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted

NO_CLASSES = 0.5  # labels a row above which they are free text
EVEN, UNEVEN, STRONG = 1.5, 3.0, 10.0  # rows of the largest class over those of the smallest
FEW_OF_CLASS = 20
GIVES_AWAY, HELPS = 0.95, 0.6  # skill of a column alone
NOISY, SOUND = 0.1, 0.8  # share of suspicious labels; accuracy from which they weigh heavily
LISTED, CURVE_ROWS = 500, 5_000


def check_labels(context: Context) -> CheckResult:
    """Whether there are labels, and labels that training would refuse."""
    result = CheckResult({"classes": None}, tables={"classes": pa.table({"label": pa.nulls(0)})})
    rows, counts = len(context.source.table), context.source.class_counts
    if not context.source.has_labels:
        if context.kind != "classification":
            return result
        result.add(
            "no_label", NOTE, rows,
            "No label column was recognised, so nothing is said about classes.",
            "name it: --data.columns.label COLUMN")  # fmt: skip
        return result
    train = {name: splits["train"] for name, splits in counts.items()}
    largest = max(train.values(), default=0)
    spellings: dict[str, list[str]] = {}
    for name in counts:
        spellings.setdefault(seen(name), []).append(name)
    facts = {
        "counts": counts,
        "classes": len(counts),
        "largest_share": largest / max(sum(train.values()), 1),
        "ratio": largest / max(min((n for n in train.values() if n), default=1), 1),
        "spellings": [names for names in spellings.values() if len(names) > 1],
        "single": [name for name, n in train.items() if n == 1],
        "unknown_in_train": [name for name, n in train.items() if not n],
        "unlabelled": sum(not label for label in context.source.labels),
    }
    result.facts["classes"] = facts
    result.tables["classes"] = pa.Table.from_pylist(
        [{"label": name, **splits} for name, splits in counts.items()]
    )
    if n := facts["unlabelled"]:
        result.add(
            "empty_label", WORTH, n, f"{n_rows(n)} no label; tune leaves them out.",
            f"fill them in, or write a copy without them: {context.fix_flag}")  # fmt: skip
    if len(counts) == 1:
        result.add(
            "one_class", SEVERE, rows,
            "Every row has the same label, so there is nothing to learn.",
            "add rows of another class, or name another column: --data.columns.label COLUMN",
        )  # fmt: skip
    elif rows >= 20 and len(counts) > NO_CLASSES * rows:
        result.add(
            "free_text_label", SEVERE, rows,
            f"The label column has {len(counts):,} different values in {rows:,} rows, so it "
            "looks like free text, not classes.",
            "name another column: --data.columns.label COLUMN")  # fmt: skip
    else:
        _check_names(facts, result)
    return result


def _check_names(facts: Mapping[str, Any], result: CheckResult) -> None:
    """Labels spelled in two ways, unknown in train, or of one row alone."""
    if groups := facts["spellings"]:
        names = "; ".join(" and ".join(f"“{shown(n, 30)}”" for n in g) for g in groups[:3])
        result.add(
            "label_spelling", SEVERE, 0,
            f"{counted(len(groups), 'label is', 'labels are')} spelled in more than one way: "
            f"{names}; tune refuses them.",
            "merge them: --data.merge_labels true")  # fmt: skip
    if unknown := facts["unknown_in_train"]:
        result.add(
            "unknown_label", SEVERE, sum(sum(facts["counts"][name].values()) for name in unknown),
            f"{counted(len(unknown), 'label')} of validation or test, but not of train: "
            f"{listed(unknown)}.",
            "add rows of them to train, or correct them")  # fmt: skip
    if single := facts["single"]:
        result.add(
            "single_row", SEVERE, len(single),
            f"One row alone has the label {listed(single)}; a class needs two to be both learned "
            "and tested.",
            "add rows, merge the class into another, or delete the row")  # fmt: skip


def check_balance(context: Context) -> CheckResult:
    """How unequal the classes of train are, and what follows from it."""
    balance = balance_facts(context.source.class_counts)
    result = CheckResult({"balance": balance})
    if balance and balance["ratio"] >= UNEVEN:
        severity = WORTH if balance["ratio"] >= STRONG else NOTE
        message = f"{balance['verdict']} {balance['consequence']}"
        result.add("imbalance", severity, balance["rows"], message, balance["remedy"])
    return result


def balance_facts(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    """The balance of train in words, from label → split → rows; None for fewer than two classes."""
    sizes = {name: splits["train"] for name, splits in counts.items() if splits["train"]}
    if len(sizes) < 2:
        return None
    ordered = sorted(sizes, key=lambda name: -sizes[name])
    large, small = ordered[0], ordered[-1]
    ratio = sizes[large] / sizes[small]
    degree = "even" if ratio <= EVEN else "a little uneven" if ratio < UNEVEN else \
        "uneven" if ratio < STRONG else "very uneven"  # fmt: skip
    rare = [name for name in ordered if sizes[name] < FEW_OF_CLASS]
    return {
        "ratio": round(ratio, 2),
        "rows": sizes[small],
        "verdict": (
            f"The classes are {degree}: “{large}” has {counted(sizes[large])} of train, “{small}” "
            f"{sizes[small]:,} ({ratio:.1f} times fewer)."
        ),
        "consequence": (
            f"Always saying “{large}” would be right in {share(sizes[large] / sum(sizes.values()))}"
            " of the rows, so judge by macro-F1, not by accuracy."
        ),
        "remedy": "try --objective.class_weights balanced, or --data.sampling over "
        "(--data.sampling under only with plenty of rows), one of them at a time",
        "rare": rare,
        "rare_sentence": f"Fewer than {FEW_OF_CLASS} rows: {listed(rare)}." if rare else "",
    }


def check_shortcuts(context: Context) -> CheckResult:
    """Columns and words that predict the label by themselves, and rows in order of their label."""
    facts: dict[str, Any] = {"columns": [], "words": [], "sorted_by_label": False}
    result = CheckResult({"giveaways": facts})
    source, labels = context.source, np.array(context.source.labels)
    if not source.has_labels:
        return result
    rows = len(labels)
    codes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    codes[labels == ""] = -1
    table = pa.concat_tables(source.whole.values(), promote_options="permissive")
    read = (columns_in(column, table.column_names) for column in source.roles.values())
    used = {*(name for names in read for name in names), "_file", "_line"}
    columns = [name for name in table.column_names if name not in used]
    labelled = np.flatnonzero(codes >= 0)
    texts = source.texts.take(pa.array(labelled)).to_pylist()
    facts["columns"] = column_rules(table, codes, columns, context.seed)
    facts["words"] = word_rules(texts, labels[labelled].tolist())[:20]
    facts["sorted_by_label"] = sorted_by_label(codes[: context.source.sizes["train"]])
    for rule in facts["columns"]:
        if rule["skill"] >= HELPS:
            result.add(
                "giveaway_column", SEVERE if rule["skill"] >= GIVES_AWAY else NOTE, rows,
                f"The column {shown(rule['column'])} by itself ({rule['read_as']}) predicts the "
                f"label of {share(rule['accuracy'])} of held-out rows, where always saying the "
                f"commonest label gets {share(rule['commonest'])}.",
                "tune never reads it; keep it out of the text, and ask how it came to be",
            )  # fmt: skip
    if facts["words"]:
        rule, n = facts["words"][0], len(facts["words"]) - 1
        also = f" ({counted(n, 'more word does', 'more words do')} the same)" if n else ""
        result.add(
            "giveaway_word", SEVERE, rule["rows"],
            f"The word “{shown(rule['word'], 40)}” {'begins' if rule['first'] else 'holds'} "
            f"{share(rule['recall'])} of the texts labelled “{shown(rule['label'], 40)}” and next "
            f"to no other{also}, so a model need learn nothing else.",
            "if it was put there with the label, remove it from the texts")  # fmt: skip
    if facts["sorted_by_label"]:
        result.add(
            "sorted", NOTE, rows, "The rows stand in order of their labels.",
            "tune shuffles by itself; other tools may cut a test of one class")  # fmt: skip
    return result


def check_label_errors(context: Context) -> CheckResult:
    """Labels that do not go with their text, by models on frozen features."""
    sample = context.features
    if isinstance(sample, str):
        empty = context.source.listing([], suggested=[], confidence=[])
        result = CheckResult(
            {"noise": {"skipped": sample}},
            tables={"suspicious": empty},
            lines={"labels": f"not judged: {sample}"} if context.source.has_labels else {},
        )
        if context.source.has_labels and context.use_features and context.strange_to_base:
            result.add(
                "not_judged", NOTE, len(context.source.table),
                f"Whether labels are wrong is not said: {sample}.",
                "take a base for this language: --base owner/name")  # fmt: skip
        return result
    context.report("labels")
    with threadpool_limits(1):  # many small problems: threads would wait for each other
        errors = find_label_errors(
            sample.features, sample.targets, context.seed, groups=sample.groups
        )
    n, checked, total = len(errors.rows), len(sample.rows), len(context.source.table)
    accuracy, confidence = round(errors.accuracy, 4), errors.confidence
    facts = {"suspicious": n, "estimated": errors.estimated, "accuracy": accuracy}
    rows, suggested = sample.rows[errors.rows], [sample.names[code] for code in errors.suggested]
    listing = context.source.listing(
        rows[:LISTED],
        suggested=suggested[:LISTED],
        confidence=confidence[:LISTED].round(4).tolist(),
    )
    table = context.source.table.take(pa.array(rows))
    of_sample = "" if checked == total else f", a sample of {total:,}"
    result = CheckResult(
        {"noise": facts | {"checked": checked, "of": total}},
        tables={"suspicious": listing},
        lines={"labels": f"{n:,} of {counted(checked)} suspicious{of_sample}"},
        files={"suspicious.csv": lambda path: write_suspicious(path, table, suggested, confidence)},
    )
    if n:
        path = f"{context.out}/suspicious.csv"
        result.add(
            "label_noise", SEVERE if n > NOISY * checked and accuracy > SOUND else WORTH, n,
            f"{n_rows(n)} a label that does not go with the text ({n / checked:.1%}), in the "
            f"eyes of a model that had not seen them; it agrees with {share(accuracy)} of all.",
            f"read {path} from the top, fill its column use, and give it back: "
            f"--data.corrections {typed(path)}")  # fmt: skip
    return result


def check_learning_curve(context: Context) -> CheckResult:
    """Which classes more labels would help most; copies count once."""
    sample = context.features
    if isinstance(sample, str):
        return CheckResult({"learning_curve": {"skipped": sample}})
    context.report("learning curve")
    first = np.unique(sample.groups, return_index=True)[1]
    if len(first) > CURVE_ROWS:
        rng = np.random.default_rng([context.seed, 0xC04E])
        first = np.sort(rng.choice(first, CURVE_ROWS, replace=False))
    with threadpool_limits(1):
        curve = learning_curve(
            sample.features[first], sample.targets[first], context.seed, labels=sample.names
        )
    result = CheckResult({"learning_curve": curve})
    for need in curve["needs"][:3]:
        more = f"about {need['more']:,} more labels" if need["more"] else "more labels"
        result.add(
            "few_labels", NOTE, need["rows"],
            f"“{shown(need['label'], 40)}” with {counted(need['rows'])} is found in "
            f"{share(need['recall'])} of the cases by a quick model, and its curve still rises: "
            f"{more} would be worth {need['gain']} points of recall.",
            "label these first")  # fmt: skip
    return result
