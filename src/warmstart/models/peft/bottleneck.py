"""Bottleneck adapters as a method of PEFT, which has none: `PeftModel` loads and saves them.

An adapter follows a layer: y + up(act(down(y))), with `up` zero at the beginning, so that nothing
changes before training. Importing this module tells PEFT about them.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP"; Pfeiffer et al. 2020,
"AdapterFusion" (one adapter a block, behind the feed-forward part).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType, register_peft_method
from torch import Tensor, nn

NAME = "BOTTLENECK"
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass
class BottleneckConfig(PeftConfig):
    """What `adapter_config.json` says of a bottleneck adapter.

    Args:
        target_modules: the layers that an adapter follows.
        size: width of the bottleneck.
        activation: gelu, relu, silu or tanh.
        dropout: on the input of the adapter.
        modules_to_save: trained and saved whole, such as the head.
    """

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    size: int = 32
    activation: str = "gelu"
    dropout: float = 0.0
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType(NAME)
        if isinstance(self.target_modules, list):
            self.target_modules = sorted(self.target_modules)


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A layer, and the adapters that may follow it."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_act", "bottleneck_dropout")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.bottleneck_act, self.bottleneck_dropout = nn.ModuleDict(), nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that changes nothing yet."""
        width = _width(self.get_base_layer())
        down, up = nn.Linear(width, config.size), nn.Linear(config.size, width)
        nn.init.normal_(down.weight, std=width**-0.5)
        for weights in (down.bias, up.weight, up.bias):
            nn.init.zeros_(weights)
        self.bottleneck_down[adapter_name], self.bottleneck_up[adapter_name] = down, up
        self.bottleneck_act[adapter_name] = ACTIVATIONS[config.activation]()
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                inside = self.bottleneck_down[name](self.bottleneck_dropout[name](y))
                y = y + self.bottleneck_up[name](self.bottleneck_act[name](inside)).to(y.dtype)
        return y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError("a bottleneck adapter is not linear: it cannot be merged into a weight")


class BottleneckModel(BaseTuner):
    """Puts bottleneck adapters behind the target modules."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012

    def _create_and_replace(
        self, peft_config, adapter_name, target, target_name, parent, current_key,
        parameter_name=None,
    ) -> None:  # fmt: skip
        settings: Any = peft_config
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, settings)
            return
        layer = BottleneckLayer(target, adapter_name, settings)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def _width(layer: nn.Module) -> int:
    """The width of what a layer gives."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    weight: Any = layer.weight
    return int(weight.shape[-1])  # a Conv1D keeps [in, out], a norm [width]


def register() -> None:
    """Tell PEFT; once."""
    if NAME not in PeftType.__members__:
        member: Any = str.__new__(PeftType, NAME)
        member._name_ = member._value_ = NAME
        member._sort_order_ = len(PeftType.__members__)
        type.__setattr__(PeftType, NAME, member)
        PeftType._member_names_.append(NAME)
        PeftType._member_map_[NAME] = member
        PeftType._value2member_map_[NAME] = member
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    if NAME not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(
            name=NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel
        )


register()
