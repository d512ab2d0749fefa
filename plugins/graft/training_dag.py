"""The training DAG of a classifier."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from airflow.sdk.bases.operator import chain

from graft.operators.dataset import (
    BuildDatasetVersionOperator,
    FetchPicturesOperator,
    PackShardsOperator,
)
from graft.operators.deployment import (
    MLEngineDeployClassifierOperator,
    MLEnginePromoteVersionOperator,
    MLEngineSmokeTestVersionOperator,
    PublishModelOperator,
)
from graft.operators.evaluation import GateOperator, MLEngineEvaluateModelOperator
from graft.operators.training import MLEngineTrainClassifierOperator
from graft.params import build_params, params_table
from pipeline.config import Classifier, Settings, read_classifier
from pipeline.errors import ConfigError
from pipeline.evaluate.slices import check_columns

TAGS = ("graft", "image classifier")
NUM_PACKERS = 2
DEFAULT_POOL = "default_pool"
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=10)}


def read_training_dag(path: str | Path) -> DAG:
    """Build the DAG of a classifier's YAML file.

    Raises:
        ConfigError: naming the file, the key and the fix.
    """
    try:
        classifier = read_classifier(Path(path))
        check_columns(rule.by for rule in classifier.gate.slices)
    except ConfigError as error:
        raise ConfigError(error.message, **error.details) from None  # all that a user needs
    return build_training_dag(classifier)


def build_training_dag(classifier: Classifier) -> DAG:
    """Build the DAG of a classifier; its id is the classifier's name."""
    with DAG(
        dag_id=classifier.name,
        description=classifier.description or None,
        schedule=classifier.schedule,
        catchup=False,
        max_active_runs=1,
        params=build_params(classifier),
        tags=list(TAGS),
        doc_md=describe_dag(classifier),
        default_args=RETRIES,
        render_template_as_native_obj=True,
    ) as dag:
        _build_tasks(classifier)
    return dag


def _build_tasks(classifier: Classifier) -> None:
    yaml = classifier.to_dict()
    fetched, dataset, packed, training, evaluation, gate, version = (
        result_of(task_id)
        for task_id in ("fetch", "clean", "pack", "train", "evaluate", "gate", "create_version")
    )
    num_chunks = count_chunks(classifier)
    chain(
        FetchPicturesOperator.partial(
            task_id="fetch",
            classifier=yaml,
            num_chunks=num_chunks,
            pool=Settings().fetch_pool or DEFAULT_POOL,
        ).expand(chunk=list(range(num_chunks))),
        BuildDatasetVersionOperator(task_id="clean", classifier=yaml, fetched=fetched),
        PackShardsOperator.partial(task_id="pack", dataset=dataset, num_workers=NUM_PACKERS).expand(
            worker=list(range(NUM_PACKERS))
        ),
        MLEngineTrainClassifierOperator(task_id="train", dataset=dataset),
        MLEngineEvaluateModelOperator(task_id="evaluate", dataset=dataset, training=training),
        GateOperator(
            task_id="gate",
            fetched=fetched,
            dataset=dataset,
            packed=packed,
            training=training,
            evaluation=evaluation,
        ),
        MLEngineDeployClassifierOperator(
            task_id="create_version", dataset=dataset, training=training, evaluation=evaluation, gate=gate
        ),
        MLEngineSmokeTestVersionOperator(
            task_id="smoke_test", dataset=dataset, evaluation=evaluation, version=version
        ),
        MLEnginePromoteVersionOperator(
            task_id="promote", dataset=dataset, evaluation=evaluation, gate=gate, version=version
        ),
        PublishModelOperator(task_id="publish", model=classifier.name, gate=gate, version=version),
    )


def count_chunks(classifier: Classifier) -> int:
    """Return how many tasks fetch: as `dataset.fetch.chunks` says where there is work to share, else one."""
    sources = classifier.dataset.all_sources
    can_share = len(sources) > 1 or classifier.dataset.uses_network or sources[0].type == "folder"
    return classifier.dataset.fetch.chunks if can_share else 1


def result_of(task_id: str) -> str:
    """Return the template of a task's result: unlike an `XComArg` it draws no further edge into the graph."""
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}) }}}}"


def describe_dag(classifier: Classifier) -> str:
    """Return the DAG's page in the UI: what it does, its parameters, how to start it."""
    body = json.dumps({"logical_date": None, "conf": {"model.epochs": classifier.model.epochs}})
    return f"""# {classifier.name}

{classifier.description or "An image classifier."}

Fetches pictures, cleans and packs them, trains a head on {classifier.model.backbone} on ML Engine, evaluates
what will be served, and gives a version that passes the gate the traffic of model `{classifier.name}`.
A run that the gate refuses is green; its note says why.

## Parameters of one run

{params_table(classifier)}

## Start a run

```bash
graft run {classifier.name} --param model.epochs={classifier.model.epochs}

TOKEN=$(curl -s -X POST "$AIRFLOW_URL/auth/token" -H 'Content-Type: application/json' \\
  -d "{{\\"username\\": \\"$USERNAME\\", \\"password\\": \\"$PASSWORD\\"}}" | jq -r .access_token)
curl -X POST "$AIRFLOW_URL/api/v2/dags/{classifier.name}/dagRuns" \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{body}'
```
"""
