"""Every objective from scratch on the same prose, against the frequency of each token.

    python bench/pretraining.py [CORPUS] [--minutes 3] [--size tiny] [--only gpt2,bert] [--keep DIR]

CORPUS is a folder with train/, validation/ and test/; of a held-out text the beginning is read.
Each architecture of one size trains for so many minutes of the process's own time (one thread:
OMP_NUM_THREADS=1) with the objectives that it is known for; the number of steps is found by timing
the first ones. DistilBERT's teacher is the BERT of this bench that read masked text. The loss is of
the tokens that an objective asks for, so losses of different objectives are not to be compared
with each other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import transformers

import warmstart
from ngram import PROSE
from warmstart.models.checks import read_json
from warmstart.models.saved import language_class
from warmstart.types import Listener

PAIRS = {
    "bert": ("mlm", "nsp"), "roberta": ("mlm",), "distilbert": ("mlm", "distill"),
    "albert": ("sop",), "electra": ("replaced_token",), "gpt2": ("clm",), "llama": ("clm",),
    "t5": ("span_corruption",), "bart": ("denoising",), "pegasus": ("gap_sentences",),
    "xlnet": ("permutation",),
}  # fmt: skip
TWO_STACKS = ("t5", "bart", "pegasus")
"""They have as many layers again, and a second attention in these: half as many layers each, so
that all are of about one size."""
TRIED = 12  # steps that are timed


class Clock(Listener):
    """The process's own time after each step."""

    def __init__(self) -> None:
        self.times = list[float]()

    def step(self, step: Any, total: int) -> None:
        self.times.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Of a step; the median, which leaves out those with a validation."""
        return statistics.median(b - a for a, b in itertools.pairwise(self.times))


def train(words: argparse.Namespace, data: Path, out: Path, name: str, objective: str,
          steps: int) -> tuple[Any, float]:  # fmt: skip
    """The run, and the seconds of a step."""
    clock = Clock()
    keys: dict[str, Any] = {
        "vocabulary_size": 4_000, "task.max_length": 128, "train.max_steps": steps,
        "train.batch_tokens": words.tokens, "train.validate_every": max(1, steps // 6),
        "evaluate.bootstrap": 200,
    }  # fmt: skip
    if name in TWO_STACKS:
        keys["layers"] = 2
    if objective == "distill":
        teacher = str(words.keep / "bert-mlm" / "model")
        keys |= {"objective.teacher": teacher, "tokenizer": teacher}
        keys.pop("vocabulary_size")
    run = warmstart.pretrain(
        data, architecture=name, size=words.size, objective=objective, out=out,
        listeners=[clock], **keys,
    )  # fmt: skip
    return run, clock.seconds


def part_of(corpus: Path, folder: Path, held: int, documents: int | None = None) -> Path:
    """The first so many documents of train, and the beginnings of those held out, in characters."""
    for split in ("train", "validation", "test"):
        (folder / split).mkdir(parents=True)
        for path in sorted((corpus / split).iterdir())[: documents if split == "train" else None]:
            text = path.read_text(encoding="utf-8")
            kept = text if split == "train" else text[:held]
            (folder / split / path.name).write_text(kept, encoding="utf-8")
    return folder


def measure(words: argparse.Namespace, name: str, objective: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        little = part_of(words.corpus, Path(folder) / "corpus", 20_000, documents=1)
        _, step = train(words, little, Path(folder) / "tried", name, objective, TRIED)
    steps = 6 * max(round(words.minutes * 10 / step), 4)
    begun, used = time.perf_counter(), time.process_time()
    out = words.keep / f"{name}-{objective}"
    with tempfile.TemporaryDirectory() as folder:
        whole = part_of(words.corpus, Path(folder) / "corpus", words.held)
        run, step = train(words, whole, out, name, objective, steps)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
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
        "first": losses[0], "before_last": losses[-2], "last": losses[-1], "losses": losses,
        "missing": sorted(info["missing_keys"]),
        "tokens_per_second": words.tokens / step, "training_seconds": steps * step,
        "seconds": round(seconds), "cpu_seconds": round(used),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=PROSE)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tokens", type=int, default=1_024, help="of a step")
    parser.add_argument("--held", type=int, default=60_000, help="characters of a held-out text")
    parser.add_argument("--only", default=",".join(PAIRS), help="gpt2, or bert:mlm for one of two")
    parser.add_argument("--keep", type=Path, default=Path("runs/pretraining"), help="the runs")
    words = parser.parse_args()
    print("| architecture | objective | class | parameters | steps | held-out loss | unigram | "
          "validation: first, last but one, last | tokens/s of CPU | training CPU s | "
          "whole: wall s, CPU s | missing weights |")  # fmt: skip
    print("|---" * 12 + "|")
    for choice in words.only.split(","):
        name, _, only = choice.partition(":")
        for objective in [only] if only else PAIRS[name]:
            row = measure(words, name, objective)
            curve = ", ".join(f"{row[key]:.3f}" for key in ("first", "before_last", "last"))
            cells = [
                name, objective, row["class"], f"{row['parameters'] / 1e6:.1f} M", row["steps"],
                f"{row['loss']:.3f}", f"{row['unigram']:.3f}", curve,
                f"{row['tokens_per_second']:,.0f}", f"{row['training_seconds']:.0f}",
                f"{row['seconds']}, {row['cpu_seconds']}", len(row["missing"]),
            ]  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            with (words.keep / "pretraining.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
