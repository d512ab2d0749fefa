"""A version whose files changed since it was created is restored or refused; it never answers."""

from __future__ import annotations

import pytest

from pipeline.engine.models.version_files import VersionFiles
from pipeline.errors import DamagedModel, UnknownBucket
from pipeline.ml_v1 import DAMAGED_FILES
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts

NAMES = ("variables/a", "graft/labels.json")
RECORD = "gs://graft/engine/versions/m/v1.json"
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


def spoil_digest(storage):
    record = storage.read_json(RECORD)
    record["files"]["saved_model.pb"] = "0" * 64
    storage.write_json(RECORD, record)


def rename_file(storage):
    record = storage.read_json(RECORD)
    record["files"]["notes.txt"] = record["files"].pop("saved_model.pb")
    storage.write_json(RECORD, record)


RECORD_DAMAGES = [
    spoil_digest,
    rename_file,
    lambda storage: storage.write_bytes(RECORD, b'{"files": '),
    lambda storage: storage.write_bytes(RECORD, b"[]"),
    lambda storage: storage.write_bytes(RECORD, b"null"),
    lambda storage: storage.write_json(RECORD, {"format": 1}),
    lambda storage: storage.write_json(RECORD, {"format": 1, "files": {}}),
    lambda storage: storage.write_json(RECORD, {"format": 1, "files": ["saved_model.pb"]}),
]


@pytest.mark.parametrize("spoil", RECORD_DAMAGES)
def test_a_damaged_record_is_written_again_where_the_origin_confirms_every_file(tmp_path, spoil):
    storage = FakeParts(tmp_path).storage
    files, place = copied(tmp_path)
    right = storage.read_bytes(RECORD)
    spoil(storage)
    files.fetch(place, SOURCE, tmp_path / "local")
    assert storage.read_bytes(RECORD) == right
    assert (tmp_path / "local" / "saved_model.pb").read_bytes() == b"saved_model.pb"


@pytest.mark.parametrize("origin", ["intact", "gone", "changed", "in place"])
@pytest.mark.parametrize("spoil", RECORD_DAMAGES)
def test_a_damaged_record_approves_no_damaged_file_and_deletes_none(tmp_path, spoil, origin):
    storage = FakeParts(tmp_path).storage
    files, place = copied(tmp_path)
    spoil(storage)
    flip(storage, GRAPH)
    storage.write_bytes(f"{place.uri}/notes.txt", b"mine")
    if origin == "changed":
        storage.write_bytes(f"{SOURCE}/saved_model.pb", b"changed")
    if origin == "gone":
        storage.delete_tree(SOURCE)
    before = storage.list_uris(f"{place.uri}/")
    source = place.uri if origin == "in place" else SOURCE
    with pytest.raises(DamagedModel, match=rf"^{DAMAGED_FILES} in .*{RECORD} is missing or damaged"):
        files.fetch(place, source, tmp_path / "local")
    assert not (tmp_path / "local").exists()
    files.remove(place)
    assert storage.list_uris(f"{place.uri}/") == before


def copied(home):
    parts = FakeParts(home)
    files = VersionFiles(parts.storage, "gs://graft")
    place = files.place("m", "v1")
    files.copy(place, parts.export(SOURCE, *NAMES))
    return files, place


def test_a_version_whose_record_and_file_are_damaged_is_refused_until_the_record_is_back(
    deployed, restart, parts, monkeypatch
):
    monkeypatch.setattr("pipeline.engine.serving.deployment.RETRY_SECONDS", (0.0, 0.1))
    right = parts.storage.read_bytes(RECORD)
    parts.storage.write_bytes(RECORD, b"{")
    flip(parts.storage, GRAPH)
    v1 = restart()
    error = v1.error("POST", "models/m:predict", ONE, code=503)
    assert f"{RECORD} is missing or damaged" in error["message"]
    wait_for(lambda: v1("GET", "models/m/versions/v1")["state"] == "FAILED")
    parts.storage.write_bytes(RECORD, right)
    wait_for(lambda: v1("GET", "models/m/versions/v1")["state"] == "READY")
    assert parts.storage.read_bytes(GRAPH) == b"saved_model.pb"
    assert len(v1("POST", "models/m:predict", ONE)["predictions"]) == 1


@pytest.mark.parametrize("origin", ["gone", "in an unknown bucket"])
def test_a_version_of_an_engine_without_records_serves_unchecked_once_its_origin_is_gone(
    tmp_path, origin, caplog, monkeypatch
):
    def refuse(name, cache):
        raise UnknownBucket(f"The bucket {name!r} is not mapped to a directory.")

    monkeypatch.setattr("pipeline.storage.storage.GoogleBucket", refuse)
    storage = FakeParts(tmp_path).storage
    files, place = copied(tmp_path)
    storage.delete_tree("gs://graft/engine")
    storage.delete_tree(SOURCE)
    source = SOURCE if origin == "gone" else "gs://nowhere/export"
    files.fetch(place, source, tmp_path / "local")
    assert (tmp_path / "local" / "saved_model.pb").read_bytes() == b"saved_model.pb"
    assert "nothing checks them" in caplog.text
    files.remove(place)
    assert len(storage.list_uris(f"{place.uri}/")) == 3


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
