"""The training DAG of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator, TriggerRule
from airflow.sdk.bases.operator import chain
from airflow.sdk.definitions.param import ParamsDict

from graft.dag_page import describe_dag
from graft.notifications import build_notifiers
from graft.operators.approval import MLEngineApproveVersionOperator
from graft.operators.dataset import (
    BuildDatasetVersionOperator,
    FetchPicturesOperator,
    PackShardsOperator,
    source_asset,
)
from graft.operators.debounce import DebounceOperator
from graft.operators.deployment import MLEngineDeployClassifierOperator, PublishModelOperator
from graft.operators.evaluation import MLEngineEvaluateModelOperator
from graft.operators.release import GateOperator, MLEnginePromoteOperator, MLEngineSmokeTestOperator
from graft.operators.training import MLEngineTrainClassifierOperator
from graft.operators.tuning import MLEngineTuneClassifierOperator
from graft.params import build_params
from pipeline.backbones.table import find_backbone
from pipeline.config import ON_DATASET_CHANGE, Classifier, Settings, read_classifier
from pipeline.errors import ConfigError, UnknownBackbone
from pipeline.evaluate.slices import check_columns

TAGS = ("graft", "image classifier")
NUM_PACKERS = 2
DEFAULT_POOL = "default_pool"
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10)}


def read_training_dag(path: str | Path) -> DAG:
    """Build the DAG of a classifier's YAML file.

    Raises:
        ConfigError: naming the file, the key and the fix.
    """
    try:
        classifier = read_classifier(Path(path))
    except ConfigError as error:
        raise ConfigError(error.message, **error.details) from None  # all that a user needs
    try:
        check_columns(rule.by for rule in classifier.gate.slices)
        if isinstance(classifier.model.backbone, str):
            find_backbone(classifier.model.backbone)
    except (ConfigError, UnknownBackbone) as error:
        raise ConfigError(f"{path}: {error.message}", origin=str(path)) from None
    return build_training_dag(classifier)


def build_training_dag(classifier: Classifier) -> DAG:
    """Build the DAG of a classifier; its id is the classifier's name."""
    notifiers = build_notifiers(classifier.notify)
    with DAG(
        dag_id=classifier.name,
        description=classifier.description or None,
        schedule=schedule_of(classifier),
        catchup=False,
        max_active_runs=1,
        tags=list(TAGS),
        doc_md=describe_dag(classifier),
        default_args={**RETRIES, "on_success_callback": notifiers, "on_failure_callback": notifiers},
        render_template_as_native_obj=True,
    ) as dag:
        _build_tasks(classifier)
    # Not before, for each task copies all that its DAG has at that moment: half the time of parsing.
    dag.params = ParamsDict(build_params(classifier))
    return dag


def _build_tasks(classifier: Classifier) -> None:
    yaml = classifier.to_dict()
    fetched, dataset, packed, training, evaluation, gate = (
        result_of(task_id) for task_id in ("fetch", "clean", "pack", "train", "evaluate", "gate")
    )
    num_chunks = count_chunks(classifier)
    by_event = classifier.schedule == ON_DATASET_CHANGE
    tune = [MLEngineTuneClassifierOperator(task_id="tune", dataset=dataset)] if classifier.model.tune else []
    settle = [DebounceOperator(task_id="settle", classifier=yaml)] if by_event else []
    chain(
        *settle,
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
        *tune,
        MLEngineTrainClassifierOperator(
            task_id="train", dataset=dataset, tuning=result_of("tune") if tune else None
        ),
        MLEngineEvaluateModelOperator(task_id="evaluate", dataset=dataset, training=training),
        GateOperator(
            task_id="gate",
            fetched=fetched,
            dataset=dataset,
            packed=packed,
            training=training,
            evaluation=evaluation,
        ),
        MLEngineApproveVersionOperator(
            task_id="approve", classifier=classifier, dataset=dataset, gate=gate, evaluation=evaluation
        ),
        *_build_release(classifier.name, dataset, training, evaluation, gate),
    )


def _build_release(
    name: str, dataset: str, training: str, evaluation: str, gate: str
) -> Sequence[BaseOperator]:
    """Return the tasks after the decision to deploy."""
    version, smoke_test = result_of("create_version", "version"), result_of("smoke_test")
    return (
        MLEngineDeployClassifierOperator(
            task_id="create_version",
            dataset=dataset,
            training=training,
            evaluation=evaluation,
            gate=gate,
            trigger_rule=TriggerRule.NONE_FAILED,  # the gate skips `approve` where nobody is asked
        ),
        MLEngineSmokeTestOperator(
            task_id="smoke_test",
            model_name=name,
            version_name=version,
            dataset=dataset,
            evaluation=evaluation,
            gate=gate,
        ),
        MLEnginePromoteOperator(
            task_id="promote",
            model_name=name,
            version_name=version,
            champion=result_of("evaluate", "champion_version"),
            gate=gate,
            smoke_test=smoke_test,
        ),
        PublishModelOperator(
            task_id="publish",
            model=name,
            gate=gate,
            version=result_of("create_version"),
            smoke_test=smoke_test,
        ),
    )


def schedule_of(classifier: Classifier) -> str | list[Asset] | None:
    """Return when Airflow starts runs by itself: a cron line, or events of the source's asset."""
    if classifier.schedule == ON_DATASET_CHANGE:
        return [source_asset(classifier.name)]
    return classifier.schedule


def count_chunks(classifier: Classifier) -> int:
    """Return how many tasks fetch: as `dataset.fetch.chunks` says where there is work to share, else one."""
    sources = classifier.dataset.all_sources
    can_share = len(sources) > 1 or classifier.dataset.uses_network or sources[0].type == "folder"
    return classifier.dataset.fetch.chunks if can_share else 1


def result_of(task_id: str, key: str | None = None) -> str:
    """Return the template of a task's result, or of one value of it.

    Unlike an `XComArg` it draws no further edge into the graph.
    """
    item = "" if key is None else f"[{key!r}]"
    return f"{{{{ ti.xcom_pull(task_ids={task_id!r}){item} }}}}"
