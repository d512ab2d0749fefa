"""What Airflow knows of classifiers and their runs, from its own database: two queries for any number."""

from __future__ import annotations

from collections.abc import Collection

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import func, select

from pipeline.pages.schedule import Run, Scheduled

TAG = "image classifier"  # every DAG that `training_dag` builds has it


def read_classifiers(names: Collection[str] | None = None) -> list[Scheduled]:
    """Return the classifiers that Airflow has, with their newest runs; those of some names if given."""
    tagged = select(DagTag.dag_id).where(DagTag.name == TAG)
    query = select(DagModel).where(DagModel.dag_id.in_(tagged), DagModel.is_stale.is_(False))
    if names is not None:
        query = query.where(DagModel.dag_id.in_(names))
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(tagged)).group_by(DagRun.dag_id)
    with create_session() as session:
        runs = {run.dag_id: run for run in session.scalars(select(DagRun).where(DagRun.id.in_(newest)))}
        return [_scheduled(dag, runs.get(dag.dag_id)) for dag in session.scalars(query)]


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
        return None if row is None else _run(row)


def _scheduled(dag: DagModel, run: DagRun | None) -> Scheduled:
    summary = dag.timetable_summary
    return Scheduled(
        name=dag.dag_id,
        description=dag.description or "",
        schedule=None if summary in (None, "None") else summary,
        next_run=dag.next_dagrun_create_after,
        is_paused=bool(dag.is_paused),
        last_run=None if run is None else _run(run),
    )


def _run(row: DagRun) -> Run:
    return Run(run_id=row.run_id, state=str(row.state), started=row.start_date, ended=row.end_date)
