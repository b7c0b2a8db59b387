"""The loop in which texts are written, for any model under a language-model head.

Rows are independent of each other: what is written for a prompt depends on its seed, its number
and the prompt, not on the rows beside it (but for rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from warmstart.errors import RunError
from warmstart.models.architectures import family_of
from warmstart.models.generation import generation_config
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import quiet
from warmstart.models.sampling.completion import Completion, Token
from warmstart.models.sampling.decoding import check_writes, decoding, start_of
from warmstart.models.sampling.rows import Row, Tell, ends_of, rows_of
from warmstart.models.sampling.settings import Sampling

MEMORY = 1 << 30
"""Bytes of keys and values that a batch may take."""
MOST_ROWS = 256
Shape = Callable[[Sequence[int], Tensor], Tensor]
LIKELY = 1024
"""Tokens among which a nucleus is looked for first, before the whole vocabulary is sorted."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    *,
    tokenizer: Any = None,
    ends: Collection[int] = (),
    on_token: Callable[[Token], None] | None = None,
    cancelled: Callable[[int], bool] | None = None,
    shape: Shape | None = None,
) -> list[Completion]:
    """The texts that a model writes behind prompts, `num_return_sequences` for each, in order.

    Args:
        model: a `Forward`, which computes in its own type, or a model of transformers or PEFT.
        prompts: token ids; of an encoder-decoder what the encoder reads.
        sampling: for all prompts, or for each its own, which is then written as if it were alone:
            its draws depend on its own seed only, not on its number.
        tokenizer: makes the texts; needed for `stop`.
        ends: tokens that end a text, beside those of the model and the tokenizer.
        on_token: is told of every token of every row; with beams of each text once.
        cancelled: is asked before each step for the number of each completion; those for which it
            is true end there.
        shape: is shown the numbers of the completions [B] and their logits [B, V] before each
            choice, and gives the logits that are chosen among (a grammar takes some away); the
            log-probabilities stay those of the model. Not with beams.

    Raises `RecipeError` where a prompt leaves no room, `DataError` for an empty prompt,
    `BaseModelError` for a model that cannot write, `RunError` where its values are no numbers.
    """
    settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else [*sampling]
    alone = not isinstance(sampling, Sampling)
    with _writing(model) as (net, inner):
        check_writes(inner)
        rows = rows_of(inner.config, prompts, settings, tokenizer, alone=alone)
        stops = ends_of(inner.config, inner.generation_config, tokenizer, ends)
        tell = on_token or (lambda token: None)
        for group in _groups(inner, prompts, rows):
            if group[0].sampling.num_beams > 1:
                _search(net, inner, prompts, group, stops, tell)
            else:
                _draw(net, inner, prompts, group, stops, tell, cancelled or (lambda row: False),
                      shape or (lambda numbers, logits: logits))  # fmt: skip
    return [row.completion() for row in rows]


@contextmanager
def _writing(model: Any) -> Iterator[tuple[Any, Any]]:
    """The model, and the model of transformers in it; in evaluation mode and its own type."""
    forward = model if hasattr(model, "autocast") else None
    net: Any = model if forward is None else forward.model
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), nullcontext() if forward is None else forward.autocast():
            yield net, unwrap(net)
    finally:
        if net.training != training:
            net.train(training)


