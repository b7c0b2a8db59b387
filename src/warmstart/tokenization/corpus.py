"""The texts of a corpus, a batch at a time, and the words in it that a tokenizer may learn.

Text files are read line by line, tables by their column.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers import files
from warmstart.data.readers.files import detect
from warmstart.data.readers.objects import kind_name
from warmstart.data.readers.read import read
from warmstart.data.settings import Reading as Rows
from warmstart.errors import DataError, RecipeError, nearest, shown
from warmstart.tokenization.settings import Extension, Reading

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

Progress = Callable[[str, int, int], None]
BATCH = 1_000  # texts
SHORTEST, LONGEST = 3, 40  # characters of a word that a corpus proposes
PLAIN = {".txt", ""}
USUAL = (
    "text", "sentence", "content", "message", "body", "review", "tweet", "comment", "description",
    "utterance", "question", "query", "document", "title", "source", "prompt", "sentence1",
    "context",
)  # fmt: skip
"""The names that a text column has, best first."""


@dataclass(slots=True)
class Batch:
    """Some texts, and the group of each: the file, the column, or the value of a column."""

    texts: list[str]
    groups: list[str]


@dataclass(slots=True)
class Corpus:
    """Where texts come from. Each pass over `batches` reads them anew.

    `sources` are files, folders, or objects such as a list of texts or a data frame. What was read
    is counted in `texts` and `characters`. With `lenient`, a source that does not have the named
    columns is read as if none had been named.
    """

    sources: Sequence[Any]
    reading: Reading
    by: str | None = None
    progress: Progress | None = None
    lenient: bool = False
    texts: int = field(default=0, init=False)
    characters: int = field(default=0, init=False)

    def batches(self) -> Iterator[Batch]:
        """All texts with their line breaks. Raises `DataError` where there are none."""
        self.texts = self.characters = 0
        files = [file for source in self.sources for file in _expanded(source)]
        sizes = [_size(file) for file in files]
        names = _names(files)
        for at, file in enumerate(files):
            length = 0
            for batch in self._batches_of(file, names[at]):
                self.texts += len(batch.texts)
                characters = sum(map(len, batch.texts))
                self.characters += characters
                length += characters
                if self.progress:
                    done = sum(sizes[:at]) + min(length, sizes[at])
                    self.progress("reading the corpus", done, sum(sizes))
                yield batch
        if not self.characters:
            names = ", ".join(_name(source) for source in self.sources[:3])
            raise DataError(f"{names or 'the corpus'} holds no text: nothing to learn from")

    def rows(self) -> Iterator[list[str]]:
        """The texts alone."""
        for batch in self.batches():
            yield batch.texts

    def _batches_of(self, source: Any, name: str) -> Iterator[Batch]:
        how, by = self.reading, self.by
        lines = self._lines(source)
        if lines is not None and by:
            raise RecipeError(f"{name} is plain text and has no column '{shown(by)}'")
        if lines is not None:
            while texts := list(islice(lines, BATCH)):
                yield Batch(texts, [name] * len(texts))
            return
        rows = Rows(delimiter=how.delimiter, encoding=how.encoding, limit=how.limit)
        table = read(source, ledger=Ledger(), how=rows)
        columns = _columns(table, name, how.column, by, self.lenient)
        for column in columns:
            roles = {"text": column} | ({"group": by} if by else {})
            texts = map_roles(table, dict.fromkeys(roles, ()), roles, set(roles))
            default = column if len(columns) > 1 else name
            for batch in texts.to_batches(max_chunksize=BATCH):
                values = batch.column("text").to_pylist()
                groups = batch.column("group").to_pylist() if by else [default] * len(values)
                pairs = [(t, g or "") for t, g in zip(values, groups, strict=True) if t]
                yield Batch([t for t, _ in pairs], [g for _, g in pairs])

    def _lines(self, source: Any) -> Iterator[str] | None:
        """The texts of what has no columns: a list of texts, or a file that is read by line."""
        how = self.reading
        if isinstance(source, list | tuple) and all(isinstance(text, str) for text in source):
            return iter(source[: how.limit])
        if not isinstance(source, Path) or source.is_dir() or files.suffix(source) not in PLAIN:
            return None
        by_column = how.column and not self.lenient
        if by_column or files.format_of(source, how.encoding) != "delimited":
            return None
        lines = islice(files.lines(source, detect(source, how.encoding)), how.limit)
        return (f"{line[:-2]}\n" if line.endswith("\r\n") else line for line in lines)


def _expanded(source: Any) -> Iterator[Any]:
    """A folder as its files, at any depth, by name."""
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    path = Path(source).expanduser()
    files.check_exists(path)
    if not path.is_dir() or (path / "state.json").is_file():
        yield path
        return
    inside = sorted(p for p in path.rglob("*") if p.is_file() and files.suffix(p) in files.FORMATS)
    if not inside:
        raise DataError(f"{path} holds no text file and no table: {files.SUPPORTED}, or .txt")
    yield from inside


def _columns(
    table: pa.Table, name: str, columns: list[str], by: str | None, lenient: bool
) -> list[str]:
    """The text columns of a table. Raises `DataError` where they are not there."""
    there = [column for column in table.column_names if column not in ("_file", "_line")]
    if lenient and not set(columns) <= set(there):
        columns = []
    for column in [*columns, *([by] if by else [])]:
        if column not in there:
            raise DataError(f"{name} has no column '{shown(column)}'.{nearest(column, there)}")
    if columns:
        return columns
    by_lower = {column.strip().lower(): column for column in reversed(there)}
    guess = next((by_lower[usual] for usual in USUAL if usual in by_lower), None)
    if guess is None and len(there) == 1:
        guess = there[0]
    if guess is None:
        listing = ", ".join(shown(column, 30) for column in there[:30])
        raise DataError(
            f"{name} has no column of a usual name for text; name it with --column NAME, one of "
            f"{listing}"
        )
    return [guess]


def _size(source: Any) -> int:
    if isinstance(source, Path):
        return source.stat().st_size if source.is_file() else 0
    return len(source) if hasattr(source, "__len__") else 0


def _names(sources: Sequence[Any]) -> list[str]:
    """The name of each; of files that are called alike, the path."""
    names = [_name(source) for source in sources]
    return [
        str(source) if names.count(name) > 1 and isinstance(source, Path) else name
        for source, name in zip(sources, names, strict=True)
    ]


def _name(source: Any) -> str:
    """What a source is called in messages and as a group."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name or str(source)
    return kind_name(source)


