"""Pieces learned from a corpus: one function a kind, each with `tokenizers` doing the counting.

Byte-pair encoding: Sennrich et al. 2016; with bytes, Radford et al. 2019; WordPiece: Schuster and
Nakajima 2012, in the form of `tokenizers` (byte-pair merges, then longest match first); Unigram:
Kudo 2018. The same corpus gives the same pieces and ids. Unigram alone can differ: `tokenizers`
sums its scores in an order that changes from run to run, so that the last digits do as well, and
with them, now and then, a piece. Its pieces are put in alphabetical order, for ids that stay.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing

from warmstart.errors import DataError, ProofError, RecipeError, RunError, shown
from warmstart.formatting import counted
from warmstart.models.checks import fingerprint
from warmstart.models.hf_calls import one_line, quiet
from warmstart.models.loading import PROBES
from warmstart.models.saving import whole_folder, write_note
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import Training
from warmstart.tokenization.special_tokens import Specials, specials_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INNER = 0x40000  # the first of 655,360 code points that Unicode gives to nothing
LONGEST_WORD = 100  # WordPiece takes a longer word for unknown, as in BERT
SPACE = "▁"
BYTES = [f"<0x{value:02X}>" for value in range(256)]
NEVER = -1_000.0
"""The score of a special token in a Unigram model: only as itself, never as part of a text."""
PROOF_TEXTS = 200  # of the corpus, on which the saved tokenizer is tried

Batches = Iterable[list[str]]


class Learned(NamedTuple):
    """Pieces and their scores in the order of their ids, without special tokens."""

    pieces: dict[str, float]
    merges: Sequence[tuple[str, str]] = ()


def learn(settings: Training, texts: Batches, room: int) -> Learned:
    """At most `room` pieces of the kind of the settings. Raises `RecipeError` for too little."""
    normal, (splitter, _) = normalizer(settings), splitter_and_decoder(settings)
    by_bytes = settings.byte_mode == "level"
    if settings.kind == "char":
        counts: Counter[str] = Counter()
        for text in chain.from_iterable(texts):
            counts.update(normal.normalize_str(text) if normal else text)
        frequent = [(-n, c) for c, n in counts.items() if n >= settings.frequency]
        return Learned(dict.fromkeys((c for _, c in sorted(frequent)[:room]), 0.0))
    if settings.kind == "unigram":
        return _unigram(texts, normal, splitter, room)
    if settings.kind == "word":
        trainer = trainers.WordLevelTrainer(
            vocab_size=room, min_frequency=settings.frequency, show_progress=False
        )
        model = _trained(models.WordLevel(unk_token=""), trainer, texts, normal, splitter)
        return Learned(dict.fromkeys(sorted(model["vocab"], key=model["vocab"].get), 0.0))
    if settings.kind == "wordpiece":
        learned = _wordpiece(settings, texts, normal, splitter, room)
    else:
        learned = _merged(settings, texts, normal, splitter, room, by_bytes)
    if len(learned.pieces) > room:
        raise too_small(len(learned.pieces), room, by_bytes)
    return learned


def too_small(alphabet: int, room: int, byte_level: bool = False) -> RecipeError:
    """For a vocabulary in which not even the alphabet has room."""
    instead = "" if byte_level else ", or write all text as bytes (--kind bpe)"
    return RecipeError(
        f"vocab_size leaves room for {room:,} pieces, and the alphabet of the corpus alone needs "
        f"{alphabet:,}: raise it by at least {alphabet - room:,}{instead}"
    )


def _merged(
    settings: Training, texts: Batches, normal: Any, splitter: Any, room: int, byte_level: bool
) -> Learned:
    limit: dict[str, Any] = {"limit_alphabet": settings.alphabet} if settings.alphabet else {}
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=settings.frequency,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else [],
        **limit,
    )
    model = _trained(models.BPE(), trainer, texts, normal, splitter)
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    return Learned(dict.fromkeys(pieces, 0.0), [(a, b) for a, b in model["merges"]])


def _wordpiece(
    settings: Training, texts: Batches, normal: Any, splitter: Any, room: int
) -> Learned:
    """The pieces of `WordPieceTrainer`, but the same ones every time.

    That trainer merges pairs as BPE does and numbers the `##` letters in the order of a hash map,
    so that ties fall as they may. Here each letter inside a word is written as a letter of its
    own, plain BPE is trained, and what was inside gets its `##` back.
    """
    inner: dict[str, str] = {}
    known: dict[str, str] = {}

    def written(word: str) -> str:
        if word not in known:
            rest = (inner.setdefault(c, chr(INNER + len(inner))) for c in word[1:])
            known[word] = word[0] + "".join(rest)
        return known[word]

    def rewritten() -> Iterator[list[str]]:
        for batch in texts:
            plain = (normal.normalize_str(text) if normal else text for text in batch)
            words = (splitter.pre_tokenize_str(text) for text in plain)
            yield [" ".join(written(w) for w, _ in row if len(w) <= LONGEST_WORD) for row in words]

    spaces = pre_tokenizers.WhitespaceSplit()
    learned = _merged(settings, rewritten(), None, spaces, room, byte_level=False)
    outer = {mark: letter for letter, mark in inner.items()}
    plain = str.maketrans(outer)
    pieces = ("##" * (p[0] in outer) + p.translate(plain) for p in learned.pieces)
    return Learned(dict.fromkeys(pieces, 0.0))


def _unigram(texts: Batches, normal: Any, splitter: Any, room: int) -> Learned:
    seen: set[str] = set()

    def watched() -> Iterator[list[str]]:
        for batch in texts:
            seen.update(*batch)
            yield batch

    unknown = "<unk>"
    trainer = trainers.UnigramTrainer(
        vocab_size=room + 1, show_progress=False, special_tokens=[unknown], unk_token=unknown
    )
    try:
        model = _trained(models.Unigram(), trainer, watched(), normal, splitter)
    except Exception as error:  # tokenizers raises nothing more precise
        if "not large enough" in str(error):
            raise too_small(len(seen), room) from None
        raise RecipeError(
            f"no unigram tokenizer can be learned from this corpus ({error}): it is too small or "
            "too uniform; give more text, or another kind"
        ) from error
    return Learned({piece: score for piece, score in sorted(model["vocab"]) if piece != unknown})


def _trained(
    model: Any, trainer: Any, texts: Batches, normal: Any, splitter: Any
) -> dict[str, Any]:
    """The `model` of the tokenizer.json that training gives."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, splitter
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


