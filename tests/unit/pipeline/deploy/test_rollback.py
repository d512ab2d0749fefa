"""Rollbacks, approvals and the history they leave."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.history import (
    EventType,
    HistoryEvent,
    read_history,
    record_event,
    served_before,
    serving_periods,
)
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.approval import record_approval
from pipeline.deploy.promote import promote_version
from pipeline.deploy.rollback import Rollback, find_rollback_target, rollback_version
from pipeline.errors import PlatformUnavailable, RollbackRefused, StorageError
from pipeline.ml_engine.protocol import default_version
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine


class World:
    """A model of several versions that were promoted one after the other."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace(Storage({"graft": home}), "gs://graft")
        self.engine = FakeMLEngine(answer=self.answer)
        self.asked: list[str] = []
        self.engine.ensure_model("m")
        for number in (1, 2, 3):
            self.deploy(f"v_{number}", champion=f"v_{number - 1}" if number > 1 else None)

    def answer(self, version: str, instance: Any) -> dict[str, Any]:
        self.asked.append(version)
        return {"outputs": [1.0]}

    def deploy(self, version: str, champion: str | None) -> None:
        self.engine.create_version("m", {"name": version})
        promote_version(self.workspace, self.engine, model="m", version=version, champion=champion)
        event = HistoryEvent(
            event=EventType.PROMOTED,
            version=version,
            previous=champion,
            run_id=f"run of {version}",
            decided_by="gate",
        )
        record_event(self.workspace, "m", event)

    def roll_back(self, to: str | None = None, **given: Any) -> Rollback:
        said = {"by": "Ada", "reason": "it mistakes snow", **given}
        return rollback_version(self.workspace, self.engine, model="m", to=to, **said)

    @property
    def serving(self) -> str | None:
        return default_version(self.engine.get_model("m"))

    @property
    def history(self) -> list[HistoryEvent]:
        return read_history(self.workspace, "m")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestRollback:
    def test_goes_to_the_version_that_served_before_and_is_recorded(self, world: World) -> None:
        done = world.roll_back()
        assert (done.version, done.previous, world.serving) == ("v_2", "v_3", "v_2")
        event = world.history[-1]
        assert (event.event, event.version, event.previous) == ("rolled_back", "v_2", "v_3")
        assert (event.by, event.reason, event.at) == ("Ada", "it mistakes snow", done.at)

    def test_goes_further_back_the_next_time_and_not_forth(self, world: World) -> None:
        assert [world.roll_back().version, world.roll_back().version] == ["v_2", "v_1"]
        with pytest.raises(RollbackRefused, match="no earlier version"):
            world.roll_back()
        assert world.serving == "v_1"

    def test_goes_to_any_named_version_forth_as_well(self, world: World) -> None:
        assert world.roll_back(to="v_1").previous == "v_3"
        assert world.roll_back(to="v_3").previous == "v_1"
        assert find_rollback_target(world.workspace, world.engine, "m") == "v_1"

    def test_passes_over_versions_that_are_gone_or_not_ready(self, world: World) -> None:
        world.engine.versions["m"]["v_2"]["state"] = "FAILED"
        assert find_rollback_target(world.workspace, world.engine, "m") == "v_1"
        with pytest.raises(RollbackRefused, match="no READY version v_2"):
            world.roll_back(to="v_2")
        with pytest.raises(RollbackRefused, match="no READY version v_9"):
            world.roll_back(to="v_9")

    def test_loads_the_version_before_it_gets_traffic(self, world: World) -> None:
        world.roll_back()
        assert world.asked == ["v_2"]

    def test_leaves_the_traffic_where_it_is_when_the_version_does_not_come_up(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unavailable(*args: Any, **options: Any) -> list[Any]:
            raise PlatformUnavailable("m/v_2 is being loaded; try again.")

        monkeypatch.setattr(world.engine, "predict", unavailable)
        with pytest.raises(PlatformUnavailable):
            world.roll_back()
        assert (world.serving, world.history[-1].event) == ("v_3", "promoted")

    def test_of_a_model_that_takes_no_pictures_works(self, world: World) -> None:
        world.engine.answer = None
        assert world.roll_back().version == "v_2"

    def test_with_the_same_run_happens_once(self, world: World) -> None:
        first, second = world.roll_back(run_id="r"), world.roll_back(run_id="r")
        assert first == second
        assert [event.event for event in world.history].count("rolled_back") == 1

    def test_that_died_before_it_was_recorded_goes_no_further_in_the_next_try(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*args: Any, **given: Any) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr("pipeline.deploy.rollback.record_event", die)
            with pytest.raises(StorageError, match="full"):
                world.roll_back(run_id="r")
        assert (world.serving, world.history[-1].event) == ("v_2", "promoted")
        done = world.roll_back(run_id="r")
        assert (done.version, done.previous, world.serving) == ("v_2", "v_3", "v_2")
        assert world.history[-1].event == "rolled_back"

    def test_to_what_serves_already_is_refused(self, world: World) -> None:
        with pytest.raises(RollbackRefused, match="v_3 of m serves already"):
            world.roll_back(to="v_3")

    @pytest.mark.parametrize("given", [{"by": " "}, {"reason": ""}])
    def test_needs_a_person_and_a_reason(self, world: World, given: dict[str, str]) -> None:
        with pytest.raises(RollbackRefused, match="needs a person and a reason"):
            world.roll_back(**given)
        assert world.serving == "v_3"

    def test_supersedes_a_run_that_was_compared_with_the_version_taken_back(self, world: World) -> None:
        world.engine.create_version("m", {"name": "v_4"})
        world.roll_back()
        result = promote_version(world.workspace, world.engine, model="m", version="v_4", champion="v_3")
        assert (result, world.serving) == (Promotion.SUPERSEDED, "v_2")

    def test_without_history_asks_for_a_version(self, tmp_path: Path) -> None:
        workspace = Workspace(Storage({"graft": tmp_path / "empty"}), "gs://graft")
        with pytest.raises(RollbackRefused, match="`graft versions m` lists"):
            rollback_version(workspace, FakeMLEngine(), model="m", by="Ada", reason="x")


class TestHistory:
    def test_says_what_served_when_and_why(self, world: World) -> None:
        world.roll_back()
        periods = serving_periods(world.history)
        assert [period.version for period in periods] == ["v_1", "v_2", "v_3", "v_2"]
        assert [period.since for period in periods[1:]] == [period.until for period in periods[:-1]]
        assert (periods[-1].until, periods[-1].by) == (None, "Ada")
        assert (periods[0].by, periods[0].run_id) == ("gate", "run of v_1")

    def test_events_that_change_no_traffic_end_no_period(self, world: World) -> None:
        event = HistoryEvent(event=EventType.SUPERSEDED, version="v_4", run_id="r")
        record_event(world.workspace, "m", event, now=datetime(2099, 1, 1, tzinfo=UTC))
        assert serving_periods(world.history)[-1].until is None
        assert served_before(world.history) == ["v_1", "v_2", "v_3"]


class TestApproval:
    @pytest.mark.parametrize(("approved", "event"), [(True, "approved"), (False, "rejected")])
    def test_is_in_the_history_once(self, world: World, approved: bool, event: str) -> None:
        approval = Approval(approved=approved, by="Ada", reason="looks right", at="2026-01-01T00:00:00Z")
        for _ in range(2):
            record_approval(world.workspace, "m", version="v_4", run_id="r", approval=approval)
        found = [row for row in world.history if row.version == "v_4"]
        assert [(row.event, row.by, row.reason) for row in found] == [(event, "Ada", "looks right")]

    def test_says_itself_in_one_line(self) -> None:
        said = Approval(approved=False, by="Ada", reason="blurred", at="")
        assert said.line == "rejected by Ada: blurred"
        assert Approval(approved=True, by="timeout", reason="", at="").line == (
            "approved by nobody in time, so by default"
        )
