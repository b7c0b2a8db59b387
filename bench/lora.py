"""Low-rank adapters: warmstart against PEFT's own way, `transformers.Trainer` on `get_peft_model`.

    python bench/lora.py                          # speed, 1,600 rows, 5 rounds
    python bench/lora.py --dropout 0.1 --rank 8   # the settings of PEFT's documentation
    python bench/lora.py --quality                # loss curves and scores: all rows, 4 epochs
    python bench/lora.py --decoder                # a small GPT-2 of random weights

The same rows, epochs, batch size, rank, alpha, dropout, adapted matrices, trained head, learning
rate, linear schedule without warm-up, weight decay, clipping and length limit for all.
TRL's `SFTTrainer` wraps the same Trainer and the same PEFT model for the text of decoders; a
classifier goes through the Trainer itself. Contestants:

peft          as PEFT's page on sequence classification has it: rows padded to the longest of their
              batch, AdamW; bf16 autocast, which is faster here
peft_tuned    length grouping, fused AdamW, a lean collator, no unused columns
peft_malloc   peft_tuned, with glibc's malloc thresholds raised from outside;  peft_workers with a
              loader process
warmstart     `warmstart.tune(method="lora")`

Each measurement has a process of its own; the rounds are interleaved and their order rotates.
Tokens per second: tokens of the rows without padding / wall time of the whole epochs, nothing taken
off as warm-up, without loading, tokenising and validation; also per second of processor time, which
other work on the machine disturbs less (with OMP_NUM_THREADS=1 no thread waits spinning). Loss: the
mean over the steps of each epoch. Scores: of the saved adapter, loaded by PEFT on the untouched
base, in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from _common import (
    MALLOC,
    base_model,
    contestants,
    folder_with,
    hand_back,
    parser,
    rotated,
    run_worker,
    splits_of,
)
from _report import (
    Measures,
    announce,
    close,
    column,
    difference,
    mean_sd,
    measure,
    ratios,
    spread,
    table,
)

CONTESTANTS = ("peft", "peft_tuned", "warmstart")
VARIANTS = ("peft_malloc", "peft_workers")
SETTINGS = "batch_size learning_rate weight_decay max_length precision rank alpha dropout targets"


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--repeats", type=int, default=5, help="rounds of the speed part")
    words.add_argument("--speed-rows", type=int, default=1600, help="training rows; 0: all")
    words.add_argument("--quality", action="store_true", help="the quality part instead")
    words.add_argument("--rows", type=int, default=0, help="rows of the quality part; 0: all")
    words.add_argument("--decoder", action="store_true", help="a small GPT-2 of random weights")
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--epochs", type=int, default=4, help="of the quality part")
    words.add_argument("--rank", type=int, default=16)
    words.add_argument("--alpha", type=int, default=32)
    words.add_argument("--dropout", type=float, default=0.0)
    words.add_argument("--targets", choices=("all", "attention"), default="all")
    words.add_argument("--batch-size", type=int, default=16)
    words.add_argument("--learning-rate", type=float, default=1e-3)
    words.add_argument("--weight-decay", type=float, default=0.01)
    words.add_argument("--max-length", type=int, default=128)
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, (*CONTESTANTS, *VARIANTS))
    if asked.quick:
        asked.repeats, asked.speed_rows, asked.epochs, asked.seeds = 1, 96, 1, 1
    splits, data = splits_of(asked.data)
    facts = announce("LoRA", data)
    if asked.quick:
        asked.rows = asked.speed_rows
    rows, others = (asked.rows, None) if asked.quality else (asked.speed_rows, 100)
    with (
        tempfile.TemporaryDirectory(prefix="warmstart-bench-") as made,
        folder_with(splits, rows or None, 100 if asked.quick else others) as folder,
    ):
        base = small_decoder(Path(made)) if asked.decoder else base_model()
        keys = {**settings(asked), "data": str(folder), "base": str(base)}
        facts["found"] = (
            quality(names, {**keys, "epochs": asked.epochs}, asked.seeds)
            if asked.quality
            else speed(names, {**keys, "epochs": 1}, asked.repeats)
        )
    close(facts, asked.json)
    return 0


def settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all."""
    return {name: getattr(asked, name) for name in SETTINGS.split()}


def small_decoder(folder: Path) -> Path:
    """A GPT-2 of the width and depth of MiniLM with its tokenizer, in a folder."""
    made = run_worker(__file__, "decoder", {"into": str(folder), "base": str(base_model())})
    return Path(made["made"])


def speed(names: list[str], keys: dict[str, Any], repeats: int) -> Measures:
    """Interleaved rounds with one seed."""
    found: Measures = {name: [] for name in names}
    for number in range(repeats):
        for name in rotated(names, number):
            once(found, name, {**keys, "seed": 0}, number, "round")
    print(f"\n### Speed: {repeats} rounds, median (range)")
    show_speed(found)
    return found


def show_speed(found: Measures) -> None:
    """Rates, seconds, memory, and the ratios round by round."""
    rows: list[list[str]] = []
    for name, results in found.items():
        if results:
            row = [name, f"{results[0]['trainable']:,}", str(results[0]["rows"])]
            for key in ("tokens_per_second", "cpu_tokens_per_second"):
                row.append(spread(column(results, key), 0))
                row.append(ratios(found.get("warmstart", []), results, key))
            rows.append([*row, spread(column(results, "peak_mb"), 0)])
    head = ["", "trained", "rows", "tokens/s", "warmstart is", "tokens/CPU s", "warmstart is"]
    table([*head, "peak RSS MB"], rows)


def quality(names: list[str], keys: dict[str, Any], seeds: int) -> Measures:
    """The whole job with several seeds: loss curves, scores, times."""
    found: Measures = {name: [] for name in names}
    for seed in range(seeds):
        for name in rotated(names, seed):
            once(found, name, {**keys, "seed": seed}, seed, "seed")
    print(f"\n### Quality: {seeds} seeds, mean ± sd; the adapter as PEFT loads it, test split")
    ours, rows = found.get("warmstart", []), list[list[str]]()
    for name, results in found.items():
        if results:
            f1 = column(results, "f1_macro")
            gap = difference(column(ours, "f1_macro"), f1) if ours and name != "warmstart" else "–"
            curve = zip(*(result["losses"] for result in results), strict=True)
            losses = " ".join(f"{mean(epoch):.3f}" for epoch in curve)
            rows.append([name, losses, mean_sd(f1), mean_sd(column(results, "accuracy")), gap])
    head = ["", "mean training loss of each epoch", "macro-F1", "accuracy"]
    table([*head, "warmstart minus this (95 % interval)"], rows)
    print("The same runs, timed:")
    show_speed(found)
    return found


def once(found: Measures, name: str, keys: dict[str, Any], number: int, what: str) -> None:
    """One contestant once."""
    env = MALLOC if name == "peft_malloc" else None
    measure(__file__, found, name, keys, number, told, what=what, env=env)


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    line = f"{result['tokens_per_second']:.0f} tokens/s, "
    line += f"{result['cpu_tokens_per_second']:.0f} per CPU second, "
    line += f"losses {' '.join(f'{loss:.3f}' for loss in result['losses'])}, "
    return line + f"macro-F1 {result['f1_macro']:.4f}"


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    import _lora

    if name == "decoder":
        facts = {"made": str(_lora.decoder(request))}
    elif name == "warmstart":
        facts = _lora.ours(request)
    else:
        facts = _lora.theirs(name, request)
    hand_back(request, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