# What stands around a tokenizer's model: normaliser, pre-tokeniser, decoder, special tokens.


def normalizer(settings: Training) -> Any:
    """Unicode form, accents, case, in this order; None where nothing is changed."""
    n = normalizers
    forms = {"nfc": n.NFC, "nfkc": n.NFKC, "nfd": n.NFD, "nfkd": n.NFKD}
    steps: list[Any] = [forms[settings.normalize]()] if settings.normalize else []
    if settings.kind == "wordpiece":
        steps.append(n.BertNormalizer(True, True, False, False))
    if settings.strip_accents:
        steps += [n.NFD(), n.StripAccents()]
        steps.append(n.NFKC() if settings.normalize == "nfkc" else n.NFC())
    if settings.lowercase:
        steps.append(n.Lowercase())
    if len(steps) < 2:
        return steps[0] if steps else None
    return n.Sequence(steps)


def splitter_and_decoder(settings: Training) -> tuple[Any, Any]:
    """Where a piece may never cross (None: it may cross anything), and the way back to text (None
    joins by spaces).

    With the space mark, pieces keep to a word, its punctuation, or a run of line breaks.
    """
    p, d = pre_tokenizers, decoders
    back = [d.ByteFallback()] if settings.byte_mode == "fallback" else []
    if settings.kind == "char":
        return None, d.Sequence([*back, d.Fuse()])
    if settings.kind == "word":
        return p.Whitespace(), None
    if settings.kind == "wordpiece":
        return p.BertPreTokenizer(), d.WordPiece("##")
    if settings.byte_mode == "level":
        return p.ByteLevel(add_prefix_space=False), d.ByteLevel()
    breaks, words = (
        p.Split(Regex(r"[\r\n]+"), "isolated"),
        p.Metaspace(SPACE, prepend_scheme="first"),
    )
    splitter = p.Sequence([breaks, words, p.Punctuation("contiguous")])
    return splitter, d.Sequence([d.Replace(SPACE, " "), *back, d.Fuse(), d.Strip(" ", 1, 0)])


