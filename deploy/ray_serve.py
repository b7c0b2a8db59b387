"""warmstart on Ray Serve, where one machine is not enough: a replica is a whole server.

    MODELS="tickets=/models/tickets" serve run deploy.ray_serve:app

`MODELS` are runs, model folders or indexes with commas between, on a path that every machine sees;
`REPLICAS` how many servers there are (1). Keys are those of `WARMSTART_SERVE_KEYS`, as sums. Ray
hands requests to the replicas; each batches its own.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve


def build() -> Any:
    """The application of a replica; its models are opened when the replica starts."""
    from warmstart.pipelines.search import Index
    from warmstart.pipelines.serving.serve import is_index, sources_of
    from warmstart.serving.app import create_app
    from warmstart.serving.auth import known_sums
    from warmstart.serving.metrics import Metrics
    from warmstart.serving.models import Models
    from warmstart.serving.settings import Serving

    settings = Serving(host="0.0.0.0")  # so that a key is wanted
    sums = known_sums(settings)
    sources = sources_of([word for word in os.environ["MODELS"].split(",") if word])
    indexes = {name: Index(path) for name, path in sources.items() if is_index(path)}
    rest = {name: path for name, path in sources.items() if name not in indexes}
    return create_app(Models(rest, settings, Metrics(), indexes=indexes), sums)


deployment = serve.deployment(
    num_replicas=int(os.environ.get("REPLICAS", "1")),
    max_ongoing_requests=256,
    health_check_period_s=10,
    graceful_shutdown_timeout_s=320,
)
app = deployment(serve.ingress(build)()).bind()
