"""`trainingInput.hyperparameters`: what is refused, and a study from its first trial to its last."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pipeline.engine.api.app import create_app
from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.store import Store, TrialRow
from tests.contract.conftest import TestClient, V1Client
from tests.contract.discovery import check
from tests.contract.test_jobs import training
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts

RATE = {"parameterName": "rate", "type": "DOUBLE", "minValue": 0.001, "maxValue": 0.1}
UNITS = {"parameterName": "units", "type": "INTEGER", "minValue": 1, "maxValue": 3}
KIND = {"parameterName": "kind", "type": "CATEGORICAL", "categoricalValues": ["a", "b"]}
SIZE = {"parameterName": "size", "type": "DISCRETE", "discreteValues": [16, 32.5]}
WHERE = "training_input.hyperparameters"


def study(job_id: str, *params: dict[str, Any], more: Any = None, **changes: Any) -> dict[str, Any]:
    spec = {"goal": "MINIMIZE", "params": list(params) or [RATE], "hyperparameterMetricTag": "loss"}
    spec |= {"algorithm": "RANDOM_SEARCH", **changes}
    return {**training(hyperparameters=spec, **(more or {})), "jobId": job_id}


def output(v1: V1Client, job_id: str = "j1") -> dict[str, Any]:
    job = v1("GET", f"jobs/{job_id}")
    check({"$ref": "GoogleCloudMlV1__Job"}, job, "jobs.get")
    return job["trainingOutput"]


def report(parts: FakeParts, run: str, *values: float, first_step: int = 1) -> None:
    lines = [
        json.dumps({"timestamp": 1.0, "trial": "1", "loss": str(value), "global_step": str(step)})
        for step, value in enumerate(values, start=first_step)
    ]
    parts.backend.reports[run] = "".join(f"{line}\n" for line in lines).encode()


def finish(parts: FakeParts, run: str, *values: float, code: int = 0) -> None:
    wait_for(lambda: run in parts.backend.states)
    report(parts, run, *values)
    parts.backend.finish(run, code)


def runs(parts: FakeParts, job_id: str) -> list[TrainingJob]:
    return [run for run in parts.backend.started if run.job_id == job_id]


def new_parts(home: Path, slots: int) -> FakeParts:
    parts = FakeParts(home, training_slots=slots, job_creations_per_minute=10_000)
    parts.backend.moment = time.time()
    return parts


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One engine for the tests that need none of their own."""
    parts = new_parts(tmp_path_factory.mktemp("home"), 100)
    with TestClient(create_app(parts.engine()), raise_server_exceptions=False) as client:
        yield V1Client(client), parts


@pytest.fixture
def job(request):
    return f"job_{abs(hash(request.node.nodeid))}"


def test_a_study_is_echoed_and_what_is_wrong_with_another_is_named(shared):
    v1, _ = shared
    body = study("echoed", RATE, UNITS, KIND, SIZE)
    job = v1("POST", "jobs", body)
    assert job["trainingInput"] == body["trainingInput"]
    assert job["trainingOutput"] == {
        "completedTrialCount": "0",
        "isHyperparameterTuningJob": True,
        "hyperparameterMetricTag": "loss",
    }
    upside_down = {**RATE, "minValue": 1}
    error = v1.error("POST", "jobs", study("wrong", UNITS, upside_down), code=400)
    [violation] = error["details"][0]["fieldViolations"]
    assert violation["field"] == "training_input.hyperparameters.params.1.min_value"
    assert "upside down: minValue 1 is greater than maxValue 0.1" in violation["description"]
    v1.error("GET", "jobs/wrong", code=404)


