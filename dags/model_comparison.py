"""Compares backbones, heads and parameters of a classifier by cross-validation on its training pictures.

Each backbone is a task of its own. The page *Models* of the classifier shows the result; nothing is deployed.
With `write` the recommended `model` section is put into the classifier's YAML. `graft compare NAME` does the
same, with `--write`.

```bash
curl -X POST "$AIRFLOW_URL/api/v2/dags/model_comparison/dagRuns" \
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"logical_date": null, "conf": {"classifier": "animals", "parameters": {"model.epochs": [10, 40]}}}'
```
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from graft.operators.comparison import (
    MLEngineCompareModelsOperator,
    PlanComparisonOperator,
    RecommendModelOperator,
)
from graft.params import comparison_params

with DAG(
    dag_id="model_comparison",
    description="Compares models of a classifier on its training pictures and recommends one.",
    schedule=None,
    catchup=False,
    tags=["graft"],
    doc_md=__doc__,
    params=comparison_params(),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    render_template_as_native_obj=True,
) as dag:
    plan = PlanComparisonOperator(
        task_id="plan",
        classifier="{{ params.classifier }}",
        backbones="{{ params.backbones }}",
        heads="{{ params.heads }}",
        parameters="{{ params.parameters }}",
    )
    compare = MLEngineCompareModelsOperator.partial(task_id="compare").expand(part=plan.output)
    RecommendModelOperator(task_id="recommend", parts=compare.output, write="{{ params.write }}")
