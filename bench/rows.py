"""Many short texts: minutes of `inspect` and of `tune --method frozen` as the rows grow.

    python bench/rows.py [CORPUS]                       # 12,500 and 100,000 rows
    python bench/rows.py [CORPUS] --rows 12500,25000,50000 --only inspect

CORPUS is a folder of novels as plain text. A row is a sentence, or a part of one up to a semicolon,
of 3 to 60 words; its label is the novel that it stands in, and none occurs twice. The rows of all
sizes are drawn by chance, so a smaller set is a part of a larger one. Each measurement is a process
of its own; wall and CPU time are both given, and the second is what counts where other work shares
the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ngram import PROSE

ENDS = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z])|(?<=;)\s+")
VERBS = {
    "inspect": ["inspect", "{data}"],
    "tune": ["tune", "{data}", "--method", "frozen", "--out", "{out}"],
}


def sentences(corpus: Path) -> list[tuple[str, str]]:
    """(sentence, novel) of every text file below a folder, in an order drawn by chance."""
    rows: dict[str, str] = {}
    for path in sorted(corpus.rglob("*.txt")):
        for one in ENDS.split(" ".join(path.read_text(encoding="utf-8").split())):
            if 3 <= len(one.split()) <= 60:
                rows.setdefault(one, path.stem)
    pairs = list(rows.items())
    random.Random(0).shuffle(pairs)
    return pairs


def measure(verb: str, data: Path, out: Path) -> dict[str, float]:
    """Wall and CPU seconds and the peak memory of one command."""
    words = [word.format(data=data, out=out) for word in VERBS[verb]]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "warmstart", *words], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - begun, "cpu": used, "peak_mb": after.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=PROSE)
    parser.add_argument("--rows", default="12500,100000")
    parser.add_argument("--only", default=",".join(VERBS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows, figures = sentences(asked.corpus), list[dict[str, float | str]]()
    print(f"{len(rows):,} different sentences of {len({novel for _, novel in rows})} novels\n")
    print("| verb | rows | wall s | CPU s | CPU ms a row | peak MB so far |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for verb in asked.only.split(","):
        for count in map(int, asked.rows.split(",")):
            if count > len(rows):
                sys.exit(f"the corpus has {len(rows):,} rows, fewer than {count:,}")
            with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
                data = Path(folder) / "rows.csv"
                with data.open("w", encoding="utf-8", newline="") as file:
                    csv.writer(file).writerows([("text", "label"), *rows[:count]])
                took = measure(verb, data, Path(folder) / "run")
            figures.append({"verb": verb, "rows": count, **took})
            print(f"| {verb} | {count:,} | {took['wall']:.0f} | {took['cpu']:.0f} | "
                  f"{1000 * took['cpu'] / count:.2f} | {took['peak_mb']:,.0f} |",
                  flush=True)  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
