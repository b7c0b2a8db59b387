"""`tune`: from a request to a finished run."""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import RunError
from warmstart.recipe import Recipe
from warmstart.run import Run, check_writable, free_path
from warmstart.verbs.conclude import conclude
from warmstart.verbs.prepare import Prepared, prepare

if TYPE_CHECKING:
    from warmstart.train.fit import Listener


def tune(
    recipe: Recipe,
    source: Any = None,
    *,
    resume: Path | None = None,
    listeners: list[Listener] | None = None,
) -> Run:
    """Train, evaluate, save and prove. Raises `WarmstartError`; nothing is written before the
    data, the base and the recipe are known to be good."""
    from warmstart.train.memory import keep_freed_memory

    keep_freed_memory()
    if resume is None:
        check_writable(Path(recipe.out or "runs"))
    prepared = prepare(recipe, source)
    if resume is None:
        out = Path(recipe.out) if recipe.out else free_path(_stem(recipe))
        prepared = replace(prepared, recipe=prepared.recipe.model_copy(update={"out": str(out)}))
        facts = {**prepared.facts(), "created": _now(), "versions": versions()}
        run = Run.create(out, prepared.recipe, facts)
    else:
        run = Run(resume)
        if run.facts["fingerprint"] != prepared.splits.fingerprint:
            raise RunError(f"cannot resume {resume}: the data have changed since it began")
        if run.facts["base"]["sha256"] != prepared.base.sha256:
            raise RunError(f"cannot resume {resume}: the base model has changed since it began")
        run.update(status="running")
    with _telling(run):
        _train(run, prepared, listeners or [], resume is not None)
    return Run(run.path)


def _train(run: Run, prepared: Prepared, listeners: list[Listener], resume: bool) -> None:
    import torch

    from warmstart.data.balance import class_weights
    from warmstart.models.compute import compute_for
    from warmstart.train import checkpoint
    from warmstart.train.feed import StateFeed, TokenFeed
    from warmstart.train.fit import Fit
    from warmstart.train.precision import choose, device_named
    from warmstart.train.vocabulary import narrow

    recipe, stores, settings = prepared.recipe, prepared.stores, prepared.recipe.train
    prepared.ledger.write(run.path)
    model = prepared.task.head(prepared.base, prepared.labels, recipe.seed)
    model = prepared.method.attach(model, recipe.seed)
    compute = compute_for(model)
    device = device_named(settings.device)
    pad = prepared.tokenizer.pad_token_id
    if settings.active_vocabulary:
        stores, pad = narrow(compute, stores, pad)
    checkpointing = settings.gradient_checkpointing
    compute.prepare(choose(settings.precision, device), device, checkpointing=checkpointing)
    assert settings.batch_size
    token_feeds = {
        name: TokenFeed(
            store, compute, pad, batch_size=settings.batch_size,
            batch_tokens=settings.batch_tokens,
            micro_batch_tokens=settings.micro_batch_tokens,
            rows=prepared.rows if name == "train" else None,
        )
        for name, store in stores.items()
    }  # fmt: skip
    feeds: dict[str, Any] = dict(token_feeds)
    cached = prepared.method.caches_features and compute.is_fast
    begun = time.perf_counter()
    if cached:
        feeds = {
            name: StateFeed(
                feed.states(), feed.store.targets, compute,  # pyright: ignore[reportArgumentType]
                batch_size=settings.batch_size, rows=feed.rows,
            )
            for name, feed in token_feeds.items() if name != "test"
        }  # fmt: skip
    caching = time.perf_counter() - begun
    weights = None
    if prepared.objective.class_weights == "balanced":
        counted = class_weights(stores["train"].targets[prepared.rows], len(prepared.labels))
        weights = torch.tensor(counted, dtype=torch.float32, device=device)
    targets = stores["validation"].targets
    fit = Fit(
        model=model,
        compute=compute,
        train=feeds["train"],
        validation=feeds["validation"],
        loss=lambda logits, y: prepared.objective.loss(logits, y, weights),
        weight=lambda y: prepared.objective.weight(y, weights),
        score=lambda logits: prepared.task.score(logits, targets),
        main=prepared.task.main_score,
        settings=settings,
        seed=recipe.seed,
        folder=run.path,
        listeners=listeners,
    )
    progress = fit.run(resume=resume)
    compute.full_precision()
    logits = {name: token_feeds[name].predict() for name in ("test", "validation")}
    compute.widen_vocabulary()
    prepared.tokenizer.model_max_length = prepared.task.max_length  # pyright: ignore
    prepared.method.save(model, prepared.tokenizer, run.model, prepared.base)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    speed = {
        "seconds": round(progress.seconds, 2),
        "rows": progress.rows,
        "rows_per_second": round(progress.rows / max(progress.seconds, 1e-9), 1),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
        "feature_seconds": round(caching, 2) if cached else 0.0,
        "device": device.type,
        "precision": settings.precision,
    }
    size = {"parameters": total, "trainable": trained}
    conclude(run, prepared, progress, logits, speed, size)
    checkpoint.clear(run.path / "checkpoints")


def versions() -> dict[str, str]:
    """What the run was made with."""
    names = ("warmstart", "torch", "transformers", "tokenizers", "peft", "datasets", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(Exception):
            found[name] = version(name)
    return found


@contextlib.contextmanager
def _telling(run: Run):
    """The run's status says how it ended."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            run.update(status="stopped", reason=f"{type(error).__name__}: {error}"[:300])
        raise


def _stem(recipe: Recipe) -> str:
    source = recipe.data.path or recipe.data.train or "data"
    return f"{Path(source).resolve().stem or 'data'}-{recipe.method.part_name()}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
