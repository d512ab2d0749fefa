from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.ray.group_backend import bundle
from pipeline.engine.backends.ray.replicas import replica_config, replicas_of
from pipeline.engine.settings import EngineSettings


def job(**facts: Any) -> TrainingJob:
    return TrainingJob(
        job_id="j1",
        package_uris=(),
        python_module="trainer.task",
        args=(),
        job_dir=None,
        max_running_seconds=60.0,
        training_input={"region": "r"},
        **facts,
    )


def test_the_chief_comes_first_and_is_the_master_in_messages():
    names = [replica.name for replica in replicas_of(job(replicas={"evaluator": 1, "ps": 1, "worker": 2}))]
    assert names == ["master 0", "worker 0", "worker 1", "ps 0", "evaluator 0"]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("master 0", {"type": "chief", "index": 0, "trial": ""}),
        ("worker 1", {"type": "worker", "index": 1, "trial": ""}),
        ("ps 0", {"type": "ps", "index": 0, "trial": ""}),
        ("evaluator 0", {"type": "evaluator", "index": 0, "trial": ""}),
    ],
)
def test_all_replicas_have_one_cluster_without_the_evaluator_and_each_its_own_task(
    name: str, task: dict[str, Any]
):
    addresses = {"master 0": "a:1", "worker 0": "b:1", "worker 1": "a:2", "ps 0": "b:2", "evaluator 0": "c:1"}
    config = replica_config(job(replicas={"worker": 2, "ps": 1, "evaluator": 1}), name, addresses)
    assert config == {
        "cluster": {"chief": ["a:1"], "worker": ["b:1", "a:2"], "ps": ["b:2"]},
        "environment": "cloud",
        "job": {"region": "r"},
        "task": task,
    }


def test_a_trial_has_its_number_in_the_task():
    addresses = {"master 0": "a:1", "worker 0": "b:1"}
    config = replica_config(job(trial_id="3", replicas={"worker": 1}), "worker 0", addresses)
    assert config["task"] == {"type": "worker", "index": 0, "trial": "3"}


def test_a_bundle_has_what_the_settings_and_the_accelerators_of_its_role_ask_for():
    settings = EngineSettings(job_cpus=4, job_memory_bytes=10**9)
    own = job(replicas={"worker": 1}, num_gpus={"worker": 2})
    assert bundle(own, "worker", settings) == {"CPU": 3.99, "GPU": 2, "memory": 10**9}
    assert bundle(own, "chief", EngineSettings()) == {"CPU": 0.99}
