"""The classification head of a family as a function of the hidden state that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from warmstart.models.families import family_of, layers_of
from warmstart.models.quiet import seeded
from warmstart.models.targets import head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKEN_HEADS = ("ForTokenClassification", "ForQuestionAnswering", "ForQuestionAnsweringSimple")


def unwrap(model: Any) -> PreTrainedModel:
    """The transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def reads_tokens(model: Any) -> bool:
    """Whether the head answers for every token."""
    return type(unwrap(model)).__name__.endswith(TOKEN_HEADS)


def head_logits(model: PreTrainedModel, first: Tensor) -> Tensor:
    """Logits as transformers computes them: [B, K] from the first token's hidden state [B, H], or
    [B, L, K] from every token's [B, L, H]."""
    inner: Any = unwrap(model)
    if reads_tokens(inner):
        hidden = inner.dropout(first) if hasattr(inner, "dropout") else first
        return (inner.qa_outputs if hasattr(inner, "qa_outputs") else inner.classifier)(hidden)
    name = family_of(inner.config).name
    if name == "bert":
        return inner.classifier(inner.dropout(inner.bert.pooler(first[:, None])))
    if name == "distilbert":
        return inner.classifier(inner.dropout(torch.relu(inner.pre_classifier(first))))
    return inner.classifier(first[:, None])


def head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that make up the head."""
    return [model.get_submodule(name) for name in head_names(model)]


def begin_head(model: PreTrainedModel, seed: int) -> None:
    """Fresh weights for the whole head, its inner layers included: normal(0, 0.02), no bias."""
    with seeded(seed), torch.no_grad():
        for module in head_modules(model):
            for weights in module.parameters():
                weights.normal_(0.0, 0.02) if weights.ndim > 1 else weights.zero_()


def set_head_dropout(model: PreTrainedModel, p: float) -> None:
    """The dropout probability in the head, in the config and in the modules."""
    family, config = family_of(model.config), model.config
    for name in ("classifier_dropout", "seq_classif_dropout"):
        if name in family.dropouts:
            setattr(config, name, p)
    heads = [*head_modules(model), getattr(model, "dropout", None)]
    for module in heads:
        for part in module.modules() if module is not None else ():
            if isinstance(part, nn.Dropout):
                part.p = p


def adapter_targets(model: PreTrainedModel, which: str) -> list[str]:
    """Full names of the linear layers inside the blocks that an adapter changes."""
    family = family_of(model.config)
    blocks = {id(module) for block in layers_of(model) for module in block.modules()}
    linear = [
        name
        for name, module in model.named_modules()
        if id(module) in blocks and (isinstance(module, nn.Linear) or _is_conv1d(module))
    ]
    if which == "all":
        return linear
    ends = family.attention_modules
    return [name for name in linear if name.rpartition(".")[2] in ends] or linear


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
