"""What the golden runs are made of: a few rows for every task, and the keys of every run.

A run whose name begins with `~` is made with `-m slow` only. Nothing here knows a module of
warmstart, so that the runs stay the same wherever its parts stand.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMON: dict[str, Any] = {
    "seed": 3,
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.epochs": 2,
    "train.batch_size": 12,
    "train.learning_rate": 1e-2,
    "train.keep": "last",
    "data.similarity": 0,
    "evaluate.bootstrap": 100,
    "evaluate.calibration_bins": 3,
    "evaluate.forgetting": False,
}
WRITING: dict[str, Any] = {
    "task.max_new_tokens": 5, "task.min_new_tokens": 2, "task.num_beams": 2,
}  # fmt: skip
WIDE: dict[str, dict[str, float]] = {"bart": {"init_std": 0.2}, "t5": {}}
"""Settings of a family's config with which a random body tells one text from another."""
SIGNS = {
    "bad": "bad awful poor hated".split(),
    "good": "good great nice loved".split(),
    "plain": "red green blue order".split(),
}
THINGS = "film movie song book service food".split()
SAID = "great good fine nice bad awful poor".split()
FILLERS = "the a is was not very it this that again money back late early".split()
TAGS = {"red": "B-HUE", "blue": "B-HUE", "good": "B-WORD", "bad": "B-WORD"}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One run: the family of its tiny base, its keys above `COMMON`, and the form of its rows."""

    name: str
    family: str
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rows: str = ""
    """A maker of rows; unset: the one that bears the task's name."""
    slow: bool = False


def _case(name: str, family: str, *, rows: str = "", **keys: Any) -> Case:
    """`keys` with `__` for the dot; the name begins with the method, a slow one's with `~`."""
    method = name.removeprefix("~").partition("-")[0]
    dotted = {key.replace("__", "."): value for key, value in keys.items()}
    known = {"method": method, **dotted}
    return Case(name.removeprefix("~"), family, known, rows, slow=name.startswith("~"))


FORGETTING: dict[str, Any] = {"evaluate__forgetting": True}
GENERAL = "general.txt"
MLM = {"words": {"name": "mlm"}}
CASES: dict[str, tuple[Case, ...]] = {
    "classification": (
        _case("full", "bert", **FORGETTING),
        _case("lora", "roberta"),
        _case("frozen", "distilbert"),
        _case("full-gpt2", "gpt2"),
        _case("lora-llama", "llama", **FORGETTING),
        _case("full-t5", "t5"),
        _case("~lora-bart", "bart"),
        _case("~frozen-gpt2", "gpt2"),
        _case("~full-modernbert", "modernbert"),
        _case("~full-xlnet", "xlnet"),
        _case("full-focal", "bert", objective__loss_function="focal", objective__focal_gamma=1.5),
        _case("full-balanced", "bert", rows="uneven", objective__class_weights="balanced"),
        _case("full-smoothed", "bert", objective__label_smoothing=0.1),
        _case("full-muon", "bert", train__optimizer="muon"),
        _case("full-bf16", "bert", train__precision="bf16"),
        _case("full-l2sp-rehearsal", "bert", forgetting__penalty="l2_sp",
              forgetting__rehearsal=0.25, forgetting__strength=0.5,
              forgetting__text=GENERAL, **FORGETTING),
        _case("~full-ewc", "gpt2", forgetting__penalty="ewc", forgetting__strength=1.0,
              forgetting__text=GENERAL),
        _case("~full-steps", "bert", train__batch_size=None, train__batch_tokens=120,
              train__micro_batch_tokens=64, train__schedule="cosine", train__warmup=0.3,
              train__keep="best", train__gradient_checkpointing=True),
        _case("~full-decay", "bert", method__layer_decay=0.8, method__unfreeze_every=1),
        _case("full-data", "bert", rows="uneven", data__sampling="over", data__similarity=0.8,
              data__split_seed=7, data__max_dropped=0.9),
        _case("partial", "bert", method__layers=1),
        _case("~bitfit", "bert"),
        _case("~layernorm", "bert"),
        _case("~adapter", "bert", method__size=4),
        _case("~ia3", "bert"),
        _case("prompt_tuning", "bert", method__tokens=4),
        _case("~p_tuning", "gpt2", method__tokens=4),
        _case("~prefix_tuning", "bert", method__tokens=4),
        _case("~lora-dora", "bert", method__rank=4, method__use_dora=True),
        _case("~lora-pissa", "bert", method__rank=4, method__init="pissa", method__dropout=0.1,
              method__use_rslora=True, method__targets="attention"),
    ),
    "multilabel": (
        _case("full", "bert"),
        _case("~lora", "gpt2"),
        _case("~frozen", "distilbert"),
    ),
    "regression": (
        _case("full", "bert"),
        _case("lora", "llama"),
        _case("~frozen", "bert"),
        _case("~full-pairs", "roberta", rows="scored"),
    ),
    "pairs": (
        _case("full", "bert"),
        _case("~lora", "roberta"),
        _case("frozen", "electra"),
    ),
    "tagging": (
        _case("full", "bert", train__epochs=4),
        _case("lora", "modernbert", task__scheme="bioes"),
        _case("~frozen", "distilbert"),
    ),
    "extractive_qa": (
        _case("full", "bert", task__stride=8, task__no_answer_threshold=0.9),
        _case("~lora", "roberta", task__stride=8, task__no_answer_threshold=0.9),
        _case("frozen", "electra", task__stride=8),
    ),
    "summarization": (
        _case("full", "t5"),
        _case("~lora", "bart"),
        _case("~partial", "gpt2"),
    ),
    "translation": (
        _case("full", "bart"),
        _case("~lora", "t5", task__source_language="English", task__target_language="German"),
        _case("~bitfit", "bart"),
    ),
    "text2text": (
        _case("~full", "llama", objective__label_smoothing=0.1),
        _case("lora", "gpt2", **FORGETTING),
        _case("~partial", "t5", task__validation_texts=4),
    ),
    "embedding": (
        _case("full", "bert", rows="paired", objective="contrastive",
              objective__symmetric=True),
        _case("lora", "roberta", rows="triplets"),
        _case("~partial", "distilbert", rows="scored"),
        _case("~full-cosine", "bert", rows="scored", objective="contrastive",
              objective__scored_loss="cosine"),
        _case("full-labels", "gpt2", rows="classification", task__pooling="last"),
    ),
    "few_shot": (
        _case("full", "bert"),
        _case("~partial", "gpt2", method__layers=1),
        _case("~bitfit", "distilbert"),
    ),
    "multitask": (
        _case("full", "bert", task__temperature=2, **FORGETTING),
        _case("~lora", "distilbert"),
        _case("~partial", "bert"),
        _case("~full-compare", "bert", task__compare=True),
    ),
    "custom": (
        _case("full", "bert"),
        _case("~lora", "gpt2", seed=0),
        _case("frozen", "xlnet"),
    ),
}  # fmt: skip


