"""Gives an older version of a model the traffic, at once, and keeps who wanted it and why.

Without a version it goes to the one that served before. `graft rollback NAME --reason TEXT` does the same.

```bash
curl -X POST "$AIRFLOW_URL/api/v2/dags/model_rollback/dagRuns" \
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"logical_date": null, "conf": {"model": "animals", "reason": "it mistakes snow for gulls"}}'
```
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param
from graft.operators.rollback import RollBackModelOperator

with DAG(
    dag_id="model_rollback",
    description="Gives an older version of a model the traffic, at once.",
    schedule=None,
    catchup=False,
    tags=["graft"],
    doc_md=__doc__,
    params={
        "model": Param(type="string", minLength=1, title="Model", description="The classifier's name."),
        "to": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="The version; the one that served before unless given.",
        ),
        "reason": Param(type="string", minLength=1, title="Why", description="Kept in the history."),
    },
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
) as dag:
    RollBackModelOperator(
        task_id="roll_back",
        model="{{ params.model }}",
        to="{{ params.to or '' }}",
        reason="{{ params.reason }}",
    )
