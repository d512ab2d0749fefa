from __future__ import annotations

import json
from typing import Any

import pytest
from googleapiclient import discovery

from pipeline.engine.backends import RunState, RunStatus
from pipeline.engine.settings import EngineSettings
from pipeline.engine.v1 import fields

TRAINING = {
    "region": "us-central1",
    "scaleTier": "BASIC",
    "pythonModule": "trainer.task",
    "args": ["--epochs", "3"],
    "packageUris": ["gs://graft/packages/a.tar.gz"],
    "jobDir": "gs://graft/jobs/j1",
    "runtimeVersion": "2.21",
}
JOB = {"jobId": "j1", "trainingInput": TRAINING}


def training(**changes: Any) -> dict[str, Any]:
    return {"jobId": "j1", "trainingInput": {**TRAINING, **changes}}


class TestCreate:
    def test_a_new_job_is_queued_and_its_input_is_echoed_verbatim(self, v1):
        job = v1("POST", "jobs", {**JOB, "labels": {"a": "b"}})
        assert job["jobId"] == "j1"
        assert job["state"] == "QUEUED"
        assert job["labels"] == {"a": "b"}
        assert list(job["trainingInput"].items()) == list(TRAINING.items())
        assert job["createTime"].endswith("Z")

    def test_a_snake_case_body_is_read_and_echoed_as_it_came(self, v1, parts):
        sent = {
            "python_module": "trainer.task",
            "package_uris": ["gs://graft/a.tar.gz"],
            "job_dir": "gs://graft/j",
        }
        job = v1("POST", "jobs", {"job_id": "tfx_1", "training_input": sent})
        assert job["jobId"] == "tfx_1"
        assert job["trainingInput"] == sent
        v1.wait_state("tfx_1", "RUNNING")
        assert parts.backend.started[0].job_dir == "gs://graft/j"

    def test_a_used_id_is_refused_with_the_text_clients_know(self, v1):
        v1("POST", "jobs", JOB)
        assert v1.error("POST", "jobs", JOB, code=409) == {
            "code": 409,
            "message": "Field: job.job_id Error: A job with this id already exists.",
            "status": "ALREADY_EXISTS",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {"field": "job.job_id", "description": "A job with this id already exists."}
                    ],
                }
            ],
        }

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({**JOB, "jobId": "keras-iris"}, "job.job_id"),
            ({**JOB, "jobId": "1abc"}, "job.job_id"),
            ({**JOB, "jobId": "a" * 129}, "job.job_id"),
            ({"jobId": "j1"}, "job"),
            ({**JOB, "predictionInput": {}}, "job"),
            ({**JOB, "nonsense": 1}, "job.nonsense"),
            (training(nonsense=1), "training_input.nonsense"),
            (training(packageUris=["/etc/passwd"]), "training_input.package_uris.0"),
            (training(packageUris=["file:///etc/a.tar.gz"]), "training_input.package_uris.0"),
            (training(packageUris=["gs://graft/../x.tar.gz"]), "training_input.package_uris.0"),
            (training(packageUris=[]), "training_input.package_uris"),
            (training(jobDir="/tmp/x"), "training_input.job_dir"),
            (training(pythonModule="trainer; rm"), "training_input.python_module"),
            (training(runtimeVersion="1.2"), "training_input.runtime_version"),
            (training(pythonVersion="3.5"), "training_input.python_version"),
            (training(scheduling={"maxRunningTime": "1h"}), "training_input.scheduling.max_running_time"),
            (training(scheduling={"maxWaitTime": "1799s"}), "training_input.scheduling.max_wait_time"),
            (training(scheduling={"priority": 1001}), "training_input.scheduling.priority"),
            (training(scheduling={"priority": -1}), "training_input.scheduling.priority"),
            (training(args="--a"), "training_input.args"),
            ([], "job"),
        ],
    )
    def test_a_bad_field_is_named(self, v1, body, field):
        error = v1.error("POST", "jobs", body, code=400)
        assert error["status"] == "INVALID_ARGUMENT"
        assert error["details"][0]["fieldViolations"][0]["field"] == field

    def test_a_message_is_the_rule_itself_without_the_words_of_the_validator(self, v1):
        body = training(scheduling={"maxWaitTime": "1s"})
        assert v1.error("POST", "jobs", body, code=400)["message"] == (
            "Field: training_input.scheduling.max_wait_time Error: expected at least '1800s'. Received: '1s'"
        )

    def test_an_unknown_runtime_is_refused_with_the_list(self, v1):
        error = v1.error("POST", "jobs", training(runtimeVersion="1.2"), code=400)
        assert "2.21 (Python 3.11, Keras 3.15). Received: '1.2'" in error["message"]

    @pytest.mark.parametrize(
        "more",
        [
            {"workerCount": 0},
            {"parameterServerCount": "0", "parameterServerType": "standard"},
            {"workerCount": "0", "worker_type": "standard", "workerConfig": {"imageUri": "x"}},
            {"workerType": "", "workerConfig": {"acceleratorConfig": {"count": "0"}}},
            {"network": "", "serviceAccount": "", "useChiefInTfConfig": False, "masterConfig": None},
            {"masterConfig": {"acceleratorConfig": {"count": "0", "type": "ACCELERATOR_TYPE_UNSPECIFIED"}}},
        ],
    )
    def test_no_workers_are_what_the_engine_has_and_come_back_as_sent(self, v1, more):
        assert v1("POST", "jobs", training(**more))["trainingInput"].items() >= more.items()
        v1.wait_state("j1", "RUNNING")  # whoever reads it again takes it, too

    @pytest.mark.parametrize(
        "more",
        [
            {"network": "projects/p/global/networks/n"},
            {"masterConfig": {"acceleratorConfig": {"count": "0"}, "imageUri": "x"}},
            {"masterConfig": {"acceleratorConfig": {"count": 1}}},
        ],
    )
    def test_what_asks_for_something_is_501(self, v1, more):
        v1.error("POST", "jobs", training(**more), code=501)

    def test_one_worker_more_is_501(self, v1):
        error = v1.error("POST", "jobs", training(workerCount="1", workerType="standard"), code=501)
        assert "training_input.worker" in error["message"]

    @pytest.mark.parametrize("field", ["network", "workerCount", "masterConfig"])
    def test_a_part_of_v1_that_is_missing_is_501_and_named(self, v1, field):
        error = v1.error("POST", "jobs", training(**{field: {}}), code=501)
        assert error["status"] == "UNIMPLEMENTED"
        assert error["message"].startswith("Field: training_input.")


