"""Virtual tokens before the text: their settings, and the answer of a model that has them.

PEFT puts virtual tokens before the padded text. Where the head reads the last position, or the
padding stands on the left, that is not what a single text gets; here the padding never stands
between the virtual tokens and the text, so that an answer does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from warmstart.models.architectures import body_of, family_of, width_of
from warmstart.models.modules import head_names
from warmstart.models.peft.wrap import task_type

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.architectures import Family

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")


def is_prompted(model: Any) -> bool:
    """Whether virtual tokens or prefixes stand before the model's input."""
    configs = getattr(model, "peft_config", None) or {}
    return any(config.is_prompt_learning for config in configs.values())


def answer_of(model: Any, family: Family) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The function from ids [B, L], mask [B, L] and token types [B, L] or None, padded on the
    family's side, to logits; of a span's first and last token [B, L, 2].

    Adapters stand inside the model, which is asked itself: PEFT's wrapper around it drops the
    token types of a question and its passage.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model

    def plain(ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        return _logits(inner(input_ids=ids, attention_mask=mask, **_named(types)), ids.shape[1])

    def prefixed(ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        with _typed(body_of(inner), types):
            return _logits(model(input_ids=ids, attention_mask=mask), ids.shape[1])

    def at_last(ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        embedded, whole, _ = _joined(model, ids, mask, types)
        hidden = body_of(inner)(inputs_embeds=embedded, attention_mask=whole).last_hidden_state
        last = whole.sum(1) - 1
        pooled = hidden[torch.arange(len(ids), device=ids.device), last]
        return inner.get_submodule(family.output)(pooled)

    def joined(ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        embedded, whole, types = _joined(model, ids, mask, types)
        outputs = inner(inputs_embeds=embedded, attention_mask=whole, **_named(types))
        return _logits(outputs, ids.shape[1])

    if not is_prompted(model):
        return plain
    if model.active_peft_config.peft_type == "PREFIX_TUNING":
        return prefixed
    classifies = task_type(inner) == "SEQ_CLS"
    return at_last if family.kind == "decoder" and classifies else joined


def _named(types: Tensor | None) -> dict[str, Tensor]:
    return {} if types is None else {"token_type_ids": types}


@contextmanager
def _typed(body: nn.Module, types: Tensor | None) -> Iterator[None]:
    """Inside, the body reads these token types, whatever the wrapper around it hands on."""

    def hand_on(_: Any, args: Any, named: Any) -> Any:
        return args, {**named, **_named(types)}

    hook = body.register_forward_pre_hook(hand_on, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _logits(outputs: Any, length: int) -> Tensor:
    """Logits [B, K], or [B, L, K] of the tokens behind the virtual ones; both rows of a span."""
    both = hasattr(outputs, "start_logits")
    logits = torch.stack([outputs.start_logits, outputs.end_logits], -1) if both else outputs.logits
    return logits if logits.ndim == 2 else logits[:, -length:]


def _joined(
    model: Any, ids: Tensor, mask: Tensor, types: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Embeddings [B, P + L, E] of virtual tokens and text, the padding outside; their mask and
    their types, 0 of a virtual token."""
    prompt = model.get_prompt(batch_size=len(ids))
    embedded = torch.cat([prompt, model.word_embeddings(ids).to(prompt.dtype)], dim=1)
    virtual = prompt.shape[1]
    before = (mask.cumsum(1) == 0).sum(1, keepdim=True)  # padding on the left
    columns = torch.arange(embedded.shape[1], device=ids.device).expand(len(ids), -1)
    source = torch.where(
        columns < before, columns + virtual, torch.where(columns < before + virtual,
        columns - before, columns),
    )  # fmt: skip
    whole = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, virtual), mask], dim=1)
    if types is not None:
        types = torch.cat([torch.zeros_like(types[:, :1]).expand(-1, virtual), types], dim=1)
        types = types.gather(1, source)
    index = source[..., None].expand(-1, -1, embedded.shape[-1])
    return embedded.gather(1, index), whole.gather(1, source), types


def prompt_settings(model: PreTrainedModel, tokens: int) -> dict[str, Any]:
    """What PEFT's configs of virtual tokens need to know of the model."""
    config: Any = model.config
    family, body = family_of(config), body_of(model)
    embedding: Any = model.get_input_embeddings()
    layers = family.decoder_layers or family.layers
    return {
        "task_type": task_type(model),
        # the whole path: a bare "head" would fit p-tuning's own `mlp_head` too
        "modules_to_save": [f"base_model.{name}" for name in head_names(model)] or None,
        "num_virtual_tokens": tokens,
        "token_dim": int(embedding.weight.shape[1]),
        "num_layers": len(list(body.get_submodule(layers).children())),
        "num_attention_heads": _first(config, HEADS),
    }


def prefix_settings(model: PreTrainedModel, tokens: int) -> dict[str, Any]:
    """As `prompt_settings`, with the width of the keys and values instead of the embedding's."""
    config: Any = model.config
    settings = prompt_settings(model, tokens)
    heads = settings["num_attention_heads"]
    width = width_of(config)
    size = _first(config, ("head_dim", "d_kv")) or width // heads
    heads = _first(config, ("num_key_value_heads",)) or heads
    head = [name.removeprefix("base_model.") for name in settings["modules_to_save"] or ()]
    return settings | {
        "token_dim": heads * size,
        "num_attention_heads": heads,
        "modules_to_save": head or None,
    }


def _first(config: Any, names: tuple[str, ...]) -> int:
    values = (getattr(config, name, None) for name in names)
    return next((int(value) for value in values if isinstance(value, int) and value), 0)
