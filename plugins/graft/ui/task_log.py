"""Why a task failed, from its log as Airflow keeps it."""

from __future__ import annotations

import logging
from functools import lru_cache
from uuid import UUID

from airflow.models.taskinstance import TaskInstance
from airflow.utils.log.log_reader import TaskLogReader
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from pipeline.airflow_api import LogEvent, find_error

log = logging.getLogger(__name__)

MAX_CHARACTERS = 400
CACHED = 1000  # reasons of runs that have ended


def read_failure(name: str, run_id: str) -> str:
    """Return which task of a run failed first, and why; empty if none did."""
    query = (
        select(TaskInstance)
        .where(TaskInstance.dag_id == name, TaskInstance.run_id == run_id, TaskInstance.state == "failed")
        .order_by(TaskInstance.end_date)
        .limit(1)
    )
    with create_session() as session:
        task = session.scalar(query)
        if task is None:
            return ""
        reason = _read_error(task.id, task.try_number)
    where = task.task_id if task.map_index < 0 else f"{task.task_id} {task.map_index}"
    return f"{where}: {reason}"[:MAX_CHARACTERS]


@lru_cache(CACHED)
def _read_error(id: UUID, try_number: int) -> str:
    """Return the error of one try; Airflow gives a task another id with each."""
    query = select(TaskInstance).where(TaskInstance.id == id).options(joinedload(TaskInstance.dag_run))
    with create_session() as session:
        task = session.scalar(query)
        if task is None:
            return "it is gone"
        try:
            messages, _ = TaskLogReader().read_log_chunks(task, try_number, {"end_of_log": False})
            return find_error([LogEvent.from_dict(message.model_dump()) for message in messages])
        except (OSError, LookupError, ValueError) as error:
            log.warning("The log of %s cannot be read: %s", task, error)
            return "its log cannot be read; look at it in Airflow"
