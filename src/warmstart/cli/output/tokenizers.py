"""What `warmstart tokenizer` prints: pieces side by side, measures, and what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from warmstart.cli.output.tables import notes, plain, print_json, put
from warmstart.errors import typed
from warmstart.formatting import counted

UNKNOWN = "?"
SPACE = "␣"
MOST_WORDS = 20
FIGURES = {
    "fertility": ("tokens\na word", "{:.2f}"),
    "characters_per_token": ("chars\na token", "{:.2f}"),
    "unknown_rate": ("\nunknown", "{:.2%}"),
    "cut_rate": ("texts\ncut", "{:.1%}"),
    "cut_tokens": ("tokens\ncut", "{:.1%}"),
    "vocabulary_used": ("tokens\nused", "{:.1%}"),
    "tokens_per_second": ("million\ntokens/s", "{:.2f}"),
}


def as_json(found: Any) -> None:
    """For machines."""
    print_json(found)


def trained(found: Mapping[str, Any]) -> None:
    """A tokenizer that was trained, and what to type next."""
    print(
        f"read       {counted(found['texts'], 'text')}, {counted(found['characters'], 'character')}"
    )
    print(f"tokens     {found['vocab_size']:,}")
    print(f"proof      AutoTokenizer gives the same ids on {counted(found['proven_on'], 'text')}")
    print(f"written    {found['out']}")
    notes(found["notes"])
    print(f"\nNext:\n  warmstart tokenizer show 'some text' --tokenizers minilm,{found['out']}")
    print("      the same text under both")


def side_by_side(found: Sequence[Mapping[str, Any]]) -> None:
    """One column a tokenizer: piece, id, and the place in the text; as many as fit, then more."""
    console = Console(highlight=False)
    waiting = [_column(one) for one in found]
    while waiting:
        block, used = [], 1
        while waiting and (not block or used + _width(waiting[0]) <= console.width):
            block.append(waiting.pop(0))
            used += _width(block[-1])
        console.print(_block(block))
    for one in found:
        if one["lost"]:
            gone = "".join(dict.fromkeys(one["lost"]))
            console.print(escape(f"{one['tokenizer']} leaves out: {_visible(gone)}"))
    if any(one["unknown"] for one in found):
        console.print(f"{UNKNOWN} unknown: the tokenizer has no way to write what stood there")


def _column(one: Mapping[str, Any]) -> list[Text]:
    """The cells of one tokenizer, of equal width, under its name."""
    rows = [
        (_visible(p["piece"]).replace(" ", SPACE), str(p["id"]), _place(p)) for p in one["pieces"]
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    cells = [Text(one["tokenizer"], "bold"), Text(one["kind"], "dim")]
    cells.append(Text(f"{one['tokens']} of {one['vocabulary']:,}", "dim"))
    for piece, row in zip(one["pieces"], rows, strict=True):
        style = "bold red" if piece["unknown"] else "dim" if piece["special"] else ""
        mark = UNKNOWN if piece["unknown"] else " "
        text = f"{mark}{row[0]:<{widths[0]}} {row[1]:>{widths[1]}} {row[2]:>{widths[2]}}"
        cells.append(Text(text, style))
    return cells


def _width(cells: Sequence[Text]) -> int:
    return max(len(cell.plain) for cell in cells) + 3


def _block(columns: Sequence[list[Text]]) -> Table:
    table = Table(show_header=False)
    for _ in columns:
        table.add_column(no_wrap=True)
    for row in range(max(len(cells) for cells in columns)):
        table.add_row(*(cells[row] if row < len(cells) else "" for cells in columns),
                      end_section=row == 2)  # fmt: skip
    return table


def _place(piece: Mapping[str, Any]) -> str:
    return "" if piece["special"] and not piece["text"] else f"{piece['start']}-{piece['end']}"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def compared(rows: Sequence[Mapping[str, Any]]) -> None:
    """One table: a row for each group and tokenizer."""
    table = plain()
    groups = list(dict.fromkeys(row["group"] for row in rows))
    if len(groups) > 1:
        table.add_column("\ntexts", overflow="fold")
    table.add_column("\ntokenizer", overflow="fold")
    for title, _ in FIGURES.values():
        table.add_column(title, justify="right")
    for at, row in enumerate(rows):
        last = at + 1 == len(rows) or rows[at + 1]["group"] != row["group"]
        first = at == 0 or rows[at - 1]["group"] != row["group"]
        cells = [escape(_visible(row["group"])) if first else ""] if len(groups) > 1 else []
        cells.append(escape(row["tokenizer"]))
        for key, (_, form) in FIGURES.items():
            value = row[key]
            if key == "tokens_per_second":
                value /= 1e6
            cells.append("-" if value is None else form.format(value))
        table.add_row(*cells, end_section=last)
    put(table)
    if any(row["fertility"] is None for row in rows):
        print("- no words: these texts are not written with spaces between them")


def extended(found: Mapping[str, Any]) -> None:
    """The words that were added, with the pieces that they were."""
    table = plain()
    for title, side in (("word", "left"), ("in the corpus", "right"), ("was", "left")):
        table.add_column(title, justify=side)  # pyright: ignore[reportArgumentType]
    for row in found["words"][:MOST_WORDS]:
        count = f"{row['count']:,}" if row["count"] else ""
        table.add_row(escape(row["word"]), count, escape(" ".join(row["pieces"])))
    put(table)
    if len(found["words"]) > MOST_WORDS:
        print(f"and {len(found['words']) - MOST_WORDS:,} more")
    print(f"rows       {found['rows_before']:,} before, {found['rows']:,} now")
    print(f"proof      old texts have the same ids and outputs ({found['proof']['texts']} tried)")
    print(f"written    {found['out']}")
    notes(found["notes"])
    print(f"\nNext:\n  warmstart tune DATA --base {typed(found['out'])}")
    print("      the new rows learn from there")
