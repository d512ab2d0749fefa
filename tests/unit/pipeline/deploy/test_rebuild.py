from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.rebuild import rebuild_engine, unregistered_versions
from pipeline.errors import FormatTooNew, PlatformError
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(Storage({"graft": tmp_path}), "gs://graft")
    for model, version in (("cats", "v1"), ("cats", "v2"), ("cats", "v3"), ("dogs", "v9")):
        directory = workspace.model(model, version)
        workspace.storage.write_bytes(directory.file("saved_model.pb"), b"graph")
        workspace.storage.write_bytes(directory.file("variables/saved_model.pb"), b"no version")
    return workspace


def promote(workspace: Workspace, *versions: str) -> None:
    for number, version in enumerate(versions):
        event = HistoryEvent(event=EventType.PROMOTED, version=version, run_id=f"r{number}", previous=None)
        record_event(workspace, "cats", event)


class PickyEngine(FakeMLEngine):
    """Refuses to load one version."""

    def create_version(
        self, model: str, body: dict[str, Any], *, update_existing: bool = False
    ) -> dict[str, Any]:
        if body["name"] == "v3":
            raise PlatformError("Bad model detected")
        return super().create_version(model, body)


def test_all_versions_are_registered_where_they_are_and_the_last_promoted_one_serves(
    workspace: Workspace,
) -> None:
    promote(workspace, "v1", "v3", "v2")
    engine = FakeMLEngine()
    cats, dogs = rebuild_engine(workspace, engine)
    assert (cats.registered, cats.kept, cats.failed, cats.default) == (("v1", "v2", "v3"), (), {}, "v2")
    assert (dogs.model, dogs.default) == ("dogs", "v9")
    assert [version["deploymentUri"] for version in engine.list_versions("cats")] == [
        f"gs://graft/models/cats/{name}" for name in ("v2", "v3", "v1")
    ]


def test_a_second_time_changes_nothing(workspace: Workspace) -> None:
    promote(workspace, "v2")
    engine = FakeMLEngine()
    list(rebuild_engine(workspace, engine))
    before = {name: list(engine.list_versions(name)) for name in ("cats", "dogs")}
    cats, _ = rebuild_engine(workspace, engine)
    assert (cats.registered, cats.kept) == ((), ("v1", "v2", "v3"))
    assert {name: engine.list_versions(name) for name in before} == before


def test_a_default_that_became_one_meanwhile_gives_way_to_the_history(workspace: Workspace) -> None:
    promote(workspace, "v2")
    engine = FakeMLEngine()
    engine.ensure_model("cats")
    engine.create_version("cats", {"name": "v1", "deploymentUri": "gs://graft/jobs/1/model"})
    cats, _ = rebuild_engine(workspace, engine)
    assert (cats.registered, cats.kept, cats.default) == (("v2", "v3"), ("v1",), "v2")


def test_a_damaged_event_is_named_and_stops_nothing(workspace: Workspace) -> None:
    promote(workspace, "v1", "v2", "v3")
    *_, newest = workspace.storage.list_uris(workspace.classifier("cats").history)
    for damage in (b"", b'{"event": "promoted"', workspace.storage.read_bytes(newest).replace(b"v3", b"v1")):
        workspace.storage.write_bytes(newest, damage)
        cats, dogs = rebuild_engine(workspace, FakeMLEngine())
        assert (cats.default, dogs.default) == ("v2", "v9")
        [problem] = cats.damaged
        assert newest in problem


def test_a_version_that_does_not_load_is_named_and_stops_no_other(workspace: Workspace) -> None:
    engine = PickyEngine()
    cats, dogs = rebuild_engine(workspace, engine)
    assert cats.failed == {"v3": "Bad model detected"}
    assert cats.registered == ("v1", "v2")
    assert dogs.registered == ("v9",)


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize("is_recorded", [False, True])
def test_the_newest_intact_version_that_served_takes_the_place_of_a_damaged_default(
    workspace: Workspace, *, is_gone: bool, is_recorded: bool
) -> None:
    promote(workspace, "v1", "v2", "v3")
    if is_recorded:
        register(workspace, "v3", v1={}, v2={}, v3={})
    if is_gone:
        workspace.storage.delete_tree(workspace.model("cats", "v3").uri)
    engine = PickyEngine()
    for _ in range(2):
        cats, _ = rebuild_engine(workspace, engine)
        assert (cats.default, cats.lost_default) == ("v2", "v3")


