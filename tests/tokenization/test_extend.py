"""New words: one token each, begun as the mean of its old pieces, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto import modeling_auto as auto

from learning import load_classifier
from tiny import CONFIGS
from tokenization.corpora import TEXTS, asked
from warmstart.errors import ProofError, RecipeError, RunError
from warmstart.models.base import resolve
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.tokenizers import extend
from warmstart.tokenization import training as build
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.extension import insert

NEW = ["kubernetes", "parcelshop", "cat"]
OLD_TEXTS = [*TEXTS[:7], "category, concatenate: bobcats!", "kuberneteses xkubernetes parcelshops",
             "", "🙂 漢字"]  # fmt: skip
CASES = [
    ("bert", "wordpiece", "off", "MASKED_LM"),
    ("bert", "word", "off", "MASKED_LM"),
    ("electra", "wordpiece", "off", "MASKED_LM"),
    ("roberta", "bpe", "level", "MASKED_LM"),
    ("gpt2", "bpe", "level", "CAUSAL_LM"),
    ("llama", "bpe", "fallback", "CAUSAL_LM"),
    ("t5", "unigram", "off", "SEQ_TO_SEQ_CAUSAL_LM"),
    ("xlnet", "unigram", "fallback", "CAUSAL_LM"),
    ("bart", "bpe", "level", "SEQ_TO_SEQ_CAUSAL_LM"),
]
FAMILY = {"electra": "bert"}
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tiny model with its head, on a tokenizer of a kind; made once."""
    made: dict[Any, Path] = {}

    def get(family: str, kind: str, how: str, head: str, **more: Any) -> Path:
        key = (family, kind, how, head, *more.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("base") / family
            make(made[key], family, kind, how, head, **more)
        return made[key]

    return get


def make(folder: Path, family: str, kind: str, how: str, head: str, **more: Any) -> None:
    settings = asked(kind, bytes=how, family=FAMILY.get(family, family), max_length=60)
    backend, specials, _ = build.train(settings, Corpus([TEXTS], settings))
    tokenizer = build.as_transformers(backend, specials, settings)
    special = {
        f"{role}_id": getattr(tokenizer, f"{role}_id")
        for role in ("pad_token", "bos_token", "eos_token")
    }
    start = {"decoder_start_token_id": tokenizer.pad_token_id} if head.startswith("SEQ") else {}
    vocabulary = {"vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(family, **CONFIGS[family] | special | start | vocabulary | more)
    classes: Any = getattr(auto, f"AutoModelFor{HEADS[head]}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = classes.from_config(config)
        for name, weights in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weights)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


HEADS = {"MASKED_LM": "MaskedLM", "CAUSAL_LM": "CausalLM", "SEQ_TO_SEQ_CAUSAL_LM": "Seq2SeqLM"}


def loaded(folder: Path, head: str) -> tuple[Any, Any]:
    classes: Any = getattr(auto, f"AutoModelFor{HEADS[head]}")
    with quiet():
        return classes.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def outputs(model: Any, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.tensor([ids])
    more = {"decoder_input_ids": rows} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        whole = model(input_ids=rows, output_hidden_states=True, **more)
    hidden = whole.decoder_hidden_states if more else whole.hidden_states
    return hidden[-1], whole.logits


@pytest.mark.parametrize(("family", "kind", "how", "head"), CASES)
def test_new_words_are_one_token_and_old_texts_are_as_before(
    family: str, kind: str, how: str, head: str, base_of: Made, tmp_path: Path
):
    base = base_of(family, kind, how, head)
    found = extend(str(base), words=NEW, out=tmp_path / "out")
    old, before = loaded(base, head)
    new, after = loaded(tmp_path / "out", head)
    for text in OLD_TEXTS:
        ids = before(text).input_ids
        assert after(text).input_ids == ids
        if ids:
            (body, scores), (new_body, new_scores) = outputs(old, ids), outputs(new, ids)
            assert torch.equal(new_body, body)
            torch.testing.assert_close(new_scores[..., : scores.shape[-1]], scores)
    assert new.config.vocab_size == len(new.get_input_embeddings().weight) == found["rows"]
    assert len(after) == found["rows"]
    for row in found["words"]:
        word = row["word"]
        for text in (word, f"the {word} never", f"({word}), {word}!"):
            encoded = after(text, add_special_tokens=False, return_offsets_mapping=True)
            start = text.index(word)
            hit = [
                number
                for number, (begin, end) in zip(
                    encoded.input_ids, encoded.offset_mapping, strict=True
                )
                if begin < start + len(word) and end > start
            ]
            assert len(hit) == 1 and hit[0] in row["ids"]
        back = after.decode(after(f"the {word} never", add_special_tokens=False).input_ids)
        assert (
            back.split()
            == before.decode(before("the parcel never", add_special_tokens=False).input_ids)
            .replace("parcel", word)
            .split()
        )
    assert not any(i in after("category bobcat").input_ids for i in found["words"][-1]["ids"])


@pytest.mark.parametrize(("family", "kind", "how", "head"), CASES)
def test_each_new_row_is_the_mean_of_the_old_pieces(
    family: str, kind: str, how: str, head: str, base_of: Made, tmp_path: Path
):
    """The slow twin: pieces looked up one by one, summed in float64."""
    base = base_of(family, kind, how, head)
    found = extend(str(base), words=NEW, out=tmp_path / "out")
    old, before = loaded(base, head)
    new, _ = loaded(tmp_path / "out", head)
    for row in found["words"]:
        texts = (row["word"], f"x {row['word']}", f"({row['word']}")
        whole = [before(text, add_special_tokens=False).input_ids for text in texts]
        tails = [ids[start:] for ids in whole for start in (0, 1, 2)]
        for number in row["ids"]:
            for table in ("get_input_embeddings", "get_output_embeddings"):
                is_row = [
                    same_mean(getattr(old, table)(), getattr(new, table)(), ids, number)
                    for ids in tails
                    if ids
                ]
                assert any(is_row), (row, table)


def same_mean(old: Any, new: Any, pieces: Any, number: int) -> bool:
    for name in ("weight", "bias"):
        table = getattr(old, name, None)
        if table is None:
            continue
        total = torch.zeros_like(table[0], dtype=torch.float64)
        for piece in pieces:
            total += table[piece].double()
        if not torch.allclose((total / len(pieces)).float(), getattr(new, name)[number], atol=1e-6):
            return False
    return True


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_stay_tied(tied: bool, base_of: Made, tmp_path: Path):
    case = ("llama", "bpe", "level", "CAUSAL_LM")
    base = base_of(*case, tie_word_embeddings=tied)
    extend(str(base), words=NEW, out=tmp_path / "out")
    model, _ = loaded(tmp_path / "out", case[-1])
    same = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert same == tied == model.config.tie_word_embeddings


def test_the_bert_decoder_bias_is_saved_with_its_new_rows(base_of: Made, tmp_path: Path):
    base = base_of("bert", "wordpiece", "off", "MASKED_LM")
    extend(str(base), words=["kubernetes"], out=tmp_path / "out")
    old, _ = loaded(base, "MASKED_LM")
    new, _ = loaded(tmp_path / "out", "MASKED_LM")
    biases = old.cls.predictions.bias, new.cls.predictions.bias
    assert torch.equal(biases[1][: len(biases[0])], biases[0])
    assert biases[1][-1] != 0


def test_what_comes_out_is_a_base_again(base_of: Made, tmp_path: Path):
    base = base_of("bert", "wordpiece", "off", "MASKED_LM")
    extend(str(base), words=NEW, out=tmp_path / "out")
    again = resolve(str(tmp_path / "out"))
    tokenizer = load_tokenizer(again)
    model = load_classifier(again, ["a", "b"], seed=0)
    ids = tokenizer("the kubernetes cat", return_tensors="pt")
    assert model(**ids).logits.shape == (1, 2)
    twice = extend(str(tmp_path / "out"), words=["zeppelin"], out=tmp_path / "twice")
    assert twice["rows"] == again_rows(tmp_path / "out") + 1


def again_rows(folder: Path) -> int:
    return AutoConfig.from_pretrained(folder).vocab_size


def test_minilm_learns_a_word_in_any_case_but_not_inside_others(tmp_path: Path):
    found = extend("minilm", words="Kubernetes,helm", out=tmp_path / "out")
    assert [row["pieces"] for row in found["words"]] == [["ku", "##ber", "##net", "##es"]]
    assert found["notes"] == ["one token already, left as they are: helm"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    number = found["words"][0]["ids"][0]
    assert tokenizer("KUBERNETES, kubernetes!").input_ids.count(number) == 2
    assert number not in tokenizer("kubernetesy").input_ids
    assert found["proof"] == {"texts": 5, "max_difference": 0.0}


def test_spare_rows_of_a_padded_embedding_are_used_first(base_of: Made, tmp_path: Path):
    base = base_of("bert", "wordpiece", "off", "MASKED_LM")
    model, tokenizer = loaded(base, "MASKED_LM")
    model.resize_token_embeddings(len(tokenizer) + 5, mean_resizing=False)
    with quiet():
        model.save_pretrained(tmp_path / "padded")
        tokenizer.save_pretrained(tmp_path / "padded")
    found = extend(str(tmp_path / "padded"), words=NEW, out=tmp_path / "out")
    assert found["rows"] == found["rows_before"] == len(tokenizer) + 5


def test_words_are_proposed_that_save_most_tokens(tmp_path: Path):
    texts = ["the kubernetes cluster, Kubernetes!"] * 3 + ["an etcdctl, x86 and ab12 zzqqxxjj"] * 5
    (tmp_path / "c.txt").write_text("\n".join(texts))
    found = extend("minilm", corpus=str(tmp_path / "c.txt"), out=tmp_path / "out")
    rows = [(row["word"], row["count"]) for row in found["words"]]
    assert rows[0] == ("zzqqxxjj", 5) and ("kubernetes", 6) in rows and ("etcdctl", 5) in rows
    assert {word for word, _ in rows} == {"zzqqxxjj", "kubernetes", "etcdctl"}
    saved = [row["count"] * (len(row["pieces"]) - 1) for row in found["words"]]
    assert saved == sorted(saved, reverse=True)
    assert all(len(row["pieces"]) >= 3 for row in found["words"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "either --words"),
        ({"words": "a", "corpus": "b"}, "either --words"),
        ({"words": "two words"}, "more than one word"),
        ({"words": "good,house"}, "one token of minilm already"),
        ({"words": "x", "max_word": 3}, "Did you mean 'max_words'"),
        ({"corpus": "c.txt", "min_frequency": 50}, "no word occurs 50 times"),
    ],
)
def test_what_cannot_be_done_is_said(
    keys: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("c.txt").write_text("the kubernetes cluster\n" * 20)
    with pytest.raises(RecipeError, match=message):
        extend("minilm", out="out", **keys)
    assert not Path("out").exists()


def test_a_word_that_bpe_never_sees_whole_is_refused(base_of: Made, tmp_path: Path):
    base = base_of("gpt2", "bpe", "level", "CAUSAL_LM")
    with pytest.raises(RecipeError, match="pre-tokeniser takes the word apart"):
        extend(str(base), words="check-in", out=tmp_path / "out")
    words = tmp_path / "words.txt"
    words.write_text("kubernetes\n\nparcelshop\n")
    found = extend(str(base), words=str(words), out=tmp_path / "out")
    assert [row["word"] for row in found["words"]] == ["kubernetes", "parcelshop"]
    with pytest.raises(RunError, match="exists already"):
        extend(str(base), words="other", out=tmp_path / "out")


def test_a_tokenizer_that_transformers_rebuilds_is_refused(
    tiny_of: Callable[[str], Path], tmp_path: Path
):
    with pytest.raises(ProofError, match="rebuilds the tokenizer of qwen2"):
        extend(str(tiny_of("qwen2")), words="kubernetes", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_the_merges_never_give_are_told():
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}
    backend = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    new, added, notes = insert(backend, ["cab"])
    assert [entry.token for entry in added] == ["cab"]
    assert notes[0].startswith("1 old tokens that the merges never gave")
    assert new.encode("cab cabc").tokens == ["cab", "c", "ab", "c"]


def test_proposed_words_that_cannot_be_added_are_left_out_and_told(base_of: Made):
    backend = load_tokenizer(resolve(str(base_of("gpt2", "bpe", "level", "CAUSAL_LM"))))
    new, added, notes = insert(backend.backend_tokenizer, ["check-in", "kubernetes"], skip=True)
    assert {entry.word for entry in added} == {"kubernetes"}
    assert notes == ["left out, cannot become one token: check-in"]
    assert new.encode(" kubernetes").ids == [added[-1].id] or len(added) == 2


def test_chinese_words_that_the_normaliser_takes_apart_are_not_proposed(tmp_path: Path):
    (tmp_path / "c.txt").write_text("漢字 kubernetes\n" * 9)
    found = extend("minilm", corpus=str(tmp_path / "c.txt"), out=tmp_path / "out", min_pieces=2)
    assert [row["word"] for row in found["words"]] == ["kubernetes"]
    with pytest.raises(RecipeError, match="more than one word to this tokenizer"):
        extend("minilm", words="漢字", out=tmp_path / "two")
