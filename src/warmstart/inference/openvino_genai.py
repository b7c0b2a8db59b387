"""OpenVINO GenAI on this machine: decoders that write many texts side by side (continuous
batching), in memory that is bounded and shared between prompts that begin alike.

Tokens go in and come out: texts, stop texts and ends are those of `models.sampling`, the same with
every engine. A seed gives the same text alone and beside others, but not that of another engine.
Log-probabilities are those at temperature 1.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import BaseModelError, RecipeError, RunError, WarmstartError, shown
from warmstart.inference.batching import RequestBatcher
from warmstart.inference.decoders import (
    Writes,
    WritingRunner,
    prompts_in,
    texts_and_confidence,
)
from warmstart.inference.forms import merged, silence
from warmstart.models.architectures import family_of
from warmstart.models.sampling.completion import Completion, Token
from warmstart.models.sampling.rows import Row
from warmstart.models.sampling.settings import Sampling

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.generation import TokenScores
    from warmstart.tasks.base import Task

PLACE = re.compile(r"[\w.]/\w")
MODEL = "openvino_model.xml"
BLOCK = 32
"""Tokens in a block of keys and values on a CPU."""
GIGABYTE = 1e9
TRIED = ((3, 9, 1), 6)
"""Lengths of the prompts, and new tokens, with which a form is tried."""
CLOSE = 1e-3
"""How far a log-probability in float32 may be from torch's."""


class OpenvinoGenai(Writes):
    """Writes with OpenVINO GenAI: decoders such as GPT-2 and Llama."""

    libraries: ClassVar[tuple[str, ...]] = ("openvino", "openvino_genai")
    makers: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "genai"

    precision: Literal["fp32", "bf16", "int8"] = Field(
        default="fp32",
        description="bf16: 16 bits, where the processor has them, on two threads at least; int8: "
        "weights in 8 bits, a quarter of the size, computed in float32",
    )
    cache_gb: float = Field(
        default=1.0,
        gt=0,
        description="memory for the keys and values of all texts that are being written, in "
        "gigabytes; a text waits for its turn where it is full",
    )

    @property
    def form(self) -> str:
        return "int8" if self.precision == "int8" else "fp32"

    @property
    def batch_tolerance(self) -> float | None:
        return {"fp32": 1e-5, "bf16": 0.05}.get(self.precision, 1e-4)

    def check_model(self, config: Mapping[str, Any]) -> None:
        if family_of(config).kind != "decoder":
            raise RecipeError(
                f"engine openvino_genai writes with decoders, and '{config.get('model_type')}' is "
                "none; take engine ctranslate2 or torch"
            )

    def make(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None
    ) -> None:
        import openvino

        from warmstart.models.hf_calls import one_line

        model = merged(folder)
        kind = model.config.model_type
        with one_line(f"OpenVINO cannot compute this '{kind}' model; take engine torch"), silence():
            program = export(model)
            if self.precision == "int8":
                self.require(("nncf",))
                import nncf

                program = nncf.compress_weights(program)
            openvino.save_model(program, out / MODEL, compress_to_fp16=False)
            del program
            model.config.save_pretrained(out)
            model.generation_config.save_pretrained(out)
        self._check(out, model)

    def start(self, form: Path, threads: int) -> GenaiRunner:
        return GenaiRunner(self, form, threads)

    def _check(self, form: Path, model: Any) -> None:
        """Raise `BaseModelError` where the form does not write as torch computes."""
        import torch

        engine = self.model_copy(update={"precision": "fp32", "cache_gb": 0.01})
        runner = GenaiRunner(engine, form, threads=1)
        random = np.random.default_rng(0)
        prompts = [random.integers(0, runner.vocabulary, n).tolist() for n in TRIED[0]]
        gap = 0.0
        for text in runner.write(prompts, Sampling(temperature=0, max_new_tokens=TRIED[1])):
            ids = [*prompts[text.prompt], *text.ids]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -len(text.ids) - 1 : -1]
            scores = logits.float().log_softmax(-1)[torch.arange(len(text.ids)), text.ids]
            gap = max(gap, float(np.abs(scores.numpy() - text.log_probs).max()))
        if not gap <= (CLOSE if self.form == "fp32" else float("inf")):
            raise BaseModelError(
                "engine openvino_genai does not compute this model as torch does "
                f"(log-probabilities differ by {gap:.2g}); take engine torch"
            )


