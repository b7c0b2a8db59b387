"""The words of a command line: the verb, what it works on, its options, and recipe keys.

Any key of the recipe is a flag, before or after the other words: `--train.epochs 3`,
`--train.epochs=3` or `train.epochs=3`. Values stay text until the recipe gives them a meaning.
"""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmstart import part as parts
from warmstart.config.keys import APPLIES, PARTS, SECTIONS, current_name
from warmstart.config.recipe import Recipe, catalogue
from warmstart.config.validation import kinds
from warmstart.errors import RecipeError, nearest, shown

PAIR = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*=")
TRUTHS = {"true", "false", "yes", "no", "on", "off", "1", "0"}


@dataclass(frozen=True)
class Verb:
    """What may stand after a verb. In `words` and `options`, name → meaning."""

    help: str
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    """A name in brackets may be absent."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """With its value after it where there is one: `recipe FILE`."""
    keys: tuple[str, ...] = ()
    """The heads of the recipe keys that apply."""
    verbs: Mapping[str, Verb] = field(default_factory=dict[str, "Verb"])
    """Sub-verbs; where there are any, one of them must follow: `warmstart tokenizer train`."""


@dataclass
class Request:
    """A command line, taken apart."""

    verb: str
    """Its name; of a sub-verb with that of its verb: `tokenizer train`."""
    spec: Verb
    words: dict[str, str | None]
    several: list[str] = field(default_factory=list[str])
    """The words for a name that ends in `...`, of which there may be any number."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    keys: dict[str, Any] = field(default_factory=dict[str, Any])


