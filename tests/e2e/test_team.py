"""A team's demo: PostgreSQL, Redis, two engines, Airflow on two Celery workers. `make test-team` runs it."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from pipeline.storage import S3Address
from tests.e2e.conftest import Stack, ended_with_us, wait_until
from tests.e2e.fault_driver import JOB_STEPS, FaultRun
from tests.e2e.team_driver import Predictions, Relay, TeamStack, is_gone, refusable_bucket
from tests.fakes.s3 import use_keys

log = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.skipif(os.environ.get("GRAFT_TEST_TEAM") != "1", reason="`make test-team` runs it"),
    pytest.mark.timeout(4500),
]
DEMO_SECONDS = 1500
STAGES = (
    *("fetch", "clean", "pack", "train", "evaluate", "gate"),
    *("create_version", "smoke_test", "promote", "publish"),
)
# A task whose job runs holds no worker: it is killed after it has submitted, and again after the job.
KILLS = (
    *("fetch", "clean", "pack", "train-submitted", "train", "evaluate-submitted", "evaluate", "gate"),
    *("create_version", "smoke_test", "promote", "publish"),
)
AWAY_SECONDS = 30


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[Relay, S3Address] | None]:
    """A bucket of S3 at full counts; otherwise it is a directory of the home."""
    if os.environ.get("GRAFT_SOAK") != "1":
        yield None
        return
    with pytest.MonkeyPatch.context() as patch:
        use_keys(patch)
        with refusable_bucket() as bucket:
            yield bucket


@pytest.fixture(scope="module")
def stack(bucket: tuple[Relay, S3Address] | None) -> Iterator[TeamStack]:
    # pytest's own directories are closed to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="graft-team-") as directory:
        root = Path(directory)
        root.chmod(0o711)
        for name in ("classifiers", "scratch"):
            (root / name).mkdir()
        places = root / "home", root / "classifiers", 1
        options = {"command_seconds": DEMO_SECONDS, "scratch": root / "scratch"}
        team = TeamStack(*places, **options, bucket=bucket[1] if bucket else None)
        with ended_with_us(team):
            try:
                team.demo.append(team.graft("demo", "--profile", "team", "--workers", "2"))
                yield team
            finally:
                team.graft("down")


def passwords(stack: Stack) -> list[str]:
    files = [*(stack.home / "servers").glob("*.password"), stack.home / "servers" / "postgres.superuser"]
    return [path.read_text().strip() for path in files]


def test_demo_ends_like_that_of_a_laptop(stack: TeamStack) -> None:
    (demo,) = stack.demo
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"gate\s+accepted", demo.stdout)
    for stage in STAGES:
        assert re.search(rf"^  {stage}\s+[\d.]+$", demo.stdout, re.M), stage
    for label in ("brick", "grass", "gravel"):
        assert re.search(rf"^  {label}\s+{label}\s+[\d.]+$", demo.stdout, re.M), label


def test_every_part_runs_and_answers(stack: TeamStack) -> None:
    status = stack.graft_json("status")
    assert status["state"] == "running"
    names = [process["name"] for process in status["processes"]]
    assert names[:4] == ["postgres", "redis", "engine", "engine-2"]
    assert names[-2:] == ["airflow-worker-1", "airflow-worker-2"]
    findings = json.loads(stack.graft("doctor", "--json").stdout)["findings"]
    states = {finding["check"]: finding["state"] for finding in findings}
    for check in ("engine database", "Airflow database", "broker", "workers", "engine", "engine-2"):
        assert states[check] == "ok", findings


def test_both_workers_ran_tasks(stack: TeamStack) -> None:
    for number in (1, 2):
        text = (stack.home / "logs" / f"airflow-worker-{number}.log").read_text()
        assert re.search(r"Task execute_workload\S* succeeded", text), text[-2000:]


def test_no_password_is_in_a_log_an_argument_or_a_variable(stack: TeamStack) -> None:
    words = passwords(stack)
    assert len(words) == 3
    logs = [path for path in stack.home.rglob("*.log") if path.is_file()]
    assert len(logs) > 8
    shown = [str(path) for path in logs if any(word in path.read_text(errors="replace") for word in words)]
    assert shown == []
    processes = stack.processes()
    assert len(processes) > 10
    for process in processes:
        text = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(word in text for word in words), process.name()


def test_the_other_profile_is_refused_by_name(stack: TeamStack) -> None:
    refused = stack.graft("up", "--profile", "laptop")
    assert refused.returncode != 0
    assert "has the state of the profile team" in " ".join(refused.stderr.split())


@pytest.fixture
def held_run(stack: TeamStack, request: pytest.FixtureRequest) -> Iterator[FaultRun]:
    """A run, not yet started, of a DAG whose tasks can be held; by its name and how its pictures turn."""
    name, turn = request.param
    assert stack.write_pictures(name, turn) == 128
    run = FaultRun(stack, name)
    wait_until(lambda: run.api.last_parsed(name), seconds=180, what=f"DAG {name}")
    with run.cleanup():
        yield run


def tries(run: FaultRun) -> dict[str, int]:
    """Return how often each step was tried; of a mapped one, the instance with the most tries."""
    numbers: dict[str, int] = defaultdict(int)
    for task in run.api.task_instances(run.dag_id, run.run_id):
        numbers[task.task_id] = max(numbers[task.task_id], task.try_number)
    return numbers


def count_forwarded(run: FaultRun) -> tuple[int, int]:
    """Return how many pictures the training jobs of a run forwarded, by their logs, and of how many."""
    logs = "\n".join(run.engine.job_log(job["jobId"]) for job in run.jobs("train"))
    pairs = re.findall(r"(\d+) of (\d+) pictures forwarded", logs)
    return sum(int(forwarded) for forwarded, _ in pairs), sum(int(total) for _, total in pairs)


@pytest.mark.soak
@pytest.mark.parametrize("held_run", [("team_faults", Image.Transpose.ROTATE_90)], indirect=True, ids=[""])
def test_a_worker_killed_in_each_step_costs_a_try_and_nothing_else(
    stack: TeamStack, held_run: FaultRun
) -> None:
    stack.ask_to_hold(*KILLS)
    held_run.start()
    began = time.monotonic()
    for name in KILLS:
        worker = stack.kill_worker_at(name)
        log.info("%s: killed %s after %.0f s", name, worker, time.monotonic() - began)
    held_run.wait_task("publish", "success", seconds=400)
    held_run.finish()
    log.info("ended after %.0f s; tries: %s", time.monotonic() - began, dict(tries(held_run)))
    assert {step: tries(held_run)[step] for step in STAGES} == {
        step: 3 if step in JOB_STEPS else 2 for step in STAGES
    }
    assert {step: len(held_run.jobs(step)) for step in JOB_STEPS} == dict.fromkeys(JOB_STEPS, 1)
    forwarded, total = count_forwarded(held_run)
    (evaluation,) = held_run.jobs("evaluate")
    tested = int(evaluation["predictionOutput"]["predictionCount"])
    log.info("%d of %d training pictures forwarded, %d test pictures", forwarded, total, tested)
    assert forwarded == total == 128 - tested
    assert len(held_run.engine.list_versions(held_run.dag_id)) == 1


@pytest.mark.soak
@pytest.mark.parametrize("held_run", [("team_outages", Image.Transpose.ROTATE_180)], indirect=True, ids=[""])
def test_servers_that_are_away_stop_no_prediction_and_no_run(
    stack: TeamStack, held_run: FaultRun, bucket: tuple[Relay, S3Address]
) -> None:
    moments = "clean", "train-submitted", "gate", "create_version", "smoke_test"
    stack.ask_to_hold(*moments)
    held_run.start()
    with Predictions(stack) as predictions:
        stack.wait_held("clean")
        with bucket[0].refusing():
            began = time.monotonic()
            stack.release("clean")
            wait_until(
                lambda: time.monotonic() - began >= AWAY_SECONDS, seconds=2 * AWAY_SECONDS, what="refusals"
            )
        log.info("the bucket answers again; it refused %d connections", bucket[0].num_refused)
        assert bucket[0].num_refused > 0

        stack.wait_held("train-submitted")
        with stack.without_postgres(AWAY_SECONDS):
            stack.release("train-submitted")
        log.info("PostgreSQL is back")

        stack.wait_held("gate")
        stack.part("redis").kill()
        stack.start_again()
        stack.release("gate")
        log.info("Redis is back")

        stack.wait_held("create_version")
        name = stack.leader()
        engine = stack.kept(name)
        engine.kill()
        stack.release("create_version")
        wait_until(lambda: is_gone(engine) and stack.kept(name), seconds=60, what=f"new process of {name}")
        log.info("%s was killed, %s leads", name, stack.leader())

        stack.wait_held("smoke_test")
        before = stack.api_servers()
        assert len(before) == 2
        before[0].kill()
        stack.release("smoke_test")
        held_run.finish()
        wait_until(lambda: len(stack.api_servers()) == 2, seconds=60, what="second API server")
    log.info("tries: %s", dict(tries(held_run)))
    counts = predictions.num_answers, predictions.num_other, predictions.longest
    log.info("%d predictions, %d by the other engine, the longest %.2f s", *counts)
    assert predictions.failures == []
    assert predictions.num_answers > 100
    assert held_run.engine.get_model(held_run.dag_id) is not None


def test_down_leaves_no_process_no_port_and_no_file_outside_the_home(stack: TeamStack) -> None:
    members = stack.processes()
    ports = set(json.loads((stack.home / "stack.json").read_text())["ports"].values())
    stopped = stack.graft("down")
    assert stopped.returncode == 0, stopped.stderr
    _, left = psutil.wait_procs(members, timeout=10)  # the machine's first process may reap them later
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert stack.processes() == []
    listening = {found.laddr.port for found in psutil.net_connections("inet") if found.status == "LISTEN"}
    assert ports & listening == set()
    left_by_killed = list(stack.scratch.glob("pymp-*"))  # multiprocessing's, of workers that SIGKILL ended
    assert len(left_by_killed) <= (len(KILLS) if os.environ.get("GRAFT_SOAK") == "1" else 0)
    assert [path for path in stack.scratch.iterdir() if path not in left_by_killed] == []
    assert "database system is shut down" in (stack.home / "logs" / "postgres.log").read_text()
