"""`transformers.Trainer`, as the textbooks have it and as fast as its options make it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from _common import Texts, base_model, load, peak_mb, process_seconds

Encoded = list[dict[str, Any]]


class Clock(TrainerCallback):
    """Sums the wall time of the epochs.

    An epoch is everything between the Trainer's own two calls: sampler, data loader, collating,
    forward, backward, clipping, optimizer, schedule, zeroing. Making the optimizer lies outside.
    """

    def __init__(self) -> None:
        self.seconds, self.begun = 0.0, 0.0

    def on_epoch_begin(self, *args: Any, **keys: Any) -> None:
        self.begun = time.perf_counter()

    def on_epoch_end(self, *args: Any, **keys: Any) -> None:
        self.seconds += time.perf_counter() - self.begun


def train(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Train, save, predict the test split; then score the saved folder."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    splits, labels = load(Path(request["data"]))
    textbook = name == "textbook"
    set_seed(request["seed"])
    tokenizer = AutoTokenizer.from_pretrained(base_model())
    ids = dict(enumerate(labels))
    model = AutoModelForSequenceClassification.from_pretrained(
        base_model(),
        num_labels=len(labels),
        id2label=ids,
        label2id={label: i for i, label in ids.items()},
        attn_implementation="eager" if name == "tuned-eager" else "sdpa",
    )
    encoded = {key: encode(tokenizer, part, request) for key, part in splits.items()}
    pad = tokenizer.pad_token_id
    clock = Clock()
    trainer = Trainer(
        model=model,
        args=arguments(name, request),
        train_dataset=_padded(tokenizer, splits["train"], request) if textbook else
        encoded["train"],  # pyright: ignore[reportArgumentType]
        processing_class=tokenizer,
        data_collator=None if textbook else lambda rows: collate(rows, pad),
        callbacks=[clock],
    )  # fmt: skip
    result = trainer.train()
    folder = Path(request["folder"]) / "model"
    trainer.save_model(str(folder))
    predict(model, encoded["test"], pad)
    seconds, peak, rows = process_seconds(), peak_mb(), len(encoded["train"]) * request["epochs"]
    return {
        "seconds": clock.seconds,
        "rows_per_second": rows / clock.seconds,
        "own_rows_per_second": result.metrics["train_samples_per_second"],
        "process_seconds": seconds,
        "peak_mb": peak,
        "rows": rows,
        **plain_scores(folder, splits["test"], request),
    }


def trained(
    model: Any,
    tokenizer: Any,
    encoded: list[Any],
    collate: Callable[[Any, int], Any],
    request: dict[str, Any],
) -> tuple[Path, float]:
    """Train with the tuned Trainer on encoded rows: the saved folder, and the seconds."""
    clock = Clock()
    trainer = Trainer(
        model=model,
        args=arguments("tuned", request),
        train_dataset=encoded,  # pyright: ignore[reportArgumentType]
        processing_class=tokenizer,
        data_collator=lambda rows: collate(rows, tokenizer.pad_token_id),
        callbacks=[clock],
    )
    trainer.train()
    folder = Path(request["folder"]) / "model"
    trainer.save_model(str(folder))
    return folder, clock.seconds


def arguments(name: str, request: dict[str, Any]) -> TrainingArguments:
    keys: dict[str, Any] = {
        "output_dir": str(Path(request["folder"]) / "out"),
        "num_train_epochs": request["epochs"],
        "per_device_train_batch_size": request["batch_size"],
        "learning_rate": request["learning_rate"],
        "weight_decay": request["weight_decay"],
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "seed": request["seed"],
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    if name == "textbook":
        return TrainingArguments(**keys)
    return TrainingArguments(
        **keys,
        bf16=request["precision"] == "bf16",
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataloader_num_workers=1 if name == "tuned-workers" else 0,
        torch_compile=name == "tuned-compile",
    )


def encode(tokenizer: Any, part: Texts, request: dict[str, Any]) -> Encoded:
    """Token ids without padding, and labels."""
    ids = tokenizer(part.texts, truncation=True, max_length=request["max_length"])["input_ids"]
    return [{"input_ids": i, "labels": y} for i, y in zip(ids, part.targets, strict=True)]


def _padded(tokenizer: Any, part: Texts, request: dict[str, Any]) -> Any:
    """As the textbooks do it: every row padded to the full length."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()

    def tokenise(rows: dict[str, Any]) -> Any:
        return tokenizer(
            rows["text"], padding="max_length", truncation=True, max_length=request["max_length"]
        )

    table = Dataset.from_dict({"text": part.texts, "label": part.targets})
    return table.map(tokenise, batched=True)


def collate(rows: Encoded, pad: int) -> dict[str, Tensor]:
    """Pad to the longest row of the batch; leaner than DataCollatorWithPadding."""
    longest = max(len(row["input_ids"]) for row in rows)
    spare = [longest - len(row["input_ids"]) for row in rows]
    ids = [row["input_ids"] + [pad] * more for row, more in zip(rows, spare, strict=True)]
    mask = [[1] * (longest - more) + [0] * more for more in spare]
    targets = [row["labels"] for row in rows]
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(targets),
    }


@torch.no_grad()
def predict(model: nn.Module, rows: Encoded, pad: int) -> list[int]:
    """The class of every row; longest first, 64 at a time."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    found = [0] * len(rows)
    for start in range(0, len(order), 64):
        some = order[start : start + 64]
        batch = collate([rows[i] for i in some], pad)
        batch.pop("labels")
        for i, best in zip(some, model(**batch).logits.argmax(-1).tolist(), strict=True):
            found[i] = best
    return found


def scores(found: list[int], rows: Encoded) -> dict[str, float]:
    """Accuracy and macro-F1."""
    from sklearn.metrics import accuracy_score, f1_score

    truth = [row["labels"] for row in rows]
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "f1_macro": float(f1_score(truth, found, average="macro")),
    }


def plain_scores(folder: Path, test: Texts, request: dict[str, Any]) -> dict[str, float]:
    """The saved folder, loaded by transformers alone, in float32, on the test split."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    rows = encode(tokenizer, test, request)
    return scores(predict(model, rows, tokenizer.pad_token_id), rows)
