"""projects.models and projects.models.versions."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from pipeline.engine.api.routes import (
    MANAGED,
    PROJECT,
    TheBody,
    TheEngine,
    TheMask,
    ThePage,
    V1Route,
    accepts,
)
from pipeline.engine.v1.patches import ModelPatch
from pipeline.engine.v1.resources import ModelBody, VersionBody, VersionPatch
from pipeline.engine.v1.responses import (
    Model,
    ModelList,
    Operation,
    Version,
    VersionList,
)

router = APIRouter(prefix=PROJECT, dependencies=MANAGED, route_class=V1Route)
VERSIONS = "/models/{model}/versions"


@router.post("/models", openapi_extra=accepts(ModelBody))
async def create_model(engine: TheEngine, body: TheBody) -> Model:
    """models.create: at once, no operation."""
    return engine.models.create(body)


@router.get("/models")
async def list_models(engine: TheEngine, page: ThePage) -> ModelList:
    """models.list."""
    return engine.models.list(page)


@router.get("/models/{model}")
async def get_model(engine: TheEngine, model: str) -> Model:
    """models.get."""
    return engine.models.get(model)


@router.patch("/models/{model}", openapi_extra=accepts(ModelPatch))
async def patch_model(engine: TheEngine, model: str, body: TheBody, mask: TheMask = None) -> Operation:
    """models.patch: description, labels, and which version is the default."""
    return engine.models.patch(model, body, mask, partial(engine.versions.set_default, model))


@router.delete("/models/{model}")
async def delete_model(engine: TheEngine, model: str) -> Operation:
    """models.delete."""
    operation = engine.models.delete(model)
    engine.traffic.forget(model)
    return operation


@router.post(VERSIONS, openapi_extra=accepts(VersionBody))
async def create_version(engine: TheEngine, model: str, body: TheBody) -> Operation:
    """versions.create: an operation that ends when the version is warm."""
    return await engine.versions.create(model, body)


@router.get(VERSIONS)
async def list_versions(engine: TheEngine, model: str, page: ThePage) -> VersionList:
    """versions.list."""
    return engine.versions.list(model, page)


@router.get(VERSIONS + "/{version}")
async def get_version(engine: TheEngine, model: str, version: str) -> Version:
    """versions.get."""
    return engine.versions.get(model, version)


@router.post(VERSIONS + "/{version}:setDefault")
async def set_default(engine: TheEngine, model: str, version: str) -> Version:
    """versions.setDefault: at once; its body is empty, or absent."""
    return engine.versions.set_default(model, version)


@router.patch(VERSIONS + "/{version}", openapi_extra=accepts(VersionPatch))
async def patch_version(
    engine: TheEngine, model: str, version: str, body: TheBody, mask: TheMask = None
) -> Operation:
    """versions.patch: description, labels, scaling, and which predictions are logged."""
    return engine.versions.patch(model, version, body, mask)


@router.delete(VERSIONS + "/{version}")
async def delete_version(engine: TheEngine, model: str, version: str) -> Operation:
    """versions.delete."""
    return engine.versions.delete(model, version)
