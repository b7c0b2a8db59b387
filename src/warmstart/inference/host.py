"""The host of a model that answers elsewhere: what it is asked, how often, and at what cost."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from warmstart.errors import RecipeError, RunError, SendsTextsWarning, shown
from warmstart.formatting import counted
from warmstart.inference.engine import Runner
from warmstart.inference.openai import PREFIX, OpenAI
from warmstart.inference.replies import AnswerFile, Reply, Usage, reply_of

T = TypeVar("T")
USUAL = "https://api.openai.com/v1"
PER_MESSAGE = 16
"""More tokens than a chat template puts around a message."""
OPTIONAL = ("max_completion_tokens", "response_format", "top_logprobs", "logprobs", "temperature",
            "seed", "stream_options")  # fmt: skip
"""Fields that some hosts refuse; then the same is asked without them, and a note says so."""
Messages = Sequence[Mapping[str, Any]]


class Host(Runner):
    """A hosted model that is open. `ask` may be called from several threads.

    Raises `RecipeError` where the client is not installed or settings do not go together, and
    `RunError` without a key.
    """

    def __init__(self, engine: OpenAI, name: str) -> None:
        self.engine, self.name, self.model = engine, name, name.removeprefix(PREFIX)
        if not self.model:
            raise RecipeError("openai: is no model; write its name behind it, openai:MODEL")
        prices = engine.price_input, engine.price_output
        if engine.max_cost is not None and None in prices:
            raise RecipeError(
                "max_cost needs to know what a token costs: give --engine.price_input and "
                "--engine.price_output, the prices of a million tokens"
            )
        self.url = (os.environ.get("OPENAI_BASE_URL") or USUAL).rstrip("/")
        place = urlsplit(self.url)
        self.where = place.netloc.rpartition("@")[2] or shown(self.url)
        self.client = self._client()
        weakref.finalize(self, self.client.close)
        self.answers = AnswerFile(None if engine.keep is None else Path(engine.keep))
        self.usage = Usage(cost=None if None in prices else 0.0)
        self.notes: list[str] = []
        self._lock, self._next = threading.Lock(), 0.0
        self._under_way, self._reserved = 0, 0.0
        self._settled = threading.Condition(self._lock)
        self._left_out, self._announced = set[str](), set[str]()

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise RecipeError(
                "a hosted model is asked through the client of OpenAI, which is not installed: "
                "pip install 'warmstart[openai]'"
            ) from None
        key = os.environ.get("OPENAI_API_KEY")
        if not key and self.url == USUAL:
            raise RunError(
                f"{self.name} is asked at {self.where}, which wants a key: set OPENAI_API_KEY; or "
                "set OPENAI_BASE_URL to the address of another host"
            )
        return openai.OpenAI(
            api_key=key or "none", base_url=self.url, timeout=self.engine.timeout,
            max_retries=self.engine.retries,
        )  # fmt: skip

    def announce(self, what: str) -> None:
        """Say where `what` goes, before anything is sent."""
        if what in self._announced:
            return
        self._announced.add(what)
        place = urlsplit(self.url)
        address = f"{place.scheme}://{self.where}{place.path}"
        warnings.warn(SendsTextsWarning(f"{what} are sent to {address} (model {self.model})"),
                      stacklevel=3)  # fmt: skip

    def all(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """What comes of several requests, some at a time; the first error ends it."""
        if len(calls) == 1 or self.engine.concurrency == 1:
            return [call() for call in calls]
        stopped = threading.Event()

        def unless_stopped(number: int) -> T | None:
            if stopped.is_set():
                return None
            try:
                return calls[number]()
            except BaseException:
                stopped.set()
                raise

        with ThreadPoolExecutor(self.engine.concurrency) as pool:
            try:
                replies = list(pool.map(unless_stopped, range(len(calls))))
            except BaseException:
                stopped.set()
                raise
        return [reply for reply in replies if reply is not None]

    def ask(self, messages: Messages, most: int, **fields: Any) -> Reply:
        """The answer to a conversation, of at most so many tokens. Raises `RunError`."""
        request = {"messages": list(messages), "max_completion_tokens": most, **fields}
        key = self.answers.key(self.url, self.model, request)
        if (kept := self.answers.get(key)) is not None:
            with self._lock:
                self.usage.kept += 1
            return Reply(**{**kept, "tokens": [(text, value) for text, value in kept["tokens"]]})
        with self._paid(request, most) as bill:
            begin = time.perf_counter()
            answer = self._sent(request)
            reply = reply_of(answer, time.perf_counter() - begin)
            bill(reply.read, reply.written, reply.seconds)
        self.answers.put(key, reply)
        return reply

    def stream(self, messages: Messages, most: int, **fields: Any) -> Iterator[Any]:
        """The chunks of an answer as they come; what it cost is counted at its end."""
        request = {"messages": list(messages), "max_completion_tokens": most, **fields,
                   "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
        with self._paid(request, most) as bill:
            begin, used, came = time.perf_counter(), None, False
            chunks = self._sent(request)
            try:
                for chunk in chunks:
                    used, came = getattr(chunk, "usage", None) or used, True
                    yield chunk
                if not came:
                    raise ValueError("no chunk")
            except (OSError, ValueError, self._errors()) as error:
                raise self._refused(error) from None
            finally:
                chunks.close()
                read = used.prompt_tokens if used else 0
                bill(read, used.completion_tokens if used else 0, time.perf_counter() - begin)

    def figures(self) -> Mapping[str, Any]:
        """What was asked, of whom, and what it cost; for `metrics.json`."""
        return {"model": self.model, "host": self.where, **self.usage.figures()}

    def summary(self) -> list[str]:
        """The same in words."""
        used, figures = self.usage, self.usage.figures()
        if not used.requests and not used.kept:
            return [*self.notes]
        words = [f"{self.where} ({self.model}) was asked {counted(used.requests, 'time')}: "
                 f"{used.read:,} tokens read, {used.written:,} written"]  # fmt: skip
        if used.cost is not None:
            words.append(f"cost {used.cost:.4g} by the given prices")
        if used.seconds:
            words.append(f"{figures['seconds_median']:.2f} s an answer (95 % within "
                         f"{figures['seconds_95']:.2f} s)")  # fmt: skip
        if used.retries:
            words.append(f"{counted(used.retries, 'request was', 'requests were')} repeated")
        if used.kept:
            words.append(f"{counted(used.kept, 'answer')} came from {self.engine.keep}")
        return [*self.notes, ", ".join(words)]

    def _paid(self, request: Mapping[str, Any], most: int) -> _Bill:
        """The place of a request in the rate and in the budget. Raises `RunError` before the
        budget is passed."""
        wait = 0.0
        with self._lock:
            engine, spent, bound = self.engine, self.usage.cost, 0.0
            if spent is not None:
                # a token has a byte at least, so that this is never too little
                size = len(json.dumps(request, ensure_ascii=False).encode(errors="replace"))
                size += PER_MESSAGE * len(request["messages"])
                bound = self._price(size, most)
                # what is under way costs less than its bound, mostly
                self._settled.wait_for(lambda: not self._under_way or self._fits(bound))
                if not self._fits(bound):
                    raise RunError(
                        f"stopped before max_cost {engine.max_cost:g} is passed: "
                        f"{self.usage.cost:.4g} is spent on "
                        f"{counted(self.usage.requests, 'answer')}, and the next could cost "
                        f"{bound:.2g}; raise --engine.max_cost, or ask less"
                        + ("" if engine.keep else " (--engine.keep FILE keeps what is paid for)")
                    )
                self._reserved += bound
            self._under_way += 1
            if engine.requests_per_minute:
                now = time.monotonic()
                wait = max(0.0, self._next - now)
                self._next = max(self._next, now) + 60 / engine.requests_per_minute
        if wait:
            time.sleep(wait)
        return _Bill(self, bound)

    def _fits(self, bound: float) -> bool:
        """Whether a request of this cost stays within the budget."""
        most = self.engine.max_cost
        return most is None or (self.usage.cost or 0.0) + self._reserved + bound <= most

    def _price(self, read: float, written: float) -> float:
        prices = self.engine.price_input or 0.0, self.engine.price_output or 0.0
        return (read * prices[0] + written * prices[1]) / 1e6

    def _sent(self, request: Mapping[str, Any]) -> Any:
        """The answer of the host as the client reads it, after what it does not take is left
        out."""
        import openai

        broken = 0
        while True:
            wanted = {name: value for name, value in request.items() if name not in self._left_out}
            if "max_completion_tokens" in self._left_out:
                wanted["max_tokens"] = request["max_completion_tokens"]
            try:
                raw = self.client.chat.completions.with_raw_response.create(
                    model=self.model, **wanted
                )
                with self._lock:
                    self.usage.retries += raw.retries_taken
                answer = raw.parse()
                if not request.get("stream") and not getattr(answer, "choices", None):
                    raise ValueError("no choices")
                return answer
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                self._leave_out(error, wanted)
            except ValueError as error:  # what came is no JSON, or not of this form
                broken += 1
                if broken > self.engine.retries:
                    raise self._refused(error) from None
                with self._lock:
                    self.usage.retries += 1
            except (openai.OpenAIError, OSError) as error:
                raise self._refused(error) from None

    def _leave_out(self, error: Any, wanted: Mapping[str, Any]) -> None:
        """Note the field that a host refuses, if it is one that can be done without. Raises
        `RunError` otherwise."""
        words = f"{getattr(error, 'param', '')} {error}"
        name = next((n for n in OPTIONAL if n in words and n in wanted), None)
        if name is None:
            raise self._refused(error) from None
        more = {"logprobs", "top_logprobs"} if name == "top_logprobs" else {name}
        with self._lock:
            if not more & self._left_out and name != "max_completion_tokens":
                self.notes.append(
                    f"{self.where} does not take {name}, so it was asked without"
                    + CONSEQUENCE.get(name, "")
                )
            self._left_out |= more

    def _errors(self) -> Any:
        import openai

        return openai.OpenAIError

    def _refused(self, error: Any) -> RunError:
        """Why the host gave no answer, and what to do."""
        import openai

        engine, tries = self.engine, counted(self.engine.retries + 1, "try", "tries")
        reason = shown(_words(error), 160)
        match error:
            case openai.AuthenticationError():
                text = f"{self.where} does not accept the key in OPENAI_API_KEY ({reason})"
            case openai.NotFoundError():
                text = (f"{self.where} has no model {self.model} at {urlsplit(self.url).path} "
                        f"({reason}); check the name and OPENAI_BASE_URL")  # fmt: skip
            case openai.RateLimitError():
                text = (f"{self.where} answers no more for now, after {tries} ({reason}); wait, or "
                        "set --engine.requests_per_minute")  # fmt: skip
            case openai.APITimeoutError():
                text = (f"{self.where} gave no answer within {engine.timeout:g} s, in {tries}; "
                        "raise --engine.timeout, or lower --engine.concurrency")  # fmt: skip
            case openai.InternalServerError():
                text = f"{self.where} failed, in {tries} ({reason}); try again later"
            case openai.APIStatusError():
                text = f"{self.where} refuses the request ({error.status_code}: {reason})"
            case openai.APIConnectionError():
                cause = shown(error.__cause__ or reason, 80)
                text = (f"cannot reach {self.where} ({cause}); check OPENAI_BASE_URL and the "
                        "network")  # fmt: skip
            case _:
                text = (f"{self.where} answers with what is no JSON of OpenAI's form; check "
                        "OPENAI_BASE_URL, which mostly ends in /v1")  # fmt: skip
        done = f"; {counted(self.usage.requests, 'answer')} had come" if self.usage.requests else ""
        return RunError(text + done)


CONSEQUENCE = {
    "response_format": ": its answers are not held to the labels",
    "logprobs": ": how sure it is cannot be known",
    "top_logprobs": ": how sure it is cannot be known",
    "temperature": ": its answers may change from time to time",
}  # fmt: skip


class _Bill:
    """A context in which a request is made; called with what it took, it adds that up."""

    def __init__(self, host: Host, bound: float) -> None:
        self.host, self.bound = host, bound

    def __enter__(self) -> _Bill:
        return self

    def __call__(self, read: int, written: int, seconds: float) -> None:
        usage = self.host.usage
        with self.host._lock:
            usage.requests += 1
            usage.read, usage.written = usage.read + read, usage.written + written
            usage.seconds.append(seconds)
            if usage.cost is not None:  # where the host does not count, what it may have been
                own = self.host._price(read, written) if read else self.bound
                usage.cost += own

    def __exit__(self, *error: object) -> None:
        with self.host._lock:
            self.host._reserved -= self.bound
            self.host._under_way -= 1
            self.host._settled.notify_all()


def _words(error: Any) -> str:
    """What the host says of an error, without the client's wrapping."""
    body: Any = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return str(message or error)
