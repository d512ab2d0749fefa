"""The replicas of a job, and the `TF_CONFIG` of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.engine.backends import TrainingJob
from pipeline.types import JsonObject

CHIEF, WORKER, SERVER, EVALUATOR = "chief", "worker", "ps", "evaluator"  # the types of TensorFlow's tasks
ROLES = (CHIEF, WORKER, SERVER, EVALUATOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One of the replicas of a job.

    Args:
        role: The type of its task.
        index: Its number among those of its role.
    """

    role: str
    index: int

    @property
    def name(self) -> str:
        """Its name in logs and messages: v1 calls the chief `master 0`."""
        return f"{'master' if self.role == CHIEF else self.role} {self.index}"


def replicas_of(job: TrainingJob) -> list[Replica]:
    """Return the replicas of a job, the chief first."""
    counts = {CHIEF: 1, **job.replicas}
    return [Replica(role=role, index=index) for role in ROLES for index in range(counts.get(role, 0))]


def replica_config(job: TrainingJob, name: str, addresses: Mapping[str, str]) -> JsonObject:
    """Return the `TF_CONFIG` of one replica.

    An evaluator has a task but is no part of the cluster, as in v1. The first task is the chief, as in v1's
    runtimes from 2.1 on; TensorFlow 2 knows no master.

    Args:
        job: The job.
        name: Of the replica.
        addresses: `HOST:PORT` of each replica by its name.
    """
    replicas = replicas_of(job)
    (own,) = (replica for replica in replicas if replica.name == name)
    cluster: dict[str, list[str]] = {}
    for replica in replicas:
        if replica.role != EVALUATOR:
            cluster.setdefault(replica.role, []).append(addresses[replica.name])
    return {
        "cluster": {role: list(hosts) for role, hosts in cluster.items()},
        "environment": "cloud",
        "job": job.training_input,
        "task": {"type": own.role, "index": own.index, "trial": job.trial_id},
    }
