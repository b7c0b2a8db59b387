"""One classifier behind three servers: requests a second and how long they take, at 64 clients.

    python bench/classify_served.py [--seconds 20] [--rounds 3] [--engine torch:bf16]

plain      `transformers.pipeline` behind FastAPI, as most tutorials have it: a request, a text
litserve   LitServe with batching (64 texts, 5 ms), the same pipeline inside; where installed
warmstart  `warmstart serve`, settings as they come; a second time with `--engine`, where named

MiniLM with the head of a run on the tickets that come with us, and their texts, one a request. The
servers take turns (A B C A B C), one at a time; the clients are a process of their own whose
processor time is given. The label of every answer is compared with that of `predict`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from _common import SAMPLES
from _report import announce, close, table
from serving import Client

PLAIN = """
import sys, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

classify = pipeline("text-classification", sys.argv[1])
app = FastAPI()

class Asked(BaseModel):
    input: str

@app.post("/v1/classify")
def answer(asked: Asked):
    return classify(asked.input)[0]

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""
LITSERVE = """
import sys, litserve
from transformers import pipeline

class Classifier(litserve.LitAPI):
    def setup(self, device):
        self.classify = pipeline("text-classification", sys.argv[1])
    def decode_request(self, request):
        return request["input"]
    def predict(self, texts):
        return self.classify(texts, batch_size=len(texts))
    def encode_response(self, output):
        return output

if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.005, api_path="/v1/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
"""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("--seconds", type=float, default=20)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--clients", type=int, default=64)
    words.add_argument("--engine", default="", help="another engine of ours, or engine:precision")
    words.add_argument("--json", type=Path, default=None)
    asked = words.parse_args()
    facts = announce("One classifier, three servers", SAMPLES.name)
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as place:
        run, wanted = trained(Path(place))
        servers = {
            "plain": [sys.executable, "-c", PLAIN, str(run / "model")],
            "litserve": [sys.executable, script(Path(place), LITSERVE), str(run / "model")],
            "warmstart": [sys.executable, "-m", "warmstart", "serve", str(run), "--port"],
        }
        if asked.engine:
            name, _, precision = asked.engine.partition(":")
            own = ["--engine", name, *(["--engine.precision", precision] if precision else [])]
            servers[f"warmstart {asked.engine}"] = [*servers["warmstart"][:-1], *own, "--port"]
        if importlib.util.find_spec("litserve") is None:
            print("litserve is not installed: left out")
            del servers["litserve"]
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for _ in range(asked.rounds):
            for name, command in servers.items():
                with served(command) as (url, process):
                    seen[name].append(measured(url, process, wanted, asked.clients, asked.seconds))
    usual = statistics.median(one["rate"] for one in seen["plain"])
    table(
        ["server", "requests/s", "range", "of plain", "p50 ms", "p99 ms", "CPU ms each",
         "clients' CPU ms each", "same label"],
        [row(name, results, usual) for name, results in seen.items()],
    )  # fmt: skip
    facts["servers"] = seen
    close(facts, asked.json)
    return 0


def row(name: str, results: list[dict[str, float]], usual: float) -> list[str]:
    """What the rounds of a server come to: medians, and the range of the rate."""
    middle = {key: statistics.median(one[key] for one in results) for key in results[0]}
    rates = [one["rate"] for one in results]
    return [
        name, f"{middle['rate']:.0f}", f"{min(rates):.0f} to {max(rates):.0f}",
        f"{middle['rate'] / usual:.1f}", f"{middle['p50']:.0f}", f"{middle['p99']:.0f}",
        f"{middle['cpu']:.2f}", f"{middle['own']:.2f}", f"{middle['same']:.4f}",
    ]  # fmt: skip


def trained(place: Path) -> tuple[Path, dict[str, str]]:
    """A run on the tickets, and the label that `predict` gives each of their texts."""
    run, answers = place / "tickets", place / "answers.csv"
    quiet = ["--evaluate.baselines", "false", "--evaluate.forgetting", "false"]
    for words in (["tune", str(SAMPLES), "--method", "frozen", *quiet, "--out", str(run)],
                  ["predict", str(run), str(SAMPLES), "--out", str(answers)]):  # fmt: skip
        subprocess.run([sys.executable, "-m", "warmstart", *words], check=True, capture_output=True)
    with answers.open(encoding="utf-8", newline="") as file:
        return run, {row["text"]: row["prediction"] for row in csv.DictReader(file)}


def script(place: Path, text: str) -> str:
    """A file of its own, which processes that the server starts can import."""
    path = place / "served_by_litserve.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@contextmanager
def served(command: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server that answers, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, env=quiet) as server:
        try:
            for _ in range(600):
                try:
                    if asyncio.run(ask(url, "my parcel never came"))[0] == 200:
                        break
                except (OSError, EOFError):
                    time.sleep(0.2)
            yield url, psutil.Process(server.pid)
        finally:
            family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(True)]
            for process in family:
                process.kill()


async def ask(url: str, text: str, client: Client | None = None) -> tuple[int, bytes]:
    body = json.dumps({"model": "tickets", "input": text}).encode()
    return await (client or Client(url)).ask("/v1/classify", body)


def measured(
    url: str, process: psutil.Process, wanted: dict[str, str], clients: int, seconds: float
) -> dict[str, float]:
    """Requests a second and their milliseconds, after a quarter of the time to warm up."""
    asyncio.run(load(url, [*wanted], clients, seconds / 4))
    before, own, begun = spent(process), time.process_time(), time.perf_counter()
    answers = asyncio.run(load(url, [*wanted], clients, seconds))
    took, own = time.perf_counter() - begun, time.process_time() - own
    count, times = len(answers), [1000 * each for _, _, each in answers]
    same = sum(wanted[text] == label_of(body) for text, body, _ in answers)
    return {
        "rate": count / took, "p50": float(np.quantile(times, 0.5)),
        "p99": float(np.quantile(times, 0.99)), "cpu": 1000 * (spent(process) - before) / count,
        "own": 1000 * own / count, "same": same / count,
    }  # fmt: skip


async def load(
    url: str, texts: list[str], clients: int, seconds: float
) -> list[tuple[str, bytes, float]]:
    """(text, body of the answer, seconds) of each request of so many clients at once."""
    answers, ends = list[tuple[str, bytes, float]](), time.perf_counter() + seconds

    async def work(number: int) -> None:
        client = Client(url)
        while (begun := time.perf_counter()) < ends:
            text = texts[number % len(texts)]
            status, body = await ask(url, text, client)
            assert status == 200, (status, body[:200])
            answers.append((text, body, time.perf_counter() - begun))
            number += clients
        client.go()

    await asyncio.gather(*map(work, range(clients)))
    return answers


def label_of(body: bytes) -> str:
    """The label in an answer of any of the servers."""
    answer: Any = json.loads(body)
    while isinstance(answer, list) or "label" not in answer:
        answer = answer[0] if isinstance(answer, list) else answer["data"]
    return answer["label"]


def spent(process: psutil.Process) -> float:
    """Seconds of the processor that a server and its children have taken."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(True)))


if __name__ == "__main__":
    raise SystemExit(main())
