"""`create_evaluate_ops`: predict, summarise, validate, and stop the DAG before a worse version serves."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator
from graft.operators.mlengine.jobs import MLEngineStartBatchPredictionJobOperator
from pipeline.errors import ConfigError, EvaluationError
from pipeline.types import JsonDict

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

log = logging.getLogger(__name__)

PREFIX = re.compile(r"[a-zA-Z][-A-Za-z0-9]*")
SUMMARY = "prediction.summary.json"
MetricFn = Callable[[JsonDict], Sequence[float]]
ValidateFn = Callable[[JsonDict], Any]


class PredictionSummaryOperator(GraftOperator):
    """Average a function of each prediction. Writes `prediction.summary.json` beside them and returns it.

    Args:
        prediction_path: Folder of a batch prediction job's results.
        metric_fn: Makes a tuple of numbers of one prediction.
        metric_keys: What the numbers are called.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("prediction_path",)

    def __init__(
        self, *, prediction_path: str, metric_fn: MetricFn, metric_keys: Sequence[str], **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.prediction_path = prediction_path
        self.metric_fn = metric_fn
        self.metric_keys = metric_keys

    def perform(self, context: Context) -> dict[str, float]:
        """Return the mean of each metric, and `count`."""
        folder = self.prediction_path.rstrip("/")
        count, sums = 0, [0.0] * len(self.metric_keys)
        for uri in self.workspace.storage.list_uris(f"{folder}/prediction.results-"):
            for line in self.workspace.storage.read_bytes(uri).splitlines():
                values = self.metric_fn(json.loads(line))
                sums = [total + float(value) for total, value in zip(sums, values, strict=True)]
                count += 1
        if not count:
            raise EvaluationError(f"There is no prediction in {folder}/prediction.results-*.")
        means = {key: total / count for key, total in zip(self.metric_keys, sums, strict=True)}
        summary = {**means, "count": count}
        self.workspace.storage.write_json(f"{folder}/{SUMMARY}", summary)
        self.log.info("%s", summary)
        return summary


class PredictionValidationOperator(GraftOperator):
    """Give the summary to a function that raises to stop what follows.

    Args:
        prediction_path: Folder of a batch prediction job's results, with their summary.
        validate_fn: Called with the summary; its result is returned.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("prediction_path",)

    def __init__(self, *, prediction_path: str, validate_fn: ValidateFn, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.prediction_path = prediction_path
        self.validate_fn = validate_fn

    def perform(self, context: Context) -> Any:
        """Return what the function says."""
        summary = self.workspace.storage.read_json(f"{self.prediction_path.rstrip('/')}/{SUMMARY}")
        self.log.info("validating %s", summary)
        return self.validate_fn(summary)


def create_evaluate_ops(
    task_prefix: str,
    data_format: str,
    input_paths: Sequence[str],
    prediction_path: str,
    metric_fn_and_keys: tuple[MetricFn, Sequence[str]],
    validate_fn: ValidateFn,
    batch_prediction_job_id: str | None = None,
    region: str | None = None,
    project_id: str | None = None,
    dataflow_options: Mapping[str, Any] | None = None,
    model_uri: str | None = None,
    model_name: str | None = None,
    version_name: str | None = None,
    dag: DAG | None = None,
    py_interpreter: str = "python3",
) -> tuple[MLEngineStartBatchPredictionJobOperator, PredictionSummaryOperator, PredictionValidationOperator]:
    """Make three chained tasks that evaluate a model: `<prefix>-prediction`, `-summary`, `-validation`.

    What is not given is taken from the DAG's `default_args`, as it was.

    Args:
        task_prefix: Begins the ids of the tasks: letters, digits and `-`.
        data_format: Format of the input.
        input_paths: Files of instances.
        prediction_path: Folder of the predictions and their summary.
        metric_fn_and_keys: A function of one prediction (a line of the results, as a dict) and the names of
            the numbers it returns.
        validate_fn: Called with the mean of each number and `count`; raises to fail the chain.
        batch_prediction_job_id: The job's id; one of the run's unless given.
        region: Where the job would run at Google.
        project_id: The project.
        dataflow_options: Taken, and named in the log: the summary is made by the task, not by Dataflow.
        model_uri: A SavedModel; or
        model_name: a model, and
        version_name: its version.
        dag: The DAG of the tasks, where they are not made within one.
        py_interpreter: Taken: the task's own Python makes the summary.

    Raises:
        ConfigError: naming what is wrong.
    """
    metric_fn, metric_keys = metric_fn_and_keys
    if not PREFIX.fullmatch(task_prefix):
        raise ConfigError(
            f"`task_prefix` begins with a letter; letters, digits and `-` follow. Received: {task_prefix!r}"
        )
    for name, value in (("metric_fn", metric_fn), ("validate_fn", validate_fn)):
        if not callable(value):
            raise ConfigError(f"`{name}` must be a function. Received: {value!r}")
    defaults: Mapping[str, Any] = (dag.default_args if dag is not None else None) or {}
    if dataflow_options or defaults.get("dataflow_default_options"):
        log.info("`dataflow_options` have no effect: the task itself makes the summary")
    if not (model_uri or model_name):
        model_uri, model_name = defaults.get("model_uri"), defaults.get("model_name")
        version_name = version_name or defaults.get("version_name")
    predict = MLEngineStartBatchPredictionJobOperator(
        task_id=f"{task_prefix}-prediction",
        job_id=batch_prediction_job_id or f"{task_prefix}_{{{{ dag.dag_id }}}}_{{{{ run_id }}}}",
        region=region or defaults.get("region"),
        project_id=project_id or defaults.get("project_id"),
        data_format=data_format,
        input_paths=input_paths,
        output_path=prediction_path,
        uri=model_uri,
        model_name=model_name,
        version_name=version_name,
        dag=dag,
    )
    summarise = PredictionSummaryOperator(
        task_id=f"{task_prefix}-summary",
        prediction_path=prediction_path,
        metric_fn=metric_fn,
        metric_keys=list(metric_keys),
        dag=dag,
    )
    validate = PredictionValidationOperator(
        task_id=f"{task_prefix}-validation", prediction_path=prediction_path, validate_fn=validate_fn, dag=dag
    )
    predict >> summarise >> validate
    return predict, summarise, validate
