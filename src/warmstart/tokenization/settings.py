"""The settings of `tokenizer train`, `show`, `compare` and `extend`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Kind = Literal["char", "word", "bpe", "wordpiece", "unigram"]
KINDS: tuple[Kind, ...] = ("char", "word", "bpe", "wordpiece", "unigram")
Bytes = Literal["level", "fallback", "off"]
BYTES: dict[str, tuple[Bytes, ...]] = {
    "char": ("off", "fallback"),
    "word": ("off",),
    "bpe": ("level", "fallback", "off"),
    "wordpiece": ("off",),
    "unigram": ("off", "fallback"),
}
VOCAB_SIZE = 8_000
MOST_WORDS = 100
LARGEST = 1_000_000


def _split(value: Any) -> Any:
    """`a,b` as ["a", "b"]; a list as it is."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(value)] if isinstance(value, int | float) else value


Words = Annotated[list[str], BeforeValidator(_split)]


class Settings(BaseModel):
    """A frozen set of settings; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True
    )


class Reading(Settings):
    """How a corpus is read: text files by line, tables by their text column."""

    column: Words = Field(
        default_factory=list,
        description="the text column of a table, or several with commas; unset: by its usual name",
    )
    encoding: str | None = Field(
        default=None, description="the encoding of text files; unset: detected"
    )
    delimiter: str | None = Field(
        default=None, description="the character between the fields of a CSV file; unset: detected"
    )
    limit: int | None = Field(
        default=None, ge=1, description="read only the first so many texts of each file"
    )


class Training(Reading):
    """A tokenizer to be trained."""

    kind: Kind = Field(default="bpe", description="what a piece of text may be")
    vocab_size: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST,
        description=f"tokens in all, special ones included; unset: {VOCAB_SIZE:,}, and of char "
        "as many as there are characters",
    )
    min_frequency: int | None = Field(
        default=None,
        ge=1,
        description="how often a pair, word or character must occur to get a token; unset: 2, "
        "for char 1; unigram has none",
    )
    bytes: Bytes | None = Field(
        default=None,
        description="what becomes of rare characters: level (text is bytes first; bpe alone), "
        "fallback (each becomes its bytes), off (unknown); unset: level for bpe, else off",
    )
    alphabet: int | None = Field(
        default=None,
        ge=1,
        description="most characters that get a token of their own, of bpe and wordpiece; unset: "
        "all that occur",
    )
    normalize: Literal["nfc", "nfkc", "nfd", "nfkd"] | None = Field(
        default="nfc", description="the Unicode form that texts are brought into, or none"
    )
    lowercase: bool = Field(default=False, description="make all letters small")
    strip_accents: bool = Field(default=False, description="take accents off: é becomes e")
    family: Literal["bert", "roberta", "bart", "gpt2", "t5", "llama", "xlnet"] | None = Field(
        default=None,
        description="whose special tokens stand around a text; none: nothing is put around it",
    )
    add_eos: bool = Field(
        default=False, description="end every text with the end token, also where the family "
        "does not"
    )  # fmt: skip
    special_tokens: Words = Field(
        default_factory=list, description="more tokens that are never split, with commas"
    )
    pad: Literal["own", "eos", "zeros"] = Field(
        default="own",
        description="what fills up a batch: own (a pad token at the family's place), eos (the end "
        "token), zeros (a pad token whose id is 0)",
    )
    padding_side: Literal["right", "left"] | None = Field(
        default=None, description="where a batch is filled up; unset: left for xlnet, else right"
    )
    truncation_side: Literal["right", "left"] = Field(
        default="right", description="where a text that is too long is cut"
    )
    max_length: int = Field(default=512, ge=2, description="tokens that a text may have")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.bytes is not None and self.bytes not in BYTES[self.kind]:
            choices = " or ".join(BYTES[self.kind])
            raise ValueError(f"bytes = {self.bytes} does not go with {self.kind}: give {choices}")
        if self.kind == "unigram" and self.min_frequency is not None:
            raise ValueError("unigram prunes by likelihood and has no min_frequency: leave it out")
        if self.alphabet is not None and self.kind not in ("bpe", "wordpiece"):
            raise ValueError(f"{self.kind} has no alphabet of its own: leave alphabet out")
        if self.alphabet is not None and self.byte_mode == "level":
            raise ValueError("the alphabet of byte-level bpe is the 256 bytes: leave alphabet out")
        for token in self.special_tokens:
            if not token.strip() or self.special_tokens.count(token) > 1:
                raise ValueError(f"special token '{token}' is empty or given twice")
        return self

    @property
    def byte_mode(self) -> Bytes:
        """`bytes`, or what stands for it where it is unset."""
        return self.bytes or BYTES[self.kind][0]

    @property
    def size(self) -> int:
        """Tokens in all, where the kind sets no other limit."""
        return self.vocab_size or (LARGEST if self.kind == "char" else VOCAB_SIZE)

    @property
    def frequency(self) -> int:
        """How often something must occur."""
        return self.min_frequency or (1 if self.kind == "char" else 2)


class Choice(Reading):
    """Which tokenizers: by name, or trained now."""

    tokenizers: Words = Field(
        default_factory=list,
        description="with commas: minilm, smollm2, a folder, a hub id, or a kind to train on the "
        "corpus; "
        f"unset: minilm, and with a corpus {', '.join(KINDS)}",
    )
    corpus: Words = Field(
        default_factory=list, description="files to train the kinds on, with commas"
    )
    vocab_size: int = Field(
        default=1_000, ge=1, le=LARGEST, description="tokens of each kind that is trained"
    )


class Comparison(Choice):
    """Several tokenizers measured on the same texts."""

    by: str | None = Field(
        default=None, description="the column whose values are measured apart: language, domain"
    )
    max_length: int = Field(
        default=128, ge=2, description="the length at which texts would be cut, in tokens"
    )


class Extension(Reading):
    """A base model that gets words of a domain as tokens."""

    words: Words = Field(
        default_factory=list, description="the words, with commas, or a file with one a line"
    )
    corpus: Words = Field(
        default_factory=list, description="files to find frequent words in that fall into pieces"
    )
    max_words: int = Field(
        default=MOST_WORDS, ge=1, description="most words that the corpus may propose"
    )
    min_frequency: int = Field(
        default=5, ge=1, description="how often a proposed word occurs in the corpus"
    )
    min_pieces: int = Field(
        default=3, ge=2, description="into how many pieces a proposed word falls now"
    )
