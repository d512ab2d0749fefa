"""projects.operations."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, ThePage
from pipeline.errors import Unimplemented

router = APIRouter(prefix=f"{PROJECT}/operations", dependencies=MANAGED)


@router.get("")
async def list_operations(
    engine: TheEngine, page: ThePage, returnPartialSuccess: str = "false"
) -> dict[str, Any]:
    """operations.list, newest first."""
    if returnPartialSuccess.lower() != "false":
        raise Unimplemented("There is one collection to list.", field="return_partial_success")
    return engine.operations.list(page)


@router.get("/{operation}")
async def get(engine: TheEngine, operation: str) -> dict[str, Any]:
    """operations.get."""
    return engine.operations.get(operation)


@router.post("/{operation}:cancel")
async def cancel(engine: TheEngine, operation: str) -> dict[str, Any]:
    """operations.cancel: best effort; poll the operation to see what became of it."""
    return engine.operations.cancel(operation)
