"""A decoder goes on with the texts of a domain: what it gains there, and what it loses elsewhere.

    python bench/replay.py                               # an epoch, full and LoRA, with 10 % replay
    python bench/replay.py PEPS WIKITEXT --steps 8 --held 6000

PEPS is a folder with train.jsonl and validation.jsonl (column text), WIKITEXT one with
validation.txt, which is replayed, and test.txt, of which nothing is read in training. Bits per byte
of both are measured before and after, on the beginnings of the held-out texts, in equal windows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import warmstart
from _common import DATA
from ngram import PROSE

RATES = {"full": 1e-4, "lora": 1e-3}
WINDOW = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", type=Path, nargs="?", default=DATA.parent / "corpus" / "peps")
    parser.add_argument("general", type=Path, nargs="?", default=PROSE.parent / "wikitext2")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--methods", default="full,lora")
    parser.add_argument("--replay", default="0,0.1", help="shares of the windows of a step")
    parser.add_argument("--tokens", type=int, default=2_048, help="of a step")
    parser.add_argument("--steps", type=int, help="instead of an epoch")
    parser.add_argument(
        "--held", type=int, default=12_000, help="characters of a held-out document"
    )
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as name:
        folder = Path(name)
        held = held_out(words, folder)
        before = asked(words.base, held)
        print("| method | replay | steps | tokens | domain, bits a byte | change | general | "
              "change | CPU s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
        print(
            f"| the base | | | | {before['domain']:.4f} | | {before['general']:.4f} | | |",
            flush=True,
        )
        for method in words.methods.split(","):
            for share in map(float, words.replay.split(",")):
                used = time.process_time()
                run = adapted(words, folder, method, share)
                after = asked(str(run.path), held)
                change = {key: f"{100 * (after[key] / before[key] - 1):+.1f} %" for key in before}
                steps = run.facts["history"][-1]["step"]
                print(f"| {method} | {share:g} | {steps} | {steps * words.tokens:,} | "
                      f"{after['domain']:.4f} | {change['domain']} | {after['general']:.4f} | "
                      f"{change['general']} | {time.process_time() - used:.0f} |",
                      flush=True)  # fmt: skip


def held_out(words: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The beginnings of the domain's held-out documents, and as much of the general text."""
    rows = [json.loads(line) for line in (words.domain / "validation.jsonl").open(encoding="utf-8")]
    texts = [row["text"][: words.held] for row in rows]
    general = (words.general / "test.txt").read_text(encoding="utf-8")[: sum(map(len, texts))]
    files = {"domain": folder / "domain.jsonl", "general": folder / "general.txt"}
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    files["domain"].write_text(lines, encoding="utf-8")
    files["general"].write_text(general, encoding="utf-8")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "train.jsonl").symlink_to((words.domain / "train.jsonl").resolve())
    for split in ("validation", "test"):  # what a run itself measures: little
        lines = "".join(json.dumps({"text": text[:500]}) + "\n" for text in texts)
        (folder / "corpus" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return files


def asked(model: str, held: dict[str, Path]) -> dict[str, float]:
    """Bits per byte of each held-out text."""
    keys: dict[str, Any] = {"task": "language_model", "task.max_length": WINDOW,
                            "evaluate.bootstrap": 100}  # fmt: skip
    return {
        name: warmstart.evaluate(model, path, **keys)["bits_per_byte"]["value"]
        for name, path in held.items()
    }


def adapted(words: argparse.Namespace, folder: Path, method: str, share: float) -> Any:
    """A run over the domain's texts."""
    keys: dict[str, Any] = {
        "task.max_length": WINDOW, "train.batch_tokens": words.tokens,
        "train.learning_rate": RATES[method], "evaluate.forgetting": False,
        "evaluate.bootstrap": 100, "data.columns.text": "text",
    }  # fmt: skip
    keys |= {"train.max_steps": words.steps} if words.steps else {"train.epochs": 1}
    if share:
        keys["forgetting.text"] = str(words.general / "validation.txt")
        keys["forgetting.rehearsal"] = share
    return warmstart.pretrain(
        folder / "corpus",
        base=words.base,
        method=method,
        out=folder / f"{method}-{share:g}",
        **keys,
    )


if __name__ == "__main__":
    main()
