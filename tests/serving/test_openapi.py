"""The OpenAPI document against the server: no failure, no answer that is not documented."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks

from served import Running
from warmstart.serving.models import routes_of

load_all_checks()
KEPT = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance", "response_headers_conformance")  # fmt: skip

LIMITS = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens",
          "/v1/responses": "max_output_tokens", "/v1/summarize": "max_tokens",
          "/v1/translate": "max_tokens"}  # fmt: skip


def names_in(case: Any, server: Running) -> None:
    """Most bodies name a model that answers there, and write little."""
    body = case.body
    if not isinstance(body, dict):
        return
    names = [one.name for one in server.models.all() if case.path in routes_of(one)]
    if names and isinstance(body.get("model"), str) and len(body["model"]) % 4 < 3:
        body["model"] = names[len(body["model"]) % len(names)]
    if limit := LIMITS.get(case.path):
        body.setdefault(limit, 4)
    for key in {*LIMITS.values()}:
        if key in body and (body[key] is None or (isinstance(body[key], int) and body[key] > 4)):
            body[key] = 4


def check(server: Running, count: int) -> int:
    """So many cases over all operations; how many were answered with 200."""
    schema = schemathesis.openapi.from_dict(server.app.openapi())
    operations = [result.ok() for result in schema.get_all_operations()]
    checks = [CHECKS.get_one(name) for name in KEPT]
    good = 0
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=max(2, count // len(operations) // 2), deadline=None,
                      database=None, phases=[Phase.generate], derandomize=True,
                      suppress_health_check=[*HealthCheck])  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                nonlocal good
                names_in(case, server)
                answer = case.call(base_url=server.url, timeout=120)
                good += answer.status_code == 200
                case.validate_response(answer, checks=checks)

            with suppress(Unsatisfiable):  # nothing could be wrong with it
                ask()
    return good


def test_no_failure_and_nothing_undocumented(server: Running) -> None:
    assert check(server, 140) > 10


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_failure_in_20_000_cases(server: Running) -> None:
    assert check(server, 20_000) > 1_000
