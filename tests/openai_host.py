"""A small HTTP server that speaks OpenAI's form over a real socket, and fails as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], str]


@dataclass
class Fault:
    """What comes in the place of an answer: a status with a body and headers, or a long wait."""

    status: int = 500
    body: str = '{"error": {"message": "the model fell over"}}'
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    wait: float = 0.0


@dataclass
class HostServer:
    """What the server was asked, and how it is to answer.

    `faults` are taken from the front, one a request; `refuses` are fields that it does not take.
    """

    answer: Answer
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    times: list[float] = field(default_factory=list[float])
    faults: list[Fault] = field(default_factory=list[Fault])
    refuses: set[str] = field(default_factory=set[str])
    gives_logprobs: bool = True
    finish: str = "stop"
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The body of an answer: a token a word, each with log-probability -0.25."""
        text = self.answer(request)
        tokens = [word + " " for word in text.split(" ")]
        tokens[-1] = tokens[-1][:-1]
        logged = [{"token": t, "logprob": -0.25, "bytes": None, "top_logprobs": []} for t in tokens]
        read = sum(len(m["content"].split()) for m in request["messages"])
        choice = {
            "index": 0,
            "finish_reason": self.finish,
            "message": {"role": "assistant", "content": text},
            "logprobs": {"content": logged} if self.gives_logprobs else None,
        }
        usage = {"prompt_tokens": read, "completion_tokens": len(tokens),
                 "total_tokens": read + len(tokens)}  # fmt: skip
        return {"id": "x", "object": "chat.completion", "created": 1, "model": request["model"],
                "choices": [choice], "usage": usage}  # fmt: skip


@contextmanager
def host(answer: Answer) -> Iterator[HostServer]:
    """The server, for as long as it is needed."""
    state = HostServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.asked.append(request)
                state.headers.append({k.title(): v for k, v in self.headers.items()})
                state.times.append(time.monotonic())
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                fault = state.faults.pop(0) if state.faults else None
            try:
                self._answer(request, fault)
            finally:
                with state.lock:
                    state.at_once -= 1

        def _answer(self, request: dict[str, Any], fault: Fault | None) -> None:
            strange = next((name for name in request if name in state.refuses), None)
            if fault is not None:
                time.sleep(fault.wait)
                self._send(fault.status, fault.body, fault.headers)
            elif strange is not None:
                text = f"Unsupported parameter: '{strange}'"
                self._send(400, json.dumps({"error": {"message": text, "param": strange}}), {})
            elif request.get("stream"):
                self._stream(request)
            else:
                self._send(200, json.dumps(state.reply(request)), {})

        def _send(self, status: int, body: str, headers: Mapping[str, str]) -> None:
            data = body.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):  # who waited has gone
                self.wfile.write(data)

        def _stream(self, request: dict[str, Any]) -> None:
            whole = state.reply(request)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            base = {key: whole[key] for key in ("id", "created", "model")}
            base["object"] = "chat.completion.chunk"
            words = [t["token"] for t in whole["choices"][0]["logprobs"]["content"]]
            chunks: list[dict[str, Any]] = [
                {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
                for word in words
            ]
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": state.finish}]})
            chunks.append({"choices": [], "usage": whole["usage"]})
            for chunk in chunks:
                self.wfile.write(f"data: {json.dumps({**base, **chunk})}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
