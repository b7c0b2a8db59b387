"""Lists and objects that stand in a cell of text: one reader for every task and format.

A CSV file holds text alone, so whatever wrote a list into it printed it: `json.dumps`, pandas (the
`repr` of a list, tuple, set or dictionary), `datasets` and NumPy (`array(['a', 'b'],
dtype=object)`, `['a' 'b']`, `[1. 0.]`, `np.int64(3)`). Nothing of it is run: the text is taken
apart by Python's grammar, and only literals count.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from typing import Any

OPENING, CLOSING = "[{(", "]})"
CALLS = re.compile(r"(?:array|set|frozenset)\(")
GLUED = re.compile(r"""['"]\s+[uU]?['"]""")
"""Two strings with nothing but space between, as NumPy prints them; Python makes one of them."""
FAULTS = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
WRAPPERS = {"array", "set", "frozenset", "tuple", "list"}


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
        case ast.Name(id="nan"):
            return None
        case ast.Call(func=ast.Name(id=name), args=[]) if name in WRAPPERS:
            return []
        case ast.Call(func=ast.Name(id=name), args=[inside, *_]) if name in WRAPPERS:
            return _value(inside)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np")), args=[inside]):
            return _value(inside)
        case _:
            raise ValueError("no literal")
