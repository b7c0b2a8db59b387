"""CTranslate2 on this machine: texts in bulk, by decoders and by encoder-decoders (T5, BART).

Tokens go in and come out; texts, stop texts and ends are those of `models.sampling`, the same with
every engine. Log-probabilities are those at temperature 1. A text that is drawn is written alone by
a model opened for it: only so the library draws by a seed that can be repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import BaseModelError, RecipeError
from warmstart.files import read_json, write_json
from warmstart.inference.decoders import Writes, WritingRunner, prompts_in, texts_and_confidence
from warmstart.inference.forms import merged, silence
from warmstart.models.architectures import family_of
from warmstart.models.checks import ADAPTED
from warmstart.models.sampling.completion import Completion, Token
from warmstart.models.sampling.rows import Row, Tell, ends_of
from warmstart.models.sampling.settings import Sampling

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.generation import TokenScores
    from warmstart.tasks.base import Task

BATCH = 32
"""Texts that are written side by side."""
CLOSE = 1e-3
"""How far a log-probability in float32 may be from torch's."""
TRIED = ((3, 9, 1), 5)
"""Lengths of the prompts, and of the answers, with which a form is tried."""
LEAST = {True: "min_length", False: "min_decoding_length"}
"""Whether it is a decoder → what the library calls `min_new_tokens`."""
BART = {"bart": (False, True), "mbart": (True, True), "pegasus": (True, False)}
"""Family → whether its layers normalise before they compute, and its embeddings are normalised:
what configs said before version 5 of transformers."""


class Ctranslate2(Writes):
    """Writes with CTranslate2: decoders, T5, BART and their kin, many texts at once."""

    libraries: ClassVar[tuple[str, ...]] = ("ctranslate2",)
    makers: ClassVar[tuple[str, ...]] = ()

    precision: Literal["fp32", "int8"] = Field(
        default="fp32", description="int8: weights in 8 bits, a quarter of the size and faster"
    )

    @property
    def form(self) -> str:
        return self.precision

    @property
    def batch_tolerance(self) -> float | None:
        return 1e-5 if self.precision == "fp32" else 0.02

    def check_model(self, config: Mapping[str, Any]) -> None:
        if family_of(config).kind == "encoder":
            raise RecipeError(
                f"engine ctranslate2 writes texts, and '{config.get('model_type')}' is an encoder; "
                "take engine torch, onnx or openvino"
            )

    def make(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None
    ) -> None:
        from warmstart.models.hf_calls import one_line
        from warmstart.models.peft.prompts import is_prompted
        from warmstart.models.sampling.decoding import check_writes, start_of

        model = merged(folder)
        kind = model.config.model_type
        refusal = f"CTranslate2 cannot compute this '{kind}' model; take engine torch"
        if is_prompted(model):
            raise BaseModelError(f"{refusal}: its virtual tokens are none of its weights")
        check_writes(model)
        tried = list(_answers(model))
        with one_line(refusal), silence():
            start = start_of(model) if model.config.is_encoder_decoder else 0
            convert(model, out, start, self.precision)
            model.config.to_json_file(out / ADAPTED)
            model.generation_config.save_pretrained(out)
        runner = self.start(out, threads=1)
        gap = max(float(np.abs(runner.scores(prompt, answer) - wanted).max())
                  for prompt, answer, wanted in tried)  # fmt: skip
        if not gap <= (CLOSE if self.precision == "fp32" else float("inf")):
            raise BaseModelError(f"{refusal}: log-probabilities differ from torch's by {gap:.2g}")

    def start(self, form: Path, threads: int) -> Ctranslate2Runner:
        return Ctranslate2Runner(form, threads, self.precision)


