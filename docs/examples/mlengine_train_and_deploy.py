"""A DAG in the shape of those that Google's ML Engine operators were made for: train a model and serve it.

What moving it here changed: the import, and the connection's id.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

# was: from airflow.providers.google.cloud.operators.mlengine import (...)
from graft.operators.mlengine import (
    MLEngineCreateModelOperator,
    MLEngineCreateVersionOperator,
    MLEngineGetModelOperator,
    MLEngineListVersionsOperator,
    MLEngineSetDefaultVersionOperator,
    MLEngineStartTrainingJobOperator,
)

PROJECT_ID = "local"
MODEL_NAME = "example_line"
VERSION_NAME = "v_{{ ts_nodash }}"
JOB_ID = "example-line-{{ ts_nodash }}"
JOB_DIR = "gs://graft/examples/jobs/{{ ts_nodash }}"

default_args = {
    "project_id": PROJECT_ID,
    "gcp_conn_id": "ml_engine_default",  # was: google_cloud_default
    "retries": 1,
    "retry_delay": timedelta(seconds=5),
}

with DAG(
    "mlengine_train_and_deploy",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args=default_args,
    tags=["example"],
) as dag:
    training = MLEngineStartTrainingJobOperator(
        task_id="training",
        job_id=JOB_ID,
        region="us-central1",
        scale_tier="BASIC",
        package_uris=["gs://graft/examples/trainer-0.1.tar.gz"],
        training_python_module="trainer.task",
        training_args=["--points", "200"],
        job_dir=JOB_DIR,
        runtime_version="2.21",
        python_version="3.11",
        labels={"job_type": "training"},
    )
    create_model = MLEngineCreateModelOperator(
        task_id="create-model", model={"name": MODEL_NAME, "regions": ["us-central1"]}
    )
    get_model = MLEngineGetModelOperator(task_id="get-model", model_name=MODEL_NAME)
    get_model_result = BashOperator(
        task_id="get-model-result", bash_command="echo {{ task_instance.xcom_pull('get-model')['name'] }}"
    )
    create_version = MLEngineCreateVersionOperator(
        task_id="create-version",
        model_name=MODEL_NAME,
        version={
            "name": VERSION_NAME,
            "description": "A line through noisy points",
            "deployment_uri": f"{JOB_DIR}/model",
            "runtime_version": "2.21",
            "machineType": "mls1-c1-m2",
            "framework": "TENSORFLOW",
            "pythonVersion": "3.11",
        },
    )
    set_default_version = MLEngineSetDefaultVersionOperator(
        task_id="set-default-version", model_name=MODEL_NAME, version_name=VERSION_NAME
    )
    list_versions = MLEngineListVersionsOperator(task_id="list-versions", model_name=MODEL_NAME)

    training >> create_version
    create_model >> get_model >> [get_model_result, create_version]
    create_version >> set_default_version >> list_versions
