from __future__ import annotations

import logging
from typing import Any

import pytest

from pipeline.errors import PlatformError
from pipeline.ml_engine.watch import JobWatcher
from tests.fakes.clock import FakeClock
from tests.fakes.ml_engine import FakeMLEngine

log = logging.getLogger("task")


@pytest.fixture
def engine() -> FakeMLEngine:
    engine = FakeMLEngine()
    engine.jobs["j"] = {"jobId": "j", "state": "QUEUED", "jobPosition": "2"}
    engine.job_log = lambda job_id: ""  # type: ignore[method-assign]
    return engine


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_tells_states_places_in_the_queue_and_new_lines_once(
    engine: FakeMLEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watcher = JobWatcher(engine, ["j"], log)
    texts = iter(["", "epoch 1\n", "epoch 1\nepoch 2\n", "epoch 1\nepoch 2\n"])
    changes: list[dict[str, Any]] = [
        {},
        {"jobPosition": "1"},
        {"state": "RUNNING"},
        {},
        {"state": "SUCCEEDED"},
    ]
    for change in changes:
        engine.jobs["j"] |= change
        if engine.jobs["j"]["state"] != "QUEUED":
            text = next(texts)
            engine.job_log = lambda job_id, text=text: text  # type: ignore[method-assign,misc]
        watcher.look()
    assert watcher.have_ended
    assert lines(caplog) == [
        "job j is QUEUED, number 2 in the queue",
        "job j is QUEUED, number 1 in the queue",
        "job j is RUNNING",
        "j | epoch 1",
        "job j is SUCCEEDED",
        "j | epoch 2",
    ]


def test_begins_with_the_end_of_a_long_log(engine: FakeMLEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine.jobs["j"]["state"] = "RUNNING"
    engine.job_log = lambda job_id: "old line\n" * 5000 + "newest\n"  # type: ignore[method-assign]
    JobWatcher(engine, ["j"], log).look()
    assert lines(caplog)[-1] == "j | newest"
    assert len(lines(caplog)) < 500


def test_shows_no_control_characters(engine: FakeMLEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine.jobs["j"]["state"] = "RUNNING"
    engine.job_log = lambda job_id: "a\x1b[31mred\tb"  # type: ignore[method-assign]
    JobWatcher(engine, ["j"], log).look()
    assert lines(caplog)[-1] == "j | a�[31mred\tb"


NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795798365.784972   24991 port.cc:153] oneDNN custom operations are on. You may see slightly
I0000 00:00:1795798365.785386   24991 cudart_stub.cc:31] Could not find cuda drivers on your machine
E0000 00:00:1795798387.157395   24991 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error
E0000 00:00:1795798411.661764   24991 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
"""


def test_what_tensorflow_prints_of_the_machine_is_left_out_and_ids_are_short(
    engine: FakeMLEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job = "graft_4dd4c0e6b735af0d18ced21b"
    engine.jobs[job] = {"jobId": job, "state": "RUNNING"}
    own = ["E0000 00:00:1795798387.157395   24991 my_model.cc:52] broken", "WARNING: a class is small"]
    engine.job_log = lambda job_id: NOISE + "\n".join(own)  # type: ignore[method-assign]
    JobWatcher(engine, [job], log).look()
    assert lines(caplog) == [f"job {job} is RUNNING", *(f"graft_4dd4c0e6 | {line}" for line in own)]


def test_a_service_without_logs_is_asked_once(engine: FakeMLEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine.jobs["j"]["state"] = "RUNNING"

    def refuse(job_id: str, **options: Any) -> Any:
        raise PlatformError("no such call", status=404)

    engine.read_job_log = refuse  # type: ignore[method-assign]
    watcher = JobWatcher(engine, ["j"], log)
    for _ in range(3):
        watcher.look()
    assert [line for line in lines(caplog) if "cannot be read" in line] == [
        "job j: its log cannot be read here: no such call"
    ]


def test_waiting_ends_at_the_deadline(engine: FakeMLEngine) -> None:
    clock = FakeClock()
    event = JobWatcher(engine, ["j"], log).wait(deadline=clock.now() + 10, poll_seconds=4, clock=clock)
    assert event == {"status": "deadline", "job_ids": ["j"], "states": {"j": "QUEUED"}}
    assert clock.sleeps == [4, 4, 4]