# Words that a tokenizer is to learn.


@dataclass(frozen=True, slots=True)
class Proposal:
    """A word, how often the corpus has it (0 for one from a list), and its pieces now."""

    word: str
    count: int
    pieces: list[str]


def read_words(words: Sequence[str], backend: Tokenizer) -> list[Proposal]:
    """Words from a list, or from a file with one a line. Raises `RecipeError` for none."""
    if len(words) == 1 and os.path.isfile(words[0]):
        path = Path(words[0])
        files.format_of(path)
        words = [line.strip() for line in files.lines(path, detect(path))]
    unique: dict[str, None] = {}
    for word in words:
        plain = normalize(word.strip(), backend)
        if len(plain.split()) > 1:
            raise RecipeError(
                f"'{shown(word)}' is more than one word to this tokenizer: give single words"
            )
        if plain:
            unique[plain] = None
    if not unique:
        raise RecipeError("no words were given: --words a,b or a file with one a line")
    return [Proposal(word, 0, _pieces(word, backend)) for word in unique]


def propose_words(corpus: Corpus, backend: Tokenizer, settings: Extension) -> list[Proposal]:
    """Frequent words that fall into many pieces, those first that would save most tokens."""
    raw: Counter[str] = Counter()
    for texts in corpus.rows():
        for text in texts:
            raw.update(text.split())
    counts: Counter[str] = Counter()
    for chunk, count in raw.items():
        # letters and their marks, without the punctuation around them
        letters = [unicodedata.category(character)[0] in "LM" for character in chunk]
        if True not in letters:
            continue
        start, end = letters.index(True), len(chunk) - letters[::-1].index(True)
        plain = normalize(chunk[start:end], backend) if all(letters[start:end]) else ""
        if plain and not re.search(r"\s", plain):
            counts[plain] += count
    proposals = [
        Proposal(word, count, pieces)
        for word, count in counts.items()
        if count >= settings.min_frequency
        and SHORTEST <= len(word) <= LONGEST
        and len(pieces := _pieces(word, backend)) >= settings.min_pieces
    ]
    proposals.sort(key=lambda p: (-p.count * (len(p.pieces) - 1), p.word))
    return proposals[: settings.max_words]


def normalize(word: str, backend: Tokenizer) -> str:
    """The word as the tokenizer sees it: in small letters, for one that has no others."""
    return backend.normalizer.normalize_str(word) if is_plain_normalizer(backend) else word


def is_plain_normalizer(backend: Tokenizer) -> bool:
    """Whether there is a normalizer and it leaves spaces and the start of a text alone."""
    normalizer: Any = backend.normalizer
    return normalizer is not None and normalizer.normalize_str("a b") == "a b"


def _pieces(word: str, backend: Tokenizer) -> list[str]:
    """The pieces of a word that stands alone."""
    return backend.encode(word, add_special_tokens=False).tokens