def _groups(model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that are computed together: of about equal length, as many as memory is meant for; of
    a beam search, those of prompts of one length that have the same settings."""
    config = model.config.get_text_config(decoder=True)
    layers = getattr(config, "num_hidden_layers", 1)
    heads = getattr(config, "num_attention_heads", 1)
    heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or (
        getattr(config, "hidden_size", 1) // max(getattr(config, "num_attention_heads", 1), 1)
    )
    token = 2 * layers * heads * width * next(model.parameters()).element_size()
    groups: list[list[Row]] = []
    longest, key = 0, None
    for row in sorted(rows, key=lambda row: (-len(prompts[row.prompt]), row.number)):
        length, beams = len(prompts[row.prompt]), row.sampling.num_beams
        own = None if beams == 1 else (length, row.sampling)
        longest = max(longest, length + row.room)
        most = max(1, min(MOST_ROWS, MEMORY // max(token * longest * beams, 1)))
        if not groups or own != key or len(groups[-1]) >= most * (1 if own is None else beams):
            groups.append([])
            longest, key = length + row.room, own
        groups[-1].append(row)
    return groups


def _draw(
    net: Any, inner: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row], ends: set[int],
    tell: Tell, cancelled: Callable[[int], bool], shape: Shape,
) -> None:  # fmt: skip
    """Write the texts of some rows token by token."""
    places = {row.prompt: n for n, row in enumerate({row.prompt: row for row in rows}.values())}
    states = decoding(net, [prompts[n] for n in places], max(row.room for row in rows))
    logits, live = states.begin(), [*rows]
    device = logits.device
    owners = torch.tensor([places[row.prompt] for row in rows], device=device)
    if len(places) != len(rows):  # the prompt is read once for all its texts
        states.keep(owners)
    logits = logits[owners]
    seen = _Seen(inner, prompts, rows, logits)
    forced = _forced(inner)
    while True:
        ids, log_probs = _choose(logits, live, seen, forced, shape)
        forced = None
        for row, token, log_prob in zip(live, ids.tolist(), log_probs.tolist(), strict=True):
            row.take(token, log_prob, ends, tell)
        for row in live:
            if row.finish is None and cancelled(row.number):
                row.cancel(tell)
        left = [place for place, row in enumerate(live) if row.finish is None]
        if not left:
            return
        seen.add(ids)
        if len(left) < len(live):
            index = torch.tensor(left, device=device)
            states.keep(index)
            seen.keep(index)
            ids, live = ids[index], [live[place] for place in left]
        logits = states.step(ids)


def _forced(model: Any) -> int | None:
    """The token that an encoder-decoder must begin with (MBart's language, BART's start)."""
    if not getattr(model.config, "is_encoder_decoder", False):
        return None
    own = model.generation_config.forced_bos_token_id
    return own if own is not None else getattr(model.config, "forced_bos_token_id", None)


class _Seen:
    """Which tokens each row has in its prompt and its text, where a penalty asks for it; as in
    transformers, of an encoder-decoder in its text alone."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row], logits: Tensor
    ) -> None:
        self.mask: Tensor | None = None
        if all(row.sampling.repetition_penalty == 1 for row in rows):
            return
        self.mask = torch.zeros_like(logits, dtype=torch.bool)
        reads = family_of(model.config).kind == "encoder-decoder"
        for number, row in enumerate(rows):
            ids = [start_of(model)] if reads else [*prompts[row.prompt]]
            self.mask[number, torch.tensor(ids, device=logits.device)] = True

    def add(self, ids: Tensor) -> None:
        if self.mask is not None:
            self.mask.scatter_(1, ids[:, None], True)

    def keep(self, rows: Tensor) -> None:
        if self.mask is not None:
            self.mask = self.mask[rows]


