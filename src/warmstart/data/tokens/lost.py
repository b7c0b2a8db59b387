"""What texts lose on their way to token ids: the ends of long ones, words that no token stands for.

In training the ledger hears of it; who asks a saved model is told in a few notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.ledger import Ledger, place
from warmstart.data.splitting import Splits
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import DataError, shown
from warmstart.formatting import counted

if TYPE_CHECKING:
    import pyarrow as pa

MANY_CUT, MANY_UNKNOWN = 0.05, 0.01
"""Shares of texts, of tokens, from which they are told on the screen."""
MOST_WORDS, SHOWN_WORDS = 20, 3


class Cut:
    """Tells the ledger about texts that are too long, and rows that have no token ids at all."""

    def __init__(self, table: pa.Table, ledger: Ledger) -> None:
        self.table, self.ledger, self.tokens, self.rows = table, ledger, 0, 0
        self.reasons: dict[int, str] = {}

    def __call__(self, row: int, tokens: int) -> None:
        self.tokens, self.rows = self.tokens + tokens, self.rows + 1
        file, line = self.table["_file"][row].as_py(), self.table["_line"][row].as_py()
        self.ledger.cut(file, line, tokens)

    def drop(self, row: int, reason: str) -> None:
        """A row cannot be used; what stands for it among the token ids is to be left out."""
        self.reasons[row] = reason

    def left(
        self, split: str, table: pa.Table, store: TokenizedDataset
    ) -> tuple[pa.Table, TokenizedDataset]:
        """Rows and token ids without those that cannot be used, which are lost to the split."""
        if not self.reasons:
            return table, store
        for row, reason in self.reasons.items():
            file, line = table["_file"][row].as_py(), table["_line"][row].as_py()
            self.ledger.drop(file, line, reason, split=split)
        kept = np.setdiff1d(np.arange(len(table)), list(self.reasons))
        if not len(kept):
            raise self.ledger.nothing_left(table["_file"][0].as_py())
        return table.take(kept), store.taken(kept)

    def tell(self, split: str, longest: int) -> None:
        """Note the share of the texts that were cut."""
        if self.rows:
            share = self.rows / max(len(self.table), 1)
            self.ledger.note(
                "cut",
                f"{share:.1%} of the texts of {split} have more than {longest} tokens and are cut "
                "(task.max_length)",
                loud=share >= MANY_CUT,
                rows=self.rows,
            )


def note_unknown(
    split: str,
    table: pa.Table,
    store: TokenizedDataset,
    tokenizer: Any,
    ledger: Ledger,
    *,
    as_text: Callable[[pa.Table], pa.ChunkedArray],
    writes: bool,
) -> None:
    """Note the share of tokens that the tokenizer of the base does not know, in texts and in the
    targets that are to be written: all of them are one token to the model.

    `as_text` gives the texts of the table; `writes`: whether targets are written.
    """
    unknown = unknown_token(tokenizer)
    if unknown is None:
        return
    if len(rows := _rows_with(unknown, store)):
        count = int((store.ids == unknown).sum())
        rows, share = rows[rows < len(table)], count / len(store.ids)
        words = _unknown_words(as_text(table).take(rows[:MOST_WORDS]).to_pylist(), tokenizer)
        remedy = (
            "; the model cannot tell them apart: take a base for this language, or add to its "
            "vocabulary (warmstart tokenizer extend)"
        )
        few = share < MANY_UNKNOWN  # of which nothing need be done
        ledger.note(
            "unknown",
            f"{counted(count, 'token') if few else f'{share:.1%} of the tokens'} of {split} "
            f"are unknown to the base's tokenizer{words}{'' if few else remedy}",
            loud=not few,
            tokens=count,
            share=share,
        )
    if store.answers is None or not writes or "target" not in table.column_names:
        return
    if len(rows := _rows_with(unknown, store.answers)):
        words = _unknown_words(table["target"].take(rows[:MOST_WORDS]).to_pylist(), tokenizer)
        ledger.note(
            "unknown",
            f"{len(rows):,} of {counted(len(table), 'target')} of {split} hold what the tokenizer "
            f"of the base cannot write{words}; such an answer can never be right: take another "
            "base, or change these signs in the targets",
            loud=True,
            rows=len(rows),
        )


def check_known(split: str, table: pa.Table, store: TokenizedDataset, tokenizer: Any) -> None:
    """Raise `DataError` where the tokenizer knows no word at all of the documents of a split."""
    special = np.array(tokenizer.all_special_ids)
    if len(store.ids) and np.isin(store.ids, special).all():
        words = _unknown_words(table["text"].slice(0, MOST_WORDS).to_pylist(), tokenizer)
        raise DataError(
            f"the tokenizer of the base knows no word of the documents of {split}{words}: nothing "
            "can be learned from them; take a base for this language, make one of your own "
            "(--architecture), or add to its vocabulary (warmstart tokenizer extend)"
        )


def unknown_token(tokenizer: Any) -> int | None:
    """The token that stands for what is not known; None where there is none for this alone, or
    every sign is known: tokenizers of bytes often call the end of a text so (SmolLM2's does)."""
    token = tokenizer.unk_token_id
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    never = type(model).__name__ == "BPE" and model.unk_token is None
    return None if never or token in (tokenizer.eos_token_id, tokenizer.pad_token_id) else token


def _rows_with(token: int, store: TokenizedDataset) -> np.ndarray:
    """The numbers of the rows that have this token."""
    places = np.flatnonzero(store.ids == token)
    return np.unique(np.searchsorted(store.offsets, places, "right") - 1)


def _unknown_words(texts: Iterable[str | None], tokenizer: Any) -> str:
    """` (such as “…”)`: the first words of these texts that the tokenizer does not know."""
    words = dict.fromkeys(word for text in texts for word in (text or "").split())
    strange: list[str] = []
    for word in words:
        if len(strange) == SHOWN_WORDS:
            break
        if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids:
            strange.append(f"“{shown(word, 30)}”")
    return f" (such as {', '.join(strange)})" if strange else ""


class TextNotes:
    """What is worth telling about the texts that a saved model is asked: those that are empty,
    those that were cut, and the tokens that its tokenizer does not know.

    Rows are called by file and line where they come from a table, which is set when it is read.
    """

    def __init__(self, table: pa.Table | None = None) -> None:
        self.table = table
        self.counts: dict[str, tuple[int, int]] = {}
        """What → how many texts, and the number of the first."""
        self.tokens, self.unknown, self.words = 0, 0, ""

    def set_table(self, table: pa.Table) -> None:
        self.table = table

    def see(self, texts: list[str | None], start: int) -> list[str]:
        """Count the empty ones of some texts, the first of which is number `start`."""
        for number, text in enumerate(texts, start):
            if not (text or "").strip():
                self._count("empty", number)
        return [text or "" for text in texts]

    def see_cut(self, number: int, tokens: int) -> None:
        self._count("cut", number)

    def see_unknown(
        self, store: TokenizedDataset, tokenizer: Any, texts: Callable[[], Sequence[str | None]]
    ) -> None:
        """Count the tokens of some texts, and those of them that are unknown; `texts` gives them
        where such a word is looked for."""
        self.tokens += len(store.ids)
        token = unknown_token(tokenizer)
        if token is None or not len(rows := _rows_with(token, store)):
            return
        self.unknown += int((store.ids == token).sum())
        if not self.words:
            read = texts()
            few = [read[row] for row in rows[:MOST_WORDS] if row < len(read)]
            self.words = _unknown_words(few, tokenizer)

    def _count(self, what: str, number: int) -> None:
        count, first = self.counts.get(what, (0, number))
        self.counts[what] = count + 1, first

    def add_to(self, notes: list[str] | None, longest: int, when_cut: str) -> None:
        """Append them in words; `when_cut` is what cutting to the `longest` means for the task."""
        for what, words in (
            ("empty", "no text: a label there means nothing"),
            ("cut", f"more than {longest} tokens: {when_cut}"),
        ):
            count, first = self.counts.get(what, (0, 0))
            if count and notes is not None:
                row = f"text {first + 1}" if self.table is None else place(self.table, first)
                notes.append(f"{counted(count, 'text has', 'texts have')} {words} (first: {row})")
        if self.unknown and notes is not None:
            share = self.unknown / self.tokens
            many = f"{share:.1%} of the tokens"
            notes.append(
                f"{many if share >= MANY_UNKNOWN else counted(self.unknown, 'token')} of these "
                f"texts are unknown to the model's tokenizer{self.words}; it cannot tell them apart"
            )


class _Losses:
    """Tells the ledger about rows of a split that a task cannot use, and what else it noticed."""

    def __init__(self, split: str, table: pa.Table, ledger: Ledger) -> None:
        self.split, self.table, self.ledger = split, table, ledger

    def __call__(self, row: int, reason: str) -> None:
        file, line = self.table["_file"][row].as_py(), self.table["_line"][row].as_py()
        self.ledger.drop(file, line, reason, "", self.split)

    def note(self, kind: str, remark: str) -> None:
        """Of the training rows: the others are alike."""
        if self.split == "train":
            self.ledger.note(kind, remark, loud=True)


Use = Callable[["pa.Table", Any, Callable[[int, str], None]], "pa.Table"]


def usable(splits: Splits, use: Use, tokenizer: Any, ledger: Ledger) -> Splits:
    """The rows of each split, and of the corpora beside, that a task can `use` as a tokenizer
    splits them; the others, which had been counted as kept, go to the ledger. Raises `DataError`
    where none is left of a split."""
    beside = {name: usable(own, use, tokenizer, ledger) for name, own in splits.corpora.items()}
    kept: dict[str, pa.Table] = {}
    for name in ("train", "validation", "test"):
        table = getattr(splits, name)
        kept[name] = use(table, tokenizer, _Losses(name, table, ledger))
        if len(table) and not len(kept[name]):
            raise ledger.nothing_left(str(table["_file"][0].as_py()))
    return replace(splits, corpora=beside, **kept)
