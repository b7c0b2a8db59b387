"""The proof: the saved folder, loaded afresh by other people's tools, answers the same.

Nothing of the trained model in memory is used: transformers (or PEFT) loads the folder, splits
the raw texts with the saved tokenizer and computes; the probabilities are compared with those of
the run's predictions. A head that was not saved, a tokenizer that differs or weights that were
lost on the way cannot pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.errors import ProofError, shown
from warmstart.formatting import counted
from warmstart.models.heads import CLASSES, TEXT, VECTOR, Head
from warmstart.models.sentence_folder import read_modules

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.generation import GenerationOutput
    from warmstart.tasks.base import Examples, Task


TOLERANCE = 1e-4
ROWS = 64


def prove(
    folder: Path, texts: Sequence[str], probabilities: np.ndarray, max_length: int, seed: int
) -> dict[str, Any]:
    """Compare and return the figures for `proof.json`.

    Args:
        folder: the saved model or adapter.
        texts: the test split's texts, n of them.
        probabilities: [n, K], as the run gave them.

    Raises `ProofError` when any probability differs by more than 1e-4.
    """
    begun = time.perf_counter()
    rows = chosen_rows(texts, seed)
    chosen = [str(texts[int(i)]) for i in rows]
    with loading(folder):
        answer, loader = _answers(folder, chosen, max_length)
    gap = np.abs(answer - probabilities[rows])
    same = int((answer.argmax(1) == probabilities[rows].argmax(1)).sum())
    figures = {
        "passed": bool(gap.max() <= TOLERANCE),
        "rows": len(rows),
        "same_label": same,
        "max_probability_difference": float(gap.max()),
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if not figures["passed"]:
        raise ProofError(
            f"the model saved in {folder} does not answer as the trained one: probabilities "
            f"differ by up to {gap.max():.4f} on {counted(len(rows), 'test row')}"
        )
    return figures


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes a `ProofError`."""
    try:
        yield
    except Exception as error:  # transformers, peft and safetensors raise all kinds
        raise ProofError(
            f"the model saved in {folder} cannot be loaded afresh: {shown(error, 160)}"
        ) from error


def chosen_rows(texts: Sequence[str], seed: int) -> np.ndarray:
    """Up to `ROWS` rows: the longest and the shortest text, the rest at random."""
    sizes = np.array([len(text) for text in texts])
    ends = {int(sizes.argmax()), int(sizes.argmin())}
    order = np.random.default_rng(seed).permutation(len(texts))
    rest = [int(i) for i in order if int(i) not in ends]
    return np.array(sorted([*ends, *rest[: ROWS - len(ends)]]))


def _answers(folder: Path, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, str]:
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.hf_calls import quiet
    from warmstart.models.peft.prompts import is_prompted

    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        classify: Any = transformers.pipeline(
            "text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None
        )
        # behind virtual tokens PEFT reads a batch's padding as text: one text at a time
        batch = 1 if is_prompted(model) else 8
        found = classify(list(texts), truncation=True, max_length=max_length, batch_size=batch)
    table = np.zeros((len(texts), config.num_labels))
    for row, scores in enumerate(found):
        for entry in scores:
            table[row, config.label2id[entry["label"]]] = entry["score"]
    return table, loader


def fresh_model(folder: Path, config: Any, head: Head = CLASSES) -> tuple[Any, str]:
    """The saved model, loaded by transformers or PEFT alone, and what loaded it."""
    import transformers

    from warmstart.models.architectures import family_of

    name = head.auto_for(family_of(config).kind)
    auto = getattr(transformers, name)
    version = f"transformers {transformers.__version__}"
    if not (folder / "adapter_config.json").exists():
        model = auto.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return model.eval(), f"{name}, {version}"
    return _adapted(folder, config, auto, version)


def _adapted(folder: Path, config: Any, auto: Any, version: str) -> tuple[Any, str]:
    """PEFT's model over the base that the adapter names; merged, where that can be."""
    import peft

    from warmstart.models.loading import base_bits, with_adapter
    from warmstart.models.peft.bottleneck import register
    from warmstart.models.peft.wrap import can_merge, merged

    register()
    adapter: Any = peft.PeftConfig.from_pretrained(str(folder))
    base = auto.from_pretrained(
        adapter.base_model_name_or_path, config=config, local_files_only=True, use_safetensors=True
    )
    adapted: Any = with_adapter(base, folder)
    loader = f"PeftModel, peft {peft.__version__}, {version}"
    if bits := base_bits(folder):
        return adapted.eval(), f"{loader}, base in {bits} bits"
    return (merged(adapted) if can_merge(adapted) else adapted).eval(), loader


