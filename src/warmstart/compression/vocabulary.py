"""A model with the tokens in use alone: most of a small multilingual model is its embedding."""

from __future__ import annotations

from pydantic import Field

from warmstart.compression.base import Compression, Source, Start
from warmstart.errors import ProofError, RecipeError
from warmstart.formatting import counted


class Vocabulary(Compression):
    """Trimming of the vocabulary (Abdaoui et al. 2020, "Load What You Need"): texts whose tokens
    all stay are split and answered exactly as before; others are split into smaller pieces."""

    texts: str = Field(
        default="",
        description="a file of texts in the languages and words in use, beside the rows that the "
        "model learned from",
    )
    min_count: int = Field(
        default=1, ge=1, description="how often a token must occur in them to stay"
    )
    recovery: bool = Field(
        default=False, description="let the model learn with its new pieces from what it was"
    )

    @property
    def keeps_answers(self) -> bool:
        return not self.recovery

    @property
    def trains(self) -> bool:
        return self.recovery

    @property
    def objective(self) -> dict[str, bool]:
        return {"keep_head": True}

    def check(self, source: Source) -> None:
        from warmstart.models.surgery.tokens import token_tables
        from warmstart.tokenization.trimming import needed

        needed(source.tokenizer.backend_tokenizer, [])
        if not token_tables(source.model):
            raise RecipeError("this model has no embedding of tokens to trim; prune or quantize it")
        if self.recovery and source.task.head.generates:
            raise RecipeError(
                "compress.recovery learns token by token from the model as it was, and its tokens "
                "would be others; leave it out"
            )

    def begin(self, source: Source) -> Start:
        import numpy as np

        from warmstart.models.surgery.tokens import ids_named, keep_tokens, word_embedding
        from warmstart.tokenization.corpus import Corpus
        from warmstart.tokenization.extension import with_backend
        from warmstart.tokenization.settings import Reading
        from warmstart.tokenization.trimming import needed, trimmed

        backend = source.tokenizer.backend_tokenizer
        corpus = Corpus([self.texts], Reading()).rows() if self.texts else []
        extra = [text for batch in corpus for text in batch]
        if source.task.head.generates:  # as a text, and as an answer behind another one
            extra = [form for text in extra for form in (text, f" {text}")]
        counts = np.zeros(len(word_embedding(source.model)), np.int64)
        before = [np.array(row.ids, np.int64) for row in backend.encode_batch(extra)]
        for ids in (*source.rows(), *before):
            np.add.at(counts, ids, 1)
        used = {*np.flatnonzero(counts >= self.min_count).tolist(), *ids_named(source.model)}
        kept = needed(backend, used)
        smaller = trimmed(backend, kept)
        places = np.full(len(counts), -1)
        places[kept] = np.arange(len(kept))
        for text, ids in zip(extra, before, strict=True):
            now = smaller.encode(text).ids
            if (places[ids] >= 0).all() and places[ids].tolist() != now:
                raise ProofError(f"the smaller tokenizer splits '{text[:80]}' otherwise")
        rows = len(counts)
        model = keep_tokens(source.model, kept)
        notes = [f"{counted(len(kept), 'token')} of {rows:,} are left"]
        if source.task.main_score == "loss":
            notes.append("its loss is counted over the tokens that are left, and so is lower")
        return Start(model, with_backend(source.tokenizer, smaller), notes)
