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
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


def test_every_fault_has_a_code_and_no_code_is_for_nothing():
    assert subclasses(ApiError) - {ApiError} == set(CODES)


def test_a_fault_with_a_field_carries_one_violation():
    assert error_envelope(NotFound("Gone.", field="name"))["error"] == {
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


def test_a_fault_without_a_field_has_no_details():
    assert error_envelope(Internal("Broken."), code=599)["error"] == {
        "code": 599,
        "message": "Broken.",
        "status": "INTERNAL",
    }


def test_an_operation_spells_codes_as_google_rpc_does():
    assert operation_error(FailedPrecondition("No.")) == {"code": 9, "message": "No."}


def test_errors_of_the_library_become_the_fault_that_says_the_same():
    assert type(as_api_error(ObjectNotFound("a"))) is FailedPrecondition
    assert type(as_api_error(UnknownBucket("a"))) is FailedPrecondition
    assert type(as_api_error(StorageError("a"))) is Unavailable
    assert type(as_api_error(ConfigError("a"))) is Internal
    fault = NotFound("a")
    assert as_api_error(fault) is fault
