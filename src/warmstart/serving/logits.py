"""What a request changes in the logits of its texts, and what it wants to know of them: a grammar
that takes tokens away, penalties for those that were there, a bias, the likeliest in each place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import llguidance
import llguidance.hf
import numpy as np

from warmstart.serving.errors import ApiError, unsupported

SCHEMAS = 64
"""Compiled grammars that are kept."""
SPACES: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As `json.dumps` writes; free white space is where small models never come to an end."""


@dataclass(eq=False)
class Shaper:
    """The logits of the texts of one job.

    Args:
        grammar: a matcher for each text, of a schema; or none.
        presence, frequency: subtracted from the logit of a token that was written, once, and for
            each time (OpenAI's penalties).
        bias: added to the logits of tokens.
        top: how many of the likeliest are kept in each place.
        temperature: by which their log-probabilities are divided.
    """

    grammar: Sequence[Any] = ()
    presence: float = 0.0
    frequency: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict[int, float])
    top: int = 0
    temperature: float = 1.0
    _counts: dict[int, Counter[int]] = field(default_factory=dict[int, Counter[int]])
    _likely: dict[int, Sequence[tuple[int, float]]] = field(
        default_factory=dict[int, Sequence[tuple[int, float]]]
    )

    def shape(self, choice: int, logits: Any, place: int) -> None:
        """Change the row `place` of logits [B, V] of a text, before its next token is chosen."""
        row = logits[place]
        if self.top:
            values, ids = (row / self.temperature).log_softmax(-1).topk(min(self.top, len(row)))
            self._likely[choice] = [*zip(ids.tolist(), values.tolist(), strict=True)]
        for token, value in self.bias.items():
            row[token] += value
        for token, count in self._counts.get(choice, {}).items():
            row[token] -= self.presence + count * self.frequency
        if self.grammar:
            _mask(self.grammar[choice], row)

    def take(self, choice: int, token: int) -> Sequence[tuple[int, float]]:
        """Hear which token was chosen; gives the likeliest in its place."""
        if self.presence or self.frequency:
            self._counts.setdefault(choice, Counter())[token] += 1
        if self.grammar:
            self.grammar[choice].consume_token(token)
        return self._likely.pop(choice, ())


def _mask(matcher: Any, row: Any) -> None:
    """Take away the tokens that a grammar does not allow."""
    import torch

    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    allowed = np.unpackbits(bits, bitorder="little")[: len(row)].astype(bool)
    row.masked_fill_(~torch.from_numpy(allowed).to(row.device), -torch.inf)


class Grammars:
    """JSON schemas as matchers over the tokens of one model."""

    def __init__(self, tokenizer: Any, vocabulary: int, end: int | None) -> None:
        self._tokenizer, self._vocabulary, self._end = tokenizer, vocabulary, end
        self._tokens: Any = None
        self._compiled = lru_cache(maxsize=SCHEMAS)(self._compile)

    def matchers(self, schema: Mapping[str, Any], texts: int, param: str) -> list[Any]:
        """One for each of so many texts. Raises `ApiError` for a schema that cannot be kept."""
        matcher = self._compiled(json.dumps(schema), param)
        return [matcher.deep_copy() for _ in range(texts)]

    def _compile(self, schema: str, param: str) -> Any:
        if self._tokens is None:
            try:
                self._tokens = llguidance.hf.from_tokenizer(
                    self._tokenizer, n_vocab=self._vocabulary, eos_token=self._end
                )
            except Exception:  # noqa: BLE001 - a tokenizer that it does not know
                raise unsupported(
                    param, "cannot be kept: the tokenizer of this model does not spell JSON"
                ) from None
        if fault := _fault(json.loads(schema)):
            raise ApiError(400, f"{param}: the schema cannot be used at {fault}",
                           code="invalid_json_schema", param=param)  # fmt: skip
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, SPACES)
        return llguidance.LLMatcher(self._tokens, grammar)


def _fault(schema: Any, path: str = "#") -> str:
    """Where in a schema the smallest part stands that cannot be used; empty: nowhere."""
    text = json.dumps(schema)
    grammar = llguidance.LLMatcher.grammar_from_json_schema(text)
    if not llguidance.LLMatcher.validate_grammar(grammar):
        return ""
    for key, below in _parts(schema):
        if not isinstance(below, dict | bool):
            return f"{path}/{key}"
        if "$ref" not in json.dumps(below) and (fault := _fault(below, f"{path}/{key}")):
            return fault
    return path


def _parts(schema: Any) -> list[tuple[str, Any]]:
    """The schemas in a schema, and the way to each."""
    if not isinstance(schema, dict):
        return []
    parts: list[tuple[str, Any]] = []
    for key in ("properties", "$defs", "definitions"):
        if isinstance(table := schema.get(key), dict):
            parts += [(f"{key}/{name}", below) for name, below in table.items()]
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(several := schema.get(key), list):
            parts += [(f"{key}/{number}", below) for number, below in enumerate(several)]
    return parts + [(key, schema[key]) for key in ("items", "additionalProperties", "not")
                    if key in schema]  # fmt: skip
