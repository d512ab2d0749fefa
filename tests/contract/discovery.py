"""The discovery document that Google's client ships, as the judge of requests and responses."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import googleapiclient
import httplib2
from pydantic.alias_generators import to_camel

DOCUMENT = json.loads(
    (Path(googleapiclient.__path__[0]) / "discovery_cache" / "documents" / "ml.v1.json").read_text()
)
SCHEMAS: dict[str, Any] = DOCUMENT["schemas"]
JSON_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
ERROR = {
    "type": "object",
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "status": {"type": "string"},
        "details": SCHEMAS["GoogleRpc__Status"]["properties"]["details"],
    },
}
ENVELOPE = {"type": "object", "properties": {"error": ERROR}}


def check(schema: dict[str, Any], value: Any, where: str) -> None:
    """Fail on an unknown field, a wrong type or format, or a value that is none of an enum's."""
    schema = SCHEMAS[schema["$ref"]] if "$ref" in schema else schema
    kind = schema["type"]
    if kind == "any":
        return
    assert isinstance(value, JSON_TYPES[kind]), f"{where}: expected {kind}, got {value!r}"
    assert kind not in ("integer", "number") or not isinstance(value, bool), f"{where}: {value!r}"
    if kind == "object":
        _check_object(schema, value, where)
    if kind == "array":
        for index, item in enumerate(value):
            check(schema["items"], item, f"{where}[{index}]")
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r} is none of {schema['enum']}"
    if "format" in schema:
        _check_format(schema["format"], value, where)


def _check_object(schema: dict[str, Any], value: dict[str, Any], where: str) -> None:
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        inner = properties.get(key, rest)
        assert inner is not None, f"{where}: unknown field {key!r}"
        check(inner, item, f"{where}.{key}")


def _check_format(name: str, value: Any, where: str) -> None:
    if name == "int64":
        assert re.fullmatch(r"-?[0-9]{1,19}", value), f"{where}: int64 comes as a string, got {value!r}"
    elif name == "google-datetime":
        assert value.endswith("Z"), f"{where}: {value!r}"
        datetime.fromisoformat(value)
    elif name == "google-duration":
        assert re.fullmatch(r"[0-9]+(\.[0-9]{1,9})?s", value), f"{where}: {value!r}"
    elif name == "byte":
        base64.b64decode(value, validate=True)
    elif name == "int32":
        assert -(2**31) <= value < 2**31, f"{where}: {value!r}"


@dataclass(frozen=True)
class Method:
    """One method of the document."""

    id: str
    http: str
    path: re.Pattern[str]
    request: dict[str, Any] | None
    response: dict[str, Any]


def _methods(node: dict[str, Any]) -> list[Method]:
    found = [_method(method) for method in node.get("methods", {}).values()]
    return found + [method for child in node.get("resources", {}).values() for method in _methods(child)]


def _method(method: dict[str, Any]) -> Method:
    def pattern(match: re.Match[str]) -> str:
        return str(method["parameters"][match[1]]["pattern"]).strip("^$")

    path = re.sub(r"\{\+(\w+)\}", pattern, method["path"])
    return Method(
        method["id"], method["httpMethod"], re.compile(path), method.get("request"), method["response"]
    )


METHODS = {method.id: method for method in _methods(DOCUMENT)}


def find_method(http: str, path: str) -> Method:
    """Return the method that a request is; of two, the one that says more (`:getIamPolicy`)."""
    fitting = [method for method in METHODS.values() if method.http == http and method.path.fullmatch(path)]
    assert fitting, f"no method of v1 is {http} {path}"
    return max(fitting, key=lambda method: len(method.path.pattern))


def to_lower_camel(value: Any, schema: dict[str, Any]) -> Any:
    """Return a snake_case body in the document's own spelling; keys of maps are data and stay."""
    schema = SCHEMAS[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, list):
        return [to_lower_camel(item, schema.get("items", {})) for item in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return value
    return {
        to_camel(key): to_lower_camel(item, properties.get(to_camel(key), {})) for key, item in value.items()
    }


class CheckedHttp(httplib2.Http):
    """Google's transport, with every exchange held against the document.

    Args:
        token: Sent as a bearer token where there is one.
    """

    def __init__(self, token: str | None = None) -> None:
        super().__init__(timeout=60, proxy_info=None)
        self.seen: list[tuple[str, int]] = []
        self.requests_are_valid = True
        self.answers_are_valid = True
        self._token = token

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, *more: Any, **others: Any
    ) -> Any:
        """Send one request, and judge it and its answer."""
        path = re.sub(r"^https?://[^/]+/", "", uri).partition("?")[0]
        is_long = "x-http-method-override" in (headers or {})
        found = find_method("GET" if is_long else method, path)
        if body and found.request and self.requests_are_valid and not found.id.endswith(".predict"):
            check(found.request, to_lower_camel(json.loads(body), found.request), f"{found.id} request")
        headers = dict(headers or {}) | ({"authorization": f"Bearer {self._token}"} if self._token else {})
        answer, content = super().request(uri, method, body, headers, *more, **others)
        self.seen.append((found.id, answer.status))
        self._check_answer(found, answer, content)
        return answer, content

    def _check_answer(self, method: Method, answer: Any, content: bytes) -> None:
        where = f"{method.id} response"
        assert answer["content-type"].startswith("application/json"), where
        value = json.loads(content)
        if answer.status >= 400:
            check(ENVELOPE, value, where)
            assert value["error"]["code"] == answer.status, where
            assert {"code", "message", "status"} <= set(value["error"]), where
        elif method.id.endswith(".predict"):
            assert set(value) in ({"predictions"}, {"error"}), where
        elif self.answers_are_valid:
            check(method.response, value, where)
            self._check_operation(value, where)

    def _check_operation(self, value: dict[str, Any], where: str) -> None:
        for operation in [value, *value.get("operations", [])]:
            if "/operations/" not in str(operation.get("name")):
                continue
            metadata = dict(operation["metadata"])
            assert metadata.pop("@type").endswith("google.cloud.ml.v1.OperationMetadata")
            check({"$ref": "GoogleCloudMlV1__OperationMetadata"}, metadata, f"{where}.metadata")
            assert bool(operation.get("done")) == ("response" in operation or "error" in operation), where
