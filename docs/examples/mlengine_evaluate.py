"""A DAG in the shape of those that Google's ML Engine operators were made for: evaluate, then clean up.

What moving it here changed: the imports, and the connection's id.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

# was: from airflow.providers.google.cloud.operators.mlengine import MLEngineDeleteModelOperator
# was: from airflow.providers.google.cloud.utils.mlengine_operator_utils import create_evaluate_ops
from graft.operators.mlengine import MLEngineDeleteModelOperator, create_evaluate_ops

MODEL_NAME = "example_line"
PREDICTION_INPUT = "gs://graft/examples/points.json"
PREDICTION_OUTPUT = "gs://graft/examples/predictions/{{ ts_nodash }}"


def get_metric_fn_and_keys():
    """Return a function of one prediction, and the names of what it returns."""

    def error_and_squared_error(prediction):
        error = abs(prediction["y"] - (2 * prediction["key"] + 1))
        return error, error**2

    return error_and_squared_error, ["err", "mse"]


def validate_err_and_count(summary):
    """Stop the DAG unless the model is good, and was asked about enough points."""
    if summary["err"] > 0.2:
        raise ValueError(f"Too high err>0.2; summary={summary}")
    if summary["mse"] > 0.05:
        raise ValueError(f"Too high mse>0.05; summary={summary}")
    if summary["count"] < 20:
        raise ValueError(f"Invalid value val<20; summary={summary}")
    return summary


with DAG(
    "mlengine_evaluate",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={
        "project_id": "local",
        "gcp_conn_id": "ml_engine_default",  # was: google_cloud_default
        "retries": 1,
        "retry_delay": timedelta(seconds=5),
    },
    tags=["example"],
) as dag:
    evaluate_prediction, evaluate_summary, evaluate_validation = create_evaluate_ops(
        task_prefix="evaluate-ops",
        data_format="TEXT",
        input_paths=[PREDICTION_INPUT],
        prediction_path=PREDICTION_OUTPUT,
        metric_fn_and_keys=get_metric_fn_and_keys(),
        validate_fn=validate_err_and_count,
        batch_prediction_job_id="evaluate-ops-{{ ts_nodash }}",
        region="us-central1",
        dataflow_options={"project": "local", "tempLocation": "gs://graft/tmp"},
        model_name=MODEL_NAME,
        py_interpreter="python3",
    )
    delete_model = MLEngineDeleteModelOperator(
        task_id="delete-model", model_name=MODEL_NAME, delete_contents=True
    )
    evaluate_validation >> delete_model
