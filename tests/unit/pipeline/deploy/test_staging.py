"""The first version of a model does not serve before its smoke test, wherever a run is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.deploy.promote import promote_version
from pipeline.deploy.rebuild import unregistered_versions
from pipeline.deploy.smoke_test import smoke_test_or_delete
from pipeline.deploy.staging import discard_version, model_of_version, staging_model
from pipeline.deploy.sweep import delete_staged_versions
from pipeline.deploy.version import deploy_version
from pipeline.errors import ConfigError, PlatformError, PlatformUnavailable, SmokeTestFailed
from pipeline.evaluate.predictions import Prediction
from pipeline.ml_engine.protocol import default_version
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

STAGING = "m__candidate"
LABELS = {"run": "r", "dataset": "d", "job": "j"}


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path}), "gs://graft")


@pytest.fixture
def engine() -> FakeMLEngine:
    return FakeMLEngine(answer=lambda version, instance: {"key": instance["key"], "outputs": [0.5, 0.5]})


def deploy(engine: FakeMLEngine, version: str = "v_1") -> None:
    deploy_version(
        engine,
        model="m",
        version=version,
        model_uri=f"gs://graft/{version}",
        runtime_version="2.21",
        description="d",
        labels=LABELS,
    )


def promote(workspace: Workspace, engine: FakeMLEngine, version: str = "v_1") -> Promotion:
    return promote_version(workspace, engine, model="m", version=version, champion=None)


def kill_after(engine: FakeMLEngine, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die right after a call of the engine took effect."""
    real = getattr(engine, call)

    def die(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise Killed

    monkeypatch.setattr(engine, call, die)


class TestFirstVersion:
    def test_is_hidden_until_it_is_promoted(self, workspace: Workspace, engine: FakeMLEngine) -> None:
        deploy(engine)
        assert set(engine.models) == {STAGING}
        assert promote(workspace, engine) is Promotion.PROMOTED
        assert set(engine.models) == {"m"}
        assert default_version(engine.get_model("m")) == "v_1"
        version = engine.get_version("m", "v_1")
        assert version is not None
        made = {"deploymentUri": "gs://graft/v_1", "runtimeVersion": "2.21", "description": "d"}
        assert made.items() <= version.items()
        assert (version["labels"], version["framework"]) == (LABELS, "TENSORFLOW")

    def test_later_ones_are_versions_of_the_model_itself(
        self, workspace: Workspace, engine: FakeMLEngine
    ) -> None:
        deploy(engine)
        promote(workspace, engine)
        deploy(engine, "v_2")
        assert set(engine.models) == {"m"}
        assert model_of_version(engine, "m", "v_2") == "m"

    def test_of_a_model_that_exists_without_a_version_is_hidden_too(self, engine: FakeMLEngine) -> None:
        engine.ensure_model("m")
        deploy(engine)
        assert engine.list_versions("m") == []
        assert model_of_version(engine, "m", "v_1") == STAGING

    def test_is_tested_where_it_is_and_deleted_with_its_model_if_it_fails(self, engine: FakeMLEngine) -> None:
        deploy(engine)
        expected = {"k": Prediction(key="k", outputs=(0.9, 0.1), label="a")}
        with pytest.raises(SmokeTestFailed):
            smoke_test_or_delete(
                engine,
                model="m",
                version="v_1",
                instances=[{"key": "k"}],
                expected=expected,
                latency_budget_seconds=1,
            )
        assert engine.models == {}

    def test_that_another_run_was_faster_than_is_superseded(
        self, workspace: Workspace, engine: FakeMLEngine
    ) -> None:
        deploy(engine)
        deploy(engine, "v_2")
        assert promote(workspace, engine, "v_2") is Promotion.PROMOTED
        assert promote(workspace, engine, "v_1") is Promotion.SUPERSEDED
        assert set(engine.models) == {"m"}
        assert set(engine.versions["m"]) == {"v_2"}

    def test_that_v1_does_not_make_the_default_is_superseded(
        self, workspace: Workspace, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody creates a version past Graft's lock while this one is created."""
        deploy(engine)
        real = engine.create_version

        def create(model: str, body: dict[str, Any]) -> dict[str, Any]:
            real(model, {"name": "v_other"})
            return real(model, body)

        monkeypatch.setattr(engine, "create_version", create)
        assert promote(workspace, engine) is Promotion.SUPERSEDED
        assert set(engine.versions["m"]) == {"v_other"}
        assert set(engine.models) == {"m"}


class TestKills:
    @pytest.mark.parametrize("call", ["ensure_model", "create_version"])
    def test_while_it_is_deployed_leave_no_default_and_the_next_try_goes_on(
        self, engine: FakeMLEngine, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            kill_after(engine, call, patch)
            with pytest.raises(Killed):
                deploy(engine)
        assert engine.get_model("m") is None
        deploy(engine)
        assert set(engine.versions) == {STAGING}

    @pytest.mark.parametrize("call", ["ensure_model", "create_version", "delete_version", "delete_model"])
    def test_while_it_is_promoted_are_mended_by_the_next_try(
        self, workspace: Workspace, engine: FakeMLEngine, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(engine)
        with monkeypatch.context() as patch:
            kill_after(engine, call, patch)
            with pytest.raises(Killed):
                promote(workspace, engine)
        assert default_version(engine.get_model("m")) in (None, "v_1")
        assert promote(workspace, engine) is Promotion.PROMOTED
        assert {name: set(versions) for name, versions in engine.versions.items()} == {"m": {"v_1"}}

    @pytest.mark.parametrize("call", ["create_version", "delete_version"])
    def test_for_good_are_swept(
        self, workspace: Workspace, engine: FakeMLEngine, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(engine)
        with monkeypatch.context() as patch:
            kill_after(engine, call, patch)
            with pytest.raises(Killed):
                promote(workspace, engine)
        left = [version["name"].rpartition("/")[2] for version in engine.list_versions(STAGING)]
        delete_staged_versions(engine, STAGING, left, is_used=False)
        assert set(engine.models) == {"m"}
        assert set(engine.versions["m"]) == {"v_1"}


class TestHiddenModel:
    def test_stays_while_another_run_has_a_version_in_it(self, engine: FakeMLEngine) -> None:
        deploy(engine)
        deploy(engine, "v_2")
        discard_version(engine, "m", "v_1")  # its default, which v1 deletes only as the last version
        assert set(engine.versions[STAGING]) == {"v_2"}

    def test_stays_if_a_version_comes_while_it_is_deleted(
        self, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(engine)
        real = engine.delete_version

        def delete(model: str, version: str) -> None:
            real(model, version)
            if model == STAGING:
                deploy(engine, "v_2")

        monkeypatch.setattr(engine, "delete_version", delete)
        discard_version(engine, "m", "v_1")
        assert set(engine.versions[STAGING]) == {"v_2"}

    @pytest.mark.parametrize("error", [PlatformUnavailable("away"), PlatformError("no", status=403)])
    def test_that_cannot_be_deleted_is_an_error(
        self, engine: FakeMLEngine, error: PlatformError, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(name: str) -> None:
            raise error

        deploy(engine)
        monkeypatch.setattr(engine, "delete_model", refuse)
        with pytest.raises(type(error)):
            discard_version(engine, "m", "v_1")

    def test_that_is_empty_stays_while_a_run_may_be_about_to_fill_it(self, engine: FakeMLEngine) -> None:
        engine.ensure_model(STAGING)
        assert delete_staged_versions(engine, STAGING, [], is_used=True) == []
        assert set(engine.models) == {STAGING}
        delete_staged_versions(engine, STAGING, [], is_used=False)
        assert engine.models == {}

    def test_is_no_lost_model(self, workspace: Workspace, engine: FakeMLEngine) -> None:
        for model in ("m", STAGING):
            workspace.storage.write_bytes(f"gs://graft/models/{model}/v_1/saved_model.pb", b"")
        assert unregistered_versions(workspace, engine) == {"m": ["v_1"]}

    def test_has_a_name_that_ml_engine_takes_and_no_classifier_may_have(self) -> None:
        assert len(staging_model("m" * 100)) <= 128
        with pytest.raises(ConfigError, match="names that end with `__candidate` are reserved"):
            Classifier.from_dict({"name": STAGING, "dataset": {"source": {"type": "sample"}}})
