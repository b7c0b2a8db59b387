"""`predict` and `evaluate` with a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.errors import DataError, RecipeError, RunError, nearest, shown
from warmstart.recipe import Recipe
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.engines.torch import TorchPredictor

WRITERS = (".csv", ".tsv", ".jsonl", ".parquet")


def predict(model: Path, data: Any, out: Path | None, keys: Mapping[str, Any]) -> list[Prediction]:
    """See `api.predict`."""
    _check_out(out)
    settings = _settings(keys, ("data",)).data
    predictor = _open(model)
    if isinstance(data, list) and all(isinstance(text, str) for text in data):
        table = pa.table({"text": pa.array(data, pa.string())})
        texts = table["text"]
    else:
        table, texts = _rows(data, settings, predictor)
    answers = predictor.predict(texts.to_pylist())
    if out is not None:
        _write(table, answers, out)
    return answers


def evaluate(model: Path, data: Any, out: Path | None, keys: Mapping[str, Any]) -> dict[str, Any]:
    """See `api.evaluate`."""
    import pyarrow.parquet as pq

    from warmstart.evaluate.harness import evaluate as judge
    from warmstart.evaluate.predictions import Scored
    from warmstart.run import write_json

    recipe = _settings(keys, ("data", "evaluate"))
    predictor = _open(model)
    table = _labelled(data, recipe.data, predictor)
    number = {label: index for index, label in enumerate(predictor.labels)}
    targets = np.array([number[str(value)] for value in table["label"]], dtype=np.int64)
    logits = np.concatenate([part for _, part in predictor.logits(table["text"].to_pylist())])
    scored = Scored(logits, targets, table["text"], table["_file"], table["_line"])
    nothing = Scored(logits[:0], targets[:0], table["text"][:0])
    plain = recipe.evaluate.model_copy(update={"baselines": False})
    found = judge(plain, predictor.labels, scored, nothing, [], targets[:0], seed=recipe.seed)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            pq.write_table(found.predictions, out / "predictions.parquet")
            write_json(out / "metrics.json", found.metrics)
        except OSError as error:
            raise RunError(f"cannot write to {out}: {shown(error, 120)}") from None
    return found.metrics


def _settings(keys: Mapping[str, Any], allowed: tuple[str, ...]) -> Recipe:
    strange = [key for key in keys if key.partition(".")[0] not in allowed]
    if strange:
        raise RecipeError(f"'{strange[0]}' does not apply here; only {', '.join(allowed)} keys do")
    return Recipe.of(keys)


def _open(model: Path) -> TorchPredictor:
    from warmstart.engines.torch import Torch

    if not model.exists():
        siblings = [p.name for p in model.parent.iterdir()] if model.parent.is_dir() else []
        raise RunError(f"there is no run or model folder {model}.{nearest(model.name, siblings)}")
    return Torch().open(model)


def _rows(data: Any, settings: Any, predictor: TorchPredictor) -> tuple[pa.Table, Any]:
    """All columns as they were, and the texts among them (empty where there is none)."""
    from warmstart.data.columns import map_roles
    from warmstart.data.sources import read

    ledger = Ledger()
    table = read(data, delimiter=settings.delimiter, encoding=settings.encoding, ledger=ledger)
    task = predictor.task
    columns = {role: name for role, name in settings.columns.items() if role == "text"}
    texts = map_roles(table, {"text": task.roles["text"]}, columns, {"text"})["text"]
    if texts.null_count:
        texts = pa.compute.fill_null(texts, "")
    return table.drop_columns([c for c in ("_file", "_line") if c in table.column_names]), texts


def _labelled(data: Any, settings: Any, predictor: TorchPredictor) -> pa.Table:
    from warmstart.data.columns import map_roles
    from warmstart.data.sources import read

    ledger = Ledger()
    source = _test_file(data)
    table = read(source, delimiter=settings.delimiter, encoding=settings.encoding, ledger=ledger)
    roles = predictor.task.roles
    table = map_roles(table, roles, settings.columns, set(roles))
    filled = np.array([bool(str(t or "").strip()) for t in table["text"].to_pylist()])
    if not filled.all():
        line = table["_line"][int(np.argmin(filled))].as_py()
        raise DataError(
            f"{table['_file'][0].as_py()}:{line}: no text; {int((~filled).sum())} rows have none, "
            "remove them or fill them in"
        )
    unknown = sorted({str(v) for v in table["label"].to_pylist()} - set(predictor.labels))
    if unknown:
        raise DataError(
            f"the model does not know the label '{shown(unknown[0])}'."
            f"{nearest(unknown[0], predictor.labels)}"
        )
    return table


def _test_file(data: Any) -> Any:
    """The test file of a folder that has one; everything else as it is."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        found = sorted(p for p in Path(data).glob("test.*") if p.is_file())
        if found:
            return found[0]
    return data


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() not in WRITERS:
        raise RecipeError(f"cannot write {out}: name a file ending in {', '.join(WRITERS)}")
    if not out.absolute().parent.is_dir():
        raise RunError(f"cannot write {out}: there is no folder {out.parent}")


def _write(table: pa.Table, answers: list[Prediction], out: Path) -> None:
    """All columns with `prediction` and `confidence` added, whole or not at all."""
    from pyarrow import csv, parquet

    table = table.append_column("prediction", pa.array([str(a.value) for a in answers]))
    table = table.append_column("confidence", pa.array([round(a.confidence, 6) for a in answers]))
    fresh = out.with_name(f".{out.name}")
    try:
        if out.suffix == ".parquet":
            parquet.write_table(table, fresh)
        elif out.suffix == ".jsonl":
            import json

            with fresh.open("w", encoding="utf-8") as file:
                for row in table.to_pylist():
                    file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        else:
            options = csv.WriteOptions(delimiter="\t" if out.suffix == ".tsv" else ",",
                                       quoting_style="needed")  # fmt: skip
            csv.write_csv(table, fresh, options)
        fresh.replace(out)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"cannot write {out}: {shown(error, 120)}") from None
    finally:
        fresh.unlink(missing_ok=True)
