"""A frozen base in 8 or 4 bits: rounded weights that are spread out again when they are used.

8 bits: one scale for each row, values rounded to [-127, 127]. 4 bits: the 16 levels of NormalFloat
(Dettmers et al. 2023, "QLoRA", appendix E), one scale for each 64 values, two values in a byte.
Plain torch, on every device; rounding is deterministic, so that a base that is loaded again and
rounded again is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warmstart.models.architectures import layers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


class RoundedLinear(nn.Linear):
    """A linear layer whose weight [out, in] is kept in few bits; the bias stays as it is."""

    def __init__(self, layer: nn.Linear, bits: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = layer.in_features, layer.out_features, bits
        self.register_parameter("bias", layer.bias)
        weight = layer.weight.data.float()
        if bits == 8:
            scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            codes = (weight / scales).round().to(torch.int8)
        else:
            flat = weight.flatten()
            flat = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
            scales = flat.abs().amax(1, keepdim=True).clamp(min=1e-12)
            levels = torch.tensor(NF4, device=weight.device)
            middles = (levels[1:] + levels[:-1]) / 2
            codes = torch.bucketize(flat / scales, middles).to(torch.uint8)
            codes = (codes[:, 0::2] << 4) | codes[:, 1::2]
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weight in float32, made anew at each call."""
        codes: Any = self.codes
        scales: Any = self.scales
        if self.bits == 8:
            return codes.float() * scales
        levels = torch.tensor(NF4, device=codes.device)
        pairs = torch.stack([codes >> 4, codes & 15], dim=-1).flatten(-2).long()
        flat = (levels[pairs] * scales).flatten()
        return flat[: self.in_features * self.out_features].view(self.out_features, -1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), self.bias)


def quantise(model: PreTrainedModel, bits: int) -> int:
    """Keep the linear layers inside the blocks in `bits` (8 or 4); returns how many there are."""
    plain = [entry for entry in _inside(model) if type(entry[2]) is nn.Linear]
    for parent, name, layer in plain:
        setattr(parent, name, RoundedLinear(layer, bits))
    return len(plain)


def restore(model: PreTrainedModel) -> None:
    """Ordinary layers again, with the rounded weights."""
    for parent, name, layer in _inside(model):
        if isinstance(layer, RoundedLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            plain = plain.to(layer.weight.device)
            plain.weight.data.copy_(layer.weight)
            if layer.bias is not None:
                plain.bias = layer.bias
            setattr(parent, name, plain.requires_grad_(False))


def _inside(model: Any) -> list[tuple[nn.Module, str, nn.Linear]]:
    return [
        (parent, name, child)
        for block in layers_of(model)
        for parent in block.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
