"""The training DAG on tiles of two photographs, three ways: the Airflow runs that the fault matrix breaks."""

from __future__ import annotations

from datetime import timedelta

from graft.training_dag import build_training_dag

from pipeline.config import Classifier

VARIANTS = {
    "faults": {"deferrable": True},
    "faults_sync": {"deferrable": False},
    "faults_timeout": {"deferrable": True, "execution_timeout": timedelta(seconds=60)},
}


def build(name, **options):
    classifier = Classifier.from_dict(
        {
            "name": name,
            "dataset": {"source": {"type": "sample", "classes": ["brick", "grass"]}},
            "model": {"epochs": 2},
            "gate": {"min_accuracy": 0.5},
        }
    )
    dag = build_training_dag(classifier)
    for task in dag.tasks:
        if task.task_id in ("train", "evaluate", "create_version", "promote"):
            task.retry_delay = timedelta(seconds=1)
            for option, value in options.items():
                setattr(task, option, value)
    return dag


for name, options in VARIANTS.items():
    globals()[name] = build(name, **options)
