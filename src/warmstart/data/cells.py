"""What stands in a cell: a value as text, and a list or an object that was written as text.

One value has one text, whatever the format that it comes from. A CSV file holds text alone, so
whatever wrote a list into it printed it: `json.dumps`, pandas (the `repr` of a list, tuple, set or
dictionary), `datasets` and NumPy (`array(['a', 'b'], dtype=object)`, `['a' 'b']`, `[1. 0.]`,
`np.int64(3)`). There is one reader of all of these, for every task and format. Nothing of it is
run: the text is taken apart by Python's grammar, and only literals count.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

OPENING, CLOSING = "[{(", "]})"
CALLS = re.compile(r"(?:array|set|frozenset)\(")
GLUED = re.compile(r"""['"]\s+[uU]?['"]""")
"""Two strings with nothing but space between, as NumPy prints them; Python makes one of them."""
FAULTS = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
WRAPPERS = {"array", "set", "frozenset", "tuple", "list"}
NOTHING = {"nan", "NaN", "NaT", "null"}
WORDS = {"true": True, "false": False}
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
    """A list or object that stands in a cell as JSON, or as Python or NumPy print it; all else as
    it is. A tuple, a set and an array are a list in the order in which they are written."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text or text[-1] not in CLOSING:
        return cell
    if text[0] not in OPENING and not CALLS.match(text):
        return cell
    for read in (json.loads, _printed):
        try:
            value = read(text)
        except FAULTS:
            continue
        return value if isinstance(value, list | dict) else cell
    return cell


def _printed(text: str) -> Any:
    """What Python or NumPy printed. Raises `ValueError` or `SyntaxError` for anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of an escape that Python does not know
        if GLUED.search(text) is None:
            try:
                return _value(ast.parse(text, mode="eval").body)
            except SyntaxError:
                pass
        return _value(ast.parse(_with_commas(text), mode="eval").body)


def _with_commas(text: str) -> str:
    """An array as NumPy prints it, with a comma between two items where there is none."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    values = (tokenize.STRING, tokenize.NUMBER, tokenize.NAME)
    pieces, done, ended = list[str](), 0, False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        begins = token.type in values or token.string in ("[", "-")
        if begins and ended:
            at = starts[token.start[0] - 1] + token.start[1]
            pieces += [text[done:at], ","]
            done = at
        if token.string.strip():
            ended = token.type in values or token.string == "]"
    return "".join([*pieces, text[done:]])


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_value(key): _value(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name) if name in NOTHING:
            return None
        case ast.Name(id=name) if name in WORDS:
            return WORDS[name]
        case ast.Call(func=ast.Name(id=name), args=[]) if name in WRAPPERS:
            return []
        case ast.Call(func=ast.Name(id=name), args=[inside, *_]) if name in WRAPPERS:
            return _value(inside)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np")), args=[inside]):
            return _value(inside)
        case _:
            raise ValueError("no literal")
