"""What the engine answers, as JSON Schema, for its OpenAPI document. `resources` describes requests."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time"}
INT64: Schema = {"type": "string", "pattern": "^-?[0-9]{1,19}$"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
ANYTHING: Schema = {"type": "object"}


def _object(*required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _page(name: str, item: str) -> Schema:
    return _object(**{name: _list_of(ref(item)), "nextPageToken": TEXT})


VERSION_STATES = ("UNKNOWN", "READY", "CREATING", "FAILED", "DELETING", "UPDATING")
JOB_STATES = ("QUEUED", "PREPARING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED")
DETAIL = _object(
    "@type", fieldViolations=_list_of(_object("field", "description", field=TEXT, description=TEXT))
)
DETAIL["properties"]["@type"] = TEXT

ANSWERS: dict[str, Schema] = {
    "Empty": _object(),
    "Error": _object(
        "error",
        error=_object(
            "code",
            "message",
            "status",
            code={"type": "integer"},
            message=TEXT,
            status=TEXT,
            details=_list_of(ref("ErrorDetail")),
        ),
    ),
    "ErrorDetail": DETAIL,
    "Job": _object(
        "jobId",
        "state",
        "createTime",
        "etag",
        jobId=TEXT,
        trainingInput={**ANYTHING, "description": "What was sent, untouched."},
        predictionInput={**ANYTHING, "description": "What was sent, untouched."},
        state=_one_of(*JOB_STATES),
        createTime=TIME,
        startTime=TIME,
        endTime=TIME,
        errorMessage=TEXT,
        trainingOutput=ANYTHING,
        predictionOutput=_object(outputPath=TEXT, predictionCount=INT64, errorCount=INT64, nodeHours=NUMBER),
        labels=LABELS,
        etag=TEXT,
        jobPosition=INT64,
    ),
    "JobList": _page("jobs", "Job"),
    "JobLog": _object("log", "nextOffset", "complete", log=TEXT, nextOffset=INT64, complete=FLAG),
    "Version": _object(
        "name",
        "state",
        "createTime",
        "deploymentUri",
        "etag",
        name=TEXT,
        description=TEXT,
        isDefault=FLAG,
        deploymentUri=TEXT,
        createTime=TIME,
        lastUseTime=TIME,
        runtimeVersion=TEXT,
        pythonVersion=TEXT,
        framework=TEXT,
        machineType=TEXT,
        autoScaling=ANYTHING,
        manualScaling=ANYTHING,
        requestLoggingConfig=ANYTHING,
        state=_one_of(*VERSION_STATES),
        errorMessage=TEXT,
        labels=LABELS,
        etag=TEXT,
    ),
    "VersionList": _page("versions", "Version"),
    "Model": _object(
        "name",
        "regions",
        "etag",
        name=TEXT,
        description=TEXT,
        regions=_list_of(TEXT),
        defaultVersion=ref("Version"),
        onlinePredictionLogging=FLAG,
        onlinePredictionConsoleLogging=FLAG,
        labels=LABELS,
        etag=TEXT,
    ),
    "ModelList": _page("models", "Model"),
    "Operation": _object(
        "name", "metadata", name=TEXT, metadata=ANYTHING, done=FLAG, error=ANYTHING, response=ANYTHING
    ),
    "OperationList": _page("operations", "Operation"),
    "Config": _object(
        "serviceAccount",
        "serviceAccountProject",
        serviceAccount=TEXT,
        serviceAccountProject=INT64,
        config=_object(tpuServiceAccount=TEXT),
    ),
    "Location": _object("name", name=TEXT, capabilities=_list_of(_object("type", type=TEXT))),
    "LocationList": _page("locations", "Location"),
    "Prediction": {
        "description": "`predictions`, one per instance, or `error` instead: nothing was predicted.",
        "oneOf": [
            _object("predictions", predictions={"type": "array", "items": {}}),
            _object("error", error=TEXT),
        ],
    },
    "PredictionRequest": {
        "type": "object",
        "properties": {"instances": {"type": "array", "items": {}}, "signature_name": TEXT},
        "required": ["instances"],
    },
}
