"""What Airflow knows of classifiers and their runs, from its own database: few queries for any number."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from sqlalchemy import Row, func, select

from pipeline.pages.schedule import BrokenFile, Question, Run, Scheduled, Task

TAG = "image classifier"  # every DAG that `training_dag` builds has it
SHOWN_OF_DAG: tuple[Any, ...] = (  # columns instead of objects: a page may show a thousand
    *(DagModel.dag_id, DagModel.description, DagModel.timetable_summary, DagModel.timetable_description),
    *(DagModel.next_dagrun_create_after, DagModel.is_paused),
)
SHOWN_OF_RUN = (DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.end_date)


def read_classifiers(names: Collection[str] | None = None) -> list[Scheduled]:
    """Return the classifiers that Airflow has, with their newest runs; those of some names if given."""
    tagged = select(DagTag.dag_id).where(DagTag.name == TAG)
    query = select(*SHOWN_OF_DAG).where(DagModel.dag_id.in_(tagged), DagModel.is_stale.is_(False))
    if names is not None:
        tagged = tagged.where(DagTag.dag_id.in_(names))
        query = query.where(DagModel.dag_id.in_(names))
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(tagged)).group_by(DagRun.dag_id)
    with create_session() as session:
        rows = session.execute(select(*SHOWN_OF_RUN).where(DagRun.id.in_(newest)))
        runs = {row.dag_id: _run(row) for row in rows}
        return [_scheduled(dag, runs.get(dag.dag_id)) for dag in session.execute(query)]


def read_runs(name: str, limit: int) -> list[Run]:
    """Return the newest runs of a classifier, newest first."""
    query = select(DagRun).where(DagRun.dag_id == name).order_by(DagRun.id.desc()).limit(limit)
    with create_session() as session:
        return [_run(row) for row in session.scalars(query)]


def read_run(name: str, run_id: str) -> Run | None:
    """Return one run, None where there is none."""
    query = select(DagRun).where(DagRun.dag_id == name, DagRun.run_id == run_id)
    with create_session() as session:
        row = session.scalar(query)
        return None if row is None else replace(_run(row), note=row.note or "")


def read_last_success(name: str) -> Run | None:
    """Return the newest run of a classifier that succeeded, None where there is none."""
    query = select(DagRun).where(DagRun.dag_id == name, DagRun.state == "success")
    with create_session() as session:
        row = session.scalar(query.order_by(DagRun.id.desc()).limit(1))
        return None if row is None else _run(row)


def read_tasks(name: str, run_id: str) -> list[Task]:
    """Return the tasks of a run."""
    query = select(TaskInstance).where(TaskInstance.dag_id == name, TaskInstance.run_id == run_id)
    with create_session() as session:
        return [
            Task(
                step=row.task_id,
                state=str(row.state or ""),
                started=row.start_date,
                ended=row.end_date,
                map_index=row.map_index,
                tries=row.try_number,
            )
            for row in session.scalars(query)
        ]


def read_result(name: str, run_id: str, task_id: str) -> Any:
    """Return what a task of a run returned, None while it has not."""
    query = XComModel.get_many(
        run_id=run_id, key=XCOM_RETURN_KEY, dag_ids=name, task_ids=task_id, map_indexes=-1, limit=1
    )
    with create_session() as session:
        row = session.scalar(query)
        return None if row is None else XComModel.deserialize_value(row)


def read_questions(name: str | None = None) -> list[Question]:
    """Return what waits for a person's answer, the oldest first: of all classifiers, or of one."""
    query = (
        select(HITLDetail, TaskInstance)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(HITLDetail.responded_at.is_(None), TaskInstance.state.in_(("deferred", "awaiting_input")))
        .order_by(HITLDetail.created_at)
    )
    if name is not None:
        query = query.where(TaskInstance.dag_id == name)
    with create_session() as session:
        return [
            Question(
                name=task.dag_id,
                run_id=task.run_id,
                task_id=task.task_id,
                asked=detail.created_at,
                approvers=tuple(each["name"] for each in detail.assignees or ()),
            )
            for detail, task in session.execute(query)
        ]


def read_broken_files() -> list[BrokenFile]:
    """Return the files that Airflow could not read, with the last line of each error: its message."""
    query = select(ParseImportError).order_by(ParseImportError.filename)
    with create_session() as session:
        return [
            BrokenFile(file=(row.filename or "").removesuffix(".py"), error=_message(row.stacktrace or ""))
            for row in session.scalars(query)
        ]


def _message(trace: str) -> str:
    """Return the last line of a traceback, without the class of the error."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]) if lines else ""


def _scheduled(dag: Row[Any], run: Run | None) -> Scheduled:
    summary = dag.timetable_summary
    return Scheduled(
        name=dag.dag_id,
        description=dag.description or "",
        schedule=None if summary in (None, "None") else describe_schedule(summary, dag.timetable_description),
        next_run=dag.next_dagrun_create_after,
        is_paused=bool(dag.is_paused),
        last_run=run,
    )


def describe_schedule(summary: str, description: str | None) -> str:
    """Return when runs start in words, as Airflow puts it; a time is UTC, as in the YAML."""
    if summary == "Asset":
        return "when its pictures change"
    if not description:
        return summary
    words = re.sub(r"^At (\d\d:\d\d)$", r"every day at \1", description)
    return f"{words[0].lower()}{words[1:]}{', UTC' if len(summary.split()) == 5 else ''}"


def _run(row: DagRun | Row[Any]) -> Run:
    return Run(run_id=row.run_id, state=str(row.state), started=row.start_date, ended=row.end_date)
