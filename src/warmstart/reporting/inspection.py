"""`report.html` of an inspection: the look of a run's report, complete in itself, loads nothing."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup, escape

from warmstart.evaluation.inspection.texts import ODD_TEXTS
from warmstart.formatting import counted
from warmstart.reporting import charts
from warmstart.reporting.page import page

PAIRS, CONFLICTS, ROWS = 40, 40, 60
LONGEST = 600  # characters of one side of a pair
TAGS = {"severe": "bad", "worth fixing": "watch", "note": "info"}
KINDS = {"exact": "equal", "normalised": "equal but for case", "near": "nearly equal"}
Row = dict[str, Any]


def render_inspection(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The page as HTML text. Texts in `tables` are shown as they are, escaped."""
    pairs = tables["duplicates"].to_pylist()
    conflicts = [pair for pair in pairs if pair["conflict"]]
    names = short_names([file["file"] for file in summary["files"]])
    facts = {
        "s": summary,
        "t": {name: table.slice(0, ROWS).to_pylist() for name, table in tables.items()},
        "title": f"A look at {Path(summary['data']).name}",
        "short": lambda row: {**row, "file": names.get(row["file"], row["file"])},
        "coded": coded,
        "charts": charts,
        "created": summary.get("created") or "",
        "verdict": verdict(summary),
        "tags": TAGS,
        "kinds": KINDS,
        "odd_words": {
            kind: re.split("[;,.]", words)[0] for kind, (_, words, _) in ODD_TEXTS.items()
        },
        "pairs": [_pair(pair) for pair in _pairs_to_show(pairs)],
        "conflicts": [_pair(pair) for pair in conflicts[:CONFLICTS]],
        "n_conflicts": len(conflicts),
    }
    return page("inspect.html.j2", facts)


def verdict(summary: Mapping[str, Any]) -> str:
    """The whole in one sentence: rows, classes, how many findings of each severity."""
    counts = Counter(finding["severity"] for finding in summary["findings"])
    parts = [f"{n} {'notes' if severity == 'note' and n > 1 else severity}"
             for severity in TAGS if (n := counts[severity])]  # fmt: skip
    classes = summary["classes"]
    kinds = f" in {counted(classes['classes'], 'class', 'classes')}" if classes else ""
    return f"{counted(summary['rows'])}{kinds}; findings: {', '.join(parts) or 'none'}."


def differing(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts as (piece, whether the other text lacks it); the pieces make up the text."""
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (left, right))
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for side, piece in zip(sides, ("".join(a[a0:a1]), "".join(b[b0:b1])), strict=True):
            if piece:
                side.append((piece, tag != "equal"))
    return sides


def _pair(pair: Mapping[str, Any]) -> Row:
    texts = [str(pair[f"{side}_text"] or "")[:LONGEST] for side in ("left", "right")]
    pieces = differing(*texts)
    sides = [
        {**{name: pair[f"{side}_{name}"] for name in ("split", "label", "file", "line")},
         "pieces": parts}
        for side, parts in zip(("left", "right"), pieces, strict=True)
    ]  # fmt: skip
    return {"sides": sides, "kind": KINDS[pair["kind"]], "similarity": pair["similarity"],
            "same": pieces[0] == pieces[1]}  # fmt: skip


def _pairs_to_show(pairs: list[Row]) -> list[Row]:
    """The pairs to read first: those across splits, then the least alike; a few of each kind."""
    by_kind: dict[Any, list[Row]] = {}
    for pair in sorted(pairs, key=lambda p: (p["left_split"] == p["right_split"], p["similarity"])):
        if not pair["conflict"]:
            kind = (pair["left_split"] != pair["right_split"], pair["kind"])
            by_kind.setdefault(kind, []).append(pair)
    most = PAIRS // max(len(by_kind), 1)
    return [pair for kind in by_kind.values() for pair in kind[:most]]


def short_names(files: list[str]) -> dict[str, str]:
    """Path → name, where no two files have the same name."""
    names = [Path(file).name for file in files]
    return {f: n if names.count(n) == 1 else f for f, n in zip(files, names, strict=True)}


def coded(remedy: str) -> Markup:
    """A remedy with its flags and its command as code; escaped."""
    parts = re.split(r"(warmstart \w+ .*$|--[\w.]+(?: [\w/.-]*[\w/])?)", remedy)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )
