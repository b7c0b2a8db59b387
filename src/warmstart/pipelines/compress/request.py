"""Which products are wanted of which model: `--method distill,prune --compress.layers 4,3`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pyarrow as pa

from warmstart import part as parts
from warmstart.compression.base import Compression, Source
from warmstart.config.keys import nested
from warmstart.config.recipe import Recipe
from warmstart.config.toml import toml_table
from warmstart.config.validation import checked
from warmstart.errors import DataError, RecipeError, UnknownNameError, nearest, shown
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.models.checks import of_run
from warmstart.models.head_layers import unwrap
from warmstart.models.peft.wrap import can_merge, merged
from warmstart.models.saving import save_model
from warmstart.pipelines.measuring.trials import ROWS
from warmstart.pipelines.prepare import Prepared, prepare
from warmstart.pipelines.reading.rows import AsTrained, labelled
from warmstart.pipelines.request import engine_of
from warmstart.run import Run

KEYS = ("train", "objective", "evaluate", "seed")
"""Keys of the recipe that may be given: how what is smaller learns, and is judged."""
LEARNS = "task_distill"
"""The objective by which a smaller model learns."""
KEPT = ("precision", "device", "batch_tokens", "micro_batch_tokens", "gradient_checkpointing")
"""Of the source's training, what its smaller models are trained with; the rest is chosen anew."""


TEXTS = 200
"""Rows that products are proven on, where the answers are texts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A product: what it is called, and how it is made; `engine` asks its hosted teacher."""

    name: str
    method: str
    part: Compression
    settings: Mapping[str, Any]
    engine: Any = None


