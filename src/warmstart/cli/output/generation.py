"""Texts that models wrote, on the terminal: as they come, side by side, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from warmstart.cli.output.tables import notes as show_notes
from warmstart.cli.output.tables import plain, print_json, print_next, put, tell
from warmstart.errors import shown, typed
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.pipelines.writing.generate import Column, Written
    from warmstart.pipelines.writing.prefer import Judgements

NOTHING = "(nothing)"
ENDS = {"stop": "ended by itself", "length": "cut at the limit", "cancelled": "broken off"}


class Texts:
    """Prints texts while they are written (`stream`), or when they all are there."""

    def __init__(self, *, stream: bool, as_json: bool, several: bool) -> None:
        self._several = several
        self._streams, self._as_json = stream and not as_json, as_json
        self._now = (0, 0)
        self._waiting: dict[int, list[Any]] = {}
        self._column: Any = None

    def token(self, column: Column, prompt: Any, token: Any) -> None:
        """A token of any of the texts: those of the first unfinished text are printed at once, and
        of the others when it is their turn."""
        if not self._streams:
            return
        if column is not self._column:
            self._column, self._now, self._waiting = column, (0, 0), {}
        self._waiting.setdefault(token.row, []).append((prompt, token))
        row, done = self._now
        while row in self._waiting:
            tokens = self._waiting[row]
            for prompt_of, written in tokens[done:]:
                if done == 0:
                    self._head(column, prompt_of, row)
                sys.stdout.write(written.text)
                done += 1
            if tokens[-1][1].finish_reason is None:
                break
            sys.stdout.write("\n")
            del self._waiting[row]
            row, done = row + 1, 0
        self._now = row, done
        sys.stdout.flush()

    def all(self, texts: Sequence[Written], notes: Sequence[str], out: Any) -> None:
        """Print what was not printed yet, then what is worth knowing on stderr."""
        from warmstart.pipelines.writing.generate import summary

        if self._as_json:
            print_json([written.to_row() for written in texts])
        elif not self._streams:
            _print(texts)
        if out is not None:
            tell(f"{counted(len(texts), 'text')} written: {out}")
        show_notes([*notes, *summary(texts)])

    def _head(self, column: Column, prompt: Any, row: int) -> None:
        if not (self._several or column.title or column.sampling.num_return_sequences > 1):
            return
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        title = f" ({column.title})" if column.title else ""
        number = row // column.sampling.num_return_sequences + 1
        sys.stdout.write(f"--- {number}: {shown(text, 70)}{title}\n")


def _print(texts: Sequence[Written]) -> None:
    """One text as it is; several as a table: a row for each prompt, a column for each setting."""
    if len(texts) == 1:
        print(texts[0].text)
        return
    columns = list(dict.fromkeys(written.column for written in texts))
    several = columns[0].sampling.num_return_sequences > 1
    table = plain(None, "prompt", *(escape(column.title or "text") for column in columns))
    for column in table.columns[1:]:
        column.overflow = "fold"
    cells: dict[tuple[int, int], dict[Column, Written]] = {}
    for written in texts:
        cells.setdefault((written.prompt, written.number), {})[written.column] = written
    for (_, number), row in cells.items():
        first = next(iter(row.values()))
        name = shown(first.question, 60) + (f" [{number + 1}]" if several else "")
        table.add_row(
            escape(name), *(_cell(row[column]) if column in row else "" for column in columns)
        )
        table.add_section()
    put(table)


def _cell(written: Written) -> str:
    """A text, its length and why it ended."""
    completion = written.completion
    end = ENDS[completion.finish_reason]
    facts = f"({counted(len(completion.ids), 'token')}, {end})"
    return f"{escape(written.text.strip() or NOTHING)}\n{facts}"


def judged(result: Judgements, *, as_json: bool) -> None:
    """How often each model's answer was chosen, and how far the annotators agree."""
    if as_json:
        print_json(asdict(result))
        return
    print(f"{counted(result.added, 'judgement')} added, {result.total:,} in {result.out}")
    for model, wins in sorted(result.wins.items(), key=lambda pair: -pair[1]):
        print(f"  {model}: chosen {wins:,} of {result.total:,} times")
    if result.same:
        print(f"{counted(result.same, 'prompt')} left out: both answers were the same")
    if result.agreement is not None:
        print(
            f"agreement of {counted(result.annotators, 'annotator')} on "
            f"{counted(result.shared, 'pair')}: Krippendorff's alpha {result.agreement:.2f} "
            "(1: all agree, 0: as by chance)"
        )
    elif result.annotators > 1:
        print(f"{counted(result.shared, 'pair')} judged by several: too few to say if they agree")
    if result.total:
        print_next([(f"warmstart align {typed(result.out)} --base RUN --objective dpo",
                     "learn from them")])  # fmt: skip
