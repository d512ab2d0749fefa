"""All DAGs of Graft from one DAG file, for an Airflow where no bundle can be configured.

A classifier with an error is then no import error of its own, for Airflow keeps one for a file: its DAG is
missing, and the log of the dag-processor says why. `graft.classifier_bundle` has no such loss.
"""

from __future__ import annotations

import logging
import runpy
from collections.abc import Iterator
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from graft.training_dag import read_training_dag
from pipeline.config import SHIPPED_DAGS, Settings, classifier_files
from pipeline.errors import ConfigError

log = logging.getLogger(__name__)


def load_dags(*, shipped: bool = True) -> dict[str, DAG]:
    """Return the DAGs by their ids; a task that is about to run reads its own DAG only.

    Args:
        shipped: Whether the DAGs that Graft ships, `engine_sweep` for instance, are among them.
    """
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for dag in _read_dags(shipped):
        if dag.dag_id in dags:
            log.error("the name %r is used twice; the second classifier has no DAG", dag.dag_id)
        dags.setdefault(dag.dag_id, dag)
        if dag.dag_id == wanted:
            return {wanted: dag}
    return dags


def _read_dags(shipped: bool) -> Iterator[DAG]:
    for path in classifier_files(Settings()):
        try:
            yield read_training_dag(path)
        except ConfigError as error:
            log.error("classifier file %s has no DAG: %s", path, error)
    for path in sorted(SHIPPED_DAGS.glob("*.py")) if shipped else []:
        yield _run(path)


def _run(path: Path) -> DAG:
    dag = runpy.run_path(str(path))["dag"]
    if not isinstance(dag, DAG):
        raise TypeError(f"{path}: expected `dag` to be a DAG, received {type(dag).__name__}")
    return dag
