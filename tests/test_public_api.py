"""What users may rely on, written down: a change of it is seen in the diff of the golden file."""

from __future__ import annotations

import difflib
import inspect
import os
from pathlib import Path
from typing import Annotated, get_args, get_origin

import warmstart

GOLDEN = Path(__file__).parent / "golden" / "public_api.txt"
REFRESH = "WARMSTART_REFRESH_GOLDEN"
MOST_NAMES = 35  # a name for each verb


def test_the_public_names_and_signatures_are_as_written():
    now = describe_all()
    if os.environ.get(REFRESH):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(now, encoding="utf-8")
    written = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    change = "\n".join(
        difflib.unified_diff(
            written.splitlines(), now.splitlines(), "golden", "now", lineterm="", n=1
        )
    )
    assert not change, (
        f"the public API has changed:\n{change}\n"
        f"If that is meant, say so in CHANGELOG.md and run: {REFRESH}=1 .venv/bin/pytest {__file__}"
    )


def test_there_are_few_names_and_all_of_them_exist():
    names = list(warmstart.__all__)
    assert len(names) <= MOST_NAMES
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []
    assert [name for name in names if not hasattr(warmstart, name)] == []
    assert set(names) <= set(dir(warmstart))


def test_every_public_name_is_explained():
    values = {name: getattr(warmstart, name) for name in warmstart.__all__}
    callables = {name: value for name, value in values.items() if callable(value)}
    assert [name for name, value in callables.items() if not inspect.getdoc(value)] == []


def describe_all() -> str:
    lines: list[str] = []
    for name in sorted(warmstart.__all__):
        lines += describe(name, getattr(warmstart, name))
    return "\n".join(lines) + "\n"


def describe(name: str, value: object) -> list[str]:
    """One public name: a function's signature, or a class with its public methods."""
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        own = [(key, found) for key, found in sorted(vars(value).items()) if key[0] != "_"]
        head = f"class {name}({bases})" if bases else f"class {name}"
        if "__init__" in vars(value) or not issubclass(value, Exception):
            head += f"  {signature(value)}"
        return [head, *[f"    {line}" for line in filter(None, (member(k, v) for k, v in own))]]
    if callable(value):
        return [f"def {name}{signature(value)}"]
    if inspect.ismodule(value):
        return [f"module {name}"]
    return [f"{name}: {type(value).__name__}"]


def member(name: str, value: object) -> str:
    if isinstance(value, property):
        returns = inspect.signature(value.fget).return_annotation if value.fget else ""
        return f"property {name} -> {annotation(returns)}"
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{signature(value.__func__)}"
    if inspect.isfunction(value):
        return f"def {name}{signature(value)}"
    return ""


def signature(value: object) -> str:
    """A signature that reads the same on every Python: annotations as they are written."""
    try:
        found = inspect.signature(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return "(…)"
    parameters: list[str] = []
    star = False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            star = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not star:
            parameters.append("*")
            star = True
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        text = prefix.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {default(parameter.default)}"
        parameters.append(text)
    returns = ""
    if found.return_annotation not in (inspect.Signature.empty, None):
        returns = f" -> {annotation(found.return_annotation)}"
    return f"({', '.join(parameters)}){returns}"


def annotation(value: object) -> str:
    if get_origin(value) is Annotated:  # validators have addresses, which are no promise
        value = get_args(value)[0]
    return value if isinstance(value, str) else inspect.formatannotation(value)


def default(value: object) -> str:
    """A default as text; one that has no plain text is shown as an ellipsis."""
    text = repr(value)
    return "…" if " at 0x" in text or "<" in text else text
