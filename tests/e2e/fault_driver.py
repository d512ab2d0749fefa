"""One run of the training DAG on the real stack, what can be done to it, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import psutil

import tests.airflow_environment  # noqa: F401  before any import of Airflow
from pipeline.airflow_api import TaskInstance
from pipeline.deploy.staging import staging_model
from pipeline.deploy.version import version_name
from pipeline.engine.backends.local import jobs_directory, marked_processes
from pipeline.errors import StackError
from pipeline.ml_engine.protocol import default_version, resource_id
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.ml_v1 import JobState
from pipeline.stack.state import load_state
from tests.e2e.conftest import Stack, wait_until

WORKER = "pipeline.engine.serving"
TRAINER = "pipeline.trainer.task"
JOB_STEPS = ("train", "evaluate")
STEP_SECONDS = 180


@dataclass
class FaultRun:
    """A run, watched from outside: Airflow's REST API, the engine's records, the machine's processes."""

    stack: Stack
    dag_id: str
    run_id: str = ""
    frozen: list[psutil.Process] = field(default_factory=list)
    turn: str = ""
    default_before: str | None = None

    # What there is

    def __post_init__(self) -> None:
        self.api = self.stack.airflow()
        engine = self.stack.status["engine"]
        self.engine = RestMLEngine(engine["url"], engine["project"], engine["token"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's REST API; as a person would, try again when its database was just locked."""
        for _ in range(20):
            try:
                return self.api._call(method, path, body)
            except StackError as error:
                if error.details.get("status") != 500:
                    raise
                failure = error
                time.sleep(0.2)
        raise failure

    @property
    def version(self) -> str:
        return version_name(self.dag_id, self.run_id)

    @property
    def model(self) -> str:
        """The model that the run's version is deployed to: the hidden one for a first version."""
        return self.dag_id if self.default_before else staging_model(self.dag_id)

    def start(self) -> None:
        self.default_before = default_version(self.engine.get_model(self.dag_id))
        self.run_id = self.api.trigger(self.dag_id, {})

    def task(self, task_id: str) -> dict[str, Any]:
        path = f"{self.path}/taskInstances/{task_id}"
        found: dict[str, Any] = self.ask("GET", path)
        return found

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{quote(self.run_id, safe='')}"

    def wait_task(self, task_id: str, *states: str, tries: int = 0, seconds: float = STEP_SECONDS) -> str:
        """Wait until a task is in one of some states, in its n-th try or later."""

        def reached() -> str | None:
            task = self.task(task_id)
            if task["state"] in ("failed", "upstream_failed") and task["state"] not in states:
                raise AssertionError(f"{task_id} is {task['state']}:\n{self.log_of(task_id)}")
            return task["state"] if task["state"] in states and task["try_number"] >= tries else None

        return str(wait_until(reached, seconds=seconds, what=f"{task_id} {'/'.join(states)}"))

    def log_of(self, task_id: str) -> str:
        events = self.api.task_log(TaskInstance.from_dict(self.task(task_id)))
        return "\n".join(event.text for event in events[-40:])

    def jobs(self, step: str) -> list[dict[str, Any]]:
        """Return the jobs of a step, oldest first."""
        from graft.ownership import TASK, digest

        mine = digest(self.dag_id, self.run_id, step, -1)
        found = [job for job in self.engine.list_jobs() if job.get("labels", {}).get(TASK) == mine]
        return found[::-1]

    # Hold a step in its middle

    def hold(self, step: str) -> None:
        """Return when the step is at work, and cannot go on until `release`."""
        {
            "train": self._hold_training,
            "evaluate": lambda: self._hold_trunks("train"),
            "create_version": lambda: self._hold_trunks("evaluate"),
            "promote": self._hold_turn,
        }[step]()
        if step == "evaluate":
            wait_until(lambda: self._running("evaluate"), seconds=60, what="running evaluation")

    def _running(self, step: str) -> bool:
        return any(job["state"] == "RUNNING" for job in self.jobs(step))

    def _hold_training(self) -> None:
        wait_until(lambda: self._running("train"), seconds=STEP_SECONDS, what="running training job")
        directory = jobs_directory(self.stack.home) / self.jobs("train")[-1]["jobId"]

        def trainers() -> list[psutil.Process]:
            return [process for process in marked_processes(directory) if TRAINER in process.cmdline()]

        self._freeze(wait_until(trainers, seconds=30, what="training process"))

    def _hold_trunks(self, before: str) -> None:
        """Stop what loads heads and predicts, once the task before has ended."""
        self.wait_task(before, "success", seconds=300)
        self._freeze(wait_until(self.trunks, seconds=30, what="trunk"))

    def trunks(self) -> list[psutil.Process]:
        """Return the processes that serve the models of all runs."""
        found = []
        for process in self.engine_process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(process.cmdline())
                if WORKER in command and "/trunks/" in command:
                    found.append(process)
        return found

    def engine_process(self) -> psutil.Process:
        return self.component("engine")

    def component(self, name: str) -> psutil.Process:
        record = load_state(self.stack.home).find(name)
        assert record is not None
        return psutil.Process(record.pid)

    def _freeze(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        self.frozen += processes

    def _hold_turn(self) -> None:
        storage, folder = self.stack.storage, f"gs://graft/classifiers/{self.dag_id}/promotions"
        names = [uri.rpartition("/")[2] for uri in storage.list_uris(f"{folder}/")]
        number = max((int(name.partition(".")[0]) for name in names), default=0) + 1
        self.turn = f"{folder}/{number:09d}"
        claim = json.dumps({"at": time.time(), "holder": "test", "try": "test"}).encode()
        assert storage.create_bytes(f"{self.turn}.json", claim)
        self.wait_task("promote", "running")

    def release(self) -> None:
        for process in self.frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self.frozen = []
        if self.turn:
            self.stack.storage.create_bytes(f"{self.turn}.done", b"")
            self.turn = ""

    # What can happen

    def set_task_state(self, task_id: str, state: str) -> None:
        self.ask("PATCH", f"{self.path}/taskInstances/{task_id}", {"new_state": state})

    def clear(self, task_id: str) -> None:
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        }
        self.ask("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def kill_task(self, task_id: str, *, worker: bool) -> None:
        """Kill the process of a running task, and with it the worker that watches over it."""
        id = self.task(task_id)["id"]
        process = wait_until(lambda: self.task_process(id), seconds=30, what=f"process of {task_id}")
        for victim in [*([process.parent()] if worker else []), process]:
            victim.kill()

    def task_process(self, id: str) -> psutil.Process | None:
        """Return the process of a try, by the id that Airflow gave it."""
        for process in psutil.process_iter(["cmdline"]):
            if f"airflow worker -- {id}" in " ".join(process.info["cmdline"] or []):
                return process
        return None

    def wait_gone(self, id: str) -> None:
        """Wait until Airflow has ended the process of a try that a person failed: it lives on for seconds."""
        wait_until(lambda: self.task_process(id) is None, seconds=120, what="end of the task's process")

    def kill_component(self, name: str) -> None:
        """Kill a component as a crash would, and start it again as a person would."""
        self.component(name).kill()
        assert self.stack.graft_json("up")["state"] == "running"

    def delete(self) -> int:
        try:
            self.ask("DELETE", self.path)
        except StackError as error:
            return int(error.details["status"])
        except json.JSONDecodeError:
            return 204  # deleted: there is no body
        return 204

    def abort(self) -> None:
        """Mark the run failed, and wait until all its tasks have ended."""
        self.ask("PATCH", self.path, {"state": "failed"})
        ended = {"success", "failed", "skipped", "upstream_failed", "removed", None}

        def over() -> bool:
            return {task.state for task in self.api.task_instances(self.dag_id, self.run_id)} <= ended

        wait_until(over, seconds=60, what="end of every task")

    def sweep(self) -> None:
        """Run `engine_sweep` now, without its grace."""
        run_id = self.api.trigger("engine_sweep", {"grace_minutes": 0})
        finished = ("success", "failed")
        wait_until(
            lambda: self.api.run_state("engine_sweep", run_id) in finished, seconds=180, what="end of a sweep"
        )
        assert self.api.run_state("engine_sweep", run_id) == "success"

    # What must be true

    def check(self, step: str, *, jobs: int) -> None:
        """Check what must hold at any time, from the engine's records and the machine's processes.

        Args:
            step: The step that something happened to.
            jobs: How many jobs it may have submitted so far.
        """
        for name in JOB_STEPS:
            found = self.jobs(name)
            live = [job for job in found if not JobState(job["state"]).is_terminal]
            assert len(live) <= 1, f"two live jobs for {name}"
            assert len([job for job in found if job["state"] == "SUCCEEDED"]) <= 1, f"{name} was paid twice"
            for job in found:
                if JobState(job["state"]).is_terminal:
                    directory = jobs_directory(self.stack.home) / job["jobId"]
                    assert marked_processes(directory) == [], f"processes of {job['jobId']} live on"
            if self.task(name)["state"] == "success":
                assert found[-1]["state"] == "SUCCEEDED", f"{name} is green over a dead job"
        if step in JOB_STEPS:
            assert len(self.jobs(step)) <= jobs, f"{step} has submitted {len(self.jobs(step))} jobs"
        default = default_version(self.engine.get_model(self.dag_id))
        promoted = self.task("promote")["state"] == "success"
        assert default == (self.version if promoted else self.default_before)

    def check_no_live_job(self, step: str, *, seconds: float = 60) -> None:
        def ended() -> bool:
            return all(JobState(job["state"]).is_terminal for job in self.jobs(step))

        wait_until(ended, seconds=seconds, what=f"end of the jobs of {step}")

    def check_nothing_deployed(self) -> None:
        """Check that the run has left no version and taken no traffic."""
        names = [resource_id(version) for version in self.engine.list_versions(self.dag_id)]
        assert self.version not in names
        assert self.engine.get_version(staging_model(self.dag_id), self.version) is None
        assert default_version(self.engine.get_model(self.dag_id)) == self.default_before

    def wait_version(self) -> None:
        """Wait until the version that the engine was making is there, or is not any more."""

        def settled() -> bool:
            version = self.engine.get_version(self.model, self.version)
            return version is None or version["state"] != "CREATING"

        wait_until(settled, seconds=120, what="end of the version's creation")

    def finish_or_abort(self, *, whole: bool) -> None:
        """Wait for the run's success, or end it here to save the time."""
        if whole:
            self.finish()
        else:
            self.abort()

    def finish(self) -> None:
        """Wait for the run's success, and check what it deployed."""
        self.wait_task("publish", "success", seconds=300)
        assert default_version(self.engine.get_model(self.dag_id)) == self.version
        found = self.engine.get_version(self.dag_id, self.version)
        assert found is not None
        assert found["state"] == "READY"

    @contextlib.contextmanager
    def cleanup(self) -> Iterator[FaultRun]:
        """Leave no frozen process, held turn or running run behind, whatever happened."""
        try:
            yield self
        except BaseException:
            self.release()
            with contextlib.suppress(StackError):
                self.ask("PATCH", self.path, {"state": "failed"})
            raise
        finally:
            self.release()
            self.engine.close()


Fault = Callable[[FaultRun, str], None]