class Ctranslate2Runner(WritingRunner):
    """A model that CTranslate2 has in memory."""

    def __init__(self, form: Path, threads: int, precision: str) -> None:
        super().__init__("ctranslate2", form)
        self._form = form
        kind = "float32" if precision == "fp32" else "int8_float32"
        self._how = {"device": "cpu", "inter_threads": 1, "intra_threads": threads}
        self._how |= {"compute_type": kind}
        self._model = self._opened()

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
        for row in rows:
            _check(row.sampling)
        stops = ends_of(self.config, self.generation, tokenizer, ends)
        tell, leaves = on_token or (lambda token: None), cancelled or (lambda row: False)
        for group in _groups(rows, prompts):
            own = group[0].sampling
            if own.num_beams > 1:
                named = {"beam_size": own.num_beams, "num_hypotheses": own.num_return_sequences}
                self._search(prompts, group, stops, named, tell)
            else:
                self._draw(prompts, group, stops, _drawing(own), tell, leaves)
        return [row.completion() for row in rows]

    def generate(self, prompts: TokenizedDataset) -> tuple[list[list[int]], np.ndarray]:
        settings, texts = self.settings(), prompts_in(prompts)
        if other := {"do_sample", "repetition_penalty"} & {*settings}:
            raise RecipeError(
                f"the model's generation_config.json asks for {', '.join(sorted(other))}, which "
                "engine ctranslate2 does not have for whole files; take engine torch"
            )
        own, seed = Sampling(temperature=0), np.random.SeedSequence(0)
        rows = [Row(n, n, self.room(ids, settings), own, seed, None) for n, ids in enumerate(texts)]
        named: dict[str, Any] = {
            "beam_size": settings.get("num_beams", 1),
            "length_penalty": settings.get("length_penalty", 1.0),
            "no_repeat_ngram_size": settings.get("no_repeat_ngram_size", 0),
            LEAST[self.decodes]: settings.get("min_new_tokens", 0),
        }
        stops = ends_of(self.config, self.generation, None, ())
        for group in _groups(rows, texts, searched=True):
            self._search(texts, group, stops, named, lambda token: None)
        return texts_and_confidence([row.completion() for row in rows])

    def log_probs(self, dataset: TokenizedDataset) -> TokenScores:
        from warmstart.models.generation import TokenScores

        answers = dataset.answers
        if answers is None or answers.answers is not None:
            raise RecipeError(
                "engine ctranslate2 says how likely answers behind prompts are, and nothing of "
                "whole texts and of pairs; take engine torch"
            )
        scores = TokenScores.nothing(len(dataset))
        both = zip(prompts_in(dataset), prompts_in(answers), strict=True)
        for row, (prompt, answer) in enumerate(both):
            values = self.scores(prompt, answer).astype(np.float64)
            scores.nll[row], scores.sure[row] = -values.sum(), np.exp(values).sum()
            scores.hits[row], scores.tokens[row] = float("nan"), len(answer)
        return scores

    def scores(self, prompt: Sequence[int], answer: Sequence[int]) -> np.ndarray:
        """The log-probability of each token of an answer behind its prompt."""
        if self.decodes:
            both = self._model.score_batch([_names([*prompt, *answer])], max_input_length=0)
            return np.array(both[0].log_probs[len(prompt) - 1 :], np.float32)
        result = self._model.score_batch([_names(prompt)], [_names(answer)], max_input_length=0)
        return np.array(result[0].log_probs[: len(answer)], np.float32)  # without the end it adds

    def _opened(self) -> Any:
        import ctranslate2

        kind: Any = ctranslate2.Generator if self.decodes else ctranslate2.Translator
        return kind(str(self._form), **self._how)

    def _draw(
        self, prompts: Sequence[Sequence[int]], rows: Sequence[Row], ends: set[int],
        named: Mapping[str, Any], tell: Tell, cancelled: Callable[[int], bool],
    ) -> None:  # fmt: skip
        """Write the texts of some rows token by token, the same settings for all."""
        import ctranslate2

        model = self._model
        if rows[0].sampling.temperature:
            ctranslate2.set_random_seed(int(rows[0].seed.generate_state(1)[0]))
            model = self._opened()  # whose threads begin with the seed
        shortest = min(len(prompts[row.prompt]) for row in rows) if self.decodes else 0
        forced = self._forced(prompts, rows)
        still = [len(prompts[row.prompt]) - shortest if self.decodes else 0 for row in rows]

        def come(step: Any) -> bool:
            row = rows[step.batch_id]
            if step.step < still[step.batch_id]:  # of its prompt
                return False
            if row.finish is None and cancelled(row.number):
                row.cancel(tell)
            if row.finish is None:
                known = step.log_prob if forced is None or step.step else forced[step.batch_id]
                row.take(step.token_id, known, ends, tell)
            return row.finish is not None

        room = max(row.room + more for row, more in zip(rows, still, strict=True))
        self._run(model, prompts, rows, room, {
            **named, "beam_size": 1, "end_token": [], "callback": come,
        })  # fmt: skip

    def _search(
        self, prompts: Sequence[Sequence[int]], rows: Sequence[Row], ends: set[int],
        named: Mapping[str, Any], tell: Tell,
    ) -> None:  # fmt: skip
        """Write the texts of some rows by beam search, or the likeliest ones; the prompts of a
        decoder are of one length."""
        first = {row.prompt: row for row in rows}
        forced, room = self.generation.forced_eos_token_id, rows[0].room
        last = forced[0] if isinstance(forced, list) else forced
        results = self._run(
            self._model, prompts, [*first.values()], room - (last is not None),
            {**named, "end_token": sorted(ends), "return_end_token": True},
        )  # fmt: skip
        for prompt, result in zip(first, results, strict=True):
            texts = result.sequences if self.decodes else result.hypotheses
            own = [row for row in rows if row.prompt == prompt]
            for row, names in zip(own, texts, strict=False):
                ids = [*map(int, names)]
                if last is not None and ids[-1:] != [last]:
                    ids.append(last)  # BART is made to end
                scores = self.scores(prompts[prompt], ids).tolist() if ids else []
                for token, log_prob in zip(ids, scores, strict=True):
                    if row.finish is None:
                        row.take(token, log_prob, ends, tell)
                row.finish = row.finish or "length"

    def _run(
        self, model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row], room: int,
        named: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        from warmstart.models.hf_calls import one_line

        texts = [_names(prompts[row.prompt]) for row in rows]
        with one_line("engine ctranslate2 failed while it wrote"):
            if self.decodes:
                return model.generate_batch(
                    texts, max_length=room, include_prompt_in_result=False, return_scores=True,
                    **named,
                )  # fmt: skip
            forced = self.generation.forced_bos_token_id
            return model.translate_batch(
                texts, None if forced is None else [[str(forced)]] * len(texts),
                max_input_length=0, max_decoding_length=room, return_scores=True,
                **{LEAST[False]: 0, **named},
            )  # fmt: skip

    def _forced(self, prompts: Sequence[Sequence[int]], rows: Sequence[Row]) -> list[float] | None:
        """The log-probability of the token that every text has to begin with (BART, MBart)."""
        first = None if self.decodes else self.generation.forced_bos_token_id
        if first is None:
            return None
        return [float(self.scores(prompts[row.prompt], [first])[0]) for row in rows]


