"""A training DAG written by hand: download, NPZ, train, evaluate, gate, deploy, promote.

The DAG of a classifier (`dags/classifiers/*.yaml`) is made of the same operators. Write one like this where
something else has to happen in between. It has no schedule: it runs when somebody triggers it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from airflow.sdk.bases.operator import chain
from graft.operators.dataset import (
    BuildDatasetVersionOperator,
    FetchPicturesOperator,
    PackShardsOperator,
)
from graft.operators.deployment import MLEngineDeployClassifierOperator
from graft.operators.evaluation import MLEngineEvaluateModelOperator
from graft.operators.release import GateOperator, MLEnginePromoteOperator, MLEngineSmokeTestOperator
from graft.operators.training import MLEngineTrainClassifierOperator

NAME = "surfaces_by_hand"
CLASSIFIER = {"name": NAME, "dataset": {"source": {"type": "sample"}}, "model": {"epochs": 10}}
RULES = {"absolute": {"accuracy": {"min": 0.9}}, "min_test_pictures": 30}
VERSION = "{{ ti.xcom_pull(task_ids='deploy')['version'] }}"
CHAMPION = "{{ ti.xcom_pull(task_ids='evaluate')['champion_version'] }}"

with DAG(
    dag_id=NAME,
    schedule=None,
    max_active_runs=1,
    tags=["graft", "example"],
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    render_template_as_native_obj=True,
) as dag:
    download = FetchPicturesOperator(task_id="download", classifier=CLASSIFIER)
    clean = BuildDatasetVersionOperator(task_id="clean", classifier=CLASSIFIER, fetched=download.output)
    npz = PackShardsOperator(task_id="npz", dataset=clean.output)
    train = MLEngineTrainClassifierOperator(task_id="train", dataset=clean.output)
    run = {"dataset": clean.output, "training": train.output}
    evaluate = MLEngineEvaluateModelOperator(task_id="evaluate", **run)
    gate = GateOperator(task_id="gate", gate=RULES, evaluation=evaluate.output, **run)
    deploy = MLEngineDeployClassifierOperator(
        task_id="deploy", evaluation=evaluate.output, gate=gate.output, **run
    )
    model = {"model_name": NAME, "version_name": VERSION, "gate": gate.output}
    test = MLEngineSmokeTestOperator(
        task_id="smoke_test", dataset=clean.output, evaluation=evaluate.output, **model
    )
    promote = MLEnginePromoteOperator(task_id="promote", champion=CHAMPION, **model)
    chain(download, clean, npz, train, evaluate, gate, deploy, test, promote)
