"""Bottleneck adapters behave as PEFT's own methods: several on one base, switched, turned off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.utils import PeftType

from learning import base_of, classifier, fit, ready
from warmstart.methods.adapter import Adapter
from warmstart.models import loading as backbone
from warmstart.models.architectures import layers_of
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import quiet
from warmstart.models.peft import bottleneck

Folder = Callable[[str], Path]
IDS, LENGTHS = torch.tensor([[1, 8, 9, 10, 2], [1, 20, 21, 22, 2]]), torch.tensor([5, 5])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return ready(model).logits(IDS, LENGTHS, training=False)


def trained(folder: Path, out: Path, method: Adapter, rate: float) -> tuple[Any, Path]:
    model = method.attach(classifier(folder), 0)
    fit(folder, out / "run", model=model, rows=12, epochs=1, learning_rate=rate).run()
    base = base_of(folder)
    method.save(model, backbone.load_tokenizer(base), out / "model", base)
    return model, out / "model"


def test_registered_once() -> None:
    bottleneck.register()
    assert PeftType("BOTTLENECK") is PeftType.BOTTLENECK  # pyright: ignore[reportAttributeAccessIssue]
    assert list(PeftType).count(PeftType("BOTTLENECK")) == 1


def test_two_on_one_base(tiny_of: Folder, tmp_path: Path) -> None:
    folder = tiny_of("bert")
    one, one_path = trained(folder, tmp_path / "1", Adapter(size=4), 1e-2)
    other, other_path = trained(
        folder, tmp_path / "2", Adapter(size=8, placement="pfeiffer", activation="relu"), 5e-2
    )
    plain = classifier(folder)
    with quiet():
        both: Any = PeftModel.from_pretrained(plain, one_path, adapter_name="one")
        both.load_adapter(other_path, adapter_name="other")
    torch.testing.assert_close(logits(both), logits(one))
    both.set_adapter("other")
    torch.testing.assert_close(logits(both), logits(other))
    assert not torch.allclose(logits(one), logits(other), atol=1e-4)
    with both.disable_adapter():
        torch.testing.assert_close(logits(both), logits(classifier(folder)))
    both.set_adapter("one")
    both.delete_adapter("other")
    torch.testing.assert_close(logits(both), logits(one))


@pytest.mark.parametrize(("placement", "places"), [("houlsby", 2), ("pfeiffer", 1)])
def test_where_they_stand(placement: Any, places: int, tiny_of: Folder) -> None:
    model = unwrap(Adapter(placement=placement, size=5).attach(classifier(tiny_of("bert")), 0))
    for block in layers_of(model):
        names = [
            name
            for name, module in block.named_modules()
            if isinstance(module, bottleneck.BottleneckLayer)
        ]
        assert names == ["attention.output.dense", "output.dense"][-places:]
        layer = block.get_submodule(names[0])
        assert layer.bottleneck_down["default"].weight.shape == (5, 32)


def test_the_formula(tiny_of: Folder) -> None:
    layer = bottleneck.BottleneckLayer(
        torch.nn.Linear(6, 4), "default", bottleneck.BottleneckConfig(size=3, activation="relu")
    )
    torch.nn.init.normal_(layer.bottleneck_up["default"].weight)
    x = torch.randn(2, 6)
    y = layer.base_layer(x)
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    expected = y + torch.relu(y @ down.weight.T + down.bias) @ up.weight.T + up.bias
    torch.testing.assert_close(layer(x), expected)
