"""A multilingual vocabulary trimmed to one language: texts of that language are answered by the
very same numbers, and written by the very same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from tiny import BERT_LIKE, LLAMA_LIKE
from warmstart.compression.base import Source
from warmstart.compression.vocabulary import Vocabulary
from warmstart.errors import RecipeError
from warmstart.tasks.classification import Classification
from warmstart.tasks.text2text import Text2Text

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
GERMAN = (
    "der Zug nach Zürich fährt heute später ab",
    "das Paket ist leider noch nicht angekommen",
    "wir möchten das Geld gern zurück haben",
    "die Straße über den Fluss bleibt bis morgen gesperrt",
    "niemand weiß, wann der nächste Bus kommt",
    "vielen Dank für die schnelle Antwort, es hat geklappt!",
)
FRENCH = (
    "le train pour Genève part plus tard aujourd'hui",
    "le colis n'est malheureusement pas encore arrivé",
    "nous aimerions récupérer notre argent",
    "la route au-dessus de la rivière reste fermée jusqu'à demain",
    "personne ne sait quand le prochain bus arrivera",
    "merci beaucoup pour la réponse rapide, ça a marché !",
)
RUSSIAN = (
    "поезд в Цюрих сегодня отправляется позже",
    "посылка, к сожалению, ещё не пришла",
    "мы хотели бы вернуть деньги",
    "дорога через реку закрыта до завтра",
    "никто не знает, когда придёт следующий автобус",
    "большое спасибо за быстрый ответ, всё получилось!",
)


def tokenizer_of(kind: str) -> Any:
    """A tokenizer of a kind, trained on three languages."""
    trainer: Any
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL,
                                          unk_token="<unk>")  # fmt: skip
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL,
                                      initial_alphabet=alphabet)  # fmt: skip
    backend.train_from_iterator(3 * [*GERMAN, *FRENCH, *RUSSIAN], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>",
        unk_token="<unk>",
    )  # fmt: skip


def model_of(family: str, tokens: int) -> Any:
    """A random model of large weights, so that what it says differs from text to text."""
    own = LLAMA_LIKE if family == "llama" else BERT_LIKE
    config = AutoConfig.for_model(family, **own, vocab_size=tokens, pad_token_id=1,
                                  bos_token_id=0, eos_token_id=2, num_labels=3)  # fmt: skip
    auto = AutoModelForCausalLM if family == "llama" else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model: Any = auto.from_config(config).eval()
        for weights in model.parameters():
            weights.mul_(4.0 if weights.ndim == 2 else 1.0)
    return model


def trimmed(model: Any, tokenizer: Any, task: Any, folder: Path, **settings: Any) -> Any:
    texts = folder / "german.txt"
    texts.write_text("\n".join(GERMAN), encoding="utf-8")
    part = Vocabulary(texts=str(texts), **settings)
    source = Source(folder, model, tokenizer, task, list)
    part.check(source)
    return part.begin(source)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_texts_of_the_kept_language_have_the_very_same_outputs(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    model = model_of("xlm-roberta", len(tokenizer))

    def outputs(model: Any, tokenizer: Any) -> list[torch.Tensor]:
        with torch.no_grad():
            return [model(**tokenizer(text, return_tensors="pt")).logits for text in GERMAN]

    wanted, tokens = outputs(model, tokenizer), len(tokenizer)
    start = trimmed(model, tokenizer, Classification(), tmp_path)
    assert all(map(torch.equal, outputs(start.model, start.tokenizer), wanted))
    assert len({tuple(row[0].tolist()) for row in wanted}) == len(GERMAN)
    assert start.model.config.vocab_size == len(start.tokenizer) < 0.8 * tokens
    assert start.notes == [f"{len(start.tokenizer)} tokens of {tokens} are left"]
    german, russian = (start.tokenizer(text[0]).input_ids for text in (GERMAN, RUSSIAN))
    assert start.tokenizer.unk_token_id not in german
    assert start.tokenizer.decode(german, skip_special_tokens=True) == GERMAN[0]
    if kind == "unigram":
        assert start.tokenizer.unk_token_id in russian
    else:  # bytes stay, so that no text is unknown
        assert start.tokenizer.decode(russian, skip_special_tokens=True) == RUSSIAN[0]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_writer_writes_the_same_of_the_tokens_that_are_left(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    model, last = model_of("llama", len(tokenizer)), len(tokenizer) - 1
    model.generation_config = GenerationConfig(
        max_new_tokens=8, eos_token_id=[2, last], pad_token_id=1,
        bad_words_ids=[[5], [4, last - 1]], suppress_tokens=[4, last - 1],
    )  # fmt: skip
    ids = tokenizer(GERMAN[0], return_tensors="pt").input_ids[:, :-1]
    with torch.no_grad():
        before = model(ids).logits[0]
    start = trimmed(model, tokenizer, Text2Text(), tmp_path)
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kept = [names.index(token) for token in
            start.tokenizer.convert_ids_to_tokens(range(len(start.tokenizer)))]  # fmt: skip
    places = {old: new for new, old in enumerate(kept)}
    fresh = start.tokenizer(GERMAN[0], return_tensors="pt").input_ids[:, :-1]
    assert fresh[0].tolist() == [places[number] for number in ids[0].tolist()]
    with torch.no_grad():
        after = start.model(fresh).logits[0]
    assert torch.equal(after, before[:, kept]), "the tokens that are left have their scores"
    own = start.model.generation_config
    assert own.eos_token_id == [places[2], places[last]] and own.max_new_tokens == 8
    known = [entry for entry in ([5], [4, last - 1]) if {*entry} <= {*kept}]
    assert (own.bad_words_ids or []) == [[places[token] for token in entry] for entry in known]
    assert own.suppress_tokens == [places[token] for token in (4, last - 1) if token in places]


def test_a_writer_does_not_learn_again_by_other_tokens(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("bpe")
    with pytest.raises(RecipeError, match="its tokens would be others; leave it out"):
        trimmed(model_of("llama", len(tokenizer)), tokenizer, Text2Text(), tmp_path, recovery=True)
