"""The texts of the auxiliary task: a file's, or those that the other tasks read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.config.recipe import Recipe
from warmstart.data.ledger import Ledger
from warmstart.data.readers.text import is_plain, lines_of
from warmstart.data.tokens.dataset import TokenizedDataset, joined, tokenise
from warmstart.errors import DataError, RecipeError
from warmstart.pipelines.prepare import Prepared

TEXT = ("text", "sentence", "content", "message", "body", "document", "review", "title")


@dataclass
class Texts:
    """Token ids of texts whose hidden words are to be guessed, for train and validation."""

    stores: dict[str, TokenizedDataset]
    share: float
    ledger: Ledger
    fingerprint: str


def texts_of(
    name: str, entry: Mapping[str, Any], recipe: Recipe, each: Mapping[str, Prepared]
) -> Texts:
    """The texts of one auxiliary task. Raises `WarmstartError`."""
    tokenizer = next(iter(each.values())).tokenizer
    where = f"task.tasks.{name}"
    if tokenizer.mask_token_id is None:
        raise RecipeError(f"{where}: the base's tokenizer has no mask token; leave mlm out")
    _check_base(where, next(iter(each.values())))
    ledger, share = Ledger(), float(entry.get("share", 0.15))
    if entry.get("data"):
        stores, stamp = _of_file(where, entry, recipe, tokenizer, ledger)
    else:
        found = {s: [one.stores[s] for one in each.values()] for s in ("train", "validation")}
        stores, stamp = {split: joined(parts) for split, parts in found.items()}, ""
        ledger.note("task", "The texts are those that the other tasks train on.")
    if not all(len(store) for store in stores.values()):
        raise DataError(
            f"{where}: there are no texts for validation; give data.validation_fraction"
        )
    return Texts(stores, share, ledger, stamp)


def _check_base(where: str, prepared: Prepared) -> None:
    """Raise `RecipeError` where the base cannot guess masked words, before anything is written."""
    from transformers import AutoConfig

    from warmstart.models.architectures import family_of
    from warmstart.models.hf_calls import LOAD
    from warmstart.models.shared import masked_class

    config: Any = AutoConfig.from_pretrained(prepared.base.path, **LOAD)
    if masked_class(config) is None:
        name = family_of(config).name
        raise RecipeError(
            f"{where}: mlm needs an encoder that guesses masked words, and '{name}' is none; leave "
            "this task out, or take a base such as minilm, bert or roberta"
        )


def _lines(path: Path) -> Any:
    """The lines of a plain text file as a table; None for any other, which is read as data."""
    return lines_of(path).select(["text"]) if is_plain(path) else None


def _of_file(
    where: str, entry: Mapping[str, Any], recipe: Recipe, tokenizer: Any, ledger: Ledger
) -> tuple[dict[str, TokenizedDataset], str]:
    from warmstart.data import splitting as splits

    own: dict[str, Any] = {"path": str(entry["data"]), "columns": dict(entry.get("columns", {}))}
    settings = recipe.data.model_copy(update={**own, "test_fraction": 0.0})
    task: Any = recipe.task
    longest = min(int(entry.get("max_length", task.max_length)), tokenizer.model_max_length)
    try:
        found = splits.load(
            settings,
            {"text": TEXT},
            {"text"},
            recipe.seed,
            ledger,
            _lines(Path(own["path"])),
            label=None,
            texts=("text",),
        )
    except (DataError, RecipeError) as error:
        raise type(error)(f"{where}: {error}") from error
    stores: dict[str, TokenizedDataset] = {}
    for split in ("train", "validation"):
        table, lost = getattr(found, split), [0]

        def cut(row: int, tokens: int, table: Any = table, lost: list[int] = lost) -> None:
            lost[0] += tokens
            ledger.cut(table["_file"][row].as_py(), table["_line"][row].as_py(), tokens)

        stores[split] = tokenise(table["text"], tokenizer.backend_tokenizer, longest, cut)
        ledger.tokens(split, int(stores[split].offsets[-1]) + lost[0], lost[0])
    return stores, found.fingerprint
