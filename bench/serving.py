"""A server under abuse: nothing that it accepts is lost, every refusal is a documented error,
memory stays flat, and liveness never waits.

    python bench/serving.py [--requests 10000] [--clients 64]

Tiny random models, so that the server's own work is what is seen. Of the requests 95 % classify and
embed and 5 % write texts; beside them, one for each twenty, come malformed bodies, fields that are
not honoured, texts that are too long and prompts of 1 MB. One client in ten goes before its answer;
in the middle 1,000 requests arrive at once. At the end SIGTERM comes while 64 requests are under
way.
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

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from chats import talker
from served import TEXTS, adapters, embedder
from tiny import classifier, writer

WATCH = """
import http.client, sys, time, psutil
process = psutil.Process(int(sys.argv[2]))
client = http.client.HTTPConnection(sys.argv[1].removeprefix("http://"), timeout=60)
while True:
    begun = time.perf_counter()
    client.request("GET", "/healthz")
    client.getresponse().read()
    print(time.perf_counter() - begun, process.memory_info().rss, flush=True)
    time.sleep(0.05)
"""
DOCUMENTED = {400, 401, 404, 405, 408, 413, 429, 500, 503, 504}


KINDS = {"classify": 0.6, "embed": 0.35, "write": 0.05, "malformed": 0.02, "too long": 0.02,
         "unknown field": 0.0095, "1 MB": 0.0005}  # fmt: skip
"""Kind → how many of it come for each request that is asked for."""
WORDS = " ".join(TEXTS).split()
HUGE = json.dumps({"model": "words", "prompt": "the film " * 110_000}).encode()


class Client:
    """A client that keeps its connection, and takes less of the processor than an HTTP library."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port, self._writer = int(port), None

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of an answer; of a stream all of its events."""
        if self._writer is None:
            place = asyncio.open_connection(self._host, self._port, limit=1 << 22)
            self._reader, self._writer = await place
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            return int(head[9:12]), await self._reader.readuntil(b"\r\n0\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def go(self) -> None:
        """Leave, whatever comes."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Load:
    """Many clients, and what they were told."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self.process, self.random = url, process, random.Random(0)
        self.answers: Counter[tuple[str, str]] = Counter()
        self.liveness: list[float] = []
        self.memory: list[int] = []
        self.seconds = 0.0

    def kinds(self, count: int) -> list[str]:
        """What comes for so many requests, in any order."""
        kinds = [kind for kind, share in KINDS.items() for _ in range(round(share * count))]
        self.random.shuffle(kinds)
        return kinds

    def request(self, kind: str) -> tuple[str, bytes]:
        """A path and a body."""
        text = " ".join(self.random.choices(WORDS, k=self.random.randrange(1, 30)))
        path, body = "/v1/classify", dict[str, Any](model="classes", input=text)
        if kind == "1 MB":
            return "/v1/completions", HUGE
        if kind == "malformed":
            return path, b'{"model": "classes", "input": '
        if kind == "classify":
            model = self.random.choice(["classes", "adapter-0", "adapter-1", "adapter-2"])
            body = {"model": model, "input": [text] * self.random.randrange(1, 4)}
        elif kind == "embed":
            path, body["model"] = "/v1/embeddings", "vectors"
        elif kind == "write":
            path, body = "/v1/completions", {"prompt": text[:40], "max_tokens": 8}
            body["model"] = self.random.choice(["words", "talk"])
            body["stream"] = self.random.random() < 0.5
        elif kind == "too long":
            body["input"] = text * 60
        else:
            path, body = "/v1/chat/completions", {"model": "talk", "messages": [], "bogus": 1}
        return path, json.dumps(body).encode()

    async def one(self, client: Client, kind: str) -> None:
        """One request of one client, who may go."""
        asked = client.ask(*self.request(kind))
        try:
            if self.random.random() < 0.1:
                status, body = await asyncio.wait_for(asked, self.random.random() * 0.02)
            else:
                status, body = await asked
        except TimeoutError:
            self.answers[kind, "client gone"] += 1
            client.go()
            return
        except (OSError, EOFError) as error:
            self.answers[kind, f"lost: {type(error).__name__}"] += 1
            client.go()
            return
        if status == 200 and b"[DONE]" in body[-20:]:
            outcome = "200 streamed"
        elif status in {200, *DOCUMENTED}:
            error = json.loads(body).get("error")
            outcome = f"{status} {error['code']}" if error else f"{status}"
        else:
            outcome = f"undocumented: {status}"
        self.answers[kind, outcome] += 1

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
        kinds = [*["1 MB"] * 4, *self.kinds(count)]  # what these take at most is seen early

        async def work(left: Iterator[str]) -> None:
            client = Client(self.url)
            for kind in left:
                await self.one(client, kind)
            client.go()

        half = len(kinds) // 2
        for part, several in ((kinds[:half], clients), (self.kinds(1_000), 1_000),
                              (kinds[half:], clients)):  # fmt: skip
            left = iter(part)
            await asyncio.gather(*(work(left) for _ in range(several)))

    async def end(self) -> list[int]:
        """SIGTERM while 64 requests are under way; their statuses."""
        body = json.dumps({"model": "words", "prompt": "the film", "max_tokens": 40}).encode()
        asked = [asyncio.create_task(Client(self.url).ask("/v1/completions", body))
                 for _ in range(64)]  # fmt: skip
        await asyncio.sleep(0.3)
        self.process.send_signal(signal.SIGTERM)
        return [(await one)[0] for one in asked]


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
            begun, own = time.perf_counter(), time.process_time()
            with load.watched():
                asyncio.run(load.run(options.requests, options.clients))
            seconds, own = time.perf_counter() - begun, time.process_time() - own
            statuses = asyncio.run(load.end())
            code = server.wait(60)
    report(load, seconds, own, statuses, code)


def report(load: Load, seconds: float, own: float, statuses: list[int], code: int) -> None:
    """What was seen; `own` are the seconds of this process's processor."""
    count = load.answers.total()
    print(f"{count:,} requests in {seconds:.0f} s, {count / seconds:.0f} a second; of each "
          f"{1000 * load.seconds / count:.2f} ms of the server's processor, "
          f"{1000 * own / count:.2f} ms of the clients'")  # fmt: skip
    for (kind, outcome), number in sorted(load.answers.items()):
        print(f"  {number:>7,} {kind}: {outcome}")
    tenths = [f"{np.median(part) / 2**20:.0f}" for part in np.array_split(load.memory, 10)]
    print(f"memory in each tenth of the run: {', '.join(tenths)} MB")
    p50, p99 = np.quantile(load.liveness, [0.5, 0.99]) * 1000
    print(f"liveness: p50 {p50:.0f} ms, p99 {p99:.0f} ms, of {len(load.liveness)}")
    print(f"SIGTERM with 64 under way: {Counter(statuses)}, exit {code}")


if __name__ == "__main__":
    main()