# The proof of tasks that no pipeline answers: the outputs themselves, row by row.
#
# transformers (or PEFT) loads the saved folder, the task encodes the raw rows with the saved
# tokenizer, and the model's own forward pass answers them one at a time, without padding.


def prove_outputs(
    folder: Path, task: Task, examples: Examples, outputs: np.ndarray, seed: int
) -> dict[str, Any]:
    """See `prove_task`. Compared are probabilities, or values, each of which may differ by 1e-4
    of the largest."""
    begun = time.perf_counter()
    rows = chosen_rows(task.as_text(examples.table).to_pylist(), seed)
    wanted = answers_of(examples.store, rows, outputs)
    with loading(folder):
        found, loader = _model_afresh(folder, task, examples, rows)
    if len(found) != len(wanted):
        raise ProofError(
            f"the tokenizer saved in {folder} splits the texts in another way: {len(found)} and "
            f"{len(wanted)} outputs"
        )
    theirs, ours = task.head.probabilities(found), task.head.probabilities(wanted)
    return compared(folder, theirs, ours, len(rows), loader, begun)


def compared(
    folder: Path, theirs: np.ndarray, ours: np.ndarray, rows: int, loader: str, begun: float
) -> dict[str, Any]:
    """The figures of a proof: how far the saved folder's outputs are from the run's.

    `begun` is when it began (`time.perf_counter`). Raises `ProofError`.
    """
    gap = float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max())))
    if not gap <= TOLERANCE:  # not a number, either
        raise ProofError(
            f"the model saved in {folder} does not answer as the trained one: its outputs differ "
            f"by up to {gap:.4f} on {counted(rows, 'test row')}"
        )
    return {
        "passed": True,
        "rows": rows,
        "outputs": int(ours.size),
        "max_difference": gap,
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }


def answers_of(store: TokenizedDataset, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The outputs that belong to rows of the table, windows in order."""
    windows = np.arange(len(store))
    if store.of_row is not None:
        windows = np.flatnonzero(np.isin(store.of_row, rows))
    else:
        windows = windows[rows]
    if len(outputs) == len(store) and len(outputs) != len(store.ids):
        return outputs[windows]
    parts = [outputs[store.offsets[i] : store.offsets[i + 1]] for i in windows]
    return np.concatenate(parts)


def _model_afresh(
    folder: Path, task: Task, examples: Examples, rows: np.ndarray
) -> tuple[np.ndarray, str]:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.hf_calls import quiet
    from warmstart.models.loading import load_saved

    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        if getattr(task, "module", None):
            model, loader = load_saved(folder)[0], "AutoModel, with your own head"
        else:
            model, loader = fresh_model(folder, config, task.head)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    table = examples.table.take(rows)
    store = task.encode(table, examples.labels, tokenizer, task.max_length)
    parts: list[np.ndarray] = []
    with torch.no_grad():
        for i in range(len(store)):
            ids = torch.from_numpy(store.row(i).astype(np.int64))[None]
            named: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if store.types is not None:
                types = store.types[store.offsets[i] : store.offsets[i + 1]].astype(np.int64)
                named["token_type_ids"] = torch.from_numpy(types)[None]
            answer = model(**named)
            both = getattr(answer, "start_logits", None)
            logits = answer.logits if both is None else torch.stack([both, answer.end_logits], -1)
            behind = logits if logits.ndim == 2 else logits[:, -ids.shape[1] :]  # virtual tokens
            parts.append(behind.float().numpy())
    flat = [part[0] if part.ndim == 3 else part for part in parts]
    return np.concatenate(flat), loader


# The proof of tasks that write: the same loss and the same texts from the saved folder.
#
# transformers (or PEFT) loads the folder; the task encodes the raw rows with the saved tokenizer.
# Row by row, without padding, the model's own loss is computed and `generate` writes by the saved
# `generation_config.json` alone.

TEXT_ROWS = 16
OTHER_TEXTS = 1
"""Rows whose text may differ where the loss does not: beams that score alike to the last digit."""


def prove_text(
    folder: Path, task: Task, examples: Examples, outputs: GenerationOutput, seed: int
) -> dict[str, Any]:
    """See `prove_task`. The loss of a row may differ by 1e-4 nats a token."""
    begun = time.perf_counter()
    rows = chosen_rows(task.as_text(examples.table).to_pylist(), seed)[:TEXT_ROWS]
    ours = [outputs.ids[int(row)] or [] for row in rows]
    wanted = outputs.nll[rows] / np.maximum(outputs.tokens[rows], 1)
    with loading(folder):
        losses, written, tokenizer, loader = _text_model_afresh(folder, task, examples, rows)
    texts = [tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in (ours, written)]
    same = sum(a.strip() == b.strip() for a, b in zip(*texts, strict=True))
    gap = float(np.abs(losses - wanted).max())
    figures = {
        "passed": bool(gap <= TOLERANCE and same >= len(rows) - OTHER_TEXTS),
        "rows": len(rows),
        "same_text": same,
        "max_difference": gap,
        "tolerance": TOLERANCE,
        "loaded_with": loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if not figures["passed"]:
        raise ProofError(
            f"the model saved in {folder} does not write as the trained one: {same} of "
            f"{counted(len(rows), 'text')} the same, and losses differ by up to {gap:.4f} nats "
            "a token"
        )
    return figures


def _text_model_afresh(
    folder: Path, task: Task, examples: Examples, rows: np.ndarray
) -> tuple[np.ndarray, list[list[int]], Any, str]:
    """Loss a token and written ids of each row, the tokenizer, and what loaded the model."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    from warmstart.models.hf_calls import quiet

    with quiet(), torch.no_grad():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config, TEXT)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        table = examples.table.take(rows)
        store = task.encode(table, examples.labels, tokenizer, task.max_length)
        losses = [_loss(model, config, store, i) for i in range(len(store))]
        written: list[list[int]] = []
        for i in range(len(store)):
            ids = torch.from_numpy(store.row(i).astype(np.int64))[None]
            mask = torch.ones_like(ids)
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[
                0
            ].tolist()
            echoed = not config.is_encoder_decoder and found[: ids.shape[1]] == ids[0].tolist()
            written.append(found[ids.shape[1] :] if echoed else found)
    return np.array(losses), written, tokenizer, loader


