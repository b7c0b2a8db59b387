"""What `warmstart tokenizer` prints: pieces side by side, measures, and what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from warmstart.cli.output.tables import notes, plain, print_next, put
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


def trained(result: Mapping[str, Any]) -> None:
    """A tokenizer that was trained, and what to type next."""
    texts, characters = counted(result["texts"], "text"), counted(result["characters"], "character")
    print(f"read       {texts}, {characters}")
    print(f"tokens     {result['vocab_size']:,}")
    print(f"proof      AutoTokenizer gives the same ids on {counted(result['proven_on'], 'text')}")
    print(f"written    {result['out']}")
    notes(result["notes"])
    command = f"warmstart tokenizer show 'some text' --tokenizers minilm,{result['out']}"
    print_next([(command, "the same text under both")])


def side_by_side(looks: Sequence[Mapping[str, Any]]) -> None:
    """One column a tokenizer: piece, id, and the place in the text; as many as fit, then more."""
    console = Console(highlight=False)
    waiting = [_column(look) for look in looks]
    while waiting:
        block, used = [], 1
        while waiting:
            used += max(len(cell.plain) for cell in waiting[0]) + 3
            if block and used > console.width:
                break
            block.append(waiting.pop(0))
        table = Table(*[""] * len(block), show_header=False)
        for row in range(max(map(len, block))):
            cells = [column[row] if row < len(column) else "" for column in block]
            table.add_row(*cells, end_section=row == 2)
        for column in table.columns:
            column.no_wrap = True
        console.print(table)
    for look in looks:
        if look["lost"]:
            gone = "".join(dict.fromkeys(look["lost"]))
            console.print(escape(f"{look['tokenizer']} leaves out: {_visible(gone)}"))
    if any(look["unknown"] for look in looks):
        console.print(f"{UNKNOWN} unknown: the tokenizer has no way to write what stood there")


def _column(look: Mapping[str, Any]) -> list[Text]:
    """The cells of one tokenizer, of equal width, under its name."""
    rows = [
        (
            _visible(p["piece"]).replace(" ", SPACE),
            str(p["id"]),
            "" if p["special"] and not p["text"] else f"{p['start']}-{p['end']}",
        )
        for p in look["pieces"]
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    cells = [Text(look["tokenizer"], "bold"), Text(look["kind"], "dim")]
    cells.append(Text(f"{look['tokens']} of {look['vocabulary']:,}", "dim"))
    for piece, row in zip(look["pieces"], rows, strict=True):
        style = "bold red" if piece["unknown"] else "dim" if piece["special"] else ""
        mark = UNKNOWN if piece["unknown"] else " "
        text = f"{mark}{row[0]:<{widths[0]}} {row[1]:>{widths[1]}} {row[2]:>{widths[2]}}"
        cells.append(Text(text, style))
    return cells


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


def extended(result: Mapping[str, Any]) -> None:
    """The words that were added, with the pieces that they were."""
    table = plain()
    for title, side in (("word", "left"), ("in the corpus", "right"), ("was", "left")):
        table.add_column(title, justify=side)  # pyright: ignore[reportArgumentType]
    for row in result["words"][:MOST_WORDS]:
        count = f"{row['count']:,}" if row["count"] else ""
        table.add_row(escape(row["word"]), count, escape(" ".join(row["pieces"])))
    put(table)
    if len(result["words"]) > MOST_WORDS:
        print(f"and {len(result['words']) - MOST_WORDS:,} more")
    print(f"rows       {result['rows_before']:,} before, {result['rows']:,} now")
    print(f"proof      old texts have the same ids and outputs ({result['proof']['texts']} tried)")
    print(f"written    {result['out']}")
    notes(result["notes"])
    base = typed(result["out"])
    print_next([(f"warmstart tune DATA --base {base}", "the new rows learn from there")])


PRINTERS: dict[str, Callable[[Any], None]] = {
    "train": trained,
    "show": side_by_side,
    "compare": compared,
    "extend": extended,
}
"""Sub-verb → what prints its result."""