def convert(model: Any, out: Path, start: int, precision: str) -> None:
    """Write a model of transformers as one of CTranslate2, whose tokens are called by their
    numbers; what the model holds is lost. An encoder-decoder begins with the token `start`."""
    from ctranslate2.converters import TransformersConverter

    config = model.config
    if config.model_type in BART:
        config.normalize_before, config.normalize_embedding = BART[config.model_type]
    tokens = _Tokens(config.get_text_config(decoder=True).vocab_size)

    class Loaded(TransformersConverter):
        def load_model(self, *args: Any, **named: Any) -> Any:
            return model

        def load_tokenizer(self, *args: Any, **named: Any) -> Any:
            return tokens

    with tempfile.TemporaryDirectory() as place:
        config.save_pretrained(place)
        Loaded(place).convert(
            str(out), quantization=None if precision == "fp32" else "int8", force=True
        )
    known: dict[str, Any] = read_json(out / "config.json")
    if config.is_encoder_decoder:
        known["decoder_start_token"] = str(start)
    write_json(out / "config.json", known)


class _Tokens:
    """What a converter asks of a tokenizer."""

    bos_token = eos_token = unk_token = pad_token = str(0)
    unk_token_id, chat_template = 0, None
    special_tokens_map: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, size: int) -> None:
        self._size = size

    def get_vocab(self) -> Mapping[str, int]:
        return {str(number): number for number in range(self._size)}

    def convert_ids_to_tokens(self, number: int | None) -> str:
        return str(number or 0)


def _names(ids: Sequence[int]) -> list[str]:
    return [*map(str, ids)]


def _check(sampling: Sampling) -> None:
    """Raise `RecipeError` for a setting that the library does not have."""
    for name in ("min_p", "repetition_penalty"):
        if getattr(sampling, name) != Sampling.model_fields[name].default:
            raise RecipeError(
                f"engine ctranslate2 has no setting {name}; leave it out, or take engine "
                "openvino_genai or torch"
            )


def _drawing(sampling: Sampling) -> dict[str, Any]:
    """Settings of ours as the library calls them."""
    if not sampling.temperature:
        return {}
    return {"sampling_temperature": sampling.temperature, "sampling_topk": sampling.top_k,
            "sampling_topp": sampling.top_p}  # fmt: skip


def _groups(
    rows: Sequence[Row], prompts: Sequence[Sequence[int]], *, searched: bool = False
) -> Iterator[list[Row]]:
    """Rows that are written side by side: of about equal length; of a search, those of equal
    length and room; of what is drawn, each alone."""

    def key(row: Row) -> tuple[Any, ...]:
        own = row.sampling
        if own.num_beams > 1 or searched:
            return (len(prompts[row.prompt]), row.room, own.num_beams, own.num_return_sequences)
        return (0, 0, 1, row.number if own.temperature else -1)

    ordered = sorted(rows, key=lambda row: (key(row), len(prompts[row.prompt]), row.number))
    for wanted, group in groupby(ordered, key=key):
        together = [*group]
        size = BATCH * wanted[3] if wanted[2] > 1 else BATCH
        for begin in range(0, len(together), size):
            yield together[begin : begin + size]


def _answers(model: Any) -> Iterator[tuple[list[int], list[int], np.ndarray]]:
    """Prompts and answers of tokens at random, with what torch says of each token."""
    import torch

    from warmstart.models.sampling.decoding import start_of

    random, size = np.random.default_rng(0), model.config.get_text_config(decoder=True).vocab_size
    for length in TRIED[0]:
        prompt, answer = (random.integers(0, size, n).tolist() for n in (length, TRIED[1]))
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                begun = torch.tensor([[start_of(model), *answer[:-1]]])
                logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
            else:
                ids = torch.tensor([[*prompt, *answer]])
                logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        scores = logits.float().log_softmax(-1)[torch.arange(len(answer)), answer]
        yield prompt, answer, scores.numpy()
