"""Texts written by SmolLM2: tokens a second at 1, 8 and 32 prompts, against transformers.

    python bench/generation.py
    python bench/generation.py --model runs/mine/model --new-tokens 128

The prompts have 8 to 64 tokens; both write greedily for `--new-tokens` and may not end before, in
turns (A B A B ...), and the median counts. In float32 both must write the same tokens.

warmstart       `models.sampling.generate`
transformers    `model.generate` of the same model in memory, padded on the left
limit           what the memory allows at one prompt: bytes read a second, as a matrix-vector
                product over 512 MB reads them, by the bytes of the weights, which a token reads
                once
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from _common import parser
from _report import announce, table

PROMPTS, ROUNDS = (1, 8, 32), 5
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
        "num_key_value_heads": 2, "intermediate_size": 128}  # fmt: skip


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--model", help="a folder of a decoder; unset: smollm2")
    words.add_argument("--new-tokens", type=int, default=64, help="tokens to write for each prompt")
    words.add_argument("--rounds", type=int, default=ROUNDS, help="times that each is measured")
    asked = words.parse_args()
    new, rounds = (8, 2) if asked.quick else (asked.new_tokens, asked.rounds)
    announce(
        f"Generation of {new} tokens", "a tiny model" if asked.quick else asked.model or "smollm2"
    )
    run(asked.model, new, rounds, tiny=asked.quick)
    return 0


def run(name: str | None, new: int, rounds: int, *, tiny: bool) -> None:
    """Measure and print."""
    import torch

    lines: list[list[str]] = []
    for dtype in (torch.float32, torch.bfloat16):
        model = load(name, tiny=tiny).to(dtype)
        size = sum(weights.numel() * weights.element_size() for weights in model.parameters())
        limit = bandwidth(dtype, 1 << (22 if tiny else 29)) / size
        for count in PROMPTS:
            ours, theirs, same = measure(model, prompts_of(count, model), new, rounds)
            share = f"{100 * ours / limit:.0f} %" if count == 1 else ""
            lines.append(
                [str(dtype).removeprefix("torch."), str(count), f"{ours:,.1f}", f"{theirs:,.1f}",
                 f"{ours / theirs:.2f}", share, f"{100 * same:.0f} %"]
            )  # fmt: skip
            if dtype == torch.float32 and same < 1:
                raise SystemExit(f"{count} prompts: not the same tokens in float32")
    table(["type", "prompts", "warmstart tokens/s", "transformers", "times", "of the limit",
           "same tokens"], lines)  # fmt: skip


def load(name: str | None, *, tiny: bool) -> Any:
    """The model, which never ends a text."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from warmstart.models.base import resolve
    from warmstart.models.saved import saved_model

    if tiny:
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**TINY)).eval()
    else:
        model = saved_model(Path(name) if name else resolve("smollm2").path)
    model.requires_grad_(False)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    return model


def prompts_of(count: int, model: Any) -> list[list[int]]:
    """Ids of prompts of 8 to 64 tokens; one prompt has 32."""
    import numpy as np

    rng = np.random.default_rng(0)
    lengths = [32] if count == 1 else np.linspace(8, 64, count).round().astype(int).tolist()
    return [rng.integers(3, model.config.vocab_size, length).tolist() for length in lengths]


def measure(
    model: Any, prompts: list[list[int]], new: int, rounds: int
) -> tuple[float, float, float]:
    """Tokens a second of both, and the share of prompts behind which both wrote the same."""
    import torch

    from warmstart.models.sampling import Sampling, generate

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    sampling = Sampling(temperature=0, max_new_tokens=new)

    def ours() -> list[list[int]]:
        return [row.ids for row in generate(model, prompts, sampling)]

    def theirs() -> list[list[int]]:
        written = model.generate(input_ids=ids, attention_mask=mask, do_sample=False,
                                 max_new_tokens=new, pad_token_id=0)  # fmt: skip
        return written[:, longest:].tolist()

    pairs = zip(ours(), theirs(), strict=True)  # the first of each is not measured
    same = sum(a == b for a, b in pairs) / len(prompts)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for write, times in zip((ours, theirs), seconds, strict=True):
            times.append(timed(write))
    tokens = len(prompts) * new
    return tokens / median(seconds[0]), tokens / median(seconds[1]), same


def bandwidth(dtype: Any, size: int) -> float:
    """Bytes of weights that a matrix-vector product reads in a second."""
    import torch

    width = 1024
    weights = torch.randn(size // (width * dtype.itemsize), width).to(dtype)
    vector = torch.randn(1, width).to(dtype)
    times = [timed(lambda: torch.nn.functional.linear(vector, weights)) for _ in range(8)]
    return weights.numel() * weights.element_size() / min(times)


def timed(act: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
