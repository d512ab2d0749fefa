from __future__ import annotations

from pipeline.engine.v1.errors import CODES, as_api_error, error_envelope, operation_error
from pipeline.errors import (
    ApiError,
    ConfigError,
    FailedPrecondition,
    Internal,
    NotFound,
    ObjectNotFound,
    StorageError,
    Unavailable,
    UnknownBucket,
)


def subclasses(kind):
    return {kind, *(inner for child in kind.__subclasses__() for inner in subclasses(child))}


def test_every_api_error_has_a_code_and_every_code_an_error():
    assert subclasses(ApiError) - {ApiError} == set(CODES)


def test_an_error_with_a_field_carries_one_violation():
    assert error_envelope(NotFound("Gone.", field="name")).to_json()["error"] == {
        "code": 404,
        "message": "Field: name Error: Gone.",
        "status": "NOT_FOUND",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "name", "description": "Gone."}],
            }
        ],
    }


def test_an_error_without_a_field_has_no_details():
    assert error_envelope(Internal("Broken."), code=599).to_json()["error"] == {
        "code": 599,
        "message": "Broken.",
        "status": "INTERNAL",
    }


def test_an_operation_spells_codes_as_google_rpc_does():
    assert operation_error(FailedPrecondition("No.")).to_json() == {"code": 9, "message": "No."}


def test_errors_of_the_library_become_the_api_error_with_the_same_meaning():
    assert type(as_api_error(ObjectNotFound("a"))) is FailedPrecondition
    assert type(as_api_error(UnknownBucket("a"))) is FailedPrecondition
    assert type(as_api_error(StorageError("a"))) is Unavailable
    assert type(as_api_error(ConfigError("a"))) is Internal
    error = NotFound("a")
    assert as_api_error(error) is error
