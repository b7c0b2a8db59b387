"""Two texts in one row: the ids, types and cuts are those of transformers' own tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from learning import FILLERS, base_of
from tiny import tiny
from warmstart.data.tokens.encoding import separator, tokenise_pairs
from warmstart.errors import RecipeError
from warmstart.models.base import resolve
from warmstart.models.loading import load_tokenizer

Folder = Callable[[str], Path]
TYPED = ("bert", "electra", "xlnet")
TEMPLATES = [*TYPED, "roberta", "distilbert", "modernbert", "bart", "t5", "pegasus"]
BARE = ["gpt2", "llama", "qwen2"]
FIRST = ["the film was great", "one", " ".join(FILLERS * 2), "good", ""]
SECOND = ["it was awful", " ".join(FILLERS * 3), "red green", "good", "the"]


def rows_of(store: Any) -> list[list[int]]:
    return [store.row(i).tolist() for i in range(len(store))]


@pytest.mark.parametrize("longest", [12, 64])
@pytest.mark.parametrize("family", TEMPLATES)
def test_as_transformers_does(family: str, longest: int, tiny_of: Folder) -> None:
    """Cut too: the longer text first, one token at a time."""
    tokenizer: Any = load_tokenizer(base_of(tiny_of(family)))
    expected = tokenizer(
        FIRST, SECOND, truncation=True, max_length=longest, return_token_type_ids=True
    )
    whole = tokenizer(FIRST, SECOND)["input_ids"]
    cut: dict[int, int] = {}
    store = tokenise_pairs(FIRST, SECOND, tokenizer, longest, cut.__setitem__)
    assert rows_of(store) == expected["input_ids"]
    lost = {i: len(row) - longest for i, row in enumerate(whole) if len(row) > longest}
    assert cut == lost and (len(lost) > 0) == (longest == 12)
    if family in TYPED:
        assert store.types is not None
        assert store.types.tolist() == [t for row in expected["token_type_ids"] for t in row]
    else:
        assert store.types is None
    assert (store.targets == -100).all()


@pytest.mark.parametrize("family", BARE)
def test_without_a_template_a_token_stands_between(family: str, tiny_of: Folder) -> None:
    tokenizer: Any = load_tokenizer(base_of(tiny_of(family)))
    between = separator(tokenizer)
    assert between == tokenizer.eos_token_id is not None
    store = tokenise_pairs(["a film", "one"], ["good", "two three"], tokenizer, 64)
    both = [[tokenizer("a film").input_ids, tokenizer("good").input_ids],
            [tokenizer("one").input_ids, tokenizer("two three").input_ids]]  # fmt: skip
    assert rows_of(store) == [[*one, between, *two] for one, two in both]
    assert store.types is None
    cut: dict[int, int] = {}
    store = tokenise_pairs([FIRST[2]], [SECOND[1]], tokenizer, 9, cut.__setitem__)
    assert len(store.row(0)) == 9 and store.row(0).tolist().count(between) == 1
    whole = tokenise_pairs([FIRST[2]], [SECOND[1]], tokenizer, 1000)
    assert cut == {0: len(whole.row(0)) - 9}


def test_the_shipped_model_and_its_settings_come_back(tiny_of: Folder) -> None:
    tokenizer: Any = load_tokenizer(resolve("minilm"))
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(7)
    backend.enable_padding(length=9)
    before = backend.truncation, backend.padding
    store = tokenise_pairs(["A man's dog"], ["sleeps"], tokenizer, 32)
    assert (backend.truncation, backend.padding) == before
    expected = tokenizer("A man's dog", "sleeps")
    assert store.row(0).tolist() == expected["input_ids"]
    assert store.types is not None and store.types.tolist() == expected["token_type_ids"]
    tokenizer.truncation_side = "left"
    left = tokenizer("one two three", "four five", truncation=True, max_length=7)["input_ids"]
    found = tokenise_pairs(["one two three"], ["four five"], tokenizer, 7)
    assert found.row(0).tolist() == left


def test_targets_and_many_rows(tiny_of: Folder) -> None:
    tokenizer: Any = load_tokenizer(base_of(tiny_of("bert")))
    n = 4_001  # more than two chunks
    first = [f"{'good ' * (i % 3)}film" for i in range(n)]
    targets = np.arange(n, dtype=np.float32)
    cut: list[int] = []
    store = tokenise_pairs(first, ["bad"] * n, tokenizer, 6, lambda row, tokens: cut.append(row))
    assert len(store) == n and cut == [i for i in range(n) if i % 3 == 2]
    store = tokenise_pairs(first, ["bad"] * n, tokenizer, 60, None, targets)
    assert store.targets is targets


def test_no_room(tiny_of: Folder) -> None:
    tokenizer: Any = load_tokenizer(base_of(tiny_of("bert")))
    with pytest.raises(RecipeError, match="max_length 4 leaves no room for two texts beside 3"):
        tokenise_pairs(["a"], ["b"], tokenizer, 4)
    bare: Any = load_tokenizer(base_of(tiny_of("gpt2")))
    with pytest.raises(RecipeError, match="beside 1 special"):
        tokenise_pairs(["a"], ["b"], bare, 2)
    bare.eos_token = None
    with pytest.raises(RecipeError, match="no token that could part two texts"):
        separator(bare)


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_a_model_without_types_is_given_none(family: str, tmp_path: Path) -> None:
    """Whatever its tokenizer says; and what is saved with it says so."""
    settings: dict[str, Any] = {"type_vocab_size": 1} if family == "roberta" else {}
    folder = tiny(family, tmp_path / family, **settings)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer: Any = load_tokenizer(resolve(str(folder)))
    tokenizer.save_pretrained(tmp_path / "saved")
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert one.model_input_names == ["input_ids", "attention_mask"]
