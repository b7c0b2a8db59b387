"""Answers in a passage by the tuned `transformers.Trainer` and by `warmstart.tune`, measured alike.

The Trainer's windows, targets and the reading of the logits follow the question-answering example
of transformers: `truncation="only_second"` with a stride, windows without the answer point to the
class token, the best of the 20 x 20 likeliest starts and ends.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _common import base_model
from _tagging import Counted, Rows, read
from _tagging import said as told
from _trainer import trained

STRIDE, BEST, LONGEST = 128, 20, 64


def tuned(request: dict[str, Any]) -> dict[str, Any]:
    """Train with the Trainer and save."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer, set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    splits = read(request)
    set_seed(request["seed"])
    tokenizer = AutoTokenizer.from_pretrained(base_model())
    model = AutoModelForQuestionAnswering.from_pretrained(base_model(), attn_implementation="sdpa")
    encoded = encode(tokenizer, splits["train"], request["max_length"])
    folder, seconds = trained(model, tokenizer, encoded, collate, request)
    tokens = sum(len(row["input_ids"]) for row in encoded) * request["epochs"]
    return said(folder, splits["test"], tokens, seconds, request)


def warmstart(request: dict[str, Any]) -> dict[str, Any]:
    """Tune with the whole run folder: evaluation, report, proof, card."""
    import warmstart as ours
    from _tagging import write
    from _warmstart import Clock as Watch
    from _warmstart import as_the_trainer

    splits = read(request)
    watch: Any = Counted(Watch())
    keys = {**as_the_trainer(request), "task.stride": STRIDE}
    with watch.clock:
        run = ours.tune(
            write(request, splits), task="extractive_qa", method="full", listeners=[watch], **keys
        )
    return said(Path(run.model), splits["test"], watch.tokens, watch.clock.seconds, request)


def said(
    folder: Path, test: Rows, tokens: int, seconds: float, request: dict[str, Any]
) -> dict[str, Any]:
    """What is handed back of one measurement."""
    return told(folder, test, tokens, seconds, request, plain_score)


def encode(tokenizer: Any, rows: Rows, longest: int) -> Rows:
    """Windows without padding; the first and the last token of the answer."""
    found: Rows = []
    for number, row in enumerate(rows):
        windows = tokenizer(
            row["question"], row["context"], truncation="only_second", max_length=longest,
            stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        start, end = row["answer_start"], row["answer_start"] + len(row["answer_text"])
        for i, ids in enumerate(windows["input_ids"]):
            spans: list[Any] = [
                span if part == 1 else None
                for span, part in zip(
                    windows["offset_mapping"][i], windows.sequence_ids(i), strict=True
                )
            ]
            covering = [
                k for k, span in enumerate(spans) if span and span[0] < end > start < span[1]
            ]
            whole = covering and spans[covering[0]][0] <= start and spans[covering[-1]][1] >= end
            found.append(
                {
                    "input_ids": ids,
                    "token_type_ids": windows["token_type_ids"][i],
                    "start_positions": covering[0] if whole else 0,
                    "end_positions": covering[-1] if whole else 0,
                    "spans": spans,
                    "row": number,
                }
            )
    return found


def collate(rows: Rows, pad: int) -> dict[str, Tensor]:
    """Pad to the longest row of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, fill: int) -> Tensor:
        return torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])

    mask = torch.tensor([[len(row["input_ids"])] for row in rows]) > torch.arange(longest)
    return {
        "input_ids": padded("input_ids", pad),
        "token_type_ids": padded("token_type_ids", 0),
        "attention_mask": mask.long(),
        "start_positions": torch.tensor([row["start_positions"] for row in rows]),
        "end_positions": torch.tensor([row["end_positions"] for row in rows]),
    }


@torch.no_grad()
def plain_score(folder: Path, test: Rows, longest: int) -> float:
    """Mean F1 of the saved folder's answers, as SQuAD's script counts it."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    from warmstart.metrics.squad import Answers

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    rows = encode(tokenizer, test, longest)
    best: list[tuple[float, str]] = [(float("-inf"), "")] * len(test)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    for at in range(0, len(order), 32):
        some = [rows[i] for i in order[at : at + 32]]
        batch = collate(some, tokenizer.pad_token_id)
        answers = model(**{k: v for k, v in batch.items() if not k.endswith("positions")})
        for row, starts, ends in zip(some, answers.start_logits, answers.end_logits, strict=True):
            context = test[row["row"]]["context"]
            best[row["row"]] = max(best[row["row"]], answer(row["spans"], starts, ends, context))
    golds = [[row["answer_text"]] for row in test]
    return Answers(version=1)([text for _, text in best], golds)["f1"]


def answer(spans: list[Any], starts: Tensor, ends: Tensor, context: str) -> tuple[float, str]:
    """The best span of one window and its score."""
    likely = [logits.topk(min(BEST, len(spans))).indices.tolist() for logits in (starts, ends)]
    found = [
        (float(starts[i] + ends[j]), context[spans[i][0] : spans[j][1]])
        for i, j in product(*likely)
        if i <= j < min(i + LONGEST, len(spans)) and spans[i] and spans[j]
    ]
    return max(found, default=(float("-inf"), ""))
