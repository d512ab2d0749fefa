from __future__ import annotations

import pytest

from pipeline.errors import JobConflict, JobFailed, JobTimeout, PlatformError
from pipeline.ml_engine.jobs import (
    batch_prediction_job,
    differing_field,
    job_id_of,
    submit_job,
    training_job,
    wait_for_job,
)
from pipeline.ml_v1 import JobState
from tests.fakes.clock import FakeClock
from tests.fakes.ml_engine import FakeMLEngine

KEY = ("surfaces", "run 1", "train", -1)


def body_of(job_id: str, epochs: str = "20") -> dict[str, object]:
    return training_job(
        job_id,
        package_uri="gs://graft/packages/a.tar.gz",
        module="pipeline.trainer.task",
        args=["--epochs", epochs],
        job_dir=f"gs://graft/jobs/{job_id}",
        runtime_version="2.21",
        labels={"model": "surfaces"},
        max_running_seconds=60,
    )


class TestJobIds:
    def test_same_key_gives_the_same_id_and_ml_engine_takes_it(self) -> None:
        assert job_id_of(*KEY) == job_id_of(*KEY)
        assert job_id_of(*KEY).startswith("graft_")
        assert job_id_of(*KEY).replace("_", "").isalnum()

    def test_every_part_of_the_key_changes_the_id(self) -> None:
        others = [("b", *KEY[1:]), (*KEY[:1], "run 2", *KEY[2:]), (*KEY[:3], 0)]
        assert len({job_id_of(*key) for key in [KEY, *others]} | {job_id_of(*KEY, attempt=1)}) == 5


class TestSubmission:
    def test_first_submission_creates_the_job(self) -> None:
        engine = FakeMLEngine()
        job = submit_job(engine, KEY, body_of)
        assert engine.jobs == {job_id_of(*KEY): job}

    @pytest.mark.parametrize("state", ["QUEUED", "PREPARING", "RUNNING", "SUCCEEDED"])
    def test_retry_adopts_a_job_that_can_still_do_the_work(self, state: str) -> None:
        engine = FakeMLEngine()
        first = submit_job(engine, KEY, body_of)
        engine.end(first["jobId"], state)
        assert submit_job(engine, KEY, body_of)["jobId"] == first["jobId"]
        assert len(engine.jobs) == 1

    @pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "CANCELLING"])
    def test_retry_after_a_lost_job_starts_the_next_attempt(self, state: str) -> None:
        engine = FakeMLEngine()
        first = submit_job(engine, KEY, body_of)
        engine.end(first["jobId"], state)
        assert submit_job(engine, KEY, body_of)["jobId"] == job_id_of(*KEY, attempt=1)

    def test_work_that_is_redone_leaves_the_job_that_did_it_and_later_tries_adopt_the_new_one(self) -> None:
        engine = FakeMLEngine()
        first = submit_job(engine, KEY, body_of)
        assert submit_job(engine, KEY, body_of, redo=True)["jobId"] == first["jobId"]  # it is at work
        engine.end(first["jobId"], "SUCCEEDED")
        second = submit_job(engine, KEY, lambda job_id: body_of(job_id, epochs="21"), redo=True)
        assert second["jobId"] == job_id_of(*KEY, attempt=1)
        for state in ("RUNNING", "SUCCEEDED"):
            engine.end(second["jobId"], state)
            again = submit_job(engine, KEY, lambda job_id: body_of(job_id, epochs="21"))
            assert again["jobId"] == second["jobId"]
        assert len(engine.jobs) == 2

    def test_job_with_another_input_is_a_conflict_that_names_the_field(self) -> None:
        engine = FakeMLEngine()
        submit_job(engine, KEY, body_of)
        with pytest.raises(JobConflict, match=r"`trainingInput\.args` differs") as caught:
            submit_job(engine, KEY, lambda job_id: body_of(job_id, epochs="21"))
        assert caught.value.field == "trainingInput.args"

    def test_endless_failures_end_in_an_error(self) -> None:
        engine = FakeMLEngine(run_job=lambda job: {"state": "FAILED", "errorMessage": "no"})
        for _ in range(50):
            submit_job(engine, KEY, body_of)
        with pytest.raises(PlatformError, match="50 jobs"):
            submit_job(engine, KEY, body_of)

    def test_a_missing_field_is_named(self) -> None:
        assert differing_field({"a": {"b": 1}}, {"a": {}}) == "a.b"
        assert differing_field({"a": [1]}, {"a": [1]}) is None


