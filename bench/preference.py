"""Preferences: what each objective makes of the same base and the same pairs.

    python bench/preference.py                              # politeness_pref, all rows below
    python bench/preference.py --only dpo,reward-minilm
    python bench/preference.py --data data/hh_harmless --only reward-minilm

The pairs of train are learned; those of validation and test together are judged (165 of
politeness_pref), so validation is cut from train. Rows:

dpo, kto, orpo, simpo   `warmstart align --base smollm2 --method lora`, from the same start: the
                        share of pairs whose chosen answer is likelier by the sum, and bits of
                        general text, per byte, beside those of the base
reward-smollm2          a reward model on the same base
reward-minilm           a reward model on an encoder
ppo                     answers of the same base to the prompts, rewarded by `reward-minilm`

Beside each the baselines `length` and `bag_of_words`, and the paired test against the best. What
`warmstart models fetch smollm2` brings must be there. About 10 minutes of one core for a row of
SmolLM2, 3 for one of MiniLM.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "politeness_pref"
DECODER = ("--base", "smollm2", "--method", "lora", "--train.batch_size", "8")
ROWS: dict[str, tuple[str, ...]] = {
    "dpo": ("--objective", "dpo", *DECODER, "--train.learning_rate", "3e-4",
            "--objective.nll_weight", "0.2"),
    "kto": ("--objective", "kto", *DECODER, "--train.learning_rate", "2e-4"),
    "orpo": ("--objective", "orpo", *DECODER, "--train.learning_rate", "2e-4",
             "--objective.beta", "0.5"),
    "simpo": ("--objective", "simpo", *DECODER, "--train.learning_rate", "1e-4"),
    "reward-smollm2": ("--objective", "reward", *DECODER),
    "reward-minilm": ("--objective", "reward", "--base", "minilm", "--train.epochs", "3"),
    "ppo": ("--objective", "ppo", "--base", "smollm2", "--method", "lora",
            "--objective.reward", "reward-minilm", "--objective.kl_reward", "0.05",
            "--task.max_new_tokens", "40", "--train.batch_size", "8", "--train.max_steps", "80",
            "--objective.iterations", "2", "--objective.steps_per_generation", "2",
            "--train.learning_rate", "1e-4"),
}  # fmt: skip


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("--data", type=Path, default=DATA)
    words.add_argument("--only", default=",".join(ROWS), help="which rows, with commas")
    words.add_argument("--limit", type=int, default=0, help="first pairs of train to learn; 0: all")
    words.add_argument("--out", type=Path, default=None, help="keep the runs here")
    words.add_argument("--json", type=Path, default=None)
    asked = words.parse_args()
    if not asked.data.is_dir():
        print(f"{asked.data} is not there: nothing measured")
        return 0
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as place:
        folder = pairs_of(asked.data, Path(place), asked.limit)
        out = asked.out or Path(place)
        results = {name: run(name, folder, out / name)
                   for name in asked.only.split(",")}  # fmt: skip
    print(f"\n{asked.data.name}: pairs of validation and test")
    print(
        "| | before | now | 95 % | by the mean of a token | length | bag of words | | "
        "bits of general text | minutes |\n|---|---:|---:|---|---:|---:|---:|---|---:|---:|"
    )
    for name, row in results.items():
        figures = [row[key] for key in ("before", "now", "by_token", "length", "words")]
        before, now, by_token, *rules = ("-" if x is None else f"{x:.3f}" for x in figures)
        cells = [name, before, now, f"{row['low']:.3f} to {row['high']:.3f}", by_token, *rules,
                 row["against"], row["bits"], f"{row['minutes']:.1f}"]  # fmt: skip
        print(f"| {' | '.join(cells)} |")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def pairs_of(data: Path, place: Path, limit: int) -> Path:
    """A folder whose test split is validation and test together, and train has its first rows."""
    folder = place / data.name
    folder.mkdir()
    parts = {name: (data / f"{name}.jsonl").read_text("utf-8") for name in
             ("train", "validation", "test")}  # fmt: skip
    rows = parts["train"].splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(rows[: limit or None]), encoding="utf-8")
    (folder / "test.jsonl").write_text(parts["validation"] + parts["test"], encoding="utf-8")
    return folder


def run(name: str, data: Path, out: Path) -> dict[str, Any]:
    """One row: a process of its own, and what its metrics say."""
    words = [word.replace("reward-minilm", str(out.parent / "reward-minilm"))
             for word in ROWS[name]]  # fmt: skip
    command("align", str(data), *words, "--out", str(out))
    metrics = read(out)
    if name == "ppo":
        return prompted(metrics, data, out)
    rules = {row["name"]: row for row in metrics["baselines"]}
    own, best = metrics["accuracy"], max(
        (rules[name] for name in ("length", "bag_of_words")), key=lambda r: r["accuracy"]["value"]
    )  # fmt: skip
    by_token = metrics.get("accuracy_token", {}).get("value")
    return {
        "before": rules["untuned"]["accuracy"]["value"] if "untuned" in rules else None,
        "now": own["value"], "low": own["low"], "high": own["high"], "by_token": by_token,
        "length": rules["length"]["accuracy"]["value"],
        "words": rules["bag_of_words"]["accuracy"]["value"],
        "against": f"{best['outcome']}, p {best['model_minus_baseline']['p_value']:.3f}",
        "bits": bits(metrics), "minutes": metrics["speed"]["seconds"] / 60,
    }  # fmt: skip


def prompted(metrics: dict[str, Any], data: Path, out: Path) -> dict[str, Any]:
    """The same of a run that saw the prompts alone: it is asked for the pairs afterwards."""
    asked = list[dict[str, Any]]()
    for model, folder in (("smollm2", out / "pairs-before"), (str(out), out / "pairs")):
        test = str(data / "test.jsonl")
        command("evaluate", model, test, "--task", "preference", "--out", str(folder))
        asked.append(read(folder))
    own = asked[1]["accuracy"]
    untuned = next(row for row in metrics["baselines"] if row["name"] == "untuned")
    rewards = [round(one["reward"]["value"], 3) for one in (untuned, metrics)]
    return {
        "before": asked[0]["accuracy"]["value"], "now": own["value"], "low": own["low"],
        "high": own["high"], "by_token": asked[1]["accuracy_token"]["value"], "length": None,
        "words": None, "against": f"mean reward of what it writes {rewards[0]} to {rewards[1]}",
        "bits": bits(metrics), "minutes": metrics["speed"]["seconds"] / 60,
    }  # fmt: skip


def command(*words: str) -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    whole = [sys.executable, "-m", "warmstart", *words]
    subprocess.run(whole, check=True, env={**os.environ, "PYTHONPATH": path})


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def bits(metrics: dict[str, Any]) -> str:
    """By how much general text costs more: nats a token, and with them bits a byte."""
    lost = metrics.get("forgetting") or {}
    if lost.get("figure") != "perplexity":
        return "-"
    old, new = (math.log(lost[when]["perplexity"]["value"]) for when in ("before", "after"))
    return f"{100 * (new / old - 1):+.1f} %"


if __name__ == "__main__":
    sys.exit(main())
