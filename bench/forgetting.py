"""What a small decoder forgets when it is tuned on a narrow domain, and what each remedy keeps.

    python bench/forgetting.py
    python bench/forgetting.py --seeds 1 --pretrain 60 --ways none,rehearsal

A GPT-2 of 3 layers and width 96 with 2,000 tokens of its own is pretrained on 15 English novels for
`--pretrain` seconds, then tuned (method full) to the emotions of 600 tweets. Three more novels are
the general text: perplexity of a token on held-out passages of them, before and after.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import DATA, parser, splits_of, write_rows

PROSE = DATA.parent / "corpus" / "prose" / "train"
GENERAL = 3  # novels that the base never sees
ROWS = {"train": 600, "validation": 100, "test": 600}
PLAIN = {"train.epochs": 4, "train.learning_rate": 5e-4, "train.keep": "last",
         "task.max_length": 96}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "rehearsal 0.1": {"forgetting.rehearsal": 0.1},
    "rehearsal 0.3": {"forgetting.rehearsal": 0.3},
    "l2_sp 0.01": {"forgetting.penalty": "l2_sp", "forgetting.strength": 0.01},
    "l2_sp 0.1": {"forgetting.penalty": "l2_sp", "forgetting.strength": 0.1},
    "ewc 0.01": {"forgetting.penalty": "ewc", "forgetting.strength": 0.01},
    "ewc 0.1": {"forgetting.penalty": "ewc", "forgetting.strength": 0.1},
    "layer_decay 0.5": {"method.layer_decay": 0.5},
    "lora": {"method": "lora", "train.learning_rate": 3e-3},
}


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--seeds", type=int, default=2)
    words.add_argument("--pretrain", type=float, default=150, help="seconds")
    words.add_argument("--ways", default=",".join(WAYS))
    words.add_argument("--base", type=Path, help="keep the pretrained base in this folder")
    asked = words.parse_args()
    novels = sorted(PROSE.glob("*.txt"))
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as name:
        folder = Path(name)
        base = asked.base or folder / "base"
        if not base.exists():
            pretrained(novels[:-GENERAL], folder, base, 5 if asked.quick else asked.pretrain)
        general = folder / "general"
        general.mkdir()
        for novel in novels[-GENERAL:]:
            (general / novel.name).symlink_to(novel)
        data = folder / "data"
        data.mkdir()
        for split, rows in splits_of(DATA)[0].items():
            write_rows(data / f"{split}.csv", rows[: 60 if asked.quick else ROWS[split]])
        print("| remedy | seed | perplexity before | after | change | verdict | macro-F1 | s |")
        print("|---|---:|---:|---:|---:|---|---:|---:|")
        for seed in range(asked.seeds):
            for way in asked.ways.split(","):
                one(way, seed, base, general, data, folder)
    return 0


def pretrained(novels: list[Path], folder: Path, base: Path, seconds: float) -> None:
    """A decoder of our own that has read novels for so many seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import warmstart
    from warmstart.models.from_config import new_base

    warmstart.tokenizer.train(novels, out=folder / "words", vocab_size=2000, family="gpt2")
    new_base("gpt2", folder / "words", base, hidden_size=96, layers=3, heads=3, positions=128)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    words: Any = AutoTokenizer.from_pretrained(base)
    ids = torch.cat([
        torch.tensor(words(novel.read_text(encoding="utf-8"), verbose=False)["input_ids"])
        for novel in novels
    ])  # fmt: skip
    moving = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    rng, begun, steps = torch.Generator().manual_seed(0), time.perf_counter(), 0
    model.train()
    loss = torch.zeros(())
    while (done := (time.perf_counter() - begun) / seconds) < 1:
        for group in moving.param_groups:
            group["lr"] = 3e-3 * min(1.0, (steps + 1) / 50) * (1 - done)
        starts = torch.randint(0, len(ids) - 65, (16,), generator=rng)
        batch = torch.stack([ids[start : start + 64] for start in starts.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        moving.step()
        moving.zero_grad()
        steps += 1
    last = float(loss.detach())
    print(f"base: {steps} steps of 1,024 tokens of {len(ids):,}, last loss {last:.3f}\n")
    model.save_pretrained(base)


def one(way: str, seed: int, base: Path, general: Path, data: Path, folder: Path) -> None:
    """One run, as a row of the table."""
    import warmstart

    keys = {
        "method": "full", **PLAIN, **WAYS[way], "base": str(base), "seed": seed,
        "forgetting.text": str(general), "evaluate.baselines": False,
        "out": str(folder / f"{way}-{seed}".replace(" ", "-")),
    }  # fmt: skip
    begun = time.perf_counter()
    run: Any = warmstart.tune(data, **keys)
    taken = time.perf_counter() - begun
    found = run.metrics["forgetting"]
    before, after = (found[when]["perplexity"]["value"] for when in ("before", "after"))
    gap = found["difference"]
    print(
        f"| {way} | {seed} | {before:.1f} | {after:.1f} | {gap['difference']:+.1f} "
        f"({gap['low']:+.1f} to {gap['high']:+.1f}) | {found['outcome']} "
        f"| {run.metrics['f1_macro']['value']:.3f} | {taken:.0f} |"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
