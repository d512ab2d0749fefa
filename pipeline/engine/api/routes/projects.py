"""projects.getConfig and projects.locations: one account, one location."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.engine.api.routes import MANAGED, PROJECT, TheEngine, ThePage, V1Route
from pipeline.engine.models.operations import project_number
from pipeline.engine.v1.responses import Capability, Config, Location, LocationList, TpuConfig
from pipeline.errors import NotFound

router = APIRouter(prefix=PROJECT, dependencies=MANAGED, route_class=V1Route)

LOCATION = "local"
CAPABILITIES = ("TRAINING", "BATCH_PREDICTION", "ONLINE_PREDICTION")


def _location(project: str) -> Location:
    capabilities = [Capability(type=kind) for kind in CAPABILITIES]
    return Location(name=f"projects/{project}/locations/{LOCATION}", capabilities=capabilities)


@router.get(":getConfig")
async def get_config(engine: TheEngine) -> Config:
    """projects.getConfig: jobs and versions run as the engine itself, which is named here."""
    account = f"ml-engine@{engine.project}.local"
    return Config(
        service_account=account,
        service_account_project=project_number(engine.project),
        config=TpuConfig(tpu_service_account=account),
    )


@router.get("/locations")
async def list_locations(engine: TheEngine, page: ThePage) -> LocationList:
    """locations.list: this machine."""
    return LocationList(locations=[_location(engine.project)] if page.token == 0 else None)


@router.get("/locations/{location}")
async def get_location(engine: TheEngine, location: str) -> Location:
    """locations.get."""
    if location != LOCATION:
        raise NotFound(f"The specified location was not found; there is {LOCATION!r}.", field="name")
    return _location(engine.project)
