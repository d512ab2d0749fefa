from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.sweep import (
    delete_job_folders,
    delete_versions,
    find_needed_jobs,
    find_old_jobs,
    find_old_versions,
)
from pipeline.ml_engine.protocol import default_version
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import lineage, tuning_reference

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LABELS = {"run": "r", "dataset": "d", "job": "j"}
MARK = ("graft_airflow", "mine")


def version_id(number: int) -> str:
    return f"v_{number:012x}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path}), "gs://graft")


@pytest.fixture
def engine() -> FakeMLEngine:
    engine = FakeMLEngine()
    engine.ensure_model("m")
    return engine


def add_versions(engine: FakeMLEngine, *numbers: int, **changes: Any) -> None:
    for number in numbers:
        engine.create_version("m", {"name": version_id(number), "labels": LABELS, **changes})


def serve(
    engine: FakeMLEngine, workspace: Workspace, *numbers: int, event: EventType = EventType.PROMOTED
) -> None:
    for number in numbers:
        engine.set_default("m", version_id(number))
        happened = HistoryEvent(event=event, version=version_id(number), run_id=f"{event} {number}")
        record_event(workspace, "m", happened)


def find(engine: FakeMLEngine, workspace: Workspace, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"live": (), "keep": 2, "grace": timedelta(hours=1), "now": NOW}
    default = default_version(engine.models["m"])
    return find_old_versions(workspace, engine, "m", default=default, **{**given, **changes})


