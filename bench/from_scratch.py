"""Small encoder-decoders of random weights, trained to translate and to summarize.

    python bench/from_scratch.py                                  # three families, two sets
    python bench/from_scratch.py --families t5 --sets multi30k_en_de --epochs 10

Each family gets a tokenizer of its own from the training rows (unigram for T5 and PEGASUS, bytes
BPE for BART) and a model of our own configuration, `--layers` blocks of width `--width` on each
side. Baselines are the report's: the untouched source, the first sentence. "same text" are test
rows for which transformers, loading the saved folder, wrote the very same text (the run's proof).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import DATA, parser

KINDS = {"t5": "unigram", "bart": "bpe", "pegasus": "unigram"}
SETS: dict[str, dict[str, Any]] = {
    "multi30k_en_de": {"task": "translation", "vocabulary": 6000, "figures": ("bleu", "chrf")},
    "scitldr": {
        "task": "summarization",
        "vocabulary": 6000,
        "figures": ("rouge1", "rouge2", "rougeL"),
        "keys": {"task.no_repeat_ngram_size": 3},
    },
}


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--families", default=",".join(KINDS))
    words.add_argument("--sets", default=",".join(SETS))
    words.add_argument("--epochs", type=int, default=40)
    words.add_argument("--batch-size", type=int, default=32)
    words.add_argument("--learning-rate", type=float, default=1e-3)
    words.add_argument("--width", type=int, default=192)
    words.add_argument("--layers", type=int, default=3)
    words.add_argument("--dropout", type=float, default=0.1)
    words.add_argument("--label-smoothing", type=float, default=0.0)
    words.add_argument("--out", type=Path, help="keep the runs below this folder")
    asked = words.parse_args()
    found: dict[str, Any] = {}
    print("| set | family | parameters | figures (95 %) | best baseline | same text |", flush=True)
    print("|---|---|---:|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        for name in asked.sets.split(","):
            for family in asked.families.split(","):
                place = (asked.out or Path(folder)) / f"{name}-{family}"
                found[f"{name} {family}"] = tuned(name, family, place, asked)
                if asked.json:
                    asked.json.write_text(json.dumps(found), encoding="utf-8")
    return 0


def tuned(name: str, family: str, place: Path, asked: Any) -> dict[str, Any]:
    """One model, tuned and judged; its line is printed."""
    import warmstart

    one, data = SETS[name], DATA.parent / name
    base = new(family, data, one["vocabulary"], place, asked)
    keys: dict[str, Any] = {
        **one.get("keys", {}),
        "task": one["task"],
        "base": str(base),
        "train.epochs": 1 if asked.quick else asked.epochs,
        "train.batch_size": asked.batch_size,
        "train.learning_rate": asked.learning_rate,
        "train.keep": "best",
        "objective.label_smoothing": asked.label_smoothing,
    }
    run = warmstart.tune(data, out=str(place / "run"), **keys)
    metrics, proof = run.metrics, run.proof
    facts = {
        "figures": {key: metrics[key] for key in one["figures"]},
        "baselines": {b["title"]: b[metrics["main"]]["value"] for b in metrics["baselines"]},
        "proof": proof,
        "parameters": run.facts["size"]["parameters"],
        "history": run.facts["history"],
    }
    print(line(name, family, facts), flush=True)
    return facts


def new(family: str, data: Path, vocabulary: int, place: Path, asked: Any) -> Path:
    """A model of random weights with a tokenizer made from the training rows."""
    import warmstart
    from warmstart.models.from_config import new_base

    train = next(data.glob("train.*"))
    trained = warmstart.tokenizer.train(
        str(train),
        out=str(place / "words"),
        column="source,target",
        kind=KINDS[family],
        family="t5" if family == "pegasus" else family,
        vocab_size=vocabulary,
    )
    return new_base(
        family,
        trained["out"],
        place / "base",
        hidden_size=asked.width,
        layers=asked.layers,
        heads=max(1, asked.width // 64),
        dropout=asked.dropout,
    )


def line(name: str, family: str, facts: dict[str, Any]) -> str:
    """A line of the table."""
    figures = ", ".join(
        f"{key} {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        for key, value in facts["figures"].items()
    )
    best, value = max(facts["baselines"].items(), key=lambda pair: pair[1])
    proof, millions = facts["proof"], facts["parameters"] / 1e6
    same = f"{proof['same_text']} of {proof['rows']}"
    return f"| {name} | {family} | {millions:.1f} M | {figures} | {best} {value:.3f} | {same} |"


if __name__ == "__main__":
    sys.exit(main())