class TestTrials:
    @pytest.fixture
    def v1(self, shared):
        return shared[0]

    @pytest.fixture
    def parts(self, shared):
        parts = shared[1]
        parts.backend.moment = time.time()
        return parts

    def test_trials_run_one_after_another_and_come_back_best_first(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=3, more={"jobDir": "gs://graft/out/"}))
        finish(parts, f"{job}.1", 3, 2)
        wait_for(lambda: output(v1, job)["completedTrialCount"] == "1")
        assert v1("GET", f"jobs/{job}")["state"] == "RUNNING"
        finish(parts, f"{job}.2", 1)
        finish(parts, f"{job}.3", 5)
        ended = v1.wait_state(job, "SUCCEEDED")
        result = output(v1, job)
        assert [trial["trialId"] for trial in result["trials"]] == ["2", "1", "3"]
        assert result["trials"][1]["finalMetric"] == {"trainingStep": "2", "objectiveValue": 2.0}
        assert {trial["state"] for trial in result["trials"]} == {"SUCCEEDED"}
        assert (result["completedTrialCount"], result["hyperparameterMetricTag"]) == ("3", "loss")
        assert ended["startTime"] == result["trials"][1]["startTime"]
        second = runs(parts, job)[1]
        rate = next(trial for trial in result["trials"] if trial["trialId"] == "2")["hyperparameters"]["rate"]
        assert 0.001 <= float(rate) <= 0.1
        assert second.args == ("--epochs", "3", f"--rate={rate}")
        assert (second.job_dir, second.trial_id, second.metric_tag) == ("gs://graft/out/2", "2", "loss")

    def test_the_metrics_of_a_running_trial_are_shown(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=2))
        v1.wait_state(job, "RUNNING")
        report(parts, f"{job}.1", 0.5)
        wait_for(lambda: output(v1, job)["trials"][0].get("finalMetric"))
        parts.backend.reports[f"{job}.1"] = b""  # cloudml-hypertune is rewriting it
        assert output(v1, job)["trials"][0]["finalMetric"] == {"trainingStep": "1", "objectiveValue": 0.5}

    def test_the_same_job_gets_the_same_values(self, v1):
        job = "the_same"
        v1("POST", "jobs", study(job, RATE, UNITS, KIND, SIZE))
        v1.wait_state(job, "RUNNING")
        values = output(v1, job)["trials"][0]["hyperparameters"]
        assert values.keys() == {"rate", "units", "kind", "size"}
        assert values["units"] in "123"
        assert values["kind"] in "ab"
        assert values["size"] in ("16", "32.5")
        assert values["rate"] == "0.03968027460379607"

    def test_a_grid_is_tried_once_and_ends_when_nothing_is_left(self, v1, parts, job):
        v1("POST", "jobs", study(job, UNITS, KIND, algorithm="GRID_SEARCH", maxTrials=50))
        for number in range(1, 7):
            finish(parts, f"{job}.{number}", number)
        v1.wait_state(job, "SUCCEEDED")
        tried = [tuple(trial["hyperparameters"].values()) for trial in output(v1, job)["trials"]]
        assert tried == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"), ("3", "a"), ("3", "b")]

    def test_a_trial_without_its_metric_fails_and_the_study_goes_on(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=2))
        wait_for(lambda: f"{job}.1" in parts.backend.states)
        parts.backend.reports[f"{job}.1"] = b'{"accuracy": "1"}\nno json\n[1]\n{"loss": "nan"}\n'
        parts.backend.finish(f"{job}.1", 0)
        finish(parts, f"{job}.2", 1)
        v1.wait_state(job, "SUCCEEDED")
        trials = output(v1, job)["trials"]
        assert [(trial["trialId"], trial["state"]) for trial in trials] == [
            ("2", "SUCCEEDED"),
            ("1", "FAILED"),
        ]

    def test_a_study_without_a_success_ends_after_three_failures(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=30))
        parts.backend.logs[f"{job}.3"] = b"ValueError: no such option --rate"
        for number in (1, 2, 3):
            finish(parts, f"{job}.{number}", code=2)
        message = v1.wait_state(job, "FAILED")["errorMessage"]
        assert "3 trials of the hyperparameter tuning job failed. Trial 3: The replica master 0" in message
        assert message.endswith("no such option --rate")
        assert len(runs(parts, job)) == 3

    def test_max_failed_trials_is_the_number_that_ends_it(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=30, maxFailedTrials=2))
        finish(parts, f"{job}.1", 1)
        finish(parts, f"{job}.2", code=1)
        finish(parts, f"{job}.3", code=1)
        v1.wait_state(job, "FAILED")
        assert output(v1, job)["completedTrialCount"] == "1"

    def test_packages_that_cannot_be_installed_end_it_at_once(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=30))
        wait_for(lambda: f"{job}.1" in parts.backend.states)
        parts.backend.finish(f"{job}.1", 1, preparing=True, problem="no wheel")
        message = v1.wait_state(job, "FAILED")["errorMessage"]
        assert message.startswith("The packages cannot be installed. no wheel")

    def test_a_cancelled_study_ends_its_trials(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=3))
        v1.wait_state(job, "RUNNING")
        assert v1("POST", f"jobs/{job}:cancel") == {}
        assert v1.wait_state(job, "CANCELLED")["errorMessage"]
        assert output(v1, job)["trials"][0]["state"] == "CANCELLED"
        assert f"{job}.1" in parts.backend.stopped
        assert v1.error("POST", f"jobs/{job}:cancel", code=400)["status"] == "FAILED_PRECONDITION"

    def test_a_study_past_its_time_is_cancelled(self, v1, parts, job):
        parts.backend.moment -= 10
        v1("POST", "jobs", study(job, maxTrials=3, more={"scheduling": {"maxRunningTime": "5s"}}))
        ended = v1.wait_state(job, "CANCELLED")
        assert "maxRunningTime of 5 s" in ended["errorMessage"]

    def test_the_log_of_a_trial_is_read_by_its_number(self, v1, parts, job):
        v1("POST", "jobs", study(job))
        parts.backend.logs[f"{job}.1"] = b"hello"
        assert v1("GET", f"jobs/{job}:log?trial=1")["log"] == "hello"
        assert v1("GET", f"jobs/{job}:log")["log"] == ""
        assert v1.error("GET", f"jobs/{job}:log?trial=../x", code=400)["status"] == "INVALID_ARGUMENT"

    def test_a_hopeless_trial_is_stopped_early(self, v1, parts, job):
        v1("POST", "jobs", study(job, maxTrials=4, enableTrialEarlyStopping=True))
        for number in (1, 2, 3):
            finish(parts, f"{job}.{number}", 4, 3, 2, 1)
        wait_for(lambda: f"{job}.4" in parts.backend.states)
        report(parts, f"{job}.4", 9, 8)
        v1.wait_state(job, "SUCCEEDED")
        last = next(trial for trial in output(v1, job)["trials"] if trial["trialId"] == "4")
        assert (last["isTrialStoppedEarly"], last["state"]) == (True, "SUCCEEDED")
        assert last["finalMetric"] == {"trainingStep": "2", "objectiveValue": 8.0}


