"""The proof: the saved folder, loaded afresh by other people's tools, answers the same.

Nothing of the trained model in memory is used: transformers (or PEFT) loads the folder, the raw
rows are split by the saved tokenizer, and the model's own forward pass answers them one at a time,
without padding. Outputs are compared as what the head makes of them: probabilities, values or
vectors; a model that writes has to write the same texts by its `generation_config.json`. A head
that was not saved, a tokenizer that differs or weights that were lost on the way cannot pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import ProofError, shown
from warmstart.formatting import counted
from warmstart.models.adapters.files import base_of, read
from warmstart.models.architectures import family_of
from warmstart.models.checks import config_file, is_adapter
from warmstart.models.forward import Forward
from warmstart.models.heads import Head
from warmstart.models.hf_calls import quiet
from warmstart.models.saved import base_bits, load_saved, with_adapter
from warmstart.models.saving import read_modules
from warmstart.objectives.language import objective_of
from warmstart.tasks.base import Examples, Task
from warmstart.training.datasets import EVALUATION, LanguageRows
from warmstart.training.pairs import pairs_for

TOLERANCE = 1e-4
"""Of the largest output, or of 1 where that is less; of a loss in nats a token."""
ROWS, GENERATED_ROWS, PAIRS = 64, 16, 16
OTHER_TEXTS = 1
"""Rows whose text may differ where the loss does not: beams that score alike to the last digit."""


def prove_task(
    folder: Path, task: Task, examples: Examples, outputs: Any, seed: int
) -> dict[str, Any]:
    """The figures for `proof.json`: the saved folder, loaded afresh, answers as the run did.

    Args:
        examples: the test split.
        outputs: what the run's model gave for it.

    Raises `ProofError`.
    """
    begun = time.perf_counter()
    if task.head.predicts_itself:
        figures = _prove_windows(folder, task, examples, outputs)
        return {"passed": True, **figures, "tolerance": TOLERANCE,
                "seconds": round(time.perf_counter() - begun, 2)}  # fmt: skip
    texts: list[str] = task.as_text(examples.table).to_pylist()
    if task.head.generates:  # the first rows, where not all were answered
        texts = texts[: sum(ids is not None for ids in outputs.ids)] or texts[:1]
    rows = choose_rows(texts, seed)
    rows = rows[:GENERATED_ROWS] if task.head.generates else rows
    prove = _prove_texts if task.head.generates else _prove_outputs
    with _one_error(folder):
        saved = _Saved(folder, task)
    figures = {**prove(saved, task, examples, outputs, rows), **task.prove(folder, examples)}
    return {
        "passed": True,
        "rows": len(rows),
        **figures,
        "tolerance": TOLERANCE,
        "loaded_with": saved.loader,
        "seconds": round(time.perf_counter() - begun, 2),
    }


def choose_rows(texts: Sequence[str], seed: int) -> np.ndarray:
    """Up to `ROWS` rows: the longest and the shortest text, the rest at random."""
    sizes = np.array([len(text) for text in texts])
    ends = {int(sizes.argmax()), int(sizes.argmin())}
    order = np.random.default_rng(seed).permutation(len(texts))
    rest = [int(i) for i in order if int(i) not in ends]
    return np.array(sorted([*ends, *rest[: ROWS - len(ends)]]))


def _prove_outputs(
    saved: _Saved, task: Task, examples: Examples, outputs: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    """Compare probabilities, values or vectors."""
    head, folder = task.head, saved.folder
    with _one_error(folder):
        theirs = saved.outputs(task, examples, rows)
    several = outputs.ndim == 3  # texts a row, of which the first is compared
    ours = outputs[rows, 0] if several else _of_rows(examples.store, rows, outputs)
    if len(theirs) != len(ours):
        raise ProofError(
            f"the tokenizer saved in {folder} splits the texts in another way: {len(theirs)} and "
            f"{len(ours)} outputs"
        )
    theirs, ours = head.probabilities(theirs), head.probabilities(ours)
    gap = float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max())))
    classified = bool(head.pipeline) and saved.reads_texts and not saved.own_head
    if not gap <= TOLERANCE:  # not a number, either
        differ = "probabilities differ" if classified else "its outputs differ"
        raise ProofError(
            f"the model saved in {folder} does not answer as the trained one: {differ} by up to "
            f"{gap:.4f} on {counted(len(rows), 'test row')}"
        )
    if classified:
        same = int((theirs.argmax(1) == ours.argmax(1)).sum())
        return {"same_label": same, "max_probability_difference": gap}
    return {"outputs": int(ours.size), "max_difference": gap}


def _prove_texts(
    saved: _Saved, task: Task, examples: Examples, outputs: Any, rows: np.ndarray
) -> dict[str, Any]:
    """Compare the loss of the answers that are wanted, where the rows say them, and the texts that
    the model writes."""
    with _one_error(saved.folder):
        dataset = task.encode(
            examples.table.take(rows), examples.labels, saved.tokenizer, task.max_length
        )
        known = dataset.answers is not None
        losses = np.array([saved.loss(dataset, i) for i in range(len(dataset) if known else 0)])
        written = [saved.generate(dataset, i) for i in range(len(dataset))]
    ours = [outputs.ids[int(row)] or [] for row in rows]
    decode = saved.tokenizer.batch_decode
    texts = [decode(ids, skip_special_tokens=True) for ids in (ours, written)]
    same = sum(a.strip() == b.strip() for a, b in zip(*texts, strict=True))
    wanted = outputs.nll[rows] / np.maximum(outputs.tokens[rows], 1)
    gap = float(np.abs(losses - wanted[: len(losses)]).max(initial=0.0))
    if not (gap <= TOLERANCE and same >= len(rows) - OTHER_TEXTS):
        raise ProofError(
            f"the model saved in {saved.folder} does not write as the trained one: {same} of "
            f"{counted(len(rows), 'text')} the same, and losses differ by up to {gap:.4f} nats "
            "a token"
        )
    return {"same_text": same, "max_difference": gap}


def _prove_windows(folder: Path, task: Task, examples: Examples, outputs: Any) -> dict[str, Any]:
    """Compare the loss of some windows of documents, hidden and cut as the objective does it."""
    import transformers

    with _one_error(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = load_saved(folder)[0]
        kind = family_of(model.config).kind
        objective = objective_of(task, kind, model, tokenizer)
        objective.attach(model, folder.parent)
        store = task.encode(examples.table, examples.labels, tokenizer, task.max_length)
        pad, forward, chosen = int(tokenizer.pad_token_id), Forward(model), np.arange(len(store))
        if store.answers is not None:  # transformers computes all logits of each answer by itself
            chosen = np.unique(np.linspace(0, len(store) - 1, PAIRS).round().astype(int))
        few = store if len(chosen) == len(store) else store.taken(chosen)
        rows: Any = pairs_for(task.head, few, forward, pad, objective)
        rows = rows or LanguageRows(store, pad, forward.device, objective)
    if len(store.ids) != len(examples.store.ids) or (store.ids != examples.store.ids).any():
        raise ProofError(f"the tokenizer saved in {folder} splits the texts in another way")
    gap, windows = 0.0, 0
    for part in rows.ordered(1):
        batch = objective.collate(rows, part, np.random.default_rng(EVALUATION))
        with forward.evaluating():
            scores = rows.gather(forward, [(batch, forward.forward(batch))])
        own = chosen[part]
        ours = outputs.nll[own] / np.maximum(outputs.tokens[own], 1)
        theirs = scores.nll[part] / np.maximum(scores.tokens[part], 1)
        gap, windows = max(gap, float(np.abs(ours - theirs).max())), windows + len(part)
        if windows >= ROWS:
            break
    if not gap <= TOLERANCE:
        raise ProofError(
            f"the model saved in {folder} does not predict as the trained one: losses differ by up "
            f"to {gap:.4f} nats a token on {counted(windows, 'window')}"
        )
    loader = f"{type(model).__name__}, transformers {transformers.__version__}"
    return {"rows": windows, "max_difference": gap, "loaded_with": loader}


class _Saved:
    """The saved folder as transformers or PEFT alone loads it; `loader` says what loaded it.

    `reads_texts` where the saved tokenizer alone makes the ids of a row, without our own encoding;
    `settings` are how the files say that vectors are pooled, or texts written.
    """

    def __init__(self, folder: Path, task: Task) -> None:
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        self.folder, self.head = folder, task.head
        self.reads_texts = task.inputs == ("text",) and task.head.reads in ("pooled", "body")
        self.own_head = bool(getattr(task, "module", None))
        self.settings: Any = read_modules(folder) if task.head.gives_vectors else None
        with quiet():
            config = config_file(folder)
            self.config: Any = AutoConfig.from_pretrained(config, local_files_only=True)
            self.model: Any
            if self.own_head:
                self.model, self.loader = load_saved(folder)[0], "AutoModel, with your own head"
            else:
                self.model, self.loader = _load_alone(folder, self.config, task.head)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            if task.head.generates:
                self.settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        if task.head.gives_vectors:
            self.loader += f", {self.settings['pooling']} of the last hidden states"

    def outputs(self, task: Task, examples: Examples, rows: np.ndarray) -> np.ndarray:
        """The outputs of rows, one after the other: [rows or tokens, K], or vectors [rows, H]."""
        table = examples.table.take(rows)
        if self.reads_texts:
            texts: list[str] = task.as_text(table).to_pylist()
            split = {"truncation": True, "max_length": task.max_length, "return_tensors": "pt"}
            return np.concatenate([self._run(dict(self.tokenizer(t, **split))) for t in texts])
        dataset = task.encode(table, examples.labels, self.tokenizer, task.max_length)
        return np.concatenate([self._run(_inputs(dataset, i)) for i in range(len(dataset))])

    def _run(self, inputs: dict[str, Any]) -> np.ndarray:
        with torch.no_grad():
            answer = self.model(**inputs)
        if self.head.gives_vectors:
            hidden, pooling = answer.last_hidden_state[0].float().numpy(), self.settings["pooling"]
            token = hidden[0 if pooling == "first" else -1]
            vector = hidden.mean(0) if pooling == "mean" else token
            if self.settings["normalise"]:
                vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
            return vector[None]
        begin = getattr(answer, "start_logits", None)
        logits = answer.logits if begin is None else torch.stack([begin, answer.end_logits], -1)
        values = logits.float().numpy()
        if values.ndim == 2:
            return values
        return values[0, -inputs["input_ids"].shape[1] :]  # behind virtual tokens

    def loss(self, dataset: TokenizedDataset, row: int) -> float:
        """The model's own loss of one row in nats a token: of the answer alone."""
        assert dataset.answers is not None
        ids = _inputs(dataset, row)["input_ids"]
        labels = torch.from_numpy(dataset.answers.row(row).astype(np.int64))[None]
        if not self.config.is_encoder_decoder:
            prompt = torch.from_numpy(dataset.learned(row))[None]
            ids, labels = torch.cat([ids, labels], 1), torch.cat([prompt, labels], 1)
        with torch.no_grad():
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            return float(self.model(**inputs, labels=labels).loss)

    def generate(self, dataset: TokenizedDataset, row: int) -> list[int]:
        """The ids that the model writes after one row, by its saved settings."""
        inputs = _inputs(dataset, row)
        prompt: list[int] = inputs["input_ids"][0].tolist()
        with quiet(), torch.no_grad():
            answer = self.model.generate(**inputs, generation_config=self.settings)
        written: list[int] = answer[0].tolist()
        repeated = not self.config.is_encoder_decoder and written[: len(prompt)] == prompt
        return written[len(prompt) :] if repeated else written


