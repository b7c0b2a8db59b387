"""Duplicates among short texts: warmstart against datasketch, from texts to pairs.

    python bench/duplicates.py                                # 10^4, 10^5 and 10^6 rows
    python bench/duplicates.py --rows 10000 --peer-rows 10000 --workers warmstart,datasketch
    python bench/duplicates.py --peer-rows 1000000            # datasketch at full size: long

The rows are runs of four words of the data, two to six of them put together at random; of the last
15 % each is a copy of an earlier row: as it is, in capitals, without one word, or without its last
quarter, in equal parts. What counts is how many copies are found, and the time from a list of texts
in memory to the pairs; writing, reading and making the rows lie outside.

warmstart    `find_duplicates`: equal and normalised texts first, then MinHash of 100 values (20
             bands of 5), cut texts by sorting, and every candidate measured word by word; with
             glibc's malloc thresholds raised, as `tune` does when it starts
datasketch   its best known way: `MinHash.generator` over batches of bytes, with the same 100 values
             and its own choice of bands for a threshold of 0.8, queried and inserted
             text by text. It is given warmstart's normalised, distinct texts of eight words or
             more, and the same shingles (words and pairs of neighbours); its candidates are counted
             as they are, without measuring them
bands        the same with warmstart's 20 bands of 5, which find about as many copies

Each measurement has a process of its own.
"""

from __future__ import annotations

import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from _common import contestants, hand_back, parser, peak_mb, run_worker, splits_of
from _report import announce, close, column, spread, table

CONTESTANTS = ("warmstart", "datasketch", "bands")
SIBLINGS = ("tweet_emotion", "sms_spam", "banking77", "clinc150", "trec", "sst2")
KINDS = ("exact", "capitals", "one word less", "last quarter gone")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--rows", default="10000,100000,1000000", help="sizes, with commas")
    words.add_argument("--peer-rows", type=int, default=100_000, help="largest size of datasketch")
    words.add_argument("--repeats", type=int, default=1, help="rounds, each with its own rows")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, CONTESTANTS)
    sizes = [2_000] if asked.quick else [int(size) for size in asked.rows.split(",")]
    facts = announce("Duplicates", f"recombined from {asked.data.name} and the sets beside it")
    found: dict[str, dict[int, list[dict[str, Any]]]] = {name: {} for name in names}
    for number in range(asked.repeats):
        for size in sizes:
            for name in names:
                if name == "warmstart" or size <= asked.peer_rows:
                    measure(found[name], name, size, {"data": str(asked.data), "seed": number})
    show(found)
    close({**facts, "rounds": found}, asked.json)
    return 0


def measure(
    found: dict[int, list[dict[str, Any]]], name: str, size: int, keys: dict[str, Any]
) -> None:
    """One contestant once."""
    result = run_worker(__file__, name, {**keys, "rows": size})
    found.setdefault(size, []).append(result)
    line = f"{name}, {size} rows: {result['seconds']:.2f} s, {result['peak_mb']:.0f} MB"
    print(f"{line}, {result['pairs']} pairs, {result['recall']}", file=sys.stderr, flush=True)


def show(found: dict[str, dict[int, list[dict[str, Any]]]]) -> None:
    """Seconds and memory by size; what datasketch was not asked for is told from its last size."""
    rows: list[list[str]] = []
    quality: list[list[str]] = []
    for name, sizes in found.items():
        for size, results in sizes.items():
            times = column(results, "seconds")
            ours = found.get("warmstart", {}).get(size)
            ratio = "–" if not ours else f"{min(times) / min(column(ours, 'seconds')):.1f}×"
            rows.append([
                f"{name}, {size:,}", spread(times, 2), f"{1e6 * min(times) / size:.0f}", ratio,
                spread(column(results, "start_mb"), 0), spread(column(results, "peak_mb"), 0),
            ])  # fmt: skip
            shares = [f"{results[0]['recall'][kind]:.1%}" for kind in KINDS]
            quality.append([f"{name}, {size:,}", f"{results[0]['pairs']:,}", *shares])
    head = ["", "s", "µs a row", "time of warmstart", "RSS MB at the start", "peak RSS MB"]
    table(head, rows)
    table(["copies found", "pairs", *KINDS], quality)