def _choose(
    logits: Tensor, rows: Sequence[Row], seen: _Seen, forced: int | None, shape: Shape
) -> tuple[Tensor, Tensor]:
    """The next token of each row [B], and its log-probability [B], from logits [B, V]."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=logits.device)[:, None]

    settings = [row.sampling for row in rows]
    if not torch.isfinite(logits.amax(-1)).all():
        raise RunError("the model answers with values that are no numbers; it is damaged")
    heat = column([s.temperature or 1.0 for s in settings])
    total = torch.logsumexp(logits / heat, -1)
    scores = logits
    if seen.mask is not None:
        penalty = column([s.repetition_penalty for s in settings])
        scores = torch.where(seen.mask, torch.where(logits < 0, logits * penalty, logits / penalty),
                             logits)  # fmt: skip
    scores = shape([row.number for row in rows], scores)
    if forced is not None:
        ids = torch.full((len(rows),), forced, device=logits.device)
    else:
        ids = scores.argmax(-1)
        drawn = [place for place, own in enumerate(settings) if own.temperature]
        if drawn:
            index = torch.tensor(drawn, device=logits.device)
            luck = [rows[place].random.random() for place in drawn]
            chances = torch.tensor(luck, dtype=torch.float64, device=logits.device)
            ids[index] = pick(
                scores[index] / heat[index], [settings[place] for place in drawn], chances
            )
    return ids, logits.gather(1, ids[:, None])[:, 0] / heat[:, 0] - total


def pick(scores: Tensor, settings: Sequence[Sampling], chances: Tensor) -> Tensor:
    """A token [B] for each row by inversion: the first, in the order of the ids, up to which the
    probabilities of those that are left sum to more than its share `chances` [B] of them all.

    Args:
        scores: logits divided by the temperature, [B, V].
        settings: what is taken away; see `left`.
        chances: uniform in [0, 1), float64.
    """
    if all(s.top_k == 0 and s.top_p == 1 and s.min_p == 0 for s in settings):
        return _invert(scores.double().softmax(-1), chances)
    weights, places = left(scores, settings)
    places, order = places.sort(-1)
    at = _invert(weights.gather(1, order).double(), chances)
    return places.gather(1, at[:, None])[:, 0]


def _invert(weights: Tensor, chances: Tensor) -> Tensor:
    sums = weights.cumsum(-1)
    place = torch.searchsorted(sums, (chances * sums[:, -1])[:, None], right=True)[:, 0]
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(1)
    return torch.minimum(place, last)


def left(scores: Tensor, settings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """The probabilities [B, C] of candidates, 0 where they were taken away, and their ids [B, C].

    `scores` [B, V] are logits divided by the temperature. As in transformers `top_k` comes first,
    `top_p` counts what `top_k` left, and the likeliest token always stays.
    """
    size = scores.shape[1]
    device = scores.device
    counts = torch.tensor([min(s.top_k or size, size) for s in settings], device=device)
    masses = torch.tensor([s.top_p if s.top_p < 1 else 2.0 for s in settings], device=device)
    shares = torch.tensor([s.min_p for s in settings], device=device)
    whole = counts == size
    most = min(size, LIKELY) if bool(whole.any()) else int(counts.max())
    total = scores.logsumexp(-1)
    while True:
        values, places = scores.topk(most)
        values = values.masked_fill(
            torch.arange(most, device=device) >= counts[:, None], -torch.inf
        )
        sums = torch.where(whole, total, values.logsumexp(-1))
        weights = (values - sums[:, None]).exp()
        before = weights.double().cumsum(-1) - weights
        kept = (before < masses[:, None]) & (weights >= shares[:, None] * weights[:, :1])
        kept[:, 0] = True
        if most == size or not bool((kept[:, -1] & whole).any()):
            return weights * kept, places
        most = size


def _search(
    net: Any, inner: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row], ends: set[int],
    tell: Tell,
) -> None:  # fmt: skip
    """Write the texts of some rows by beam search, which is transformers' own."""
    own = rows[0].sampling
    numbers = list(dict.fromkeys(row.prompt for row in rows))
    device = next(inner.parameters()).device
    ids = torch.tensor([[*prompts[number]] for number in numbers], device=device)
    config = generation_config(
        inner, None, num_beams=own.num_beams, max_new_tokens=max(row.room for row in rows),
        num_return_sequences=own.num_return_sequences, repetition_penalty=own.repetition_penalty,
    )  # fmt: skip
    config.eos_token_id = sorted(ends) or None
    if config.pad_token_id is None:
        config.pad_token_id = min(ends, default=0)
    with quiet():
        written = net.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
    reads = family_of(inner.config).kind == "encoder-decoder"
    begin = 1 if reads else ids.shape[1]
    if not reads and not torch.equal(written[:: own.num_return_sequences, :begin], ids):
        begin = 0  # written from embeddings: the prompt is not among the ids
    for row, line in zip(rows, written[:, begin:].tolist(), strict=True):
        stop = next((place for place, token in enumerate(line) if token in ends), len(line))
        line = line[: stop + 1]
        for token, log_prob in zip(
            line, _scored(net, inner, prompts[row.prompt], line), strict=True
        ):
            if row.finish is None:
                row.take(token, log_prob, ends, tell)
        if row.finish is None:
            row.finish = "length"


def _scored(net: Any, inner: Any, prompt: Sequence[int], written: Sequence[int]) -> list[float]:
    """The log-probability of each token of a text behind its prompt."""
    device = next(inner.parameters()).device
    if family_of(inner.config).kind == "encoder-decoder":
        begun = [start_of(inner), *written[:-1]]
        logits = net(
            input_ids=torch.tensor([[*prompt]], device=device),
            decoder_input_ids=torch.tensor([begun], device=device),
        ).logits
    else:
        logits = net(input_ids=torch.tensor([[*prompt, *written[:-1]]], device=device)).logits
    chosen = torch.tensor(written, device=device)[:, None]
    scores = logits[0, -len(written) :].float().log_softmax(-1)
    return scores.gather(1, chosen)[:, 0].tolist()