class TestRestart:
    @pytest.fixture
    def parts(self, tmp_path):
        return new_parts(tmp_path, 1)

    def test_a_restarted_engine_goes_on_and_runs_no_trial_twice(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", study("j1", maxTrials=3))
        finish(parts, "j1.1", 1)
        wait_for(lambda: "j1.2" in parts.backend.states)
        v1 = restart()
        finish(parts, "j1.2", 2)
        finish(parts, "j1.3", 3)
        v1.wait_state("j1", "SUCCEEDED")
        assert [trial["trialId"] for trial in output(v1)["trials"]] == ["1", "2", "3"]
        assert [job.run_id for job in parts.backend.started] == ["j1.1", "j1.2", "j1.3"]

    def test_a_trial_that_was_recorded_and_not_started_is_started(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", study("j1"))
        wait_for(lambda: "j1.1" in parts.backend.states)
        values = parts.backend.started[0].args
        restart.stop()  # or it would find the run gone before its row says that it was not started
        del parts.backend.states["j1.1"]
        store = Store(parts.database)
        with store.begin() as session:
            session.execute(update(TrialRow).values(state="PREPARING", start_time=None))
        store.close()
        v1 = restart()
        wait_for(lambda: len(parts.backend.started) == 2)
        assert parts.backend.started[1].args == values
        finish(parts, "j1.1", 1)
        v1.wait_state("j1", "SUCCEEDED")

    def test_a_trial_whose_processes_are_gone_failed(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", study("j1", maxTrials=2))
        v1.wait_state("j1", "RUNNING")
        parts.backend.states["j1.1"] = RunStatus(state=RunState.VANISHED)
        finish(parts, "j1.2", 1)
        v1.wait_state("j1", "SUCCEEDED")
        assert output(v1)["trials"][1]["state"] == "FAILED"


class TestParallel:
    @pytest.fixture
    def parts(self, tmp_path):
        return new_parts(tmp_path, 3)

    def test_trials_run_at_the_same_time_within_the_slots(self, v1, parts):
        v1("POST", "jobs", study("j1", maxTrials=6, maxParallelTrials=5))
        wait_for(lambda: len(parts.backend.started) == 3)
        v1("POST", "jobs", training() | {"jobId": "other"})
        finish(parts, "j1.1", 1)
        v1.wait_state("other", "RUNNING")  # a job that waits goes before another trial
        assert [job.run_id for job in parts.backend.started][3:] == ["other"]
        parts.backend.finish("other", 0)
        wait_for(lambda: len(parts.backend.started) == 5)
        for number in range(2, 7):
            finish(parts, f"j1.{number}", number)
        v1.wait_state("j1", "SUCCEEDED")

    def test_all_trials_of_a_cancelled_study_end(self, v1, parts):
        v1("POST", "jobs", study("j1", maxTrials=6, maxParallelTrials=3))
        wait_for(lambda: len(parts.backend.started) == 3)
        v1("POST", "jobs/j1:cancel")
        v1.wait_state("j1", "CANCELLED")
        assert sorted(parts.backend.stopped) == ["j1.1", "j1.2", "j1.3"]
        assert {trial["state"] for trial in output(v1)["trials"]} == {"CANCELLED"}


class TestResume:
    @pytest.fixture
    def parts(self, tmp_path):
        return new_parts(tmp_path, 1)

    def test_a_study_goes_on_where_another_ended(self, v1, parts):
        v1("POST", "jobs", study("j1", UNITS, algorithm="GRID_SEARCH", maxTrials=2))
        finish(parts, "j1.1", 1)
        finish(parts, "j1.2", 2)
        v1.wait_state("j1", "SUCCEEDED")
        body = study("j2", UNITS, algorithm="GRID_SEARCH", maxTrials=9, resumePreviousJobId="j1")
        v1("POST", "jobs", body)
        finish(parts, "j2.3", 3)
        v1.wait_state("j2", "SUCCEEDED")
        assert [trial["hyperparameters"] for trial in output(v1, "j2")["trials"]] == [{"units": "3"}]

    def test_what_was_cancelled_is_tried_again(self, v1, parts):
        v1("POST", "jobs", study("j1", UNITS, algorithm="GRID_SEARCH", maxTrials=3))
        finish(parts, "j1.1", 1)
        wait_for(lambda: len(parts.backend.started) == 2)
        v1("POST", "jobs/j1:cancel")
        v1.wait_state("j1", "CANCELLED")
        body = study("j2", UNITS, algorithm="GRID_SEARCH", maxTrials=1, resumePreviousJobId="j1")
        v1("POST", "jobs", body)
        finish(parts, "j2.3", 3)
        v1.wait_state("j2", "SUCCEEDED")
        assert [trial["hyperparameters"] for trial in output(v1, "j2")["trials"]] == [{"units": "2"}]

    def test_a_job_that_runs_or_tunes_something_else_is_refused(self, v1, parts):
        v1("POST", "jobs", study("j1"))
        again = study("j2", resumePreviousJobId="j1")
        assert "has not ended" in v1.error("POST", "jobs", again, code=400)["message"]
        finish(parts, "j1.1", 1)
        v1.wait_state("j1", "SUCCEEDED")
        other = study("j2", UNITS, resumePreviousJobId="j1")
        assert "tunes something else" in v1.error("POST", "jobs", other, code=400)["message"]
        v1("POST", "jobs", training() | {"jobId": "plain"})
        plain = study("j2", resumePreviousJobId="plain")
        assert "no hyperparameter tuning job" in v1.error("POST", "jobs", plain, code=400)["message"]
