"""The application: its routes, what stands before them, and the page for people."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from warmstart.reporting.page import TEMPLATES
from warmstart.serving import errors
from warmstart.serving.auth import Guard
from warmstart.serving.metrics import Counted
from warmstart.serving.models import Models
from warmstart.serving.routes import (
    chat,
    completions,
    embeddings,
    listing,
    responses,
    tasks,
    texts,
)

PAGE = Path(__file__).parent / "page"
"""The page for people: index.html with page.css and page.js, which go into it as they are sent."""
POLICY = "Content-Security-Policy"
HEADERS = {
    POLICY: "default-src 'none'; connect-src 'self'; img-src data:; "
    "{more}base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Of pages: nothing is fetched from elsewhere, and no other site may show them."""


def create_app(models: Models, sums: Iterable[str] = ()) -> FastAPI:
    """The application over opened models.

    Args:
        sums: SHA-256 of the keys (`auth.known_sums`); none: whoever reaches it may ask.
    """
    modules = (embeddings, tasks, completions, chat, responses, texts, listing)
    app = FastAPI(
        title="warmstart",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        routes=[route for module in modules for route in module.router.routes],
    )  # routers that are included are searched twice for each request
    app.state.models, app.state.draining = models, False
    errors.install(app)
    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/docs", documentation, include_in_schema=False)
    app.add_middleware(Guard, sums=[*sums], settings=models.settings, front=page_for(401))
    app.add_middleware(Counted, metrics=models.metrics)
    return app


async def page() -> Response:
    """The page for people."""
    return page_for(200)


def page_for(status: int) -> Response:
    """The page, in one piece. It holds no secret: who has no key is given it with status 401, and
    asked for the key by it."""
    style = (TEMPLATES / "report.css").read_text("utf-8") + (PAGE / "page.css").read_text("utf-8")
    script = (PAGE / "page.js").read_text("utf-8")
    text = (PAGE / "index.html").read_text("utf-8")
    text = text.replace("/*style*/", style).replace("/*script*/", script)
    more = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
    headers = {**HEADERS, POLICY: HEADERS[POLICY].format(more=more)}
    if status == 401:  # and not Basic, for which a browser would ask in a window of its own
        headers["WWW-Authenticate"] = 'Bearer realm="warmstart"'
    return HTMLResponse(text, status, headers)


def _digest(text: str) -> str:
    """By which a content security policy allows a style or a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


async def documentation(request: Request) -> Response:
    """What can be asked, for people: the OpenAPI document as a page that loads nothing."""
    schema: Mapping[str, Any] = request.app.openapi()
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(what.get('description', ''))}</td></tr>"
        for path, methods in schema["paths"].items()
        for method, what in methods.items()
    ]
    forms = [
        f"<h3 id='{name}'><code>{name}</code></h3><p>{html.escape(form.get('description', ''))}</p>"
        f"<ul>{''.join(_field(field, what, form) for field, what in form['properties'].items())}"
        "</ul>"
        for name, form in schema["components"]["schemas"].items()
        if "properties" in form
    ]
    text = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>warmstart: routes</title>"
        "<meta name='viewport' content='width=device-width'><h1>Routes</h1><p>Ask with "
        "<code>content-type: application/json</code>; the machine-readable form is <a "
        f"href='/openapi.json'>/openapi.json</a>.</p><table>{''.join(rows)}</table>"
        f"<h2>Bodies</h2>{''.join(forms)}</html>"
    )
    return HTMLResponse(text, headers={**HEADERS, POLICY: HEADERS[POLICY].format(more="")})


def _field(name: str, what: Mapping[str, Any], form: Mapping[str, Any]) -> str:
    needed = " (needed)" if name in form.get("required", ()) else ""
    meaning = html.escape(what.get("description", ""))
    return f"<li><code>{html.escape(name)}</code>{needed} {_kind(what)} {meaning}</li>"


def _kind(what: Mapping[str, Any]) -> str:
    """The type of a field, in words."""
    if reference := what.get("$ref"):
        name = html.escape(reference.rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if several := what.get("anyOf") or what.get("oneOf"):
        return " or ".join(_kind(kind) for kind in several)
    if what.get("type") == "array":
        return f"list of {_kind(what.get('items', {}))}"
    if choices := what.get("enum"):
        return html.escape(" or ".join(map(str, choices)))
    return html.escape(str(what.get("const", what.get("type", "any value"))))


def _version() -> str:
    with suppress(PackageNotFoundError):
        return version("warmstart")
    return "0"
