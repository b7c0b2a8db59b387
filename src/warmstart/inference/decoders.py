"""What the engines share that write texts: which models they take, and how a folder says to
write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import DataError, RecipeError
from warmstart.inference.engine import Runner
from warmstart.inference.forms import Formed
from warmstart.models.architectures import family_of
from warmstart.models.checks import config_file, read_json
from warmstart.models.sampling.completion import Completion
from warmstart.models.sampling.rows import Row, rows_of
from warmstart.models.sampling.settings import Sampling

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Task

NAMES = ("max_new_tokens", "min_new_tokens", "num_beams", "length_penalty", "no_repeat_ngram_size",
         "repetition_penalty", "do_sample", "temperature", "top_k", "top_p", "min_p")  # fmt: skip
"""What a `generation_config.json` may ask of these engines."""
DRAWS = ("temperature", "top_k", "top_p", "min_p")
SILENT = ("transformers_version", "use_cache", "max_length", "return_dict_in_generate",
          "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id",
          "forced_bos_token_id", "forced_eos_token_id")  # fmt: skip
"""What changes no text, or is read elsewhere."""
UNSAID = 20
"""Tokens that transformers writes where a folder does not say how many."""


class Writes(Formed):
    """An engine that writes texts."""

    def check_task(self, task: Task) -> None:
        if not task.head.generates and not task.head.predicts_itself:
            raise RecipeError(
                f"engine {self.part_name()} writes texts, and task {task.part_name()} asks for "
                "something else; take engine torch, onnx or openvino"
            )

    def check_model(self, config: Mapping[str, Any]) -> None:
        """Raise `RecipeError` for a model, by its `config.json`, that it cannot compute."""

    def build(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None = None
    ) -> Path:
        self.check_task(task)
        self.check_model(read_json(config_file(folder)))
        return super().build(folder, out, task, pad_id, rows)


class WritingRunner(Runner):
    """A model that writes.

    Args:
        name: the engine.
        form: the folder with its config and its `generation_config.json`.
    """

    def __init__(self, name: str, form: Path) -> None:
        from transformers import AutoConfig, GenerationConfig

        from warmstart.models.hf_calls import LOAD, quiet

        self.name = name
        with quiet():
            self.config: Any = AutoConfig.from_pretrained(config_file(form), **LOAD)
            self.generation: Any = GenerationConfig.from_pretrained(form, local_files_only=True)
        self.decodes = family_of(self.config).kind != "encoder-decoder"
        self.vocabulary: int = self.config.get_text_config(decoder=True).vocab_size

    def rows(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling],
        tokenizer: Any,
    ) -> list[Row]:  # fmt: skip
        """The texts that are to be written, as `models.sampling.generate` has them; what is raised
        is raised before anything is computed."""
        alone = not isinstance(sampling, Sampling)
        settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else [*sampling]
        rows = rows_of(self.config, prompts, settings, tokenizer, alone=alone)
        for number, prompt in enumerate(prompts):
            if not 0 <= min(prompt) <= max(prompt) < self.vocabulary:
                raise DataError(
                    f"prompt {number + 1} has a token that is none of the {self.vocabulary:,} of "
                    "the model"
                )
        return rows

    def settings(self) -> dict[str, Any]:
        """What the folder's `generation_config.json` asks for, of `NAMES`. Raises `RecipeError`
        for what this engine does not have."""
        asked = {name: value for name, value in self.generation.to_diff_dict().items()
                 if value is not None and name not in SILENT
                 and not name.startswith(("_", "output_"))}  # fmt: skip
        if other := sorted(asked.keys() - {*NAMES}):
            raise RecipeError(
                f"the model's generation_config.json asks for {', '.join(other)}, which engine "
                f"{self.name} does not have; take engine torch, or change that file"
            )
        if not asked.pop("do_sample", False):
            return {name: value for name, value in asked.items() if name not in DRAWS}
        return asked | {"do_sample": True}

    def room(self, prompt: Sequence[int], settings: Mapping[str, Any]) -> int:
        """The tokens that may be written behind a prompt by the folder's own settings."""
        most = settings.get("max_new_tokens")
        before = len(prompt) if self.decodes else 0
        if most is None and self.generation.max_length is None:
            return UNSAID
        return most or max(1, self.generation.max_length - before)


def prompts_in(dataset: TokenizedDataset) -> list[list[int]]:
    """The rows of a dataset as lists of ids."""
    ends = dataset.offsets
    return [dataset.ids[a:b].tolist() for a, b in pairwise(ends)]


def texts_and_confidence(texts: Sequence[Completion]) -> tuple[list[list[int]], np.ndarray]:
    """What `Runner.generate` returns: the ids of each text, and the mean probability of their
    tokens."""
    sure = [float(np.exp(t.log_probs).mean()) if len(t.log_probs) else 0.0 for t in texts]
    return [text.ids for text in texts], np.array(sure)
