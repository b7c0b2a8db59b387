"""Checks of the texts and their table: copies, lengths, characters, languages, personal data,
columns, files."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.csv import write_csv

from warmstart.data.dedup.clusters import straddling_groups
from warmstart.data.profiling.columns import column_facts, file_facts, looks_like_group
from warmstart.data.profiling.language import name_of
from warmstart.data.profiling.pii import excerpt, find_pii, mask
from warmstart.data.tables import is_blank, pc
from warmstart.data.tokens.dataset import tokenise
from warmstart.errors import shown, typed
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted

MANY_CONFLICTS, MANY_REPEATS, MUCH_CUT = 0.01, 0.005, 0.01  # shares of the rows
SEVERAL = 0.9  # share of the commonest language below which the data are of several
SHOWN_PLACES = 8  # of bad rows in a message
LISTED = 200  # rows of a kind that are kept with their text
LIMIT = 1 << 30  # tokens that no text has
LIMITS = (32, 64, 128, 256, 512)  # tokens
BINS = 24
NEAR_EMPTY = 3  # letters and digits below which a text says next to nothing
ODD_SIGNS = {
    "html": r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,6});"
    r"|</?(?:br|p|div|span|a|b|i)\b[^<>]*>",
    "mojibake": r"Ã[\x{80}-\x{BF}]|Ã[ƒ‚„…†‡ˆ‰Š‹Œ]|â€|â\x{80}|Â[\x{A0}-\x{BF}]|ï¿½|\x{FFFD}",
    "control": r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x{84}\x{86}-\x{9F}]",
    "invisible": r"[\x{200B}\x{202A}-\x{202E}\x{2066}-\x{2069}\x{FEFF}\x{AD}]",
}  # fmt: skip
"""RE2 patterns: HTML left in, an encoding read as another, control and invisible characters."""
ODD_COLUMNS = {"empty": "empty", "constant": "the same in every row", "not text": "not text"}
ODD_TEXTS = {
    "empty": (WORTH, "no text; tune leaves them out.", "write a copy without them: {fix}"),
    "near_empty": (
        NOTE,
        "fewer than three letters, which is hardly a text.",
        "look at them; delete those that nobody could label",
    ),
    "mojibake": (
        WORTH,
        "characters that went wrong, such as â€™ for an apostrophe.",
        "export the file again as UTF-8, or name its encoding: --data.encoding NAME",
    ),
    "html": (
        NOTE,
        "HTML left in, such as &amp; or <br>.",
        "unescape the texts where later texts will not hold it",
    ),
    "control": (NOTE, "control characters.", "remove them"),
    "invisible": (NOTE, "invisible characters.", "remove them"),
}


def check_leakage(context: Context) -> CheckResult:
    """Copies in all, and texts and groups that stand in train and in another split as well."""
    duplicates, sizes = context.duplicates, context.source.sizes
    pairs, groups = duplicates.pairs, duplicates.groups
    kinds = {row["values"]: row["counts"] for row in pc.value_counts(pairs["kind"]).to_pylist()}
    leaked = {
        split: int(np.isin(numbers[numbers >= 0], groups["train"]).sum())
        for split, numbers in groups.items()
        if split != "train"
    }
    facts = {**duplicates.summary, "by_kind": kinds, "repeats": repeats(groups), "leaked": leaked}
    for name in ("left_text", "right_text"):
        texts = pa.array([mask(text or "") for text in pairs[name].to_pylist()], pa.string())
        pairs = pairs.set_column(pairs.column_names.index(name), name, texts)
    result = CheckResult({"duplicates": facts}, tables={"duplicates": pairs})
    by_kind = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    result.lines["copies"] = counted(len(pairs), "pair") + (f" ({by_kind})" if by_kind else "")
    if any(leaked.values()):
        parts = " and ".join(
            f"{n:,} of the {sizes[split]:,} {split} rows ({share(n / max(sizes[split], 1))})"
            for split, n in leaked.items()
            if n
        )
        result.add(
            "leakage", SEVERE, sum(leaked.values()),
            f"{parts} also stand in train, word for word or nearly, so the score would flatter.",
            "tune leaves their copies out of train by itself; a copy of the data without them: "
            f"{context.fix_flag}")  # fmt: skip
    if group := context.settings.group:
        facts["straddling"] = n = len(straddling_groups(context.source.whole, group))
        if n:
            result.add(
                "group_leakage", SEVERE, n,
                f"{counted(n, 'value')} of {group} {'stands' if n == 1 else 'stand'} on more "
                "than one side of the given splits.",
                "cut the splits anew: give train alone, with "
                f"--data.group {typed(group)} --split FOLDER")  # fmt: skip
    return result


def check_conflicts(context: Context) -> CheckResult:
    """Equal texts with different labels."""
    result = CheckResult()
    if n := context.duplicates.summary["conflicts"]:
        many = n > MANY_CONFLICTS * len(context.source.table)
        result.add(
            "conflict", SEVERE if many else WORTH, n,
            f"{n_rows(n, 'repeats', 'repeat')} the text of another under a different label; at "
            "most one of the two is right.",
            "decide them by hand (duplicates.csv, conflict = true); a copy that keeps a clear "
            f"majority only: {context.fix_flag}")  # fmt: skip
    return result


def check_repeats(context: Context) -> CheckResult:
    """Texts that stand in one split more than once."""
    result, sizes = CheckResult(), context.source.sizes
    counts = {split: n for split, n in repeats(context.duplicates.groups).items() if n}
    if counts:
        total = sum(counts.values())
        parts = ", ".join(
            f"{n:,} of {split} ({share(n / max(sizes[split], 1))})" for split, n in counts.items()
        )
        result.add(
            "duplicates", WORTH if total > MANY_REPEATS * sum(sizes.values()) else NOTE, total,
            f"{n_rows(total, 'repeats', 'repeat')} the text of another row of the same split, "
            f"word for word or nearly, counting more than once: {parts}.",
            f"drop them: {context.fix_flag}; tune keeps copies on one side when it cuts a split",
        )  # fmt: skip
    return result


def repeats(groups: dict[str, np.ndarray]) -> dict[str, int]:
    """Split → rows whose text, exactly or nearly, stands in an earlier row of it."""
    compared = {split: numbers[numbers >= 0] for split, numbers in groups.items()}
    return {split: len(rows) - len(np.unique(rows)) for split, rows in compared.items()}


def check_columns(context: Context) -> CheckResult:
    """Columns with nothing in them, and one that says which rows belong together."""
    columns = column_facts(context.source)
    groups = [column["column"] for column in columns if looks_like_group(column)]
    result = CheckResult(
        {
            "columns": columns,
            "roles": dict(context.source.roles),
            "group_columns": groups,
            "group": context.settings.group,
        },
        tables={"columns": pa.Table.from_pylist(columns)},
    )
    rows = len(context.source.table)
    for verdict, words in ODD_COLUMNS.items():
        names = [c["column"] for c in columns if c["verdict"] == verdict and not c["role"]]
        if names:
            result.add("column", NOTE, rows, f"{listed(names)}: {words}.",
                       "nothing to do; tune reads the text and the label alone")  # fmt: skip
    if groups and not context.settings.group:
        result.add(
            "group_column", NOTE, rows,
            f"The column “{shown(groups[0])}” looks as if it says which rows belong together.",
            f"keep them on one side of a split: --data.group {shlex.quote(groups[0])}")  # fmt: skip
    return result


def check_files(context: Context) -> CheckResult:
    """Files, how they were read, and the rows that could not be."""
    files, ledger = file_facts(context.source, context.settings), context.source.ledger
    schema = pa.schema({"file": pa.string(), "line": pa.int64(), "reason": pa.string(),
                        "detail": pa.string()})  # fmt: skip
    rows = [dict(zip(schema.names, row, strict=True)) for row in ledger.bad_rows]
    bad = pa.Table.from_pylist(rows, schema)
    result = CheckResult({"files": files, "bad_rows": len(bad)}, tables={"bad_rows": bad})
    rows = f"{counted(len(context.source.table))} of {context.data}"
    result.lines["read"] = "; ".join(ledger.columns) if context.source.roles else rows
    guesses = {note["file"]: note["message"] for note in ledger.notes
               if note["kind"] == "encoding" and note.get("loud")}  # fmt: skip
    for file in files:
        if guess := guesses.get(file["file"]):
            message, _, remedy = guess.partition("; if these letters are wrong, ")
            result.add("encoding", WORTH, file["rows"], f"{message}.", f"else {remedy}")
        elif file["encoding"] not in (None, "utf-8"):
            result.add(
                "encoding", NOTE, file["rows"],
                f"{file['file']} is not UTF-8 and was read as {file['encoding']}.",
                "if letters look wrong, name the encoding: --data.encoding NAME")  # fmt: skip
    for note in ledger.notes:
        if note["kind"] == "quotes":
            result.add("quotes", WORTH, 0, f"{note['message']}.", "look at the lines named")
    reasons: dict[str, list[str]] = {}
    for file, line, reason, _ in ledger.bad_rows:
        reasons.setdefault(reason, []).append(f"{file}:{line}")
    for reason, places in reasons.items():
        more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
        result.add(
            "bad_row", SEVERE, len(places),
            f"{n_rows(len(places), 'cannot be read', 'cannot be read')}: {reason} "
            f"({', '.join(places[:SHOWN_PLACES])}{more}).",
            f"mend them (all are in {context.out}/bad_rows.csv), write a copy without them: "
            f"{context.fix_flag}, or leave them out: --data.bad_rows skip")  # fmt: skip
    if len(bad):
        result.files["bad_rows.csv"] = lambda path: write_csv(bad, path)
    return result


def check_lengths(context: Context) -> CheckResult:
    """Lengths in characters, words and tokens, and what `max_length` cuts."""
    context.report("tokens")
    max_length, texts = context.max_length, context.source.texts
    tokens = tokenise(texts, context.tokenizer.backend_tokenizer, LIMIT).lengths
    units = {
        "characters": distribution(np.asarray(pc.utf8_length(texts), np.int64)),
        "words": distribution(np.asarray(pc.count_substring_regex(texts, r"\S+"), np.int64)),
        "tokens": distribution(tokens),
    }
    rows = cuts(tokens, max_length, context.base_limit)
    limit = sufficient_limit(rows)
    quantiles = [{"unit": unit, **{k: facts[k] for k in ("median", "p95", "p99", "max")}}
                 for unit, facts in units.items()]  # fmt: skip
    shares = ", ".join(f"{row['max_length']}: {row['row_share']:.1%}" for row in rows)
    facts = {"cuts": rows, "asked": max_length, "base_limit": context.base_limit, "enough": limit}
    result = CheckResult(
        {"lengths": units | facts},
        tables={"cuts": pa.Table.from_pylist(rows), "lengths": pa.Table.from_pylist(quantiles)},
        lines={"cut": f"share of the rows by max_length {shares}"},
    )
    row = next(row for row in rows if row["asked"])
    much, remedy = row["row_share"] > MUCH_CUT, "harmless unless the end of a text decides"
    if much and limit and limit > max_length:
        remedy = f"--task.max_length {limit} cuts at most 1 % of the rows"
    elif much:
        remedy = "shorten or split these texts, or take a base that reads more at once"
    if row["rows"]:
        result.add(
            "cut", WORTH if much else NOTE, row["rows"],
            f"max_length {max_length} cuts {counted(row['rows'])} ({row['row_share']:.1%}) and "
            f"{row['token_share']:.1%} of the tokens.",
            remedy)  # fmt: skip
    return result


def distribution(lengths: np.ndarray) -> dict[str, Any]:
    """Mean, quantiles and a histogram of lengths.

    The histogram has up to BINS bins of one width up to the 99th percentile, and one for what is
    longer: {"edges": [0, w, 2w, …], "counts": […], "over": rows}.
    """
    if not len(lengths):
        return {"rows": 0}
    marks = {"min": 0, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    values = np.percentile(lengths, list(marks.values()), method="higher").astype(int).tolist()
    quantiles = dict(zip(marks, values, strict=True))
    end = quantiles["p99"] + 1
    width = max(1, -(-end // BINS))
    bins = -(-end // width)
    inside = lengths[lengths < bins * width] // width
    histogram = {
        "edges": [width * i for i in range(bins + 1)],
        "counts": np.bincount(inside, minlength=bins).tolist(),
        "over": len(lengths) - len(inside),
    }
    mean = round(float(lengths.mean()), 1)
    return {"rows": len(lengths), "mean": mean, **quantiles, "histogram": histogram}


def cuts(
    lengths: np.ndarray, max_length: int, base_limit: int | None = None
) -> list[dict[str, Any]]:
    """What limits of 32 to 512 tokens and `max_length` would cut.

    `base_limit` is what the base can read at once; limits above it are left out. Each entry:
    {"max_length", "rows", "row_share", "tokens", "token_share", "asked"}.
    """
    total = max(int(lengths.sum()), 1)
    limits = {n for n in LIMITS if base_limit is None or n <= base_limit} | {max_length}
    rows: list[dict[str, Any]] = []
    for limit in sorted(limits):
        over = lengths[lengths > limit]
        lost = int((over - limit).sum())
        rows.append({"max_length": limit, "rows": len(over),
                     "row_share": len(over) / max(len(lengths), 1), "tokens": lost,
                     "token_share": lost / total, "asked": limit == max_length})  # fmt: skip
    return rows


def sufficient_limit(rows: Sequence[dict[str, Any]], share: float = 0.01) -> int | None:
    """The smallest limit of `cuts` that cuts at most `share` of the rows, or None."""
    return min((row["max_length"] for row in rows if row["row_share"] <= share), default=None)


def check_characters(context: Context) -> CheckResult:
    """Texts that are empty, next to empty, or hold characters that went wrong."""
    rows = odd_rows(context.source.texts)
    listed_rows = [(kind, row) for kind in rows for row in rows[kind][:LISTED].tolist()]
    table = context.source.listing(
        [row for _, row in listed_rows], kind=[kind for kind, _ in listed_rows]
    )
    counts = {kind: len(numbers) for kind, numbers in rows.items()}
    result = CheckResult({"texts": counts}, tables={"texts": table})
    for kind, (severity, words, remedy) in ODD_TEXTS.items():
        if n := counts[kind]:
            remedy = remedy.format(fix=context.fix_flag)
            result.add(kind, severity, n, f"{n_rows(n)} {words}", remedy)
    return result


def odd_rows(texts: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Kind of oddity → the rows that show it: `empty`; `near_empty`, with fewer than NEAR_EMPTY
    letters, digits or symbols such as emoji; and the kinds of ODD_SIGNS."""
    letters = np.asarray(pc.count_substring_regex(texts, r"[\p{L}\p{N}]|\p{So}"))
    ideographs = np.asarray(pc.match_substring_regex(texts, r"[\p{Han}\p{Hangul}\p{So}]"))
    empty = is_blank(texts)
    rows = {
        "empty": np.flatnonzero(empty),
        "near_empty": np.flatnonzero((letters < NEAR_EMPTY) & ~ideographs & ~empty),
    }
    for kind, pattern in ODD_SIGNS.items():
        rows[kind] = np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern)))
    return rows


