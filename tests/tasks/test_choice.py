"""Likelihoods of texts by language models, against plain loops over transformers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import warmstart
from tiny import tiny, tiny_tokenizer
from warmstart import api
from warmstart.errors import DataError, RecipeError
from warmstart.models.hf_calls import quiet
from warmstart.training import datasets

PAIRS = [
    {"sentence_good": "the film was very good .", "sentence_bad": "the film good was very ."},
    {"sentence_good": "i liked the book", "sentence_bad": "i liked the the book never again !"},
    {"sentence_good": "a song", "sentence_bad": "song a"},
    {"sentence_good": "this movie is bad and poor", "sentence_bad": "this movie is bad and a poor"},
    {"sentence_good": "money back", "sentence_bad": "back money back , money back ! money"},
]
CHOICES = [
    {"question": "the film was", "choices": ["very good", "bad", "not a great song"], "answer": 2},
    {"question": "i liked the", "choices": ["book", "red movie"], "answer": 0},
]
CLOZE = [
    {"prompt": "the film was not", "response": "very good"},
    {"prompt": "i liked the", "response": "book"},
    {"prompt": "one two", "response": "three four late"},
]
SEPARATOR, START = 2, 1
Rows = Sequence[Mapping[str, Any]]


def language_model(family: str, folder: Path, **settings: Any) -> Path:
    """A tiny model of a family with the head that predicts tokens, as any tool would save it."""
    tiny(family, folder, **settings)
    config = transformers.AutoConfig.from_pretrained(folder)
    autos = (transformers.AutoModelForMaskedLM, transformers.AutoModelForSeq2SeqLM,
             transformers.AutoModelForCausalLM)  # fmt: skip
    auto = next(auto for auto in autos if type(config) in auto._model_mapping)
    torch.manual_seed(7)
    model: Any = auto.from_config(config)
    with torch.no_grad():  # far enough from uniform that the order of texts is no accident
        for weights in model.parameters():
            weights.mul_(4.0)
    with quiet():
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = language_model(family, tmp_path_factory.mktemp("lm") / family)
        return made[family]

    return get


def ask(model: Path, rows: Any, out: Path, **keys: Any) -> tuple[dict[str, Any], list[Any]]:
    """The metrics, and the predictions row by row."""
    import pyarrow.parquet as pq

    metrics = warmstart.evaluate(model, rows, out=out, **keys)
    return metrics, pq.read_table(out / "predictions.parquet").to_pylist()


def loaded(folder: Path, auto: Any) -> tuple[Any, Any]:
    with quiet():
        return (auto.from_pretrained(folder, dtype=torch.float32).eval(),
                transformers.AutoTokenizer.from_pretrained(folder))  # fmt: skip


def causal(folder: Path, context: str, text: str, *, left: int = 0) -> list[float]:
    """Log-probabilities of the text's tokens behind the separator and the context, one sequence at
    a time; behind `left` masked pads, as padding on the left would put it."""
    model, tokenizer = loaded(folder, transformers.AutoModelForCausalLM)
    before = tokenizer(context, add_special_tokens=False).input_ids if context else []
    own = tokenizer(text, add_special_tokens=False).input_ids
    ids = torch.tensor([[0] * left + [SEPARATOR, *before, *own]])
    mask = torch.tensor([[0] * left + [1] * (ids.shape[1] - left)])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    probabilities = logits[0].log_softmax(-1)
    first = left + 1 + len(before)
    return [float(probabilities[first + i - 1, token]) for i, token in enumerate(own)]


def masked(folder: Path, context: str, text: str) -> list[float]:
    """Log-probabilities of the text's tokens, each hidden alone."""
    model, tokenizer = loaded(folder, transformers.AutoModelForMaskedLM)
    before = tokenizer(context, add_special_tokens=False).input_ids if context else []
    own = tokenizer(text, add_special_tokens=False).input_ids
    whole, values = [START, *before, *own, SEPARATOR], list[float]()
    for place, token in enumerate(own, 1 + len(before)):
        ids = torch.tensor([whole])
        ids[0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            values.append(float(model(input_ids=ids).logits[0, place].log_softmax(-1)[token]))
    return values


def beside(folder: Path, context: str, text: str) -> list[float]:
    """Log-probabilities of the tokens that the decoder of an encoder-decoder writes."""
    model, tokenizer = loaded(folder, transformers.AutoModelForSeq2SeqLM)
    own = tokenizer(text, add_special_tokens=False).input_ids
    read = tokenizer(context).input_ids
    if read[0] == START:  # BART begins every text so
        own = [START, *own]
    start = model.config.decoder_start_token_id
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([[start, *own[:-1]]])
        ).logits
    probabilities = logits[0].log_softmax(-1)
    return [float(probabilities[i, token]) for i, token in enumerate(own)]


