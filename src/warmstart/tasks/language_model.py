"""Raw text: the tokens themselves are what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from warmstart import part
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.windows import document_windows
from warmstart.formatting import counted
from warmstart.metrics.language import DETECTION, TITLES, TextFit
from warmstart.models.architectures import family_of
from warmstart.models.heads import LANGUAGE, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.data.corpus import Documents
    from warmstart.metrics.base import Floats
    from warmstart.models.base import Base
    from warmstart.models.forward import Forward

SHOWN = 400  # characters of a document in the report
FEW = 10
"""Documents below which the intervals are those of windows."""


class LanguageModel(Task):
    """Language modelling: documents are read, and no label is needed."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": ("text", "content", "document", "body", "article", "abstract", "source", "sentence")
    }
    head: ClassVar[Head] = LANGUAGE
    objective: ClassVar[str] = "mlm"
    main_score: ClassVar[str] = "loss"
    default_epochs: ClassVar[int | None] = 1
    reads_documents: ClassVar[bool] = True

    max_length: int = Field(
        default=512, ge=4, description="tokens of a window that is computed at once"
    )
    document: Literal["file", "paragraph", "line"] = Field(
        default="file",
        description="what a document is in plain text: a whole file, what stands between empty "
        "lines, or a line; in a table it is a row",
    )
    documents: Literal["separate", "joined"] = Field(
        default="separate",
        description="in training: windows of one document each, or documents joined into one "
        "stream, where a window may hold several that see each other",
    )
    long: Literal["split", "drop", "crop"] = Field(
        default="split",
        description="a document longer than a window is split into several, dropped, or cropped "
        "to its first window",
    )
    quality: bool = Field(
        default=False,
        description="leave out documents that are hardly text: too short, said again and again, "
        "mostly symbols (the rules of Gopher, each with its reason in the ledger)",
    )
    duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="documents of train that repeat an earlier one, or nearly"
    )
    trained_by: dict[str, Any] = Field(
        default_factory=dict, description="of a trained model: its objective; set by the run"
    )
    covers_text: bool = Field(
        default=False,
        description="of a trained model: whether it predicts every token of a text once, so that "
        "bits per byte are known; set by the run",
    )

    _decodes: bool | None = PrivateAttr(default=None)
    """Whether the base is a decoder; None before it is known."""

    @model_validator(mode="after")
    def _says_what_is_cut(self) -> Self:
        if self.documents == "joined" and self.long != "split":
            raise ValueError(
                f"documents joined makes one stream of them, in which none is too long, so long "
                f"{self.long} means nothing; leave task.long out, or take documents separate"
            )
        return self

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return TITLES if self._predicts_tokens else DETECTION

    @property
    def documents_of(self) -> Documents:
        """How documents are read."""
        from warmstart.data.corpus import Documents

        keeps = self.duplicates == "keep"
        return Documents(self.document, self.roles["text"], self.quality, not keeps)

    @property
    def epoch_score(self) -> str:
        """Minus the loss: higher is better."""
        return "log_likelihood"

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Task:
        """A decoder reads each text as one stream; one that was trained elsewhere predicts every
        token of it."""
        decodes = family_of(config).kind == "decoder"
        elsewhere = decodes and not self.trained_by
        task = self.model_copy(update={"covers_text": True} if elsewhere else {})
        task._decodes = decodes
        return task

    def check_base(self, base: Base, labels: Sequence[str]) -> None:
        """Nothing: which head is trained, and whether there is one, the objective says."""

    def usable(self, table: pa.Table, tokenizer: Any, drop: Drop) -> pa.Table:
        """Without documents that are longer than a window, where `long` drops these."""
        if self.long != "drop":
            return table
        lost = np.zeros(len(table), bool)

        def heard(row: int, tokens: int) -> None:
            lost[row] = True
            drop(row, f"longer than {self.max_length} tokens (task.long is drop)")

        self.encode(table, [], tokenizer, self.max_length, heard)
        return table.take(np.flatnonzero(~lost)) if lost.any() else table

    def forward(self, model: PreTrainedModel) -> Forward:
        """By the fast encoder where masked tokens alone are guessed; what computes a batch in its
        own way needs the model's own forward pass."""
        from warmstart.models.fast.forward import forward_for

        return forward_for(model, fast=type(model).__name__.endswith("ForMaskedLM"))

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        """None: the tokens are the targets."""
        return None

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """The documents in windows; see `document_windows`. Held-out documents, and those of a
        model that is asked, are always read one by one: `for_training` joins them."""
        how: dict[str, Any] = {"long": self.long, "decodes": self._decodes, "on_cut": on_cut}
        return document_windows(table["text"], tokenizer, longest, **how)

    def encode_joined(self, table: pa.Table, tokenizer: Any, longest: int) -> TokenizedDataset:
        """The documents of train as one stream."""
        how: dict[str, Any] = {"joined": True, "decodes": self._decodes}
        return document_windows(table["text"], tokenizer, longest, **how)

    def statistics(self, outputs: Any, examples: Examples) -> Floats:
        """Of each document [n, 4]; see `TextFit`."""
        owner = examples.store.of_row
        assert owner is not None
        return per_document(self.window_statistics(outputs, examples), owner, len(examples.table))

    def window_statistics(self, outputs: Any, examples: Examples) -> Floats:
        """Of each window [n, 4]; a document's bytes are shared out by tokens."""
        store = examples.store
        assert store.of_row is not None
        tokens = np.bincount(store.of_row, store.lengths, minlength=len(examples.table))
        part = store.lengths / np.maximum(tokens, 1)[store.of_row]
        size = byte_lengths(examples.table)[store.of_row] * part
        return np.stack([outputs.nll, outputs.tokens, outputs.hits, size], 1).astype(np.float64)

    @property
    def _predicts_tokens(self) -> bool:
        """Whether its loss is that of tokens, as the baseline's is."""
        name = str(self.trained_by.get("name", "clm"))
        return bool(getattr(part.find("objective", name), "predicts_tokens", True))

    def units_of(self, windows: Floats, examples: Examples) -> Floats:
        """What intervals resample: documents, or, where they are few, windows."""
        owner, documents = examples.store.of_row, len(examples.table)
        assert owner is not None
        return windows if documents < FEW else per_document(windows, owner, documents)

    def score(self, outputs: Any, examples: Examples) -> dict[str, float]:
        sums = self.statistics(outputs, examples).sum(0, keepdims=True)
        figures = {name: float(value[0]) for name, value in self.measure.score(sums).items()
                   if self._predicts_tokens or name != "perplexity"}  # fmt: skip
        return {"log_likelihood": -figures.pop("loss"), **figures}

    @property
    def measure(self) -> TextFit:
        """What its figures are made by."""
        return TextFit(covers_text=self.covers_text)

    def decode(self, outputs: Any, examples: Examples) -> list[Prediction]:
        """Of each text the loss in nats a token; its confidence is the mean probability of a token
        (the geometric one)."""
        rows = self.statistics(outputs, examples)
        losses = rows[:, 0] / np.maximum(rows[:, 1], 1)
        return [Prediction(str(i), float(f"{loss:.6g}"), float(np.exp(-loss)))
                for i, loss in enumerate(losses)]  # fmt: skip

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The loss of each text, in nats a token."""
        return {"loss": column([answer.value for answer in answers], "float64")}

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, measure = examples["test"], self.measure
        windows, owner = self.window_statistics(outputs["test"], test), test.store.of_row
        assert owner is not None
        rows = per_document(windows, owner, len(test.table))
        losses = rows[:, 0] / np.maximum(rows[:, 1], 1)
        few = len(rows) < FEW
        texts = [shortened(text, SHOWN) for text in test.table["text"].to_pylist()]
        columns = {"text": column(texts, "string"), "loss": losses, "tokens": rows[:, 1],
                   "bytes": rows[:, 3]}  # fmt: skip
        table = prediction_table(test.table, columns)
        mistakes = list_mistakes(
            table, np.argsort(-losses, kind="stable"),
            lambda row: {"text": texts[row], "label": "", "prediction": f"{losses[row]:.3f}"},
        )  # fmt: skip

        def of_baseline(rates: Floats) -> Floats:
            """Statistics of a baseline, which gives the nats of a token of each window, and the
            share that it tells rightly."""
            others = windows.copy()
            others[:, [0, 2]] = rates * windows[:, [1]]
            return others if few else per_document(others, owner, len(rows))

        notes = [
            f"Only {counted(len(rows), 'document')}, so the intervals are those of "
            f"{counted(len(windows), 'window')}, and speak of texts of this kind alone."
        ]
        detects = "detection" in outputs
        sections = {"sections": [_detection(outputs["detection"], windows)]} if detects else {}
        return TaskResult(
            measure=measure, statistics=windows if few else rows, score=of_baseline, table=table,
            mistakes=mistakes, baselines=("unigram",) if self._predicts_tokens else (),
            notes=notes if few else (),
            facts={"unit": "nats a token", "epoch_score": "Minus the loss",
                   "row_name": "held-out document" if "train" in examples else "document",
                   "mistakes_lead": "The documents that surprise the model most, in nats a token.",
                   **sections},
        )  # fmt: skip


def _detection(figures: Floats, windows: Floats) -> Mapping[str, Any]:
    """A section of the report: what the generator put in, and how well it was told apart; `figures`
    as `ReplacedToken.judged` has them."""
    changed, whole, nats, hidden = figures.sum(0)
    rate = min(max(changed / max(whole, 1), 1e-12), 1 - 1e-12)
    chance = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
    loss, right = windows[:, 0].sum() / windows[:, 1].sum(), windows[:, 2].sum()
    return {
        "title": "Detector and generator",
        "lead": "The model that is kept is the detector. Who knows only how often a token is "
        "replaced has the entropy of that share as the loss, and is right wherever it says "
        "“original”.",
        "columns": ["figure", "value"],
        "rows": [
            ["detector's loss, nats a token", f"{loss:.4f}"],
            ["entropy of the share of replaced tokens", f"{chance:.4f}"],
            ["tokens that the detector told rightly", f"{right / windows[:, 1].sum():.2%}"],
            ["tokens that are original", f"{1 - rate:.2%}"],
            ["generator's loss, nats a hidden token", f"{nats / max(hidden, 1):.4f}"],
        ],
    }


def per_document(windows: Floats, owner: np.ndarray, documents: int) -> Floats:
    """Statistics of windows [w, S] summed by document [n, S]."""
    sums = np.zeros((documents, windows.shape[1]))
    np.add.at(sums, owner, windows)
    return sums


def byte_lengths(table: pa.Table) -> np.ndarray:
    """UTF-8 bytes of each text [n]."""
    import pyarrow.compute

    counts: Any = pyarrow.compute
    return np.asarray(counts.binary_length(table["text"]), np.float64)
