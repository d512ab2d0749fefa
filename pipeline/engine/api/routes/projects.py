"""projects.getConfig and projects.locations: what there is to say about one machine."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, ThePage
from pipeline.engine.models.operations import project_number
from pipeline.errors import NotFound

router = APIRouter(prefix=PROJECT, dependencies=MANAGED)

LOCATION = "local"
CAPABILITIES = ("TRAINING", "BATCH_PREDICTION", "ONLINE_PREDICTION")


def _location(project: str) -> dict[str, Any]:
    name = f"projects/{project}/locations/{LOCATION}"
    return {"name": name, "capabilities": [{"type": kind} for kind in CAPABILITIES]}


@router.get(":getConfig")
async def get_config(engine: TheEngine) -> dict[str, Any]:
    """projects.getConfig: jobs and versions run as the engine itself, which is named here."""
    account = f"ml-engine@{engine.project}.local"
    return {
        "serviceAccount": account,
        "serviceAccountProject": project_number(engine.project),
        "config": {"tpuServiceAccount": account},
    }


@router.get("/locations")
async def list_locations(engine: TheEngine, page: ThePage) -> dict[str, Any]:
    """locations.list: this machine."""
    return {"locations": [_location(engine.project)]} if page.token == 0 else {}


@router.get("/locations/{location}")
async def get_location(engine: TheEngine, location: str) -> dict[str, Any]:
    """locations.get."""
    if location != LOCATION:
        raise NotFound(f"The specified location was not found; there is {LOCATION!r}.", field="name")
    return _location(engine.project)
