"""Checks of conversations: who speaks and in which order, how long they are for the base, and
whether the base knows the tokens that its chat template writes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from warmstart.data.conversations import ASSISTANT, Message, read
from warmstart.errors import RecipeError, RowError, shown
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.formatting import counted
from warmstart.models.architectures import family_of
from warmstart.models.checks import read_json, weight_files
from warmstart.tokenization.chat import PROBE, ChatTemplate

SAMPLE = 1000  # conversations that are written by the template
RESERVED = ("reserved", "unused", "extra_token", "placeholder")
"""Words in the names of tokens that are there for later use."""
NEAR = 0.02  # of a norm
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
"""How the names of the tensors end that have a row for each token."""


def check_conversations(context: Context, result: CheckResult) -> None:
    """Roles, turns and their order; with a decoder as base, what its template makes of them."""
    talks = [read(text) for table in context.own.values() for text in table["messages"].to_pylist()]
    roles = Counter(message["role"] for talk in talks for message in talk)
    kinds = {"kind": list(roles), "train": list(roles.values())}
    result.tables["kinds"] = pa.table(kinds)
    each = statistics.median(map(len, talks)) if talks else 0
    by_role = ", ".join(f"{count:,} {role}" for role, count in roles.most_common())
    result.lines["turns"] = (
        f"{roles.total():,} in {counted(len(talks), 'conversation')}, {each:g} each: {by_role}"
    )
    _order(talks, result)
    if family_of(read_json(context.base.path / "config.json")).kind == "decoder":
        _template(context, result)
    else:
        result.lines["template"] = "not looked at; name the base, as in --base smollm2"


ORDER = {
    "two turns of the user without an answer between": lambda r, m: ("user", "user") in _pairs(r),
    "two answers of the assistant one after the other":
        lambda r, m: (ASSISTANT, ASSISTANT) in _pairs(r),
    "no answer to the last turn; tune leaves out what stands behind the last answer":
        lambda r, m: r[-1] in ("user", "tool"),
    "no turn before the first answer, which is not learned": lambda r, m: r[0] == ASSISTANT,
    "a system message that is not the first": lambda r, m: "system" in r[1:],
    "no answer at all; tune leaves them out": lambda r, m: ASSISTANT not in r,
    "what a tool gave without a call before": lambda r, m: any(
        role == "tool" and not (before.get("tool_calls") or before["role"] == "tool")
        for before, role in zip(m, r[1:], strict=False)),
    "an answer that says nothing": lambda r, m: any(
        x["role"] == ASSISTANT and not x["content"].strip() and "tool_calls" not in x for x in m),
}  # fmt: skip
"""What is odd in words → whether a conversation (its roles, its messages) is."""


def _pairs(roles: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(roles))


def _order(talks: Sequence[Sequence[Message]], result: CheckResult) -> None:
    """Turns that are out of order, empty or missing."""
    for words, odd in ORDER.items():
        rows = sum(odd([m["role"] for m in talk], talk) for talk in talks)
        if rows:
            result.add("odd_turns", NOTE, rows, f"{n_rows(rows)} {words}.", "look at them")


def _template(context: Context, result: CheckResult) -> None:
    """What the base's template writes, how long that is, and tokens that the base never saw."""
    try:
        template = ChatTemplate.of(context.tokenizer, context.template)
    except RecipeError as error:
        result.add("template", SEVERE, 0, f"{error}.", "take another: --task.template NAME")
        return
    tables = [table.select(["messages", "tools"]).to_pylist() for table in context.own.values()]
    rows = [row for table in tables for row in table]
    step = max(1, len(rows) // SAMPLE)
    sizes, learned, lost = list[int](), 0, Counter[str]()
    for row in rows[::step]:
        try:
            messages, tools = read(row["messages"]), read(row["tools"])
            taught = [template.conversation(talk, tools)
                      for talk in template.lessons(messages, tools)]  # fmt: skip
        except (RowError, RecipeError) as error:
            lost[str(error)] += 1
            continue
        sizes += [len(talk.ids) for talk in taught]
        learned += sum(int(talk.mask.sum()) for talk in taught)
    for reason, count in lost.most_common():
        rest = reason.rpartition("; ")[2] if "--" in reason else "mend these rows"
        what = reason.rpartition("; ")[0] if "--" in reason else reason
        result.add(
            "unwritten", SEVERE, count * step,
            f"{counted(count * step)} cannot be learned from: {what}.", rest,
        )  # fmt: skip
    if sizes:
        over = sum(size > context.max_length for size in sizes)
        middle, high = np.percentile(sizes, [50, 95])
        result.lines["template"] = (
            f"{template.name}; {middle:,.0f} tokens a conversation, 95 % have at most {high:,.0f}; "
            f"{learned / sum(sizes):.0%} of the tokens are learned"
        )
        if over:
            result.add(
                "long", WORTH if over > len(sizes) / 20 else NOTE, over * step,
                f"{n_rows(over * step)} more than {context.max_length:,} tokens; tune ends them "
                "with the last answer that fits.", "raise --task.max_length")  # fmt: skip
    for name, why in untrained(template, context.base.path).items():
        result.add(
            "untrained_token", SEVERE, 0,
            f"The template writes {shown(name, 40)}, and the base has never seen it: its embedding "
            f"{why}.", "take --task.template plain, or train the embeddings too (--method full)",
        )  # fmt: skip


def untrained(template: ChatTemplate, folder: Path) -> dict[str, str]:
    """The special tokens that a template writes whose embedding is one of rows that were never
    trained, and what shows it. Rows that are known to be so: those behind the vocabulary, and of
    tokens that are reserved; and rows of zeros, or the mean of all."""
    tokenizer, matrix = template.tokenizer, _embeddings(folder)
    if matrix is None:
        return {}
    norms = np.linalg.norm(matrix, axis=1)
    added = tokenizer.added_tokens_decoder
    known = [i for i, token in added.items() if any(w in token.content.lower() for w in RESERVED)]
    known = [i for i in (*known, *range(len(tokenizer), len(norms))) if i < len(norms)]
    ordinary = np.delete(norms, [i for i in {*added, *known} if i < len(norms)])
    low, high = (norms[known].min(), norms[known].max()) if known else (np.inf, -np.inf)
    apart = bool(known) and not (
        np.percentile(ordinary, 1) < high * (1 + NEAR)
        and np.percentile(ordinary, 99) > low * (1 - NEAR)
    )
    whole = matrix.sum(0, dtype=np.float64)
    written: dict[str, str] = {}
    for token in sorted({i for i in template.render(PROBE) if i in added and i < len(norms)}):
        norm, mean = float(norms[token]), (whole - matrix[token]) / (len(matrix) - 1)
        if norm < 1e-6:
            why = "is all zeros"
        elif np.linalg.norm(matrix[token] - mean) < 1e-3 * max(float(np.linalg.norm(mean)), 1e-6):
            why = "is the mean of all"
        elif apart and low * (1 - NEAR) <= norm <= high * (1 + NEAR):
            why = f"is as long ({norm:.3g}) as those of tokens that are reserved or unused"
        else:
            continue
        written[added[token].content] = why
    return written


def _embeddings(folder: Path) -> np.ndarray | None:
    """The embedding of each token, float32 [V, H]; None where no tensor is called so."""
    from safetensors import safe_open

    for path in weight_files(folder):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                if name.endswith(EMBEDDINGS):
                    return tensors.get_tensor(name).float().numpy()
    return None
