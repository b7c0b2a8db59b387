"""What a model must beat. Tasks name their baselines; each is `fit(train).predict(rows)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.evaluation.baselines.base import Baseline, Untuned
from warmstart.evaluation.baselines.rules import (
    CommonestText,
    Copy,
    DictionaryTags,
    FirstSentence,
    FirstThreeSentences,
    FrequentLabels,
    MajorityClass,
    MajorityTag,
    MeanNumber,
    NoAnswer,
    QuestionSentence,
    QuestionWindow,
)
from warmstart.evaluation.baselines.tfidf import (
    TfidfClasses,
    TfidfCosine,
    TfidfLabels,
    TfidfNumbers,
    TfidfVectors,
)
from warmstart.evaluation.settings import Evaluate
from warmstart.tasks.base import Examples, Task

BASELINES: Mapping[str, type[Baseline]] = {
    "majority_class": MajorityClass,
    "tfidf_classes": TfidfClasses,
    "frequent_labels": FrequentLabels,
    "tfidf_labels": TfidfLabels,
    "mean_number": MeanNumber,
    "tfidf_numbers": TfidfNumbers,
    "tfidf_cosine": TfidfCosine,
    "majority_tag": MajorityTag,
    "dictionary_tags": DictionaryTags,
    "no_answer": NoAnswer,
    "question_sentence": QuestionSentence,
    "question_window": QuestionWindow,
    "first_sentence": FirstSentence,
    "first_three_sentences": FirstThreeSentences,
    "commonest_text": CommonestText,
    "copy": Copy,
    "tfidf_vectors": TfidfVectors,
}
"""The names that `TaskResult.baselines` uses."""


def fit_baselines(
    settings: Evaluate,
    task: Task,
    names: Sequence[str],
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    seed: int,
) -> list[Baseline]:
    """The baselines that can be fitted, in order; `outputs` may have "untuned", those of the base
    before training, on the test rows."""
    train, validation = examples.get("train"), examples.get("validation")
    fitted: list[Baseline] = []
    if settings.baselines and train is not None and len(train):
        for name in names:
            baseline = BASELINES[name](task, settings.baseline_rows, seed)
            if baseline.fit(train, validation):
                fitted.append(baseline)
    if "untuned" in outputs:
        fitted.append(Untuned(outputs["untuned"]))
    return fitted
