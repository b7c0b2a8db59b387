"""Checks of the texts and their table: lengths, characters, languages, personal data, files."""

from __future__ import annotations

import shlex
from collections import Counter

import numpy as np
import pyarrow as pa

from warmstart.data.profiling import text
from warmstart.data.profiling.columns import column_facts, file_facts, looks_like_group
from warmstart.data.profiling.language import find_languages, name_of
from warmstart.data.profiling.pii import excerpt, find_pii
from warmstart.data.tokens.dataset import tokenise
from warmstart.errors import shown
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted

MUCH_CUT = 0.01  # share of the rows
SEVERAL = 0.9  # share of the commonest language below which the data are of several
LANGUAGE_ROWS = 200_000
LISTED = 200  # rows of a kind that are kept with their text
LIMIT = 1 << 30  # tokens that no text has
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
    """Files, and how they were read."""
    files = file_facts(context.source, context.settings)
    result = CheckResult({"files": files})
    for file in files:
        if file["encoding"] not in (None, "utf-8"):
            result.add(
                "encoding", NOTE, file["rows"],
                f"{file['file']} is not UTF-8 and was read as {file['encoding']}.",
                "if letters look wrong, name the encoding: --data.encoding NAME")  # fmt: skip
    return result


def check_lengths(context: Context) -> CheckResult:
    """Lengths in characters, words and tokens, and what `max_length` cuts."""
    context.report("tokens")
    max_length = context.max_length
    tokens = tokenise(context.source.texts, context.backend, LIMIT).lengths
    units = {
        "characters": text.distribution(text.characters(context.source.texts)),
        "words": text.distribution(text.words(context.source.texts)),
        "tokens": text.distribution(tokens),
    }
    cuts = text.cuts(tokens, max_length, context.base_limit)
    limit = text.sufficient_limit(cuts)
    quantiles = [{"unit": unit, **{k: facts[k] for k in ("median", "p95", "p99", "max")}}
                 for unit, facts in units.items()]  # fmt: skip
    shares = ", ".join(f"{row['max_length']}: {row['row_share']:.1%}" for row in cuts)
    facts = {**units, "cuts": cuts, "asked": max_length, "base_limit": context.base_limit}
    result = CheckResult(
        {"lengths": {**facts, "enough": limit}},
        tables={"cuts": pa.Table.from_pylist(cuts), "lengths": pa.Table.from_pylist(quantiles)},
        lines={"cut": f"share of the rows by max_length {shares}"},
    )
    row = next(row for row in cuts if row["asked"])
    if row["rows"]:
        much = row["row_share"] > MUCH_CUT
        remedy = "harmless unless the end of a text decides"
        if much and limit and limit > max_length:
            remedy = f"--task.max_length {limit} cuts at most 1 % of the rows"
        elif much:
            remedy = "shorten or split these texts, or take a base that reads more at once"
        result.add(
            "cut", WORTH if much else NOTE, row["rows"],
            f"max_length {max_length} cuts {counted(row['rows'])} ({row['row_share']:.1%}) and "
            f"{row['token_share']:.1%} of the tokens.",
            remedy)  # fmt: skip
    return result


def check_characters(context: Context) -> CheckResult:
    """Texts that are empty, next to empty, or hold characters that went wrong."""
    rows = text.odd_rows(context.source.texts)
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


def check_language(context: Context) -> CheckResult:
    """The languages, of at most LANGUAGE_ROWS rows, and the rows in another than most."""
    texts, index = context.source.texts, np.arange(len(context.source.table))
    if len(index) > LANGUAGE_ROWS:
        rng = np.random.default_rng([context.seed, 0x1A46])
        index = np.sort(rng.choice(index, LANGUAGE_ROWS, replace=False))
        texts = texts.take(pa.array(index))
    languages = find_languages(texts.to_pylist(), context.progress)
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
