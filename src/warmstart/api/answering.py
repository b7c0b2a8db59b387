"""The verbs that ask a saved model: predict, evaluate, build, generate, chat, prefer, pipeline,
serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from warmstart.data.readers.files import check_exists, unusable
from warmstart.errors import RecipeError
from warmstart.pipelines.request import engine_of
from warmstart.run import Folder, folder_named, usable
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.pipelines.compress.result import Compressed
    from warmstart.pipelines.writing.chat import Chat
    from warmstart.pipelines.writing.generate import OnToken, Written
    from warmstart.pipelines.writing.prefer import Judgements, Pair
    from warmstart.serving.models import Models
    from warmstart.types import Listener


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
    from warmstart.pipelines.compare import evaluate as judging

    if isinstance(data, str | Path) and unusable(data):
        check_exists(Path(data))
    where = None if out is None else usable(out)
    if isinstance(model, list | tuple):
        return judging.leaderboard([folder_named(name) for name in model], data, where, keys)
    return judging.evaluate(Path(folder_named(model)), data, where, keys)


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
    from warmstart.pipelines.measuring import engines

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
    texts = write(
        models,
        prompts,
        keys,
        raw=raw,
        out=None if out is None else usable(out),
        notes=notes,
        on_token=on_token,
    )
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


def compress(
    model: Folder,
    data: Any = None,
    *,
    method: str | Sequence[str],
    out: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    **keys: Any,
) -> Compressed:
    """Make smaller models of a trained one, each proven against it.

    Args:
        model: a run (a `Run`, or its folder), or a model folder with `data`.
        data: labelled rows on which products are proven; unset: the run's own test rows.
        method: distill, prune, quantize or vocabulary; several as a list, or with commas.
        out: the folder of the products, which an interrupted call goes on with; unset:
            `<run>-compressed` beside the run.
        listeners: told of every step and epoch of those that learn.
        progress: is called with (what, done, of) before each is measured.
        keys: `compress.*` settings of the methods (of one with commas each value is a product);
            `train.*`, `objective.*`, `evaluate.*` and `seed` for those that learn; `engine.*` of a
            hosted teacher.

    A product that loses more than `compress.allowed_loss` points stands in `Compressed.lost`.
    Raises `WarmstartError`; nothing is written before every product is known to be possible.
    """
    from warmstart.pipelines.compress import run as compression

    folder, place = Path(folder_named(model)), None if out is None else usable(out)
    return compression.compress(folder, data, method, keys, place, listeners, progress)


def plan_compression(
    model: Folder,
    data: Any = None,
    *,
    method: str | Sequence[str],
    out: str | Path | None = None,
    **keys: Any,
) -> Mapping[str, Any]:
    """What `compress` would do; see `plan`."""
    from warmstart.pipelines.compress import run as compression

    folder, place = Path(folder_named(model)), None if out is None else usable(out)
    return compression.plan_compression(folder, data, method, keys, place)


def serve(
    models: Folder | Sequence[Folder] | Mapping[str, Folder],
    *,
    on_start: Callable[[str, Models], None] | None = None,
    dry_run: bool = False,
    **keys: Any,
) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C: OpenAI's routes, and those of the other tasks.

    Args:
        models: runs, model folders, adapters, bases and indexes, called as their folders, or a
            mapping of names; nothing else is ever loaded.
        on_start: is told the address when it listens, and the models.
        dry_run: end then, and answer nobody.
        keys: settings of `serving.settings.Serving`; `engine` and its settings.

    Raises `WarmstartError`; where the extra `serve` is not installed too.
    """
    if not all(map(find_spec, ("fastapi", "uvicorn", "llguidance", "prometheus_client"))):
        raise RecipeError("serve needs packages that are not here: pip install 'warmstart[serve]'")
    from warmstart.pipelines.serving.serve import serve as run_it

    run_it(models, keys, on_start, dry_run=dry_run)