def check_language(context: Context) -> CheckResult:
    """The languages of the texts, and the rows in another than most."""
    languages, index = context.languages
    majority, n = name_of(languages.majority), len(languages.rows)
    shares = {name_of(code): round(part, 5) for code, part in languages.shares.items()}
    surest = sorted(languages.rows, key=lambda row: -row[2])[: 10 * LISTED]
    listing = context.source.listing(
        index[[row for row, _, _ in surest]],
        language=[name_of(code) for _, code, _ in surest],
        confidence=[confidence for _, _, confidence in surest],
    )
    facts = {"majority": majority, "shares": shares, "other_rows": n}
    facts |= {"unsure": languages.unsure, "checked": len(index)}
    result = CheckResult({"languages": facts}, tables={"languages": listing})
    if majority:
        parts = ", ".join(f"{name} {part:.1%}" for name, part in list(shares.items())[:4])
        unsure = counted(languages.unsure, "text")
        result.lines["languages"] = f"{parts} ({unsure} too short to tell)"
    if n and next(iter(shares.values())) < SEVERAL:
        names = ", ".join(f"{name} {share(part)}" for name, part in list(shares.items())[:5])
        result.add(
            "languages", NOTE, n, f"The texts are in several languages: {names}.",
            "take a multilingual base: --base owner/name")  # fmt: skip
    elif n:
        result.add(
            "other_language", WORTH if n >= 2 else NOTE, n,
            f"{n_rows(n, 'is', 'are')} in another language than {majority} "
            f"({', '.join(list(shares)[1:6])}).",
            "drop or translate them, or take a multilingual base")  # fmt: skip
    return result


