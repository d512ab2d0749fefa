"""Faults to HTTP: one table, one envelope.

The message of a fault is the description of its field violation; the envelope adds `Field: ... Error: ...`
around it, which is the text ML Engine's clients look for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ObjectNotFound,
    PermissionDenied,
    PipelineError,
    ResourceExhausted,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownBucket,
)

BAD_REQUEST_TYPE = "type.googleapis.com/google.rpc.BadRequest"


@dataclass(frozen=True, slots=True)
class Code:
    """How one kind of fault is spelled: in HTTP, in the envelope, and in an operation (google.rpc.Code)."""

    http: int
    status: str
    rpc: int


CODES: dict[type[ApiError], Code] = {
    InvalidArgument: Code(400, "INVALID_ARGUMENT", 3),
    FailedPrecondition: Code(400, "FAILED_PRECONDITION", 9),
    Unauthenticated: Code(401, "UNAUTHENTICATED", 16),
    PermissionDenied: Code(403, "PERMISSION_DENIED", 7),
    NotFound: Code(404, "NOT_FOUND", 5),
    AlreadyExists: Code(409, "ALREADY_EXISTS", 6),
    Aborted: Code(409, "ABORTED", 10),
    ResourceExhausted: Code(429, "RESOURCE_EXHAUSTED", 8),
    Cancelled: Code(499, "CANCELLED", 1),
    Internal: Code(500, "INTERNAL", 13),
    Unimplemented: Code(501, "UNIMPLEMENTED", 12),
    Unavailable: Code(503, "UNAVAILABLE", 14),
    DeadlineExceeded: Code(504, "DEADLINE_EXCEEDED", 4),
}
ERRORS_BY_NAME: dict[str, type[ApiError]] = {kind.__name__: kind for kind in CODES}


def error_text(fault: ApiError) -> str:
    """Return the message as clients read it."""
    return f"Field: {fault.field} Error: {fault.message}" if fault.field else fault.message


def _details(fault: ApiError) -> list[dict[str, Any]]:
    if not fault.field:
        return []
    violation = {"field": fault.field, "description": fault.message}
    return [{"@type": BAD_REQUEST_TYPE, "fieldViolations": [violation]}]


def error_envelope(fault: ApiError, *, code: int | None = None) -> dict[str, Any]:
    """Return the JSON body that answers a fault.

    Args:
        fault: What went wrong.
        code: Another HTTP status than the table's, for 405.
    """
    known = CODES[type(fault)]
    error: dict[str, Any] = {"code": code or known.http, "message": error_text(fault), "status": known.status}
    if details := _details(fault):
        error["details"] = details
    return {"error": error}


def operation_error(fault: ApiError) -> dict[str, Any]:
    """Return the google.rpc.Status of an operation that failed."""
    error: dict[str, Any] = {"code": CODES[type(fault)].rpc, "message": error_text(fault)}
    if details := _details(fault):
        error["details"] = details
    return error


def as_api_error(error: PipelineError) -> ApiError:
    """Return the fault that says the same as an error of the library."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (ObjectNotFound, UnknownBucket)):
        return FailedPrecondition(error.message)
    if isinstance(error, StorageError):
        return Unavailable(error.message)
    return Internal(error.message)
