"""A server under abuse: nothing that it accepts is lost, every refusal is a documented error,
memory stays flat, and liveness never waits.

    python bench/serving.py [--requests 10000] [--clients 64]

Tiny random models, so that the server's own work is what is seen. Of the requests 80 % classify and
embed, 10 % write texts, the rest are malformed bodies, prompts of 1 MB and texts that are too long;
one client in ten goes before its answer; in the middle 1,000 requests arrive at once. At the end
SIGTERM comes while 64 requests are under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from chats import talker
from served import TEXTS, adapters, embedder
from tiny import classifier, writer

WATCH = """
import sys, time, httpx, psutil
process = psutil.Process(int(sys.argv[2]))
with httpx.Client(timeout=60) as client:
    while True:
        begun = time.perf_counter()
        client.get(sys.argv[1] + "/healthz")
        print(time.perf_counter() - begun, process.memory_info().rss, flush=True)
        time.sleep(0.05)
"""
DOCUMENTED = {400, 401, 404, 405, 408, 413, 429, 500, 503, 504}


class Load:
    """Many clients, and what they were told."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self.process, self.random = url, process, random.Random(0)
        self.answers: Counter[str] = Counter()
        self.liveness: list[float] = []
        self.memory: list[int] = []
        self.seconds = 0.0

    def request(self) -> tuple[str, Any]:
        """A path and a body."""
        luck = self.random.random()
        text = " ".join(
            self.random.choices(" ".join(TEXTS).split(), k=self.random.randrange(1, 30))
        )
        if luck < 0.5:
            model = self.random.choice(["classes", "adapter-0", "adapter-1", "adapter-2"])
            return "/v1/classify", {"model": model, "input": [text] * self.random.randrange(1, 4)}
        if luck < 0.8:
            return "/v1/embeddings", {"model": "vectors", "input": text}
        if luck < 0.9:
            body = {"model": self.random.choice(["words", "talk"]), "max_tokens": 8}
            stream = self.random.random() < 0.5
            return "/v1/completions", {**body, "prompt": text[:40], "stream": stream}
        if luck < 0.94:
            return "/v1/classify", b'{"model": "classes", "input": '
        if luck < 0.98:
            return "/v1/classify", {"model": "classes", "input": text * 60}
        if luck < 0.995:
            return "/v1/chat/completions", {"model": "talk", "messages": [], "bogus": 1}
        return "/v1/completions", {"model": "words", "prompt": "the film " * 110_000}

    async def one(self, client: httpx.AsyncClient) -> None:
        """One request of one client, who may go."""
        path, body = self.request()
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = client.post(self.url + path, content=raw,
                            headers={"content-type": "application/json"})  # fmt: skip
        try:
            if self.random.random() < 0.1:
                await asyncio.wait_for(asked, self.random.random() * 0.02)
                self.answers["quick"] += 1
                return
            answer = await asked
        except TimeoutError:
            self.answers["client gone"] += 1
            return
        except httpx.HTTPError as error:
            self.answers[f"lost: {type(error).__name__}"] += 1
            return
        if answer.status_code in DOCUMENTED:
            self.answers[f"{answer.status_code} {answer.json()['error']['code']}"] += 1
        elif answer.status_code == 200 and "[DONE]" in answer.text[-20:]:
            self.answers["200 streamed"] += 1
        elif answer.status_code == 200 and answer.json():
            self.answers["200"] += 1
        else:
            self.answers[f"undocumented: {answer.status_code}"] += 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have a process of its own ask whether the server lives, and how much memory it has."""
        words = [sys.executable, "-c", WATCH, self.url, str(self.process.pid)]
        before = sum(self.process.cpu_times()[:2])
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
            yield
            watching.terminate()
            assert watching.stdout is not None
            for line in watching.stdout.read().splitlines():
                seconds, memory = line.split()
                self.liveness.append(float(seconds))
                self.memory.append(int(memory))
        self.seconds = sum(self.process.cpu_times()[:2]) - before

    async def run(self, count: int, clients: int) -> None:
        """So many requests of so many clients, with a thousand at once in the middle."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=120, limits=limits) as client:
            for part in (count // 2, 0, count - count // 2):
                if not part:
                    await asyncio.gather(*(self.one(client) for _ in range(1_000)))
                    continue
                left = iter(range(part))

                async def work(left: Any = left) -> None:
                    for _ in left:
                        await self.one(client)

                await asyncio.gather(*(work() for _ in range(clients)))

    async def end(self) -> list[int]:
        """SIGTERM while 64 requests are under way; their statuses."""
        async with httpx.AsyncClient(timeout=120) as client:
            body = {"model": "words", "prompt": "the film", "max_tokens": 40}
            asked = [asyncio.create_task(client.post(f"{self.url}/v1/completions", json=body))
                     for _ in range(64)]  # fmt: skip
            await asyncio.sleep(0.3)
            self.process.send_signal(signal.SIGTERM)
            return [(await one).status_code for one in asked]


def main() -> None:
    """Run it, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = classifier("bert", folder / "classes")
        models = [base, *adapters(base, folder, 3).values(), embedder(folder / "vectors"),
                  writer(folder / "words"), talker(folder / "talk")]  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "warmstart", "serve", *map(str, models), "--port", "0", "--json",
             "--drain_seconds", "1"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as server:  # fmt: skip
            assert server.stdout is not None
            lines = [server.stdout.readline()]
            while not lines[-1].startswith("}"):
                lines.append(server.stdout.readline())
            load = Load(json.loads("".join(lines))["address"], psutil.Process(server.pid))
            begun = time.perf_counter()
            with load.watched():
                asyncio.run(load.run(options.requests, options.clients))
            seconds = time.perf_counter() - begun
            statuses = asyncio.run(load.end())
            code = server.wait(60)
    report(load, options.requests + 1_000, seconds, statuses, code)


def report(load: Load, count: int, seconds: float, statuses: list[int], code: int) -> None:
    """What was seen."""
    own = 1000 * load.seconds / count
    print(f"{count:,} requests in {seconds:.0f} s; {own:.1f} ms of the server's processor each")
    for name, number in load.answers.most_common():
        print(f"  {number:>7,} {name}")
    quarter = max(1, len(load.memory) // 4)
    early, late = (np.median(load.memory[a:b]) / 2**20 for a, b in
                   ((quarter, 2 * quarter), (-quarter, None)))  # fmt: skip
    print(f"memory: {early:.0f} MB in the second quarter, {late:.0f} MB in the last")
    p50, p99 = np.quantile(load.liveness, [0.5, 0.99]) * 1000
    print(f"liveness: p50 {p50:.0f} ms, p99 {p99:.0f} ms, of {len(load.liveness)}")
    print(f"SIGTERM with 64 under way: {Counter(statuses)}, exit {code}")


if __name__ == "__main__":
    main()
