"""Models that learn the language of a text from a token beside it: NLLB, M2M100, mBART, PLBART.

Which token stands before or behind a text decides what the model reads and in which language it
writes; without it an answer comes in whatever language the tokenizer was saved with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from warmstart.errors import RecipeError, nearest

CODE = re.compile(r"[a-z]{2,3}[_-][A-Z][A-Za-z]{1,3}|__[A-Za-z_]{2,20}__")
"""What such a token looks like: eng_Latn, de_DE, __fr__."""
WRAPS = ("mbart", "plbart")
"""Families whose decoder begins with the last token of the text that it is to write."""


@dataclass(frozen=True, slots=True)
class LanguageTokens:
    """The tokens of a tokenizer that name languages.

    Args:
        ids: token → id.
        end: the token that ends a text.
        behind: whether a language stands behind the end of its text (mBART, PLBART), and not
            before its beginning (mBART-50, NLLB, M2M100).
    """

    ids: Mapping[str, int]
    end: str
    behind: bool

    def token(self, language: str | None, key: str) -> str:
        """The token of a language as a recipe names it: `de_DE`, or `fr` for `__fr__`. Raises
        `RecipeError`."""
        known = {name.strip("_"): name for name in self.ids} | {name: name for name in self.ids}
        some = ", ".join(sorted(name.strip("_") for name in self.ids)[:8])
        if language is None:
            raise RecipeError(
                "this base learns the language of a text from a token beside it: say both with "
                f"--task.source_language and --task.target_language; it knows {some}, …"
            )
        if language not in known:
            raise RecipeError(
                f"{key} is '{language}', for which this base has no token."
                f"{nearest(language, known) or f' It knows {some}, …'}"
            )
        return known[language]

    def template(self, token: str, end_id: int) -> Any:
        """What puts the token of a language, and the end, beside a text."""
        from tokenizers.processors import TemplateProcessing

        single = ["$A", self.end, token] if self.behind else [token, "$A", self.end]
        return TemplateProcessing(
            single=" ".join(single),
            pair=" ".join("$A $B" if part == "$A" else part for part in single),
            special_tokens=[(token, self.ids[token]), (self.end, end_id)],
        )


def language_tokens(tokenizer: Any) -> LanguageTokens | None:
    """The tokens that name languages; None where the tokenizer has none, or but one."""
    added = tokenizer.get_added_vocab()
    ids = {name: number for name, number in added.items() if CODE.fullmatch(name)}
    if len(ids) < 2 or tokenizer.eos_token is None:
        return None
    around = tokenizer.backend_tokenizer.encode("").ids
    behind = bool(around) and around[-1] in ids.values()
    return LanguageTokens(ids, tokenizer.eos_token, behind)


def set_languages(tokenizer: Any, source: str | None, target: str | None) -> str | None:
    """Have a tokenizer mark every text as one in `source`, also where it is saved; the token of
    `target`, or None for a base that marks no languages. Raises `RecipeError` for a language that
    is missing or not known."""
    known = language_tokens(tokenizer)
    if known is None:
        return None
    read = known.token(source, "task.source_language")
    written = known.token(target, "task.target_language")
    if hasattr(tokenizer, "src_lang"):  # a class of transformers, which keeps both in its config
        tokenizer.src_lang, tokenizer.tgt_lang = read, written
    tokenizer.backend_tokenizer.post_processor = known.template(read, tokenizer.eos_token_id)
    return written


@contextmanager
def writing(tokenizer: Any, token: str | None) -> Iterator[None]:
    """Inside, texts are marked as ones that the model is to write, in the language of a token."""
    known = None if token is None else language_tokens(tokenizer)
    if token is None or known is None:
        yield
        return
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = known.template(token, tokenizer.eos_token_id)
    try:
        yield
    finally:
        backend.post_processor = before


def set_first_token(model: Any, tokenizer: Any, token: str | None) -> None:
    """Have a model begin its texts as it learns to: with the language's token where that is the
    first of a text, or (mBART) where the decoder begins with a text's last token, with that one."""
    generation = model.generation_config
    with writing(tokenizer, token):
        ends = tokenizer.backend_tokenizer.encode("").ids
    if model.config.model_type in WRAPS and ends:
        model.config.decoder_start_token_id = generation.decoder_start_token_id = ends[-1]
    if token is not None:
        number = tokenizer.convert_tokens_to_ids(token)
        generation.forced_bos_token_id = number if ends[0] == number else None
