"""Findings about balance, lengths, texts, languages, columns and files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from warmstart.counting import counted
from warmstart.errors import shown
from warmstart.evaluate.inspection_words import (
    NOTE,
    WORTH,
    Facts,
    Finding,
    fix_flag,
    one,
    rows_that,
)
from warmstart.evaluate.words import listed, share

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
