"""The operators of Airflow 2.10 with the provider for Google 10.26, as a task executes them."""

from __future__ import annotations

import json
import os
import sys
import time
from unittest.mock import MagicMock

from airflow.exceptions import TaskDeferred
from airflow.providers.google.cloud.hooks.mlengine import MLEngineHook
from airflow.providers.google.cloud.operators import mlengine
from googleapiclient import discovery
from static_token import StaticToken

SLEEP = time.sleep
time.sleep = lambda seconds: SLEEP(
    1 if seconds == 30 else min(seconds, 10)
)  # 30 s: between two looks at a job


def connect(hook):
    options = {"api_endpoint": os.environ["CLIENT_URL"]}
    return discovery.build(
        "ml", "v1", credentials=StaticToken(), client_options=options, cache_discovery=False
    )


MLEngineHook.get_conn = connect
XCOMS = {}


def run(name, **arguments):
    ti = MagicMock()
    ti.xcom_push.side_effect = lambda key, value, **_: XCOMS.update({key: value})
    operator = getattr(mlengine, f"MLEngine{name}Operator")(
        task_id=f"task_{len(RESULTS)}", project_id="local", **arguments
    )
    return operator.execute({"ti": ti, "task_instance": ti})


RESULTS = {}
training = {
    "package_uris": [os.environ["CLIENT_PACKAGE"]],
    "training_python_module": "tiny.task",
    "training_args": [os.environ["CLIENT_GATE"], "0"],
    "region": "us-central1",
    "runtime_version": "2.21",
    "python_version": "3.11",
    "job_dir": "gs://graft/jobs/airflow",
    "labels": {"job_type": "training"},
}
run("StartTrainingJob", job_id="airflow_1", **training)
RESULTS["training"] = XCOMS["job_id"]
run("StartTrainingJob", job_id="airflow_1", **training)  # 409: the job there is
RESULTS["adopted"] = XCOMS["job_id"]
try:
    run("StartTrainingJob", job_id="airflow_2", deferrable=True, **training)
except TaskDeferred as deferred:
    RESULTS["deferred"] = type(deferred.trigger).__name__
run("TrainingCancelJob", job_id="airflow_1")  # 400: it is complete already
try:
    run(
        "StartTrainingJob",
        job_id="airflow_3",
        **training | {"training_args": [os.environ["CLIENT_GATE"], "3"]},
    )
except RuntimeError as error:
    RESULTS["failed"] = str(error)

study = json.loads(os.environ["CLIENT_STUDY"])
tuning = study["trainingInput"]
run(
    "StartTrainingJob",
    job_id="airflow_study",
    package_uris=tuning["packageUris"],
    training_python_module=tuning["pythonModule"],
    training_args=tuning["args"],
    hyperparameters=tuning["hyperparameters"],
    **{name: training[name] for name in ("region", "runtime_version", "python_version", "job_dir")},
)
RESULTS["study"] = XCOMS["job_id"]

model, version = {"name": "vendored"}, {"deploymentUri": os.environ["CLIENT_MODEL"], "runtimeVersion": "2.21"}
RESULTS["model"] = run("CreateModel", model=model)["name"]
RESULTS["model_again"] = run("CreateModel", model=model)["name"]  # 409: the model there is
RESULTS["missing"] = run("GetModel", model_name="no_such_model")
for name in ("v1", "v2"):
    run("CreateVersion", model_name="vendored", version={**version, "name": name})
RESULTS["default"] = run("SetDefaultVersion", model_name="vendored", version_name="v2")["name"]
RESULTS["versions"] = [each["name"] for each in run("ListVersions", model_name="vendored")]
batch = run(
    "StartBatchPredictionJob",
    job_id="airflow_batch",
    region="us-central1",
    data_format="TEXT",
    input_paths=[os.environ["CLIENT_INPUT"]],
    output_path="gs://graft/out/airflow",
    model_name="vendored",
    version_name="v1",
)
RESULTS["batch"] = batch["predictionCount"]
RESULTS["managed"] = run("ManageModel", model=model, operation="get")["defaultVersion"]["state"]
RESULTS["listed"] = len(run("ManageVersion", model_name="vendored", operation="list"))
run("DeleteVersion", model_name="vendored", version_name="v1")
run("DeleteModel", model_name="vendored", delete_contents=True)
RESULTS["deleted"] = run("GetModel", model_name="vendored")
sys.stdout.write(json.dumps(RESULTS))
