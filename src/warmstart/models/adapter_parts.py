"""The tensors of adapters, in a dict or in a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from warmstart.models.adapter_files import AdapterFile

if TYPE_CHECKING:
    from torch import Tensor


def with_parts(model: Any, files: Mapping[str, AdapterFile]) -> Any:
    """PEFT's model with several adapters, their heads left out."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict

    adapted: Any = None
    for name, file in files.items():
        config: Any = PeftConfig.from_pretrained(str(file.folder))
        config.modules_to_save = config.task_type = None
        config.inference_mode = True
        if adapted is None:
            adapted = get_peft_model(model, config, adapter_name=name)
        else:
            adapted.add_adapter(name, config)
        parts = {key: value for key, value in tensors_of(file).items() if file.is_part(key)}
        set_peft_model_state_dict(adapted, parts, adapter_name=name)
    return adapted


def tensors_of(file: AdapterFile) -> dict[str, Tensor]:
    """All tensors of an adapter, in float32."""
    from safetensors.torch import load_file

    return {name: value.float() for name, value in load_file(file.weights).items()}
