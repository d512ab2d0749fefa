"""Labels that name the task and the Airflow that a job works for: set by operators, read by `engine_sweep`.

v1 labels are short and lower-case, run ids are neither, so they are hashed: the sweep hashes the tasks that
are alive and compares. Several Airflows may share an engine; each knows its own by its API server's address.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import Context

AIRFLOW, DAG, TASK = "graft_airflow", "graft_dag", "graft_task"
RUN = "run"  # of a study, which other runs may adopt


def deployment() -> str:
    """Return the label value of this Airflow: a hash of `[api] base_url`, empty where that is not set."""
    url = conf.get("api", "base_url", fallback="") or ""
    return digest(url.rstrip("/")) if url else ""


def digest(*parts: object) -> str:
    """Return a label value that stands for some parts."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def dag_label(context: Context) -> dict[str, str]:
    """Return the labels of a job that any task of the DAG may want."""
    labels = {AIRFLOW: deployment(), DAG: digest(context["ti"].dag_id)}
    return {name: value for name, value in labels.items() if value}


def task_label(context: Context) -> dict[str, str]:
    """Return the labels of a job that one task instance wants."""
    ti = context["ti"]
    return dag_label(context) | {TASK: digest(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)}
