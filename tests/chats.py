"""A tiny random model that chats: single bytes under SmolLM2's own template."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tiny import LLAMA_LIKE, tiny_tokenizer

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Well, this."},
]  # fmt: skip
TOKEN = re.compile(r"<[|｜][^|｜<>]+[|｜]>|<start_of_turn>|<end_of_turn>|<turn\|>|<\|turn>")


def bytes_with(template: str = "", *special: str) -> Any:
    """A tokenizer of single bytes that has these tokens, and those that a template writes."""
    tokenizer = tiny_tokenizer("qwen2")
    own = sorted({*special, *TOKEN.findall(template), "<s>", "</s>"})
    tokenizer.add_special_tokens(
        {"additional_special_tokens": own, "bos_token": "<s>", "eos_token": "</s>"}
    )
    tokenizer.chat_template = template or None
    return tokenizer


def smollm2_like() -> Any:
    """Bytes under SmolLM2's own template, with its special tokens: padding is the end."""
    tokenizer = bytes_with(SMOLLM2)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                                  "pad_token": "<|im_end|>"})  # fmt: skip
    return tokenizer


def talker(folder: Path, tokenizer: Any = None, family: str = "llama", **settings: Any) -> Path:
    """Save a random decoder with a tokenizer, SmolLM2's in small unless another is given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from warmstart.models.hf_calls import quiet

    tokenizer = smollm2_like() if tokenizer is None else tokenizer
    config = AutoConfig.for_model(family, **{
        **LLAMA_LIKE, "max_position_embeddings": 768, "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, **settings,
    })  # fmt: skip
    tokenizer.model_max_length = 768
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def talks(count: int = 40) -> list[dict[str, Any]]:
    """Short conversations that can be learned: a colour is named, its first letter is wanted."""
    words = ("red", "green", "blue", "pink", "grey", "teal", "mint", "ruby")
    return [
        {"messages": [
            {"role": "user", "content": f"{words[n % 8]} {n}"},
            {"role": "assistant", "content": words[n % 8][0].upper()},
        ]}
        for n in range(count)
    ]  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
