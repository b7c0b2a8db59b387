"""The table of names holds for the models that transformers builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from learning import load_classifier
from tiny import CONFIGS
from warmstart.errors import BaseModelError
from warmstart.models import architectures as families
from warmstart.models import base as catalog
from warmstart.models.architectures import FAMILIES, family_of
from warmstart.models.modules import head_names, match_modules, norm_names

CLASSIFIERS = [name for name in FAMILIES if name != "pegasus"]


def test_every_family_has_a_tiny_model() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_names_are_those_of_the_model(name: str, tiny_of: Callable[[str], Path]) -> None:
    base = catalog.resolve(str(tiny_of(name)))
    model = load_classifier(base, ["a", "b", "c"], seed=0)
    family = family_of(model.config)
    body = families.body_of(model)
    assert len(families.layers_of(model)) == (4 if family.decoder_layers else 2)
    heads = {name.split(".")[0] for name in family.head_modules} - {family.body}
    children = {name for name, child in model.named_children() if list(child.parameters())}
    assert children == heads | {family.body}
    assert model.get_submodule(family.output).weight.shape[0] == 3
    for path in family.head_modules:
        model.get_submodule(path)
    linear = [path for path, _ in body.named_modules()]
    for ending in family.attention_modules:
        assert any(path.endswith(f".{ending}") for path in linear)
    blocks = len(families.layers_of(model))
    assert bool(match_modules(model, family.keys_values)) == (name != "xlnet")
    assert len(match_modules(model, family.feed_forward_out)) == blocks
    cross = blocks // 2 if family.decoder_layers else 0
    assert len(match_modules(model, family.attention_out)) == blocks + cross
    assert norm_names(model) and head_names(model) == list(family.head_modules)
    for dropout in family.dropouts:
        assert hasattr(model.config, dropout)


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if FAMILIES[n].post_norm_block])
def test_post_norm_block(name: str, tiny_of: Callable[[str], Path]) -> None:
    """The named modules, put together as Vaswani et al. (2017) did, are the whole block."""
    model = load_classifier(catalog.resolve(str(tiny_of(name))), ["a", "b"], seed=0)
    block, config = families.layers_of(model)[0], model.config
    part = {key: block.get_submodule(path) for key, path in FAMILIES[name].post_norm_block.items()}
    x = torch.randn(2, 5, config.hidden_size)

    def heads(key: str) -> torch.Tensor:
        return part[key](x).unflatten(-1, (config.num_attention_heads, -1)).transpose(1, 2)

    attended = torch.nn.functional.scaled_dot_product_attention(
        heads("query"), heads("key"), heads("value")
    )
    y = part["attention_norm"](x + part["attention_out"](attended.transpose(1, 2).flatten(2)))
    z = part["output_norm"](y + part["down"](torch.nn.functional.gelu(part["up"](y))))
    given = block(x)
    torch.testing.assert_close(given[0] if isinstance(given, tuple) else given, z)


def test_first_position_of_roberta() -> None:
    assert family_of({"model_type": "roberta", "pad_token_id": 1}).position_offset == 2
    assert family_of({"model_type": "xlm-roberta", "pad_token_id": 0}).position_offset == 1
    assert family_of({"model_type": "bert", "pad_token_id": 0}).position_offset == 0


def test_unknown_architecture() -> None:
    with pytest.raises(BaseModelError, match=r"'robertta' is not supported. Did you mean 'robert"):
        family_of({"model_type": "robertta"})
