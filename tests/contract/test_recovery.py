"""An engine that died between two steps of its work goes on from there."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from pipeline.engine.store import OperationRow, Store, VersionRow


@pytest.fixture
def edit(parts):
    """Put the database in the state that a killed engine left."""

    def run(*statements) -> None:
        store = Store(parts.database)
        with store.begin() as session:
            for statement in statements:
                session.execute(statement)
        store.close()

    return run


UNFINISHED = update(OperationRow).values(done=False, response=None, error=None, end_time=None)


def test_a_version_that_was_ready_before_its_operation_ended_is_not_deployed_again(restart, parts, edit):
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    operation = v1.deploy("m", "v1", parts.export("gs://other/export"))
    parts.storage.delete_tree("gs://other/export")  # what was copied is all there is
    edit(UNFINISHED)
    v1 = restart()
    assert v1.wait_done(operation)["response"]["state"] == "READY"
    assert v1("POST", "models/m:predict", {"instances": [[1]]})["predictions"][0]["served_by"] == "m/v1"


def test_a_version_that_failed_before_its_operation_ended_keeps_its_reason(restart, parts, edit):
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    operation = v1.deploy("m", "v1", parts.export("gs://other/export", "broken"))
    reason = operation["error"]["message"]
    edit(UNFINISHED)
    v1 = restart()
    assert v1.wait_done(operation)["error"]["message"] == reason
    assert v1("GET", "models/m/versions/v1")["errorMessage"] == reason


def test_a_version_that_was_being_created_is_finished_and_leftovers_are_removed(restart, parts, edit):
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    operation = v1.deploy("m", "v1", parts.export("gs://other/export", "variables"))
    edit(UNFINISHED, update(VersionRow).values(state="CREATING"))
    leftovers = parts.home / "engine" / "models" / "m"
    (leftovers / "v1.1.abc.part").mkdir(parents=True)
    parts.storage.delete("gs://graft/models/m/v1/variables")
    v1 = restart()
    assert v1.wait_done(operation)["response"]["state"] == "READY"
    assert parts.storage.exists("gs://graft/models/m/v1/variables")
    assert [path.name for path in leftovers.iterdir()] == ["v1.1"]


def test_a_job_that_runs_but_is_unknown_to_the_backend_is_not_run_twice(restart, parts):
    v1 = restart()
    value = {"pythonModule": "a", "packageUris": ["gs://graft/a.tar.gz"], "region": "local"}
    v1("POST", "jobs", {"jobId": "j1", "trainingInput": value})
    v1.wait_state("j1", "RUNNING")
    parts.backend.states.clear()  # its directory was removed while the engine was down
    assert "left no exit code" in restart().wait_state("j1", "FAILED")["errorMessage"]
    assert len(parts.backend.started) == 1
