"""What a model answers with: one frozen record for each kind of head.

Everything that depends on the kind of head stands here, and nowhere else is it asked for by name:
which class of transformers carries it, what PEFT and the hub call it, what it reads, what its
outputs mean, and how a person says what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from warmstart.errors import BaseModelError
from warmstart.metrics.base import softmax
from warmstart.models.architectures import family_of
from warmstart.models.hf_calls import LOAD, one_line, quiet

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
Activation = Literal["softmax", "sigmoid", "identity"]


@dataclass(frozen=True, slots=True)
class Head:
    """A kind of head.

    Args:
        name: the word for it, as in `warmstart.json` and `Objective.heads`.
        auto: transformers' Auto class that loads it.
        endings: how the names of the classes that carry it end.
        what: what it is called in messages.
        hub_tag: the hub's name for the task.
        peft_task: PEFT's task type.
        task: the task of a saved model that says nothing but its head.
        does: what it does with `{one}` text, for people.
        reads: what it reads of the body: one pooled state, every token's, or all of them to give
            logits over the vocabulary (of an answer, or of the row itself) or a vector.
        activation: what turns its outputs into probabilities or values.
        problem_type: of the config, where the class serves several heads.
        labelled: whether the labels of the task stand in the config.
        outputs: outputs of a head whose number the labels do not give.
        pipeline: transformers' pipeline that answers for a single text as we do, if one does.
        answers_file: where the answers of a whole file go, as an example.
        row_unit: what a row of the batches is called.
    """

    name: str
    auto: str
    endings: tuple[str, ...]
    what: str
    hub_tag: str
    peft_task: str
    task: str
    does: str
    reads: Literal["pooled", "tokens", "vocabulary", "itself", "body"]
    activation: Activation = "identity"
    problem_type: Problem | None = None
    labelled: bool = False
    outputs: int | None = None
    pipeline: str | None = None
    answers_file: str = "answered.csv"
    row_unit: str = "rows"

    @property
    def single_label(self) -> bool:
        """Whether a row has exactly one of several classes."""
        return self.problem_type == "single_label_classification"

    @property
    def per_token(self) -> bool:
        """Whether every token has an output of its own."""
        return self.reads == "tokens"

    @property
    def over_tokens(self) -> bool:
        """Whether its outputs are one distribution over the tokens of a row, and not one of each
        token."""
        return self.per_token and not self.labelled

    @property
    def generates(self) -> bool:
        """Whether the answer is a text, token by token."""
        return self.reads == "vocabulary"

    @property
    def states_confidence(self) -> bool:
        """Whether an answer comes with a probability."""
        return not self.gives_vectors and self.problem_type != "regression"

    @property
    def predicts_itself(self) -> bool:
        """Whether the tokens of a row are what is predicted, so that no label is needed."""
        return self.reads == "itself"

    @property
    def gives_vectors(self) -> bool:
        """Whether the answer is the body's own states, pooled."""
        return self.reads == "body"

    @property
    def gives_logits(self) -> bool:
        """Whether a layer of its own turns states into a few outputs for each row or token."""
        return self.reads in ("pooled", "tokens")

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs [..., K] as what they mean, in float64: probabilities, or values as they are."""
        wide = outputs.astype(np.float64)
        if self.activation == "sigmoid":
            return 1.0 / (1.0 + np.exp(-wide))
        if self.activation == "softmax":
            return softmax(outputs)
        return wide

    def auto_for(self, family_kind: str) -> str:
        """The Auto class; a text is written by a causal language model where there is no
        encoder."""
        return self._variant(family_kind).auto

    def class_for(self, config: Any, family: Any) -> Any:
        """The class of transformers for this config. Raises `BaseModelError`."""
        import transformers

        head = self._variant(family.kind)
        classes = getattr(transformers, head.auto)._model_mapping.get(type(config), None)
        if classes is None:
            raise BaseModelError(
                f"transformers has no {head.what} model for '{family.name}'; take another --base "
                "(`warmstart models` lists those that are here) or another task"
            )
        return classes[0] if isinstance(classes, tuple) else classes

    def check(self, folder: Path) -> None:
        """Refuse a base for which transformers has no model with this head; its weights are not
        read. Raises `BaseModelError`."""
        import transformers

        with one_line(f"the config of {folder} cannot be read"), quiet():
            config: Any = transformers.AutoConfig.from_pretrained(folder, **LOAD)
        self.class_for(config, family_of(config))

    def _variant(self, family_kind: str) -> Head:
        if self.predicts_itself and family_kind == "encoder-decoder":
            return TEXT
        writes = self.generates or self.predicts_itself
        return CAUSAL if writes and family_kind == "decoder" else self


CLASSES = Head(
    "classes",
    auto="AutoModelForSequenceClassification",
    endings=("ForSequenceClassification",),
    what="classification",
    hub_tag="text-classification",
    peft_task="SEQ_CLS",
    task="classification",
    does="labels {one}, with confidence",
    reads="pooled",
    activation="softmax",
    problem_type="single_label_classification",
    labelled=True,
    pipeline="text-classification",
)
LABELS = replace(
    CLASSES, name="labels", problem_type="multi_label_classification", activation="sigmoid",
    task="multilabel", does="gives {one} its labels, with confidence", pipeline=None,
)  # fmt: skip
VALUE = replace(
    CLASSES, name="value", problem_type="regression", activation="identity", task="regression",
    does="gives {one} its number", pipeline=None,
)  # fmt: skip
TOKENS = Head(
    "tokens",
    auto="AutoModelForTokenClassification",
    endings=("ForTokenClassification",),
    what="token-classification",
    hub_tag="token-classification",
    peft_task="TOKEN_CLS",
    task="tagging",
    does="labels the words of {one}, with confidence",
    reads="tokens",
    activation="softmax",
    labelled=True,
)
SPAN = Head(
    "span",
    auto="AutoModelForQuestionAnswering",
    endings=("ForQuestionAnswering", "ForQuestionAnsweringSimple"),
    what="question-answering",
    hub_tag="question-answering",
    peft_task="QUESTION_ANS",
    task="extractive_qa",
    does="answers a question from a passage, with confidence",
    reads="tokens",
    outputs=2,
    row_unit="windows",
)
TEXT = Head(
    "text",
    auto="AutoModelForSeq2SeqLM",
    endings=("ForConditionalGeneration",),
    what="text-to-text",
    hub_tag="text2text-generation",
    peft_task="SEQ_2_SEQ_LM",
    task="text2text",
    does="writes the answer to {one}, with confidence",
    reads="vocabulary",
)
CAUSAL = replace(
    TEXT,
    auto="AutoModelForCausalLM",
    endings=("LMHeadModel", "ForCausalLM"),
    what="language",
    peft_task="CAUSAL_LM",
)
LANGUAGE = Head(
    "language",
    auto="AutoModelForMaskedLM",
    endings=("ForMaskedLM",),
    what="masked language",
    hub_tag="fill-mask",
    peft_task="FEATURE_EXTRACTION",
    task="language_model",
    does="says how likely {one} is",
    reads="itself",
    answers_file="scored.csv",
    row_unit="windows",
)
PRETRAINING = replace(
    LANGUAGE, auto="AutoModelForPreTraining", endings=("ForPreTraining",), what="pretraining",
)  # fmt: skip
VECTOR = Head(
    "vector",
    auto="AutoModel",
    endings=("Model",),
    what="base",
    hub_tag="sentence-similarity",
    peft_task="FEATURE_EXTRACTION",
    task="embedding",
    does="gives {one} its vector",
    reads="body",
    answers_file="vectors.parquet",
)

HEADS: Mapping[str, Head] = {
    head.name: head for head in (CLASSES, LABELS, VALUE, TOKENS, SPAN, TEXT, LANGUAGE, VECTOR)
}
VARIANTS = (CLASSES, TOKENS, SPAN, TEXT, CAUSAL, LANGUAGE, PRETRAINING, VECTOR)
"""One record for each class of transformers that carries a head; `VECTOR` fits every name that no
other fits."""


def carried_by(class_name: str) -> Head | None:
    """The record whose classes' names end as this one."""
    return next((head for head in VARIANTS if class_name.endswith(head.endings)), None)


def head_of(config: Mapping[str, Any]) -> Head | None:
    """The head of a saved model by its `config.json`; None where it says nothing that is known."""
    for name in config.get("architectures") or []:
        head = carried_by(str(name))
        if head is not None and head.problem_type:
            problem = config.get("problem_type")
            return next((h for h in HEADS.values() if problem and h.problem_type == problem), head)
        if head is not None:
            return HEADS[head.name]
    return None