def _inputs(dataset: TokenizedDataset, row: int) -> dict[str, Any]:
    ids = torch.from_numpy(dataset.row(row).astype(np.int64))[None]
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if dataset.types is not None:
        types = dataset.types[dataset.offsets[row] : dataset.offsets[row + 1]].astype(np.int64)
        inputs["token_type_ids"] = torch.from_numpy(types)[None]
    return inputs


def _of_rows(dataset: TokenizedDataset, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The outputs that belong to rows of the table, windows in order."""
    windows = rows if dataset.of_row is None else np.flatnonzero(np.isin(dataset.of_row, rows))
    if len(outputs) == len(dataset) and len(outputs) != len(dataset.ids):
        return outputs[windows]
    offsets = dataset.offsets
    return np.concatenate([outputs[offsets[i] : offsets[i + 1]] for i in windows])


@contextmanager
def _one_error(folder: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes a `ProofError`."""
    try:
        yield
    except Exception as error:  # transformers, peft and safetensors raise all kinds
        raise ProofError(
            f"the model saved in {folder} cannot be loaded afresh: {shown(error, 160)}"
        ) from error


def _load_alone(folder: Path, config: Any, head: Head) -> tuple[Any, str]:
    """The saved model, loaded by transformers or PEFT alone, and what loaded it; of an adapter
    PEFT's model over the base that it names, merged where that can be."""
    import transformers

    name = head.auto_for(family_of(config).kind)
    auto = getattr(transformers, name)
    loader = f"transformers {transformers.__version__}"
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    if not is_adapter(folder):
        return auto.from_pretrained(folder, **options).eval(), f"{name}, {loader}"
    import peft

    from warmstart.models.peft.bottleneck import register
    from warmstart.models.peft.wrap import can_merge, merged

    register()
    base = auto.from_pretrained(base_of(read(folder)).path, config=config, **options)
    adapted: Any = with_adapter(base, folder)
    loader = f"PeftModel, peft {peft.__version__}, {loader}"
    if bits := base_bits(folder):
        return adapted.eval(), f"{loader}, base in {bits} bits"
    return (merged(adapted) if can_merge(adapted) else adapted).eval(), loader
