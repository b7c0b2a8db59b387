"""The settings of the data: where they are, how they are read and how they are split."""

from __future__ import annotations

import codecs
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from warmstart.errors import nearest, shown
from warmstart.part import Part

NO_DELIMITER = "\x1f"  # of a one-column file: a character that text does not hold
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", NO_DELIMITER: "none"}
DELIMITER_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


class Reading(NamedTuple):
    """How a source is to be read, in the words of `Data`."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    quoting: bool | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"
    limit: int | None = None
    usual_encoding: str | None = None
    """Of files that are not UTF-8, as of those that a model was trained on."""
    usual_delimiter: str | None = None
    """Of files that have it in their first line."""


class Corpus(NamedTuple):
    """A corpus that is learned along; one with share 0 is only measured."""

    path: str
    share: float
    text: str | None = None
    """Its column of texts, where that is not recognised."""


class Data(Part):
    """What is read and how it becomes train, validation and test."""

    path: str | None = Field(
        default=None,
        description="a file, a folder with train.*, validation.* and test.*, a `datasets` folder, "
        "or a hub dataset id (owner/name)",
    )
    train: str | None = Field(
        default=None, description="the file to train on, in the place of path"
    )
    validation: str | None = Field(
        default=None, description="the file that steers training; unset: cut from train"
    )
    test: str | None = Field(
        default=None,
        description="the file for the final score, never trained on; unset: cut from train",
    )
    mixture: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="more corpora that are learned along by pretrain, by name: path, share of the "
        "training tokens, and text where its column is not recognised; path above takes the rest",
        examples=["{general = {path = 'wikipedia.txt', share = 0.1}}"],
    )
    decay_mixture: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="the mixture of the last steps, over which the learning rate of schedule wsd "
        "goes down: the share of each corpus there, and of one that mixture does not have its path",
        examples=["{textbooks = {path = 'books.txt', share = 0.5}}"],
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="column of each role whose name is not recognised, as in {text = 'body'}; "
        "several, as in 'title,body', are read as one text with a new line between",
    )
    delimiter: str | None = Field(
        default=None,
        description="the character between the fields of a CSV file, or tab; unset: detected",
    )
    encoding: str | None = Field(
        default=None,
        description="the encoding of text files, as in utf-8 or cp1252; unset: detected",
    )
    header: bool | None = Field(
        default=None,
        description="whether the first row of a CSV file names the columns; false: they are called "
        "'column 1', 'column 2', …",
    )
    quoting: bool | None = Field(
        default=None,
        description="whether quotes enclose fields of a CSV file, or are plain characters; unset: "
        "they enclose fields unless every line has as many delimiters as the first",
    )
    bad_rows: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="rows that cannot be read, such as those with too many fields or with broken "
        "JSON: stop at the first, or leave them out and name each in the ledger",
    )
    validation_fraction: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of train cut off when no validation file is given",
    )
    test_fraction: float = Field(
        default=0.2, ge=0, lt=1, description="share of train cut off when no test file is given"
    )
    split_seed: int | None = Field(
        default=None,
        ge=0,
        le=2**32 - 1,
        description="of the splits that are cut; unset: the seed of the run",
    )
    similarity: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="share of words from which texts count as nearly equal, as in 0.8; 0: only "
        "texts equal but for case and punctuation are",
    )
    near_copies: Literal["keep", "drop"] = Field(
        default="keep",
        description="rows of train that nearly repeat a text of a validation or test split that "
        "was given: keep them, and say what the score is without the test rows concerned, or drop "
        "them (equal texts are always dropped)",
    )
    group: str | None = Field(
        default=None,
        description="column whose rows of one value (author, thread, document) stay on one side "
        "of a split",
    )
    corrections: str | None = Field(
        default=None,
        description="table of suspicious rows from `warmstart inspect`, with your answers in its "
        "column use",
    )
    merge_labels: bool = Field(
        default=False,
        description="merge labels that differ only in case, surrounding spaces or Unicode form "
        "into the most frequent spelling",
    )
    sampling: Literal["none", "over", "under"] = Field(
        default="none",
        description="even out the classes of train by repeating or leaving out rows",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=2**63 - 1,
        description="read only the first so many rows of each file",
    )
    max_dropped: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of the rows that may be lost before the run stops",
    )

    @property
    def reading(self) -> Reading:
        """How the files are to be read."""
        return Reading(
            self.delimiter, self.encoding, self.header, self.quoting, self.bad_rows, self.limit
        )

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The corpora of the mixture besides the one at `path`; those of the decay alone have share
        0."""
        late = {name: {**table, "share": 0.0} for name, table in self.decay_mixture.items()}
        return {name: Corpus(**table) for name, table in {**late, **self.mixture}.items()}

    @field_validator("mixture", "decay_mixture")
    @classmethod
    def _is_a_mixture(
        cls, value: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        known = info.data.get("mixture", {}) if info.field_name == "decay_mixture" else {}
        for name, table in value.items():
            if name in known and (strange := table.keys() - {"share"}):
                raise ValueError(
                    f"{name} stands in data.mixture, which says its {min(strange)}; here "
                    "give its share alone"
                )
            if strange := [key for key in table if key not in Corpus._fields]:
                near = nearest(strange[0], Corpus._fields)
                raise ValueError(f"{name}: unknown key '{strange[0]}'.{near}")
            if name not in known and not isinstance(table.get("path"), str):
                raise ValueError(f"{name} names no path: give {name} = {{path = …, share = 0.1}}")
            share = table.get("share")
            if isinstance(share, str):  # of a flag: --data.mixture.general.share 0.1
                with suppress(ValueError):
                    share = table["share"] = float(share)
            if share is None:
                raise ValueError(f"{name} has no share: of the tokens, as in share = 0.1")
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
                raise ValueError(f"{name}: share = {shown(share)}: give a share from 0 to below 1")
        if sum(table["share"] for table in value.values()) >= 1:
            raise ValueError("the shares come to 1 or more, and the data themselves get the rest")
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = DELIMITER_WORDS.get(value.lower(), value)
        if len(value) != 1 or value in '"\r\n':
            raise ValueError("the delimiter is one character, or the word tab")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except LookupError:
                raise ValueError(f"no encoding '{value}'; try utf-8, utf-16 or cp1252") from None
        return value

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must be below 1")
        return self