class TestVersions:
    def test_those_that_served_before_the_kept_ones_go(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2, 3, 4)
        serve(engine, workspace, 1, 2, 3, 4)
        assert find(engine, workspace) == [version_id(1), version_id(2)]
        assert find(engine, workspace, keep=3) == [version_id(1)]

    def test_what_a_rollback_goes_to_stays_after_a_rollback_too(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2, 3, 4)
        serve(engine, workspace, 1, 2, 3, 4)
        serve(engine, workspace, 3, event=EventType.ROLLED_BACK)
        old = find(engine, workspace)
        assert version_id(2) not in old, "the next rollback goes there"
        assert version_id(3) not in old

    def test_what_a_rollback_goes_to_stays_where_the_default_was_set_by_another_client(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2, 3, 4, 5)
        serve(engine, workspace, 1, 2, 3, 4, 5)
        engine.set_default("m", version_id(3))  # no event in the history
        assert find(engine, workspace) == [version_id(1)], "2 is what a rollback from 3 goes to"

    def test_the_most_accurate_of_the_last_year_stays(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2, 3, 4)
        for number, accuracy in ((1, 0.9), (2, 0.99), (3, 0.91), (4, 0.92)):
            event = HistoryEvent(
                event=EventType.PROMOTED, version=version_id(number), run_id=str(number), accuracy=accuracy
            )
            record_event(workspace, "m", event, now=NOW - timedelta(days=9 - number))
        engine.set_default("m", version_id(4))
        assert find(engine, workspace) == [version_id(1)], "candidates are held against 2"

    def test_one_that_never_served_goes_after_the_grace(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2)  # made at midnight
        serve(engine, workspace, 1)
        assert find(engine, workspace) == [version_id(2)]
        assert find(engine, workspace, grace=timedelta(hours=13)) == []
        assert find(engine, workspace, live=[version_id(2)], grace=timedelta(0)) == []

    def test_others_versions_and_busy_ones_are_left_alone(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1)
        engine.create_version("m", {"name": "mine", "labels": LABELS})
        engine.create_version("m", {"name": version_id(7)})
        add_versions(engine, 8)
        engine.versions["m"][version_id(8)]["state"] = "CREATING"
        assert find(engine, workspace) == []

    def test_one_that_became_the_default_meanwhile_is_not_deleted(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        add_versions(engine, 1, 2, 3)
        serve(engine, workspace, 3)
        assert delete_versions(engine, "m", [version_id(2), version_id(3)]) == [version_id(2)]
        assert set(engine.versions["m"]) == {version_id(1), version_id(3)}


class TestJobs:
    def job(
        self, job_id: str, *, state: str = "SUCCEEDED", age_days: int = 60, **fields: Any
    ) -> dict[str, Any]:
        ended = (NOW - timedelta(days=age_days)).isoformat().replace("+00:00", "Z")
        labels = {MARK[0]: MARK[1]}
        return {
            "jobId": job_id,
            "state": state,
            "createTime": ended,
            "endTime": ended,
            "labels": labels,
            **fields,
        }

    def test_only_old_ended_jobs_of_ours_that_nobody_needs(self) -> None:
        jobs = [
            self.job("old"),
            self.job("failed", state="FAILED"),
            self.job("young", age_days=2),
            self.job("running", state="RUNNING"),
            self.job("needed"),
            self.job("others", labels={MARK[0]: "theirs"}),
            self.job("notebook", labels={}),
        ]
        found = find_old_jobs(jobs, needed={"needed"}, mark=MARK, before=NOW - timedelta(days=30))
        assert found == ["old", "failed"]

    def test_versions_need_what_they_are_made_of_and_compared_by(
        self, engine: FakeMLEngine, workspace: Workspace
    ) -> None:
        made_of = lineage(training_job="trained", evaluation_job="evaluated")
        made_of = replace(made_of, training=replace(made_of.training, tuning=tuning_reference(job="tuned")))
        made_of.write(workspace.storage, workspace.model("m", version_id(1)).lineage)
        add_versions(engine, 1, deploymentUri="gs://graft/jobs/made/model")
        add_versions(engine, 3, deploymentUri="gs://elsewhere/model")  # nobody looks into that bucket
        asked = {"versionName": f"projects/local/models/m/versions/{version_id(1)}"}
        gone = {"versionName": f"projects/local/models/m/versions/{version_id(2)}"}
        jobs = [self.job("asked", predictionInput=asked), self.job("gone", predictionInput=gone)]
        needed = find_needed_jobs(workspace, engine, jobs)
        assert needed == {"trained", "evaluated", "made", "asked", "tuned"}

    def test_folders_are_deleted_whole_and_no_others(self, workspace: Workspace) -> None:
        for uri in ("jobs/a/model/x", "jobs/a/training.json", "jobs/ab/model/x"):
            workspace.storage.write_bytes(f"gs://graft/{uri}", b"x")
        assert delete_job_folders(workspace, ["a", "b"]) == ["a"]
        assert workspace.storage.list_uris("gs://graft/") == ["gs://graft/jobs/ab/model/x"]

    def test_the_caches_of_a_fine_tuned_network_go_with_the_last_job_that_made_it(
        self, workspace: Workspace
    ) -> None:
        shared, own, frozen = "a" * 64, "b" * 64, "c" * 64
        write = workspace.storage.write_bytes
        for job_id, digest in (("old", shared), ("old", own), ("young", shared)):
            write(workspace.job(job_id).finetuned_weights(digest), b"w")
        write(workspace.job("old").checkpoint("kept"), b"no weights")
        caches = {
            digest: [
                workspace.features(digest, "p").shard("s"),
                workspace.features(digest, "p", before="block").shard("s"),
                f"{workspace.tflite(digest, 'p', 'm').stem}.tflite",
                f"{workspace.template(digest, 'p', 'k').stem}.pb",
            ]
            for digest in (shared, own, frozen)
        }
        for uri in sum(caches.values(), []):
            write(uri, b"cached")

        def kept() -> set[str]:
            return {digest for digest, uris in caches.items() if any(map(workspace.storage.exists, uris))}

        assert delete_job_folders(workspace, ["old"]) == ["old"]
        assert kept() == {shared, frozen}
        assert delete_job_folders(workspace, ["old", "young"]) == ["young"]
        assert kept() == {frozen}