class TestWaiting:
    def wait(self, engine: FakeMLEngine, clock: FakeClock, states: list[JobState] | None = None) -> object:
        on_state = states.append if states is not None else None
        return wait_for_job(engine, "j", deadline_seconds=10, poll_seconds=2, clock=clock, on_state=on_state)

    def engine(self, *states: str, message: str = "") -> FakeMLEngine:
        engine, queue = FakeMLEngine(), list(states)
        job = {"jobId": "j", "errorMessage": message}
        engine.get_job = lambda job_id: {**job, "state": queue.pop(0) if len(queue) > 1 else queue[0]}  # type: ignore[method-assign]
        return engine

    def test_returns_the_job_that_succeeded_and_tells_each_state_once(self) -> None:
        states: list[JobState] = []
        engine = self.engine("QUEUED", "RUNNING", "RUNNING", "SUCCEEDED")
        self.wait(engine, FakeClock(), states)
        assert states == ["QUEUED", "RUNNING", "SUCCEEDED"]

    @pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
    def test_other_ends_raise_the_jobs_own_message(self, state: str) -> None:
        with pytest.raises(JobFailed, match=f"ended {state}: exit status 1"):
            self.wait(self.engine("RUNNING", state, message="exit status 1"), FakeClock())

    @pytest.mark.parametrize(
        ("state", "message", "is_transient"),
        [
            ("FAILED", "The replica master 0 exited with a non-zero status of 1. Reason: Error.", True),
            ("FAILED", "The replica master 0 exited with a non-zero status of 143. Reason: Error.", True),
            ("FAILED", "The replica master 0 exited with a non-zero status of 78. Reason: Error.", False),
            ("FAILED", "", True),
            ("FAILED", "The packages cannot be installed. a 1 requires b, which is nowhere.", False),
            ("CANCELLED", "Cancelled by a client.", False),
        ],
    )
    def test_only_a_failure_that_another_job_may_not_repeat_is_transient(
        self, state: str, message: str, is_transient: bool
    ) -> None:
        with pytest.raises(JobFailed) as caught:
            self.wait(self.engine(state, message=message), FakeClock())
        assert caught.value.transient is is_transient

    def test_deadline_passes(self) -> None:
        clock = FakeClock()
        with pytest.raises(JobTimeout, match="RUNNING after 10 s"):
            self.wait(self.engine("RUNNING"), clock)
        assert sum(clock.sleeps) == 10

    def test_silent_engine_is_asked_again(self) -> None:
        engine = FakeMLEngine()
        engine.jobs["j"] = {"jobId": "j", "state": "SUCCEEDED"}
        engine.silent_calls = 3
        clock = FakeClock()
        self.wait(engine, clock)
        assert len(clock.sleeps) == 3

    def test_unknown_job_is_an_error(self) -> None:
        with pytest.raises(PlatformError, match="no job j"):
            self.wait(FakeMLEngine(), FakeClock())


def test_batch_prediction_names_a_directory_or_a_version_never_both() -> None:
    common = {"input_uris": ["gs://t"], "output_path": "gs://o", "runtime_version": "2.21", "labels": {}}
    by_uri = batch_prediction_job("j", model_uri="gs://m", **common)["predictionInput"]  # type: ignore[arg-type]
    by_version = batch_prediction_job("j", version_name="projects/p/models/m/versions/v", **common)[  # type: ignore[arg-type]
        "predictionInput"
    ]
    assert by_uri["uri"] == "gs://m"
    assert "versionName" not in by_uri
    assert "uri" not in by_version
    assert "runtimeVersion" not in by_version
    assert by_version["signatureName"] == "keyed"