def wanted(methods: Any, keys: Mapping[str, Any]) -> tuple[list[Wanted], Mapping[str, Any]]:
    """The products, and the keys of the recipe for those that learn.

    Of a setting with commas each value is a product of its own; a setting goes to those of the
    methods that have it. Raises `RecipeError`.
    """
    names = _listed(methods)
    known = parts.names("compression")
    if not names:
        raise RecipeError(f"compress needs a method: --method {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UnknownNameError("method of compress", name, known)
    table = nested(keys)
    own = table.pop("compress", {})
    if not isinstance(own, Mapping):
        raise RecipeError("compress is a table of settings, as in --compress.layers 3")
    settings = cast("Mapping[str, Any]", own)
    own_engine = table.pop("engine", None)
    if strange := [key for key in table if key not in KEYS]:
        near = nearest(strange[0], KEYS)
        raise RecipeError(
            f"'{strange[0]}' has no meaning for compress; it takes compress.* and keys of "
            f"{', '.join(KEYS)}.{near}"
        )
    kinds = {name: cast("type[Compression]", parts.find("compression", name)) for name in names}
    fields = {key for kind in kinds.values() for key in kind.model_fields}
    if strange := [key for key in settings if key not in fields]:
        owners = [name for name in known if strange[0] in
                  parts.find("compression", name).model_fields]  # fmt: skip
        reason = f"{' and '.join(owners)} has it; add it to --method" if owners else ""
        raise RecipeError(
            f"unknown key 'compress.{strange[0]}' of {', '.join(names)}."
            f"{nearest(strange[0], fields) if not reason else f' {reason}'}"
        )
    products = [own for name, kind in kinds.items() for own in _products(name, kind, settings)]
    hosted = [product.part.hosted for product in products if product.part.hosted]
    if own_engine is not None and not hosted:
        raise RecipeError(
            "engine.* says how a hosted teacher is asked, and none is named: --compress.teacher "
            "openai:MODEL; whose form quantize makes is compress.engine"
        )
    engine = engine_of(keys, hosted) if hosted else None
    products = [replace(own, engine=engine) if own.part.hosted else own for own in products]
    rest = {key: value for key, value in keys.items()
            if key.partition(".")[0] not in ("compress", "engine")}  # fmt: skip
    return products, rest


def _products(name: str, kind: type[Compression], settings: Mapping[str, Any]) -> Iterator[Wanted]:
    """A product for each combination of the values that a method's settings have."""
    own = {key: _listed(value) for key, value in settings.items() if key in kind.model_fields}
    several = [key for key, values in own.items() if len(values) > 1]
    for values in itertools.product(*own.values()):
        chosen = dict(zip(own, values, strict=True))
        part = checked(kind, chosen, "compress.")
        called = [_called(key, chosen[key]) for key in several]
        yield Wanted("-".join([name, *called]), name, part, chosen)


def _called(key: str, value: Any) -> str:
    """What a setting adds to a name: `int8`, `layers-3`."""
    word = shown(value, 20).replace("/", "_")
    return f"{key}-{word}" if word[:1].isdigit() else word


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [*cast("Sequence[Any]", value)]
    if isinstance(value, str) and "," in value:
        return [word.strip() for word in value.split(",") if word.strip()]
    return [] if value in (None, "") else [value]


@dataclass(eq=False)
class Origin:
    """The model that is made smaller, its run's recipe, and the rows on which it is proven."""

    folder: Path
    recipe: Recipe
    predictor: Predictor
    whole: Path
    """The model folder, or a copy into which an adapter was merged."""
    data: Any = None
    _prepared: Prepared | None = None
    _source: Source | None = None

    @property
    def prepared(self) -> Prepared:
        """The rows and tokens of the run, as they were."""
        if self._prepared is None:
            self._prepared = prepare(self.recipe_for(str(self.whole), None, {}, {}))
        return self._prepared

    def source(self) -> Source:
        """What a compression sees: a model of its own, since it may be changed in place."""
        fresh = open_predictor(self.whole)
        model: Any = fresh.runner.model  # pyright: ignore[reportAttributeAccessIssue]
        return Source(self.whole, model, fresh.tokenizer, fresh.task, self._ids)

    @property
    def shown(self) -> Source:
        """What a compression that changes nothing sees."""
        own: Any = self.predictor.runner
        task, tokenizer = self.predictor.task, self.predictor.tokenizer
        return Source(self.whole, unwrap(own.model), tokenizer, task, self._ids)

    def _ids(self) -> Iterator[np.ndarray]:
        for name in ("train", "validation"):
            store = self.prepared.stores[name]
            while store is not None:
                yield store.ids
                store = store.answers

    def rows(self) -> pa.Table:
        """The labelled rows that products are proven on. Raises `DataError`."""
        if self.data is None:
            table = self.prepared.examples["test"].table
        else:
            table = labelled(self.data, AsTrained(self.recipe.data, self.predictor))
        if not len(table):
            raise DataError("there are no rows to prove on; name labelled ones after the model")
        return table.slice(0, TEXTS if self.predictor.task.head.generates else ROWS)

    def recipe_for(
        self,
        base: str,
        out: Path | None,
        keys: Mapping[str, Any],
        objective: Mapping[str, Any],
    ) -> Recipe:
        """The recipe by which a smaller model learns from this one on the run's own rows."""
        table = toml_table(self.recipe)
        kept = {key: value for key, value in table["train"].items() if key in KEPT}
        below = {key: table[key] for key in ("task", "data", "evaluate", "seed")}
        teacher = {"name": LEARNS, "teacher": str(self.folder), **objective}
        own = {"base": base, "method": "full", "train": kept, "objective": teacher}
        place = {} if out is None else {"out": str(out)}
        return Recipe.of(below, own, place, keys, quiet=True)


@contextmanager
def opened(model: Path, data: Any) -> Iterator[Origin]:
    """The model of a run, or of a folder with `data` to learn from and to be proven on. Raises
    `WarmstartError` where it cannot be compressed at all."""
    is_run = os.path.isfile(model / "run.json")
    folder = of_run(model)
    recipe: Recipe | None = None
    if is_run:
        run = Run(model)
        if run.status != "done":
            raise RecipeError(f"the run {model} is not done; go on with it first")
        recipe = run.recipe
        if recipe.data.path is None and recipe.data.train is None:
            recipe = None if data is not None else recipe
        task: Any = run.recipe.task
        if task.own_data:
            raise RecipeError(
                f"{model} holds several tasks; name one of its models, and its data after it"
            )
    predictor = open_predictor(folder)
    _check(predictor, model)
    if recipe is None:
        if data is None:
            raise RecipeError(
                f"{model} is no run, so its data are not known; name labelled rows: "
                f"warmstart compress {model} DATA"
            )
        metadata = predictor.task.to_metadata()
        recipe = Recipe.of({"task": metadata, "data.path": str(data), "base": str(folder)})
        data = None
    elif recipe.data.path is None and recipe.data.train is None:
        raise DataError(
            f"the data of the run {model} were given in Python and are not in a file; name "
            f"labelled rows: warmstart compress {model} DATA"
        )
    with TemporaryDirectory() as place:
        whole = folder
        loaded: Any = predictor.runner.model  # pyright: ignore[reportAttributeAccessIssue]
        if hasattr(loaded, "peft_config"):
            if not can_merge(loaded):
                raise RecipeError(
                    "an adapter of virtual tokens or bottlenecks cannot become part of its base, "
                    "and there is no whole model to make smaller; tune with full or lora first"
                )
            whole = Path(place) / "whole"
            save_smaller(predictor, merged(loaded), predictor.tokenizer, whole)
        yield Origin(folder.absolute(), recipe, predictor, whole.absolute(), data)


def _check(predictor: Predictor, model: Path) -> None:
    """Raise `RecipeError` for a model whose answers cannot be laid beside each other, or which no
    smaller one can learn from."""
    head, name = predictor.task.head, predictor.task.part_name()
    known = cast("Any", parts.find("objective", LEARNS)).tasks
    if head.gives_logits or head.gives_vectors or name in known:
        return
    other = "warmstart pretrain CORPUS --objective distill teaches a masked language model"
    if head.generates:
        other = "tune a smaller base on texts that it writes (warmstart generate)"
    raise RecipeError(
        f"compress makes models of the tasks {', '.join(sorted(known))} smaller, and {model} was "
        f"trained for {name}; {other}"
    )


def save_smaller(origin: Predictor, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model folder with what the one that it comes from says of itself."""
    task = origin.task
    notes = {"task": task.to_metadata(), "head": task.head.name, "data": dict(origin.reading)}
    save_model(model, tokenizer, folder, notes=notes)
    task.write_extras(folder)
