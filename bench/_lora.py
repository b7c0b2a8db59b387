"""A low-rank adapter trained twice: by PEFT and `transformers.Trainer`, and by `warmstart`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

import _trainer
import _warmstart
import warmstart
from _common import load, peak_mb, process_seconds
from _trainer import arguments, collate, encode, predict, scores
from warmstart.training import trainer as fit
from warmstart.training.loop import Step

Facts = dict[str, Any]


class TheirClock(_trainer.Clock):
    """Processor time beside the wall time."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_seconds, self._cpu = 0.0, 0.0

    def on_epoch_begin(self, *args: Any, **keys: Any) -> None:
        self._cpu = process_time()
        super().on_epoch_begin(*args, **keys)

    def on_epoch_end(self, *args: Any, **keys: Any) -> None:
        super().on_epoch_end(*args, **keys)
        self.cpu_seconds += process_time() - self._cpu


class OurClock(_warmstart.Clock):
    """Processor time beside the wall time, and the mean loss of the steps of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_seconds, self._cpu = 0.0, 0.0
        self.losses: list[float] = []
        self._epoch: list[torch.Tensor] = []

    def __enter__(self) -> OurClock:
        super().__enter__()
        timed = fit.steps

        def begun(*args: Any, **keys: Any) -> Iterator[Step]:
            self._cpu = process_time()
            yield from timed(*args, **keys)

        fit.steps = begun
        return self

    def step(self, step: Step, total: int) -> None:
        self._epoch.append(step.loss)
        super().step(step, total)
        if step.ends_epoch:
            self.cpu_seconds += process_time() - self._cpu
            self.losses.append(torch.stack(self._epoch).mean().item())
            self._epoch = []

    def epoch(self, row: dict[str, Any]) -> None:
        super().epoch(row)
        self._cpu = process_time()


def ours(request: Facts) -> Facts:
    """`warmstart.tune(method="lora")` with the whole run folder: report, proof and card."""
    keys = {
        "base": request["base"],
        **_warmstart.as_the_trainer(request),
        "method.rank": request["rank"],
        "method.alpha": request["alpha"],
        "method.dropout": request["dropout"],
        "method.targets": request["targets"],
    }
    with OurClock() as clock:
        run = warmstart.tune(request["data"], method="lora", listeners=[clock], **keys)
    facts = {"losses": clock.losses, "trainable": run.facts["size"]["trainable"]}
    return facts | _finish(clock, clock.rows, run.model, request)


def theirs(name: str, request: Facts) -> Facts:
    """`get_peft_model` and the Trainer: as the documentation has it, or tuned."""
    from peft import LoraConfig, TaskType, get_peft_model

    from warmstart.models.modules import adapter_targets, head_names

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    splits, labels = load(Path(request["data"]))
    set_seed(request["seed"])
    tokenizer = AutoTokenizer.from_pretrained(request["base"])
    model = AutoModelForSequenceClassification.from_pretrained(
        request["base"], num_labels=len(labels), pad_token_id=tokenizer.pad_token_id
    )
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=request["rank"],
        lora_alpha=request["alpha"],
        lora_dropout=request["dropout"],
        target_modules=adapter_targets(model, request["targets"]),
        modules_to_save=head_names(model),
    )
    model = get_peft_model(model, config)
    clock = TheirClock()
    rows = encode(tokenizer, splits["train"], request)
    pad = tokenizer.pad_token_id
    tuned = name != "peft"
    trainer = Trainer(
        model=model,
        args=_tuned(name, request) if tuned else _documented(request),
        train_dataset=rows,  # pyright: ignore[reportArgumentType]
        processing_class=tokenizer,
        data_collator=(lambda some: collate(some, pad)) if tuned else
        DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    folder = Path(request["folder"]) / "model"
    trainer.save_model(str(folder))
    tokenizer.save_pretrained(folder)
    predict(model, encode(tokenizer, splits["test"], request), pad)
    facts = {
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    return facts | _finish(clock, len(rows) * request["epochs"], folder, request)


def _documented(request: Facts) -> TrainingArguments:
    """The arguments of PEFT's page on sequence classification, without evaluation and saving."""
    return TrainingArguments(
        output_dir=str(Path(request["folder"]) / "out"),
        learning_rate=request["learning_rate"],
        per_device_train_batch_size=request["batch_size"],
        num_train_epochs=request["epochs"],
        weight_decay=request["weight_decay"],
        bf16=request["precision"] == "bf16",
        seed=request["seed"],
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


def _tuned(name: str, request: Facts) -> TrainingArguments:
    made = arguments("tuned-workers" if name == "peft_workers" else "tuned", request)
    made.logging_strategy = made.logging_strategy.__class__("epoch")
    return made


def _finish(clock: TheirClock | OurClock, rows: int, folder: Path, request: Facts) -> Facts:
    """Rates of what was trained, and the scores of the saved adapter."""
    whole, peak = process_seconds(), peak_mb()
    splits, labels = load(Path(request["data"]))
    tokenizer = AutoTokenizer.from_pretrained(request["base"])
    tokens = mean(len(row["input_ids"]) for row in encode(tokenizer, splits["train"], request))
    return {
        "seconds": clock.seconds,
        "rows": rows,
        "tokens_per_second": rows * tokens / clock.seconds,
        "cpu_tokens_per_second": rows * tokens / clock.cpu_seconds,
        "process_seconds": whole,
        "peak_mb": peak,
        **_plain_scores(folder, splits["test"], len(labels), request),
    }


def _plain_scores(folder: Path, test: Any, labels: int, request: Facts) -> dict[str, float]:
    """The adapter folder, loaded by PEFT alone on the untouched base, in float32."""
    from peft import PeftModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(
        request["base"], num_labels=labels, dtype=torch.float32,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    rows = encode(tokenizer, test, request)
    return scores(
        predict(PeftModel.from_pretrained(base, folder), rows, tokenizer.pad_token_id), rows
    )


def decoder(request: Facts) -> Path:
    """A GPT-2 as wide and deep as MiniLM, with random weights and MiniLM's tokenizer."""
    from transformers import GPT2Config, GPT2Model

    folder = Path(request["into"]) / "gpt2"
    tokenizer = AutoTokenizer.from_pretrained(request["base"])
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=256, n_embd=384, n_layer=6, n_head=12,
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    GPT2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
