"""Which of several texts does a language model find the likeliest? Nothing is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from warmstart.data.cells import parse_cell
from warmstart.data.ledger import place
from warmstart.data.tokens.continuations import Continuations, PseudoLikelihood, TooLong
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.windows import affixes, separator_of
from warmstart.errors import DataError, RecipeError, shown
from warmstart.formatting import counted
from warmstart.metrics.base import softmax
from warmstart.metrics.language import CHOICE_TITLES
from warmstart.models.architectures import Kind, family_of
from warmstart.models.heads import LANGUAGE, PRETRAINING, Head, carried_by
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.choice.results import result_of, scored
from warmstart.tasks.results import TaskResult, column
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["pairs", "choices", "cloze"]
FORMS: Mapping[Form, tuple[str, ...]] = {
    "pairs": ("sentence_good", "sentence_bad"),
    "choices": ("question", "choices", "answer"),
    "cloze": ("prompt", "response"),
}
"""What the columns make of a table; the first that is whole."""
BLANK = re.compile(r"(?<!\w)_+(?!\w)")
SENTINEL = "<extra_id_0>"
OWN = ("contexts", "texts", "right", "form")


class Choice(Task):
    """Evaluation of a language model by likelihoods: of the texts of a row it should find one the
    likeliest (minimal pairs, multiple choice), or write it of its own accord (cloze).

    Log-probabilities are those of a decoder's tokens behind the prefix and the context, of the
    decoder of an encoder-decoder whose encoder reads the context, or the pseudo-log-likelihood of a
    masked model (Salazar et al. 2020).
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "sentence_good": ("sentence_good", "good_sentence"),
        "sentence_bad": ("sentence_bad", "bad_sentence"),
        "question": ("question", "question_stem"),
        "choices": ("choices", "options"),
        "answer": ("answer", "answerkey", "answer_key", "label", "gold"),
        "prompt": ("prompt", "context"),
        "response": ("response", "completion"),
        "phenomenon": ("phenomenon", "linguistics_term", "category", "subject"),
        "paradigm": ("paradigm", "uid"),
    }
    required: ClassVar[frozenset[str] | None] = frozenset()
    inputs: ClassVar[tuple[str, ...]] = ()
    nested: ClassVar[frozenset[str]] = frozenset({"choices"})
    texts: ClassVar[tuple[str, ...]] = ()
    head: ClassVar[Head] = LANGUAGE
    objective: ClassVar[str] = "mlm"
    main_score: ClassVar[str] = "accuracy"
    trains: ClassVar[bool] = False
    metric_titles: ClassVar[Mapping[str, str]] = CHOICE_TITLES
    when_cut: ClassVar[str] = "the beginning of the context was not read"

    normalise: Literal["sum", "token", "byte"] = Field(
        default="sum",
        description="texts are compared by their summed log-probability, or by its mean over "
        "tokens or bytes",
    )
    prefix: str = Field(
        default="auto",
        description="the token that a decoder reads before every text; auto: the one that its "
        "tokenizer puts there, else the one that ends its documents; none: nothing, so that the "
        "first token of a text without context counts nothing",
    )
    template: str = Field(
        default="Question: {question}\\nAnswer:",
        description="what is read before each choice; {question} stands for the question, and \\n "
        "for a new line. A question with a blank (_) is filled in instead",
    )
    pll: PseudoLikelihood = Field(
        default="within_word",
        description="of a masked model: each token is guessed with all others seen (original), or "
        "with those behind it in its own word hidden too (within_word)",
    )
    reads: Kind = Field(
        default="decoder", description="the kind of the model; set where it is opened"
    )
    trained_by: dict[str, Any] = Field(
        default_factory=dict, description="the objective of a pretrained model; set by the run"
    )
    max_length: int = Field(default=65_536, ge=4, description="tokens that the model reads at once")

    @classmethod
    def form_of(cls, columns: Sequence[str]) -> Form | None:
        """What a table of these columns is; None where it is nothing to choose from."""
        known = {name.strip().lower() for name in columns}
        for form, roles in FORMS.items():
            if all(known & set(cls.roles[role]) for role in roles):
                return form
        return None

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Task:
        """With the kind of the model. Raises `RecipeError` for one that gives no likelihoods."""
        family = family_of(config)
        heads = {carried_by(str(name)) for name in config.get("architectures") or []}
        detects = PRETRAINING in heads and family.name == "electra"
        if family.kind == "encoder" and (detects or not heads & {LANGUAGE, PRETRAINING}):
            raise RecipeError(
                f"task choice needs a model that says how likely a token is, and this "
                f"'{family.name}' has no masked-language head; give one with a head of the kind "
                "ForMaskedLM, a decoder or an encoder-decoder"
            )
        return self.model_copy(
            update={"reads": family.kind, "max_length": min(self.max_length, room)}
        )

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """Each row as its contexts and texts (lists as JSON), the number of the right one, and the
        form of the table."""
        form = self.form_of(table.column_names)
        if form is None:
            raise DataError(
                f"{place(table, 0)}: nothing to choose from in the columns "
                f"{', '.join(n for n in table.column_names if n[0] != '_') or '(none)'}; give "
                + " or ".join(" + ".join(roles) for roles in FORMS.values())
                + ", or name them with --data.columns.ROLE NAME"
            )
        read = {"pairs": _pair, "choices": self._choices, "cloze": _cloze}[form]
        made: list[tuple[str, str, str, str]] = []
        kept: list[int] = []
        for number, row in enumerate(table.select([*FORMS[form]]).to_pylist()):
            try:
                contexts, texts, right = read(row)
            except ValueError as error:
                drop(number, str(error))
                continue
            kept.append(number)
            made.append((json.dumps(contexts), json.dumps(texts), str(right), form))
        table = table.take(kept) if len(kept) < len(table) else table
        columns = zip(*made, strict=True) if made else [[] for _ in OWN]
        for name, values in zip(OWN, columns, strict=True):
            table = table.append_column(name, column(list(values), "string"))
        return table.drop_columns([n for n in FORMS[form] if n == "choices"])

    def as_text(self, table: pa.Table) -> pa.ChunkedArray:
        """The contexts and texts, as they are compared."""
        return table["texts"]

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """All candidates, numbered row by row; `of_row` says which of them a row here is of."""
        cells = [json.loads(cell) for cell in table["texts"].to_pylist()]
        owner = [row for row, several in enumerate(cells) for _ in several]
        cut = dict[int, int]()
        texts = Continuations(
            *_candidates(table), tokenizer, longest,
            lambda number, tokens: cut.update({owner[number]: tokens}),
        )  # fmt: skip
        try:
            store = self._encoded(texts, tokenizer)
        except TooLong as error:
            raise DataError(
                f"{place(table, owner[error.number])}: a text of {error.tokens:,} tokens, of which "
                f"the model can read {error.room:,}; shorten it or delete the row"
            ) from None
        if on_cut is not None:
            for row, tokens in cut.items():
                on_cut(row, tokens)
        return store

    def _encoded(self, texts: Continuations, tokenizer: Any) -> TokenizedDataset:
        if self.reads == "decoder":
            return texts.behind_prefix(self.prefix_ids(tokenizer))
        if self.reads == "encoder":
            if tokenizer.mask_token_id is None:
                raise RecipeError("the tokenizer of this model has no mask_token; give another")
            return texts.masked(int(tokenizer.mask_token_id), self.pll)
        return texts.beside_encoder(self._sentinel(tokenizer))

    def prefix_ids(self, tokenizer: Any) -> list[int]:
        """The tokens that a decoder reads before every text. Raises `RecipeError`."""
        if self.prefix == "none":
            return []
        if self.prefix == "auto":
            before, _ = affixes(tokenizer)
            return before or [separator_of(tokenizer)]
        token = tokenizer.get_vocab().get(self.prefix)
        if token is None:
            raise RecipeError(
                f"task.prefix {shown(self.prefix, 40)} is no token of this tokenizer; give one of "
                f"{', '.join(tokenizer.all_special_tokens)}, auto or none"
            )
        return [int(token)]

    def _sentinel(self, tokenizer: Any) -> int | None:
        """What stands for the missing text, where the model was pretrained so."""
        if self.trained_by.get("name") != "span_corruption":
            return None
        return int(tokenizer.convert_tokens_to_ids(SENTINEL))

    def _choices(self, row: Mapping[str, Any]) -> tuple[list[str], list[str], int]:
        question, cell = str(row["question"] or "").strip(), parse_cell(row["choices"])
        names = list[str]()
        if isinstance(cell, Mapping):  # as ARC stands on the hub
            names = [str(name) for name in cell.get("label", [])]
            cell = cell.get("text")
        if not isinstance(cell, list) or len(cell) < 2:
            raise ValueError("choices is no list of two texts or more")
        choices = [str(choice or "").strip() for choice in cell]
        if not all(choices):
            raise ValueError("an empty choice")
        right = _answer(str(row["answer"] or "").strip(), choices, names)
        blanks = BLANK.findall(question)
        if len(blanks) == 1:
            before, after = BLANK.split(question)
            if not after.strip():
                return (
                    [before.rstrip()] * len(choices),
                    [_behind(before, c) for c in choices],
                    right,
                )
            return [before + choice for choice in choices], [after] * len(choices), right
        context = self.template.replace("\\n", "\n").replace("{question}", question)
        return [context.rstrip()] * len(choices), [f" {choice}" for choice in choices], right

    def decode(self, outputs: Any, examples: Examples) -> list[Prediction]:
        """The likeliest text of each row; its confidence is its share of the probability."""
        candidates, rows = scored(outputs, examples), list[Prediction]()
        values = candidates.by_row(candidates.values(self.normalise))
        for number, (own, cell) in enumerate(
            zip(values, examples.table["texts"].to_pylist(), strict=True)
        ):
            text = json.loads(cell)[int(own.argmax())].strip()
            rows.append(Prediction(str(number), text, float(softmax(own).max())))
        return rows

    def score(self, outputs: Any, examples: Examples) -> dict[str, float]:
        result = result_of(outputs, examples, self.normalise, ())
        return {"accuracy": result.measure.total(result.statistics)["accuracy"]}

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test = examples["test"]
        return result_of(outputs["test"], test, self.normalise, self._how(test))

    def _how(self, test: Examples) -> list[str]:
        """How the model was asked, in words."""
        form, tokenizer = str(test.table["form"][0].as_py()), test.tokenizer
        if self.reads == "decoder":
            ids = self.prefix_ids(tokenizer)
            names = " ".join(tokenizer.convert_ids_to_tokens(ids))
            first = f"Each text is read behind the prefix {names} (task.prefix)." if names else (
                "Texts are read without a prefix (task.prefix): the first token of a text without "
                "context counts nothing."
            )  # fmt: skip
        elif self.reads == "encoder":
            how = "those behind it in its own word hidden too" if self.pll == "within_word" else (
                "all others seen"
            )  # fmt: skip
            first = (
                "Likelihoods are pseudo-log-likelihoods: each token of a text is hidden and "
                f"guessed, with {how} (task.pll {self.pll})."
            )
        else:
            mark = " with <extra_id_0> where the text belongs" if self.trained_by.get("name") == (
                "span_corruption") else ""  # fmt: skip
            first = f"The encoder reads the context{mark}; the decoder's tokens are counted."
        notes = [first]
        if form != "cloze":
            what = {"sum": "summed over its tokens", "token": "the mean of its tokens",
                    "byte": "the sum divided by its UTF-8 bytes"}[self.normalise]  # fmt: skip
            notes.append(f"The log-probability of a text is {what} (task.normalise).")
        if form == "choices":
            notes.append(
                f"The context of a question is '{self.template}' (task.template); where it has a "
                "blank (_), the question with the choice filled in, and what follows is counted."
            )
        if self.reads != "encoder-decoder" and (merged := self._merged(test)):
            notes.append(
                f"In {counted(merged, 'text')} the first token begins in the context: it is "
                "counted to the text, and the context ends before it."
            )
        return notes

    def _merged(self, test: Examples) -> int:
        """How many texts have a token that reaches over the border to their context."""
        contexts, texts = _candidates(test.table)
        parted = Continuations(contexts, texts, test.tokenizer, self.max_length).parted()
        return sum(row.merged for row in parted)


