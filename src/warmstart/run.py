"""The run: a folder with everything that happened.

recipe.toml          what was asked, resolved
run.json             status, versions, labels, fingerprints, the recipe it began with
model/               a plain Hugging Face folder (or a PEFT adapter)
metrics.json         the scores with intervals, baselines, calibration
predictions.parquet  the test rows with the model's answers
ledger.json          every row and token accounted for (events in ledger.parquet)
proof.json           the saved folder, loaded afresh, answers as the trained model did
log.jsonl            the course of training; trainer_state.json for its readers
report.html          to be read by people
checkpoints/         while training lasts
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from warmstart import files
from warmstart.config.recipe import Recipe
from warmstart.config.toml import read_file
from warmstart.data.readers.files import unusable
from warmstart.data.readers.objects import is_series
from warmstart.errors import RecipeError, RunError, nearest, shown, typed
from warmstart.files import write_json, write_text
from warmstart.models.checks import is_adapter
from warmstart.types import Metrics, Prediction, RunFolder, RunReport, TaskName

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None

if TYPE_CHECKING:
    from warmstart.inference.predictor import Predictor

LONGEST = 200  # bytes of a name; most systems allow 255
KINDS: Mapping[str, tuple[type, ...]] = {
    "status": (str,), "labels": (list, dict), "rows": (dict,), "base": (dict,), "recipe": (str,),
    "created": (str,), "versions": (dict,), "size": (dict,), "speed": (dict,), "history": (list,),
    "threads": (int,),
}  # fmt: skip
"""What the facts of `run.json` are, where they are there."""


class Run:
    """A run folder. Open one with `Run(path)`; raises `RunError` when there is none. A run may
    stand wherever the path of its folder may."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(folder_named(path))
        if not (self.path / "run.json").is_file():
            if self.path.exists():
                raise RunError(
                    f"{self.path} is no run: it has no run.json; give the folder that `tune` wrote"
                )
            beside = [p.parent.name for p in self.path.parent.glob("*/run.json")]
            guess = nearest(self.path.name, beside) or " Check the path"
            raise RunError(f"there is no run {self.path}.{guess}")
        self._predictor: Predictor | None = None

    @classmethod
    def create(cls, path: Path, recipe: Recipe, facts: dict[str, Any]) -> Run:
        """Begin a run in an empty or new folder. Raises `RunError`."""
        check_free(path)
        existed = path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "run.json").touch(exist_ok=False)  # of two that meet here, one goes on
            text = recipe.to_toml()
            write_text(path / "recipe.toml", text)
            write_json(path / "run.json", {"status": "running", **facts, "recipe": text})
        except FileExistsError:
            raise RunError(f"another run has just begun in {path}; choose another --out") from None
        except OSError as error:
            for name in ("recipe.toml", "run.json"):
                (path / name).unlink(missing_ok=True)
            if not existed:
                shutil.rmtree(path, ignore_errors=True)
            raise RunError(f"cannot write the run to {path}: {why(error)}") from None
        return cls(path)

    @property
    def recipe(self) -> Recipe:
        """What was asked, with every choice made. Raises `RecipeError`, also where it names code
        that is not imported yet."""
        return Recipe.of(read_file(self.path / "recipe.toml"), quiet=True)

    @property
    def facts(self) -> dict[str, Any]:
        """`run.json`. Raises `RunError` where it is damaged."""
        path = self.path / "run.json"
        facts = read_json(path)
        for key, kinds in KINDS.items():
            if key in facts and not isinstance(facts[key], kinds):
                raise RunError(f"{path} is damaged: {key} = {shown(facts[key])}; {MEND}")
        return facts

    @property
    def status(self) -> str:
        """running, stopped or done."""
        return str(self.facts["status"])

    @property
    def labels(self) -> list[str]:
        """The labels in the order of the model's outputs."""
        return list(self.facts["labels"])

    @property
    def metrics(self) -> dict[str, Any]:
        """The scores on the test split; raises `RunError` before the run is done."""
        return read_json(self.path / "metrics.json")

    def read_report(self) -> RunReport:
        """What the run found, as its files have it: all but the mistakes, which stand in
        predictions.parquet. Raises `RunError` before the run is done."""
        text = (self.path / "recipe.toml").read_text(encoding="utf-8")
        return report_of(self, self.recipe, text)

    @property
    def ledger(self) -> dict[str, Any]:
        """What became of every row and token."""
        return read_json(self.path / "ledger.json")

    @property
    def proof(self) -> dict[str, Any]:
        """How the saved folder was checked."""
        return read_json(self.path / "proof.json")

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        """The folder that every Hugging Face tool loads."""
        return self.path / "model"

    @property
    def answers_from(self) -> Path:
        """What `predict` and `evaluate` are given to ask this run."""
        return self.path

    def predict(self, texts: str | Sequence[Any]) -> list[Prediction]:
        """Labels with confidence; the model is loaded once. Raises `RunError`, and `RecipeError`
        for a table, whose columns `warmstart.predict` knows."""
        from warmstart.inference.predictor import open_predictor

        if is_series(texts) and not isinstance(texts, list | tuple):  # of pandas, or an array
            return self.predict(cast("Any", texts).tolist())
        if not isinstance(texts, str | list | tuple):
            kind = type(texts).__name__
            raise RecipeError(
                f"Run.predict takes a text or a list of them, and this is a {kind}; for a file or "
                "a table there is warmstart.predict(run, data)"
            )
        if self._predictor is None:
            self._predictor = open_predictor(self.path)
        return self._predictor.predict([texts] if isinstance(texts, str) else texts)

    def update(self, **facts: Any) -> None:
        """Change facts in `run.json`; why it stopped is of no interest once it goes on."""
        now = {**self.facts, **facts}
        if "status" in facts and "reason" not in facts:
            now.pop("reason", None)
        write_json(self.path / "run.json", now)

    def __fspath__(self) -> str:
        return str(self.answers_from)

    def __repr__(self) -> str:
        return f"Run('{self.path}', {self.status})"


