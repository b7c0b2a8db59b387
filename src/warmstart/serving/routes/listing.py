"""Which models are served, and whether the server lives and is ready."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from warmstart.serving.errors import DOCUMENTED
from warmstart.serving.models import Served, routes_of
from warmstart.serving.routes.fields import models_of

router = APIRouter(responses=DOCUMENTED)


class Limits(BaseModel):
    """How much a model takes at once."""

    tokens: int
    inputs: int
    new_tokens: int | None


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "warmstart"
    task: str
    labels: list[str]
    inputs: list[str]
    routes: list[str]
    chat_template: str | None
    fingerprint: str
    limits: Limits


class ModelList(BaseModel):
    """All of them, and the indexes that can be searched."""

    object: str = "list"
    data: list[ModelCard]
    indexes: list[str]


class Health(BaseModel):
    """Whether it is so."""

    status: str


@router.get("/v1/models", tags=["models"])
async def list_models(request: Request) -> ModelList:
    """The models that were named when the server started."""
    models = models_of(request)
    return ModelList(data=[_card(request, served) for served in models.all()],
                     indexes=[*models.indexes])  # fmt: skip


@router.get("/v1/models/{model:path}", tags=["models"])
async def show_model(request: Request, model: str) -> ModelCard:
    """One model: its task, labels, inputs, paths and limits."""
    return _card(request, models_of(request).named(model))


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Whether the server lives."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"], responses={503: {"model": Health}})
async def readyz(request: Request) -> Any:
    """Whether requests should be sent here: 503 while the server is ending."""
    if request.app.state.draining:
        return JSONResponse({"status": "ending"}, 503)
    return Health(status="ok")


@router.get("/metrics", tags=["health"], response_class=Response,
            responses={200: {"content": {"text/plain": {}}}})  # fmt: skip
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    counted = models_of(request).metrics
    return Response(counted.text(), media_type=counted.content_type)


def _card(request: Request, served: Served) -> ModelCard:
    settings, writer = models_of(request).settings, served.writer
    template = None
    if writer is not None and writer.decodes:
        template = "own" if writer.template else "plain"
    return ModelCard(
        id=served.name, created=served.created, task=served.task,
        labels=[] if writer else served.predictor.labels if _labelled(served) else [],
        inputs=[*served.predictor.task.inputs], routes=routes_of(served), chat_template=template,
        fingerprint=served.key,
        limits=Limits(tokens=served.positions, inputs=settings.max_inputs,
                      new_tokens=settings.max_new_tokens if writer else None),
    )  # fmt: skip


def _labelled(served: Served) -> bool:
    head = served.predictor.task.head
    return head.labelled and head.states_confidence
