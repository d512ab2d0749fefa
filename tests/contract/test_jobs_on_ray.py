"""What clients see of jobs is the same on Ray: the tests of `test_jobs`, on the Ray backend."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.backends.run_files import Ending, JobFile
from tests.contract import test_jobs as jobs
from tests.contract.test_jobs import JOB, training
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts
from tests.fakes.ray import TOKEN, RayDouble


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Any]:
    parts = FakeParts(tmp_path)
    parts.backend = RayDouble(tmp_path, parts.storage, cancel_grace_seconds=0.1)
    yield parts
    parts.close()


class TestLife(jobs.TestLife):
    def test_a_job_whose_processes_vanished_fails_with_a_reason(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.lose_for_good("j1")
        message = v1.wait_state("j1", "FAILED")["errorMessage"]
        assert message.startswith("The job was lost with its node. Ray says: Job supervisor actor died")
        assert parts.backend.started_runs == ["j1"] * 3  # GRAFT_ENGINE_JOB_RESTARTS is 2


class TestLog(jobs.TestLog):
    def test_a_negative_offset_is_its_end(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.logs["j1"] = b"0123456789"
        assert v1("GET", "jobs/j1:log", params={"offset": -3})["log"] == "789"
        assert v1("GET", "jobs/j1:log", params={"offset": 30})["nextOffset"] == "10"

    def test_bytes_that_are_no_text_are_shown_as_such(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.logs["j1"] = b"a\xff\x00b"
        assert v1("GET", "jobs/j1:log")["log"] == "a\ufffd\x00b"


class TestCancel(jobs.TestCancel):
    def test_a_running_job_is_stopped_and_says_why(self, v1, parts):
        super().test_a_running_job_is_stopped_and_says_why(v1, parts)
        assert parts.backend.ray.stopped == ["j1-1"]
        assert parts.backend.ray.jobs == {}


class TestRestart(jobs.TestRestart):
    pass


class TestReplicas:
    """Of jobs with workers and parameter servers; `test_jobs` has that other engines refuse them by name."""

    CUSTOM = {"scaleTier": "CUSTOM", "masterType": "m"}

    @pytest.mark.parametrize(
        ("more", "replicas"),
        [
            ({"scaleTier": "STANDARD_1"}, {"worker": 4, "ps": 3}),
            ({"scaleTier": "PREMIUM_1"}, {"worker": 19, "ps": 11}),
            (CUSTOM, {}),
            ({**CUSTOM, "workerCount": "2", "workerType": "w"}, {"worker": 2}),
            ({**CUSTOM, "parameter_server_count": 1, "parameter_server_type": "p"}, {"ps": 1}),
            ({**CUSTOM, "evaluatorCount": 1, "evaluatorType": "e"}, {"evaluator": 1}),
            ({**CUSTOM, "workerCount": "0", "worker_type": "w", "workerConfig": {"imageUri": "x"}}, {}),
            ({"workerType": "", "workerConfig": {"acceleratorConfig": {"count": "0"}}}, {}),
            ({"workerCount": 0, "parameterServerCount": "0", "useChiefInTfConfig": True}, {}),
        ],
    )
    def test_a_job_has_the_replicas_it_asks_for(self, v1, parts, more, replicas):
        assert v1("POST", "jobs", training(**more))["trainingInput"].items() >= more.items()
        v1.wait_state("j1", "RUNNING")
        (job,) = parts.backend.started
        assert job.replicas == replicas
        request = parts.backend.ray.jobs["j1-1"]
        assert request["entrypoint_num_cpus"] == (0.01 if replicas else 1)

    def test_accelerators_reach_ray_and_each_role_has_its_own(self, v1, parts):
        own = {"acceleratorConfig": {"count": "2", "type": "NVIDIA_TESLA_T4"}}
        v1("POST", "jobs", training(**self.CUSTOM, masterConfig=own))
        v1.wait_state("j1", "RUNNING")
        assert parts.backend.ray.jobs["j1-1"]["entrypoint_num_gpus"] == 2
        workers = {"workerCount": 1, "workerType": "w", "workerConfig": own}
        v1("POST", "jobs", training(**self.CUSTOM, **workers) | {"jobId": "j2"})
        parts.backend.finish("j1", 0)
        v1.wait_state("j2", "RUNNING")
        assert parts.backend.started[1].num_gpus == {"worker": 2}
        assert "entrypoint_num_gpus" not in parts.backend.ray.jobs["j2-1"]

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"workerCount": 1, "workerType": "w"}, "workerCount may be set only if scaleTier is CUSTOM"),
            ({**CUSTOM, "workerCount": 1}, "workerCount and workerType must be set together"),
            ({**CUSTOM, "workerType": "w"}, "workerCount and workerType must be set together"),
            ({**CUSTOM, "workerCount": 1001, "workerType": "w"}, "training_input.worker_count"),
            ({**CUSTOM, "evaluatorCount": 2, "evaluatorType": "e"}, "training_input.evaluator_count"),
            ({"scaleTier": "STANDARD_1", "masterType": "m"}, "masterType must be set if, and only if"),
        ],
    )
    def test_replicas_that_make_no_sense_are_400(self, v1, more, words):
        assert words in v1.error("POST", "jobs", training(**more), code=400)["message"]

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"scaleTier": "BASIC_TPU"}, "scale_tier"),
            ({"masterConfig": {"imageUri": "x"}}, "master_config.image_uri"),
            ({**CUSTOM, "workerCount": 1, "workerType": "w", "workerConfig": {"diskConfig": {"x": 1}}},
             "worker_config.disk_config"),
            ({"network": "n"}, "network"),
        ],
    )  # fmt: skip
    def test_what_no_node_has_is_501_and_named(self, v1, more, field):
        error = v1.error("POST", "jobs", training(**more), code=501)
        assert error["message"].startswith(f"Field: training_input.{field} ")


class TestLostNodes:
    def test_a_job_goes_on_elsewhere_and_the_logs_of_both_attempts_are_kept(self, v1, parts):
        v1("POST", "jobs", training(scheduling={"maxRunningTime": "3600s"}))
        v1.wait_state("j1", "RUNNING")
        parts.backend.logs["j1"] = b"epoch 1\n"
        parts.backend.ray.lose("j1-1")
        wait_for(lambda: "j1-2" in parts.backend.ray.jobs)
        del parts.backend.logs["j1"]
        parts.backend.logs["j1"] = b"epoch 2\n"
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        text = v1("GET", "jobs/j1:log")["log"]
        assert text == "epoch 1\n\n[Attempt 1 was lost. Attempt 2:]\nepoch 2\n"
        again = parts.backend.files("j1", 2).read_job().job
        assert again.max_running_seconds == 1.0  # its clock is that of the test's first attempt

    def test_a_ray_that_is_away_fails_no_job(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.ray.is_away = True
        v1("POST", "jobs", {**JOB, "jobId": "j2"})
        assert v1("GET", "jobs/j1")["state"] == "RUNNING"
        parts.backend.files("j1", 1).end(Ending(code=0, started=1000.0, ended=1060.0))  # by the bucket
        v1.wait_state("j1", "SUCCEEDED")
        v1.wait_state("j2", "PREPARING")
        parts.backend.ray.is_away = False
        v1.wait_state("j2", "RUNNING")
        assert parts.backend.started_runs == ["j1", "j2"]

    def test_a_head_that_forgot_its_jobs_has_them_run_again(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.ray.jobs.clear()
        wait_for(lambda: "j1-2" in parts.backend.ray.jobs)
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")


class TestSubmission:
    def test_it_names_the_file_of_the_job_and_holds_no_secret(self, v1, parts, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
        v1("POST", "jobs", training(args=["--password=of-a-job"]))
        v1.wait_state("j1", "RUNNING")
        [sent] = parts.backend.ray.jobs.values()
        words = shlex.split(sent["entrypoint"])
        assert words[:5] == ["exec", "python", "-P", "-m", "pipeline.engine.backends.ray.node"]
        assert words[5] == "gs://graft/engine/ray/j1/1/job.json"
        assert JobFile.from_json(parts.storage.read_bytes(words[5])).job.args == ("--password=of-a-job",)
        for secret in (TOKEN, "a-secret-key", "of-a-job"):
            assert secret not in str(sent)

    def test_what_the_engine_submitted_before_it_was_killed_is_adopted(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        restart.stop()
        parts.backend._jobs.clear()
        v1 = restart()
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        assert parts.backend.started_runs == ["j1"]

    def test_a_submission_of_another_engine_is_neither_adopted_nor_stopped(self, v1, parts):
        other = {"submission_id": "j1-1", "metadata": {}, "status": "RUNNING"}
        parts.backend.ray.jobs["j1-1"] = dict(other)
        v1("POST", "jobs", JOB)
        message = v1.wait_state("j1", "FAILED")["errorMessage"]
        assert "has another submission j1-1, which this engine did not make" in message
        assert parts.backend.ray.jobs["j1-1"] == other

    def test_a_node_without_graft_is_named(self, v1, parts):
        parts.backend.ray.on_submit = lambda name: parts.backend.ray.end(
            name, "FAILED", "Job entrypoint command failed with exit code 1: No module named pipeline", 1
        )
        v1("POST", "jobs", JOB)
        message = v1.wait_state("j1", "FAILED")["errorMessage"]
        assert message.startswith("The node could not run Graft by 'python'. Install Graft ")
        assert "No module named pipeline" in message
        assert list(parts.backend.ray.requests).count(("POST", "")) == 1

    def test_a_job_that_was_stopped_in_ray_is_not_run_again(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.ray.end("j1-1", "STOPPED")
        message = v1.wait_state("j1", "FAILED")["errorMessage"]
        assert message == "The job was stopped in Ray, not by this engine."
        assert parts.backend.started_runs == ["j1"]
