"""The engine's OpenAPI document: what it has of v1. What it does not have is 501, and is not here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute

import pipeline
from pipeline.engine.api.schemas import ANSWERS, Schema, ref
from pipeline.engine.v1.resources import JobBody, ModelBody, PredictionInput, TrainingInput, VersionBody
from pipeline.engine.v1.updates import JOB_FIELDS, MODEL_FIELDS, VERSION_FIELDS

ABOUT = (
    "Cloud ML Engine's `ml` v1, on your machine. Bodies may be lowerCamelCase or snake_case; answers are "
    "lowerCamelCase. int64 fields are strings. Every answer that is not a success is an `Error`."
)


@dataclass(frozen=True, slots=True)
class Call:
    """One method: the component of its answer, that of its body, and its query parameters."""

    answer: str
    body: str | None = None
    query: tuple[str, ...] = ()


PAGE = ("pageSize", "pageToken", "filter")
CALLS = {
    "jobs.create": Call("Job", "JobBody"),
    "jobs.list_jobs": Call("JobList", query=PAGE),
    "jobs.get": Call("Job"),
    "jobs.patch": Call("Job", "LabelsPatch", ("updateMask",)),
    "jobs.cancel": Call("Empty"),
    "jobs.read_log": Call("JobLog", query=("offset", "limit")),
    "models.create_model": Call("Model", "ModelBody"),
    "models.list_models": Call("ModelList", query=PAGE),
    "models.get_model": Call("Model"),
    "models.patch_model": Call("Operation", "ModelPatch", ("updateMask",)),
    "models.delete_model": Call("Operation"),
    "models.create_version": Call("Operation", "VersionBody"),
    "models.list_versions": Call("VersionList", query=PAGE),
    "models.get_version": Call("Version"),
    "models.patch_version": Call("Operation", "VersionPatch", ("updateMask",)),
    "models.set_default": Call("Version"),
    "models.delete_version": Call("Operation"),
    "operations.list_operations": Call("OperationList", query=PAGE),
    "operations.get": Call("Operation"),
    "operations.cancel": Call("Empty"),
    "projects.get_config": Call("Config"),
    "projects.list_locations": Call("LocationList", query=PAGE),
    "projects.get_location": Call("Location"),
    "predict.predict_default": Call("Prediction", "PredictionRequest"),
    "predict.predict_version": Call("Prediction", "PredictionRequest"),
}
BODIES: tuple[type[BaseModel], ...] = (JobBody, TrainingInput, PredictionInput, ModelBody, VersionBody)
CHANGES: tuple[type[BaseModel], ...] = (JOB_FIELDS.body, MODEL_FIELDS.body, VERSION_FIELDS.body)
QUERY: dict[str, Schema] = {
    "pageSize": {"type": "integer", "minimum": 0},
    "pageToken": {"type": "string"},
    "filter": {"type": "string", "description": "Such as `jobId:rnn* AND state:FAILED`."},
    "updateMask": {"type": "string", "description": "Comma-separated paths."},
    "offset": {"type": "integer", "description": "Of bytes; a negative one counts from the end."},
    "limit": {"type": "integer", "minimum": 1},
}


def openapi(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the document of an application's routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, APIRoute) and (call := CALLS.get(call_name(route))):
            for method in route.methods:
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Graft's ML Engine", "version": pipeline.__version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": ANSWERS | _requests(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


def call_name(route: APIRoute) -> str:
    """Return the name that `CALLS` has for a route."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}.{route.endpoint.__name__}"


def _requests() -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for model in (*BODIES, *CHANGES):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for model in CHANGES:  # what the mask does not name is not looked at
        schemas[model.__name__]["additionalProperties"] = True
    job = schemas["JobBody"]["properties"]
    job["trainingInput"], job["predictionInput"] = ref("TrainingInput"), ref("PredictionInput")
    return schemas


def _operation(route: APIRoute, call: Call) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters = [
        *(_parameter(name, "path", {"type": "string", "minLength": 1}) for name in names),
        *(_parameter(name, "query", QUERY[name]) for name in call.query),
    ]
    errors = {code: _content("An error.", "Error") for code in ("4XX", "5XX")}
    operation: dict[str, Any] = {
        "operationId": call_name(route),
        "summary": (inspect.getdoc(route.endpoint) or "").partition("\n")[0],
        "parameters": parameters,
        "responses": {"200": _content("What was asked for.", call.answer), **errors},
    }
    if call.body:
        body = {"application/json": {"schema": ref(call.body)}}
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _content(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}