class TestLife:
    def test_a_job_runs_and_succeeds(self, v1, parts):
        v1("POST", "jobs", JOB)
        running = v1.wait_state("j1", "RUNNING")
        assert running["startTime"] == "1970-01-01T00:16:40.000000Z"
        assert parts.backend.started[0].args == ("--epochs", "3")
        parts.backend.finish("j1", 0)
        done = v1.wait_state("j1", "SUCCEEDED")
        assert done["trainingOutput"] == {}
        assert done["endTime"] == "1970-01-01T00:17:40.000000Z"
        assert "errorMessage" not in done

    def test_a_failed_job_says_so_in_the_text_users_know_with_the_end_of_its_log(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.logs["j1"] = b"Traceback\nValueError: no pictures"
        parts.backend.finish("j1", 1)
        message = v1.wait_state("j1", "FAILED")["errorMessage"]
        assert message.startswith(
            "The replica master 0 exited with a non-zero status of 1. Termination reason: Error."
        )
        assert message.endswith("ValueError: no pictures")

    def test_a_job_whose_processes_vanished_fails_with_a_reason(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.states["j1"] = RunStatus(state=RunState.VANISHED)
        assert "left no exit code" in v1.wait_state("j1", "FAILED")["errorMessage"]

    def test_a_job_past_its_time_is_cancelled_with_a_reason(self, v1, parts):
        v1("POST", "jobs", training(scheduling={"maxRunningTime": "60s"}))
        v1.wait_state("j1", "RUNNING")
        parts.backend.finish("j1", 143, timed_out=True)
        assert "maxRunningTime of 60 s" in v1.wait_state("j1", "CANCELLED")["errorMessage"]

    def test_a_position_in_the_queue_is_told_and_the_more_urgent_go_first(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        for job_id, priority in (("low", 1), ("high", 1000), ("none", None), ("low2", 1)):
            scheduling = {} if priority is None else {"priority": priority}
            v1("POST", "jobs", {**training(scheduling=scheduling), "jobId": job_id})
        listed = {job["jobId"]: job.get("jobPosition") for job in v1("GET", "jobs")["jobs"]}
        assert listed == {"j1": None, "high": "1", "low": "2", "low2": "3", "none": "4"}
        assert v1("GET", "jobs/low2")["jobPosition"] == "3"
        for job_id in ("j1", "high", "low", "low2", "none"):
            v1.wait_state(job_id, "RUNNING")
            parts.backend.finish(job_id, 0)
            v1.wait_state(job_id, "SUCCEEDED")
        assert [job.job_id for job in parts.backend.started] == ["j1", "high", "low", "low2", "none"]

    def test_a_job_that_waits_too_long_is_cancelled_with_a_reason(self, v1, parts, monkeypatch):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        monkeypatch.setattr(fields, "MIN_WAIT_SECONDS", 0.1)
        v1("POST", "jobs", {**training(scheduling={"maxWaitTime": "0.2s"}), "jobId": "j2"})
        v1("POST", "jobs", {**training(scheduling={"maxWaitTime": "60s"}), "jobId": "j3"})
        assert "maxWaitTime of 0.2s" in v1.wait_state("j2", "CANCELLED")["errorMessage"]
        assert v1("GET", "jobs/j3")["jobPosition"] == "1"
        assert v1("GET", "jobs/j1")["state"] == "RUNNING"

    def test_as_many_jobs_run_at_a_time_as_there_are_slots(self, restart, parts):
        parts.settings = EngineSettings(training_slots=2)
        v1 = restart()
        for number in (1, 2, 3):
            v1("POST", "jobs", {**JOB, "jobId": f"j{number}"})
        v1.wait_state("j1", "RUNNING")
        v1.wait_state("j2", "RUNNING")
        assert v1("GET", "jobs/j3")["state"] == "QUEUED"
        parts.settings = EngineSettings(training_slots=1)
        v1 = restart()  # what runs goes on, whatever the slots
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        assert v1("GET", "jobs/j2")["state"] == "RUNNING"
        assert v1("GET", "jobs/j3")["state"] == "QUEUED"
        parts.backend.finish("j2", 0)
        v1.wait_state("j3", "RUNNING")

    def test_one_training_job_runs_at_a_time_in_the_order_they_came(self, v1, parts):
        for number in (1, 2, 3):
            v1("POST", "jobs", {**JOB, "jobId": f"j{number}"})
        v1.wait_state("j1", "RUNNING")
        assert v1("GET", "jobs/j2")["state"] == "QUEUED"
        for number in (1, 2, 3):
            v1.wait_state(f"j{number}", "RUNNING")
            parts.backend.finish(f"j{number}", 0)
            v1.wait_state(f"j{number}", "SUCCEEDED")
        assert [job.job_id for job in parts.backend.started] == ["j1", "j2", "j3"]


class TestLog:
    def test_a_client_follows_it_by_its_offsets_until_it_is_complete(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        assert v1("GET", "jobs/j1:log") == {"log": "", "nextOffset": "0", "complete": False}
        parts.backend.logs["j1"] = "épo 1\né".encode()[:-1]  # half a character is not shown yet
        piece = v1("GET", "jobs/j1:log")
        assert piece == {"log": "épo 1\n", "nextOffset": "7", "complete": False}
        parts.backend.logs["j1"] = "épo 1\népo 2\n".encode()
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        first = v1("GET", "jobs/j1:log", params={"offset": piece["nextOffset"], "limit": 4})
        assert first == {"log": "épo", "nextOffset": "11", "complete": False}
        last = v1("GET", "jobs/j1:log", params={"offset": first["nextOffset"]})
        assert last == {"log": " 2\n", "nextOffset": "14", "complete": True}

    def test_a_negative_offset_is_its_end(self, v1, parts):
        v1("POST", "jobs", JOB)
        parts.backend.logs["j1"] = b"0123456789"
        assert v1("GET", "jobs/j1:log", params={"offset": -3})["log"] == "789"
        assert v1("GET", "jobs/j1:log", params={"offset": -30})["log"] == "0123456789"
        assert v1("GET", "jobs/j1:log", params={"offset": 30})["nextOffset"] == "10"

    def test_bytes_that_are_no_text_are_shown_as_such(self, v1, parts):
        v1("POST", "jobs", JOB)
        parts.backend.logs["j1"] = b"a\xff\x00b"
        assert v1("GET", "jobs/j1:log")["log"] == "a\ufffd\x00b"

    @pytest.mark.parametrize(
        ("name", "value"), [("offset", "x"), ("offset", "1.5"), ("limit", "0"), ("limit", "1048577")]
    )
    def test_a_bad_range_is_named(self, v1, name, value):
        v1("POST", "jobs", JOB)
        error = v1.error("GET", "jobs/j1:log", code=400, params={name: value})
        assert error["details"][0]["fieldViolations"][0]["field"] == name

    def test_an_unknown_job_is_404(self, v1):
        v1.error("GET", "jobs/none:log", code=404)


class TestCancel:
    def test_a_running_job_is_stopped_and_says_why(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        assert v1("POST", "jobs/j1:cancel", {}) == {}
        assert v1("GET", "jobs/j1")["errorMessage"]
        assert v1.wait_state("j1", "CANCELLED")["errorMessage"] == "The job was cancelled by a client."
        assert parts.backend.stopped == ["j1"]

    def test_a_queued_job_never_starts(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1("POST", "jobs", {**JOB, "jobId": "j2"})
        v1.wait_state("j1", "RUNNING")
        v1("POST", "jobs/j2:cancel")
        assert v1("GET", "jobs/j2")["state"] == "CANCELLED"
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        assert [job.job_id for job in parts.backend.started] == ["j1"]

    def test_an_unknown_job_is_404(self, v1):
        error = v1.error("POST", "jobs/none:cancel", {}, code=404)
        assert error["message"] == "Field: name Error: The specified job was not found."

    def test_a_finished_job_is_400(self, v1, parts):
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        assert v1.error("POST", "jobs/j1:cancel", {}, code=400)["status"] == "FAILED_PRECONDITION"


class TestList:
    def test_nothing_is_an_empty_object(self, v1):
        assert v1("GET", "jobs") == {}

    def test_pages_hold_every_job_once_newest_first(self, v1):
        for number in range(5):
            v1("POST", "jobs", {**JOB, "jobId": f"j{number}"})
        seen, token = [], ""
        while True:
            page = v1("GET", "jobs", params={"pageSize": 2, "pageToken": token, "alt": "json"})
            seen += [job["jobId"] for job in page["jobs"]]
            if not (token := page.get("nextPageToken", "")):
                break
        assert seen == ["j4", "j3", "j2", "j1", "j0"]

    @pytest.mark.parametrize("params", [{"pageSize": "x"}, {"pageSize": "-1"}, {"pageToken": "x"}])
    def test_bad_paging_is_400(self, v1, params):
        v1.error("GET", "jobs", code=400, params=params)

    def test_a_filter_picks_jobs_and_pages_go_on_through_it(self, v1):
        for number in range(6):
            v1("POST", "jobs", {**JOB, "jobId": f"{'rnn' if number % 2 else 'cnn'}_{number}"})
        seen, token = [], ""
        while True:
            params = {"pageSize": 2, "pageToken": token, "filter": "jobId:rnn* AND NOT state:FAILED"}
            page = v1("GET", "jobs", params=params)
            seen.append([job["jobId"] for job in page.get("jobs", [])])
            if not (token := page.get("nextPageToken", "")):
                break
        assert seen == [["rnn_5", "rnn_3"], ["rnn_1"]]
        assert v1("GET", "jobs", params={"filter": "jobId:gan*"}) == {}
        error = v1.error("GET", "jobs", code=400, params={"filter": "jobId rnn"})
        assert error["details"][0]["fieldViolations"][0]["field"] == "filter"


class TestRestart:
    def test_running_and_queued_jobs_go_on(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", JOB)
        v1("POST", "jobs", {**JOB, "jobId": "j2"})
        v1.wait_state("j1", "RUNNING")
        v1 = restart()
        assert v1("GET", "jobs/j1")["state"] == "RUNNING"
        assert parts.backend.stopped == []
        parts.backend.finish("j1", 0)
        v1.wait_state("j1", "SUCCEEDED")
        v1.wait_state("j2", "RUNNING")
        assert [job.job_id for job in parts.backend.started] == ["j1", "j2"]

    def test_a_job_that_ended_meanwhile_is_collected(self, restart, parts):
        v1 = restart()
        v1("POST", "jobs", JOB)
        v1.wait_state("j1", "RUNNING")
        parts.backend.finish("j1", 7)
        assert "status of 7" in restart().wait_state("j1", "FAILED")["errorMessage"]


class TestBatchPrediction:
    def lines(self, parts, *instances: Any) -> None:
        for number, instance in enumerate(instances):
            line = instance if isinstance(instance, str) else json.dumps(instance)
            parts.storage.write_bytes(f"gs://other/in/a{number}.jsonl", f"{line}\n\n".encode())

    def body(self, **changes: Any) -> dict[str, Any]:
        value = {
            "dataFormat": "JSON",
            "inputPaths": ["gs://other/in/a*"],
            "outputPath": "gs://other/out",
            "uri": "gs://graft/m",
            "region": "us-central1",
        }
        return {"jobId": "b1", "predictionInput": {**value, **changes}}

    def test_lines_are_predicted_by_a_temporary_worker_in_the_order_of_the_files(self, v1, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]", "[1,2]", "[]")
        v1("POST", "jobs", self.body())
        job = v1.wait_state("b1", "SUCCEEDED")
        output = job["predictionOutput"]
        assert output.pop("nodeHours") >= 0
        assert output == {"outputPath": "gs://other/out", "predictionCount": "3", "errorCount": "0"}
        text = parts.storage.read_bytes("gs://other/out/prediction.results-00000-of-00001").decode()
        assert [json.loads(line)["size"] for line in text.splitlines()] == [1, 2, 0]
        assert parts.storage.read_bytes("gs://other/out/prediction.errors_stats-00000-of-00001") == b""
        assert parts.pool.loaded[0].closed.is_set()
        assert list((parts.home / "engine" / "scratch").iterdir()) == []

    def test_lines_that_fail_are_counted_and_named_and_the_rest_is_predicted(self, v1, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]", '"bad"', "{")
        v1("POST", "jobs", self.body())
        output = v1.wait_state("b1", "SUCCEEDED")["predictionOutput"]
        assert (output["predictionCount"], output["errorCount"]) == ("1", "2")
        text = parts.storage.read_bytes("gs://other/out/prediction.errors_stats-00000-of-00001").decode()
        errors = [json.loads(line) for line in text.splitlines()]
        assert errors[0] == {"error": "gs://other/in/a1.jsonl:1: a bad instance", "count": 1}

    @pytest.mark.parametrize(
        "target", [{"modelName": "projects/p/models/m"}, {"versionName": "projects/p/models/m/versions/v1"}]
    )
    def test_a_deployed_version_predicts_with_its_own_worker(self, v1, parts, target):
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", parts.export("gs://other/export"))
        self.lines(parts, "[1]")
        body = self.body(**target)
        del body["predictionInput"]["uri"]
        v1("POST", "jobs", body)
        v1.wait_state("b1", "SUCCEEDED")
        assert [worker.requests for worker in parts.pool.loaded] == [["batch"]]

    def test_a_missing_input_fails_the_job_and_writes_nothing(self, v1, parts):
        parts.export("gs://graft/m")
        v1("POST", "jobs", self.body())
        assert "gs://other/in/a*" in v1.wait_state("b1", "FAILED")["errorMessage"]
        assert parts.storage.list_uris("gs://other/out/") == []

    def test_a_job_is_cancelled_while_its_model_loads(self, v1, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]")
        parts.pool.gate = lambda name: False
        v1("POST", "jobs", self.body())
        v1.wait_state("b1", "RUNNING")
        v1("POST", "jobs/b1:cancel")
        assert v1.wait_state("b1", "CANCELLED")["errorMessage"]
        assert parts.storage.list_uris("gs://other/out/") == []

    def test_a_restarted_engine_runs_it_again_from_its_beginning(self, restart, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]", "[2]")
        parts.pool.gate = lambda name: False
        v1 = restart()
        v1("POST", "jobs", self.body())
        v1.wait_state("b1", "RUNNING")
        v1 = restart()
        parts.pool.gate = lambda name: True
        assert v1.wait_state("b1", "SUCCEEDED")["predictionOutput"]["predictionCount"] == "2"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"uri": "/tmp/m"}, "prediction_input.uri"),
            ({"inputPaths": ["/etc/passwd"]}, "prediction_input.input_paths.0"),
            ({"inputPaths": ["gs://o/*/a"]}, "prediction_input.input_paths.0"),
            ({"outputPath": "/tmp"}, "prediction_input.output_path"),
            ({"outputPath": "gs://graft/models/m/v1"}, "prediction_input.output_path"),
            ({"outputPath": "gs://graft/"}, "prediction_input.output_path"),
            ({"modelName": "projects/p/models/m"}, "prediction_input"),
            ({"uri": None}, "prediction_input"),
            ({"uri": None, "modelName": "m"}, "prediction_input.model_name"),
            ({"uri": None, "versionName": "projects/q/models/m/versions/v"}, "prediction_input.version_name"),
            ({"runtimeVersion": "1.4"}, "prediction_input.runtime_version"),
        ],
    )
    def test_a_bad_field_is_named(self, v1, changes, field):
        error = v1.error("POST", "jobs", self.body(**changes), code=400)
        assert error["details"][0]["fieldViolations"][0]["field"] == field

    def test_numbers_of_0_are_the_defaults_and_come_back_as_sent(self, v1, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]")
        zeros = {"maxWorkerCount": "0", "batchSize": 0}
        assert v1("POST", "jobs", self.body(**zeros))["predictionInput"].items() >= zeros.items()
        assert v1.wait_state("b1", "SUCCEEDED")["predictionOutput"]["predictionCount"] == "1"

    @pytest.mark.parametrize("format", ["TF_RECORD", "TF_RECORD_GZIP"])
    def test_a_format_of_v1_that_is_missing_is_501_and_named(self, v1, format):
        error = v1.error("POST", "jobs", self.body(dataFormat=format), code=501)
        text = f"Field: prediction_input.data_format Error: This engine does not have {format}"
        assert error["message"] == f"{text}: convert them to JSON lines."

    def test_int64_fields_come_as_strings_or_numbers(self, v1, parts):
        parts.export("gs://graft/m")
        self.lines(parts, "[1]")
        job = v1("POST", "jobs", self.body(batchSize="64", maxWorkerCount=10))
        assert job["predictionInput"]["batchSize"] == "64"
        v1.wait_state("b1", "SUCCEEDED")


def test_a_job_has_only_fields_of_the_discovery_document(v1, parts):
    document = discovery.build("ml", "v1", static_discovery=True, developerKey="k")._schema
    v1("POST", "jobs", JOB)
    v1.wait_state("j1", "RUNNING")
    parts.backend.finish("j1", 1)
    job = v1.wait_state("j1", "FAILED")
    known = document.get("GoogleCloudMlV1__Job")["properties"]
    assert set(job) <= set(known)
