"""Every objective from scratch on the same prose, against the frequency of each token.

    python bench/pretraining.py CORPUS [--minutes 3] [--size tiny] [--only gpt2,bert]

CORPUS is a folder with train/, validation/ and test/. Each architecture of one size trains for so
many minutes with the objective that it is known for; the number of steps is found by timing the
first ones. The loss is of the tokens that an objective asks for, so losses of different objectives
are not to be compared with each other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import transformers

import warmstart
from warmstart.models.checks import read_json
from warmstart.models.saved import language_class

PAIRS = {
    "bert": ("mlm", "nsp"), "roberta": ("mlm",), "distilbert": ("mlm",), "albert": ("sop",),
    "electra": ("replaced_token",), "gpt2": ("clm",), "llama": ("clm",), "t5": ("span_corruption",),
    "bart": ("denoising",), "pegasus": ("gap_sentences",), "xlnet": ("permutation",),
}  # fmt: skip
TRIED = 12  # steps that are timed


def train(corpus: Path, out: Path, name: str, objective: str, size: str, steps: int) -> Any:
    return warmstart.pretrain(
        corpus, architecture=name, size=size, objective=objective, out=out, **{
            "vocabulary_size": 4_000, "task.max_length": 128, "train.max_steps": steps,
            "train.batch_tokens": 4_096, "train.validate_every": max(1, steps // 6),
            "evaluate.bootstrap": 200,
        },
    )  # fmt: skip


def measure(corpus: Path, name: str, objective: str, size: str, minutes: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        tried = train(corpus, Path(folder) / "tried", name, objective, size, TRIED)
        steps = round(minutes * 60 / (tried.facts["speed"]["seconds"] / TRIED))
        begun = time.perf_counter()
        run = train(corpus, Path(folder) / "run", name, objective, size, max(steps, 2 * TRIED))
        config = transformers.AutoConfig.from_pretrained(run.model)
        kind = read_json(run.model / "config.json")["architectures"][0]
        _, info = language_class(config, kind).from_pretrained(run.model, output_loading_info=True)
        losses = [row["validation_loss"] for row in run.facts["history"]]
        metrics = run.metrics
        return {
            "architecture": name, "objective": objective, "class": kind,
            "parameters": run.facts["size"]["parameters"], "steps": steps,
            "loss": metrics["loss"]["value"], "unigram": metrics["baselines"][0]["loss"]["value"],
            "bits_per_byte": metrics.get("bits_per_byte", {}).get("value"),
            "first": losses[0], "before_last": losses[-2], "last": losses[-1],
            "missing": sorted(info["missing_keys"]),
            "tokens_per_second": run.facts["speed"]["tokens_per_second"],
            "seconds": round(time.perf_counter() - begun),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--only", default=",".join(PAIRS))
    words = parser.parse_args()
    print("| architecture | objective | class | parameters | steps | held-out loss | unigram | "
          "validation: first, last but one, last | tokens/s | missing weights |")  # fmt: skip
    print("|---" * 10 + "|")
    for name in words.only.split(","):
        for objective in PAIRS[name]:
            row = measure(words.corpus, name, objective, words.size, words.minutes)
            curve = ", ".join(f"{row[key]:.3f}" for key in ("first", "before_last", "last"))
            cells = [
                name, objective, row["class"], f"{row['parameters'] / 1e6:.1f} M", row["steps"],
                f"{row['loss']:.3f}", f"{row['unigram']:.3f}", curve,
                f"{row['tokens_per_second']:,.0f}", len(row["missing"]),
            ]  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            with Path("pretraining.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
