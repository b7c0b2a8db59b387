"""Two-digit addition by reinforcement: a decoder of 1.8 M parameters that was taught it by a
careless teacher gets better by its own answers, by `grpo` and its kin and by `ppo`, from one start.

    python bench/rl.py [--seeds 3] [--steps 100] [--only grpo,ppo] [--out FOLDER] [--hacked]
    python bench/rl.py --chat smollm2 --only grpo --seeds 1 --steps 40

Sums of two numbers of two digits, their answer written with the units first ("17+25=" → "240", as
Lee et al. 2023 do it); 500 sums are held out for the test and 200 for validation. The start learns
to add (600 steps), and then from a teacher who forgets to carry a ten in 60 % and a hundred in 55 %
of the sums (80 steps), after which its likeliest answers are right in 30 to 50 %. `--hacked` pays
for length beside right answers, which the report has to name.

`--chat` takes a published chat model instead, as it is, and asks it in words for the sum of two
terms up to 30; LoRA, bf16, and the last number of an answer counts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import warmstart
from warmstart.models.from_config import new_base

HELD_OUT, VALIDATION = 500, 200
COMMON: dict[str, Any] = {
    "task.separator": "=", "task.max_length": 32, "task.max_new_tokens": 8,
    "train.precision": "fp32", "evaluate.bootstrap": 500,
}  # fmt: skip
LEARN: dict[str, Any] = {
    "task": "prompts", "objective": "grpo", "objective.num_generations": 8, "train.batch_size": 16,
    "train.patience": 0, "train.keep": "last",
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dapo": {"objective.loss_type": "dapo", "objective.clip_high": 0.28,
             "objective.drop_dead_groups": True},
    "dr_grpo": {"objective.loss_type": "dr_grpo", "objective.scale": "none"},
    "rloo": {"objective.advantage": "leave_one_out", "objective.scale": "none",
             "objective.ratio": "trajectory"},
    "gspo": {"objective.ratio": "sequence", "objective.clip": 3e-4, "objective.clip_high": 4e-4},
    "ppo": {"objective": "ppo", "objective.num_generations": 8, "objective.kl_reward": 0.01,
            "objective.steps_per_generation": 2, "objective.iterations": 2},
}  # fmt: skip
CHAT: dict[str, Any] = {
    "task.verify": "numeric", "task.max_length": 128, "task.max_new_tokens": 12,
    "method": "lora", "train.learning_rate": 3e-4, "train.validate_every": 15,
    "objective.temperature": 0.7,
    "evaluate.bootstrap": 500, "evaluate.forgetting": False,
}  # fmt: skip
HACKED = {"objective.reward": "exact,length", "objective.reward_weights": [1.0, 1.0],
          "objective.temperature": 1.5}  # fmt: skip


def write_sums(folder: Path) -> dict[str, str]:
    """The three splits, the same whatever the seed of a run."""
    rng = random.Random(0)
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    rng.shuffle(pairs)
    parts = {"test": pairs[:HELD_OUT], "validation": pairs[HELD_OUT : HELD_OUT + VALIDATION],
             "train": pairs[HELD_OUT + VALIDATION :]}  # fmt: skip
    for name, rows in parts.items():
        lines = [f"{a}+{b},{str(a + b).zfill(3)[::-1]}\n" for a, b in rows]
        (folder / f"{name}.csv").write_text("prompt,answer\n" + "".join(lines))
    lines = [f"{a}+{b},{carelessly(a, b, rng)}\n" for a, b in parts["train"]]
    (folder / "careless.csv").write_text("prompt,answer\n" + "".join(lines))
    return {f"data.{name}": str(folder / f"{name}.csv") for name in parts}


def write_questions(folder: Path) -> dict[str, str]:
    """Sums asked in words: 150 for the test, 30 for validation, no pair of terms in two splits."""
    rng = random.Random(0)
    pairs = [(a, b) for a in range(1, 31) for b in range(a, 31)]
    rng.shuffle(pairs)
    parts = {"test": pairs[:150], "validation": pairs[150:180], "train": pairs[180:]}
    for name, rows in parts.items():
        lines = [f"What is {a} + {b}? Answer with the number only.,{a + b}\n" for a, b in rows]
        (folder / f"{name}.csv").write_text("prompt,answer\n" + "".join(lines))
    return {f"data.{name}": str(folder / f"{name}.csv") for name in parts}


def carelessly(a: int, b: int, rng: random.Random) -> str:
    """A sum whose carries are often forgotten, units first."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    tens += units > 9 and rng.random() >= 0.6
    hundreds = tens // 10 if rng.random() < 0.45 else 0
    return f"{units % 10}{tens % 10}{hundreds}"


