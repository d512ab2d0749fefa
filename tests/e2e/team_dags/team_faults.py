"""Training DAGs whose tasks the tests hold: when work is done, or a job submitted, and not yet reported.

A task that finds the file `$GRAFT_HOME/holds/NAME` takes it, writes its process id beside it, and waits until
it is killed or the file with its id is removed.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import DownstreamTasksSkipped
from graft.training_dag import build_training_dag

from pipeline.config import Classifier


def hold(name: str) -> None:
    """Wait, if the tests ask for it; only one process does."""
    holds = Path(os.environ["GRAFT_HOME"], "holds")
    taken = holds / f"{name}.{os.getpid()}"
    try:
        (holds / name).rename(taken)
    except FileNotFoundError:
        return
    while taken.exists():
        time.sleep(0.1)


def held(operator: type) -> type:
    """Return an operator's class with the two places where the tests hold it."""

    class Held(operator):
        def execute(self, context):
            try:
                return super().execute(context)
            except DownstreamTasksSkipped:  # the gate's way to skip `approve`
                hold(self.task_id)
                raise

        def defer(self, **arguments):
            hold(f"{self.task_id}-submitted")
            return super().defer(**arguments)

        def post_execute(self, context, result=None):
            hold(self.task_id)

    Held.__name__ = operator.__name__
    return Held


def build(name: str, retry_seconds: float | None = None):
    pictures = Path(os.environ["GRAFT_HOME"], "pictures", name)
    classifier = Classifier.from_dict(
        {
            "name": name,
            "dataset": {"source": {"type": "folder", "uri": str(pictures)}},
            "model": {"epochs": 2},
            "gate": {"min_accuracy": 0.5},
        }
    )
    dag = build_training_dag(classifier)
    for task in dag.tasks:
        if retry_seconds is not None:
            task.retry_delay = timedelta(seconds=retry_seconds)
        if isinstance(task, MappedOperator):
            task.operator_class = held(task.operator_class)
        else:
            task.__class__ = held(type(task))
    return dag


team_faults = build("team_faults", retry_seconds=1)
team_outages = build("team_outages")
