"""Several methods or seeds in one request: `--method full,lora --seed 0,1,2`, and which runs it is.

Methods and seeds differ from run to run and nothing else does. The splits are cut by the first
seed, so that all runs learn from the same rows and are judged on the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from warmstart import part as parts
from warmstart.config.keys import PARTS, nested, plain
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, shown

Tables = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run of a comparison."""

    name: str
    """Its folder: `lora`, or `lora-seed1` where there are several seeds."""
    method: str
    """What its method is called in tables; two of one kind are `lora` and `lora-2`."""
    recipe: Recipe


def is_several(keys: Mapping[str, Any]) -> bool:
    """Whether the keys of a request name more than one method or seed."""
    values = [keys.get(key) for key in ("method", "seed")]
    return any(isinstance(v, list | tuple) or (isinstance(v, str) and "," in v) for v in values)


def wanted(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    recipe_of: Callable[..., Recipe] = Recipe.of,
) -> list[Wanted]:
    """The runs of a request in which `above` lies over `below`, by method and then by seed.

    `recipe_of` makes a recipe of layers. A setting such as `method.rank` goes to those of the
    methods that have it. Raises `RecipeError`.
    """
    rest = {k: v for k, v in above.items() if k not in ("method", "seed")}
    settings = {k.partition(".")[2]: rest.pop(k) for k in [*rest] if k.startswith("method.")}
    seeds = [{"seed": seed} for seed in _values("seed", above.get("seed"))] or [{}]
    runs: list[Wanted] = []
    for name, table in _named(_methods(below, above, settings)):
        for seed in seeds:
            recipe = recipe_of(below, rest, {"method": table}, seed)
            folder = f"{name}-seed{recipe.seed}" if len(seeds) > 1 else name
            if len(seeds) > 1 and recipe.data.split_seed is None:
                first = runs[0].recipe.data.split_seed if runs else recipe.seed
                data = recipe.data.model_copy(update={"split_seed": first})
                recipe = recipe.model_copy(update={"data": data})
            runs.append(Wanted(folder, name, recipe))
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise RecipeError(f"seed {twice[0].rpartition('-seed')[2]} is named twice; name each once")
    return runs


def _methods(
    below: Mapping[str, Any], above: Mapping[str, Any], settings: dict[str, Any]
) -> Tables:
    """The methods as tables, each with the settings that are for it. Raises `RecipeError`."""
    tables = [plain("method", one) for one in _values("method", above.get("method"))]
    if not tables:
        return [{**plain("method", nested(below).get("method", {})), **settings}]
    owned: set[str] = set()
    for table in tables:
        fields = parts.find("method", str(table.get("name", PARTS["method"]))).model_fields
        owned |= settings.keys() & fields.keys()
        for key in settings.keys() & fields.keys():
            table.setdefault(key, settings[key])
    tables[0] |= {key: settings[key] for key in settings.keys() - owned}  # refused when it is read
    return tables


def _named(tables: Tables) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each method with a name of its own. Raises `RecipeError` where one is named twice."""
    seen: Counter[str] = Counter()
    for number, table in enumerate(tables):
        name = str(table.get("name", PARTS["method"]))
        if table in tables[:number]:
            raise RecipeError(f"method {name} is named twice with the same settings; name it once")
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), table


def _values(key: str, value: Any) -> list[Any]:
    """The values of a key that may be a list, or words with commas between them."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",")]
    values = [*value] if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]
    if not values or "" in values:
        text = shown(",".join(map(str, values)))
        raise RecipeError(f"{key} = {text}: give names with one comma between them, as in a,b")
    return values
