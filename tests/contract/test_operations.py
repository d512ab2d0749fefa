from __future__ import annotations

import pytest

from pipeline.engine.models.operations import project_number


@pytest.fixture
def creating(v1, parts):
    """An operation whose model does not come up."""
    uri = parts.export("gs://other/export")
    v1("POST", "models", {"name": "m"})
    parts.pool.gate = lambda name: False
    body = {"name": "v1", "deploymentUri": uri, "labels": {"team": "a"}}
    return v1("POST", "models/m/versions", body)


def path_of(operation):
    return operation["name"].removeprefix("projects/p/")


def test_an_operation_says_what_it_is_about(creating):
    assert creating["metadata"]["labels"] == {"team": "a"}
    assert creating["metadata"]["projectNumber"] == project_number("p")


def test_a_cancelled_creation_ends_with_code_1_and_leaves_a_failed_version(v1, parts, creating):
    assert v1("POST", f"{path_of(creating)}:cancel") == {}
    done = v1.wait_done(creating)
    assert done["error"]["code"] == 1
    assert "cancelled by a client" in done["error"]["message"]
    assert done["metadata"]["isCancellationRequested"] is True
    version = v1("GET", "models/m/versions/v1")
    assert (version["state"], version["errorMessage"]) == ("FAILED", done["error"]["message"])
    assert parts.storage.list_uris("gs://graft/models/") == []
    parts.pool.gate = lambda name: True
    v1.wait_done(v1("DELETE", "models/m/versions/v1"))
    v1.deploy("m", "v1", "gs://other/export")


def test_a_cancel_outlives_the_engine(restart, parts, creating):
    v1 = restart()
    assert "done" not in v1("GET", path_of(creating))
    v1("POST", f"{path_of(creating)}:cancel")
    assert restart().wait_done(creating)["error"]["code"] == 1


def test_what_has_ended_is_not_cancelled(v1, parts, creating):
    parts.pool.gate = lambda name: True
    done = v1.wait_done(creating)
    assert v1("POST", f"{path_of(creating)}:cancel", {}) == {}
    assert v1("GET", path_of(creating)) == done


def test_operations_are_listed_newest_first_and_filtered(v1, parts, creating):
    parts.pool.gate = lambda name: True
    v1.wait_done(creating)
    v1.wait_done(v1("DELETE", "models/m/versions/v1"))
    v1.wait_done(v1("DELETE", "models/m"))
    listed = v1("GET", "operations")["operations"]
    kinds = [operation["metadata"]["operationType"] for operation in listed]
    assert kinds == ["DELETE_MODEL", "DELETE_VERSION", "CREATE_VERSION"]
    first = v1("GET", "operations", params={"pageSize": 1})
    assert len(first["operations"]) == 1
    assert first["nextPageToken"]
    params = {"filter": "metadata.operationType:DELETE_* AND done:true"}
    assert len(v1("GET", "operations", params=params)["operations"]) == 2


def test_no_operation_is_an_empty_object_and_an_unknown_one_404(v1):
    assert v1("GET", "operations") == {}
    v1.error("GET", "operations/none", code=404)
    v1.error("POST", "operations/none:cancel", code=404)
    v1.error("GET", "operations", code=501, params={"returnPartialSuccess": "true"})
