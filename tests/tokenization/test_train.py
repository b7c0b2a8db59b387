"""Training: every kind and option, and the same ids from `AutoTokenizer`."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tokenization.corpora import CASES, TEXTS, asked, trained
from warmstart.errors import DataError, ProofError, RecipeError, RunError, WarmstartError
from warmstart.pipelines.tokenizers import train
from warmstart.tokenization import training as build
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import Reading
from warmstart.tokenization.special_tokens import FAMILIES

FAMILY_NAMES = list(FAMILIES)
SAMPLES = Path(build.__file__).parents[1] / "samples"
HARD = ["", " ", "The parcel 🙂 never\ncame.", "Ärger <s> [SEP] <pad> <|endoftext|> <0x41>",
        "İstanbul ﬁne \u00a0 e\u0301", "x" * 300]  # fmt: skip


def made(folder: Path, **keys: Any) -> Any:
    """Train, save, and load as a user of transformers would."""
    size: dict[str, Any] = {} if keys.get("kind") == "char" else {"vocab_size": 600}
    found = train(TEXTS, out=folder, **(size | keys))
    return AutoTokenizer.from_pretrained(found["out"]), found


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize(("kind", "how"), CASES)
def test_the_folder_loads_and_gives_the_same_ids(
    kind: str, how: str, family: str | None, tmp_path: Path
):
    settings = asked(kind, bytes=how, family=family, special_tokens=["<user>"], max_length=24)
    backend, specials, facts = build.train(settings, Corpus([TEXTS], settings))
    ours = build.as_transformers(backend, specials, settings)
    loaded = AutoTokenizer.from_pretrained(build.save(ours, facts, tmp_path / "tok"))
    pairs: list[dict[str, Any]] = [
        {"text": [*HARD, *TEXTS[:7]], "padding": True, "truncation": True},
        {"text": "<user> " + TEXTS[0], "text_pair": TEXTS[1]},
        {"text": TEXTS[3], "add_special_tokens": False},
    ]
    for words in pairs:
        assert loaded(**words, verbose=False).data == ours(**words, verbose=False).data
    assert loaded("<user>", add_special_tokens=False).input_ids == [ours.vocab["<user>"]]
    assert backend.encode(TEXTS[3]).ids == loaded(TEXTS[3], verbose=False).input_ids
    for role, token in specials.roles.items():
        assert getattr(loaded, role) == token


@pytest.mark.parametrize(
    ("family", "single", "pair", "side"),
    [
        (None, "$A", "$A $A", "right"),
        ("bert", "[CLS] $A [SEP]", "[CLS] $A [SEP] $A [SEP]", "right"),
        ("roberta", "<s> $A </s>", "<s> $A </s> </s> $A </s>", "right"),
        ("bart", "<s> $A </s>", "<s> $A </s> </s> $A </s>", "right"),
        ("gpt2", "$A", "$A $A", "right"),
        ("t5", "$A </s>", "$A </s> $A </s>", "right"),
        ("llama", "<s> $A", "<s> $A <s> $A", "right"),
        ("xlnet", "$A <sep> <cls>", "$A <sep> $A <sep> <cls>", "left"),
    ],
)
def test_special_tokens_stand_where_the_family_has_them(
    family: str | None, single: str, pair: str, side: str, tmp_path: Path
):
    tokenizer, _ = made(tmp_path / "tok", family=family, kind="unigram")
    plain = tokenizer("parcel", add_special_tokens=False).input_ids

    def ids(template: str) -> list[int]:
        words = (plain if w == "$A" else [tokenizer.vocab[w]] for w in template.split())
        return list(itertools.chain.from_iterable(words))

    assert tokenizer("parcel").input_ids == ids(single)
    assert tokenizer("parcel", "parcel").input_ids == ids(pair)
    assert tokenizer.padding_side == side
    if family in ("bert", "xlnet"):
        assert set(tokenizer("parcel", "parcel").token_type_ids) >= {0, 1}


def test_ids_of_the_special_tokens_are_those_of_the_families(tmp_path: Path):
    wanted = {"bert": ("[PAD]", 0), "roberta": ("<pad>", 1), "t5": ("</s>", 1),
              "llama": ("<s>", 1), "xlnet": ("<cls>", 3), "gpt2": ("<|endoftext|>", 0)}  # fmt: skip
    for family, (token, number) in wanted.items():
        assert made(tmp_path / family, family=family)[0].vocab[token] == number
    t5 = AutoTokenizer.from_pretrained(tmp_path / "t5")
    assert t5.vocab["<extra_id_0>"] == len(t5) - 1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["own", "eos", "zeros"])
def test_padding_fills_up_on_the_side_and_with_the_token_asked_for(
    pad: str, side: str, tmp_path: Path
):
    tokenizer, _ = made(tmp_path / "tok", family="roberta", pad=pad, padding_side=side)
    batch = tokenizer(["parcel", "my parcel never came"], padding=True)
    short, mask = batch.input_ids[0], batch.attention_mask[0]
    number = {"own": 1, "eos": tokenizer.eos_token_id, "zeros": 0}[pad]
    gap = len(batch.input_ids[1]) - len(tokenizer("parcel").input_ids)
    assert gap > 0
    assert (short[:gap] if side == "left" else short[-gap:]) == [number] * gap
    assert (mask[:gap] if side == "left" else mask[-gap:]) == [0] * gap
    assert tokenizer.pad_token_id == number
    assert ("<pad>" in tokenizer.vocab) == (pad != "eos")


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_cuts_on_the_side_asked_for(side: str, tmp_path: Path):
    tokenizer, _ = made(tmp_path / "t", family="bert", truncation_side=side, max_length=6)
    whole = tokenizer(TEXTS[0], add_special_tokens=False, verbose=False).input_ids
    kept = tokenizer(TEXTS[0], truncation=True).input_ids
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert kept == [cls, *(whole[-4:] if side == "left" else whole[:4]), sep]


def test_an_end_token_is_added_only_where_there_is_none(tmp_path: Path):
    gpt2, _ = made(tmp_path / "gpt2", family="gpt2", add_eos=True)
    assert gpt2("parcel").input_ids[-1] == gpt2.eos_token_id
    t5, _ = made(tmp_path / "t5", family="t5", add_eos=True)
    assert t5("parcel").input_ids.count(t5.eos_token_id) == 1


def test_normalisation_case_and_accents(tmp_path: Path):
    tokenizer, _ = made(
        tmp_path / "tok", kind="wordpiece", lowercase=True, strip_accents=True, normalize="nfkc"
    )
    plain = tokenizer("cafe fine strasse").input_ids
    assert tokenizer("CAFÉ ﬁne STRASSE").input_ids == plain
    kept, _ = made(tmp_path / "kept", kind="char")
    assert kept.decode(kept("le café").input_ids) == "le café"
    assert kept("le cafe\u0301").input_ids == kept("le café").input_ids


def test_a_config_beside_the_tokenizer_changes_nothing(tmp_path: Path):
    from transformers import AutoConfig

    for family in ("bert", "roberta", "t5", "gpt2", "xlnet", "llama"):
        tokenizer, found = made(tmp_path / family, family=family, kind="bpe")
        AutoConfig.for_model(family).save_pretrained(found["out"])
        again = AutoTokenizer.from_pretrained(found["out"])
        assert again(HARD, verbose=False).data == tokenizer(HARD, verbose=False).data


@pytest.mark.parametrize("kind", ["char", "word", "bpe", "wordpiece"])
def test_training_twice_gives_the_same_file(kind: str, tmp_path: Path):
    for name in ("one", "two"):
        made(tmp_path / name, kind=kind)
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_unigram_differs_in_the_last_digits_alone(tmp_path: Path):
    vocabularies: list[dict[str, float]] = []
    for name in ("one", "two"):
        made(tmp_path / name, kind="unigram")
        text = json.loads((tmp_path / name / "tokenizer.json").read_text())
        vocabularies.append(dict(text["model"]["vocab"]))
    one, two = vocabularies
    both = one.keys() & two.keys()
    assert len(both) >= 0.99 * len(one)
    assert all(abs(one[piece] - two[piece]) < 0.01 for piece in both)


def test_wordpiece_pieces_are_those_of_the_trainer_of_the_library():
    """Ties apart, the pieces learned are the same; the share tells that only ties differ."""
    from tokenizers import Tokenizer, models, trainers

    from warmstart.tokenization import training as pipeline

    settings = asked("wordpiece")
    corpus = Corpus([SAMPLES / "tickets.csv"], settings)
    texts = [text for batch in corpus.rows() for text in batch]
    theirs: Any = Tokenizer(models.WordPiece(unk_token="<unk>"))
    theirs.normalizer = pipeline.normalizer(settings)
    theirs.pre_tokenizer, _ = pipeline.splitter_and_decoder(settings)
    trainer = trainers.WordPieceTrainer(
        vocab_size=998, min_frequency=2, special_tokens=["<unk>"], show_progress=False
    )
    theirs.train_from_iterator(texts, trainer)
    ours, _, _ = build.train(asked("wordpiece", vocab_size=1000), corpus)
    mine, other = set(ours.get_vocab()) - {"<pad>", "</s>"}, set(theirs.get_vocab())
    assert len(mine) == len(other) == 998
    assert len(mine & other) > 0.97 * 998
    lengths = [sum(len(t.encode(text).ids) for text in texts) for t in (ours, theirs)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.005)


def test_special_tokens_that_come_about_by_lower_casing_are_text():
    """Nobody can write <PAD> and get the pad token."""
    for kind, how in CASES:
        tokenizer = trained(kind, how, lowercase=True).backend
        pad = tokenizer.token_to_id("<pad>")
        assert pad not in tokenizer.encode("x <PAD> x").ids, (kind, how)


def test_byte_level_without_a_family_has_no_unknown_token(tmp_path: Path):
    tokenizer, _ = made(tmp_path / "tok")
    assert tokenizer.unk_token is None
    assert made(tmp_path / "other", bytes="off")[0].unk_token == "<unk>"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "bpe", "vocab_size": 100}, "alphabet of the corpus alone needs 256"),
        ({"kind": "bpe", "bytes": "off", "vocab_size": 20}, "alphabet of the corpus alone needs"),
        ({"kind": "wordpiece", "vocab_size": 20}, "alphabet of the corpus alone needs"),
        ({"kind": "unigram", "vocab_size": 20}, "alphabet of the corpus alone needs"),
        ({"kind": "word", "vocab_size": 3}, "vocab_size 3 has no room beside 3 special tokens"),
        ({"kind": "bpe", "bytes": "fallback", "vocab_size": 259}, "256 bytes"),
        ({"kind": "word", "min_frequency": 1000}, "occurs 1,000 times"),
        ({"kind": "word", "bytes": "level"}, "bytes = level does not go with word: give off"),
        ({"kind": "unigram", "min_frequency": 2}, "unigram prunes by likelihood"),
        ({"kind": "char", "alphabet": 9}, "char has no alphabet"),
        ({"family": "bert", "pad": "eos"}, "bert has no end token"),
        ({"family": "bert", "add_eos": True}, "bert has no end token"),
        ({"family": "bert", "max_length": 2}, "max_length 2 leaves no room"),
        ({"special_tokens": "<pad>"}, "is one already"),
        ({"special_tokens": "<a>,<a>"}, "given twice"),
        ({"kind": "bpee"}, "Did you mean 'bpe'"),
        ({"vocabsize": 10}, "Did you mean 'vocab_size'"),
        ({"vocab_size": 0}, "at least 1"),
    ],
)
def test_silly_settings_are_refused_in_one_line(keys: Any, message: str, tmp_path: Path):
    with pytest.raises((RecipeError, DataError), match=message) as caught:
        train(TEXTS, out=tmp_path / "tok", **keys)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_corpus_is_refused(tmp_path: Path):
    (tmp_path / "blank.csv").write_text("text\n\n")
    for source in (["", ""], tmp_path / "blank.csv"):
        with pytest.raises(DataError, match="no text|no rows"):
            train(source, out=tmp_path / "tok")


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path):
    made(tmp_path / "tok")
    with pytest.raises(RunError, match="exists already"):
        made(tmp_path / "tok")


def test_a_tokenizer_that_reads_back_otherwise_is_no_success(tmp_path: Path):
    tokenizer, found = made(tmp_path / "tok", kind="wordpiece")
    path = Path(found["out"]) / "tokenizer.json"
    text = json.loads(path.read_text())
    text["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(text))
    with pytest.raises(ProofError, match="in another way"):
        build.prove(Path(found["out"]), tokenizer, TEXTS)
    assert not path.exists()


def test_what_the_corpus_cannot_give_is_noted(tmp_path: Path):
    found = train(["a b"] * 5, out=tmp_path / "tok", kind="word", vocab_size=100)
    assert found["vocab_size"] == 5
    assert found["notes"] == ["5 tokens instead of 100: the corpus gives no more pieces"]


def test_corpora_are_read_whatever_they_are(tmp_path: Path):
    import pandas as pd

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_bytes(b"first\r\nsecond\n\nlast")
    (tmp_path / "a" / "two.csv").write_text("id,text,lang\n1,alpha,en\n2,,en\n3,beta,de\n")
    frame = pd.DataFrame({"source": ["x", "y"], "target": ["z", "w"]})
    assert [t for b in Corpus([tmp_path / "a"], Reading()).batches() for t in b.texts] == [
        "first\n", "second\n", "\n", "last", "alpha", "beta",
    ]  # fmt: skip
    by = Corpus([tmp_path / "a" / "two.csv"], Reading(), by="lang")
    assert [g for b in by.batches() for g in b.groups] == ["en", "de"]
    both = Corpus([frame], Reading(column="source,target"))  # pyright: ignore[reportArgumentType]
    assert [(t, g) for b in both.batches() for t, g in zip(b.texts, b.groups, strict=True)] == [
        ("x", "source"), ("y", "source"), ("z", "target"), ("w", "target"),
    ]  # fmt: skip
    limited = Corpus([tmp_path / "a" / "one.txt"], Reading(limit=2))
    assert next(iter(limited.rows())) == ["first\n", "second\n"]


@pytest.mark.parametrize(
    ("name", "reading", "message"),
    [
        ("no.txt", {}, "no file"),
        ("t.csv", {"column": "txt"}, "no column 'txt'. Did you mean 'text'"),
        ("u.csv", {}, "name it with --column NAME, one of a, b"),
        ("empty", {}, "holds no text file"),
    ],
)
def test_a_corpus_that_cannot_be_read_says_why(
    name: str, reading: dict[str, Any], message: str, tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("id,text\n1,a\n")
    (tmp_path / "u.csv").write_text("a,b\n1,2\n")
    with pytest.raises(WarmstartError, match=message):
        train(tmp_path / name, out=tmp_path / "tok", **reading)


def test_progress_is_told_to_the_end(tmp_path: Path):
    heard: list[tuple[str, int, int]] = []
    (tmp_path / "c.txt").write_text("\n".join(TEXTS))
    train(tmp_path / "c.txt", out=tmp_path / "tok", vocab_size=400,
          progress=lambda *what: heard.append(what))  # fmt: skip
    assert heard[0][0] == "reading the corpus"
    assert ("learning the pieces", 0, 1) in heard
    assert all(0 <= done <= of for _, done, of in heard)


def test_the_folder_is_named_after_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("\n".join(TEXTS))
    names = [train("mine.txt", vocab_size=400)["out"] for _ in range(2)]
    assert names == ["tokenizers/mine-bpe", "tokenizers/mine-bpe-2"]
    shutil.rmtree("tokenizers")
