"""What `serve` prints: where it listens, what it answers with, a new key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from warmstart.cli.output.tables import plain, print_json, put
from warmstart.errors import typed

if TYPE_CHECKING:
    from warmstart.serving.models import Models


def ready(address: str, models: Models, *, as_json: bool, dry_run: bool = False) -> None:
    """Where the server listens, and with what it answers."""
    from warmstart.serving.models import routes_of

    served = models.all()
    if as_json:
        rows = [
            {"id": model.name, "task": model.task, "routes": routes_of(model)} for model in served
        ]
        print_json({"address": address, "models": rows, "indexes": [*models.indexes]})
        sys.stdout.flush()  # whoever started it waits for the address
        return
    table = plain(None, "model", "task", "asked at")
    for model in served:
        table.add_row(model.name, model.task, ", ".join(routes_of(model)))
    for name in models.indexes:
        table.add_row(name, "index", "/v1/search")
    put(table)
    if dry_run:
        print(f"This would be served at {address}; nothing is.")
        return
    print(
        f"{address} answers: the page for people at /, the routes at /docs, OpenAI's clients with "
        f"base_url {address}/v1; Ctrl-C ends it",
        flush=True,
    )


def new_key(file: str | None, *, as_json: bool) -> None:
    """A key, which is shown once, and the sum by which a server knows it."""
    from warmstart.pipelines.serving.serve import new_key as make

    key, known = make(None if file is None else Path(file))
    if as_json:
        print_json({"key": key, "sha256": known, "file": file})
        return
    print(f"key     {key}")
    print(f"SHA-256 {known}")
    if file is None:
        print("the key is not kept anywhere; a server knows it by its SHA-256: in a file for "
              "--keys, or in WARMSTART_SERVE_KEYS")  # fmt: skip
    else:
        print(f"the key is not kept anywhere; its SHA-256 stands in {typed(file)}, and a server "
              f"takes it with --keys {typed(file)}")  # fmt: skip