def _loss(model: Any, config: Any, store: TokenizedDataset, row: int) -> float:
    """The model's own loss of one row: of the answer alone."""
    import torch

    answers = store.answers
    assert answers is not None
    ids = torch.from_numpy(store.row(row).astype(np.int64))[None]
    labels = torch.from_numpy(answers.row(row).astype(np.int64))[None]
    if not config.is_encoder_decoder:
        ids, labels = (
            torch.cat([ids, labels], 1),
            torch.cat([torch.full_like(ids, IGNORE_INDEX), labels], 1),
        )
    named = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return float(model(**named).loss)


# The proof of vectors: the saved folder in plain transformers, pooled as its files say.
#
# One text at a time, without padding; nothing of the trained model in memory is used.


def prove_vectors(
    folder: Path, task: Task, examples: Examples, outputs: np.ndarray, seed: int
) -> dict[str, Any]:
    """See `prove_task`; `outputs` are vectors [n, K, H]. An element may differ by 1e-4 of the
    largest."""
    begun = time.perf_counter()
    texts: list[str] = task.as_text(examples.table).to_pylist()
    rows = chosen_rows(texts, seed)
    wanted = outputs[rows, 0]
    with loading(folder):
        found, loader = _vector_model_afresh(folder, [texts[int(i)] for i in rows], task.max_length)
    return compared(folder, found, wanted, len(rows), loader, begun)


def _vector_model_afresh(folder: Path, texts: list[str], max_length: int) -> tuple[np.ndarray, str]:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from warmstart.models.hf_calls import quiet

    said = read_modules(folder)
    with quiet():
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, loader = fresh_model(folder, config, VECTOR)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found: list[np.ndarray] = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            hidden = model(
                input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]
            ).last_hidden_state[0].float()  # fmt: skip
            vector = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}
            found.append(vector[said["pooling"]].numpy())
    vectors = np.stack(found)
    if said["normalise"]:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors, f"{loader}, {said['pooling']} of the last hidden states"


# Which proof a task gets: a pipeline of transformers where there is one, else its outputs.


def prove_task(
    folder: Path, task: Task, examples: Examples, outputs: Any, seed: int
) -> dict[str, Any]:
    """The figures for `proof.json`: the saved folder, loaded afresh, answers as the run did.

    Args:
        examples: the test split.
        outputs: what the run's feed gave for it.

    Raises `ProofError`.
    """
    own = getattr(task, "module", None)
    if task.head.pipeline and task.inputs == ("text",) and not own:
        texts: list[str] = examples.table["text"].to_pylist()
        return prove(folder, texts, task.head.probabilities(outputs), task.max_length, seed)
    if task.head.gives_vectors:
        return prove_vectors(folder, task, examples, outputs, seed)
    if task.head.generates:
        return prove_text(folder, task, examples, outputs, seed)

    return prove_outputs(folder, task, examples, outputs, seed)
