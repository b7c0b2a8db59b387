"""Whatever a request is refused with, in OpenAI's form; the one place that words it.

An error names the field, the number of the input and both numbers of a limit. It never repeats what
was sent: no text, and of a field that is not known no more than its name.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from warmstart.errors import nearest, shown
from warmstart.formatting import counted

LOG = logging.getLogger("warmstart.serving")
CUTS = "shorten it, or send truncate: true, which reads its beginning"
"""What can be done about a text that is too long, where it may be cut."""


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error."""

    error: ErrorDetail


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning}
    for status, meaning in {
        400: "the request cannot be answered; `param` names the field",
        401: "no key, or one that is not known",
        404: "no such model or path",
        405: "the path knows no such method",
        408: "the request did not come in time",
        413: "the request is too large",
        429: "too many requests are waiting",
        500: "the server failed",
        503: "no turn came in time, or the server is ending; Retry-After says when to try again",
        504: "the answer was not ready in time",
    }.items()
}
"""What every route may answer beside what it is for."""


class ApiError(Exception):
    """A request is refused."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> Mapping[str, Any]:
        """As JSON."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param,
                          "code": self.code}}  # fmt: skip

    def response(self) -> JSONResponse:
        """As an answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def unsupported(param: str, reason: str) -> ApiError:
    """A field that is not honoured."""
    return ApiError(400, f"{param} {reason}", code="unsupported_parameter", param=param)


def invalid(param: str, reason: str) -> ApiError:
    """A value that does not go."""
    return ApiError(400, f"{param} {reason}", code="invalid_value", param=param)


def too_long(param: str, tokens: int, limit: int, hint: str = "shorten it") -> ApiError:
    """A text with more tokens than the model reads."""
    return ApiError(
        400, f"{param} has {counted(tokens, 'token')}, and the model reads at most {limit:,}; "
        f"{hint}", code="context_length_exceeded", param=param,
    )  # fmt: skip


def no_model(name: str, known: Sequence[str]) -> ApiError:
    """A model that is not served."""
    return ApiError(404, f"there is no model of this name here.{nearest(name, known)}",
                    code="model_not_found", param="model")  # fmt: skip


def failed() -> ApiError:
    """Something broke that the request is not to blame for."""
    return ApiError(500, "the server failed on this request; its log says where",
                    code="internal_error")  # fmt: skip


def log_failure(error: BaseException, where: str) -> None:
    """Write down what broke and where, without its message, which may hold a text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    way = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    LOG.error("%s: %s at %s", where, type(error).__name__, way)


def install(app: FastAPI) -> None:
    """Let an application answer every error in this form."""

    def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    def misread(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return of_validation(error.errors()).response()

    def other(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        words = {404: "there is no such path", 405: "this path does not know this method"}
        message = words.get(error.status_code, "the request cannot be read")
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(ApiError, refuse)
    app.add_exception_handler(RequestValidationError, misread)
    app.add_exception_handler(HTTPException, other)


def of_validation(errors: Sequence[Any]) -> ApiError:
    """What pydantic says of a request, without the values that it repeats.

    Of a field that may be of several kinds it says what is wrong with each of them: the one that
    came furthest is told.
    """
    error = max(errors, key=lambda error: len(error["loc"]))
    place = [str(part) for part in error["loc"] if part not in ("body", "path", "query")]
    if error["type"] in ("json_invalid", "model_attributes_type", "dict_type") and len(place) <= 1:
        return ApiError(400, "the body is no JSON object of content type application/json",
                        code="invalid_json")  # fmt: skip
    param = shown(".".join(part for part in place if _is_field(part)), 60)
    if error["type"] == "extra_forbidden":
        return unsupported(param, "is not a field that this server honours; leave it out")
    if error["type"] == "missing":
        return ApiError(400, f"{param} is missing", code="missing_parameter", param=param)
    if error["type"] == "union_tag_invalid":  # its message has the value
        return invalid(param, f"is of no known type; take {error['ctx']['expected_tags']}")
    return invalid(param, f"cannot be used: {error['msg'].removeprefix('Value error, ')}")


def _is_field(part: str) -> bool:
    """Whether a part of a place is a field or a number, and not a kind that pydantic has tried."""
    kinds = ("str", "int", "float", "bool", "dict", "function-before")
    return part.isdigit() or (part.isidentifier() and part[0].islower() and part not in kinds)
