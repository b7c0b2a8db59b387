"""Which class of transformers carries which kind of head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from warmstart.errors import BaseModelError

Head = Literal["classes", "labels", "value", "tokens", "span", "text", "vector"]
"""What a model answers with: one of several classes, any of several labels, a number, a class for
every token, the first and last token of a passage, a text, or a vector."""

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A head as transformers knows it."""

    auto: str
    """The Auto class that loads it."""
    mapping: str
    """The table from configs to classes behind that."""
    problem_type: Problem | None = None
    what: str = "classification"


HEADS: Mapping[Head, Kind] = {
    "classes": Kind(
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
        "single_label_classification",
    ),
    "labels": Kind(
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
        "multi_label_classification",
    ),
    "value": Kind(
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
        "regression",
    ),
    "tokens": Kind(
        "AutoModelForTokenClassification",
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
        what="token-classification",
    ),
    "span": Kind(
        "AutoModelForQuestionAnswering",
        "MODEL_FOR_QUESTION_ANSWERING_MAPPING",
        what="question-answering",
    ),
    "text": Kind(
        "AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING", what="text-to-text"
    ),
    "vector": Kind("AutoModel", "MODEL_MAPPING", what="base"),
}
CAUSAL = Kind("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING", what="language")
ENDINGS: Mapping[str, Head] = {
    "ForSequenceClassification": "classes",
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "span",
    "ForQuestionAnsweringSimple": "span",
    "ForConditionalGeneration": "text",
    "LMHeadModel": "text",
    "ForCausalLM": "text",
    "Model": "vector",
}
PROBLEMS: Mapping[str | None, Head] = {
    "multi_label_classification": "labels",
    "regression": "value",
}


def kind_of(head: Head, family_kind: str) -> Kind:
    """The kind of head; a text is written by a causal language model where there is no encoder."""
    return CAUSAL if head == "text" and family_kind == "decoder" else HEADS[head]


def class_for(config: Any, head: Head, family: Any) -> Any:
    """The class of transformers for this config and head. Raises `BaseModelError`."""
    import transformers

    kind = kind_of(head, family.kind)
    found = getattr(transformers, kind.mapping).get(type(config), None)
    if found is None or (kind.what == "classification" and not family.classifies):
        raise BaseModelError(f"transformers has no {kind.what} model for '{family.name}'")
    return found[0] if isinstance(found, tuple) else found


def head_of(config: Mapping[str, Any]) -> Head | None:
    """The head of a saved model by its `config.json`; None where it says nothing that is known."""
    names = [str(name) for name in config.get("architectures") or []]
    for name in names:
        for ending, head in ENDINGS.items():
            if name.endswith(ending):
                return PROBLEMS.get(config.get("problem_type"), head) if head == "classes" else head
    return None
