"""The rules of docs/architecture.md that a machine can hold: layers, weight, size, safety."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from warmstart.part import NO_PARTS

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "warmstart"

# Left to right; a unit imports itself, what stands left of it, and what shares its place, unless
# they are siblings (tasks, objectives, methods), which never meet.
LAYERS = [
    ("errors", "types", "part", "files", "formatting"),
    ("data", "samples"),
    ("metrics",),
    ("models",),
    ("tokenization",),
    ("tasks", "objectives", "methods"),
    ("training",),
    ("evaluation", "inference"),
    ("reporting",),
    ("config", "run"),
    ("serving",),
    ("pipelines",),
    ("api",),
    ("cli",),
    ("__init__", "__main__"),
]
SIBLINGS = {"tasks", "objectives", "methods"}
PLACE = {unit: place for place, layer in enumerate(LAYERS) for unit in layer}

# What `import warmstart`, `warmstart --help` and naming a part must not load.
HEAVY = {
    *("torch", "transformers", "datasets", "peft", "sklearn", "scipy", "pandas", "pyarrow"),
    *("tokenizers", "safetensors", "sentence_transformers", "huggingface_hub"),
}
HEAVY_AT_START = HEAVY | {"numpy", "jinja2", "charset_normalizer"}
START = [
    "__init__",
    "__main__",
    "cli.main",
    "cli.parser",
    "config.recipe",
    "config.validation",
    "errors",
    "part",
    "types",
]
PART_FOLDERS = ["tasks", "objectives", "methods", "inference"]

MOST_LINES = 500
USUAL_LINES = 300
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


@dataclass(frozen=True)
class Import:
    module: str  # absolute, as far as it is a module
    line: int
    at_load: bool  # runs when the file is imported


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place_of(path: Path) -> str:
    """`warmstart.data.readers.read` for its file, for messages and as an identity."""
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return name.removesuffix(".__init__") if path.parent != PACKAGE else name


def unit_of(module: str) -> str:
    """The place in LAYERS that a module of ours belongs to."""
    words = module.split(".")
    return words[1] if len(words) > 1 else "__init__"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def modules() -> dict[str, Path]:
    return {place_of(path): path for path in files()}


@cache
def imports_of(path: Path) -> list[Import]:
    """Every import of a file, wherever it stands; type-checking ones count, but not at load."""
    return list(_imports(tree_of(path), at_load=True))


def _imports(node: ast.AST, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_load)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            for alias in child.names:
                full = f"{base}.{alias.name}"
                is_module = full in modules() or (unit_of(full) in PLACE and base == "warmstart")
                yield Import(full if is_module else base, child.lineno, at_load)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), at_load=False)
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), at_load)
        else:
            function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            yield from _imports(child, at_load and not isinstance(child, function))


def ours(path: Path) -> list[Import]:
    return [found for found in imports_of(path) if found.module.split(".")[0] == "warmstart"]


def report(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


def test_every_file_has_a_place_in_the_layers():
    units = {path.relative_to(ROOT): unit_of(place_of(path)) for path in files()}
    report(
        [
            f"{path}: give '{unit}' a place in LAYERS and in docs/architecture.md"
            for path, unit in units.items()
            if unit not in PLACE
        ]
    )


def test_each_layer_imports_only_what_stands_left_of_it():
    faults: list[str] = []
    for path in files():
        here = unit_of(place_of(path))
        for found in ours(path):
            there = unit_of(found.module)
            if here == there or here not in PLACE:
                continue
            where = f"{path.relative_to(ROOT)}:{found.line}"
            if {here, there} <= SIBLINGS:
                faults.append(f"{where}: {here} and {there} are siblings and never meet")
            elif there not in PLACE or PLACE[there] > PLACE[here]:
                faults.append(f"{where}: {here} may not import {there}, which stands right of it")
    report(faults)


def test_nothing_left_of_recipe_sees_a_recipe():
    left = [p for p in files() if PLACE.get(unit_of(place_of(p)), 99) < PLACE["config"]]
    report(
        [
            f"{path.relative_to(ROOT)}:{node.lineno}: knows {name}"
            for path in left
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Name | ast.Attribute)
            and (name := getattr(node, "id", getattr(node, "attr", ""))) == "Recipe"
        ]
    )


def test_no_cycles():
    graph = {
        name: {found.module for found in ours(path) if found.module in modules()} - {name}
        for name, path in modules().items()
    }
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            pytest.fail("import cycle: " + " → ".join([*way[way.index(name) :], name]))
        if name not in done:
            for target in sorted(graph[name]):
                walk(target, [*way, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])


def heavy_on_load(start: list[str], heavy: set[str]) -> list[str]:
    """The heavy imports that loading `start` runs, through whatever modules of ours."""
    faults: list[str] = []
    seen: dict[str, str] = {}
    waiting = [(name, name) for name in start if name in modules()]
    while waiting:
        name, way = waiting.pop()
        if name in seen:
            continue
        seen[name] = way
        path = modules()[name]
        for found in imports_of(path):
            if not found.at_load:
                continue
            if found.module.split(".")[0] in heavy:
                where = f"{path.relative_to(ROOT)}:{found.line}"
                faults.append(f"{where}: loads {found.module} at the top (reached by {way})")
            targets = {found.module, found.module.rpartition(".")[0]} & modules().keys()
            waiting += [(target, f"{way} → {target}") for target in targets]
    return faults


def test_starting_loads_nothing_heavy():
    report(heavy_on_load([f"warmstart.{name}" for name in START], HEAVY_AT_START))


@pytest.mark.parametrize("folder", PART_FOLDERS)
def test_naming_a_part_loads_nothing_heavy(folder: str):
    parts = [
        name
        for name in modules()
        if re.fullmatch(rf"warmstart\.{folder}\.([a-z]\w*|\w+\.task)", name)
        and name.rpartition(".")[2] not in NO_PARTS
    ]
    report(heavy_on_load(parts, HEAVY))


def test_files_can_be_read_in_one_sitting():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    report(
        [
            f"{path.relative_to(ROOT)} has {count} lines; {MOST_LINES - 1} is the most"
            for path, count in lines.items()
            if count >= MOST_LINES
        ]
    )
    short = sum(count < USUAL_LINES for count in lines.values())
    assert short >= 0.7 * len(lines), "most files should have less than 200 lines"


def test_no_pickle_no_eval_no_remote_code():
    faults: list[str] = []
    for path in files():
        for found in imports_of(path):
            if found.module.split(".")[0] in PICKLES:
                faults.append(f"{path.relative_to(ROOT)}:{found.line}: imports {found.module}")
        for node in ast.walk(tree_of(path)):
            if fault := unsafe(node):
                line = getattr(node, "lineno", 0)
                faults.append(f"{path.relative_to(ROOT)}:{line}: {fault}")
    report(faults)


def unsafe(node: ast.AST) -> str:
    """Why a node may not stand in the source, or nothing."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in {"eval", "exec", "torch.load", "torch.save", "numpy.load", "np.load"}:
            return f"calls {name}()"
    remote = "trust_remote_code"
    if isinstance(node, ast.keyword) and node.arg == remote and not is_false(node.value):
        return f"{remote} may only be False"
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == remote and not is_false(value):
                return f"{remote} may only be False"
    return ""


def is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_nothing_names_a_registry_or_a_private_place():
    """What is fetched, and from where, is the business of the machine and its pip."""
    hosts = [r"pypi\.org", r"pythonhosted\.org", r"npmjs\.", r"download\.pytorch\.org"]
    banned = re.compile("|".join([*hosts, r"(?<![\w/-])(?:\.\./|/work/)shared/", r"/work/\w"]))
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".md", ".html", ".toml"}]
    paths += [ROOT / name for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run")]
    for folder in ("tools", "docs", "bench"):
        paths += [p for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".md", ".sh"}]
    paths += ROOT.glob("*.md")
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {hit.group()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (hit := banned.search(line))
    ]
    report(faults)
