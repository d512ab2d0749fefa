"""Errors in HTTP: one table, one envelope.

The message of an error is the description of its field violation; the envelope adds `Field: ... Error: ...`
around it, which is the text ML Engine's clients look for.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.v1.responses import Error, ErrorDetail, FieldViolation, Status
from pipeline.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    Cancelled,
    DamagedModel,
    DatabaseUnavailable,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LostHead,
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
    """How one kind of error is spelled: in HTTP, in the envelope, and in an operation (google.rpc.Code)."""

    http: int
    status: str
    rpc: int


CODES: dict[type[ApiError], Code] = {
    InvalidArgument: Code(400, "INVALID_ARGUMENT", 3),
    FailedPrecondition: Code(400, "FAILED_PRECONDITION", 9),
    DamagedModel: Code(400, "FAILED_PRECONDITION", 9),
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
    DatabaseUnavailable: Code(503, "UNAVAILABLE", 14),
    LostHead: Code(503, "UNAVAILABLE", 14),
    DeadlineExceeded: Code(504, "DEADLINE_EXCEEDED", 4),
}


def error_text(error: ApiError) -> str:
    """Return the message as clients read it."""
    return f"Field: {error.field} Error: {error.message}" if error.field else error.message


def _details(error: ApiError) -> list[ErrorDetail] | None:
    if not error.field:
        return None
    violation = FieldViolation(field=error.field, description=error.message)
    return [ErrorDetail(type_url=BAD_REQUEST_TYPE, field_violations=[violation])]


def error_envelope(error: ApiError, *, code: int | None = None) -> Error:
    """Return the body of the response to a request that failed.

    Args:
        error: What went wrong.
        code: Another HTTP status than the table's, for 405.
    """
    row = CODES[type(error)]
    return Error(
        error=Status(
            code=code or row.http, message=error_text(error), status=row.status, details=_details(error)
        )
    )


def operation_error(error: ApiError) -> Status:
    """Return the google.rpc.Status of an operation that failed."""
    return Status(code=CODES[type(error)].rpc, message=error_text(error), details=_details(error))


def as_api_error(error: PipelineError) -> ApiError:
    """Return the API error with the meaning of an error of the library."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (ObjectNotFound, UnknownBucket)):
        return FailedPrecondition(error.message)
    if isinstance(error, StorageError):
        return Unavailable(error.message)
    return Internal(error.message)
