"""projects.models, projects.models.versions and projects.operations."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pipeline.engine.routes import PROJECT, TheEngine, ThePage, read_json
from pipeline.errors import Unimplemented

router = APIRouter(prefix=PROJECT)
VERSIONS = "/models/{model}/versions"


def _refuse_filter(request: Request) -> None:
    if request.query_params.get("filter"):
        raise Unimplemented("This engine does not filter lists yet.", field="filter")


@router.post("/models")
async def create_model(engine: TheEngine, request: Request) -> dict[str, Any]:
    """models.create: at once, no operation."""
    return engine.models.create(await read_json(request))


@router.get("/models")
async def list_models(engine: TheEngine, page: ThePage, request: Request) -> dict[str, Any]:
    """models.list."""
    _refuse_filter(request)
    return engine.models.list(page)


@router.get("/models/{model}")
async def get_model(engine: TheEngine, model: str) -> dict[str, Any]:
    """models.get."""
    return engine.models.get(model)


@router.delete("/models/{model}")
async def delete_model(engine: TheEngine, model: str) -> dict[str, Any]:
    """models.delete."""
    return engine.models.delete(model)


@router.post(VERSIONS)
async def create_version(engine: TheEngine, model: str, request: Request) -> dict[str, Any]:
    """versions.create: an operation that ends when the version is warm."""
    return await engine.versions.create(model, await read_json(request))


@router.get(VERSIONS)
async def list_versions(engine: TheEngine, model: str, page: ThePage, request: Request) -> dict[str, Any]:
    """versions.list."""
    _refuse_filter(request)
    return engine.versions.list(model, page)


@router.get(VERSIONS + "/{version}")
async def get_version(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.get."""
    return engine.versions.get(model, version)


@router.post(VERSIONS + "/{version}:setDefault")
async def set_default(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.setDefault: at once; its body is empty, or absent."""
    return engine.versions.set_default(model, version)


@router.delete(VERSIONS + "/{version}")
async def delete_version(engine: TheEngine, model: str, version: str) -> dict[str, Any]:
    """versions.delete."""
    return engine.versions.delete(model, version)


@router.get("/operations/{operation}")
async def get_operation(engine: TheEngine, operation: str) -> dict[str, Any]:
    """operations.get."""
    return engine.operations.get(operation)
