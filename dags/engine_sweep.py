"""Ends what leaked: jobs that no task wants; versions and folders of jobs that nobody needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from graft.operators.sweep import CancelUnwantedJobsOperator, CollectGarbageOperator

with DAG(
    dag_id="engine_sweep",
    description="Cancels jobs that no task wants; deletes old versions and folders of old jobs.",
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["graft"],
    params={
        "grace_minutes": Param(
            60, type="number", minimum=0, description="How long a version that never served stays."
        )
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    render_template_as_native_obj=True,
    doc_md=__doc__,
) as dag:
    CancelUnwantedJobsOperator(task_id="cancel_unwanted_jobs") >> CollectGarbageOperator(
        task_id="collect_garbage", grace_minutes="{{ params.grace_minutes }}"
    )
