"""The engine's copies of versions: what a client or anybody else put into the bucket is never touched."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import select

from pipeline.artifacts import model_files
from pipeline.artifacts.workspace import Workspace
from pipeline.engine.models.version_files import VersionFiles
from pipeline.engine.serving.artifacts import GRAPHS, RUNTIMES
from pipeline.engine.store import VersionRow
from pipeline.errors import DamagedModel, StorageError
from pipeline.storage import Storage
from tests.fakes.engine import FakeParts

NAMES = ("variables/a", "graft/labels.json")


@pytest.fixture
def model(v1):
    v1("POST", "models", {"name": "M"})
    return v1


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("place", "uri", "version"),
    [
        ("gs://graft/models/M/v1", "gs://graft/models/M/v1", "v1"),
        ("gs://graft/models/M/v1", "gs://graft/models/M/v1/", "v1"),
        ("gs://graft/models/M/v1", "gs://graft//models/M/v1", "v1"),
        ("gs://graft/models/M/v1", "gs://graft/models//M/v1//", "v1"),
        ("gs://graft/models/M/v1", "gs://graft/models/./M/v1", "v1"),
        ("gs://graft/models/M/v1", "gs://graft/models/M/v1/.", "v1"),
        ("gs://graft/models/M/v1", "gs://linked/v1", "v1"),
        ("gs://graft/models/M/v1", "gs://graft/link/v1", "v1"),
        ("gs://graft/models/m/V1", "gs://graft/models/m/V1", "v1"),
        ("gs://graft/models/M/v4/export", "gs://graft/models/M/v4/export", "v4"),
        ("gs://graft/models/M", "gs://graft/models/M", "v1"),
        ("gs://graft/engine/staging/M", "gs://graft/engine/staging/M", "v1"),
        ("gs://graft", "gs://graft/", "v1"),
    ],
)
def test_a_source_that_overlaps_the_engines_own_places_is_refused_and_untouched(
    restart, parts, place, uri, version
):
    root = parts.home / "buckets" / "graft"
    parts.export(place, *NAMES)
    (root / "models").mkdir(exist_ok=True)
    os.symlink(root / "models" / "M", root / "link")
    parts.storage = Storage({**parts.storage.directories, "linked": root / "link"})
    before = contents(root)
    v1 = restart()
    v1("POST", "models", {"name": "M"})
    error = v1.error("POST", "models/M/versions", {"name": version, "deploymentUri": uri}, code=400)
    assert error["message"].startswith("Field: version.deployment_uri Error: ")
    assert "overlaps" in error["message"]
    assert contents(root) == before


def test_files_that_somebody_put_where_the_copy_would_be_are_refused_and_stay(model, parts):
    source = parts.export("gs://other/export", *NAMES)
    parts.storage.write_bytes("gs://graft/models/M/v1/notes.txt", b"mine")
    error = model.error("POST", "models/M/versions", {"name": "v1", "deploymentUri": source}, code=400)
    assert "holds 1 files that the engine did not write, notes.txt for instance" in error["message"]
    assert parts.storage.list_uris("gs://graft/models/") == ["gs://graft/models/M/v1/notes.txt"]
    assert parts.storage.read_bytes("gs://graft/models/M/v1/notes.txt") == b"mine"


def test_a_deletion_and_a_failure_remove_what_the_engine_wrote_and_nothing_else(model, parts):
    model.deploy("M", "v1", parts.export("gs://other/export", *NAMES))
    parts.storage.write_bytes("gs://graft/models/M/v1/notes.txt", b"mine")
    model.wait_done(model("DELETE", "models/M/versions/v1"))
    assert parts.storage.list_uris("gs://graft/") == ["gs://graft/models/M/v1/notes.txt"]
    assert "error" in model.deploy("M", "v2", parts.export("gs://other/bad", "broken"))
    assert parts.storage.list_uris("gs://graft/") == ["gs://graft/models/M/v1/notes.txt"]
    assert parts.storage.exists("gs://other/bad/broken")


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_deletion_that_is_repeated_after_a_crash_deletes_no_file_of_somebody_else(tmp_path, *, is_recorded):
    parts = FakeParts(tmp_path)
    files = VersionFiles(parts.storage, "gs://graft")
    place, source = files.place("M", "v1"), parts.export("gs://other/export", *NAMES)
    files.copy(place, source)
    parts.storage.write_bytes(f"{place.uri}/notes.txt", b"mine")
    if not is_recorded:  # as an engine before the records left it
        parts.storage.delete(place.record)
    files.adopt(place, source)
    for _ in range(2):
        files.remove(place)
        assert parts.storage.list_uris("gs://graft/") == [f"{place.uri}/notes.txt"]
        with pytest.raises(DamagedModel):
            files.adopt(place, source)


def test_a_version_that_cannot_be_told_from_other_files_is_deleted_without_them(restart, parts):
    v1 = restart()
    v1("POST", "models", {"name": "M"})
    v1.deploy("M", "v1", parts.export("gs://other/export", *NAMES))
    parts.storage.delete_tree("gs://graft/engine")
    parts.storage.write_bytes("gs://other/export/variables/a", b"trained again")
    v1 = restart()
    v1.wait_done(v1("DELETE", "models/M/versions/v1"))
    assert v1.error("GET", "models/M/versions/v1", code=404)
    assert len(parts.storage.list_uris("gs://graft/models/M/v1/")) == 3


def test_the_local_copy_has_the_files_of_the_version_alone(tmp_path):
    parts = FakeParts(tmp_path)
    files = VersionFiles(parts.storage, "gs://graft")
    place, source = files.place("M", "v1"), parts.export("gs://other/export", *NAMES)
    files.copy(place, source)
    parts.storage.write_bytes(f"{place.uri}/variables/notes.onnx", b"mine")
    files.fetch(place, source, tmp_path / "local")
    found = {path.relative_to(tmp_path / "local").as_posix() for path in contents(tmp_path / "local")}
    assert found == {"saved_model.pb", *NAMES}
    assert parts.storage.read_bytes(f"{place.uri}/variables/notes.onnx") == b"mine"


@pytest.mark.parametrize("name", ["model.keras", "model.tflite", "model.onnx", "saved_model.pbtxt"])
def test_a_version_of_any_format_is_found_in_the_bucket(tmp_path, name):
    storage = FakeParts(tmp_path).storage
    files = VersionFiles(storage, "gs://graft")
    storage.write_bytes(f"gs://other/export/{name}", b"a model")
    files.copy(files.place("M", "v1"), "gs://other/export")
    storage.write_bytes(f"gs://graft/models/M/v2/{name}", b"of somebody else")
    storage.write_bytes(f"gs://graft/models/M/v3/assets/{name}", b"no version")
    storage.write_bytes("gs://graft/models/M/v4/notes.txt", b"no version")
    assert files.list_copies() == {("M", "v1"): True, ("M", "v2"): False}
    assert Workspace(storage, "gs://graft").list_models() == {"M": ["v1", "v2"]}


def test_engine_and_workspace_know_the_same_formats():
    assert set(model_files.GRAPHS) == set(GRAPHS)
    assert set(model_files.SUFFIXES) == RUNTIMES.keys()


def test_the_copy_of_another_version_is_a_source_like_any_other(model, parts):
    model.deploy("M", "v1", parts.export("gs://other/export", *NAMES))
    assert model.deploy("M", "v2", "gs://graft/models/M/v1")["response"]["state"] == "READY"
    assert parts.storage.list_uris("gs://graft/engine/staging/") == []


def test_a_version_of_an_engine_without_records_is_deleted_whole_unless_it_was_served_in_place(
    restart, parts
):
    v1 = restart()
    v1("POST", "models", {"name": "M"})
    for name in ("v1", "v2"):
        v1.deploy("M", name, parts.export("gs://other/export", *NAMES))
    parts.storage.delete_tree("gs://graft/engine")
    with v1.http.app.state.engine.store.begin() as session:
        row = session.scalars(select(VersionRow).filter_by(name="v2")).one()
        row.body = {**row.body, "deploymentUri": "gs://graft/models/M/v2"}
    v1 = restart()
    for name in ("v2", "v1"):
        v1.wait_done(v1("DELETE", f"models/M/versions/{name}"))
    assert parts.storage.list_uris("gs://graft/models/") == [
        f"gs://graft/models/M/v2/{name}" for name in ("graft/labels.json", "saved_model.pb", "variables/a")
    ]


def test_a_copy_that_was_cut_short_is_made_again(tmp_path):
    parts = FakeParts(tmp_path)
    files = VersionFiles(parts.storage, "gs://graft")
    place, source = files.place("M", "v1"), parts.export("gs://other/export", *NAMES)
    files.copy(place, source)
    parts.storage.delete("gs://graft/models/M/v1/variables/a")
    parts.storage.write_bytes("gs://graft/engine/staging/M/v1/variables/half", b"")
    files.copy(place, source)
    assert parts.storage.list_uris("gs://graft/models/M/v1/") == [
        f"gs://graft/models/M/v1/{name}" for name in ("graft/labels.json", "saved_model.pb", "variables/a")
    ]
    assert parts.storage.list_uris("gs://graft/engine/staging/") == []


def test_a_copy_of_the_engine_is_registered_again_where_it_is_and_stays_if_it_does_not_load(restart, parts):
    v1 = restart()
    v1("POST", "models", {"name": "M"})
    uri = "gs://graft/models/M/v1"
    v1.deploy("M", "v1", parts.export("gs://other/export", *NAMES))
    with v1.http.app.state.engine.store.begin() as session:
        session.delete(session.scalars(select(VersionRow)).one())
    v1 = restart()
    v1.http.app.state.engine.rollout._pool = None
    assert "error" in v1.deploy("M", "v1", uri)
    assert len(parts.storage.list_uris(f"{uri}/")) == 3
    v1.wait_done(v1("DELETE", "models/M/versions/v1"))
    assert len(parts.storage.list_uris(f"{uri}/")) == 3
    v1 = restart()
    assert v1.deploy("M", "v1", uri)["response"]["state"] == "READY"
    v1.wait_done(v1("DELETE", "models/M/versions/v1"))
    assert parts.storage.list_uris("gs://graft/") == []


def test_a_deletion_is_finished_once_the_bucket_can_be_written_again(model, parts, monkeypatch):
    model.deploy("M", "v1", parts.export("gs://other/export", *NAMES))
    model.deploy("M", "v2", "gs://other/export")
    failures = iter([StorageError("Deleting failed: Read-only file system")] * 3)
    delete = Storage.delete

    def fail(storage, uri):
        if error := next(failures, None):
            raise error
        delete(storage, uri)

    monkeypatch.setattr(Storage, "delete", fail)
    assert "error" not in model.wait_done(model("DELETE", "models/M/versions/v2"))
    assert model.error("GET", "models/M/versions/v2", code=404)
    assert parts.storage.list_uris("gs://graft/models/M/v2/") == []
    assert next(failures, None) is None


def test_a_creation_goes_on_once_the_bucket_can_be_written_again(model, parts, monkeypatch):
    failures = iter([StorageError("Writing failed: No space left on device")] * 3)
    write = Storage.write_json

    def fail(storage, uri, value):
        if error := next(failures, None):
            raise error
        write(storage, uri, value)

    monkeypatch.setattr(Storage, "write_json", fail)
    assert model.deploy("M", "v1", parts.export("gs://other/export", *NAMES))["response"]["state"] == "READY"
    assert next(failures, None) is None


def test_a_creation_that_cannot_be_written_for_long_fails_and_says_why(model, parts, monkeypatch):
    monkeypatch.setattr("pipeline.engine.models.rollout.CREATE_PATIENCE_SECONDS", 0.2)

    def fail(storage, uri, value):
        raise StorageError("Writing failed: No space left on device")

    monkeypatch.setattr(Storage, "write_json", fail)
    body = {"name": "v1", "deploymentUri": parts.export("gs://other/export", *NAMES)}
    operation = model.wait_done(model("POST", "models/M/versions", body))
    assert "No space left" in operation["error"]["message"]
    assert model("GET", "models/M/versions/v1")["state"] == "FAILED"
