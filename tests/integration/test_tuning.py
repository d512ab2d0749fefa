"""Studies of a real engine with real processes: Branin's function in place of a network."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from pipeline.ml_engine.rest import RestMLEngine
from tests.fakes.clock import wait_for
from tests.integration import branin
from tests.integration.engine_process import EngineProcess


@pytest.fixture
def engine(tmp_path):
    engine = EngineProcess(tmp_path, training_slots=2, cancel_grace_seconds=1)
    engine.start()
    yield engine
    engine.close()


def recorded(engine: EngineProcess) -> dict[int, tuple[str, str]]:
    with closing(sqlite3.connect(engine.home / "engine" / "engine.db")) as database:
        rows = database.execute(
            "SELECT trial_id, hyperparameters, metrics FROM trials WHERE state = 'SUCCEEDED'"
        )
        return {row[0]: row[1:] for row in rows}


def test_a_study_goes_on_after_a_kill_and_the_stock_client_reads_its_trials(engine):
    jobs = engine.client().jobs()
    body = branin.study("tune", branin.stage(engine), maxTrials=4, maxParallelTrials=2)
    created = jobs.create(parent="projects/local", body=body).execute()
    assert created["trainingInput"] == body["trainingInput"]
    wait_for(lambda: len(recorded(engine)) >= 1, seconds=120)
    engine.end(signal.SIGKILL)
    before = recorded(engine)
    engine.start()
    job = engine.wait_job("tune", "SUCCEEDED", seconds=120)
    branin.check_runs(engine, job)
    assert len(job["trainingOutput"]["trials"]) == 4
    assert before.items() <= recorded(engine).items()
    log = (engine.home / "engine" / "jobs" / "tune.3" / "log.txt").read_text()
    assert "trial 3 3" in log


@pytest.mark.soak
def test_our_operator_runs_a_study(engine, monkeypatch):
    from graft.hooks.ml_engine import MLEngineHook
    from graft.operators.mlengine import MLEngineStartTrainingJobOperator

    connection = RestMLEngine(engine.url, "local", "any")
    monkeypatch.setattr(MLEngineHook, "get_conn", lambda self: connection)
    training = branin.study("tuned", branin.stage(engine), maxTrials=3, maxParallelTrials=2)["trainingInput"]
    operator = MLEngineStartTrainingJobOperator(
        task_id="tune",
        job_id="tuned",
        package_uris=training["packageUris"],
        training_python_module=training["pythonModule"],
        training_args=training["args"],
        job_dir=training["jobDir"],
        hyperparameters=training["hyperparameters"],
        deferrable=False,
        poll_seconds=0.2,
    )
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="tune", map_index=-1, try_number=1, max_tries=1)
    ti.xcom_push = lambda **_: None
    job_id = operator.execute({"ti": ti, "dag_run": SimpleNamespace(conf={})})
    branin.check_runs(engine, engine.wait_job(job_id, "SUCCEEDED"))
    connection.close()


@pytest.mark.soak
def test_five_kills_during_a_study_lose_no_trial_and_run_none_twice(engine, capsys):
    chance, lost = random.Random(7), []
    uri = branin.stage(engine, None)  # the real cloudml-hypertune, from the index
    body = branin.study("tune", uri, seconds=1, maxTrials=20, maxParallelTrials=2)
    engine.client().jobs().create(parent="projects/local", body=body).execute()
    for number in range(5):
        wait_for(lambda least=2 * number + 1: len(recorded(engine)) >= least, seconds=300)
        time.sleep(chance.uniform(0, 3))
        engine.end(signal.SIGKILL)
        before = recorded(engine)
        time.sleep(chance.uniform(0, 3))
        engine.start()
        lost += [trial for trial, facts in before.items() if recorded(engine).get(trial) != facts]
    job = engine.wait_job("tune", "SUCCEEDED", seconds=600)
    branin.check_runs(engine, job)
    trials = job["trainingOutput"]["trials"]
    with capsys.disabled():
        best = trials[0]["finalMetric"]["objectiveValue"]
        os.write(
            1, f"\n5 kills, {len(trials)} trials, {len(lost)} lost, none twice, best {best:.3f}\n".encode()
        )
    assert (len(trials), lost) == (20, [])