def test_what_a_rollback_took_back_serves_only_if_nothing_else_that_served_is_intact(
    workspace: Workspace,
) -> None:
    promote(workspace, "v1", "v2", "v3")
    record_event(workspace, "cats", HistoryEvent(event=EventType.ROLLED_BACK, version="v1", run_id="r"))
    workspace.storage.delete_tree(workspace.model("cats", "v1").uri)
    cats, _ = rebuild_engine(workspace, FakeMLEngine())
    assert (cats.default, cats.lost_default) == ("v3", "v1")


def test_a_default_that_serves_again_is_not_told(workspace: Workspace) -> None:
    promote(workspace, "v1", "v2")
    assert [model.lost_default for model in rebuild_engine(workspace, FakeMLEngine())] == [None, None]


def test_of_a_known_model_only_versions_that_the_engine_made_count_as_lost(workspace: Workspace) -> None:
    engine = FakeMLEngine()
    engine.ensure_model("cats")
    assert unregistered_versions(workspace, engine) == {"dogs": ["v9"]}
    workspace.storage.write_json("gs://graft/engine/versions/cats/v2.json", {"files": {}})
    assert unregistered_versions(workspace, engine) == {"cats": ["v2"], "dogs": ["v9"]}


@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "m.onnx", "saved_model.pbtxt"])
def test_a_version_of_any_format_counts_as_lost_and_is_registered(workspace: Workspace, name: str) -> None:
    workspace.storage.write_bytes(workspace.model("birds", "v1").file(name), b"a model")
    workspace.storage.write_bytes(workspace.model("birds", "v2").file(f"assets/{name}"), b"no version")
    engine = FakeMLEngine()
    assert unregistered_versions(workspace, engine)["birds"] == ["v1"]
    birds = next(iter(rebuild_engine(workspace, engine)))
    assert (birds.model, birds.registered, birds.default) == ("birds", ("v1",), "v1")


def register(workspace: Workspace, default: str, **versions: dict[str, Any]) -> None:
    record = {
        "format": 1,
        "model": {"name": "cats", "description": "Tells cats."},
        "default_version": default,
        "versions": versions,
    }
    workspace.storage.write_json(workspace.registration("cats"), record)


def test_what_clients_said_comes_back_and_a_default_that_the_history_does_not_know(
    workspace: Workspace,
) -> None:
    promote(workspace, "v1")
    register(workspace, "v3", v3={"deploymentUri": "gs://there/m", "labels": {"a": "b"}})
    engine = FakeMLEngine()
    cats, _ = rebuild_engine(workspace, engine)
    assert cats.default == "v3"
    model = engine.get_model("cats")
    assert model
    assert model["description"] == "Tells cats."
    version = engine.get_version("cats", "v3")
    assert version
    assert version["labels"] == {"a": "b"}
    assert version["deploymentUri"] == "gs://graft/models/cats/v3"


def test_what_was_promoted_since_stays_the_default(workspace: Workspace) -> None:
    promote(workspace, "v1", "v2")
    register(workspace, "v1", v1={})
    engine = FakeMLEngine()
    engine.ensure_model("cats")
    engine.create_version("cats", {"name": "v2", "deploymentUri": "gs://graft/jobs/1/model"})
    cats, _ = rebuild_engine(workspace, engine)
    assert cats.default == "v2"


def test_a_registration_of_a_newer_format_is_refused_by_name(workspace: Workspace) -> None:
    workspace.storage.write_json(workspace.registration("cats"), {"format": 2})
    with pytest.raises(FormatTooNew, match=r"Registration has the format 2.*reads up to 1"):
        list(rebuild_engine(workspace, FakeMLEngine()))
