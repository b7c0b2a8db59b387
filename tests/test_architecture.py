"""The rules of docs/architecture.md that a machine can hold: layers, weight, size, words, safety.

A rule that the tree does not meet yet has its number of faults in `MOST`: it may only fall, and a
commit that raises it, or a package's budget, says why.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
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
    ("compression",),
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
HEAVY_AT_START = HEAVY | {"numpy", "jinja2", "charset_normalizer", "openpyxl"}
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
PART_FOLDERS = ["tasks", "objectives", "methods", "inference", "compression"]

BUDGET = {
    # package: (lines it may have now, lines that it is to have in the end)
    "the root": (1_220, 950),
    "api": (710, 650),
    "config": (660, 550),
    "cli": (2_520, 1_200),
    "data": (8_450, 4_300),
    "tokenization": (2_520, 1_350),
    "models": (9_200, 5_300),
    "methods": (700, 650),
    "objectives": (4_250, 400),
    "tasks": (7_270, 4_500),
    "training": (3_450, 2_200),
    "metrics": (2_040, 1_350),
    "evaluation": (4_020, 2_150),
    "reporting": (1_300, 1_000),
    "inference": (3_780, 350),
    "serving": (3_640, 1_000),
    "compression": (540, 400),
    "pipelines": (9_430, 2_800),
}
TOTAL_FILES = (385, 230)
SPINE = [
    "config.recipe",
    "part",
    *("pipelines.prepare", "pipelines.session", "pipelines.tune", "pipelines.predict"),
    *("tasks.base", "tasks.classification", "objectives.base", "objectives.supervised"),
    *("methods.base", "methods.lora"),
    *("training.batches", "training.loop", "training.trainer"),
    *("models.heads", "models.forward", "metrics.base", "evaluation.evaluate"),
    *("inference.engine", "inference.torch"),
]
"""The files that say how warmstart works, in reading order; docs/architecture.md begins so."""
SPINE_LINES = 4_000
"""What may be read in an afternoon. What is not the story stands elsewhere."""

FILE_LINES = range(60, 451)
MAY_BE_SHORT = {"__init__", "__main__", "base", "settings"}  # and the parts
FUNCTION_LINES = 60
SPLINTER_LINES = 100
PREFIX_SHARED_BY = 3
FOLDER_FILES = 16  # without `__init__`

HEAD_NAMES = {"classes", "labels", "value", "tokens", "span", "text", "vector", "masked", "reward"}
VAGUE = ["found", "asked", "said", "told", "one", "given"]

MOST = {
    "short files": 4,
    "long files": 0,
    "long functions": 1,
    "splinters": 0,
    "shared prefixes": 0,
    "full folders": 0,
    "head comparisons": 0,
    "head tables": 1,
    "late imports": 17,
    "missing spine": 0,
    "dict[str, Any] in signatures": 230,
    "found": 10,
    "asked": 0,
    "said": 0,
    "told": 0,
    "one": 53,
    "given": 9,
}
"""Rule → faults that the tree still has."""
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
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


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
    return [
        imported for imported in imports_of(path) if imported.module.split(".")[0] == "warmstart"
    ]


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
        for imported in ours(path):
            there = unit_of(imported.module)
            if here == there or here not in PLACE:
                continue
            where = f"{path.relative_to(ROOT)}:{imported.line}"
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
            for node in nodes_of(path)
            if isinstance(node, ast.Name | ast.Attribute)
            and (name := getattr(node, "id", getattr(node, "attr", ""))) == "Recipe"
        ]
    )


def test_no_cycles():
    graph = {
        name: {imported.module for imported in ours(path) if imported.module in modules()} - {name}
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
        for imported in imports_of(path):
            if not imported.at_load:
                continue
            if imported.module.split(".")[0] in heavy:
                where = f"{path.relative_to(ROOT)}:{imported.line}"
                faults.append(f"{where}: loads {imported.module} at the top (reached by {way})")
            targets = {imported.module, imported.module.rpartition(".")[0]} & modules().keys()
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


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def is_part(path: Path) -> bool:
    """Whether the file holds a task, an objective, a method or an engine."""
    inside = path.relative_to(PACKAGE).parts
    own = path.parent.name if path.stem == "task" else path.stem
    depth = 3 if path.stem == "task" else 2
    return inside[0] in PART_FOLDERS and len(inside) == depth and own[0] != "_" and \
        own not in NO_PARTS  # fmt: skip


def ratchet(rule: str, faults: list[str]) -> None:
    """Fail where a rule has more faults than `MOST` allows."""
    most = MOST[rule]
    listing = "\n".join(faults)
    assert len(faults) <= most, f"{rule}: {len(faults)}, and {most} is the most:\n{listing}"


def test_each_package_keeps_its_budget():
    lines: Counter[str] = Counter()
    for path in files():
        inside = path.relative_to(PACKAGE).parts
        lines[inside[0] if len(inside) > 1 else "the root"] += lines_of(path)
    assert lines.keys() <= BUDGET.keys(), "give every package a budget"
    report(
        [
            f"{package} has {lines[package]:,} lines; its budget is {now:,}, in the end {target:,}"
            for package, (now, target) in BUDGET.items()
            if lines[package] > now
        ]
    )
    assert len(files()) <= TOTAL_FILES[0], f"{len(files())} files; {TOTAL_FILES[0]} are the most"


def test_files_are_neither_splinters_nor_scrolls():
    lines = {path: lines_of(path) for path in files()}
    listing = {path: f"{path.relative_to(ROOT)} has {count}" for path, count in lines.items()}
    short = [
        listing[path]
        for path, count in lines.items()
        if count < FILE_LINES.start and path.stem not in MAY_BE_SHORT and not is_part(path)
    ]
    ratchet("short files", short)
    long = [listing[path] for path, count in lines.items() if count >= FILE_LINES.stop]
    ratchet("long files", long)


def test_functions_fit_on_a_screen():
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {count} lines"
        for path in files()
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    ratchet("long functions", faults)


def test_no_small_module_serves_its_neighbour_alone():
    importers: dict[str, set[str]] = defaultdict(set)
    for name, path in modules().items():
        for imported in ours(path):
            if imported.module != name:
                importers[imported.module].add(name)
    faults: list[str] = []
    for name, path in modules().items():
        small = lines_of(path) < SPLINTER_LINES and path.stem not in MAY_BE_SHORT
        if not small or is_part(path) or len(importers[name]) != 1:
            continue
        (importer,) = importers[name]
        if modules()[importer].parent == path.parent:
            faults.append(f"{path.relative_to(ROOT)}: only {importer} imports it; put it there")
    ratchet("splinters", faults)


def test_a_shared_prefix_is_a_package():
    shared: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for path in files():
        if path.stem != "__init__":
            shared[path.parent, path.stem.lstrip("_").split("_")[0]].append(path.name)
    faults = [
        f"{folder.relative_to(ROOT)}: {', '.join(names)}: make a package {prefix}/"
        for (folder, prefix), names in shared.items()
        if len(names) >= PREFIX_SHARED_BY
    ]
    ratchet("shared prefixes", faults)


def test_a_folder_can_be_taken_in_at_a_glance():
    """Of parts there may be any number: their folder is a list of words."""
    counts = Counter(
        path.parent for path in files() if path.stem != "__init__" and not is_part(path)
    )
    faults = [
        f"{folder.relative_to(ROOT)} has {count} files; {FOLDER_FILES} is the most"
        for folder, count in counts.items()
        if count > FOLDER_FILES
    ]
    ratchet("full folders", faults)


def test_only_the_table_of_heads_tells_heads_apart():
    """No `task.head == "text"` and no table by the names of heads outside `models/heads.py`."""
    comparisons: list[str] = []
    tables: list[str] = []
    for path in files():
        if place_of(path) == "warmstart.models.heads":
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Compare) and tells_heads_apart(node):
                comparisons.append(shown(path, node))
            if isinstance(node, ast.Dict) and len(node.keys) >= 3:
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                if len(keys) == len(node.keys) and keys <= HEAD_NAMES:
                    tables.append(shown(path, node))
    ratchet("head comparisons", comparisons)
    ratchet("head tables", tables)


def shown(path: Path, node: ast.expr) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def tells_heads_apart(node: ast.Compare) -> bool:
    """Whether a value called `head` (or `form`) is compared with the name of a head."""
    sides = [node.left, *node.comparators]
    names = {getattr(side, "attr", getattr(side, "id", "")) for side in sides}
    constants = {
        leaf.value for side in sides for leaf in ast.walk(side) if isinstance(leaf, ast.Constant)
    }
    return bool(names & {"head", "form"} and constants & HEAD_NAMES)


def test_functions_import_only_what_is_heavy():
    """Elsewhere than in the command line, the API, the parts and what they share, which must start
    light."""
    faults: list[str] = []
    for path in files():
        if unit_of(place_of(path)) in ("api", "cli", "__init__", "part", *PART_FOLDERS):
            continue
        for imported in late_imports(path):
            if imported.module.split(".")[0] not in HEAVY_AT_START:
                faults.append(f"{path.relative_to(ROOT)}:{imported.line}: {imported.module}")
    ratchet("late imports", faults)


def late_imports(path: Path) -> Iterator[Import]:
    """The imports that stand in a function."""
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(node, at_load=False)


def test_signatures_have_types():
    """A `dict[str, Any]` that goes from function to function is a class that nobody has named."""
    faults: list[str] = []
    for path in files():
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                annotations = [node.returns, *(argument.annotation for argument in arguments)]
                faults += [
                    f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
                    for annotation in annotations
                    if annotation is not None and "dict[str, Any]" in ast.unparse(annotation)
                ]
    ratchet("dict[str, Any] in signatures", faults)


@pytest.mark.parametrize("word", VAGUE)
def test_values_are_called_by_what_they_are(word: str):
    lines = {
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path in files()
        for node in nodes_of(path)
        if word in names_in(node)
    }
    ratchet(word, sorted(lines))


def names_in(node: ast.AST) -> set[str]:
    """The names that a node itself gives or uses."""
    return {getattr(node, field, "") or "" for field in ("id", "attr", "arg", "name")}


def test_the_spine_can_be_read_in_an_afternoon():
    paths = [PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in SPINE]
    ratchet("missing spine", [str(path.relative_to(ROOT)) for path in paths if not path.exists()])
    lines = sum(lines_of(path) for path in paths if path.exists())
    assert lines <= SPINE_LINES, f"the spine has {lines:,} lines; {SPINE_LINES:,} are the most"


def test_no_pickle_no_eval_no_remote_code():
    faults: list[str] = []
    for path in files():
        for imported in imports_of(path):
            if imported.module.split(".")[0] in PICKLES:
                faults.append(
                    f"{path.relative_to(ROOT)}:{imported.line}: imports {imported.module}"
                )
        for node in nodes_of(path):
            if fault := unsafe(node):
                line = getattr(node, "lineno", 0)
                faults.append(f"{path.relative_to(ROOT)}:{line}: {fault}")
    report(faults)


def unsafe(node: ast.AST) -> str:
    """Why a node may not stand in the source, or nothing."""
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        name = ast.unparse(node.func) if called in {"eval", "exec", "load", "save"} else ""
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


PAGES = ["docs/architecture.md", "docs/guide/how-fast.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str):
    """`models/heads.py` in backquotes is a file of the package, or of the project."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = {path for path in re.findall(r"`((?:\w+/)+\w+\.py)`", text) if "mine" not in path}
    missing = [p for p in sorted(paths) if not any((root / p).exists() for root in (PACKAGE, ROOT))]
    report([f"{page}: there is no {path}" for path in missing])
