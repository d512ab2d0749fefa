"""The methods of v1 that this engine does not have: 501, naming the method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from fastapi import APIRouter

from pipeline.errors import Unimplemented

router = APIRouter(include_in_schema=False)

_PROJECT = "/v1/projects/{p}"
_MODEL = f"{_PROJECT}/models/{{m}}"
_VERSION = f"{_MODEL}/versions/{{v}}"
MISSING = {
    "batch (several requests in one)": ("POST", "/batch"),
    "batch (of ml v1)": ("POST", "/batch/ml/v1"),
    "projects.explain (of a model)": ("POST", f"{_MODEL}:explain"),
    "projects.explain (of a version)": ("POST", f"{_VERSION}:explain"),
    "projects.locations.studies": ("GET", f"{_PROJECT}/locations/{{l}}/studies{{rest:path}}"),
    "projects.locations.studies (changes)": ("POST", f"{_PROJECT}/locations/{{l}}/studies{{rest:path}}"),
    "projects.locations.studies.delete": ("DELETE", f"{_PROJECT}/locations/{{l}}/studies{{rest:path}}"),
    "projects.locations.operations.get": ("GET", f"{_PROJECT}/locations/{{l}}/operations/{{o}}"),
    "projects.locations.operations.cancel": ("POST", f"{_PROJECT}/locations/{{l}}/operations/{{o}}:cancel"),
} | {
    f"projects.{noun}.{verb}": (method, f"{_PROJECT}/{noun}/{{n}}:{verb}")
    for noun in ("jobs", "models")
    for verb, method in (("getIamPolicy", "GET"), ("setIamPolicy", "POST"), ("testIamPermissions", "POST"))
}


REASONS = {  # by what the name of a method begins with
    "batch": "send requests one by one",
    "projects.explain": "Graft's models have the signature `explained`",
    "projects.locations.studies": "studies are run by jobs",
    "projects.locations.operations": "operations of studies",
    "projects.jobs": "tokens have roles",
    "projects.models": "tokens have roles",
}


def reason_of(name: str) -> str:
    """Return why a method is not implemented."""
    (reason,) = (reason for begin, reason in REASONS.items() if name.startswith(begin))
    return reason


def _refusal(name: str) -> Callable[[], Awaitable[NoReturn]]:
    async def refuse() -> NoReturn:
        raise Unimplemented(
            f"{name} is a part of ML Engine v1 that this engine does not have: {reason_of(name)}."
        )

    return refuse


for _name, (_method, _path) in MISSING.items():
    router.add_api_route(_path, _refusal(_name), methods=[_method], response_model=None)