class GenaiRunner(WritingRunner):
    """A decoder that OpenVINO GenAI has compiled for this processor."""

    def __init__(self, engine: OpenvinoGenai, form: Path, threads: int) -> None:
        import openvino
        import openvino_genai

        super().__init__("openvino_genai", form)
        self._form, hint = form, "bf16" if engine.precision == "bf16" else "f32"
        threads = max(threads, 2) if hint == "bf16" else threads  # with one thread it has crashed
        self._properties = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
        width = 2 if hint == "bf16" else 4
        token = width * sum(_widths(openvino.Core().read_model(form / MODEL)))
        self._blocks = int(engine.cache_gb * GIGABYTE // (BLOCK * token))
        if not self._blocks:
            raise RecipeError(
                f"engine.cache_gb {engine.cache_gb:g} holds no {BLOCK} tokens of this model; give "
                f"at least {BLOCK * token / GIGABYTE:.2g}"
            )
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks, scheduler.enable_prefix_caching = self._blocks, True
        properties = {**self._properties, "KV_CACHE_PRECISION": hint}
        with _failing("could not open the model"):
            self.pipeline: Any = openvino_genai.ContinuousBatchingPipeline(
                str(form), scheduler, "CPU", properties
            )
        self._numbers, self._stepping = itertools.count(), threading.Lock()
        self._graph: Any = None

    @property
    def capacity(self) -> int:
        """The tokens whose keys and values there is memory for."""
        return self._blocks * BLOCK

    def batcher(self, tokenizer: Any, ends: Collection[int] = ()) -> RequestBatcher:
        return RequestBatcher(self, tokenizer, ends)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        *,
        tokenizer: Any = None,
        ends: Collection[int] = (),
        on_token: Callable[[Token], None] | None = None,
        cancelled: Callable[[int], bool] | None = None,
    ) -> list[Completion]:
        rows = self.rows(prompts, sampling, tokenizer)
        batcher = self.batcher(tokenizer, ends)
        batcher.begin(prompts, rows)
        while batcher.busy:
            for row in rows:
                if cancelled is not None and row.finish is None and cancelled(row.number):
                    batcher.cancel(row.number)
            for token in batcher.step():
                if on_token is not None:
                    on_token(token)
        return [row.completion() for row in rows]

    def generate(self, prompts: TokenizedDataset) -> tuple[list[list[int]], np.ndarray]:
        settings, batcher = self.settings(), self.batcher(None)
        beams = settings.get("num_beams", 1)
        own = Sampling(temperature=0, num_beams=beams) if beams == 1 else Sampling(num_beams=beams)
        texts = prompts_in(prompts)
        rows = [
            Row(n, n, self.room(ids, settings), own, np.random.SeedSequence((0, n)), None)
            for n, ids in enumerate(texts)
        ]
        named = {"do_sample": False, **settings}
        for row in rows:
            batcher.enter([row], texts[row.prompt], {**named, "max_new_tokens": row.room})
        while batcher.busy:
            batcher.step()
        return texts_and_confidence([row.completion() for row in rows])

    def log_probs(self, dataset: TokenizedDataset) -> TokenScores:
        from warmstart.models.generation import TokenScores

        answers = dataset.answers
        if answers is None or answers.answers is not None:
            raise RecipeError(
                "engine openvino_genai says how likely answers behind prompts are, and nothing of "
                "whole texts and of pairs; take engine torch"
            )
        scores = TokenScores.nothing(len(dataset))
        both = zip(prompts_in(dataset), prompts_in(answers), strict=True)
        for row, (prompt, answer) in enumerate(both):
            logits = self._logits([*prompt, *answer])[len(prompt) - 1 : -1].astype(np.float64)
            wanted, best = logits[np.arange(len(answer)), answer], logits.max(-1)
            sums = np.log(np.exp(logits - best[:, None]).sum(-1)) + best
            scores.nll[row], scores.sure[row] = (sums - wanted).sum(), np.exp(wanted - sums).sum()
            scores.hits[row], scores.tokens[row] = (wanted >= best).sum(), len(answer)
        return scores

    def _logits(self, ids: Sequence[int]) -> np.ndarray:
        """[L, V] of a text, by the same graph."""
        import openvino

        if self._graph is None:
            compiled = openvino.Core().compile_model(self._form / MODEL, "CPU", self._properties)
            self._graph = compiled.create_infer_request()
        self._graph.reset_state()
        places = np.arange(len(ids))[None]
        named = {"input_ids": np.array([ids]), "attention_mask": np.ones_like(places),
                 "position_ids": places, "beam_idx": np.zeros(1, np.int32)}  # fmt: skip
        return np.array(self._graph.infer(named)["logits"][0], np.float32)

    def request(
        self, prompt: Sequence[int], settings: Mapping[str, Any], ends: Collection[int]
    ) -> Any:
        """A request to the library, by names of transformers' generation config. Raises
        `RecipeError` for one that there is no room for, before anything is begun."""
        import openvino
        import openvino_genai

        beams = settings.get("num_beams", 1)
        needed = (len(prompt) + settings["max_new_tokens"]) * beams
        if needed > self.capacity:
            raise RecipeError(
                f"a prompt of {len(prompt):,} tokens with what is written behind it needs memory "
                f"for {needed:,} tokens, and engine.cache_gb has it for {self.capacity:,}: raise "
                "it, or lower max_new_tokens"
            )
        config = openvino_genai.GenerationConfig()
        for name, value in settings.items():
            setattr(config, name, value)
        if beams > 1:
            config.stop_criteria = openvino_genai.StopCriteria.HEURISTIC
        config.logprobs = 1
        if ends:
            config.eos_token_id, config.stop_token_ids = min(ends), {*ends}
        else:
            config.ignore_eos = True
        with _failing("does not take these settings", RecipeError):
            config.validate()
        with _failing("could not begin"):
            ids = openvino.Tensor(np.array([prompt], np.int64))
            return self.pipeline.add_request(next(self._numbers), ids, config)

    def step(self) -> None:
        """One step for all requests. Raises `RunError`."""
        with self._stepping, _failing("failed while it wrote; open the model again"):
            if self.pipeline.has_non_finished_requests():
                self.pipeline.step()

    @property
    def used(self) -> float:
        """See `Batcher.used`."""
        return float(self.pipeline.get_metrics().cache_usage) / 100