def report_of(run: Run, recipe: Recipe, text: str) -> RunReport:
    """See `Run.read_report`; by a recipe that has been read from `text`."""
    facts, task = run.facts, cast("Any", recipe.task)
    return RunReport(
        title=run.path.name,
        created=facts["created"],
        run=RunFolder(run.path.name, str(run.path)),
        task=TaskName(task.part_name(), task.head.name),
        method=recipe.method.part_name(),
        base={**facts["base"], **facts["size"]},
        adapter=is_adapter(run.model),
        recipe_toml=text,
        data=run.ledger,
        labels=run.labels,
        metrics=Metrics.from_json(run.metrics),
        history=facts["history"],
        speed=facts["speed"],
        proof=run.proof,
        versions=facts["versions"],
    )


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Keep the folder of a run or comparison for this process, by a lock that ends with it, however
    it ends. Raises `RunError` where another process has it, and names that one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(AttributeError, OSError):  # no locks here: not on this system
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{_holder(folder)} is at work in {folder}; wait until it ends, or end it first"
                ) from None
        if (folder / "run.json").is_file():
            Run(folder).update(process={"number": os.getpid(), "machine": platform.node()})
        yield
    finally:
        os.close(handle)


def _holder(folder: Path) -> str:
    """Who says of itself that it works in a folder."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        process = files.read_json(folder / "run.json")["process"]
        return f"process {shown(process['number'])} on {shown(process['machine'])}"
    return "another process"


Folder = str | os.PathLike[str]
"""The path of a folder; a `Run` is one too."""


def folder_named(model: Any) -> str:
    """The path of a folder, given as such or as a `Run`. Raises `RunError` for anything else."""
    with contextlib.suppress(TypeError):
        if isinstance(path := cast("object", os.fspath(model)), str):
            return path
    raise RunError(f"{shown(model)} is no run: give the path of its folder, or what `tune` gave")


def free_path(stem: str, folder: str | Path = "runs") -> Path:
    """`runs/<stem>`, or the first of `runs/<stem>-2`, … that does not exist; of a stem that makes
    no name, because it is too long, the beginning."""
    stem = stem.encode(errors="surrogateescape")[:LONGEST].decode(errors="ignore")
    path, number = Path(folder) / stem, 2
    while path.exists():
        path, number = Path(folder) / f"{stem}-{number}", number + 1
    return path


def run_folder(out: str | Path | None, source: str | None, what: str) -> Path:
    """The folder of a run that is to begin: the one named, or `runs/<data>-<what>`.

    Raises `RunError` where it cannot be made.
    """
    data = Path(re.sub(r"[*?\[\]]+", "", source or "data")).resolve()  # of a pattern, its words
    stem = f"{data.stem or 'data'}-{what}"
    path = Path(out) if out else free_path(stem)
    check_free(path)
    check_writable(path)
    return path


def new_folder(out: str | Path) -> Path:
    """A folder to write, which must not be there yet. Raises `RunError`."""
    if os.path.lexists(out):
        raise RunError(f"{out} exists already; choose another --out")
    return Path(out)


def usable(path: str | Path) -> Path:
    """A path to write to. Raises `RunError` if nothing can be written under this name."""
    if str(path) == "":
        raise RunError("--out is empty; name where the results go, or leave it out")
    if reason := unusable(path):
        raise RunError(f"cannot write to {shown(path, 100)}: {reason}; choose another --out")
    return Path(path)


def check_free(path: Path) -> None:
    """Raise `RunError` if something stands at `path` already."""
    usable(path)
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file; choose another --out for the run's folder")
    if any(path.iterdir()):
        go_on = ""
        if (path / "run.json").is_file():
            go_on = f", or go on with it: warmstart tune --resume {typed(path)}"
        raise RunError(f"{path} exists and is not empty; choose another --out{go_on}")


def check_writable(path: Path) -> None:
    """Raise `RunError` if a run could not be made at `path`; leaves nothing behind."""
    usable(path)
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    probe, reason = parent / f".warmstart-{os.getpid()}", ""
    if not parent.is_dir():
        reason = f"{parent} is not a folder"
    elif not os.access(parent, os.W_OK):
        reason = f"{parent} is read-only"
    else:
        try:
            probe.mkdir()
        except OSError as error:
            reason = why(error)
        shutil.rmtree(probe, ignore_errors=True)
    if reason:
        raise RunError(f"cannot write the run to {path}: {reason}; choose another --out")


def now() -> str:
    """The time as it stands in what is written."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def why(error: OSError) -> str:
    """What the system said, in words: "No space left on device"."""
    return error.strerror or shown(error, 120)


MEND = "put a whole one back, or begin a new run"


class NoSuchFact(RunError, LookupError):
    """A file of a run does not hold what every such file holds."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run. Raises `RunError`, also when a key is asked of it that every whole
    file of its kind has."""

    class Facts(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise NoSuchFact(f"{path} is damaged: it has no '{shown(key)}'; {MEND}")

    try:
        value = files.read_json(path, Facts)
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing: the run is not done; go on with it: "
            f"warmstart tune --resume {typed(path.parent)}"
        ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {why(error)}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {shown(error, 120)}; {MEND}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: it is no JSON object; {MEND}")
    return cast("dict[str, Any]", value)


def versions() -> dict[str, str]:
    """What the run was made with."""
    names = ("warmstart", "torch", "transformers", "tokenizers", "peft", "datasets", "numpy")
    numbers = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(Exception):
            numbers[name] = version(name)
    return numbers
