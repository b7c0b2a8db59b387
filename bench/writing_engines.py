"""Texts of SmolLM2 by the engines that write: the same as `transformers.generate`, and how fast.

    python bench/writing_engines.py
    python bench/writing_engines.py --model runs/mine/model --engines openvino_genai:int8

Each of 32 prompts is written greedily by `model.generate` of transformers, alone, and by each
engine, all at once. Tokens are counted by the processor's seconds, which other work on the machine
moves less than the clock. In float32 every text must be the same.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _common import parser
from _report import announce, table

ENGINES = "openvino_genai,openvino_genai:int8,ctranslate2,ctranslate2:int8"
BEGINNINGS = ("The capital of France is", "Once upon a time", "My favourite book is", "Water boils",
              "In the morning she", "The best way to learn", "Yesterday the weather",
              "A computer is a machine")  # fmt: skip
ENDS = ("", " and", ", because", " when nobody")
COUNTS = (1, 8, 32)


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--model", help="a folder of a decoder; unset: smollm2")
    words.add_argument("--engines", default=ENGINES, help="NAME or NAME:PRECISION, by commas")
    words.add_argument("--new-tokens", type=int, default=24, help="tokens to write for each prompt")
    asked = words.parse_args()
    new = 6 if asked.quick else asked.new_tokens
    announce(f"Engines that write {new} tokens", "a tiny model" if asked.quick else asked.model
             or "smollm2")  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        run(tiny(Path(place)) if asked.quick else asked.model, asked.engines.split(","), new)
    return 0


def run(model: str | None, engines: Sequence[str], new: int) -> None:
    """Measure and print. Ends the program where a text in float32 is another."""
    from warmstart import part
    from warmstart.inference.writer import open_writer
    from warmstart.models.sampling import Sampling

    torch = open_writer(model or "smollm2")
    prompts = [torch.encode(a + b, raw=True) for a in BEGINNINGS for b in ENDS]
    wanted, seconds = spent(lambda: theirs(torch, prompts, new))
    lines = [["transformers", "fp32", "1", f"{32 * new / seconds:,.1f}", ""]]
    wrong: list[str] = []
    for name in engines:
        kind, _, precision = name.partition(":")
        precision = precision or "fp32"
        ours = open_writer(model or "smollm2", part.make("engine", kind, {"precision": precision}))
        sampling = Sampling(temperature=0, max_new_tokens=new)
        for count in COUNTS:
            act = partial(ours.write, prompts[:count], sampling)
            texts, seconds = spent(act)
            same = sum(text.ids == ids for text, ids in zip(texts, wanted, strict=False)) / count
            written = sum(len(text.ids) for text in texts)
            lines.append([kind, precision, str(count), f"{written / seconds:,.1f}",
                          f"{100 * same:.0f} %"])  # fmt: skip
            if precision == "fp32" and same < 1:
                wrong.append(f"{kind} at {count} prompts")
        del ours
    table(["engine", "precision", "prompts", "tokens per CPU-second", "same texts"], lines)
    if wrong:
        raise SystemExit(f"not the same texts in float32: {', '.join(wrong)}")


def theirs(writer: Any, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
    """What transformers writes behind each prompt."""
    import torch

    model, rows = writer.predictor.runner.model, list[list[int]]()
    for prompt in prompts:
        ids = torch.tensor([[*prompt]])
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                 do_sample=False, max_new_tokens=new, pad_token_id=0)  # fmt: skip
        rows.append(written[0, len(prompt) :].tolist())
    return rows


def spent(act: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the processor's seconds that it takes, those of its threads counted."""
    begin = time.process_time()
    return act(), time.process_time() - begin


def tiny(folder: Path) -> str:
    """A random decoder with a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>", model_max_length=256
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=64, max_position_embeddings=256, eos_token_id=0,
        bos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
