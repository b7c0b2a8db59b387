"""Entities by the tuned `transformers.Trainer` and by `warmstart.tune`, measured alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _common import base_model, peak_mb
from _trainer import trained

Rows = list[dict[str, Any]]
SPLITS = ("train", "validation", "test")


def read(request: dict[str, Any]) -> dict[str, Rows]:
    """The splits, as many rows of train as were asked for."""
    found: dict[str, Rows] = {}
    for split in SPLITS:
        lines = (Path(request["data"]) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        found[split] = [json.loads(line) for line in lines]
    train = [found["train"][line] for line in request["kept"]]
    found["train"] = train[: request["rows"] or None]
    return found


def tuned(request: dict[str, Any]) -> dict[str, Any]:
    """Train with the Trainer and save."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer, set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    splits = read(request)
    set_seed(request["seed"])
    types = {tag.partition("-")[2] for row in splits["train"] for tag in row["ner_tags"]} - {""}
    labels = ["O", *(f"{mark}-{kind}" for kind in sorted(types) for mark in "BI")]
    tokenizer = AutoTokenizer.from_pretrained(base_model())
    model = AutoModelForTokenClassification.from_pretrained(
        base_model(),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        attn_implementation="sdpa",
    )
    encoded = encode(tokenizer, splits["train"], labels, request["max_length"])
    folder, seconds = trained(model, tokenizer, encoded, collate, request)
    tokens = sum(len(row["input_ids"]) for row in encoded) * request["epochs"]
    return said(folder, splits["test"], tokens, seconds, request)


def warmstart(request: dict[str, Any]) -> dict[str, Any]:
    """Tune with the whole run folder: evaluation, report, proof, card."""
    import warmstart as ours
    from _warmstart import Clock as Watch
    from _warmstart import as_the_trainer

    splits = read(request)
    watch: Any = Counted(Watch())
    keys = as_the_trainer(request)
    with watch.clock:
        run = ours.tune(
            write(request, splits), task="tagging", method="full", listeners=[watch], **keys
        )
    assert watch.clock.rows == run.facts["rows"]["train"] * request["epochs"]
    return said(Path(run.model), splits["test"], watch.tokens, watch.clock.seconds, request)


def write(request: dict[str, Any], splits: dict[str, Rows]) -> Path:
    """The splits as a folder that can be tuned on."""
    data = Path(request["folder"]) / "data"
    data.mkdir()
    for name, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return data


class Counted:
    """A clock that also counts tokens."""

    def __init__(self, clock: Any) -> None:
        self.clock, self.tokens = clock, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clock, name)

    def step(self, step: Any, total: int) -> None:
        self.tokens += step.tokens
        self.clock.step(step, total)


def said(
    folder: Path,
    test: Rows,
    tokens: int,
    seconds: float,
    request: dict[str, Any],
    score: Callable[[Path, Rows, int], float] | None = None,
) -> dict[str, Any]:
    """What is handed back of one measurement; `score` reads the saved folder."""
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mb": peak_mb(),
        "score": (score or plain_score)(folder, test, request["max_length"]),
    }


def encode(tokenizer: Any, rows: Rows, labels: Sequence[str], longest: int) -> Rows:
    """Token ids without padding; the first piece of each word has its label."""
    number = {label: i for i, label in enumerate(labels)}
    found: Rows = []
    for row in rows:
        ids = tokenizer(
            row["tokens"], is_split_into_words=True, truncation=True, max_length=longest
        )
        before: int | None = None
        targets: list[int] = []
        for word in ids.word_ids():
            first = word is not None and word != before
            targets.append(number.get(row["ner_tags"][word], -100) if first else -100)
            before = word
        found.append({"input_ids": ids["input_ids"], "labels": targets, "words": ids.word_ids()})
    return found


def collate(rows: Rows, pad: int) -> dict[str, Tensor]:
    """Pad to the longest row of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, fill: int) -> Tensor:
        return torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])

    ids = padded("input_ids", pad)
    mask = torch.tensor([[len(row["input_ids"])] for row in rows]) > torch.arange(longest)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": padded("labels", -100)}


@torch.no_grad()
def plain_score(folder: Path, test: Rows, longest: int) -> float:
    """Entity F1 of the saved folder: the likeliest tag of each word's first piece, as conlleval
    reads them."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from warmstart.metrics.entities import Entities, spans_of_tags, types_of

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32)
    names = model.config.id2label
    rows = encode(tokenizer, test, list(names.values()), longest)
    tags = [["O"] * len(row["tokens"]) for row in test]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    for start in range(0, len(order), 32):
        some = order[start : start + 32]
        batch = collate([rows[i] for i in some], tokenizer.pad_token_id)
        batch.pop("labels")
        best = model.eval()(**batch).logits.argmax(-1).tolist()
        for i, labels in zip(some, best, strict=True):
            words = rows[i]["words"]
            for place, word in enumerate(words):
                if word is not None and word not in words[:place]:
                    tags[i][word] = names[labels[place]]
    guess = [spans_of_tags(row) for row in tags]
    truth = [spans_of_tags(row["ner_tags"]) for row in test]
    return Entities(types_of(guess, truth))(guess, truth)["f1_micro"]
