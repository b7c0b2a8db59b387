"""Minimal pairs: language models beside n-gram models of the same text (BLiMP).

    python bench/blimp.py CLM=runs/clm MLM=runs/mlm SmolLM2=smollm2
    python bench/blimp.py SmolLM2=smollm2 --per-paradigm 6 --json blimp.json

Each NAME=MODEL is a run, a folder or a base, and `warmstart evaluate` asks it. The unigram and the
5-gram (interpolated Kneser-Ney, see ngram.py) have counted `--corpus`. "known words" are the pairs
whose words all occur in it `--often` times or more. A tie counts a half. Intervals are 95 % of the
bootstrap over pairs; "against the 5-gram" is the paired difference on all pairs.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from _common import DATA, parser
from ngram import PROSE, KneserNey, Unigram, read, words_of

PAIR = ("sentence_good", "sentence_bad")
DRAWS = 2_000
FIVE_GRAM = "5-gram (Kneser-Ney)"


def main() -> int:
    words = parser(__doc__)
    words.add_argument("models", nargs="*", metavar="NAME=MODEL")
    words.add_argument("--pairs", type=Path, default=DATA.parent / "blimp" / "test.csv")
    words.add_argument("--corpus", type=Path, default=PROSE / "train")
    words.add_argument("--per-paradigm", type=int, help="only the first so many of each")
    words.add_argument("--often", type=int, default=5)
    words.add_argument("--prefix", default="auto", help="task.prefix of decoders")
    words.add_argument("--pll", default="within_word", help="task.pll of masked models")
    asked = words.parse_args()
    rows = pairs_of(asked.pairs, 2 if asked.quick else asked.per_paradigm)
    sentences = read(asked.corpus)
    seen = Counter(word for one in sentences for word in one)
    known = np.array([
        all(seen[word] >= asked.often for name in PAIR for word in words_of(row[name]))
        for row in rows
    ])  # fmt: skip
    paradigms = len({row["paradigm"] for row in rows})
    print(f"{len(rows):,} pairs of {paradigms} paradigms, {int(known.sum()):,} of known words; "
          f"{seen.total():,} words counted", flush=True)  # fmt: skip
    credits: dict[str, np.ndarray] = {
        "unigram": credit_of(Unigram(sentences), rows),
        FIVE_GRAM: credit_of(KneserNey(sentences, 5), rows),
    }
    notes = dict[str, list[str]]()
    for word in asked.models:
        name, _, model = word.partition("=")
        keys = {"task.prefix": asked.prefix, "task.pll": asked.pll}
        credits[name], notes[name] = asked_of(model or name, rows, keys)
    print(table(credits, known))
    print(by_phenomenon(credits, rows))
    for name, lines in notes.items():
        print(f"{name}: {' '.join(lines)}")
    if asked.json:
        facts = {name: own.tolist() for name, own in credits.items()}
        asked.json.write_text(json.dumps({"credit": facts, "known": known.tolist(), "rows": rows,
                                          "notes": notes}), encoding="utf-8")  # fmt: skip
    return 0


def pairs_of(path: Path, most: int | None) -> list[dict[str, str]]:
    """The rows of the file, or the first `most` of each paradigm."""
    seen, rows = defaultdict[str, int](int), list[dict[str, str]]()
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            seen[row["paradigm"]] += 1
            if most is None or seen[row["paradigm"]] <= most:
                rows.append(row)
    return rows


def credit_of(model: KneserNey | Unigram, rows: list[dict[str, str]]) -> np.ndarray:
    """1 where the good sentence is the likelier, 0.5 where both are equally likely."""
    nats = np.array([[model.nats(words_of(row[name])) for name in PAIR] for row in rows])
    gap = nats[:, 1] - nats[:, 0]
    return np.where(np.isclose(gap, 0.0, atol=1e-9), 0.5, gap > 0)


def asked_of(
    model: str, rows: list[dict[str, str]], keys: dict[str, Any]
) -> tuple[np.ndarray, list[str]]:
    """The same of a language model, and how it was asked."""
    import tempfile

    import pyarrow.parquet as pq

    import warmstart

    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        out = Path(folder) / "out"
        metrics = warmstart.evaluate(model, rows, out=out, task="choice", **keys)
        credit = pq.read_table(out / "predictions.parquet")["credit"].to_numpy()
    return credit, metrics["notes"]


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of the means of resamples."""
    rng = np.random.default_rng(seed)
    draws = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def table(credits: dict[str, np.ndarray], known: np.ndarray) -> str:
    lines = ["| model | all pairs | 95 % | known words | 95 % | ties | against the 5-gram |",
             "|---|---:|---|---:|---|---:|---|"]  # fmt: skip
    for name, own in credits.items():
        cells = [name]
        for part in (own, own[known]):
            low, high = interval(part) if len(part) else (np.nan, np.nan)
            mean = part.mean() if len(part) else np.nan
            cells += [f"{mean:.3f}", f"{low:.3f} to {high:.3f}"]
        gap = own - credits[FIVE_GRAM]
        low, high = interval(gap)
        against = "" if name == FIVE_GRAM else f"{gap.mean():+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(f"| {' | '.join([*cells, str(int((own == 0.5).sum())), against])} |")
    return "\n".join(["", *lines, ""])


def by_phenomenon(credits: dict[str, np.ndarray], rows: list[dict[str, str]]) -> str:
    names = np.array([row["phenomenon"] for row in rows])
    lines = [f"| phenomenon | pairs | {' | '.join(credits)} |",
             f"|---|---:|{'---:|' * len(credits)}"]  # fmt: skip
    for name in sorted(set(names.tolist())):
        own = [f"{values[names == name].mean():.3f}" for values in credits.values()]
        lines.append(f"| {name} | {(names == name).sum()} | {' | '.join(own)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