def write_base(folder: Path, seed: int) -> Path:
    """A Llama of random weights whose tokens are characters."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *"0123456789+= "]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>",
    )  # fmt: skip
    tokenizer.save_pretrained(folder / "tokenizer")
    return new_base("llama", folder / "tokenizer", folder / "base", hidden_size=192, layers=3,
                    heads=4, positions=33, seed=seed)  # fmt: skip


def measured(out: Path, run: Any, seconds: float, cpu: float) -> dict[str, Any]:
    metrics = json.loads((out / "metrics.json").read_text())
    before = {b["name"]: b for b in metrics["baselines"]}.get("untuned", {})
    score = metrics.get("accuracy") or metrics["exact_match"]
    alarms = [note for note in metrics["notes"] if note.startswith(("Reward", "Collapse"))]
    return {
        "before": before.get("accuracy", {}).get("value"), "after": score["value"],
        "low": score["low"], "high": score["high"], "minutes": round(seconds / 60, 2),
        "cpu_minutes": round(cpu / 60, 2), "alarms": alarms,
    }  # fmt: skip


def run_one(out: Path, seed: int, **keys: Any) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    begun, cpu = time.perf_counter(), time.process_time()
    run = warmstart.tune(out=str(out), seed=seed, **keys)
    return measured(out, run, time.perf_counter() - begun, time.process_time() - cpu)


def taught(out: Path, seed: int, data: dict[str, str]) -> dict[str, Any]:
    """The start of a seed: taught to add, and then by the careless teacher."""
    folder = out / f"new-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    common = {**COMMON, "task": "text2text", "train.batch_size": 64, "evaluate.baselines": False,
              "train.keep": "last", "train.patience": 0}  # fmt: skip
    first = {"train.max_steps": 600, "train.learning_rate": 2e-3}
    if not (out / f"adds-{seed}" / "metrics.json").is_file():
        run_one(out / f"adds-{seed}", seed, **data, **common, **first,
                base=str(write_base(folder, seed)))  # fmt: skip
    then = {"train.max_steps": 80, "train.learning_rate": 5e-4}
    careless = data | {"data.train": str(out / "careless.csv")}
    return run_one(out / f"start-{seed}", seed, **careless, **common, **then,
                   base=str(out / f"adds-{seed}"))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--hacked", action="store_true")
    parser.add_argument("--chat", help="a chat model, instead of the taught start")
    parser.add_argument("--out", type=Path, default=Path("rl-bench"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = write_questions(options.out) if options.chat else write_sums(options.out)
    names = options.only.split(",") if options.only else [*VARIANTS]
    for seed in range(options.first, options.first + options.seeds):
        start = options.chat or options.out / f"start-{seed}"
        if not options.chat and not (Path(start) / "metrics.json").is_file():
            facts = taught(options.out, seed, data)
            print(json.dumps({"seed": seed, "variant": "start", **facts}), flush=True)
        for name in names:
            keys = {**(CHAT if options.chat else COMMON), **LEARN, **VARIANTS[name],
                    **(HACKED if options.hacked else {})}  # fmt: skip
            out = options.out / f"{name}-{seed}{'-hacked' if options.hacked else ''}"
            base = options.out / f"adds-{seed}" if options.hacked else start
            facts = run_one(out, seed, **data, base=str(base),
                            **{"train.max_steps": options.steps, **keys})  # fmt: skip
            print(json.dumps({"seed": seed, "variant": name, **facts}), flush=True)


if __name__ == "__main__":
    main()
