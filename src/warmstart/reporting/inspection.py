"""`report.html` of an inspection: the look of a run's report, complete in itself, loads nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup, escape

from warmstart.files import write_text
from warmstart.formatting import counted
from warmstart.reporting import charts
from warmstart.reporting.page import page

# The facts of an inspection as its page wants them: charts drawn, pairs compared, lists cut.

PAIRS, CONFLICTS, ROWS = 40, 40, 60
LONGEST = 600  # characters of one side of a pair
TAGS = {"severe": "bad", "worth fixing": "watch", "note": "info"}
KINDS = {"exact": "equal", "normalised": "equal but for case", "near": "nearly equal"}
TEXTS = {
    "empty": "no text",
    "near_empty": "fewer than three letters",
    "html": "HTML left in",
    "mojibake": "characters that went wrong",
    "control": "control characters",
    "invisible": "invisible characters",
}
Row = dict[str, Any]


def inspection_view(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Every name that the template uses."""
    pairs = tables["duplicates"]
    conflicts = [p for p in pairs.to_pylist() if p["conflict"]] if len(pairs) else []
    names = short_names([file["file"] for file in summary["files"]])
    return {
        "s": summary,
        "title": f"A look at {Path(summary['data']).name}",
        "short": lambda row: {**row, "file": names.get(row["file"], row["file"])},
        "coded": coded,
        "created": summary.get("created") or "",
        "verdict": verdict(summary),
        "findings": [{**one, "tag": TAGS[one["severity"]]} for one in summary["findings"]],
        "classes": _classes(summary),
        "histograms": _histograms(summary["lengths"]),
        "kinds": {KINDS[k]: n for k in KINDS if (n := summary["duplicates"]["by_kind"].get(k))},
        "pairs": [_pair(pair) for pair in _telling(pairs)],
        "conflicts": [_pair(pair) for pair in conflicts[:CONFLICTS]],
        "n_conflicts": len(conflicts),
        "suspicious": _top(tables["suspicious"]),
        "languages": _top(tables["languages"]),
        "personal": _top(tables["personal_data"]),
        "texts": [(TEXTS[k], n) for k, n in summary["texts"].items() if n],
        "odd": _top(tables["texts"]),
        "odd_words": TEXTS,
        "curve": _curve(summary["learning_curve"]),
        "recalls": [
            {**one, "last": one["recall"][-1]}
            for one in summary["learning_curve"].get("classes", [])
        ],
    }


def verdict(summary: Mapping[str, Any]) -> str:
    """The whole in one sentence: rows, classes, how many findings of each severity."""
    counts = dict.fromkeys(TAGS, 0)
    for one in summary["findings"]:
        counts[one["severity"]] += 1
    said = [f"{n} {name if name != 'note' else 'notes' if n > 1 else 'note'}"
            for name, n in counts.items() if n]  # fmt: skip
    classes = summary["classes"]
    kinds = f" in {counted(classes['classes'], 'class', 'classes')}" if classes else ""
    return f"{counted(summary['rows'])}{kinds}; findings: {', '.join(said) or 'none'}."


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
    left, right = (str(pair[f"{side}_text"] or "")[:LONGEST] for side in ("left", "right"))
    one, other = differing(left, right)
    sides = []
    for name, pieces in (("left", one), ("right", other)):
        side: Row = {"split": pair[f"{name}_split"], "label": pair.get(f"{name}_label")}
        side |= {"file": pair[f"{name}_file"], "line": pair[f"{name}_line"], "pieces": pieces}
        sides.append(side)
    kind = KINDS.get(pair["kind"], pair["kind"])
    return {"sides": sides, "kind": kind, "similarity": pair["similarity"],
            "conflict": pair["conflict"], "same": one == other}  # fmt: skip


def _telling(pairs: pa.Table) -> list[Row]:
    """The pairs to read first: those across splits, then the least alike; a few of each kind."""
    rows = [row for row in pairs.to_pylist() if not row["conflict"]] if len(pairs) else []
    rows.sort(key=lambda r: (r["left_split"] == r["right_split"], r["similarity"]))
    by_kind: dict[Any, list[Row]] = {}
    for row in rows:
        by_kind.setdefault((row["left_split"] != row["right_split"], row["kind"]), []).append(row)
    each = PAIRS // max(len(by_kind), 1)
    return [row for some in by_kind.values() for row in some[:each]]


def _classes(summary: Mapping[str, Any]) -> list[Row]:
    found = summary["classes"]
    if not found:
        return []
    splits = list(summary["splits"])
    most = max((sum(own.values()) for own in found["counts"].values()), default=1)
    return [
        {"label": name, "rows": [own.get(split, 0) for split in splits],
         "total": sum(own.values()), "bar": charts.share_bar(sum(own.values()) / max(most, 1))}
        for name, own in found["counts"].items()
    ]  # fmt: skip


def _histograms(lengths: Mapping[str, Any]) -> list[Any]:
    found = []
    for unit in ("tokens", "words", "characters"):
        one = lengths[unit]
        if not one["rows"]:
            continue
        drawn = one["histogram"]
        mark = lengths["asked"] if unit == "tokens" else None
        title = f"{unit.capitalize()} (median {one['median']:,}, longest {one['max']:,})"
        found.append(charts.histogram(title, drawn["edges"], drawn["counts"], drawn["over"], mark))
    return found


def _curve(curve: Mapping[str, Any]) -> Any:
    """Macro-F1 by the number of labelled rows, or None where it was not measured."""
    sizes = curve.get("sizes") or []
    if len(sizes) < 2:
        return None
    series = {"quick model": [one["value"] for one in curve["macro_f1"]]}
    return charts.line_chart("Macro-F1 of a quick model", sizes, series, "labelled rows")


def _top(table: pa.Table) -> list[Row]:
    return table.slice(0, ROWS).to_pylist()


def short_names(files: list[str]) -> dict[str, str]:
    """Path → name, where no two files have the same name."""
    names = [Path(file).name for file in files]
    return {f: n if names.count(n) == 1 else f for f, n in zip(files, names, strict=True)}


def coded(remedy: str) -> Markup:
    """A remedy with its flags and its command as code; escaped."""
    parts = re.split(r"(warmstart \w+ .*$|--[\w.]+(?: [\w/.-]*[\w/])?)", remedy)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part)
        for at, part in enumerate(parts)
    )


def write_inspection(
    path: Path, summary: Mapping[str, Any], tables: Mapping[str, pa.Table]
) -> None:
    """Write the page of an inspection to `path`, whole or not at all."""
    write_text(path, render_inspection(summary, tables))


def render_inspection(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The page as HTML text. Texts in `tables` are shown as they are, escaped."""
    return page("inspect.html.j2", inspection_view(summary, tables))