def _candidates(table: pa.Table) -> tuple[list[str], list[str]]:
    """The context and the text of every candidate, row by row."""
    cells = (table[name].to_pylist() for name in ("contexts", "texts"))
    contexts, texts = ([text for cell in own for text in json.loads(cell)] for own in cells)
    return contexts, texts


def _pair(row: Mapping[str, Any]) -> tuple[list[str], list[str], int]:
    texts = [str(row[name] or "").strip() for name in FORMS["pairs"]]
    if not all(texts):
        raise ValueError("an empty sentence")
    return ["", ""], texts, 0


def _cloze(row: Mapping[str, Any]) -> tuple[list[str], list[str], int]:
    prompt, response = (str(row[name] or "") for name in FORMS["cloze"])
    if not response.strip():
        raise ValueError("no response")
    return [prompt.rstrip()], [_behind(prompt, response)], 0


def _behind(before: str, text: str) -> str:
    """A text as it stands behind another: after its spaces, or one where it has none."""
    if not before.strip():
        return text.strip()
    spaces = before[len(before.rstrip()) :] + text[: len(text) - len(text.lstrip())]
    return (spaces or " ") + text.strip()


def _answer(value: str, choices: Sequence[str], names: Sequence[str]) -> int:
    """The number of the right choice, which a cell gives as such (from 0), by its name (A, B, …),
    or in words."""
    if value in names:
        return names.index(value)
    if re.fullmatch(r"\d+(\.0)?", value) and int(float(value)) < len(choices):
        return int(float(value))
    if value in choices:
        return choices.index(value)
    letter = ord(value) - ord("A") if len(value) == 1 and value.isupper() else -1
    if 0 <= letter < len(choices):
        return letter
    raise ValueError(
        f"the answer '{shown(value, 40)}' is none of the {len(choices)} choices; give its number, "
        "from 0"
    )