def train(settings: Training, corpus: Corpus) -> tuple[Tokenizer, Specials, dict[str, Any]]:
    """The tokenizer of these settings, its special tokens, and the facts of the training.

    Raises `RecipeError` for settings that the corpus does not allow, `DataError` for a corpus
    without text.
    """
    specials = specials_for(settings)
    fallback = BYTES if settings.byte_mode == "fallback" else []
    room = settings.size - len(specials.first) - len(specials.last) - len(fallback)
    if room < 1:
        raise RecipeError(
            f"vocab_size {settings.size} has no room beside {len(specials.first + specials.last)} "
            f"special tokens{' and 256 bytes' if fallback else ''}: raise it"
        )

    def rows() -> Iterator[list[str]]:
        yield from corpus.rows()
        if corpus.progress:
            corpus.progress("learning the pieces", 0, 1)

    learned = learn(settings, rows(), room)
    if not learned.pieces:
        raise DataError(
            f"nothing in the corpus occurs {counted(settings.frequency, 'time')}: give more text, "
            "or lower --min_frequency"
        )
    backend = assemble(settings, specials, learned, fallback)
    size = backend.get_vocab_size()
    notes: list[str] = []
    if settings.vocab_size and size < settings.vocab_size:
        notes.append(
            f"{size:,} tokens instead of {settings.vocab_size:,}: the corpus gives no more pieces"
        )
    facts = {"vocab_size": size, "texts": corpus.texts, "characters": corpus.characters}
    return backend, specials, facts | {"notes": notes}


def assemble(
    settings: Training, specials: Specials, learned: Learned, fallback: Sequence[str]
) -> Tokenizer:
    """Ids in the order: first special tokens, bytes, pieces, last special tokens."""
    special = {*specials.first, *specials.last, *fallback}
    vocabulary = [(token, NEVER) for token in (*specials.first, *fallback)]
    vocabulary += [entry for entry in learned.pieces.items() if entry[0] not in special]
    vocabulary += [(token, NEVER) for token in specials.last]
    ids = {token: i for i, (token, _) in enumerate(vocabulary)}
    unknown: Any = specials.roles.get("unk_token")  # what stands for all else
    if settings.kind == "wordpiece":
        model = models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=LONGEST_WORD)
    elif settings.kind == "word":
        model = models.WordLevel(ids, unk_token=unknown)
    elif settings.kind == "unigram":
        model = models.Unigram(vocabulary, unk_id=ids[unknown], byte_fallback=bool(fallback))
    else:
        merges = list(learned.merges)
        model = models.BPE(ids, merges, unk_token=unknown, byte_fallback=bool(fallback))
    backend = Tokenizer(model)
    backend.normalizer = normalizer(settings)
    backend.pre_tokenizer, backend.decoder = splitter_and_decoder(settings)
    around = specials.single.replace(":2", "").split()
    backend.post_processor = TemplateProcessing(
        single=specials.single,
        pair=specials.pair,
        special_tokens=[(token, ids[token]) for token in specials.first if token in around],
    )
    backend.add_special_tokens(
        [
            AddedToken(token, lstrip=token in specials.swallows_space, normalized=False)
            for token in (*specials.first, *specials.last)
        ]
    )
    return backend


def as_transformers(
    backend: Tokenizer, specials: Specials, settings: Training
) -> PreTrainedTokenizerFast:
    """The tokenizer as `transformers` knows it: with roles, sides and the longest length."""
    roles = set(specials.roles.values())
    more = [token for token in (*specials.first, *specials.last) if token not in roles]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=settings.max_length,
        padding_side=specials.padding_side,
        truncation_side=settings.truncation_side,
        pad_token_type_id=specials.pad_type,
        model_input_names=list(specials.inputs),
        clean_up_tokenization_spaces=False,
        extra_special_tokens=more,
        **specials.roles,
    )


def save(tokenizer: PreTrainedTokenizerFast, facts: dict[str, Any], folder: Path) -> Path:
    """Write a folder that `AutoTokenizer` loads, whole or not at all. Raises `RunError`."""
    folder = folder.absolute()
    if folder.exists():
        raise RunError(f"{folder} exists already; choose another --out")
    with whole_folder(folder, "the tokenizer") as fresh:
        with quiet():
            tokenizer.save_pretrained(fresh)
        write_note(fresh, {"tokenizer_sha256": fingerprint(fresh), "trained": facts})
    return folder


def prove(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> int:
    """On how many texts the saved folder gives the same ids. Raises `ProofError` for another."""
    with quiet(), one_line(f"the tokenizer in {folder} cannot be loaded"):
        loaded = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tried = [*PROBES, *texts]
    for text in tried:
        for cut in (False, True):
            how: Any = {"truncation": cut, "verbose": False}
            if loaded(text, **how).input_ids != tokenizer(text, **how).input_ids:
                shutil.rmtree(folder, ignore_errors=True)
                raise ProofError(f"{folder} splits '{shown(text)}' in another way than it did")
    return len(tried)
