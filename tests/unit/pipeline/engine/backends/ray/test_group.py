from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.backends import RunState
from pipeline.engine.backends.ray.group import SETTLE_SECONDS, SILENT_SECONDS, GroupLog, ReplicaGroup
from pipeline.engine.backends.ray.replicas import Replica
from pipeline.engine.backends.run_files import Ending

NAMES = ("master 0", "worker 0", "ps 0")


class Replicas(ReplicaGroup):
    """A group whose time the test moves, with short ways to say what happens."""

    def __init__(self, directory: Path) -> None:
        self.now = 100.0
        self.path = directory / "log.txt"
        self.path.touch()
        replicas = [Replica(role=role, index=0) for role in ("chief", "worker", "ps")]
        super().__init__(replicas, GroupLog(self.path), grace_seconds=5, clock=lambda: self.now)

    def say(self, name: str, **message: Any) -> None:
        self.take({"replica": name, "lines": [_json(message)]})

    def start(self) -> None:
        for number, name in enumerate(NAMES):
            self.say(name, started=1000.0 + number)

    def print(self, name: str, text: str) -> None:
        self.say(name, log=base64.b64encode(text.encode()).decode())

    def end_replica(self, name: str, code: int, ended: float = 2000.0, **facts: Any) -> None:
        self.say(name, ending=asdict(Ending(code=code, started=1000.0, ended=ended, **facts)))

    def hear(self, *names: str, seconds: float) -> None:
        self.now += seconds
        for name in names:
            self.take({"replica": name, "lines": []})

    @property
    def text(self) -> str:
        return self.path.read_text()


def _json(message: dict[str, Any]) -> str:
    return json.dumps(message)


@pytest.fixture
def group(tmp_path: Path) -> Replicas:
    group = Replicas(tmp_path)
    group.take({"placed": {name: f"10.0.0.1:{number}" for number, name in enumerate(NAMES)}})
    return group


def test_the_job_runs_when_all_replicas_do(group: Replicas):
    assert group.status.state == RunState.PREPARING
    group.say("master 0", started=1000.0)
    assert group.status.state == RunState.PREPARING
    group.start()
    assert (group.status.state, group.status.started) == (RunState.RUNNING, 1002.0)


def test_the_end_of_the_chief_ends_the_job_when_the_workers_have_ended_and_servers_never_do(group: Replicas):
    group.start()
    group.end_replica("master 0", 0)
    assert group.status.state == RunState.RUNNING
    group.end_replica("worker 0", 1)  # its peer is gone; the chief has decided
    assert (group.status.state, group.status.exit_code) == (RunState.EXITED, 0)
    assert group.status.started == 1002.0


def test_workers_have_a_grace_after_the_end_of_the_chief(group: Replicas):
    group.start()
    group.end_replica("master 0", 0)
    group.now += 4.9
    assert not group.status.is_over
    group.now += 0.2
    assert group.status.exit_code == 0


def test_a_worker_that_succeeds_ends_nothing(group: Replicas):
    group.start()
    group.end_replica("worker 0", 0)
    group.now += 1000
    assert group.status.state == RunState.RUNNING


def test_the_replica_that_failed_first_is_named(group: Replicas):
    group.start()
    group.end_replica("master 0", 1, ended=2000.5)  # because it lost the worker
    group.end_replica("worker 0", 3, ended=2000.1)
    assert not group.status.is_over
    group.hear("ps 0", seconds=SETTLE_SECONDS)
    assert (group.status.state, group.status.exit_code) == (RunState.EXITED, 3)
    assert group.status.problem == (
        "The replica worker 0 exited with a non-zero status of 3. Termination reason: Error."
    )


def test_a_signal_makes_the_job_lost_so_that_it_runs_again(group: Replicas):
    group.start()
    group.end_replica("worker 0", 137)
    group.hear("master 0", "ps 0", seconds=SETTLE_SECONDS)
    assert group.status.state == RunState.VANISHED
    assert group.status.problem == "The replica worker 0 was ended by a signal (status 137)."


def test_what_the_supervisor_ended_has_its_reason_and_is_not_run_again(group: Replicas):
    group.start()
    group.end_replica("ps 0", 137, problem="The job used 9 MB of memory and was ended.")
    group.hear("master 0", "worker 0", seconds=SETTLE_SECONDS)
    assert group.status.state == RunState.EXITED
    assert group.status.problem == "The replica ps 0: The job used 9 MB of memory and was ended."


def test_one_replica_that_runs_too_long_is_the_job(group: Replicas):
    group.start()
    group.end_replica("worker 0", 143, timed_out=True)
    group.hear("master 0", "ps 0", seconds=SETTLE_SECONDS)
    assert group.status.timed_out


def test_a_failure_waits_for_a_host_that_says_nothing_and_may_be_the_cause(group: Replicas):
    group.start()
    group.hear(*NAMES, seconds=1)
    group.end_replica("master 0", 1)
    group.hear("ps 0", seconds=SILENT_SECONDS - 1)
    assert not group.status.is_over
    group.take({"replica": "worker 0", "gone": "The actor died because its node has died."})
    assert group.status.state == RunState.VANISHED
    assert "worker 0 was lost with its node" in group.status.problem


def test_a_host_that_says_nothing_for_long_does_not_hide_a_failure(group: Replicas):
    group.start()
    group.end_replica("master 0", 1)
    group.hear("ps 0", seconds=SILENT_SECONDS + 1)
    assert group.status.problem.startswith("The replica master 0 exited")


def test_lost_processes_make_the_job_lost(group: Replicas):
    group.start()
    group.say("ps 0", ending=None)
    assert group.status.state == RunState.VANISHED


def test_the_end_stays_what_it_was_first(group: Replicas):
    group.start()
    group.take({"replica": "worker 0", "gone": "died"})
    before = group.status
    group.end_replica("master 0", 0)
    group.end("another")
    assert group.status == before


def test_a_stopped_job_has_the_status_of_sigterm(group: Replicas):
    group.start()
    group.end()
    assert (group.status.state, group.status.exit_code) == (RunState.EXITED, 143)


def test_each_line_of_the_log_has_the_name_of_its_replica(group: Replicas):
    group.print("master 0", "epoch 1\nepo")
    group.print("worker 0", "ready\n")
    group.print("master 0", "ch 2\nend")
    assert "[worker 0] ready\n[master 0] epoch 2\n" in group.text
    assert "[master 0] end" not in group.text
    group.end_replica("master 0", 0)
    assert group.text.endswith("[master 0] end\n")


def test_the_log_ends_with_the_last_words_of_the_replica_that_failed(group: Replicas):
    group.start()
    group.print("worker 0", "Traceback\nValueError: no pictures\n")
    group.end_replica("worker 0", 1)
    group.hear("master 0", "ps 0", seconds=SETTLE_SECONDS)
    assert group.status.is_over
    group.print("master 0", "going down\n")
    group.finish()
    assert group.text.endswith(
        "[master 0] going down\n[graft] The log of worker 0 ended with:\nTraceback\nValueError: no pictures\n"
        "[graft] The replica worker 0 exited with a non-zero status of 1. Termination reason: Error. "
        "All replicas were ended.\n"
    )


def test_the_metrics_are_those_of_the_chief(group: Replicas):
    for name in NAMES:
        group.say(name, metrics=base64.b64encode(name.encode()).decode())
    assert group.metrics == b"master 0"
