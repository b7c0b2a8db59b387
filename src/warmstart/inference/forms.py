"""Forms that engines make of a model's folder: made once, whole or not at all, and never answered
from when they belong to other weights or were changed.

A form stands in the model's folder, `engines/ENGINE/FORM`, beside a manifest with the sums of its
files and of the weights that it was made of.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.errors import BaseModelError, RecipeError, RunError
from warmstart.files import read_json, usual_mode, write_json
from warmstart.inference.engine import Engine, Runner
from warmstart.models.checks import config_file, file_sha256, weights_sha256

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Task

MANIFEST = "manifest.json"


class Formed(Engine):
    """An engine that computes a form of its own, which it makes of the model's folder."""

    libraries: ClassVar[tuple[str, ...]]
    """What has to be installed to compute, the first to make the form too."""
    makers: ClassVar[tuple[str, ...]]
    """What has to be installed besides, to make the form."""
    extra: ClassVar[str] = ""
    """What installs them: `warmstart[EXTRA]`; unless it says otherwise, the engine's name."""

    threads: int = Field(default=0, ge=0, description="threads that compute; 0: as torch would")

    @property
    @abstractmethod
    def form(self) -> str:
        """The folder's name of the form: precisions that share it give the same one."""

    @abstractmethod
    def check_task(self, task: Task) -> None:
        """Raise `RecipeError` where it cannot compute what the head of a task needs."""

    @abstractmethod
    def make(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None
    ) -> None:
        """Write the form of a model folder into the empty folder `out`, and try it; `rows` as in
        `build`. Raises `BaseModelError` where it cannot be made."""

    @abstractmethod
    def start(self, form: Path, threads: int) -> Runner:
        """The form in memory, which computes with so many threads."""

    def build(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None = None
    ) -> Path:
        name = self.part_name()
        self.check_task(task)
        form, source = out / self.form, fingerprint_of(folder)
        if fits(form, source):
            return form
        self.require((*self.libraries, *self.makers))
        try:
            out.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".", dir=out))
        except OSError as error:
            raise RunError(
                f"cannot write to {out}, where engine {name} keeps its form of the model: "
                f"{error.strerror}; copy the model to a place of your own"
            ) from error
        try:
            self.make(folder, part, task, pad_id, rows)
            sums = {path.name: file_sha256(path) for path in sorted(part.iterdir())}
            made = {lib: version(lib) for lib in (*self.libraries, *self.makers, "torch")}
            write_json(part / MANIFEST, {"engine": name, "source": source, "files": sums,
                                         "versions": made})  # fmt: skip
            os.chmod(part, usual_mode(out) | 0o111)
            shutil.rmtree(form, ignore_errors=True)
            os.replace(part, form)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return form

    def open(self, folder: Path, task: Task, pad_id: int) -> Runner:
        from warmstart.training.precision import use_cores

        self.require(self.libraries)
        files: Mapping[str, str] = read_json(folder / MANIFEST)["files"]
        changed = [
            path for name, wanted in files.items()
            if not (path := folder / name).is_file() or file_sha256(path) != wanted
        ]  # fmt: skip
        if changed:
            raise BaseModelError(
                f"{changed[0]} is not the file that was built; delete the folder {folder}, and it "
                "is built again"
            )
        return self.start(folder, self.threads or use_cores())

    def require(self, libraries: tuple[str, ...]) -> None:
        """Raise `RecipeError` where a library is not installed."""
        for library in libraries:
            try:
                importlib.import_module(library)
            except ImportError as error:
                raise RecipeError(
                    f"engine {self.part_name()} needs {library}, which is not installed: pip "
                    f"install 'warmstart[{self.extra or self.part_name()}]'"
                ) from error


def fingerprint_of(folder: Path) -> str:
    """What a form is made of: the sums of a folder's weights, its config and its tokenizer's."""
    files = [*sorted(folder.glob("*.safetensors")), config_file(folder)]
    return weights_sha256({path: file_sha256(path) for path in files})


def fits(form: Path, source: str) -> bool:
    """Whether a form was made of these weights; one that cannot be read was not."""
    try:
        return read_json(form / MANIFEST).get("source") == source
    except (OSError, ValueError, AttributeError):
        return False


def merged(folder: Path) -> Any:
    """The model of a folder for a graph: in float32, its adapters in the weights where they can be,
    nothing to be trained."""
    from warmstart.models.peft.prompts import is_prompted
    from warmstart.models.saved import saved_model

    model: Any = saved_model(folder)
    if hasattr(model, "merge_and_unload") and not is_prompted(model):
        with contextlib.suppress(Exception):  # adapters that stand beside the weights stay there
            model = model.merge_and_unload()
    return model.requires_grad_(False).eval()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What exporters print about libraries that are not there, and their progress."""
    from warmstart.models.hf_calls import quiet

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
