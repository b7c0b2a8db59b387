"""What stands around a tokenizer's model: normaliser, pre-tokeniser, decoder, special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmstart.tokenizer.families import Specials
from warmstart.tokenizer.settings import Training

SPACE = "▁"


def normalizer(asked: Training) -> Any:
    """Unicode form, accents, case, in this order; None where nothing is changed."""
    from tokenizers import normalizers as n

    forms = {"nfc": n.NFC, "nfkc": n.NFKC, "nfd": n.NFD, "nfkd": n.NFKD}
    steps: list[Any] = [forms[asked.normalize]()] if asked.normalize else []
    if asked.kind == "wordpiece":
        steps.append(n.BertNormalizer(True, True, False, False))
    if asked.strip_accents:
        steps += [n.NFD(), n.StripAccents()]
        steps += [forms[asked.normalize]()] if asked.normalize in ("nfc", "nfkc") else [n.NFC()]
    if asked.lowercase:
        steps.append(n.Lowercase())
    if len(steps) < 2:
        return steps[0] if steps else None
    return n.Sequence(steps)


def pre_tokenizer(asked: Training) -> Any:
    """Where a piece may never cross; None where it may cross anything.

    With the space mark, pieces keep to a word, its punctuation, or a run of line breaks.
    """
    from tokenizers import Regex
    from tokenizers import pre_tokenizers as p

    if asked.kind == "char":
        return None
    if asked.kind == "word":
        return p.Whitespace()
    if asked.kind == "wordpiece":
        return p.BertPreTokenizer()
    if asked.byte_mode == "level":
        return p.ByteLevel(add_prefix_space=False)
    return p.Sequence(
        [
            p.Split(Regex(r"[\r\n]+"), "isolated"),
            p.Metaspace(SPACE, prepend_scheme="first"),
            p.Punctuation("contiguous"),
        ]
    )


def decoder(asked: Training) -> Any:
    """The way back to text; None joins by spaces."""
    from tokenizers import decoders as d

    if asked.kind == "word":
        return None
    if asked.kind == "wordpiece":
        return d.WordPiece("##")
    if asked.byte_mode == "level":
        return d.ByteLevel()
    back = [d.ByteFallback()] if asked.byte_mode == "fallback" else []
    if asked.kind == "char":
        return d.Sequence([*back, d.Fuse()])
    return d.Sequence([d.Replace(SPACE, " "), *back, d.Fuse(), d.Strip(" ", 1, 0)])


def post_processor(specials: Specials, ids: Mapping[str, int]) -> Any:
    """Puts the special tokens around a text or a pair of texts."""
    from tokenizers.processors import TemplateProcessing

    used = [token for token in specials.first if token in specials.single.replace(":2", "").split()]
    return TemplateProcessing(
        single=specials.single,
        pair=specials.pair,
        special_tokens=[(token, ids[token]) for token in used],
    )
