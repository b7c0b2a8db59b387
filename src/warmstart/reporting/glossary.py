"""What the figures of a report mean, for those who do not know them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Term:
    """A word and what it means; `names` are the titles of such figures, * for any end."""

    title: str
    text: str
    names: Sequence[str]
    anchor: str = ""


TERMS = (
    Term(
        "Macro-F1",
        "F1 joins two questions about a class: of the rows given this label, how many have it "
        "(precision), and of the rows that have it, how many were found (recall). Macro-F1 is the "
        "plain mean over the classes in the test rows, so that a rare class counts as much as a "
        "common one. 1 is perfect. A “point” is a hundredth.",
        ["macro-F1", "F1, mean of the labels"],
        "macro-f1",
    ),
    Term(
        "Weighted F1",
        "The same mean, but each class counts by its number of rows.",
        ["weighted F1"],
    ),
    Term(
        "Micro-F1, F1 of the rows",
        "Micro-F1 counts every label of every row alike, so that common labels weigh most. The "
        "mean of the rows is F1 within each row, a row without labels being right where none is "
        "given.",
        ["micro-F1", "F1, mean of the rows"],
    ),
    Term(
        "Rows without a fault",
        "The share of rows all of whose labels are right, none missing and none too many.",
        ["rows without a fault"],
    ),
    Term(
        "Ranking precision",
        "Labels put in order by their probability: how many of those at or above a true label are "
        "true, on average. It does not depend on the thresholds; 1 is a perfect order.",
        ["ranking precision"],
    ),
    Term(
        "Entity F1, precision, recall",
        "An entity is right if its words and its type are. Precision: of the entities that it "
        "named, how many are right. Recall: of those that are there, how many it found. F1 joins "
        "the two; the mean of the types counts a rare type as much as a common one. A “point” is "
        "a hundredth.",
        ["entity F1", "F1, mean of the types"],
    ),
    Term(
        "Accuracy",
        "The share that is right. With one very common class it looks good for doing nothing; "
        "compare it with “always the commonest class”.",
        ["accuracy"],
    ),
    Term(
        "Matthews correlation (MCC)",
        "Correlation between truth and answer: 1 is perfect, 0 is guessing, whatever the sizes of "
        "the classes.",
        ["Matthews*"],
    ),
    Term(
        "Spearman correlation",
        "Are the answers in the right order? 1: in the same order as the true numbers, 0: in none, "
        "-1: the other way round. How far apart they are does not count.",
        ["Spearman*"],
    ),
    Term(
        "Pearson correlation",
        "Do the answers lie on a straight line over the true numbers? 1: on a rising one, 0: on "
        "none. Neither the unit nor a constant error counts.",
        ["Pearson*"],
    ),
    Term(
        "R²",
        "How much of the differences between the true numbers is explained: 1 is all, 0 as much as "
        "always saying their mean explains, below 0 is worse than that.",
        ["R²"],
    ),
    Term(
        "Mean absolute and mean squared error",
        "How far the answers are from the true numbers, in their unit; and the mean of the squares "
        "of that, where large errors weigh most.",
        ["mean absolute error", "mean squared error"],
    ),
    Term(
        "Token F1",
        "The words of the answer beside those of the true one: which share of the given words is "
        "right, which share of the true ones was given, and F1 joins the two. Case, punctuation "
        "and articles do not count; of several true answers the nearest does. A “point” is a "
        "hundredth.",
        ["F1", "F1, answerable"],
    ),
    Term(
        "Exact match",
        "The share of answers that are the true one, or one of the true ones, word for word.",
        ["exact match"],
    ),
    Term(
        "nDCG@k",
        "Among the first k that were found, how much is right, and how far up? Each right one "
        "counts less the lower it stands; 1 is the best order there can be.",
        ["nDCG*"],
    ),
    Term(
        "MRR",
        "Mean reciprocal rank: 1 where the first that was found is right, a half where the second "
        "is the first right one, a third where the third is, and so on; the mean of that.",
        ["MRR"],
    ),
    Term(
        "Mean average precision",
        "At each right one among those found, the share of right ones down to it; the mean of "
        "that.",
        ["mean average precision"],
    ),
    Term(
        "Recall@k",
        "Of what is right for a text, the share among the first k that were found.",
        ["recall@*"],
    ),
    Term(
        "BLEU",
        "Which share of the runs of one to four words in the answers also stands in the "
        "references, with a penalty for answers that are too short. From 0 to 100, over all rows "
        "at once; compare it only where the signature is the same.",
        ["BLEU"],
    ),
    Term(
        "chrF",
        "The same idea with runs of one to six characters, so that other forms of a word count in "
        "part; what is found counts more than what is right. From 0 to 100.",
        ["chrF"],
    ),
    Term(
        "ROUGE",
        "The words that answer and reference share: single ones (ROUGE-1), pairs (ROUGE-2), the "
        "longest run in the same order, with gaps (ROUGE-L), and that sentence by sentence "
        "(-Lsum). It counts words, not truth. 1 is the reference itself.",
        ["ROUGE-*"],
    ),
    Term(
        "Length, repeated word pairs, empty answers",
        "Words of the answers for each word of the references; the share of word pairs that stood "
        "in the same answer before; the share of answers without a word.",
        ["length beside the reference", "repeated word pairs", "empty answers"],
    ),
)


def terms(titles: Mapping[str, str]) -> list[Term]:
    """What explains the figures that have these titles."""
    return [
        term
        for term in TERMS
        if any(fnmatchcase(title, name) for name in term.names for title in titles.values())
    ]
