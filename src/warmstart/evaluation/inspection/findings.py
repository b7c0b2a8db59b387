"""What an inspection has to say, ranked: one sentence each, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from warmstart.errors import shown, typed
from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted

# How a finding is said, and what the findings of an inspection have in common.

SEVERE, WORTH, NOTE = "severe", "worth fixing", "note"

Facts = Mapping[str, Any]
Finding = dict[str, Any]


def one(kind: str, severity: str, rows: int, message: str, remedy: str) -> Finding:
    """One finding; `message` is a sentence, `remedy` what to do or type."""
    return {"kind": kind, "severity": severity, "message": message, "rows": rows, "remedy": remedy}


def command(facts: Facts, *flags: str) -> str:
    """`warmstart inspect DATA --fix …`, as it may be typed."""
    return " ".join(["warmstart inspect", shlex.quote(str(facts["data"])), *flags])


def fix_flag(facts: Facts) -> str:
    """`--fix NAME`, with a name to suggest."""
    return f"--fix {shlex.quote(facts['clean_name'])}"


def rows_that(n: int, singular: str = "has", plural: str = "have") -> str:
    """A number of rows with its verb: 1 row has, 3 rows have."""
    return counted(n, f"row {singular}", f"rows {plural}")


# Findings about balance, lengths, texts, languages, columns and files.

UNEVEN, STRONG = 3, 10  # largest class over smallest
MUCH_CUT = 0.01  # share of the rows
SEVERAL = 0.9  # share of the commonest language below which the data are of several


def balance(facts: Facts) -> Iterator[Finding]:
    found = facts["balance"]
    if found is None or found["ratio"] < UNEVEN:
        return
    yield one(
        "imbalance", WORTH if found["ratio"] >= STRONG else NOTE, found["rows"],
        f"{found['verdict']} {found['consequence']}",
        found["remedy"],
    )  # fmt: skip


def curve(facts: Facts) -> Iterator[Finding]:
    found = facts["learning_curve"]
    if not found.get("needs"):
        return
    for need in found["needs"][:3]:
        more = f"about {need['more']:,} more labels" if need["more"] else "more labels"
        yield one(
            "few_labels", NOTE, need["rows"],
            f"“{shown(need['label'], 40)}” with {counted(need['rows'])} is found in "
            f"{share(need['recall'])} of the cases by a quick model, and its curve still rises: "
            f"{more} would be worth {need['gain']} points of recall.",
            "label these first",
        )  # fmt: skip


def lengths(facts: Facts) -> Iterator[Finding]:
    found = facts["lengths"]
    asked = next(row for row in found["cuts"] if row["asked"])
    if asked["rows"]:
        better = found["enough"]
        wider = better is not None and better > asked["max_length"]
        remedy = (
            f"--task.max_length {better} cuts at most 1 % of the rows"
            if wider
            else "shorten or split these texts, or take a base that reads more at once"
        )
        much = asked["row_share"] > MUCH_CUT
        yield one(
            "cut", WORTH if much else NOTE, asked["rows"],
            f"max_length {asked['max_length']} cuts {counted(asked['rows'])}"
            f" ({asked['row_share']:.1%}) and {asked['token_share']:.1%} of the tokens.",
            remedy if much else "harmless unless the end of a text decides",
        )  # fmt: skip


def texts(facts: Facts) -> Iterator[Finding]:
    found = facts["texts"]
    said = {
        "empty": (WORTH, "{} no text; tune leaves them out.", "write a copy without them: "
                  + fix_flag(facts)),
        "near_empty": (NOTE, "{} fewer than three letters, which is hardly a text.",
                       "look at them; delete those that nobody could label"),
        "mojibake": (WORTH, "{} characters that went wrong, such as â€™ for an apostrophe.",
                     "export the file again as UTF-8, or name its encoding: --data.encoding NAME"),
        "html": (NOTE, "{} HTML left in, such as &amp; or <br>.",
                 "unescape the texts where later texts will not hold it"),
        "control": (NOTE, "{} control characters.", "remove them"),
        "invisible": (NOTE, "{} invisible characters.", "remove them"),
    }  # fmt: skip
    for kind, (severity, message, remedy) in said.items():
        if n := found[kind]:
            yield one(kind, severity, n, message.format(rows_that(n)), remedy)


def languages(facts: Facts) -> Iterator[Finding]:
    found = facts["languages"]
    n, majority = found["other_rows"], found["majority"]
    if not n:
        return
    shares = list(found["shares"].items())
    if shares[0][1] < SEVERAL:
        names = ", ".join(f"{name} {share(part)}" for name, part in shares[:5])
        yield one(
            "languages", NOTE, n, f"The texts are in several languages: {names}.",
            "take a multilingual base: --base owner/name",
        )  # fmt: skip
        return
    others = ", ".join(name for name, _ in shares[1:6])
    yield one(
        "other_language", WORTH if n >= 2 else NOTE, n,
        f"{rows_that(n, 'is', 'are')} in another language than {majority} ({others}).",
        "drop or translate them, or take a multilingual base",
    )  # fmt: skip


def columns(facts: Facts) -> Iterator[Finding]:
    odd = {"empty": "empty", "constant": "the same in every row", "not text": "not text"}
    for verdict, words in odd.items():
        names = [c["column"] for c in facts["columns"] if c["verdict"] == verdict and not c["role"]]
        if names:
            yield one("column", NOTE, facts["rows"], f"{listed(names)}: {words}.",
                       "nothing to do; tune reads the text and the label alone")  # fmt: skip
    if facts["group_columns"] and not facts["group"]:
        name = facts["group_columns"][0]
        yield one(
            "group_column", NOTE, facts["rows"],
            f"The column “{shown(name)}” looks as if it says which rows belong together.",
            f"keep them on one side of a split: --data.group {shlex.quote(name)}",
        )  # fmt: skip


def files(facts: Facts) -> Iterator[Finding]:
    for file in facts["files"]:
        if file["encoding"] not in (None, "utf-8"):
            yield one(
                "encoding", NOTE, file["rows"],
                f"{file['file']} is not UTF-8 and was read as {file['encoding']}.",
                "if letters look wrong, name the encoding: --data.encoding NAME",
            )  # fmt: skip


ORDER = {SEVERE: 0, WORTH: 1, NOTE: 2}
NO_CLASSES = 0.5  # labels a row above which they are free text
GIVES_AWAY, HELPS = 0.95, 0.6  # skill of a column alone
NOISY, SOUND = 0.1, 0.8  # share of suspicious labels; agreement from which they weigh heavily


def findings(facts: Facts) -> list[Finding]:
    """All findings, the gravest first: {"kind", "severity", "message", "rows", "remedy"}."""
    parts = (
        _labels, _leakage, _giveaways, _conflicts, _noise, _personal, _repeats, balance,
        curve, lengths, texts, languages, columns,
        files,
    )  # fmt: skip
    found = [finding for part in parts for finding in part(facts)]
    return sorted(found, key=lambda finding: ORDER[finding["severity"]])


def _labels(facts: Facts) -> Iterator[Finding]:
    found, rows = facts["classes"], facts["rows"]
    if found is None:
        yield one(
            "no_label", NOTE, rows,
            "No label column was recognised, so nothing is said about classes.",
            "name it: --data.columns.label COLUMN",
        )  # fmt: skip
        return
    if found["unlabelled"]:
        n = found["unlabelled"]
        yield one(
            "empty_label", WORTH, n, f"{rows_that(n)} no label; tune leaves them out.",
            f"fill them in, or write a copy without them: {fix_flag(facts)}",
        )  # fmt: skip
    if found["classes"] == 1:
        yield one(
            "one_class", SEVERE, rows,
            "Every row has the same label, so there is nothing to learn.",
            "add rows of another class, or name another column: --data.columns.label COLUMN",
        )  # fmt: skip
        return
    if rows >= 20 and found["classes"] > NO_CLASSES * rows:
        yield one(
            "free_text_label", SEVERE, rows,
            f"The label column has {found['classes']:,} different values in {rows:,} rows, so it "
            "looks like free text, not classes.",
            "name another column: --data.columns.label COLUMN",
        )  # fmt: skip
        return
    if groups := found["spellings"]:
        names = "; ".join(" and ".join(f"“{shown(n, 30)}”" for n in g) for g in groups[:3])
        yield one(
            "label_spelling", SEVERE, 0,
            f"{counted(len(groups), 'label is', 'labels are')} spelled in more than one way: "
            f"{names}; tune refuses them.",
            "merge them: --data.merge_labels true",
        )  # fmt: skip
    if unknown := found["unknown_in_train"]:
        n = sum(sum(found["counts"][name].values()) for name in unknown)
        yield one(
            "unknown_label", SEVERE, n,
            f"{counted(len(unknown), 'label')} of validation or test, but not of train: "
            f"{listed(unknown)}.",
            "add rows of them to train, or correct them",
        )  # fmt: skip
    if single := found["single"]:
        yield one(
            "single_row", SEVERE, len(single),
            f"One row alone has the label {listed(single)}; a class needs two to be both learned "
            "and tested.",
            "add rows, merge the class into another, or delete the row",
        )  # fmt: skip


def _leakage(facts: Facts) -> Iterator[Finding]:
    found = facts["duplicates"]
    leaked = {split: n for split, n in found["leaked"].items() if n}
    if leaked:
        said = " and ".join(
            f"{n:,} of the {facts['splits'][split]:,} {split} rows"
            f" ({share(n / max(facts['splits'][split], 1))})"
            for split, n in leaked.items()
        )
        yield one(
            "leakage", SEVERE, sum(leaked.values()),
            f"{said} also stand in train, word for word or nearly, so the score would flatter.",
            "tune leaves their copies out of train by itself; a copy of the data without them: "
            f"{fix_flag(facts)}",
        )  # fmt: skip
    if n := found.get("straddling", 0):
        yield one(
            "group_leakage", SEVERE, n,
            f"{counted(n, 'value')} of {facts['group']} {'stands' if n == 1 else 'stand'} on more "
            "than one side of the given splits.",
            "cut the splits anew: give train alone, with "
            f"--data.group {typed(facts['group'])} --split FOLDER",
        )  # fmt: skip


def _giveaways(facts: Facts) -> Iterator[Finding]:
    found = facts["giveaways"]
    for row in found["columns"]:
        if row["skill"] < HELPS:
            continue
        severity = SEVERE if row["skill"] >= GIVES_AWAY else NOTE
        yield one(
            "giveaway_column", severity, facts["rows"],
            f"The column {shown(row['column'])} by itself ({row['read_as']}) predicts the label of "
            f"{share(row['accuracy'])} of held-out rows, where always saying the commonest label "
            f"gets {share(row['commonest'])}.",
            "tune never reads it; keep it out of the text, and ask how it came to be",
        )  # fmt: skip
    if words := found["words"]:
        word = words[0]
        where = "begins" if word["first"] else "holds"
        n = len(words) - 1
        also = f" ({counted(n, 'more word does', 'more words do')} the same)" if n else ""
        yield one(
            "giveaway_word", SEVERE, word["rows"],
            f"The word “{shown(word['word'], 40)}” {where} {share(word['recall'])} of the texts "
            f"labelled “{shown(word['label'], 40)}” and next to no other{also}, so a model need "
            "learn nothing else.",
            "if it was put there with the label, remove it from the texts",
        )  # fmt: skip
    if found["sorted_by_label"]:
        yield one(
            "sorted", NOTE, facts["rows"], "The rows stand in order of their labels.",
            "tune shuffles by itself; other tools may cut a test of one class",
        )  # fmt: skip


def _conflicts(facts: Facts) -> Iterator[Finding]:
    if n := facts["duplicates"]["conflicts"]:
        yield one(
            "conflict", SEVERE if n > 0.01 * facts["rows"] else WORTH, n,
            f"{rows_that(n, 'repeats', 'repeat')} the text of another under a different label; at "
            "most one of the two is right.",
            "decide them by hand (duplicates.csv, conflict = true); a copy that keeps a clear "
            f"majority only: {fix_flag(facts)}",
        )  # fmt: skip


def _noise(facts: Facts) -> Iterator[Finding]:
    found = facts["noise"]
    if found.get("suspicious"):
        n, part = found["suspicious"], found["suspicious"] / max(found["checked"], 1)
        yield one(
            "label_noise", SEVERE if part > NOISY and found["accuracy"] > SOUND else WORTH, n,
            f"{rows_that(n)} a label that does not go with the text ({part:.1%}), in the eyes of a "
            f"model that had not seen them; it agrees with {share(found['accuracy'])} of all.",
            f"read {facts['out']}/suspicious.csv from the top, fill its column use, and give it "
            f"back: --data.corrections {typed(facts['out'] + '/suspicious.csv')}",
        )  # fmt: skip


def _personal(facts: Facts) -> Iterator[Finding]:
    found = facts["personal"]
    keys = found["kinds"].get("key", 0)
    if keys:
        yield one(
            "secret", SEVERE, keys,
            f"{rows_that(keys, 'holds', 'hold')} what looks like a key or a password.",
            "make it invalid where it is used, then remove it from the text",
        )  # fmt: skip
    others = {kind: n for kind, n in found["kinds"].items() if kind != "key"}
    if others:
        n = found["rows"] if not keys else max(others.values())
        said = ", ".join(f"{kind} in {count:,}" for kind, count in others.items())
        yield one(
            "personal_data", WORTH, n,
            f"{rows_that(n, 'holds', 'hold')} personal data ({said}); a model can repeat what it "
            "was trained on.",
            "replace them by a word such as PHONE, or make sure that you may use them",
        )  # fmt: skip


def _repeats(facts: Facts) -> Iterator[Finding]:
    repeats = {split: n for split, n in facts["duplicates"]["repeats"].items() if n}
    if repeats:
        said = ", ".join(
            f"{n:,} of {split} ({share(n / max(facts['splits'][split], 1))})"
            for split, n in repeats.items()
        )
        total = sum(repeats.values())
        yield one(
            "duplicates", WORTH if total > 0.005 * facts["rows"] else NOTE, total,
            f"{rows_that(total, 'repeats', 'repeat')} the text of another row of the same split, "
            f"word for word or nearly, counting more than once: {said}.",
            f"drop them: {fix_flag(facts)}; tune keeps copies on one side when it cuts a split",
        )  # fmt: skip