def keys_of(task: str, case: Case, folder: Path) -> dict[str, Any]:
    """All keys of a run but its base and its folder; what its rows are is written in `folder`."""
    keys = {**COMMON, **case.keys}
    if task in ("summarization", "translation", "text2text"):
        keys = {**COMMON, **WRITING, **case.keys}
    if task == "few_shot":
        keys |= {"train.batch_size": 16}
    if task == "custom":
        keys |= {"task.module": "own_heads.Attending", "task.module_settings": {"hidden": 8}}
    if "forgetting.text" in keys:
        chance, path = random.Random(5), folder / GENERAL
        keys["forgetting.text"] = str(path)
        path.write_text(
            "\n\n".join(" ".join(chance.choices(FILLERS + THINGS, k=24)) for _ in range(220)),
            encoding="utf-8",
        )
    if task != "multitask":
        path = _write(folder / "rows.jsonl", rows_of(case.rows or task))
        return {**keys, "task": task, "data.path": str(path)}
    inner = {key.removeprefix("task."): keys.pop(key) for key in [*keys] if key.startswith("task.")}
    tasks = {
        "mood": {"data": str(_write(folder / "mood.jsonl", rows_of("classification")))},
        "things": {
            "name": "tagging",
            "data": str(_write(folder / "tags.jsonl", rows_of("tagging"))),
        },
        **({} if "compare" in inner else MLM),
    }
    return {**keys, "task": {"name": "multitask", "tasks": tasks, **inner}}


def asked_of(task: str, case: Case) -> Sequence[Any]:
    """What the model of a run is asked when it is done."""
    rows = rows_of(case.rows or task, seed=9)[:6]
    if task == "multitask":
        return []
    if task == "tagging":
        return [" ".join(row["tokens"]) for row in rows]
    if task == "extractive_qa":
        return [{"question": row["question"], "context": row["context"]} for row in rows]
    if task == "pairs" or (task == "regression" and case.rows):
        first, second = [*rows[0]][:2]
        return [(row[first], row[second]) for row in rows]
    return [str(row[next(iter(row))]) for row in rows]


