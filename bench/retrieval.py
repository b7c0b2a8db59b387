"""Exact search over 100,000 texts: from a question to the ten nearest texts.

    python bench/retrieval.py

The vectors are those of the STS benchmark's test sentences by `minilm`, recombined: sums of two at
random with a little noise, of length 1. A search computes the question's vector too.

warmstart        `Index.search`
product alone    `scores.nearest.nearest` on a vector that is there already
full sort        all similarities sorted with numpy, the plain way; what is found is compared
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import DATA, parser
from _report import announce, table

ROWS, QUESTIONS = 100_000, 60


def main() -> int:
    words = parser(__doc__)
    words.set_defaults(data=DATA.parent / "stsb")
    words.add_argument("--rows", type=int, default=ROWS, help="texts in the index")
    asked = words.parse_args()
    rows = 2_000 if asked.quick else asked.rows
    announce(f"Search over {rows:,} texts", asked.data.name)
    run(asked.data, rows)
    return 0


def run(data: Path, rows: int) -> None:
    """Measure and print."""
    import numpy as np

    from warmstart.metrics.retrieval import nearest

    with (data / "test.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    texts = [row[name] for row in read[:400] for name in ("sentence1", "sentence2")]
    questions = [row["sentence1"] for row in read[500 : 500 + QUESTIONS]]
    index = recombined(texts, rows)
    vectors, asked = index.vectors, index.vectors[:QUESTIONS]
    index.search(questions[0])
    found, _ = nearest(vectors, asked, 10)
    wanted = np.stack([sort(vectors, one) for one in asked])
    same = (found == wanted).all(1).mean()
    table(
        ["", "median ms", "slowest tenth ms"],
        [
            line("warmstart", index.search, questions),
            line("product alone", lambda one: nearest(vectors, one[None], 10), asked),
            line("full sort", lambda one: sort(vectors, one), asked),
        ],
    )
    print(f"\n{same:.0%} of the lists of ten are those of the full sort, in the same order.")


def recombined(texts: list[str], rows: int) -> Any:
    """An index of so many texts."""
    import numpy as np
    import pyarrow as pa

    import warmstart

    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        index = warmstart.retrieval.index("minilm", texts, out=Path(folder) / "index")
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(texts), (2, rows))
    vectors = index.vectors[one] + index.vectors[other]
    vectors += 0.05 * rng.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index.vectors = vectors.astype(np.float32)
    joined = [f"{texts[i]} {texts[j]}" for i, j in zip(one, other, strict=True)]
    index.texts = pa.table(
        {"text": joined, "file": ["recombined"] * rows, "line": list(range(1, rows + 1))}
    )
    return index


def sort(vectors: Any, question: Any) -> Any:
    """The ten nearest by sorting all."""
    import numpy as np

    return np.argsort(-(vectors @ question), kind="stable")[:10]


def line(name: str, search: Callable[[Any], Any], questions: Any) -> list[str]:
    """A row of the table."""
    import numpy as np

    times: list[float] = []
    for question in questions:
        begun = time.perf_counter()
        search(question)
        times.append(1e3 * (time.perf_counter() - begun))
    return [name, f"{np.median(times):.1f}", f"{np.quantile(times, 0.9):.1f}"]


if __name__ == "__main__":
    sys.exit(main())
