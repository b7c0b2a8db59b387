"""A server with tiny models, in a thread: `with running({"c": folder}) as server: …`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from chats import talker
from tiny import classifier, tiny, writer

TEXTS = ["the film was good", "bad", "i never liked that awful book and the service was late",
         "money back !", "a very great song , i loved it"]  # fmt: skip
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Running:
    """A server that listens."""

    url: str
    app: Any
    models: Any
    http: httpx.Client
    """Shared by all threads: to make one takes longer than most answers."""
    key: str = "none"

    def client(self, **how: Any) -> openai.OpenAI:
        """OpenAI's own client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0,
                             http_client=self.http, **how)  # fmt: skip

    def post(self, path: str, **body: Any) -> httpx.Response:
        """A request without their client."""
        return self.http.post(self.url + path, json=body)

    def value(self, name: str, **labels: str) -> float:
        """A counter of the server."""
        registry = self.models.metrics._registry
        return registry.get_sample_value(f"warmstart_{name}", labels) or 0.0


@contextmanager
def running(
    sources: Mapping[str, Path],
    sums: Sequence[str] = (),
    key: str = "none",
    engine: Any = None,
    **settings: Any,
) -> Iterator[Running]:
    from warmstart.serving.app import create_app
    from warmstart.serving.metrics import Metrics
    from warmstart.serving.models import Models
    from warmstart.serving.server import Server, _listen
    from warmstart.serving.settings import Serving

    serving = Serving(**{"port": 0, "drain_seconds": 0, "reload_seconds": 0, **settings})
    models = Models({name: str(path) for name, path in sources.items()}, serving, Metrics(), engine)
    app = create_app(models, sums)
    socket = _listen(serving)
    server = Server(app, serving)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    wait(lambda: server.started)
    try:
        limits = httpx.Limits(max_connections=None)
        with httpx.Client(timeout=60, limits=limits) as http:
            http.headers["Authorization"] = f"Bearer {key}"
            yield Running(url, app, models, http, key)
    finally:
        server.should_exit = True
        thread.join(20)
        models.close()
        socket.close()


def wait(condition: Any, seconds: float = 20.0) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never was so"
        time.sleep(0.005)


def adapters(base: Path, folder: Path, count: int) -> dict[str, Path]:
    """Adapters of PEFT on a tiny classifier, all different."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from warmstart.models.hf_calls import quiet

    made: dict[str, Path] = {}
    for number in range(count):
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model: Any = AutoModelForSequenceClassification.from_pretrained(base)
            config: Any = LoraConfig(task_type="SEQ_CLS", r=4, init_lora_weights=False)
            adapted = get_peft_model(model, config)
            with torch.no_grad():
                for name, weights in adapted.named_parameters():
                    if "lora_" in name or "modules_to_save" in name:
                        weights.normal_(0, 1)
            path = folder / f"adapter-{number}"
            adapted.save_pretrained(path)
            AutoTokenizer.from_pretrained(base).save_pretrained(path)
        made[f"adapter-{number}"] = path
    return made


def embedder(folder: Path) -> Path:
    """A tiny model that makes vectors, as sentence-transformers saves it."""
    from warmstart.models.saving import write_modules

    tiny("bert", folder)
    write_modules(folder, "mean", True, 64)
    return folder


def headed(folder: Path, auto: str, **config: Any) -> Path:
    """A tiny BERT under a head of transformers."""
    import torch
    import transformers

    from warmstart.models.hf_calls import quiet

    tiny("bert", folder)
    settings = transformers.AutoConfig.from_pretrained(folder, **config)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, auto).from_config(settings).save_pretrained(folder)
    return folder


def noted(folder: Path, task: str) -> Path:
    """A saved model as if it had been trained for a task."""
    (folder / "warmstart.json").write_text(json.dumps({"task": {"name": task}}))
    return folder


def all_kinds(folder: Path) -> dict[str, Path]:
    """A tiny model for every route."""
    labels = {0: "no", 1: "maybe", 2: "yes"}
    tags = {0: "O", 1: "B-PER", 2: "I-PER"}
    base = classifier("bert", folder / "base")
    return {
        "classes": base,
        **adapters(base, folder, 3),
        "vectors": embedder(folder / "vectors"),
        "tags": headed(folder / "tags", "AutoModelForTokenClassification", id2label=tags),
        "spans": headed(folder / "spans", "AutoModelForQuestionAnswering"),
        "value": headed(folder / "value", "AutoModelForSequenceClassification",
                        num_labels=1, problem_type="regression"),
        "labels": headed(folder / "labels", "AutoModelForSequenceClassification",
                         id2label=labels, problem_type="multi_label_classification"),
        "talk": talker(folder / "talk"),
        "words": writer(folder / "words", "llama"),
        "source": writer(folder / "source", "t5"),
        "summary": noted(writer(folder / "summary", "t5"), "summarization"),
        "translation": noted(writer(folder / "translation", "llama"), "translation"),
    }  # fmt: skip


class SlowWriter:
    """A writer that takes so many seconds for each token, and before the first."""

    def __init__(self, writer: Any, seconds: float, before: float = 0.0) -> None:
        self._writer, self.seconds, self.before = writer, seconds, before
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, prompts: Any, sampling: Any, **how: Any) -> Any:
        tell = how.pop("on_token")
        time.sleep(self.before)

        def slowly(token: Any) -> None:
            self.written += token.id is not None
            time.sleep(self.seconds)
            tell(token)

        return self._writer.write(prompts, sampling, on_token=slowly, **how)


@contextmanager
def slowed(models: Any, name: str, seconds: float, before: float = 0.0) -> Iterator[SlowWriter]:
    """The model of this name, slower for a while."""
    loop = models.named(name).loop
    whole = loop._writer
    loop._writer = slow = SlowWriter(whole, seconds, before)
    try:
        yield slow
    finally:
        loop._writer = whole
