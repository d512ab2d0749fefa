"""The OpenAPI document: FastAPI's own, and the request bodies, which the routes read by themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import models_json_schema

import pipeline
from pipeline.engine.v1.patches import LabelsPatch, ModelPatch
from pipeline.engine.v1.resources import (
    JobBody,
    ModelBody,
    PredictionInput,
    TrainingInput,
    VersionBody,
    VersionPatch,
)
from pipeline.engine.v1.responses import ManyPredictionsRequest, PredictionRequest

ABOUT = (
    "Cloud ML Engine's `ml` v1, on your machine. Bodies may be lowerCamelCase or snake_case; answers are "
    "lowerCamelCase. int64 fields are strings. Every answer that is not a success is an `Error`."
)
REF = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    *(JobBody, TrainingInput, PredictionInput, ModelBody, VersionBody),
    *(PredictionRequest, ManyPredictionsRequest),
    *(LabelsPatch, ModelPatch, VersionPatch),
)
OPEN_BODIES = (  # other fields are not read
    *(LabelsPatch, ModelPatch, VersionPatch),
    *(PredictionRequest, ManyPredictionsRequest),
)


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's operation, such as `jobs.create`."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}.{route.endpoint.__name__}"


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    document = get_openapi(
        title="Graft's ML Engine", version=pipeline.__version__, description=ABOUT, routes=app.routes
    )
    document["components"]["schemas"] |= _bodies()
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return document | {"security": [{"bearer": []}, {}]}


def _bodies() -> dict[str, Any]:
    _, definitions = models_json_schema([(body, "validation") for body in BODIES], ref_template=REF)
    schemas: dict[str, Any] = definitions["$defs"]
    for body in OPEN_BODIES:
        schemas[body.__name__]["additionalProperties"] = True
    fields = schemas[JobBody.__name__]["properties"]
    for name in ("TrainingInput", "PredictionInput"):
        fields[to_camel(to_snake(name))] = {"$ref": REF.format(model=name)}
    return schemas