def export(model: Any) -> Any:
    """A decoder of transformers as a graph of OpenVINO that keeps its keys and values, and reads
    several tokens at once as it reads one: what GenAI computes. Raises whatever the exporter
    raises, and `BaseModelError` for a model that does not write."""
    import torch
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter
    from transformers.exporters.utils import decompose_for_generation

    from warmstart.models.peft.prompts import is_prompted
    from warmstart.models.sampling.decoding import check_writes

    if is_prompted(model):
        raise BaseModelError("its virtual tokens stand in no graph")
    check_writes(model)
    ids = torch.arange(8).reshape(2, 4) % model.get_input_embeddings().weight.shape[0]
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    parts = decompose_for_generation(
        model, {"input_ids": ids, "attention_mask": mask}, multi_token_decode=True
    )
    decoder: Any
    decoder, inputs = parts["decode"]
    graph = OpenVINOExporter().export(decoder, inputs, OpenVINOConfig(dynamic=True)).program
    _free_mask(graph)
    return graph


def _free_mask(graph: Any) -> None:
    """Have a graph take the size of its batch from the ids instead of the mask, which GenAI takes
    away: torch knows that they are equal, and so names either (of GPT-2 the mask)."""
    from openvino import opset14

    ids, mask = graph.input("input_ids"), graph.input("attention_mask")
    for shape in [reader.get_node() for reader in mask.get_target_inputs()]:
        if shape.get_type_name() != "ShapeOf":
            continue
        same = opset14.shape_of(ids, shape.get_output_element_type(0))
        for reader in shape.output(0).get_target_inputs():
            node = reader.get_node()
            if node.get_type_name() == "Gather":
                place = node.input_value(1).get_node()
                if place.get_type_name() == "Constant" and not np.any(place.get_data()):
                    reader.replace_source_output(same.output(0))


def _widths(graph: Any) -> Iterator[int]:
    """Values that each state keeps of a token."""
    for variable in graph.get_variables():
        shape = variable.info.data_shape
        yield int(np.prod([side.get_length() for side in shape if side.is_static]))


@contextmanager
def _failing(what: str, kind: type[WarmstartError] = RunError) -> Iterator[None]:
    """Whatever the library raises, in a line of ours, without places in its source."""
    try:
        yield
    except RuntimeError as error:
        lines = [
            line for line in str(error).splitlines() if line and not re.search(r"[\w.]/\w", line)
        ]
        reason = f": {shown(lines[-1], 120)}" if lines else ""
        raise kind(f"engine openvino_genai {what}{reason}") from error
