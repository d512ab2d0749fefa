"""The HTTP response to a request that failed."""

from __future__ import annotations

from starlette.responses import JSONResponse

from pipeline.engine.v1.errors import CODES, error_envelope
from pipeline.errors import ApiError


def error_response(error: ApiError, *, code: int | None = None) -> JSONResponse:
    """Return the response to a request that failed."""
    status = code or CODES[type(error)].http
    headers = {"WWW-Authenticate": 'Bearer realm="ml-engine"'} if status == 401 else {}
    if wait := error.details.get("retry_after_seconds"):
        headers["Retry-After"] = str(wait)
    return JSONResponse(error_envelope(error, code=code).to_json(), status, headers=headers)
