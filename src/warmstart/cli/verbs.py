"""What the verbs of the command line do: call the API, and print what it gives."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from warmstart import api
from warmstart.cli.chat import Talk, judging
from warmstart.cli.output import adapters as show_adapters
from warmstart.cli.output import answers as show_answers
from warmstart.cli.output import generation as show_texts
from warmstart.cli.output import measured as show_measured
from warmstart.cli.output import run as show
from warmstart.cli.output import serving as show_serving
from warmstart.cli.output import stages as show_stages
from warmstart.cli.output.tables import notes as show_notes
from warmstart.cli.output.tables import print_json
from warmstart.cli.output.tokenizers import PRINTERS
from warmstart.cli.parser import Request, number, truth, whole
from warmstart.cli.progress import Bars, Stages
from warmstart.data.readers.files import check_exists
from warmstart.data.readers.text import stdin_documents, stdin_lines
from warmstart.errors import RecipeError, nearest, shown, typed
from warmstart.models.gguf import FETCHABLE
from warmstart.models.sampling.settings import Sampling
from warmstart.part import OWN_HEAD, allow_named
from warmstart.serving.settings import Serving

LOST = 3
"""The exit code where a smaller model lost more than is allowed."""


def tune(request: Request) -> None:
    """`warmstart tune DATA`."""
    data, options = request.words.get("DATA"), request.options
    source: dict[str, Any] = {"recipe": options["recipe"], "resume": options["resume"]}
    if options["dry-run"] or options["show-mask"]:
        planned = api.plan(data, **source, **request.keys)
        if options["show-mask"]:
            show.mask(planned)
        if options["dry-run"]:
            _show(request, planned, show.plan)
            return
    with Bars() as bars:
        result = api.tune(data, **source, listeners=[bars], **request.keys)
    show.tuned(result, as_json=options["json"])


def pretrain(request: Request) -> None:
    """`warmstart pretrain CORPUS`."""
    word, options = request.words.get("CORPUS"), request.options
    corpus: Any = stdin_documents() if word == "-" else word
    if word and "," in word and not os.path.exists(word):
        corpus = word.split(",")
        for name in corpus:
            check_exists(Path(name))
    own = {key: options[key] for key in ("architecture", "size") if options[key] is not None}
    source: dict[str, Any] = {"recipe": options["recipe"], "resume": options["resume"]}
    if options["dry-run"]:
        _show(
            request, api.plan(corpus, verb="pretrain", **source, **own, **request.keys), show.plan
        )
        return
    with Bars() as bars:
        run = api.pretrain(corpus, **source, listeners=[bars], **own, **request.keys)
    show.tuned(run, as_json=options["json"])


def align(request: Request) -> None:
    """`warmstart align DATA`."""
    data, options = request.words.get("DATA"), request.options
    source: dict[str, Any] = {"recipe": options["recipe"], "resume": options["resume"]}
    if options["dry-run"]:
        _show(request, api.plan(data, verb="align", **source, **request.keys), show.plan)
        return
    with Bars() as bars:
        run = api.align(data, **source, listeners=[bars], **request.keys)
    show.tuned(run, as_json=options["json"])


def run(request: Request) -> None:
    """`warmstart run FILE`."""
    file, options = request.words.get("FILE"), request.options
    where: dict[str, Any] = {"out": options["out"], "resume": options["resume"]}
    if request.keys:
        raise RecipeError(
            f"--{next(iter(request.keys))} would be of one stage, and which is not said: write it "
            "into the file, below its [[stages]]"
        )
    if options["dry-run"]:
        _show(request, api.plan_stages(file, **where), show_stages.plan)
        return
    with Bars() as bars:
        result = api.run_stages(file, **where, listeners=[bars])
    show_stages.done(result, as_json=options["json"])


def scaling(request: Request) -> None:
    """`warmstart scaling RUN RUN RUN`."""
    if request.keys:
        raise RecipeError(f"no option '--{next(iter(request.keys))}' of scaling. There are: "
                          "compute, parameters, tokens, rate, price")  # fmt: skip
    wanted = {key: number(key, value) for key, value in _set_options(request).items()}
    _show(request, api.scaling(request.several, **wanted), show_stages.scaled)


def inspect(request: Request) -> None:
    """`warmstart inspect DATA`."""
    from warmstart.cli.output.inspection import print_inspection

    options = request.options
    with Stages() as stages:
        inspection = api.inspect(
            request.words.get("DATA"),
            out=options["out"],
            fix=options["fix"],
            split=options["split"],
            features=truth("features", options["features"] or "true"),
            max_rows=whole("max-rows", options["max-rows"] or "20000"),
            progress=stages,
            **request.keys,
        )
    print_inspection(inspection, as_json=options["json"])


def demo(request: Request) -> None:
    """`warmstart demo`."""
    if named := [key for key in request.keys if key in ("data.path", "data.train")]:
        raise RecipeError(
            f"{named[0]} has no meaning for demo, which trains on its own sample; for data of "
            f"yours: warmstart tune {typed(shown(request.keys[named[0]], 100))}"
        )
    with Bars() as bars:
        run = api.demo(listeners=[bars], **request.keys)
    show.tuned(run, as_json=request.options["json"])


def predict(request: Request) -> None:
    """`warmstart predict MODEL DATA`."""
    model, source = request.words["MODEL"] or "", _texts(request.words.get("DATA"))
    out, as_json = request.options["out"], request.options["json"]
    notes: list[str] = []
    if out is not None:
        rows = api.predict(model, source, out=out, notes=notes, **request.keys)
        show_answers.labelled(rows, out, notes, as_json=as_json)
    else:
        answers = api.answers(model, source, notes=notes, **request.keys)
        show_answers.predictions(answers, as_json=as_json)
    show_notes(notes)


def evaluate(request: Request) -> None:
    """`warmstart evaluate MODEL DATA`."""
    models, data = _models(request.words["MODEL"] or ""), request.words["DATA"]
    out = request.options["out"]
    if len(models) > 1:
        table = api.evaluate(models, data, out=out, **request.keys)
        _show(request, table, partial(show_answers.leaderboard, out=out))
        return
    metrics = api.evaluate(request.words["MODEL"] or "", data, out=out, **request.keys)
    _show(request, metrics, partial(show.metrics, out=out))


def build(request: Request) -> None:
    """`warmstart build MODEL [DATA] --engine NAME`."""
    with Stages() as progress:
        made = api.build(request.words["MODEL"] or "", request.words.get("DATA"), progress=progress,
                         **request.keys)  # fmt: skip
    _show(request, made, show_measured.engines)


def compress(request: Request) -> int:
    """`warmstart compress MODEL [DATA] --method NAME`; the exit code is 3 where a product lost more
    than is allowed."""
    model, data, options = request.words["MODEL"] or "", request.words.get("DATA"), request.options
    methods = ",".join(filter(None, (options["method"], options["methods"])))
    own = {name: value for name, value in options.items() if name.startswith("compress.")}
    keys = {key: value for key, value in own.items() if value is not None} | request.keys
    keys = {key: "true" if value is True else value for key, value in keys.items()}
    where: dict[str, Any] = {"method": methods, "out": options["out"]}
    if options["dry-run"]:
        _show(request, api.plan_compression(model, data, **where, **keys), show_measured.plan)
        return 0
    with Bars() as bars:
        made = api.compress(model, data, **where, listeners=[bars], progress=bars.stage, **keys)
    _show(request, made.summary, partial(show_measured.made, report=made.report))
    return LOST if made.lost else 0


def generate(request: Request) -> None:
    """`warmstart generate MODEL PROMPT...`."""
    options, words = request.options, request.several or ["-"]
    prompts = [*stdin_lines()] if words == ["-"] else words
    notes: list[str] = []
    several = len(prompts) > 1 or os.path.exists(prompts[0])
    show = show_texts.Texts(
        stream=bool(options["stream"]), as_json=bool(options["json"]), several=several
    )
    texts = api.generate(
        _models(request.words["MODEL"] or ""), prompts, raw=bool(options["raw"]),
        out=options["out"], notes=notes, on_token=show.token if options["stream"] else None,
        **_sampling(request),
    )  # fmt: skip
    show.all(texts, notes, options["out"])


def chat(request: Request) -> None:
    """`warmstart chat MODEL`."""
    system = request.options["system"] or ""
    opened = api.chat(request.words["MODEL"] or "", system=system, **_sampling(request))
    Talk(opened, as_json=bool(request.options["json"])).run()


def prefer(request: Request) -> None:
    """`warmstart prefer RUN_A RUN_B PROMPTS`."""
    options, words = request.options, request.words
    out, name = options["out"] or "preferences.jsonl", options["annotator"]
    name = getpass.getuser() if name is None else name
    both = words["RUN_A"] or "", words["RUN_B"] or ""
    settings = _sampling(request)
    port = whole("port", options["port"]) if options["port"] else 0
    with judging(page=bool(options["page"]), port=port) as choose:
        result = api.prefer(*both, words["PROMPTS"], choose, out=out, annotator=name, **settings)
    show_texts.judged(result, as_json=bool(options["json"]))


def index(request: Request) -> None:
    """`warmstart index MODEL DATA`."""
    model, data, out = request.words["MODEL"] or "", request.words["DATA"], request.options["out"]
    if not out:
        raise RecipeError("index needs --out FOLDER, where the index goes")
    notes: list[str] = []
    made = api.retrieval.index(model, data, out=out, notes=notes, **request.keys)
    show_answers.indexed(made, as_json=request.options["json"])
    show_notes(notes)


def search(request: Request) -> None:
    """`warmstart search INDEX QUERY`."""
    top = whole("top", request.options["top"] or "10")
    opened = api.retrieval.Index(request.words["INDEX"] or "")
    query = _texts(request.words.get("QUERY"))
    for text in [query] if isinstance(query, str) else query:
        show_answers.matches(text, opened.search(text, top), as_json=request.options["json"])


def serve(request: Request) -> None:
    """`warmstart serve RUN...`."""
    options = request.options
    if options["new-key"]:
        show_serving.new_key(options["keys"], as_json=bool(options["json"]))
        return
    if not request.several:
        raise RecipeError("serve needs a run or model folder: warmstart serve RUN...")
    values = {key: options.get(key) for key in Serving.model_fields}
    settings = {key: value for key, value in values.items() if value is not None}
    dry_run = bool(options["dry-run"])
    ready = partial(show_serving.ready, as_json=bool(options["json"]), dry_run=dry_run)
    api.serve(request.several, on_start=ready, dry_run=dry_run, **settings, **request.keys)


def models(request: Request) -> None:
    """`warmstart models`, `warmstart models fetch NAME`."""
    action, name = request.words.get("fetch"), request.words.get("NAME")
    if action is None:
        _show(request, api.models(), show.models)
        return
    if action != "fetch":
        raise RecipeError(f"no models verb '{shown(action)}'.{nearest(action, ['fetch'])}")
    if name is None:
        raise RecipeError(f"models fetch needs a name after it.{nearest('', FETCHABLE)}")
    _show(request, api.fetch(name), show.fetched)


def tokenizer(request: Request) -> None:
    """`warmstart tokenizer train CORPUS`, `show TEXT`, `compare DATA`, `extend BASE`."""
    action = request.verb.partition(" ")[2]
    (value,) = request.words.values()
    word: Any = value or ""
    if action in ("train", "compare") and "," in word and not os.path.exists(word):
        word = word.split(",")
    function = getattr(api.tokenizer, action)
    if (own := next(iter(signature(function).parameters))) in request.keys:
        second = shown(request.keys[own])
        raise RecipeError(
            f"tokenizer {action} takes one {own}, as the word behind it, and --{own} is a second "
            f"one: warmstart tokenizer {action} {second} ..."
        )
    with Stages() as progress:
        result = function(word, progress=progress, **_set_options(request), **request.keys)
    _show(request, result, PRINTERS[action])


def adapters(request: Request) -> None:
    """`warmstart adapters list FOLDER...`, `merge ADAPTER`, `add ADAPTER...`, `average
    ADAPTER...`."""
    action = request.verb.partition(" ")[2]
    allow_named(request.keys)
    if strange := [key for key in request.keys if key != OWN_HEAD]:
        known = ", ".join(f"--{name.partition(' ')[0]}" for name in request.spec.options)
        raise RecipeError(
            f"no option '--{strange[0]}' of {request.verb}. There are: {known or 'none'}"
        )
    if action == "list":
        _show(request, api.adapters.listing(request.several or "runs"), show_adapters.listed)
        return
    if request.options["out"] is None:
        raise RecipeError(f"adapters {action} needs --out FOLDER, where it goes")
    words: Any = request.several or request.words.get("ADAPTER")
    result = getattr(api.adapters, action)(words, **_set_options(request))
    _show(request, result, partial(show_adapters.written, action))


def recipe(request: Request) -> None:
    """`warmstart recipe`."""
    _show(request, api.recipe_for(None, request.options["recipe"], request.keys), show.recipe)


def _show(request: Request, value: Any, printer: Callable[[Any], None]) -> None:
    """Print a value as JSON, or for people."""
    (print_json if request.options["json"] else printer)(value)


def _set_options(request: Request) -> dict[str, Any]:
    """The options that were given, as they are passed on."""
    options = request.options.items()
    return {key: value for key, value in options if value is not None and key != "json"}


def _sampling(request: Request) -> Mapping[str, Any]:
    """The settings of generation that were given, in either spelling, and other keys."""
    values = {key: request.options.get(key) for key in Sampling.model_fields}
    return {key: value for key, value in values.items() if value is not None} | request.keys


def _models(word: str) -> list[str]:
    """Several with commas, unless there is a folder of this name."""
    return [word] if os.path.exists(word) else [name for name in word.split(",") if name]


def _texts(word: str | None) -> str | Iterable[str]:
    """A word of the command line, or the lines of stdin where there is none, or `-`."""
    return stdin_lines() if word is None or word == "-" else word