def check_pii(context: Context) -> CheckResult:
    """Personal data and keys by kind, and where, with the data themselves hidden."""
    context.report("personal data")
    hits = [
        (row, hit.kind, excerpt(value, hit))
        for row, value in enumerate(context.source.texts.to_pylist())
        for hit in find_pii(value)
    ]
    table = context.source.listing(
        [row for row, _, _ in hits],
        kind=[kind for _, kind, _ in hits],
        excerpt=[words for _, _, words in hits],
    ).drop_columns(["text"])
    kinds = dict(Counter(kind for _, kind in dict.fromkeys(h[:2] for h in hits)).most_common())
    rows = len({row for row, _, _ in hits})
    result = CheckResult(
        {"personal": {"rows": rows, "kinds": kinds}}, tables={"personal_data": table}
    )
    if keys := kinds.get("key", 0):
        result.add(
            "secret", SEVERE, keys,
            f"{n_rows(keys, 'holds', 'hold')} what looks like a key or a password.",
            "make it invalid where it is used, then remove it from the text")  # fmt: skip
    if others := {kind: n for kind, n in kinds.items() if kind != "key"}:
        n = max(others.values()) if keys else rows
        counts = ", ".join(f"{kind} in {count:,}" for kind, count in others.items())
        result.add(
            "personal_data", WORTH, n,
            f"{n_rows(n, 'holds', 'hold')} personal data ({counts}); a model can repeat what it "
            "was trained on.",
            "replace them by a word such as PHONE, or make sure that you may use them")  # fmt: skip
    return result
