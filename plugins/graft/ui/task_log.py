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

from pipeline.airflow_api import NO_ERROR, LogEvent, find_error

log = logging.getLogger(__name__)

MAX_CHARACTERS = 400
CACHED = 1000  # reasons of runs that have ended


class LogSilent(Exception):
    """The log of a try does not say why it failed; the message says what to show instead."""


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
        reason = _find_reason(task.id, task.try_number)
    where = task.task_id if task.map_index < 0 else f"{task.task_id} {task.map_index}"
    return f"{where}: {reason}"[:MAX_CHARACTERS]


def _find_reason(id: UUID, try_number: int) -> str:
    """Return the error of one try; what cannot be read now is read again when somebody looks again."""
    try:
        return _read_error(id, try_number)
    except LogSilent as silence:
        return str(silence)
    except (OSError, LookupError, ValueError) as error:
        log.warning("The log of task instance %s, try %s, cannot be read: %s", id, try_number, error)
        return "its log cannot be read; look at it in Airflow"


@lru_cache(CACHED)
def _read_error(id: UUID, try_number: int) -> str:
    """Return the error of one try; Airflow gives a task another id with each.

    Raises:
        LogSilent: if the log names none, or not yet.
    """
    query = select(TaskInstance).where(TaskInstance.id == id).options(joinedload(TaskInstance.dag_run))
    with create_session() as session:
        task = session.scalar(query)
        if task is None:
            raise LogSilent("it is gone")
        messages, _ = TaskLogReader().read_log_chunks(task, try_number, {"end_of_log": False})
        error = find_error([LogEvent.from_dict(message.model_dump()) for message in messages])
    if error == NO_ERROR:
        raise LogSilent(error)
    return error
