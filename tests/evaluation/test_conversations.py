"""What `inspect` says of conversations, and tokens of a template that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warmstart
from chats import TALK, smollm2_like, talker, talks, write_rows
from warmstart.evaluation.inspection.conversations import untrained
from warmstart.tokenization.chat import ChatTemplate


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talker(tmp_path_factory.mktemp("talker") / "base")


def test_turns_roles_and_what_is_out_of_order(base: Path, tmp_path: Path) -> None:
    user, answer = TALK[:2]
    odd = [[user, user, answer], [user, answer, user], [answer, user, answer],
           [user, {**answer, "content": ""}]]  # fmt: skip
    rows = [*talks(40), *({"messages": messages} for messages in odd)]
    rows.append({"messages": [user, {"role": "assistant", "content": "y" * 900}]})
    found = warmstart.inspect(
        write_rows(tmp_path / "chat.jsonl", rows), base=str(base), out=tmp_path / "out"
    )
    assert found.lines["read for"].startswith("chat")
    assert found.lines["turns"].startswith("93 in 45 conversations, 2 each: ")
    assert "tokens a conversation" in found.lines["template"]
    words = " ".join(finding["message"] for finding in found.findings)
    for said in ("two turns of the user", "no answer to the last turn", "no turn before the first",
                 "an answer that says nothing", "more than 768 tokens"):  # fmt: skip
        assert said in words, said
    assert "Error" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("how", ["zeros", "mean", "reserved"])
def test_tokens_that_were_never_trained_are_named(tmp_path: Path, how: str) -> None:
    """LlamaFactory#5834: a base whose end of a turn is a row that no text ever moved."""
    from safetensors.numpy import load_file, save_file

    tokenizer: Any = smollm2_like()
    tokenizer.add_special_tokens({"additional_special_tokens": [
        *(f"<|reserved_{n}|>" for n in range(6)), "<|im_start|>", "<|im_end|>"]})  # fmt: skip
    folder = talker(tmp_path / "base", tokenizer)
    template = ChatTemplate.of(tokenizer)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.embed_tokens.weight"
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 1, tensors[name].shape).astype(np.float32)  # as if it were trained
    reserved = [i for i, t in tokenizer.added_tokens_decoder.items() if "reserved" in t.content]
    matrix[reserved] = rng.normal(0, 0.02, (len(reserved), matrix.shape[1]))
    save_file({**tensors, name: matrix}, path, {"format": "pt"})
    assert untrained(template, folder) == {}
    end = template.end
    mean = np.delete(matrix, end, 0).mean(0)  # as a token that is added begins
    matrix[end] = {"zeros": 0, "mean": mean, "reserved": matrix[reserved[0]]}[how]
    save_file({**tensors, name: matrix}, path, {"format": "pt"})
    known = untrained(template, folder)
    assert list(known) == ["<|im_end|>"]
    assert {"zeros": "zeros", "mean": "mean", "reserved": "reserved"}[how] in known["<|im_end|>"]