def parse(argv: Sequence[str], verbs: Mapping[str, Verb]) -> Request:
    """Take the words after `warmstart` apart. Raises `RecipeError`."""
    name, *queue = argv
    if name not in verbs:
        is_file = " A file needs a verb: warmstart tune FILE." if os.path.exists(name) else ""
        kind = "flag before the verb" if name.startswith("-") else "verb"
        raise RecipeError(f"no {kind} '{name}'.{is_file or nearest(name, verbs)}")
    verb = verbs[name]
    if verb.verbs:
        if queue and queue[0] in ("-h", "--help"):
            return Request(name, verb, {}, options={"help": True})
        below = queue.pop(0) if queue else ""
        if below not in verb.verbs:
            reason = f"no {name} verb '{below}'" if below else f"{name} needs a verb after it"
            raise RecipeError(f"{reason}.{nearest(below, verb.verbs)}")
        name, verb = f"{name} {below}", verb.verbs[below]
    options = {name: value for name, _, value in (text.partition(" ") for text in verb.options)}
    options |= {"json": "", "help": ""}
    request = Request(name, verb, {}, options=dict.fromkeys(options))
    free = list(verb.words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            _take(request, free, queue)
            break
        if word == "-h":
            request.options["help"] = True
            continue
        if word.startswith("--"):
            _take_flag(request, options, word[2:], queue)
            continue
        key, _, value = word.partition("=")
        known = current_name(key).partition(".")[0] in Recipe.model_fields
        if PAIR.match(word) and not os.path.exists(word) and (known or not free):
            request.keys[key.replace("-", "_")] = value
        else:
            _take(request, free, [word])
    if request.options["help"]:
        return request
    if request.several:
        free.pop()  # only the last name may stand for several words
    if missing := [word for word in free if not word.startswith("[")]:
        raise RecipeError(
            f"{name} needs {' and '.join(missing)} ({'; '.join(verb.words[w] for w in missing)}): "
            f"{usage(name, verb)}"
        )
    return request


def usage(name: str, verb: Verb) -> str:
    """`warmstart tune [DATA] [--KEY VALUE …]`."""
    if verb.verbs:
        return f"warmstart {name} {{{','.join(verb.verbs)}}} ..."
    keys = ["[--KEY VALUE ...]"] if verb.keys else []
    return " ".join(["warmstart", name, *verb.words, *keys])


def _take(request: Request, free: list[str], words: Sequence[str]) -> None:
    for word in words:
        if not free:
            raise RecipeError(f"what is '{word}'? Keys of the recipe are given as --KEY VALUE")
        if free[0].strip("[]").endswith("..."):
            request.several.append(word)
        else:
            request.words[free.pop(0).strip("[]")] = word


def _take_flag(request: Request, options: Mapping[str, str], word: str, queue: list[str]) -> None:
    """Take a word that began with `--`, and its value."""
    name, equals, value = word.partition("=")
    if name in options and not options[name]:
        if equals:
            raise RecipeError(f"--{name} takes no value")
        request.options[name] = True
        return
    key = name.replace("-", "_")
    if not equals:
        info = catalogue().get(current_name(key))
        switch = info is not None and bool in kinds(info)  # which needs no value
        if switch and not (queue and queue[0].lower() in TRUTHS):
            value = "true"
        elif not queue or queue[0].startswith("--"):
            raise RecipeError(f"--{name} needs a value after it")
        else:
            value = queue.pop(0)
    if name in options:
        request.options[name] = value
    else:
        request.keys[key] = value


def truth(option: str, value: str) -> bool:
    """An option's value that is true or false. Raises `RecipeError`."""
    if value.lower() not in TRUTHS:
        raise RecipeError(f"--{option} = {shown(value)}: give true or false")
    return value.lower() in ("true", "yes", "on", "1")


def whole(option: str, value: str) -> int:
    """An option's value that is a whole number of at least 1. Raises `RecipeError`."""
    if not value.replace("_", "").isdecimal() or int(value) < 1:
        raise RecipeError(f"--{option} = {shown(value)}: give a whole number of at least 1")
    return int(value)


def number(option: str, value: str) -> float:
    """An option's value that is a number above 0. Raises `RecipeError`."""
    with contextlib.suppress(ValueError):
        if 0 < float(value) < float("inf"):
            return float(value)
    raise RecipeError(f"--{option} = {shown(value)}: give a number above 0, as in 1e16")


def overview(verbs: Mapping[str, Verb], about: str) -> str:
    """What `warmstart --help` prints."""
    lines = ["usage: warmstart VERB ... [--KEY VALUE ...]", "", about, ""]
    lines += [f"  {name:<10} {verb.help}" for name, verb in verbs.items()]
    lines += ["", f"  {'--help':<10} this; after a verb, what it takes"]
    lines += [f"  {'--version':<10} the version", "", EXAMPLE]
    return "\n".join(lines)


EXAMPLE = """\
Any key of the recipe is a flag: --base minilm --method lora --method.rank 16 --train.epochs 3
--data.columns.text body --out runs/mine. `warmstart recipe` prints all keys with their meaning."""


def explained(name: str, verb: Verb) -> str:
    """What `warmstart VERB --help` prints: words, options, and the recipe keys that apply."""
    lines = [f"usage: {usage(name, verb)}", "", verb.help, ""]
    if verb.verbs:
        return "\n".join([*lines, *(f"  {n:<10} {v.help}" for n, v in verb.verbs.items())])
    for word, meaning in verb.words.items():
        lines += _explained(word.strip("[]"), meaning)
    for option, meaning in verb.options.items():
        lines += _explained(f"--{option}", meaning)
    lines += [f"  {'--json':<16} print JSON for machines"]
    if not verb.keys:
        return "\n".join(lines)
    lines += ["", "keys of the recipe (`warmstart recipe` explains each):"]
    known, applies = catalogue(), APPLIES.get(name, {})
    for key in verb.keys:
        text = known[key].description or ""
        if key in PARTS:
            settings = {name: parts.find(key, name).model_fields for name in parts.names(key)}
            named = [
                f"{name} ({', '.join(own)})" if own else name for name, own in settings.items()
            ]
            text += f": {'; '.join(named)}"
        elif key in SECTIONS:
            text += f": {', '.join(applies.get(key) or SECTIONS[key].model_fields)}"
        lines += _explained(f"--{key}", text)
    lines += ["", "a setting is named behind its section: --train.epochs 3 --method.rank 16"]
    return "\n".join(lines)


def _explained(name: str, meaning: str) -> list[str]:
    """A name and its meaning, in lines that fit on a screen."""
    return textwrap.wrap(
        f"{name:<16} {meaning}", 96, initial_indent="  ", subsequent_indent=" " * 19,
        break_on_hyphens=False,
    )  # fmt: skip