BY_HAND = {"gpt2": causal, "llama": causal, "bert": masked, "roberta": masked,
           "distilbert": masked, "modernbert": masked, "t5": beside, "bart": beside}  # fmt: skip


@pytest.mark.parametrize("family", BY_HAND)
def test_log_probabilities_are_those_of_a_plain_loop(
    family: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, by_hand = model_of(family), BY_HAND[family]
    metrics, rows = ask(folder, PAIRS, tmp_path / "pairs")
    right = list[bool]()
    for pair, row in zip(PAIRS, rows, strict=True):
        expected = [sum(by_hand(folder, "", pair[name]))
                    for name in ("sentence_good", "sentence_bad")]  # fmt: skip
        assert row["log_probabilities"] == pytest.approx(expected, rel=2e-5)
        right.append(expected[0] > expected[1])
    assert metrics["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert [row["correct"] for row in rows] == right


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_choices_by_sum_token_and_byte(
    family: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, by_hand = model_of(family), BY_HAND[family]
    keys = {"task": "choice", "task.template": "{question}"}
    credits = dict[str, list[float]]()
    for row in CHOICES:
        values = [by_hand(folder, str(row["question"]), text) for text in row["choices"]]
        ways = {
            "sum": [sum(own) for own in values],
            "token": [float(np.mean(own)) for own in values],
            "byte": [
                sum(own) / len(text) for own, text in zip(values, row["choices"], strict=True)
            ],
        }  # fmt: skip
        for way, own in ways.items():
            credits.setdefault(way, []).append(float(int(np.argmax(own)) == row["answer"]))
    for way, own in credits.items():
        metrics, _ = ask(folder, CHOICES, tmp_path / way, **keys, **{"task.normalise": way})
        assert metrics["accuracy"]["value"] == np.mean(own), way
        for other in {"sum", "byte"} - {way}:
            assert metrics[f"accuracy_{other}"]["value"] == np.mean(credits[other])
        assert metrics["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_cloze_counts_all_tokens_of_the_response(
    family: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, by_hand = model_of(family), BY_HAND[family]
    metrics, rows = ask(folder, CLOZE, tmp_path / "cloze", task="choice")
    values = [by_hand(folder, row["prompt"], row["response"]) for row in CLOZE]
    assert [row["log_probabilities"][0] for row in rows] == pytest.approx(
        [sum(own) for own in values], rel=2e-5
    )
    tokens = sum(map(len, values))
    assert metrics["perplexity"]["value"] == pytest.approx(
        math.exp(-sum(map(sum, values)) / tokens), rel=1e-4
    )
    assert metrics["response_perplexity"]["value"] == pytest.approx(
        math.exp(-sum(map(sum, values)) / len(CLOZE)), rel=1e-3
    )


def test_a_response_is_right_if_greedy_decoding_writes_it(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_of("gpt2")
    model, tokenizer = loaded(folder, transformers.AutoModelForCausalLM)
    rows = list[dict[str, str]]()
    for prompt in ("the film was not", "i liked the"):
        ids = [SEPARATOR, *tokenizer(prompt, add_special_tokens=False).input_ids]
        for _ in range(3):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        own = tokenizer.convert_ids_to_tokens(ids[-3:])
        assert not set(own) & set(tokenizer.all_special_tokens)
        other = "red" if own[-1] != "red" else "blue"
        rows += [{"prompt": prompt, "response": " ".join(own)},
                 {"prompt": prompt, "response": " ".join([*own[:-1], other])}]  # fmt: skip
    metrics, answers = ask(folder, rows, tmp_path / "out")
    assert [row["correct"] for row in answers] == [True, False, True, False]
    assert metrics["accuracy"]["value"] == 0.5


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
def test_neither_batch_nor_padding_changes_a_likelihood(
    family: str, model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, values = model_of(family), list[list[float]]()
    sizes: dict[str, Callable[..., Any]] = {}
    for count in (1, 8, 16):

        def batches(lengths: np.ndarray, tokens: int, count: int = count) -> list[np.ndarray]:
            order = np.argsort(-np.asarray(lengths), kind="stable")
            return [order[i : i + count] for i in range(0, len(order), count)]

        sizes[str(count)] = batches
    for name, batches in sizes.items():
        monkeypatch.setattr(datasets, "ordered", batches)
        _, rows = ask(folder, PAIRS * 3, tmp_path / name)
        values.append([value for row in rows for value in row["log_probabilities"]])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-6)
    if BY_HAND[family] is causal:
        for pair, row in zip(PAIRS, rows, strict=False):
            padded = sum(causal(folder, "", pair["sentence_good"], left=5))
            assert row["log_probabilities"][0] == pytest.approx(padded, rel=2e-5)


def uniform(family: str, folder: Path) -> Path:
    """A model that finds every token equally likely."""
    language_model(family, folder)
    auto: Any = transformers.AutoModelForMaskedLM if family == "bert" else (
        transformers.AutoModelForCausalLM)  # fmt: skip
    model, _ = loaded(folder, auto)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    with quiet():
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_constant_model_gets_half_and_a_uniform_one_the_vocabulary(
    family: str, tmp_path: Path
) -> None:
    """babylm/evaluation-pipeline-2025#34, alexwarstadt/blimp#10, lm-evaluation-harness#350."""
    folder = uniform(family, tmp_path / "model")
    pairs = [{"sentence_good": "a good film", "sentence_bad": "film good a"}] * 7
    pairs += [{"sentence_good": "a good film", "sentence_bad": "a good film"}]
    metrics, rows = ask(folder, pairs, tmp_path / "pairs")
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["ties"]["value"] == 1.0
    assert any("8 rows are ties" in note for note in metrics["notes"])
    assert not any(row["correct"] for row in rows)
    choices = [{"question": "a", "choices": ["film", "book", "song", "food"], "answer": i % 4}
               for i in range(3)]  # fmt: skip
    assert ask(folder, choices, tmp_path / "choices")[0]["accuracy"]["value"] == 0.25
    metrics, _ = ask(folder, CLOZE, tmp_path / "cloze")
    vocabulary = len(tiny_tokenizer(family))
    assert metrics["perplexity"]["value"] == pytest.approx(vocabulary, rel=1e-5)


def test_identical_texts_are_a_tie_for_any_model(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    same = [{"sentence_good": row["sentence_good"], "sentence_bad": row["sentence_good"]}
            for row in PAIRS]  # fmt: skip
    for family in ("gpt2", "bert", "t5"):
        metrics, _ = ask(model_of(family), same, tmp_path / family)
        assert metrics["accuracy"]["value"] == 0.5
        assert metrics["ties"]["value"] == 1.0


def test_a_biased_model_scores_above_a_half(tmp_path: Path) -> None:
    """LLMSurvey#67: the sign of a preference, by a model that was made to prefer one word."""
    folder = uniform("gpt2", tmp_path / "model")
    tokenizer = tiny_tokenizer("gpt2")
    model, _ = loaded(folder, transformers.AutoModelForCausalLM)
    with torch.no_grad():  # the last layer's norm gives ones; the word's row of the matrix counts
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("good")] = 0.1
    with quiet():
        model.save_pretrained(folder)
    pairs = [{"sentence_good": f"{a} {b} good", "sentence_bad": f"{a} {b} bad"}
             for a, b in (("the", "film"), ("a", "book"))]  # fmt: skip
    assert ask(folder, pairs, tmp_path / "a")[0]["accuracy"]["value"] == 1.0
    turned = [{"sentence_good": p["sentence_bad"], "sentence_bad": p["sentence_good"]}
              for p in pairs]  # fmt: skip
    assert ask(folder, turned, tmp_path / "b")[0]["accuracy"]["value"] == 0.0


def test_the_prefix_is_stated_and_can_be_chosen(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_of("gpt2")
    metrics, rows = ask(folder, PAIRS, tmp_path / "auto")
    assert any("behind the prefix </s>" in note for note in metrics["notes"])
    metrics, others = ask(folder, PAIRS, tmp_path / "s", **{"task.prefix": "<s>"})
    assert any("behind the prefix <s>" in note for note in metrics["notes"])
    assert rows[0]["log_probabilities"] != others[0]["log_probabilities"]
    metrics, bare = ask(folder, PAIRS, tmp_path / "none", **{"task.prefix": "none"})
    assert any("without a prefix" in note for note in metrics["notes"])
    assert bare[0]["tokens"] == [n - 1 for n in rows[0]["tokens"]]
    with pytest.raises(RecipeError, match="no token of this tokenizer"):
        warmstart.evaluate(folder, PAIRS, **{"task.prefix": "<nothing>"})


def in_pieces(folder: Path) -> Path:
    """A tiny BERT whose tokenizer splits words into pieces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    language_model("bert", folder, max_position_embeddings=64)
    names = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "un", "##believ", "##able", "the", "film",
             "##s", "was", "good"]  # fmt: skip
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
        cls_token="<s>", sep_token="</s>", model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("way", ["original", "within_word"])
def test_a_word_of_several_pieces_is_not_guessed_from_its_end(way: str, tmp_path: Path) -> None:
    """minicons#31: Salazar et al. 2020 hide one token, Kauf & Ivanova 2023 the rest of its word."""
    folder = in_pieces(tmp_path / "model")
    text = "the films was unbelievable"
    words = [0, 1, 1, 2, 3, 3, 3]
    model, tokenizer = loaded(folder, transformers.AutoModelForMaskedLM)
    whole = tokenizer(text).input_ids
    assert len(whole) == len(words) + 2
    expected = 0.0
    for place, word in enumerate(words):
        ids = torch.tensor([whole])
        for later in range(place, len(words)):
            if later == place or (way == "within_word" and words[later] == word):
                ids[0, 1 + later] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, 1 + place]
        expected += float(logits.log_softmax(-1)[whole[1 + place]])
    rows = [{"sentence_good": text, "sentence_bad": "the film was good"}]
    metrics, answers = ask(folder, rows, tmp_path / "out", **{"task.pll": way})
    assert answers[0]["log_probabilities"][0] == pytest.approx(expected, rel=2e-5)
    assert any(f"task.pll {way}" in note for note in metrics["notes"])


def in_bytes(folder: Path) -> Path:
    """A tiny GPT-2 whose tokenizer joins letters, so that a border may fall into a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<pad>", "<s>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()),
             "ab", "Ġa"]  # fmt: skip
    language_model("gpt2", folder, vocab_size=len(names))
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, [("a", "b"), ("Ġ", "a")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", model_max_length=64
    ).save_pretrained(folder)
    return folder


def test_a_prefix_may_be_what_a_tokenizer_of_bytes_calls_unknown(tmp_path: Path) -> None:
    metrics, _ = ask(
        in_bytes(tmp_path / "model"), PAIRS, tmp_path / "out", **{"task.prefix": "<unk>"}
    )
    assert any("behind the prefix <unk>" in note for note in metrics["notes"])
    assert not any("unknown to the model" in note for note in metrics["notes"])


def test_context_and_text_are_parted_at_the_border_of_tokens(tmp_path: Path) -> None:
    from warmstart.data.tokens.continuations import Continuations
    from warmstart.models.saved import saved_tokenizer

    tokenizer = saved_tokenizer(in_bytes(tmp_path / "model"))
    contexts, texts = ["xa", "xa", "é", ""], ["b c", " a", " 🙂", "ab"]
    rows = Continuations(contexts, texts, tokenizer, 64).parted()
    names = [(tokenizer.convert_ids_to_tokens(r.context), tokenizer.convert_ids_to_tokens(
        r.continuation), r.merged) for r in rows]  # fmt: skip
    assert names[0] == (["x"], ["ab", "Ġ", "c"], True)
    assert names[1] == (["x", "a"], ["Ġa"], False)
    assert names[2][0] == ["Ã", "©"] and not names[2][2]
    assert names[3] == ([], ["ab"], False)
    for context, text, row in zip(contexts, texts, rows, strict=True):
        whole = tokenizer(context + text, add_special_tokens=False).input_ids
        assert row.context + row.continuation == whole
    question = [{"question": "x_", "choices": ["b", "c"], "answer": 0}]  # no blank: inside a word
    keys = {"task.template": "{question}a"}
    assert not any(
        "begins in the context" in note
        for note in warmstart.evaluate(tmp_path / "model", question, **keys)["notes"]
    )
    blank = [{"question": "a _bc", "choices": ["x", "y"], "answer": 0},
             {"question": "c _ bb", "choices": ["x", "a"], "answer": 0}]  # fmt: skip
    assert warmstart.evaluate(tmp_path / "model", blank)["rows"] == 2


def test_a_blank_is_filled_in_and_what_follows_is_counted(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """As Winogrande is asked in lm-evaluation-harness (Trinh & Le 2018: partial evaluation)."""
    folder = model_of("gpt2")
    rows = [
        {"question": "the _ was very good", "choices": ["film", "red book"], "answer": 1},
        {"question": "i liked the _", "choices": ["food", "song"], "answer": 0},
    ]
    _, answers = ask(folder, rows, tmp_path / "out")
    expected = [
        [sum(causal(folder, "the film", "was very good")),
         sum(causal(folder, "the red book", "was very good"))],
        [sum(causal(folder, "i liked the", "food")), sum(causal(folder, "i liked the", "song"))],
    ]  # fmt: skip
    for row, own in zip(answers, expected, strict=True):
        assert row["log_probabilities"] == pytest.approx(own, rel=2e-5)


def test_figures_of_each_group(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    rows = [{**pair, "phenomenon": "order" if i % 2 else "count", "UID": f"u{i}"}
            for i, pair in enumerate(PAIRS)]  # fmt: skip
    metrics, answers = ask(model_of("gpt2"), rows, tmp_path / "out")
    groups = metrics["groups"]
    for name in ("order", "count"):
        own = [row["credit"] for row in answers if row["phenomenon"] == name]
        assert groups["phenomenon"][name]["rows"] == len(own)
        assert groups["phenomenon"][name]["accuracy"] == pytest.approx(np.mean(own))
    assert list(groups["paradigm"]) == [f"u{i}" for i in range(5)]
    assert metrics["sections"][0]["columns"] == ["phenomenon", "rows", "accuracy"]


ARC = {"text": ["film", "book", "song"], "label": ["A", "B", "C"]}


@pytest.mark.parametrize(("row", "right"), [
    ({"question": "a", "choices": ["film", "book", "song"], "answer": 1}, "book"),
    ({"question": "a", "choices": '["film", "book", "song"]', "answer": "1"}, "book"),
    ({"question": "a", "choices": ["film", "book", "song"], "answer": "C"}, "song"),
    ({"question": "a", "choices": ["film", "book", "song"], "answer": "film"}, "film"),
    ({"question": "a", "choices": ARC, "answerKey": "B"}, "book"),
    ({"question": "a", "choices": {**ARC, "label": ["1", "2", "3"]}, "answerKey": "1"}, "film"),
])  # fmt: skip
def test_the_right_choice_by_number_name_or_words(
    row: dict[str, Any], right: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    _, answers = ask(model_of("gpt2"), [row], tmp_path / "out")
    assert answers[0]["answer"] == right


@pytest.mark.parametrize(("row", "reason"), [
    ({"question": "a", "choices": ["x", "y"], "answer": 2}, ":2: the answer '2' is none of"),
    ({"question": "a", "choices": ["x"], "answer": 0}, ":2: choices is no list of two"),
    ({"question": "a", "choices": ["x", " "], "answer": 0}, ":2: an empty choice"),
    ({"question": "a", "choices": None, "answer": 0}, ":2: choices is no list of two"),
])  # fmt: skip
def test_a_row_that_cannot_be_judged_is_named(
    row: dict[str, Any], reason: str, model_of: Callable[[str], Path]
) -> None:
    good = {"question": "a", "choices": ["film", "book"], "answer": 0}
    with pytest.raises(DataError, match=reason):
        warmstart.evaluate(model_of("gpt2"), [good, row])


def test_a_long_context_loses_its_beginning_and_a_long_text_is_refused(
    model_of: Callable[[str], Path],
) -> None:
    long = [{"prompt": "the film was " * 40, "response": "very good"}]
    notes = warmstart.evaluate(model_of("gpt2"), long, task="choice")["notes"]
    assert any("the beginning of the context was not read" in note for note in notes)
    with pytest.raises(DataError, match=":1: a text of 120 tokens, of which the model can read 62"):
        warmstart.evaluate(
            model_of("bert"), [{"sentence_good": "the film was " * 40, "sentence_bad": "a"}]
        )


def test_what_the_data_are_for_decides_what_a_base_is_asked(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_of("gpt2")
    text = tmp_path / "corpus.txt"
    text.write_text("the film was very good .\ni liked the book .\n" * 5)
    table = tmp_path / "texts.csv"
    table.write_text("id,text\n" + "".join(f"{i},the film was very good {i}\n" for i in range(3)))
    for source in (text, table):
        metrics = warmstart.evaluate(folder, source)
        assert metrics["main"] == "loss" and metrics["bits_per_byte"]["value"] > 0
        assert any("Evaluated in task language_model" in note for note in metrics["notes"])
    pairs = tmp_path / "test.csv"
    with pairs.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["sentence_good", "sentence_bad"])
        writer.writeheader()
        writer.writerows(PAIRS)
    for source in (pairs, tmp_path):
        metrics = warmstart.evaluate(folder, source)
        assert metrics["main"] == "accuracy"
        assert any("columns sentence_good, sentence_bad" in note for note in metrics["notes"])
    questions = [{"source": "the film", "target": "was good"}]
    assert warmstart.evaluate(folder, questions)["main"] == "exact_match"
    prompts = [{"prompt": "the film", "response": "was good"}]
    assert warmstart.evaluate(folder, prompts)["main"] == "accuracy"
    assert warmstart.evaluate(folder, prompts, task="text2text")["main"] == "exact_match"
    assert warmstart.evaluate(model_of("t5"), prompts)["main"] == "exact_match"
    named = [{"right": row["sentence_good"], "wrong": row["sentence_bad"]} for row in PAIRS]
    keys = {"data.columns.sentence_good": "right", "data.columns.sentence_bad": "wrong"}
    assert warmstart.evaluate(folder, named, **keys)["main"] == "accuracy"


def test_bits_per_byte_of_a_causal_base_by_hand(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, text = model_of("gpt2"), "the film was very good . i liked it"
    (tmp_path / "corpus.txt").write_text(text)
    metrics = warmstart.evaluate(folder, tmp_path / "corpus.txt")
    nats = -sum(causal(folder, "", f"{text} </s>"))
    assert metrics["bits_per_byte"]["value"] == pytest.approx(
        nats / math.log(2) / len(text.encode()), rel=1e-4
    )


def test_other_models_are_not_asked_so(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    from tiny import classifier

    labels = [{"text": "a film", "label": "yes"}]
    folder = classifier("bert", tmp_path / "classifier")
    with pytest.raises(RecipeError, match="'task.pll' says how a language model is asked"):
        warmstart.evaluate(folder, labels, **{"task.pll": "original"})
    with pytest.raises(RecipeError, match="not asked in task classification"):
        warmstart.evaluate(model_of("gpt2"), PAIRS, task="classification")
    with pytest.raises(RecipeError, match="trains nothing"):
        warmstart.tune(PAIRS * 20, task="choice", base=str(model_of("gpt2")),
                       out=tmp_path / "run")  # fmt: skip
    with pytest.raises(RecipeError, match="no masked-language head"):
        warmstart.evaluate(language_model("xlnet", tmp_path / "xlnet"), PAIRS)


@pytest.mark.parametrize(("family", "kind"), [
    ("bert", "BertForPreTraining"), ("electra", "ElectraForMaskedLM"),
])  # fmt: skip
def test_a_second_head_beside_the_masked_one_changes_nothing(
    family: str, kind: str, tmp_path: Path
) -> None:
    folder = tiny(family, tmp_path / "model")
    torch.manual_seed(3)
    model = getattr(transformers, kind)(transformers.AutoConfig.from_pretrained(folder))
    with quiet():
        model.save_pretrained(folder)
    _, rows = ask(folder, PAIRS, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for pair, row in zip(PAIRS, rows, strict=True):
        whole = tokenizer(pair["sentence_good"], return_tensors="pt").input_ids
        expected = 0.0
        for place in range(1, whole.shape[1] - 1):
            ids = whole.clone()
            ids[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                outputs = model.eval()(input_ids=ids)
            logits = outputs.get("prediction_logits", outputs.get("logits"))[0, place]
            expected += float(logits.log_softmax(-1)[whole[0, place]])
        assert row["log_probabilities"][0] == pytest.approx(expected, rel=2e-5)


def test_a_detector_of_replaced_tokens_gives_no_likelihoods(tmp_path: Path) -> None:
    folder = tiny("electra", tmp_path / "model")
    model = transformers.ElectraForPreTraining(transformers.AutoConfig.from_pretrained(folder))
    with quiet():
        model.save_pretrained(folder)
    with pytest.raises(RecipeError, match="no masked-language head"):
        warmstart.evaluate(folder, PAIRS)


def test_a_tuned_model_keeps_its_task_and_can_be_asked_otherwise(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """A run of text2text with LoRA: an adapter beside its base."""
    rows = [{"source": f"the film {i}", "target": "was very good"} for i in range(20)]
    run = warmstart.tune(
        rows, task="text2text", base=str(model_of("gpt2")), method="lora", out=tmp_path / "run",
        **{"train.max_steps": 1, "task.max_new_tokens": 4, "evaluate.bootstrap": 100},
    )  # fmt: skip
    prompts = [{"prompt": "the film", "response": "was good"}]
    metrics = warmstart.evaluate(run, prompts)
    assert metrics["main"] == "exact_match"
    assert not any("Evaluated in task" in note for note in metrics["notes"])
    assert warmstart.evaluate(run, prompts, task="choice")["main"] == "accuracy"
    assert warmstart.evaluate(run, PAIRS)["main"] == "accuracy"
    assert warmstart.evaluate(run, ["the film was good"], task="language_model")["main"] == "loss"


@pytest.mark.parametrize(("architecture", "objective"), [
    ("gpt2", "clm"), ("bert", "mlm"), ("t5", "span_corruption"),
])  # fmt: skip
def test_a_pretrained_run_is_asked_as_it_was_trained(
    architecture: str, objective: str, tmp_path: Path
) -> None:
    texts = [
        f"The cat number {i} sat on a mat. It was a very good mat, and red." for i in range(40)
    ]
    run = api.pretrain(
        texts, architecture=architecture, out=tmp_path / "run", objective=objective,
        **{"train.max_steps": 2, "task.max_length": 64, "evaluate.bootstrap": 100,
           "scratch.layers": 1, "scratch.hidden_size": 16, "scratch.heads": 2,
           "scratch.vocabulary_size": 300},
    )  # fmt: skip
    metrics, rows = ask(run, PAIRS, tmp_path / "out")
    assert metrics["main"] == "accuracy" and len(rows) == len(PAIRS)
    assert warmstart.evaluate(run, texts[:3])["main"] == "loss"
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.model)
    text = PAIRS[0]["sentence_good"]
    own = tokenizer(text, add_special_tokens=False).input_ids
    if architecture == "t5":
        assert any("<extra_id_0> where the text belongs" in note for note in metrics["notes"])
        model, _ = loaded(run.model, transformers.AutoModelForSeq2SeqLM)
        mark = tokenizer.convert_tokens_to_ids("<extra_id_0>")
        written, start = [mark, *own], model.config.decoder_start_token_id
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([[mark, *tokenizer("").input_ids]]),
                decoder_input_ids=torch.tensor([[start, *written[:-1]]]),
            ).logits[0].log_softmax(-1)  # fmt: skip
        expected = sum(float(logits[i, token]) for i, token in enumerate(written))
        assert rows[0]["log_probabilities"][0] == pytest.approx(expected, rel=2e-5)


def test_a_decoder_whose_tokenizer_begins_texts_reads_them_so(tmp_path: Path) -> None:
    """As Llama's and Gemma's do: in the windows of documents too, and not behind the separator."""
    from tokenizers import Tokenizer, processors

    folder = language_model("llama", tmp_path / "model")
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", START)]
    )
    backend.save(str(folder / "tokenizer.json"))
    model, tokenizer = loaded(folder, transformers.AutoModelForCausalLM)
    assert tokenizer("a film").input_ids[0] == START
    metrics, rows = ask(folder, PAIRS[:1], tmp_path / "out")
    assert any("behind the prefix <s>" in note for note in metrics["notes"])
    text = PAIRS[0]["sentence_good"]
    ids = torch.tensor([[*tokenizer(text).input_ids, SEPARATOR]])
    with torch.no_grad():
        values = model(input_ids=ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])
    assert rows[0]["log_probabilities"][0] == pytest.approx(float(values[:-1].sum()), rel=2e-5)
    metrics = warmstart.evaluate(folder, [text], task="language_model")
    assert metrics["loss"]["value"] == pytest.approx(-float(values.mean()), rel=2e-5)


@pytest.mark.slow
def test_smollm2_on_six_pairs_of_each_paradigm(shared_data: Path, tmp_path: Path) -> None:
    """78.9 % behind <|endoftext|>, 73.6 % behind <|im_end|> (lm-evaluation-harness#1586)."""
    from warmstart.errors import BaseModelError
    from warmstart.models.base import resolve

    try:
        resolve("smollm2")
    except BaseModelError:
        pytest.skip("smollm2 was not fetched on this machine")
    seen, rows = dict[str, int](), list[dict[str, str]]()
    with (shared_data / "blimp" / "test.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            seen[row["paradigm"]] = seen.get(row["paradigm"], 0) + 1
            rows += [row] if seen[row["paradigm"]] <= 6 else []
    assert len(rows) == 402
    metrics, _ = ask(Path("smollm2"), rows, tmp_path / "default")
    assert metrics["accuracy"]["value"] == pytest.approx(0.789, abs=0.01)
    assert any("<|endoftext|>" in note for note in metrics["notes"])
    other, _ = ask(Path("smollm2"), rows, tmp_path / "other", **{"task.prefix": "<|im_end|>"})
    assert other["accuracy"]["value"] == pytest.approx(0.736, abs=0.01)
