"""The models that are served: what was named at the start, and nothing else.

Adapters on one base hold its weights once; a request names the model that answers it. An adapter
whose files change is loaded anew, known by what is in them; requests that are under way end with
the one that they began with.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from warmstart import part as parts
from warmstart.errors import RecipeError, WarmstartError
from warmstart.inference.engine import Engine
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.inference.writer import Writer, open_writer
from warmstart.models.adapters.files import CONFIG, WEIGHTS
from warmstart.models.adapters.open import share
from warmstart.models.architectures import family_of
from warmstart.models.base import model_folder
from warmstart.models.checks import (
    config_file,
    file_sha256,
    is_adapter,
    note_of,
    read_json,
)
from warmstart.models.heads import LANGUAGE, TEXT, head_of
from warmstart.serving.batching import Batcher
from warmstart.serving.errors import ApiError, log_failure, no_model
from warmstart.serving.logits import Grammars
from warmstart.serving.metrics import Metrics
from warmstart.serving.settings import Serving
from warmstart.serving.tickets import Gate
from warmstart.serving.writing import TextLoop, loop_of


class Searches(Protocol):
    """An index of texts."""

    def search(self, query: str, top: int = 10) -> Sequence[Any]:
        """The nearest texts, each with `text`, `similarity`, `file` and `line`."""
        ...


@dataclass(eq=False)
class Served:
    """A model under its name, as it is now.

    Args:
        key: of what stands in its files; for clients `system_fingerprint`.
        predictor: its task, tokenizer and engine.
        writer: of a model that writes; None for one that answers with labels, numbers or vectors.
        reading: held while its tokenizer reads, which cannot be done twice at once.
    """

    name: str
    folder: Path
    key: str
    predictor: Predictor
    writer: Writer | None
    gate: Gate
    loop: TextLoop | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    reading: threading.Lock = field(default_factory=threading.Lock)

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.predictor.task.part_name()

    @property
    def positions(self) -> int:
        """Tokens that it reads at most, and, of a decoder, writes."""
        return self.writer.positions if self.writer else self.predictor.task.max_length

    @cached_property
    def grammars(self) -> Grammars:
        """Schemas that its texts may be held to."""
        assert self.writer is not None
        tokenizer = self.writer.tokenizer
        model = getattr(self.predictor.runner, "model", None)
        sizes = [len(tokenizer)]
        if model is not None:
            sizes.append(model.get_output_embeddings().weight.shape[0])
        template = self.writer.template
        return Grammars(tokenizer, max(sizes), None if template is None else template.end)

    def close(self) -> None:
        """End its thread when nothing waits any more."""
        if self.loop is not None:
            self.loop.close()


class Models:
    """All models of a server.

    Args:
        sources: name → run, model folder, adapter, or base.
        engine: where they answer; torch unless given.
        indexes: name → index of texts.

    Raises `RecipeError`, `RunError` and `BaseModelError` for what cannot be opened.
    """

    def __init__(
        self, sources: Mapping[str, str], settings: Serving, metrics: Metrics,
        engine: Engine | None = None, indexes: Mapping[str, Searches] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.metrics, self.indexes = settings, metrics, dict(indexes or {})
        self._engine = engine
        self._searching = threading.Lock()  # an index reads with one tokenizer
        self.batcher = Batcher(metrics)
        self._weights: dict[str, dict[str, Any]] = {}
        self._served: dict[str, Served] = {}
        for name, source in sources.items():
            try:
                self._served[name] = self._open(name, source)
            except RecipeError as error:
                raise RecipeError(f"model {name}: {error}") from None
        self._stamps = {name: _stamp(served.folder) for name, served in self._served.items()}
        self._ended = threading.Event()
        if settings.reload_seconds and any(map(is_adapter, self.folders)):
            threading.Thread(target=self._look, name="reloader", daemon=True).start()

    @property
    def folders(self) -> list[Path]:
        """Where the models stand."""
        return [served.folder for served in self._served.values()]

    def all(self) -> list[Served]:
        """In the order in which they were named."""
        return [*self._served.values()]

    def named(self, name: str) -> Served:
        """Raises `ApiError` (404) for a model that is not served."""
        if name not in self._served:
            raise no_model(name, [*self._served])
        return self._served[name]

    def predictor(self, name: str, *, route: str, tasks: Sequence[str] = ()) -> Served:
        """A model that answers with labels, numbers, spans or vectors, for one of some tasks.
        Raises `ApiError`."""
        served = self.named(name)
        if served.writer is not None or (tasks and served.task not in tasks):
            raise _elsewhere(served, route)
        return served

    def writer(self, name: str, *, route: str, chat: bool = False) -> Served:
        """A model that writes texts, or that talks. Raises `ApiError`."""
        served = self.named(name)
        if served.writer is None or (chat and not served.writer.decodes):
            raise _elsewhere(served, route)
        return served

    def search(self, index: str, query: str, top: int) -> Sequence[Any]:
        """The nearest texts of an index. Raises `ApiError` (404) for one that is not served."""
        if index not in self.indexes:
            raise no_model(index, [*self.indexes])
        with self._searching:
            return self.indexes[index].search(query, top)

    def close(self) -> None:
        """End all threads when nothing waits any more."""
        self._ended.set()
        self.batcher.close()
        for served in self._served.values():
            served.close()

    def reload(self) -> list[str]:
        """Load the adapters anew whose files have changed; gives their names."""
        changed: list[str] = []
        for name, served in [*self._served.items()]:
            stamp = _stamp(served.folder)
            if not is_adapter(served.folder) or stamp in (self._stamps[name], ()):
                continue
            try:
                if content_key(served.folder) != served.key:
                    fresh = self._open(name, str(served.folder), served.gate)
                    self._served[name] = fresh
                    served.close()
                    changed.append(name)
                    self.metrics.reloads.labels(name, "done").inc()
                self._stamps[name] = stamp
            except (WarmstartError, OSError, ValueError, KeyError) as error:
                log_failure(error, f"the changed adapter of {name}; the old one goes on")
                self.metrics.reloads.labels(name, "failed").inc()
        return changed

    def _look(self) -> None:
        while not self._ended.wait(self.settings.reload_seconds):
            self.reload()

    def _open(self, name: str, source: str, gate: Gate | None = None) -> Served:
        folder = model_folder(source)
        key = content_key(folder)
        writer = open_writer(source, self._engine) if writes(folder) else None
        predictor = writer.predictor if writer else open_predictor(folder, self._engine)
        model = getattr(predictor.runner, "model", None)
        if model is not None and is_adapter(folder):
            base = str(note_of(folder).get("base_sha256", ""))
            share(model, self._weights.setdefault(base, {}))
        gate = gate or Gate(name, self.settings.max_waiting, self.metrics)
        served = Served(name, folder, key, predictor, writer, gate)
        if writer is not None:
            served.loop = loop_of(name, writer, self.settings, self.metrics,
                                  lambda: open_writer(source, self._engine))  # fmt: skip
            reading = replace(predictor, tokenizer=copy.deepcopy(predictor.tokenizer))
            served.writer = replace(writer, predictor=reading)  # the loop's own decodes meanwhile
        return served


def writes(folder: Path) -> bool:
    """Whether the model of a folder writes texts, by its files alone."""
    task = note_of(folder).get("task", {}).get("name")
    if task in parts.names("task"):
        return getattr(parts.find("task", task), "head", None) in (TEXT, LANGUAGE)
    if not config_file(folder).exists():
        return False
    config = read_json(config_file(folder))
    return family_of(config).kind != "encoder" and head_of(config) in (None, LANGUAGE, TEXT)


def content_key(folder: Path) -> str:
    """A short word for what is in the weights of a folder."""
    names = (CONFIG, WEIGHTS) if is_adapter(folder) else ("config.json",)
    sums = [file_sha256(folder / name) for name in names if (folder / name).exists()]
    note = note_of(folder).get("weights_sha256", "")
    return f"ws-{hashlib.sha256(''.join([*sums, str(note)]).encode()).hexdigest()[:16]}"


def _stamp(folder: Path) -> tuple[Any, ...]:
    """When the files of an adapter were written; empty while one is missing."""
    try:
        stats = [(folder / name).stat() for name in (CONFIG, WEIGHTS)]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
    except OSError:
        return ()


ROUTES: Mapping[str, str] = {
    "classification": "/v1/classify", "multilabel": "/v1/classify", "pairs": "/v1/classify",
    "few_shot": "/v1/classify", "custom": "/v1/classify", "tagging": "/v1/tag",
    "extractive_qa": "/v1/answer", "regression": "/v1/score", "reward": "/v1/score",
    "embedding": "/v1/embeddings",
}  # fmt: skip
"""Task → the path that asks a model for it."""


def routes_of(served: Served) -> list[str]:
    """The paths that answer with a model."""
    if served.writer is None:
        routes = [ROUTES.get(served.task, "/v1/classify")]
        ranks = served.task in ("embedding", "reward") or len(served.predictor.task.inputs) == 2
        return [*routes, "/v1/rerank"] if ranks and served.task != "extractive_qa" else routes
    by_task = {"summarization": ["/v1/summarize"], "translation": ["/v1/translate"]}
    chats = ["/v1/chat/completions", "/v1/responses"] if served.writer.decodes else []
    return ["/v1/completions", *chats, *by_task.get(served.task, [])]


def _elsewhere(served: Served, route: str) -> ApiError:
    return ApiError(
        400, f"this model was trained for the task {served.task} and does not answer at {route}; "
        f"ask it at {' or '.join(routes_of(served))}", code="model_not_supported", param="model",
    )  # fmt: skip
