"""What a pretraining run has beside the usual: a base from scratch, and a corpus in windows.

The base, an architecture of a size with a tokenizer trained on the corpus, is made once and kept
in the cache, under a name that its settings, its corpus and its seed make, so that a run that goes
on finds the same weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers

from warmstart.config.recipe import Recipe
from warmstart.data.ledger import Ledger
from warmstart.data.splitting import Splits, fingerprint
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.lost import check_known
from warmstart.data.tokens.shards import kept_windows, shard_key
from warmstart.errors import RecipeError
from warmstart.models.adapters.combine import as_base
from warmstart.models.architectures import family_of
from warmstart.models.base import Base, resolve
from warmstart.models.checks import read_json
from warmstart.models.from_config import SIZES, new_base
from warmstart.models.gguf import cache_folder, exclusive
from warmstart.tokenization import training
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import Training
from warmstart.training.settings import Scratch

TOKENIZERS: dict[str, dict[str, Any]] = {
    "bert": {"kind": "wordpiece", "family": "bert", "lowercase": True},
    "distilbert": {"kind": "wordpiece", "family": "bert", "lowercase": True},
    "electra": {"kind": "wordpiece", "family": "bert", "lowercase": True},
    "albert": {"kind": "unigram", "family": "bert"},
    "roberta": {"kind": "bpe", "family": "roberta"},
    "bart": {"kind": "bpe", "family": "bart"},
    "gpt2": {"kind": "bpe", "family": "gpt2"},
    "llama": {"kind": "bpe", "family": "llama"},
    "t5": {"kind": "unigram", "family": "t5"},
    "pegasus": {"kind": "unigram", "family": "t5", "special_tokens": ["<mask_1>"]},
    "xlnet": {"kind": "unigram", "family": "xlnet"},
}
"""Architecture → the tokenizer that its papers have."""
SHARDS = 2
"""Goes up when `document_windows` gives something else."""


def base_of(recipe: Recipe, splits: Splits, ledger: Ledger) -> Base:
    """The base that the recipe names, or the one that it makes."""
    scratch = recipe.scratch
    if scratch.architecture is None:
        base = as_base(recipe.base)
        if base != recipe.base:
            ledger.note("base", f"{recipe.base} is an adapter: the base is both, merged in {base}")
        return resolve(base, revision=recipe.revision)
    method: Any = recipe.method
    task: Any = recipe.task
    if not task.head.predicts_itself:
        raise RecipeError(
            f"scratch.architecture makes a base that knows nothing, and task {task.part_name()} "
            "needs one that was pretrained: warmstart pretrain CORPUS first, then --base its run"
        )
    if method.part_name() != "full":
        raise RecipeError(
            f"method {method.part_name()} adapts a base that was trained, and scratch.architecture "
            "makes one that was not; take method full"
        )
    objective: Any = recipe.objective
    family = {"model_type": scratch.architecture}
    objective.check_family(family, family_of(family).kind)
    longest = int(task.max_length)
    settings = {**scratch.model_dump(mode="json"), "seed": recipe.seed, "longest": longest,
                "corpus": splits.fingerprint, "transformers": transformers.__version__}  # fmt: skip
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]
    place = cache_folder() / "scratch"
    with exclusive(place, name):
        if not (place / name / "config.json").is_file():
            _make(scratch, place / name, splits, longest, recipe.seed)
    base = resolve(str(place / name))
    title = f"{scratch.architecture}-{scratch.size}"
    ledger.note("scratch", f"the base is a new {scratch.architecture} of size {scratch.size}, with "
                f"random weights and {_vocabulary(base):,} tokens")  # fmt: skip
    return replace(base, name=title, source="scratch")


def _vocabulary(base: Base) -> int:
    return int(json.loads((base.path / "config.json").read_text(encoding="utf-8"))["vocab_size"])


def _make(scratch: Scratch, folder: Path, splits: Splits, longest: int, seed: int) -> None:
    """Train the tokenizer, unless one is named, and write the base."""
    architecture = str(scratch.architecture)
    words = folder.with_name(f"{folder.name}-tokenizer")
    if scratch.tokenizer in ("own", "char"):
        own = {"kind": "char", "lowercase": False} if scratch.tokenizer == "char" else {}
        usual = TOKENIZERS[architecture] | own
        how = Training(**{**usual, "vocab_size": None if scratch.tokenizer == "char" else
                          scratch.vocabulary_size, "max_length": longest})  # fmt: skip
        tables = [own.train for own in (splits, *splits.corpora.values())]
        texts = [text for table in tables for text in table["text"].to_pylist() if text]
        # lines: a text of a book's length is no word list
        rows = [line for text in texts for line in text.splitlines(keepends=True)]
        try:
            backend, specials, _ = training.train(how, Corpus([rows], how))
        except RecipeError as error:
            raise RecipeError(f"scratch.vocabulary_size: {error}") from None
        words_path = words
        if not words.exists():
            training.save(training.as_transformers(backend, specials, how), {}, words)
    else:
        words_path = Path(scratch.tokenizer)
        if not (words_path / "tokenizer.json").is_file():
            words_path = resolve(scratch.tokenizer).path
    size = SIZES[scratch.size]
    new_base(
        architecture, words_path, folder,
        hidden_size=scratch.hidden_size or size.hidden_size, layers=scratch.layers or size.layers,
        heads=scratch.heads or size.heads, positions=longest + 1, dropout=scratch.dropout,
        seed=seed, **scratch.config,
    )  # fmt: skip


def windows_of(
    task: Any, split: str, table: Any, tokenizer: Any, base: Base, stamp: str, on_cut: Any
) -> TokenizedDataset:
    """The windows of a split's documents, kept in the cache where they are many."""
    joined = split == "train" and task.documents == "joined"
    settings = task.model_dump(mode="json", exclude={"trained_by", "covers_text"})
    rows = fingerprint({split: table})
    kind = family_of(read_json(base.path / "config.json")).kind
    key = shard_key(stamp, rows, base.tokenizer_sha256, settings, joined, kind, SHARDS)
    if joined:
        make = lambda cut: task.encode_joined(table, tokenizer, task.max_length)  # noqa: E731
    else:
        make = lambda cut: task.encode(table, [], tokenizer, task.max_length, cut)  # noqa: E731
    store = kept_windows(cache_folder() / "tokens" / key, on_cut, make)
    check_known(split, table, store, tokenizer)
    return store
