"""A version whose files changed since it was created is restored or refused; it never answers."""

from __future__ import annotations

import pytest

from pipeline.ml_v1 import DAMAGED_FILES
from tests.fakes.clock import wait_for

NAMES = ("variables/a", "graft/labels.json")
GRAPH = "gs://graft/models/m/v1/saved_model.pb"
SOURCE = "gs://other/export"
ONE = {"instances": [[1]]}


@pytest.fixture
def deployed(restart, parts):
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export(SOURCE, *NAMES))
    return v1


def flip(storage, uri):
    path = storage.local_path(uri)
    data = bytearray(path.read_bytes())
    data[0] ^= 0xFF
    path.write_bytes(data)  # in place: the engine's local copy is a link to the same file


def test_a_file_with_a_flipped_bit_is_restored_from_the_origin(deployed, restart, parts):
    flip(parts.storage, GRAPH)
    v1 = restart()
    assert len(v1("POST", "models/m:predict", ONE)["predictions"]) == 1
    assert parts.storage.read_bytes(GRAPH) == b"saved_model.pb"
    local = next((parts.home / "engine" / "models").rglob("saved_model.pb"))
    assert local.read_bytes() == b"saved_model.pb"


def test_a_lost_file_and_a_lost_copy_are_restored(deployed, restart, parts):
    parts.storage.delete_tree("gs://graft/models")
    for path in (parts.home / "engine" / "models").rglob("labels.json"):
        path.unlink()
    v1 = restart()
    assert len(v1("POST", "models/m:predict", ONE)["predictions"]) == 1
    assert len(parts.storage.list_uris("gs://graft/models/m/v1/")) == 3


def test_a_damaged_local_copy_is_made_again_from_the_bucket(deployed, restart, parts):
    parts.storage.delete_tree(SOURCE)
    local = next((parts.home / "engine" / "models").rglob("saved_model.pb"))
    local.unlink()
    local.write_bytes(b"other")
    assert len(restart()("POST", "models/m:predict", ONE)["predictions"]) == 1
    local = next((parts.home / "engine" / "models").rglob("saved_model.pb"))
    assert local.read_bytes() == b"saved_model.pb"


@pytest.mark.parametrize("origin", ["gone", "changed"])
def test_a_version_that_cannot_be_restored_is_refused_by_name_and_comes_back_once_it_can(
    deployed, restart, parts, origin, monkeypatch
):
    monkeypatch.setattr("pipeline.engine.serving.deployment.RETRY_SECONDS", (0.0, 0.1))
    flip(parts.storage, GRAPH)
    parts.storage.write_bytes(f"{SOURCE}/saved_model.pb", b"changed")
    if origin == "gone":
        parts.storage.delete_tree(SOURCE)
    for _ in range(2):  # it is refused after another restart as well
        v1 = restart()
        error = v1.error("POST", "models/m:predict", ONE, code=503)
        assert error["message"].startswith(
            f"{DAMAGED_FILES} in gs://graft/models/m/v1/: saved_model.pb changed"
        )
        version = wait_for(
            lambda v1=v1: (row := v1("GET", "models/m/versions/v1")).get("errorMessage") and row
        )
        assert version["state"] == "FAILED"
        assert version["errorMessage"] == error["message"]
        assert 'graft_version_damaged{model="m",version="v1"} 1.0' in v1.http.get("/metrics").text
    parts.export(SOURCE, *NAMES)
    wait_for(lambda: v1("GET", "models/m/versions/v1")["state"] == "READY")
    assert "errorMessage" not in v1("GET", "models/m/versions/v1")
    assert len(v1("POST", "models/m:predict", ONE)["predictions"]) == 1


def test_a_version_without_digests_gets_them_when_it_is_first_loaded(deployed, restart, parts, caplog):
    parts.storage.delete_tree("gs://graft/engine")
    caplog.set_level("INFO")
    v1 = restart()
    v1("POST", "models/m:predict", ONE)
    assert "has no record of its files yet; their digests are recorded now" in caplog.text
    flip(parts.storage, GRAPH)
    v1 = restart()
    v1("POST", "models/m:predict", ONE)
    assert parts.storage.read_bytes(GRAPH) == b"saved_model.pb"
