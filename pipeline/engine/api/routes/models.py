"""projects.models and projects.models.versions."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, TheMask, ThePage, read_json

router = APIRouter(prefix=PROJECT, dependencies=MANAGED)
VERSIONS = "/models/{model}/versions"


@router.post("/models")
async def create_model(engine: TheEngine, request: Request) -> dict[str, Any]:
    """models.create: at once, no operation."""
    return engine.models.create(await read_json(request))


@router.get("/models")
async def list_models(engine: TheEngine, page: ThePage) -> dict[str, Any]:
    """models.list."""
    return engine.models.list(page)


@router.get("/models/{model}")
async def get_model(engine: TheEngine, model: str) -> dict[str, Any]:
    """models.get."""
    return engine.models.get(model)


@router.patch("/models/{model}")
async def patch_model(
    engine: TheEngine, model: str, request: Request, mask: TheMask = None
) -> dict[str, Any]:
    """models.patch: description, labels, and which version is the default."""
    body = await read_json(request)
    return engine.models.patch(model, body, mask, partial(engine.versions.set_default, model))


@router.delete("/models/{model}")
async def delete_model(engine: TheEngine, model: str) -> dict[str, Any]:
    """models.delete."""
    return engine.models.delete(model)


@router.post(VERSIONS)
async def create_version(engine: TheEngine, model: str, request: Request) -> dict[str, Any]:
    """versions.create: an operation that ends when the version is warm."""
    return await engine.versions.create(model, await read_json(request))


@router.get(VERSIONS)
async def list_versions(engine: TheEngine, model: str, page: ThePage) -> dict[str, Any]:
    """versions.list."""
    return engine.versions.list(model, page)


@router.get(VERSIONS + "/{version}")
async def get_version(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.get."""
    return engine.versions.get(model, version)


@router.post(VERSIONS + "/{version}:setDefault")
async def set_default(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.setDefault: at once; its body is empty, or absent."""
    return engine.versions.set_default(model, version)


@router.patch(VERSIONS + "/{version}")
async def patch_version(
    engine: TheEngine, model: str, version: str, request: Request, mask: TheMask = None
) -> dict[str, Any]:
    """versions.patch: description, labels, scaling, and which predictions are logged."""
    return engine.versions.patch(model, version, await read_json(request), mask)


@router.delete(VERSIONS + "/{version}")
async def delete_version(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.delete."""
    return engine.versions.delete(model, version)