def rows_of(kind: str, seed: int = 0) -> Rows:
    """Rows that hold something to learn, of words that the tiny tokenizers know."""
    makers = {
        "multilabel": _multilabel, "regression": _regression, "pairs": _pairs,
        "tagging": _tagging, "extractive_qa": _questions, "summarization": _summaries,
        "translation": _translations, "text2text": _rewritten, "paired": _paired,
        "scored": _scored, "triplets": _triplets, "uneven": _uneven,
    }  # fmt: skip
    return makers.get(kind, _classes)(random.Random(seed))


def _write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _words(chance: random.Random, *signs: str) -> str:
    words = [*chance.choices(FILLERS, k=chance.randint(2, 12)), *signs]
    chance.shuffle(words)
    return " ".join(words)


def _classes(chance: random.Random) -> Rows:
    labels = [*SIGNS] * 16
    return [{"text": _words(chance, *chance.choices(SIGNS[one], k=2)), "label": one}
            for one in labels]  # fmt: skip


def _uneven(chance: random.Random) -> Rows:
    labels = ["bad"] * 30 + ["good"] * 20 + ["plain"] * 10
    chance.shuffle(labels)
    return [{"text": _words(chance, chance.choice(SIGNS[one])), "label": one} for one in labels]


def _multilabel(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(48):
        labels = [one for one in SIGNS if chance.random() < 0.5]
        signs = [chance.choice(SIGNS[one]) for one in labels]
        found.append({"text": _words(chance, *signs), "labels": labels})
    return found


def _regression(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(48):
        good, bad = chance.randint(0, 4), chance.randint(0, 4)
        words = _words(chance, *chance.choices(SIGNS["good"], k=good),
                       *chance.choices(SIGNS["bad"], k=bad))  # fmt: skip
        found.append({"text": words, "score": 10 + good - bad + chance.random() / 4})
    return found


def _pairs(chance: random.Random) -> Rows:
    found: Rows = []
    for number in range(48):
        label = ("yes", "no")[number % 2]
        sign = chance.choice(SIGNS["good" if label == "yes" else "bad"])
        found.append({"premise": _words(chance), "hypothesis": _words(chance, sign),
                      "label": label})  # fmt: skip
    return found


def _tagging(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(40):
        words = _words(chance, *chance.choices([*TAGS], k=2)).split()
        found.append({"tokens": words, "ner_tags": [TAGS.get(word, "O") for word in words]})
    return found


def _questions(chance: random.Random) -> Rows:
    found: Rows = []
    for number in range(36):
        words, (thing, other) = chance.choices(FILLERS, k=chance.randint(4, 50)), chance.sample(
            THINGS, k=2
        )  # fmt: skip
        place, said = chance.randrange(len(words) + 1), chance.choice(SAID)
        words[place:place] = [thing, said]
        asked = other if number % 6 == 0 else thing
        at = len(" ".join(words[: place + 1])) + 1
        gold = {"text": [said], "answer_start": [at]}
        found.append(
            {
                "question": f"the {asked} was ?",
                "context": " ".join(words),
                "answers": gold if asked == thing else {"text": [], "answer_start": []},
            }
        )
    return found


def _summaries(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(36):
        thing, said = chance.choice(THINGS), chance.choice(SAID)
        found.append({"document": _words(chance, thing, said), "summary": f"{said} {thing}"})
    return found


def _translations(chance: random.Random) -> Rows:
    into = dict(zip(THINGS, [*THINGS[1:], THINGS[0]], strict=True))
    found: Rows = []
    for _ in range(36):
        words = chance.sample(THINGS, k=chance.randint(2, 5))
        found.append({"source": " ".join(words), "target": " ".join(into[w] for w in words)})
    return found


def _rewritten(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(36):
        words = chance.sample(THINGS, k=chance.randint(2, 6))
        found.append({"input": " ".join(words), "output": f"{words[1]} {words[0]}"})
    return found


def _paired(chance: random.Random) -> Rows:
    return [{"anchor": _words(chance, thing := chance.choice(THINGS)),
             "positive": _words(chance, thing)} for _ in range(40)]  # fmt: skip


def _scored(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(40):
        one, other = chance.sample(THINGS, k=2), chance.sample(THINGS, k=2)
        score = float(5 * len({*one} & {*other}) / 2)
        found.append({"sentence1": _words(chance, *one), "sentence2": _words(chance, *other),
                      "score": score})  # fmt: skip
    return found


def _triplets(chance: random.Random) -> Rows:
    found: Rows = []
    for _ in range(40):
        thing, other = chance.sample(THINGS, k=2)
        found.append({"anchor": _words(chance, thing), "positive": _words(chance, thing),
                      "negative": _words(chance, other)})  # fmt: skip
    return found
