"""Pretraining a decoder: `warmstart.pretrain` against `transformers.Trainer`, by turns.

    python bench/pretrain_speed.py                       # 10 M weights, 3 rounds
    python bench/pretrain_speed.py --shape 12,768,12 --vocabulary 16000 --steps 8   # 100 M
    python bench/pretrain_speed.py --quick

Both begin with the same weights (a GPT-2 of random weights, without dropout) and read the same
documents as one stream in windows, every window full: the Trainer's are the stream cut in blocks,
as its example script `run_clm` makes them. The same tokens a step, learning rate (linear, a tenth
of warm-up), AdamW (fused), clipping, bf16, no checkpoint on the way. Its rows are tokenised
beforehand, its collator stacks, nothing is logged; attention is sdpa.

Tokens per second: wall time between the ends of step `--first` and of the last. Peak: resident
memory of the process until then. Loss: of held-out text, by transformers alone, in float32, from
the saved folder. Each measurement has a process of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import contestants, hand_back, parser, peak_mb, process_seconds, rotated
from _report import Measures, announce, close, column, measure, ratios, spread, table
from ngram import PROSE

CONTESTANTS = ("trainer", "warmstart")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--corpus", type=Path, default=PROSE, help="with train/ and validation/")
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--shape", default="6,320,5", help="layers, width, heads")
    words.add_argument("--vocabulary", type=int, default=8_000)
    words.add_argument("--window", type=int, default=256)
    words.add_argument("--batch-size", type=int, default=16, help="windows of a step")
    words.add_argument("--steps", type=int, default=60)
    words.add_argument("--first", type=int, default=3, help="steps before the clock begins")
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--books", type=int, default=4, help="documents of the corpus")
    words.add_argument("--learning-rate", type=float, default=8e-4)
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, CONTESTANTS)
    if asked.quick:
        asked.steps, asked.repeats, asked.shape, asked.vocabulary = 6, 1, "2,64,2", 500
    facts = announce("Pretraining", asked.corpus.name)
    found: Measures = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        keys = prepared(asked, Path(folder))
        for number in range(asked.repeats):
            for name in rotated(names, number):
                measure(__file__, found, name, keys, number, told)
    ours = found.get("warmstart", [])
    rows = [
        [name, spread(column(results, "tokens_per_second"), 0),
         ratios(ours, results, "tokens_per_second"), spread(column(results, "process_seconds")),
         spread(column(results, "peak_mb"), 0), ratios(ours, results, "peak_mb"),
         spread(column(results, "loss"), 3)]
        for name, results in found.items() if results
    ]  # fmt: skip
    print(
        f"\n{keys['parameters'] / 1e6:.1f} M weights, {asked.steps} steps of "
        f"{asked.batch_size} × {asked.window} tokens; median (range) of {asked.repeats} rounds"
    )
    table(["", "tokens/s", "warmstart is", "process s", "peak RSS MB", "theirs / ours",
           "held-out loss"], rows)  # fmt: skip
    close({**facts, "rounds": found}, asked.json)
    return 0


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    return (f"{result['tokens_per_second']:.0f} tokens/s, {result['peak_mb']:.0f} MB, "
            f"loss {result['loss']:.3f}")  # fmt: skip


def prepared(asked: Any, folder: Path) -> dict[str, Any]:
    """The corpus, its tokenizer and the weights, made once in `folder`."""
    import warmstart
    from warmstart.models.from_config import new_base

    corpus = folder / "corpus"
    for split, count in (("train", asked.books), ("validation", 1), ("test", 1)):
        (corpus / split).mkdir(parents=True)
        source = sorted((asked.corpus / split).iterdir())[:count]
        for path in source:
            text = path.read_text(encoding="utf-8")
            kept = text if split == "train" else text[:40_000]
            (corpus / split / path.name).write_text(kept, encoding="utf-8")
    trained = warmstart.tokenizer.train(
        str(corpus / "train"), out=str(folder / "words"), kind="bpe", family="gpt2",
        vocab_size=asked.vocabulary,
    )  # fmt: skip
    layers, width, heads = map(int, asked.shape.split(","))
    base = new_base("gpt2", trained["out"], folder / "base", hidden_size=width, layers=layers,
                    heads=heads, positions=asked.window + 1, dropout=0.0)  # fmt: skip
    names = "window batch_size steps first learning_rate precision".split()
    from transformers import AutoModelForCausalLM

    parameters = AutoModelForCausalLM.from_pretrained(base).num_parameters()
    return {name: getattr(asked, name) for name in names} | {
        "corpus": str(corpus), "base": str(base), "parameters": parameters,
    }  # fmt: skip


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    model, marks, peak = (ours if name == "warmstart" else theirs)(request)
    (begun, before), (ended, after) = marks[request["first"]], marks[request["steps"]]
    used = process_seconds()
    hand_back(request, tokens_per_second=(after - before) / (ended - begun), process_seconds=used,
              peak_mb=peak, tokens=after, loss=held_out(model, request))  # fmt: skip
    return 0


Marks = dict[int, tuple[float, int]]
"""Step → when it ended, and the tokens until then."""


def ours(request: dict[str, Any]) -> tuple[Path, Marks, float]:
    """A run of warmstart, whole: with validation, report and proof after the last step."""
    import warmstart
    from warmstart.types import Listener

    marks: Marks = {}
    peaks = list[float]()

    class Clock(Listener):
        def step(self, step: Any, total: int) -> None:
            tokens = marks.get(step.index - 1, (0.0, 0))[1] + step.tokens
            marks[step.index] = time.perf_counter(), tokens
            peaks.append(peak_mb())

    run = warmstart.pretrain(
        request["corpus"], base=request["base"], objective="clm",
        out=Path(request["folder"]) / "run", listeners=[Clock()], **{
            "task.max_length": request["window"], "task.documents": "joined",
            "train.batch_size": request["batch_size"], "train.max_steps": request["steps"],
            "train.learning_rate": request["learning_rate"], "train.schedule": "linear",
            "train.min_rate": 0.0, "train.weight_decay": 0.0, "train.adam_beta2": 0.999,
            "train.precision": request["precision"], "train.checkpoint_seconds": 1e9,
            "train.device": "cpu", "evaluate.forgetting": False, "evaluate.bootstrap": 100,
        },
    )  # fmt: skip
    return run.model, marks, peaks[-1]


def theirs(request: dict[str, Any]) -> tuple[Path, Marks, float]:
    """The Trainer on the stream, cut in blocks."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(request["base"])
    model = AutoModelForCausalLM.from_pretrained(request["base"], attn_implementation="sdpa")
    stream = list[int]()
    for path in sorted((Path(request["corpus"]) / "train").iterdir()):
        stream += [*tokenizer(path.read_text(encoding="utf-8"))["input_ids"],
                   tokenizer.eos_token_id]  # fmt: skip
    window = request["window"]
    blocks = [stream[at : at + window] for at in range(0, len(stream) - window + 1, window)]
    rows = [{"input_ids": block, "labels": block} for block in blocks]
    marks: Marks = {}
    peaks = list[float]()

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keys: Any) -> None:
            tokens = state.global_step * request["batch_size"] * window
            marks[state.global_step] = time.perf_counter(), tokens
            peaks.append(peak_mb())

    def stacked(some: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in some]) for key in some[0]}

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(Path(request["folder"]) / "out"), max_steps=request["steps"],
            per_device_train_batch_size=request["batch_size"],
            learning_rate=request["learning_rate"], lr_scheduler_type="linear",
            warmup_steps=round(0.1 * request["steps"]), weight_decay=0.0, max_grad_norm=1.0,
            optim="adamw_torch_fused", bf16=request["precision"] == "bf16", use_cpu=True,
            save_strategy="no", logging_strategy="no", logging_nan_inf_filter=False,
            report_to="none", disable_tqdm=True, remove_unused_columns=False,
            dataloader_pin_memory=False, seed=0,
        ),
        train_dataset=rows,  # pyright: ignore[reportArgumentType]
        processing_class=tokenizer, data_collator=stacked, callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    folder = Path(request["folder"]) / "model"
    trainer.save_model(str(folder))
    return folder, marks, peaks[-1]


def held_out(folder: Path, request: dict[str, Any]) -> float:
    """Nats a token of the held-out text in windows; plain transformers, float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    path = next((Path(request["corpus"]) / "validation").iterdir())
    ids = tokenizer(path.read_text(encoding="utf-8"))["input_ids"]
    window = request["window"]
    ids = torch.tensor(ids[: len(ids) // window * window]).view(-1, window)
    with torch.no_grad():
        losses = [float(model(input_ids=some, labels=some).loss) for some in ids.split(16)]
    sizes = [len(some) for some in ids.split(16)]
    return sum(a * b for a, b in zip(losses, sizes, strict=True)) / sum(sizes)


if __name__ == "__main__":
    sys.exit(main())
