"""What stands in a cell: a value as text, and a list or an object that was written as text.

One value has one text, whatever the format that it comes from. `DataFrame.to_csv` and
`Dataset.to_csv` write what a cell holds as `print` would: `['a', 'b']`, `{'a', 'b'}`,
`{'text': array(['a'], dtype=object)}`, `['a' 'b']`. There is one reader of all of these, so that
every task reads them alike.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

BRACKETS = ("[", "{", "(")
CONTAINERS = ("array", "list", "tuple", "set", "frozenset", "dict")
"""Names that stand before the values of a container, as in array([1, 2])."""
SIDE_BY_SIDE = re.compile(r"""['"]\s+[bur]?['"]|\d\.?\s+-?\d""")
NOTHING = ("nan", "NaN", "None", "null", "NaT")
WORDS = {"true": True, "false": False, "inf": float("inf")}


NUMBER = re.compile(r"-?\d+(\.\d+)?")
WHOLE = re.compile(r"\.0+$")


def as_text(value: Any) -> str | None:
    """A cell as text: 3.0 as "3", true as "true", nested values as JSON, a period as "2024-01"."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Enum):
        return as_text(value.value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        if value != value:
            return None
        return str(int(value)) if float(value).is_integer() else str(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=as_text)
    return str(value)


def in_order(names: Iterable[str]) -> list[str]:
    """Labels sorted; those that are all numbers by their value, so that 2 stands before 10."""
    ordered = sorted(names)
    if all(NUMBER.fullmatch(name) for name in ordered):
        ordered.sort(key=float)
    return ordered


def one_name_a_value(names: Iterable[str]) -> dict[str, str]:
    """Old → new name of labels whose value has several spellings: where all are numbers, 1.0 is 1;
    where all are truth values, True and TRUE are true."""
    names = list(names)
    bare = [name.strip() for name in names]
    if all(name.lower() in ("true", "false") for name in bare):
        new = [name.lower() for name in bare]
    elif all(NUMBER.fullmatch(name) for name in bare):
        new = [WHOLE.sub("", name) for name in bare]
    else:
        return {}
    return {a: b for a, b, c in zip(names, new, bare, strict=True) if b != c}


def parse_cell(cell: Any) -> Any:
    """The list or object that a cell of text holds; all else as it is. Sets and tuples become
    lists, and a value that is missing, as `nan`, None."""
    if not isinstance(cell, str) or not cell.strip().startswith(BRACKETS):
        return cell
    text = cell.strip()
    for read in (json.loads, _printed):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        return value if isinstance(value, list | dict) else cell
    return cell


def _printed(text: str) -> Any:
    """What `print` showed. Raises `ValueError` or `SyntaxError`."""
    return _value(ast.parse(_with_commas(text), mode="eval").body)


def _with_commas(text: str) -> str:
    """NumPy prints an array without commas: ['a' 'b'] and [0 1] are given them, for Python would
    glue the former and refuse the latter."""
    if not SIDE_BY_SIDE.search(text):
        return text
    values = (tokenize.STRING, tokenize.NUMBER)
    parts: list[str] = []
    before, end = 0, (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in values and before in values and token.start > end:
            parts.append(",")
        if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            parts.append(token.string)
            before, end = token.type, token.end
    return " ".join(parts)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key) for key in node.keys if key is not None]
        if len(keys) < len(node.values) or any(isinstance(key, list | dict) for key in keys):
            raise ValueError("not an object")
        return dict(zip(map(str, keys), map(_value, node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.Name) and node.id in WORDS:
        return WORDS[node.id]
    if isinstance(node, ast.Name) and node.id in NOTHING:
        return None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in CONTAINERS:
            return _value(node.args[0]) if node.args else []
        if name in ("str_", "float64", "float32", "int64", "int32", "bool_") and node.args:
            return _value(node.args[0])  # as NumPy 2 prints a value
    raise ValueError("not a value")
