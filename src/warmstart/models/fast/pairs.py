"""Two answers to one prompt under a decoder: the prompt is computed once for both.

A row is [prompt | first answer | second answer]. An answer sees the prompt and itself, never the
other, and the positions of both begin where the prompt ends, so that each token has what it would
have in a row of its own. Whether a model can be computed so is tried (`shares_prompts`); where it
cannot (a mask of its own, positions that it counts itself), every answer has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import pad_rows
from warmstart.models.fast.loss import target_nll
from warmstart.models.head_layers import unwrap
from warmstart.models.peft.prompts import is_prompted

if TYPE_CHECKING:
    from warmstart.models.forward import Forward

CLOSE = 1e-4
TRIED = ([5, 3, 4, 6, 3], [4, 3], [6, 5, 3, 4])
"""A prompt and two answers by which a model is tried."""
PADDING = -1
"""The part of a row that is padding; 0 is the prompt, 1 and 2 are its answers."""

Pair = Sequence[np.ndarray]
"""The token ids of a prompt, and of its answers."""


def pair_inputs(
    pairs: Sequence[Pair], pad: int, device: torch.device, *, shared: bool
) -> dict[str, Any]:
    """What `answer_log_probs` reads, for n prompts with K answers each, none of them empty.

    ids [B, L] and lengths [B]; for each of the T tokens of all answers the row and place of the
    token before it, the token itself, and the number of its answer, i K + k, [T]; of rows that
    share a prompt also positions and segments [B, L]. prompts is n, sizes [n, K] are the tokens of
    the answers.
    """
    rows, positions, parts = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    before: list[np.ndarray] = []
    for prompt, *answers in pairs:
        joined, spots, kinds = [prompt], [np.arange(len(prompt))], [np.zeros(len(prompt), int)]
        for part, answer in enumerate(answers, 1):
            if not shared:
                joined = [prompt]
            first, inner = sum(map(len, joined)), len(answer) - 1
            places = np.concatenate([[len(prompt) - 1], np.arange(first, first + inner)])
            before.append(np.stack([np.full(len(answer), len(rows)), places, answer]))
            joined.append(answer[:-1])
            spots.append(len(prompt) + np.arange(inner))
            kinds.append(np.full(inner, part))
            if not shared or part == len(answers):
                rows.append(np.concatenate(joined))
        positions.append(np.concatenate(spots))
        parts.append(np.concatenate(kinds))
    sizes = np.array([own.shape[1] for own in before])
    owner = np.repeat(np.arange(len(before)), sizes)
    row, place, token = np.concatenate(before, 1)
    arrays = {
        "ids": pad_rows(rows, pad)[0], "lengths": np.array([len(row) for row in rows]),
        "row": row, "place": place, "token": token, "owner": owner,
        "sizes": sizes.reshape(len(pairs), -1),
    }  # fmt: skip
    if shared:
        arrays["positions"] = pad_rows(positions, 0)[0]
        arrays["segments"] = pad_rows(parts, PADDING)[0]
    sent = {name: torch.from_numpy(np.ascontiguousarray(a, np.int64)).to(device)
            for name, a in arrays.items()}  # fmt: skip
    return {**sent, "prompts": len(pairs)}


def pair_mask(segments: Tensor) -> Tensor:
    """What each token sees [B, 1, L, L], 0 where it does and very low where not: what stands before
    it in its own segment and in the prompt; padding sees itself."""
    places = torch.arange(segments.shape[1], device=segments.device)
    before = places[:, None] >= places
    alike = (segments[:, :, None] == segments[:, None]) | (segments[:, None] == 0)
    seen = (before & alike & (segments[:, None] != PADDING)) | (places[:, None] == places)
    lowest = torch.finfo(torch.bfloat16).min  # finite in every type
    return torch.where(seen, 0.0, lowest)[:, None]


def answer_states(forward: Forward, inputs: Mapping[str, Any]) -> Any:
    """What stands before the logits of each token of the answers [T, H], or the logits [T, V]."""
    ids, shared = inputs["ids"], "segments" in inputs
    columns = torch.arange(ids.shape[1], device=ids.device)
    mask = (
        pair_mask(inputs["segments"]) if shared else (columns < inputs["lengths"][:, None]).long()
    )
    named = {"position_ids": inputs["positions"]} if shared else {}
    outputs = forward.language.forward(ids, mask, training=forward.training, **named)
    at = inputs["row"], inputs["place"]
    return outputs[at] if isinstance(outputs, Tensor) else outputs.at(at)


def answer_log_probs(forward: Forward, inputs: Mapping[str, Any]) -> Tensor:
    """The summed log-probability of each answer behind its prompt [n, K], in float32."""
    nll, owner = target_nll(answer_states(forward, inputs), inputs["token"]), inputs["owner"]
    sums = nll.new_zeros(int(owner[-1]) + 1).index_add(0, owner, -nll)
    return sums.view(inputs["prompts"], -1)


TRIED_IN_VAIN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError,
                 NotImplementedError)  # fmt: skip
"""What models of other kinds raise at a mask or positions of ours."""


def shares_prompts(forward: Forward, longest: int) -> bool:
    """Whether rows of at most so many tokens that share a prompt give what single rows do, tried on
    one in float32."""
    model: Any = forward.model
    config: Any = unwrap(model).config
    window = getattr(config, "sliding_window", None)
    if is_prompted(model) or (window and longest > window):
        return False
    pair = [np.array(row) % config.vocab_size for row in TRIED]
    training, dtype = forward.training, forward.dtype
    forward.training, forward.dtype = False, torch.float32
    try:
        with torch.no_grad():
            alone, together = (
                answer_log_probs(forward, pair_inputs([pair], 0, forward.device, shared=way))
                for way in (False, True)
            )
    except TRIED_IN_VAIN:
        return False
    finally:
        forward.training, forward.dtype = training, dtype
    return bool(torch.allclose(alone, together, atol=CLOSE, rtol=CLOSE))