def rows_of(data: Path, count: int, seed: int) -> tuple[list[str], list[tuple[int, int, str]]]:
    """The rows, and (copy, original, kind) of those copies that are long enough to be near."""
    folders = [data.parent / name for name in SIBLINGS if (data.parent / name).is_dir()]
    texts = [
        text
        for folder in folders or [data]
        for part in splits_of(folder)[0].values()
        for text, _ in part
    ]
    runs = [
        " ".join(words[i : i + 4])
        for words in map(str.split, texts)
        for i in range(0, len(words) - 2, 4)
    ]
    rnd = random.Random(seed)
    fresh = int(0.85 * count)
    rows = [" ".join(rnd.choices(runs, k=rnd.randint(2, 6))) for _ in range(fresh)]
    planted: list[tuple[int, int, str]] = []
    for copy in range(fresh, count):
        original = rnd.randrange(fresh)
        words, kind = rows[original].split(), rnd.choice(KINDS)
        if kind == "one word less":
            words.pop(rnd.randrange(len(words)))
        elif kind == "last quarter gone":
            words = words[: -(len(words) // 4)] or words
        text = " ".join(words)
        rows.append(text.upper() + " !" if kind == "capitals" else text)
        if len(words) >= (16 if kind == KINDS[3] else 12):
            planted.append((copy, original, kind))
    return rows, planted


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    rows, planted = rows_of(Path(request["data"]), request["rows"], request["seed"])
    job = _warmstart if name == "warmstart" else _datasketch
    facts = job(rows, planted, name)
    hand_back(request, **facts)
    return 0


def _warmstart(rows: list[str], planted: list[tuple[int, int, str]], name: str) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa
    import scipy.sparse.csgraph  # noqa: F401

    from warmstart.data.dedup.clusters import find_duplicates
    from warmstart.training.memory import keep_freed_memory

    keep_freed_memory()
    start = peak_mb()
    begun = time.perf_counter()
    table = pa.table(
        {
            "text": pa.array(rows, pa.string()),
            "_file": pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), ["rows"]),
            "_line": np.arange(len(rows)),
        }
    )
    found = find_duplicates({"train": table}, ["text"], None)
    seconds, peak = time.perf_counter() - begun, peak_mb()
    groups = found.groups["train"].tolist()
    hits = [groups[copy] == groups[original] for copy, original, _ in planted]
    return _facts(seconds, start, peak, len(found.pairs), planted, hits)


def _datasketch(rows: list[str], planted: list[tuple[int, int, str]], name: str) -> dict[str, Any]:
    from datasketch import MinHash, MinHashLSH

    from warmstart.data.dedup.clusters import LEAST_WORDS, SIMILARITY
    from warmstart.data.dedup.exact import all_normalised
    from warmstart.data.dedup.minhash import BANDS, ROWS

    perms = ROWS * BANDS
    keys: dict[str, Any] = {"params": (BANDS, ROWS)} if name == "bands" else {}
    start = peak_mb()
    begun = time.perf_counter()
    normal = all_normalised(rows)
    distinct = list(dict.fromkeys(normal))
    index = MinHashLSH(threshold=SIMILARITY, num_perm=perms, **keys)
    pairs: set[tuple[int, int]] = set()
    with_enough = [i for i, text in enumerate(distinct) if text.count(" ") >= LEAST_WORDS - 1]
    sketches = MinHash.generator((_shingles(distinct[i]) for i in with_enough), num_perm=perms)
    for number, sketch in zip(with_enough, sketches, strict=True):
        pairs.update((other, number) for other in index.query(sketch))
        index.insert(number, sketch, check_duplication=False)
    seconds, peak = time.perf_counter() - begun, peak_mb()
    number_of = {text: i for i, text in enumerate(distinct)}
    numbers = [number_of[text] for text in normal]
    hits = []
    for copy, original, _ in planted:
        a, b = sorted((numbers[copy], numbers[original]))
        hits.append(a == b or (a, b) in pairs)
    count = len(pairs) + len(rows) - len(distinct)
    return _facts(seconds, start, peak, count, planted, hits)


def _shingles(text: str) -> list[bytes]:
    """Words and pairs of neighbours."""
    words = text.encode().split()
    return words + [one + b" " + other for one, other in pairwise(words)]


def _facts(
    seconds: float,
    start: float,
    peak: float,
    pairs: int,
    planted: list[tuple[int, int, str]],
    hits: list[bool],
) -> dict[str, Any]:
    recall: dict[str, float] = {}
    for kind in KINDS:
        own = [hit for hit, (_, _, of) in zip(hits, planted, strict=True) if of == kind]
        recall[kind] = sum(own) / max(len(own), 1)
    return {
        "seconds": seconds,
        "start_mb": start,
        "peak_mb": peak,
        "pairs": pairs,
        "recall": recall,
    }


if __name__ == "__main__":
    sys.exit(main())
