"""projects.operations."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, ThePage, V1Route
from pipeline.engine.v1.responses import Empty, Operation, OperationList
from pipeline.errors import Unimplemented

router = APIRouter(prefix=f"{PROJECT}/operations", dependencies=MANAGED, route_class=V1Route)


@router.get("")
async def list_operations(
    engine: TheEngine, page: ThePage, returnPartialSuccess: str = "false"
) -> OperationList:
    """operations.list, newest first."""
    if returnPartialSuccess.lower() != "false":
        raise Unimplemented("There is one collection to list.", field="return_partial_success")
    return engine.operations.list(page)


@router.get("/{operation}")
async def get(engine: TheEngine, operation: str) -> Operation:
    """operations.get."""
    return engine.operations.get(operation)


@router.post("/{operation}:cancel")
async def cancel(engine: TheEngine, operation: str) -> Empty:
    """operations.cancel: best effort; poll the operation for its outcome."""
    return engine.operations.cancel(operation)
