"""A tokenizer with fewer tokens splits every text of those that are kept as before."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from warmstart.errors import RecipeError
from warmstart.tokenization.trimming import needed, trimmed

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
STEMS = "house water tree light stone river cloud bird green small great under over after".split()
ENDS = ["", "s", "ed", "ing", "ness", "less", "ful", "ish"]


def texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choice(STEMS) + rng.choice(ENDS) for _ in range(rng.randint(1, 9))) + " Zürich"
        for _ in range(count)
    ]


def made(kind: str) -> Tokenizer:
    """A tokenizer of a kind, with a template of special tokens."""
    trainer: Any
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=SPECIAL)
    elif kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL,
                                      initial_alphabet=alphabet)  # fmt: skip
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=SPECIAL,
                                          unk_token="[UNK]")  # fmt: skip
    backend.train_from_iterator(texts(0, 400), trainer)
    ends = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    return backend


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_kept_texts_are_split_as_before(kind: str) -> None:
    backend = made(kind)
    in_use = [*texts(1, 6), "unknown 漢字 !"]
    kept = needed(backend, {number for text in in_use for number in backend.encode(text).ids})
    smaller = trimmed(backend, kept)
    assert smaller.get_vocab_size() == len(kept) < backend.get_vocab_size()
    places = {int(old): new for new, old in enumerate(kept)}
    others = [text for text in texts(2, 300) if {*backend.encode(text).ids} <= {*kept.tolist()}]
    assert others or kind == "unigram"
    for text in in_use + others:
        assert smaller.encode(text).ids == [places[number] for number in backend.encode(text).ids]
    pair = smaller.encode("house", "tree").tokens
    assert (pair[0], pair[-1], pair.count("[SEP]")) == ("[CLS]", "[SEP]", 2)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_a_new_word_of_known_letters_is_split_and_not_unknown(kind: str) -> None:
    backend = made(kind)
    kept = needed(backend, backend.encode("birds house tree").ids)
    tokens = trimmed(backend, kept).encode("riversides", add_special_tokens=False).tokens
    known = "".join(tokens).replace("##", "").replace("\u2581", "")
    assert set("eds") <= set(known), "letters in use stay"


def test_a_word_level_tokenizer_keeps_its_words() -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "bird": 2, "tree": 3}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    smaller = trimmed(backend, needed(backend, [3]))
    assert smaller.encode("a tree bird").tokens == ["a", "tree", "[UNK]"]


def test_bert_and_roberta_templates_get_the_new_ids() -> None:
    backend = made("wordpiece")
    cls, sep = (("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]")))
    for processor in (processors.BertProcessing(sep, cls), processors.RobertaProcessing(sep, cls)):
        backend.post_processor = processor
        kept = needed(backend, backend.encode("house").ids)
        smaller = trimmed(backend, kept)
        assert smaller.encode("house").tokens == backend.encode("house").tokens


def test_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        model = object()

        def to_str(self) -> str:
            return made("bpe").to_str()

        def get_vocab(self, with_added_tokens: bool) -> dict[str, int]:
            return made("bpe").get_vocab(with_added_tokens)

    with pytest.raises(RecipeError, match="cannot be trimmed; prune or quantize"):
        needed(Other(), [])  # pyright: ignore[reportArgumentType]
